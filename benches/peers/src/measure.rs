//! What is measured. Every function is one round of one measure for one peer.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use peers::Outcome;
use peers::figures::{median, percentile};
use quorlock::Redlock;
use quorlock_chaos::{Data, Fleet};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::client::{Client, Peer};
use crate::table::Table;

/// One task takes and releases its lock again and again.
pub(crate) fn sequential(fleet: &Fleet, table: &mut Table, peer: Peer, threads: &str) -> Outcome<()> {
    let runtime = if threads == ONE_THREAD {
        Builder::new_current_thread().enable_all().build()?
    } else {
        all_threads()?
    };
    let urls = fleet.urls();
    let run = on(&runtime, async move {
        let client = peer.connect(&urls).await?;
        one_by_one(&client, WARM_UP).await?;
        let run = one_by_one(&client, OPS).await?;
        sleep(SETTLE).await;
        Ok(run)
    })?;
    table.put(&format!("acquire p50, {threads} (us)"), peer, median(run.acquires.clone()));
    table.put(&format!("acquire p99, {threads} (us)"), peer, percentile(run.acquires, 0.99));
    table.put(&format!("release p50, {threads} (us)"), peer, median(run.releases.clone()));
    table.put(&format!("release p99, {threads} (us)"), peer, percentile(run.releases, 0.99));
    table.put(&format!("acquire + release p50, {threads} (us)"), peer, median(run.totals));
    left_over(fleet, table, peer)
}

/// 64 tasks, each with a key of its own, for a second.
pub(crate) fn throughput(fleet: &Fleet, table: &mut Table, peer: Peer) -> Outcome<()> {
    let runtime = all_threads()?;
    let urls = fleet.urls();
    let rush = on(&runtime, async move {
        let client = peer.connect(&urls).await?;
        one_by_one(&client, WARM_UP).await?;
        let rush = all_at_once(&client, Duration::from_secs(1)).await?;
        sleep(SETTLE).await;
        Ok(rush)
    })?;
    table.put(THROUGHPUT, peer, rush.per_second);
    table.put("client CPU per acquire + release, 64 tasks (us)", peer, rush.cpu_micros);
    left_over(fleet, table, peer)
}

/// What is wrong with one of the five nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Dead,
    Paused,
}

impl Fault {
    pub(crate) const ALL: [(Self, bool); 4] =
        [(Self::Dead, false), (Self::Dead, true), (Self::Paused, false), (Self::Paused, true)];

    /// How the rows of this fault begin.
    pub(crate) fn title(self, before: bool) -> String {
        let when = if before { "before" } else { "after" };
        match self {
            Self::Dead => format!("one of five dead since {when} connect"),
            Self::Paused => format!("one of five paused since {when} connect"),
        }
    }

    fn happen(self, fleet: &mut Fleet, node: usize) {
        match self {
            Self::Dead => fleet[node].kill(),
            Self::Paused => fleet[node].pause(),
        }
    }

    fn mend(self, fleet: &mut Fleet, node: usize) -> Outcome<()> {
        match self {
            Self::Dead => fleet[node].restart(Data::Empty)?,
            Self::Paused => fleet[node].resume(),
        }
        Ok(())
    }
}

/// One task, one node out of service; every figure beside that of the healthy servers a moment before.
pub(crate) fn fault(
    fleet: &mut Fleet,
    table: &mut Table,
    peer: Peer,
    (fault, before): (Fault, bool),
    round: usize,
) -> Outcome<()> {
    // Half a second for every operation, and as much again for the dial: some rounds of a few must do.
    let is_slow = peer == Peer::Rslock && fault == Fault::Paused;
    if is_slow && round >= 3 {
        return Ok(());
    }
    let runtime = all_threads()?;
    let urls = fleet.urls();
    let node = round % urls.len();
    let connect = || {
        let urls = urls.clone();
        on(&runtime, async move { peer.connect(&urls).await })
    };
    let run = |client: &Client, ops: usize| {
        let client = client.clone();
        on(&runtime, async move { one_by_one(&client, ops).await })
    };
    let ops = if is_slow { 3 } else { OPS };

    let mut client = connect()?;
    run(&client, WARM_UP)?;
    let healthy = run(&client, OPS)?;
    fault.happen(fleet, node);
    if before {
        // No warm-up: the first acquire comes right behind the dial.
        client = connect()?;
    }
    let hurt = run(&client, ops);
    let rush = (fault == Fault::Paused && !before && !is_slow).then(|| {
        let client = client.clone();
        on(&runtime, async move {
            // What counts is how it goes on: quorlock gives the connection up after four node time-outs.
            all_at_once(&client, PAST_REDIAL).await?;
            all_at_once(&client, Duration::from_secs(1)).await
        })
    });
    fault.mend(fleet, node)?;
    let hurt = hurt?;
    if fault == Fault::Paused {
        // The paused node wakes up to all it was sent; whoever knows how cleans up behind it.
        thread::sleep(WAKE_UP);
    }
    if let Some(rush) = rush.transpose()? {
        table.put(
            "one of five paused for long: acquire + release per second, 64 tasks",
            peer,
            rush.per_second,
        );
        if let Some(healthy) = table.figures(THROUGHPUT, peer).get(round) {
            let share = rush.per_second / healthy;
            table.put(PAUSED_THROUGHPUT, peer, share);
        }
    }
    thread::sleep(SETTLE);

    let title = fault.title(before);
    table.put(
        &format!("{title}: acquire p50 / healthy"),
        peer,
        median(hurt.acquires.clone()) / median(healthy.acquires),
    );
    table.put(&format!("{title}: longest acquire (ms)"), peer, percentile(hurt.acquires, 1.0) / 1000.0);
    left_over(fleet, table, peer)
}

/// How long before its deadline a lock that cannot be renewed is reported lost.
pub(crate) fn lateness(fleet: &mut Fleet, table: &mut Table) -> Outcome<()> {
    let runtime = all_threads()?;
    let lead = runtime.block_on(async {
        let client = Redlock::builder().nodes(fleet.urls()).plain().connect().await?;
        let guard = client.mutex("peers:lateness").ttl(SHORT_TTL).acquire().await?;
        fleet.servers_mut().iter_mut().for_each(quorlock_chaos::Server::pause);
        // Answers that were on their way may still renew it.
        sleep(Duration::from_millis(100)).await;
        let deadline = Instant::now() + guard.remaining();
        let is_told = timeout(SHORT_TTL * 3, guard.lost()).await.is_ok();
        let now = Instant::now();
        fleet.servers_mut().iter_mut().for_each(quorlock_chaos::Server::resume);
        if !is_told {
            return Err("the loss was never told".into());
        }
        drop(guard);
        sleep(WAKE_UP).await;
        let lead = deadline.saturating_duration_since(now).as_secs_f64();
        Outcome::Ok(if lead > 0.0 { lead } else { -(now - deadline).as_secs_f64() })
    })?;
    table.put(LATENESS, Peer::Quorlock, lead * 1000.0);
    left_over(fleet, table, Peer::Quorlock)
}

/// From the moment the keys of a killed holder are gone from a quorum to the grant of the one who waits.
pub(crate) fn takeover(fleet: &Fleet, table: &mut Table, peer: Peer) -> Outcome<()> {
    if peer == Peer::ByHand {
        // It does not wait for locks.
        return Ok(());
    }
    let runtime = all_threads()?;
    let delay = runtime.block_on(async {
        let client = peer.connect(&fleet.urls()).await?;
        client.acquire("peers:warm-up", TTL).await?.release().await?;
        let mut holder = Command::new(std::env::current_exe()?)
            .args(["--hold", peer.name()])
            .args(fleet.urls())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let said = holder.stdout.take().ok_or("the holder has no stdout")?;
        BufReader::new(said).lines().next_line().await?.ok_or("the holder did not get the lock")?;
        let waiter = tokio::spawn(async move {
            let lock = client.acquire(HELD_KEY, SHORT_TTL).await?;
            let granted = Instant::now();
            lock.release().await?;
            sleep(SETTLE).await;
            Outcome::Ok(granted)
        });
        if peer == Peer::Quorlock {
            // Long enough for a renewal.
            sleep(SHORT_TTL / 2).await;
        }
        holder.kill().await?;
        let asked = Instant::now();
        let left = (fleet.servers().iter())
            .map(|server| Ok(server.command::<i64>(&["PTTL", HELD_KEY])? as f64))
            .collect::<Outcome<Vec<_>>>()?;
        let third = Duration::from_secs_f64(percentile(left, 0.5).max(0.0) / 1000.0);
        let granted = waiter.await??;
        Outcome::Ok(granted.saturating_duration_since(asked + third))
    })?;
    table.put(
        "grant to the next after a killed holder's keys expired (ms)",
        peer,
        delay.as_secs_f64() * 1000.0,
    );
    left_over(fleet, table, peer)
}

/// The process that will be killed.
pub(crate) fn hold(peer: Peer, urls: &[String]) -> Outcome<()> {
    all_threads()?.block_on(async {
        let client = peer.connect(urls).await?;
        let _lock = client.acquire(HELD_KEY, SHORT_TTL).await?;
        println!("held");
        std::future::pending().await
    })
}

/// The keys that a peer left on the nodes though it released all it took. Wipes them.
fn left_over(fleet: &Fleet, table: &mut Table, peer: Peer) -> Outcome<()> {
    let mut keys = 0;
    for server in fleet.servers() {
        keys += server.command::<u32>(&["DBSIZE"])?;
        server.wipe()?;
    }
    table.put(LEFT_OVER, peer, f64::from(keys));
    Ok(())
}

/// Durations in microseconds.
#[derive(Default)]
struct Run {
    acquires: Vec<f64>,
    releases: Vec<f64>,
    totals: Vec<f64>,
}

async fn one_by_one(client: &Client, ops: usize) -> Outcome<Run> {
    let mut run = Run::default();
    for _ in 0..ops {
        let begin = Instant::now();
        let lock = client.acquire("peers:one", TTL).await?;
        let acquired = begin.elapsed();
        lock.release().await?;
        let total = begin.elapsed();
        run.acquires.push(micros(acquired));
        run.releases.push(micros(total) - micros(acquired));
        run.totals.push(micros(total));
    }
    Ok(run)
}

/// How many tasks at once fared.
struct Rush {
    per_second: f64,
    /// Of this process, for one acquire and release.
    cpu_micros: f64,
}

async fn all_at_once(client: &Client, span: Duration) -> Outcome<Rush> {
    let done = Arc::new(AtomicU64::new(0));
    let (begin, cpu) = (Instant::now(), cpu_time());
    let tasks = (0..TASKS).map(|task| {
        let (client, done, key) = (client.clone(), Arc::clone(&done), format!("peers:own:{task}"));
        let work = async move {
            loop {
                client.acquire(&key, TTL).await?.release().await?;
                done.fetch_add(1, Ordering::Relaxed);
                if begin.elapsed() >= span {
                    return Outcome::Ok(());
                }
            }
        };
        // Whoever stands in their own way shall not hold up the rest.
        tokio::spawn(async move { timeout(span + SETTLE, work).await.unwrap_or(Ok(())) })
    });
    let outcomes = try_join_all(tasks).await?;
    let (cpu, elapsed) = (cpu_time().saturating_sub(cpu), begin.elapsed());
    outcomes.into_iter().collect::<Outcome<()>>()?;
    let ops = done.load(Ordering::Relaxed) as f64;
    Ok(Rush { per_second: ops / elapsed.as_secs_f64(), cpu_micros: micros(cpu) / ops })
}

fn all_threads() -> Outcome<Runtime> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

/// On a worker, where servers run their tasks; the thread that blocks on a runtime is none.
fn on<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = Outcome<T>> + Send + 'static,
) -> Outcome<T> {
    runtime.block_on(runtime.spawn(work))?
}

/// This process' own; the servers are others.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

pub(crate) const ONE_THREAD: &str = "current thread";
pub(crate) const ALL_THREADS: &str = "multi-thread";
pub(crate) const THROUGHPUT: &str = "acquire + release per second, 64 tasks";
pub(crate) const PAUSED_THROUGHPUT: &str = "one of five paused for long: throughput of 64 tasks / healthy";
pub(crate) const LATENESS: &str = "all nodes paused: lost signal this long before the deadline (ms)";
pub(crate) const LEFT_OVER: &str = "keys left on the five nodes by one run";

const OPS: usize = 1000;
const WARM_UP: usize = 100;
const TASKS: usize = 64;
const TTL: Duration = Duration::from_secs(10);
const SHORT_TTL: Duration = Duration::from_secs(1);
const PAST_REDIAL: Duration = Duration::from_millis(2200);
/// For the answers that nobody waited for.
const SETTLE: Duration = Duration::from_millis(200);
/// For a node that was paused, or lost its connections, to be in use again.
const WAKE_UP: Duration = Duration::from_secs(1);
const HELD_KEY: &str = "peers:held";
