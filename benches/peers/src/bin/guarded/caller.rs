//! What a caller sees, guarded and plain, each on five servers of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use peers::Outcome;
use peers::figures::median;
use quorlock::{Event, Redlock};

use crate::table::{Goal, Table};

/// Where the nodes are.
pub(crate) struct Caller {
    pub(crate) guarded: Vec<String>,
    pub(crate) plain: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Guarded,
    Plain,
}

impl Mode {
    pub(crate) const ALL: [Self; 2] = [Self::Guarded, Self::Plain];
}

/// How many locks were taken, and how many of them in one round.
#[derive(Default)]
struct Rounds {
    all: AtomicU64,
    one: AtomicU64,
}

impl Rounds {
    /// The share of one round, of all that were taken since the last look.
    fn share(&self) -> f64 {
        let all = self.all.swap(0, Ordering::Relaxed);
        self.one.swap(0, Ordering::Relaxed) as f64 / all as f64
    }
}

impl Caller {
    /// One task takes and releases one lock again and again.
    pub(crate) async fn sequential(&self, table: &mut Table, mode: Mode, threads: &str) -> Outcome<()> {
        let (client, rounds) = self.connect(mode).await?;
        let (acquires, totals) = tokio::spawn(async move {
            let mut micros = (Vec::new(), Vec::new());
            for op in 0..WARM_UP + OPS {
                let begin = Instant::now();
                let guard = client.mutex("bench:one").acquire().await?;
                let acquired = begin.elapsed();
                guard.release().await?;
                if op >= WARM_UP {
                    micros.0.push(acquired.as_secs_f64() * 1e6);
                    micros.1.push(begin.elapsed().as_secs_f64() * 1e6);
                }
            }
            Outcome::Ok(micros)
        })
        .await??;
        let name = format!("acquire p50, one task, {threads} (us)");
        table.put_mode(&name, Goal::AtMost(1.4), mode, median(acquires));
        let name = format!("acquire + release p50, one task, {threads} (us)");
        table.put_mode(&name, Goal::None, mode, median(totals));
        if mode == Mode::Guarded {
            table.put("share taken in one round, one task, one name", Goal::None, rounds.share(), None);
        }
        Ok(())
    }

    /// 64 tasks, each with a name of its own.
    pub(crate) async fn throughput(&self, table: &mut Table, mode: Mode) -> Outcome<()> {
        let (client, rounds) = self.connect(mode).await?;
        let names = (0..64).map(|task| (client.clone(), format!("bench:own:{task}")));
        let per_second = rush(names).await?;
        table.put_mode("acquire + release per second, 64 tasks", Goal::AtLeast(0.4), mode, per_second);
        if mode == Mode::Guarded {
            table.put("share taken in one round, 64 tasks, a name each", Goal::None, rounds.share(), None);
        }
        Ok(())
    }

    /// Names that no node has heard of.
    pub(crate) async fn fresh_names(&self, table: &mut Table) -> Outcome<()> {
        let (client, rounds) = self.connect(Mode::Guarded).await?;
        for _ in 0..OPS {
            let name = format!("bench:fresh:{:032x}", rand::random::<u128>());
            client.mutex(name).acquire().await?.release().await?;
        }
        table.put("share taken in one round, one task, fresh names", Goal::None, rounds.share(), None);
        Ok(())
    }

    /// Six clients, as of six processes, and one name.
    pub(crate) async fn contended(&self, table: &mut Table) -> Outcome<()> {
        let clients = try_join_all((0..6).map(|_| self.connect(Mode::Guarded))).await?;
        let contenders = clients.iter().map(|(client, _)| (client.clone(), "bench:wanted".to_owned()));
        let per_second = rush(contenders).await?;
        let sum = |count: fn(&Rounds) -> &AtomicU64| -> f64 {
            clients.iter().map(|(_, rounds)| count(rounds).load(Ordering::Relaxed)).sum::<u64>() as f64
        };
        let share = sum(|rounds| &rounds.one) / sum(|rounds| &rounds.all);
        table.put("share taken in one round, 6 clients, one name", Goal::None, share, None);
        table.put("acquire + release per second, 6 clients, one name", Goal::None, per_second, None);
        Ok(())
    }

    async fn connect(&self, mode: Mode) -> Outcome<(Redlock, Arc<Rounds>)> {
        let rounds = Arc::new(Rounds::default());
        let counted = Arc::clone(&rounds);
        let builder = match mode {
            Mode::Guarded => Redlock::builder().nodes(&self.guarded),
            Mode::Plain => Redlock::builder().nodes(&self.plain).plain(),
        };
        // Both are observed, so that both pay for it.
        let client = builder
            .observer(move |event: &Event<'_>| {
                if let Event::Acquired { rounds, .. } = event {
                    counted.all.fetch_add(1, Ordering::Relaxed);
                    counted.one.fetch_add(u64::from(*rounds == 1), Ordering::Relaxed);
                }
            })
            .connect()
            .await?;
        Ok((client, rounds))
    }
}

/// Each task takes its name again and again, for a second; how often all did so, per second.
async fn rush(tasks: impl Iterator<Item = (Redlock, String)>) -> Outcome<f64> {
    let begin = Instant::now();
    let tasks = tasks.map(|(client, name)| {
        tokio::spawn(async move {
            let mut done = 0_u64;
            while begin.elapsed() < SPAN {
                client.mutex(&*name).acquire().await?.release().await?;
                done += 1;
            }
            Outcome::Ok(done)
        })
    });
    let counts: Vec<_> = try_join_all(tasks).await?;
    let done: u64 = counts.into_iter().collect::<Outcome<Vec<_>>>()?.iter().sum();
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}

const OPS: usize = 1000;
const WARM_UP: usize = 100;
const SPAN: Duration = Duration::from_secs(1);
