//! The execution of requests in a worker.

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

/// A client and the locks that it holds.
pub(super) struct Run<C: Contender> {
    client: C,
    prefix: String,
    held: Arc<Mutex<Vec<C::RenewedLock>>>,
}

/// One task of a throughput measurement.
struct Task<C> {
    client: C,
    key: String,
    begin: Instant,
    duration: Duration,
    cancels: bool,
    done: Arc<AtomicU64>,
}

impl<C: Contender> Clone for Run<C> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), prefix: self.prefix.clone(), held: Arc::clone(&self.held) }
    }
}

impl<C: Contender> Run<C> {
    pub(super) fn new(client: C, prefix: String) -> Self {
        Self { client, prefix, held: Arc::default() }
    }

    pub(super) async fn execute(&self, request: Request) -> Outcome<Vec<f64>> {
        match request {
            Request::Untimed { ops } => self.untimed(ops).await,
            Request::Sequence { ops } => self.sequence(ops).await,
            Request::Throughput { tasks, duration } => self.throughput(tasks, duration, false).await,
            Request::Cancel { tasks, duration } => self.throughput(tasks, duration, true).await,
            Request::Acquire { key, ttl } => {
                self.acquire_and_keep(std::iter::once(key), ttl).await.map(|()| Vec::new())
            }
            Request::Hold { count, ttl } => self.hold(count, ttl).await,
            Request::ReleaseAll => self.release_all().await,
        }
    }

    /// Acquires and releases without reading a clock or storing results, so that only the client's work is
    /// counted.
    async fn untimed(&self, ops: usize) -> Outcome<Vec<f64>> {
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

    async fn throughput(&self, tasks: usize, duration: Duration, cancels: bool) -> Outcome<Vec<f64>> {
        let (begin, cpu) = (Instant::now(), cpu_time());
        let done = Arc::new(AtomicU64::new(0));
        let tasks = (0..tasks).map(|task| {
            let (client, done) = (self.client.clone(), Arc::clone(&done));
            let task =
                Task { client, key: format!("{}own:{task}", self.prefix), begin, duration, cancels, done };
            // A task that excludes itself by its own leftover key must not delay the other tasks.
            tokio::spawn(async move { timeout(duration + STALL, task.run()).await.unwrap_or(Ok(())) })
        });
        let outcomes = try_join_all(tasks).await?;
        let (cpu, elapsed) = (cpu_time().saturating_sub(cpu), begin.elapsed());
        outcomes.into_iter().collect::<Outcome<()>>()?;
        let done = done.load(Ordering::Relaxed) as f64;
        Ok(vec![done, elapsed.as_secs_f64(), cpu.as_secs_f64()])
    }

    async fn hold(&self, count: usize, ttl: Duration) -> Outcome<Vec<f64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).reserve(count);
        self.untimed(1).await?;
        let before = resident_bytes()?;
        self.acquire_and_keep((0..count).map(|number| format!("{}held:{number}", self.prefix)), ttl).await?;
        // After this, each lock has been renewed once, and all replies are in.
        sleep(ttl / 2).await;
        Ok(vec![resident_bytes()? - before])
    }

    /// Takes an iterator of keys, because a list of them would count as memory of the locks.
    async fn acquire_and_keep(
        &self,
        keys: impl Iterator<Item = String> + Send,
        ttl: Duration,
    ) -> Outcome<()> {
        let acquire = |key: String| {
            let client = self.client.clone();
            async move { client.acquire_renewed(&key, ttl).await }
        };
        let mut locks = stream::iter(keys.map(acquire)).buffer_unordered(CONCURRENCY);
        while let Some(lock) = locks.try_next().await? {
            self.held.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
        }
        Ok(())
    }

    async fn release_all(&self) -> Outcome<Vec<f64>> {
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        let outcomes: Vec<Outcome<()>> = stream::iter(held.into_iter().map(C::release_renewed))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let unconfirmed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        Ok(vec![unconfirmed as f64])
    }
}

impl<C: Contender> Task<C> {
    async fn run(self) -> Outcome<()> {
        let mut attempt = 0;
        while self.begin.elapsed() < self.duration {
            attempt += 1;
            let acquire = self.client.acquire(&self.key, TTL);
            let lock = if self.cancels && attempt % 10 == 0 {
                cancelled_after(acquire, attempt / 10 % 8).await?
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

/// Drops the future after this number of yields to the other tasks, unless it has completed by then.
async fn cancelled_after<T>(future: impl Future<Output = Outcome<T>>, yields: u32) -> Outcome<Option<T>> {
    let delay = async {
        for _ in 0..yields {
            yield_now().await;
        }
    };
    match select(pin!(future), pin!(delay)).await {
        Either::Left((outcome, _)) => outcome.map(Some),
        Either::Right(_) => Ok(None),
    }
}

/// The processor time of this process, without the servers.
pub(crate) fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// The resident memory of this process. `statm` and `status` can be wrong by some pages per processor; this
/// is exact.
fn resident_bytes() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).ok_or("no Rss")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

const TTL: Duration = Duration::from_secs(10);
const STALL: Duration = Duration::from_millis(200);
const CONCURRENCY: usize = 64;
