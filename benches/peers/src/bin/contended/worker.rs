//! A process whose tasks contend for one key.

use std::io::{Write as _, stdin, stdout};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{process, thread};

use futures::future::try_join_all;
use peers::Outcome;
use peers::stats::median;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::case::Case;
use crate::strategy::{Client, Strategy};

/// The times of one attempt, in nanoseconds of the machine's monotonic clock, which all processes share.
/// `granted` is none if the end of the run cut the wait short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockAttempt {
    pub(crate) process: usize,
    pub(crate) task: usize,
    pub(crate) requested: u64,
    pub(crate) granted: Option<u64>,
    pub(crate) release_started: u64,
    pub(crate) released: u64,
}

/// Contends after a request on stdin, and writes its results to stdout.
pub(crate) fn work(strategy: Strategy, case: Case, urls: &[String]) -> Outcome<()> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let (client, round_trip) = runtime.block_on(async {
        let client = strategy.connect(urls).await?;
        // The first 20 locks warm up connections, scripts and caches.
        let mut round_trips = Vec::new();
        for number in 0..40 {
            let begin = now();
            let lock = client.acquire(&format!("contended:warm-up:{}", process::id())).await?;
            if number >= 20 {
                round_trips.push((now() - begin) as f64);
            }
            lock.release().await?;
        }
        Outcome::Ok((client, median(round_trips)))
    })?;
    let client = Arc::new(client);
    println!("ready");
    stdout().flush()?;
    if stdin().lines().next().transpose()?.as_deref() != Some("go") {
        return Err("no request to start was received".into());
    }
    let holder = Holder::start()?;
    let (attempts, cpu) = runtime.block_on(async {
        let end = now() + (WARM_UP + case.duration).as_nanos() as u64;
        let tasks = (0..case.tasks).map(|task| {
            let contend = contend(Arc::clone(&client), holder.clone(), case, task, end);
            tokio::spawn(contend)
        });
        let tasks = tokio::spawn(try_join_all(tasks.collect::<Vec<_>>()));
        sleep(WARM_UP).await;
        let before = cpu_time();
        sleep(case.duration).await;
        let cpu = cpu_time().saturating_sub(before);
        let attempts: Outcome<Vec<Vec<LockAttempt>>> = tasks.await??.into_iter().collect();
        // Waits for the replies that no client waited for.
        sleep(Duration::from_millis(100)).await;
        Outcome::Ok((attempts?.concat(), cpu))
    })?;
    let mut out = std::io::BufWriter::new(stdout().lock());
    writeln!(out, "cpu {}", cpu.as_nanos())?;
    writeln!(out, "round-trip {round_trip:.0}")?;
    for attempt in attempts {
        let LockAttempt { task, requested, granted, release_started, released, .. } = attempt;
        writeln!(out, "attempt {task} {requested} {} {release_started} {released}", granted.unwrap_or(0))?;
    }
    out.flush()?;
    // The process exits without waiting for the driver, as most processes do.
    Ok(())
}

/// Parses a line of the report of [`work`].
pub(crate) fn parse_line(process: usize, line: &str) -> Outcome<ReportLine> {
    let mut words = line.split(' ');
    let kind = words.next().unwrap_or_default();
    let numbers = words.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    match (kind, numbers.as_slice()) {
        ("cpu", [nanos]) => Ok(ReportLine::Cpu(Duration::from_nanos(*nanos))),
        ("round-trip", [nanos]) => Ok(ReportLine::RoundTrip(Duration::from_nanos(*nanos))),
        ("attempt", [task, requested, granted, release_started, released]) => {
            Ok(ReportLine::Attempt(LockAttempt {
                process,
                task: usize::try_from(*task)?,
                requested: *requested,
                granted: (*granted > 0).then_some(*granted),
                release_started: *release_started,
                released: *released,
            }))
        }
        _ => Err(format!("unexpected line of a worker: {line:?}").into()),
    }
}

pub(crate) enum ReportLine {
    Cpu(Duration),
    /// The time of an uncontended acquire.
    RoundTrip(Duration),
    Attempt(LockAttempt),
}

async fn contend(
    client: Arc<Client>,
    holder: Holder,
    case: Case,
    task: usize,
    end: u64,
) -> Outcome<Vec<LockAttempt>> {
    let mut attempts = Vec::new();
    let mut requested = now();
    while requested < end {
        let left = Duration::from_nanos(end - requested);
        let Ok(lock) = timeout(left, client.acquire(KEY)).await else {
            let end = now();
            attempts.push(LockAttempt {
                process: 0,
                task,
                requested,
                granted: None,
                release_started: end,
                released: end,
            });
            break;
        };
        let (lock, granted) = (lock?, now());
        holder.hold(case.hold).await?;
        let release_started = now();
        lock.release().await?;
        let released = now();
        attempts.push(LockAttempt {
            process: 0,
            task,
            requested,
            granted: Some(granted),
            release_started,
            released,
        });
        requested = released;
    }
    Ok(attempts)
}

/// Holds the lock for an exact time, by a sleeping thread. A timer of the runtime is late by up to two
/// milliseconds, and a busy loop would count as work of the client.
#[derive(Clone)]
struct Holder {
    requests: mpsc::UnboundedSender<(Duration, oneshot::Sender<()>)>,
    /// Detects two tasks of this process that hold the lock at the same time.
    is_held: Arc<Mutex<bool>>,
}

impl Holder {
    fn start() -> Outcome<Self> {
        let (requests, mut received) = mpsc::unbounded_channel::<(Duration, oneshot::Sender<()>)>();
        thread::Builder::new().name("holder".to_owned()).spawn(move || {
            let slack = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            slack.expect("a thread may choose its own timer slack");
            while let Some((duration, done)) = received.blocking_recv() {
                thread::sleep(duration);
                // Sending fails after the run, when the receiver is dropped.
                let _ = done.send(());
            }
        })?;
        Ok(Self { requests, is_held: Arc::default() })
    }

    async fn hold(&self, duration: Duration) -> Outcome<()> {
        if std::mem::replace(&mut *self.lock_flag(), true) {
            return Err("two tasks of one process held the lock at the same time".into());
        }
        let (done, is_done) = oneshot::channel();
        self.requests.send((duration, done))?;
        is_done.await?;
        *self.lock_flag() = false;
        Ok(())
    }

    fn lock_flag(&self) -> std::sync::MutexGuard<'_, bool> {
        self.is_held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nanoseconds of the monotonic clock, which all processes of this machine share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::try_from(time).unwrap_or_default().as_nanos() as u64
}

/// The processor time of this process, without the servers.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// The time from "go" to the start of the measurement.
pub(crate) const WARM_UP: Duration = Duration::from_millis(500);
const KEY: &str = "contended";
