//! How a worker executes its requests.

use std::fs;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{Either, select, try_join_all};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use rustix::time::{ClockId, clock_gettime};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::{Contender, Request};
use crate::Outcome;

/// A client and what it keeps.
pub(super) struct Run<C: Contender> {
    client: C,
    prefix: String,
    kept: Arc<Mutex<Vec<C::Held>>>,
}

/// One task of a rush.
struct Task<C> {
    client: C,
    key: String,
    begin: Instant,
    span: Duration,
    gives_up: bool,
    done: Arc<AtomicU64>,
}

impl<C: Contender> Clone for Run<C> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), prefix: self.prefix.clone(), kept: Arc::clone(&self.kept) }
    }
}

impl<C: Contender> Run<C> {
    pub(super) fn new(client: C, prefix: String) -> Self {
        Self { client, prefix, kept: Arc::default() }
    }

    pub(super) async fn carry_out(&self, request: Request) -> Outcome<Vec<f64>> {
        match request {
            Request::Work { ops } => self.work(ops).await,
            Request::Sequence { ops } => self.sequence(ops).await,
            Request::Rush { tasks, span } => self.rush(tasks, span, false).await,
            Request::Cancel { tasks, span } => self.rush(tasks, span, true).await,
            Request::Take { key, ttl } => self.keep(std::iter::once(key), ttl).await.map(|()| Vec::new()),
            Request::Hold { count, ttl } => self.hold(count, ttl).await,
            Request::Free => self.free().await,
        }
    }

    /// Reads no clock and keeps no figures, so that nothing but the client's work is done.
    async fn work(&self, ops: usize) -> Outcome<Vec<f64>> {
        let key = format!("{}one", self.prefix);
        for _ in 0..ops {
            C::release(self.client.acquire(&key, TTL).await?).await?;
        }
        Ok(Vec::new())
    }

    async fn sequence(&self, ops: usize) -> Outcome<Vec<f64>> {
        let key = format!("{}one", self.prefix);
        let mut micros = Vec::with_capacity(ops * 2);
        for _ in 0..ops {
            let begin = Instant::now();
            let lock = self.client.acquire(&key, TTL).await?;
            let acquired = begin.elapsed();
            C::release(lock).await?;
            let total = begin.elapsed();
            micros.push(acquired.as_secs_f64() * 1e6);
            micros.push(total.saturating_sub(acquired).as_secs_f64() * 1e6);
        }
        Ok(micros)
    }

    async fn rush(&self, tasks: usize, span: Duration, gives_up: bool) -> Outcome<Vec<f64>> {
        let (begin, cpu) = (Instant::now(), cpu_time());
        let done = Arc::new(AtomicU64::new(0));
        let tasks = (0..tasks).map(|task| {
            let (client, done) = (self.client.clone(), Arc::clone(&done));
            let task =
                Task { client, key: format!("{}own:{task}", self.prefix), begin, span, gives_up, done };
            // A task that blocks itself must not delay the other tasks.
            tokio::spawn(async move { timeout(span + STALL, task.run()).await.unwrap_or(Ok(())) })
        });
        let outcomes = try_join_all(tasks).await?;
        let (cpu, elapsed) = (cpu_time().saturating_sub(cpu), begin.elapsed());
        outcomes.into_iter().collect::<Outcome<()>>()?;
        let done = done.load(Ordering::Relaxed) as f64;
        Ok(vec![done, elapsed.as_secs_f64(), cpu.as_secs_f64()])
    }

    async fn hold(&self, count: usize, ttl: Duration) -> Outcome<Vec<f64>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).reserve(count);
        self.work(1).await?;
        let before = resident_bytes()?;
        self.keep((0..count).map(|place| format!("{}held:{place}", self.prefix)), ttl).await?;
        // Each has been renewed once by then, and all answers are in.
        sleep(ttl / 2).await;
        Ok(vec![resident_bytes()? - before])
    }

    /// Names are made one by one: a list of them would count as memory of the locks.
    async fn keep(&self, keys: impl Iterator<Item = String> + Send, ttl: Duration) -> Outcome<()> {
        let take = |key: String| {
            let client = self.client.clone();
            async move { client.hold(&key, ttl).await }
        };
        let mut held = stream::iter(keys.map(take)).buffer_unordered(AT_ONCE);
        while let Some(held) = held.try_next().await? {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(held);
        }
        Ok(())
    }

    async fn free(&self) -> Outcome<Vec<f64>> {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let released: Vec<Outcome<()>> =
            stream::iter(kept.into_iter().map(C::let_go)).buffer_unordered(AT_ONCE).collect().await;
        let unconfirmed = released.iter().filter(|outcome| outcome.is_err()).count();
        Ok(vec![unconfirmed as f64])
    }
}

impl<C: Contender> Task<C> {
    async fn run(self) -> Outcome<()> {
        let mut turn = 0;
        while self.begin.elapsed() < self.span {
            turn += 1;
            let acquire = self.client.acquire(&self.key, TTL);
            let lock = if self.gives_up && turn % 10 == 0 {
                given_up(acquire, turn / 10 % 8).await?
            } else {
                Some(acquire.await?)
            };
            if let Some(lock) = lock {
                C::release(lock).await?;
                self.done.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// Drops the future after so many turns of everybody else's, unless it is done by then.
async fn given_up<T>(future: impl Future<Output = Outcome<T>>, turns: u32) -> Outcome<Option<T>> {
    let patience = async {
        for _ in 0..turns {
            yield_now().await;
        }
    };
    match select(pin!(future), pin!(patience)).await {
        Either::Left((outcome, _)) => outcome.map(Some),
        Either::Right(_) => Ok(None),
    }
}

/// This process' own; the servers are others.
pub(crate) fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// What is in memory of this process. `statm` and `status` may be wrong by some pages for each processor; this is not.
fn resident_bytes() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).ok_or("no Rss")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

const TTL: Duration = Duration::from_secs(10);
const STALL: Duration = Duration::from_millis(200);
const AT_ONCE: usize = 64;
