//! The side of a client: a process that executes requests, one per line.
//!
//! It is started as `… worker NAME THREADS URL,URL,…` and says `ok` when it is connected. Then it answers each line
//! with `ok` and figures, or with `error` and words:
//!
//! | request | reply |
//! |---|---|
//! | `work OPS` | nothing: locks are taken and released, one after the other |
//! | `sequence OPS` | the same, and for each lock the microseconds of acquire and of release |
//! | `rush TASKS MILLIS` | how many locks all tasks took and released, each its own, in how many seconds and seconds of processor time |
//! | `cancel TASKS MILLIS` | the same, but every tenth acquire is given up on its way |
//! | `take KEY TTL` | nothing, once it has the lock, which it keeps |
//! | `hold COUNT TTL` | how many bytes larger it is for holding so many locks, once each was renewed; kept |
//! | `free` | how many releases were not confirmed in time, once all that it kept is released |
//!
//! Keys begin with `bench:SLUG:`, so that what is left behind has a name on it.

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

/// A client for locks, written in Rust and asynchronous.
pub trait Contender: Clone + Send + Sync + Sized + 'static {
    /// What it hands out.
    type Lock: Send + 'static;

    fn connect(urls: &[String]) -> impl Future<Output = Outcome<Self>> + Send;

    /// Waits until it has the lock.
    fn acquire(&self, key: &str, ttl: Duration) -> impl Future<Output = Outcome<Self::Lock>> + Send;

    fn release(lock: Self::Lock) -> impl Future<Output = Outcome<()>> + Send;

    /// What keeps a lock alive for as long as it lives.
    type Held: Send + 'static;

    /// As [`acquire`](Self::acquire), but the lock is renewed; where the client cannot do that, it is not.
    fn hold(&self, key: &str, ttl: Duration) -> impl Future<Output = Outcome<Self::Held>> + Send;

    fn let_go(held: Self::Held) -> impl Future<Output = Outcome<()>> + Send;
}

/// What a worker is started as.
#[derive(Clone, Debug)]
pub struct Job {
    pub name: String,
    pub threads: Threads,
    pub urls: Vec<String>,
}

/// The runtime of a worker that has the choice.
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

impl Job {
    /// From the arguments behind `worker`.
    pub fn of(args: &[String]) -> Outcome<Self> {
        let [name, threads, urls] = args else { return Err("worker NAME THREADS URL,URL,…".into()) };
        let threads =
            Threads::BOTH.into_iter().find(|known| known.name() == threads).ok_or("unknown threads")?;
        Ok(Self { name: name.clone(), threads, urls: urls.split(',').map(ToOwned::to_owned).collect() })
    }

    /// How the keys of this worker begin.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("bench:{}:", slug(&self.name))
    }
}

/// A name as it stands in keys.
#[must_use]
pub fn slug(name: &str) -> String {
    name.replace(' ', "-")
}

/// Works until its standard input is closed.
pub fn serve<C: Contender>(job: &Job) -> Outcome<()> {
    let runtime = job.threads.runtime()?;
    // Of a thread of its own, so that the runtime goes on between requests: with stragglers, with renewals.
    let (tell, mut requests) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if tell.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let urls = job.urls.clone();
    // On a worker of the runtime, where servers run their tasks; the thread that blocks on a runtime is none.
    let connected = runtime.block_on(runtime.spawn(async move { C::connect(&urls).await }))?;
    let Some(client) = answer(connected.map(|client| (Vec::new(), client)))? else { return Ok(()) };
    let run = Run::new(client, job.prefix());
    while let Some(line) = runtime.block_on(requests.recv()) {
        let (run, request) = (run.clone(), Request::of(&line)?);
        let done = runtime.block_on(runtime.spawn(async move { run.carry_out(request).await }))?;
        answer(done.map(|figures| (figures, ())))?;
    }
    Ok(())
}

/// Tells the outcome, and hands on what came with it.
pub(crate) fn answer<T>(outcome: Outcome<(Vec<f64>, T)>) -> io::Result<Option<T>> {
    let mut out = io::stdout().lock();
    let value = match outcome {
        Ok((figures, value)) => {
            write!(out, "ok")?;
            for figure in figures {
                write!(out, " {figure}")?;
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
