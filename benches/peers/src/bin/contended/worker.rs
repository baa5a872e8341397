//! A process that contends: some tasks, one key.

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
use crate::way::{Client, Way};

/// One lock that was had: when it was asked for, granted, given up, and known to be free, by the clock that all
/// processes of a machine share; in nanoseconds. A wait that the end of the run cut short was never granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub(crate) process: usize,
    pub(crate) task: usize,
    pub(crate) asked: u64,
    pub(crate) granted: Option<u64>,
    pub(crate) given_up: u64,
    pub(crate) freed: u64,
}

/// Contends after a request on stdin, and writes its results to stdout.
pub(crate) fn work(way: Way, case: Case, urls: &[String]) -> Outcome<()> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let (client, round_trip) = runtime.block_on(async {
        let client = way.connect(urls).await?;
        // Connections, scripts and caches are warm from here on.
        let mut round_trips = Vec::new();
        for turn in 0..40 {
            let begin = now();
            let lock = client.acquire(&format!("contended:warm-up:{}", process::id())).await?;
            if turn >= 20 {
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
    let (visits, cpu) = runtime.block_on(async {
        let end = now() + (WARM_UP + case.span).as_nanos() as u64;
        let tasks = (0..case.tasks).map(|task| {
            let contend = contend(Arc::clone(&client), holder.clone(), case, task, end);
            tokio::spawn(contend)
        });
        let tasks = tokio::spawn(try_join_all(tasks.collect::<Vec<_>>()));
        sleep(WARM_UP).await;
        let before = cpu_time();
        sleep(case.span).await;
        let cpu = cpu_time().saturating_sub(before);
        let visits: Outcome<Vec<Vec<Visit>>> = tasks.await??.into_iter().collect();
        // Waits for the replies that no client waited for.
        sleep(Duration::from_millis(100)).await;
        Outcome::Ok((visits?.concat(), cpu))
    })?;
    let mut out = std::io::BufWriter::new(stdout().lock());
    writeln!(out, "cpu {}", cpu.as_nanos())?;
    writeln!(out, "trip {round_trip:.0}")?;
    for visit in visits {
        let Visit { task, asked, granted, given_up, freed, .. } = visit;
        writeln!(out, "visit {task} {asked} {} {given_up} {freed}", granted.unwrap_or(0))?;
    }
    out.flush()?;
    // As most processes end; what the driver of a client still does is not waited for.
    Ok(())
}

/// Reads the report of [`work`].
pub(crate) fn read(process: usize, line: &str) -> Outcome<ReportLine> {
    let mut words = line.split(' ');
    let kind = words.next().unwrap_or_default();
    let numbers = words.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    match (kind, numbers.as_slice()) {
        ("cpu", [nanos]) => Ok(ReportLine::Cpu(Duration::from_nanos(*nanos))),
        ("trip", [nanos]) => Ok(ReportLine::RoundTrip(Duration::from_nanos(*nanos))),
        ("visit", [task, asked, granted, given_up, freed]) => Ok(ReportLine::Visit(Visit {
            process,
            task: usize::try_from(*task)?,
            asked: *asked,
            granted: (*granted > 0).then_some(*granted),
            given_up: *given_up,
            freed: *freed,
        })),
        _ => Err(format!("a worker said {line:?}").into()),
    }
}

pub(crate) enum ReportLine {
    Cpu(Duration),
    /// The time of an uncontended acquisition.
    RoundTrip(Duration),
    Visit(Visit),
}

async fn contend(
    client: Arc<Client>,
    holder: Holder,
    case: Case,
    task: usize,
    end: u64,
) -> Outcome<Vec<Visit>> {
    let mut visits = Vec::new();
    let mut asked = now();
    while asked < end {
        let left = Duration::from_nanos(end - asked);
        let Ok(lock) = timeout(left, client.acquire(KEY)).await else {
            let over = now();
            visits.push(Visit { process: 0, task, asked, granted: None, given_up: over, freed: over });
            break;
        };
        let (lock, granted) = (lock?, now());
        holder.hold(case.hold).await?;
        let given_up = now();
        lock.release().await?;
        let freed = now();
        visits.push(Visit { process: 0, task, asked, granted: Some(granted), given_up, freed });
        asked = freed;
    }
    Ok(visits)
}

/// Holds for exact times: a timer of the runtime is late by up to two milliseconds, and a busy loop would be counted as
/// the client's work.
#[derive(Clone)]
struct Holder {
    orders: mpsc::UnboundedSender<(Duration, oneshot::Sender<()>)>,
    /// A second hold at once is a lock that two have.
    is_held: Arc<Mutex<bool>>,
}

impl Holder {
    fn start() -> Outcome<Self> {
        let (orders, mut inbox) = mpsc::unbounded_channel::<(Duration, oneshot::Sender<()>)>();
        thread::Builder::new().name("holder".to_owned()).spawn(move || {
            let slack = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            slack.expect("a thread may choose its own timer slack");
            while let Some((span, done)) = inbox.blocking_recv() {
                thread::sleep(span);
                // No receiver is left after the run.
                let _ = done.send(());
            }
        })?;
        Ok(Self { orders, is_held: Arc::default() })
    }

    async fn hold(&self, span: Duration) -> Outcome<()> {
        if std::mem::replace(&mut *self.flag(), true) {
            return Err("two tasks of one process held the lock at once".into());
        }
        let (done, is_done) = oneshot::channel();
        self.orders.send((span, done))?;
        is_done.await?;
        *self.flag() = false;
        Ok(())
    }

    fn flag(&self) -> std::sync::MutexGuard<'_, bool> {
        self.is_held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By the clock that all processes of this machine share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::try_from(time).unwrap_or_default().as_nanos() as u64
}

/// This process' own; the servers are others.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// From "go" until it counts.
pub(crate) const WARM_UP: Duration = Duration::from_millis(500);
const KEY: &str = "contended";
