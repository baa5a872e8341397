//! A worker: the process of one client, which executes requests, one per line.
//!
//! It is started as `… worker NAME THREADS URL,URL,…` and writes `ok` when it is connected. Then it replies
//! to each line with `ok` and numbers, or with `error` and a message:
//!
//! | request | reply |
//! |---|---|
//! | `untimed OPS` | nothing: locks are acquired and released, one after the other |
//! | `sequence OPS` | the same, and for each lock the microseconds of acquire and of release |
//! | `throughput TASKS MILLIS` | how many locks all tasks acquired and released, each its own; the seconds; the seconds of processor time |
//! | `cancel TASKS MILLIS` | the same, but every tenth acquire is cancelled while it runs |
//! | `acquire KEY TTL` | nothing, once it holds the lock, which it keeps |
//! | `hold COUNT TTL` | the growth of memory in bytes for that many locks, once each was renewed; it keeps them |
//! | `release-all` | the number of releases that were not confirmed in time, once all kept locks are released |
//!
//! Keys begin with `bench:SLUG:`, so that a leftover key shows its client.

mod request;
mod run;

use std::io::{self, BufRead as _, Write as _};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use crate::Outcome;
pub use request::Request;
use run::Run;

/// An asynchronous lock client in Rust.
pub trait Contender: Clone + Send + Sync + Sized + 'static {
    type Lock: Send + 'static;

    fn connect(urls: &[String]) -> impl Future<Output = Outcome<Self>> + Send;

    /// Waits until it has the lock.
    fn acquire(&self, key: &str, ttl: Duration) -> impl Future<Output = Outcome<Self::Lock>> + Send;

    fn release(lock: Self::Lock) -> impl Future<Output = Outcome<()>> + Send;

    /// A lock that is renewed while this value lives.
    type RenewedLock: Send + 'static;

    /// Like [`acquire`](Self::acquire), and renews the lock if the client can do that.
    fn acquire_renewed(
        &self,
        key: &str,
        ttl: Duration,
    ) -> impl Future<Output = Outcome<Self::RenewedLock>> + Send;

    fn release_renewed(lock: Self::RenewedLock) -> impl Future<Output = Outcome<()>> + Send;
}

/// The arguments of a worker.
#[derive(Clone, Debug)]
pub struct WorkerArgs {
    pub name: String,
    pub threads: Threads,
    pub urls: Vec<String>,
}

/// The kind of runtime, for a worker that can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    One,
    All,
}

impl Threads {
    pub const BOTH: [Self; 2] = [Self::One, Self::All];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "current-thread",
            Self::All => "multi-thread",
        }
    }

    fn runtime(self) -> io::Result<Runtime> {
        match self {
            Self::One => Builder::new_current_thread().enable_all().build(),
            Self::All => Builder::new_multi_thread().enable_all().build(),
        }
    }
}

impl WorkerArgs {
    /// Parses the arguments behind `worker`.
    pub fn parse(args: &[String]) -> Outcome<Self> {
        let [name, threads, urls] = args else { return Err("worker NAME THREADS URL,URL,…".into()) };
        let threads =
            Threads::BOTH.into_iter().find(|known| known.name() == threads).ok_or("unknown threads")?;
        Ok(Self { name: name.clone(), threads, urls: urls.split(',').map(ToOwned::to_owned).collect() })
    }

    /// The prefix of this worker's keys.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("bench:{}:", slug(&self.name))
    }
}

/// The name of a client as part of a key.
#[must_use]
pub fn slug(name: &str) -> String {
    name.replace(' ', "-")
}

/// Executes requests until its standard input is closed.
pub fn serve<C: Contender>(args: &WorkerArgs) -> Outcome<()> {
    let runtime = args.threads.runtime()?;
    // Input is read by a separate thread, so that late replies and renewals go on in the runtime between
    // requests.
    let (sender, mut requests) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let urls = args.urls.clone();
    // Spawned, so that it runs on a worker thread of the runtime, as in a server, and not on the blocking
    // thread.
    let connected = runtime.block_on(runtime.spawn(async move { C::connect(&urls).await }))?;
    let Some(client) = write_reply(connected.map(|client| (Vec::new(), client)))? else { return Ok(()) };
    let run = Run::new(client, args.prefix());
    while let Some(line) = runtime.block_on(requests.recv()) {
        let (run, request) = (run.clone(), Request::parse(&line)?);
        let outcome = runtime.block_on(runtime.spawn(async move { run.execute(request).await }))?;
        write_reply(outcome.map(|numbers| (numbers, ())))?;
    }
    Ok(())
}

/// Writes the numbers or the error as a reply, and returns the value.
pub(crate) fn write_reply<T>(outcome: Outcome<(Vec<f64>, T)>) -> io::Result<Option<T>> {
    let mut out = io::stdout().lock();
    let value = match outcome {
        Ok((numbers, value)) => {
            write!(out, "ok")?;
            for number in numbers {
                write!(out, " {number}")?;
            }
            writeln!(out)?;
            Some(value)
        }
        Err(error) => {
            writeln!(out, "error {}", error.to_string().replace('\n', " "))?;
            None
        }
    };
    out.flush()?;
    Ok(value)
}
