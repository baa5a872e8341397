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
    pub(crate) const BOTH: [Self; 2] = [Self::Guarded, Self::Plain];
}

/// How many locks were taken, and how many of them in one round.
#[derive(Default)]
struct Rounds {
    all: AtomicU64,
    one: AtomicU64,
}

type Counted = (Mode, Redlock, Arc<Rounds>);

impl Caller {
    /// One task takes and releases one lock again and again. The modes take turns, so that what else the machine does
    /// hits both alike.
    pub(crate) async fn sequential(&self, table: &mut Table, order: [Mode; 2], threads: &str) -> Outcome<()> {
        let clients = self.connect_all(order).await?;
        let (mut acquires, mut totals) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for turn in 0..=TURNS {
            for (mode, client, _) in &clients {
                let micros = tokio::spawn(one_by_one(client.clone())).await??;
                // The first turn is to warm up.
                if turn > 0 {
                    acquires[*mode as usize].extend(micros.iter().map(|(acquire, _)| acquire));
                    totals[*mode as usize].extend(micros.iter().map(|(_, total)| total));
                }
            }
        }
        let both = |[guarded, plain]: [Vec<f64>; 2]| (median(guarded), Some(median(plain)));
        let (guarded, plain) = both(acquires);
        table.put(&format!("acquire p50, one task, {threads} (us)"), Goal::AtMost(1.4), guarded, plain);
        let (guarded, plain) = both(totals);
        table.put(&format!("acquire + release p50, one task, {threads} (us)"), Goal::None, guarded, plain);
        let name = format!("share taken in one round, one task, one name, {threads}");
        table.put(&name, Goal::None, share(&clients), None);
        Ok(())
    }

    /// 64 tasks, each with a name of its own; by turns, too.
    pub(crate) async fn throughput(&self, table: &mut Table, order: [Mode; 2]) -> Outcome<()> {
        let clients = self.connect_all(order).await?;
        let mut per_second = [0.0; 2];
        for _ in 0..TURNS {
            for (mode, client, _) in &clients {
                let names = (0..64).map(|task| (client.clone(), format!("bench:own:{task}")));
                per_second[*mode as usize] += rush(names, SPAN / TURNS).await? / f64::from(TURNS);
            }
        }
        let [guarded, plain] = per_second;
        let name = "acquire + release per second, 64 tasks, a name each";
        table.put(name, Goal::AtLeast(0.4), guarded, Some(plain));
        let name = "share taken in one round, 64 tasks, a name each";
        table.put(name, Goal::None, share(&clients), None);
        Ok(())
    }

    /// Names that no node has heard of.
    pub(crate) async fn fresh_names(&self, table: &mut Table) -> Outcome<()> {
        let (client, rounds) = self.connect(Mode::Guarded).await?;
        for _ in 0..FRESH_NAMES {
            let name = format!("bench:fresh:{:032x}", rand::random::<u128>());
            client.mutex(name).acquire().await?.release().await?;
        }
        let share = share(&[(Mode::Guarded, client, rounds)]);
        table.put("share taken in one round, one task, fresh names", Goal::None, share, None);
        Ok(())
    }

    /// Six clients, as of six processes, and one name.
    pub(crate) async fn contended(&self, table: &mut Table) -> Outcome<()> {
        let clients = self.connect_all([Mode::Guarded; 6]).await?;
        let contenders = clients.iter().map(|(_, client, _)| (client.clone(), "bench:wanted".to_owned()));
        let per_second = rush(contenders, SPAN).await?;
        let name = "share taken in one round, 6 clients, one name";
        table.put(name, Goal::None, share(&clients), None);
        table.put("acquire + release per second, 6 clients, one name", Goal::None, per_second, None);
        Ok(())
    }

    async fn connect_all<const N: usize>(&self, modes: [Mode; N]) -> Outcome<Vec<Counted>> {
        let mut clients = Vec::new();
        for mode in modes {
            let (client, rounds) = self.connect(mode).await?;
            clients.push((mode, client, rounds));
        }
        Ok(clients)
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

/// How many of all the guarded locks were taken in one round.
fn share(clients: &[Counted]) -> f64 {
    let sum = |count: fn(&Rounds) -> &AtomicU64| -> f64 {
        let guarded = clients.iter().filter(|(mode, ..)| *mode == Mode::Guarded);
        guarded.map(|(.., rounds)| count(rounds).load(Ordering::Relaxed)).sum::<u64>() as f64
    };
    sum(|rounds| &rounds.one) / sum(|rounds| &rounds.all)
}

/// The microseconds of every acquire, and of it with its release.
async fn one_by_one(client: Redlock) -> Outcome<Vec<(f64, f64)>> {
    let mut micros = Vec::with_capacity(TURN);
    for _ in 0..TURN {
        let begin = Instant::now();
        let guard = client.mutex("bench:one").acquire().await?;
        let acquired = begin.elapsed();
        guard.release().await?;
        micros.push((acquired.as_secs_f64() * 1e6, begin.elapsed().as_secs_f64() * 1e6));
    }
    Ok(micros)
}

/// Each task takes its name again and again for so long; how often all together did so, per second.
async fn rush(tasks: impl Iterator<Item = (Redlock, String)>, span: Duration) -> Outcome<f64> {
    let begin = Instant::now();
    let tasks = tasks.map(|(client, name)| {
        tokio::spawn(async move {
            let mut done = 0_u64;
            while begin.elapsed() < span {
                client.mutex(&*name).acquire().await?.release().await?;
                done += 1;
            }
            Outcome::Ok(done)
        })
    });
    let counts = try_join_all(tasks).await?;
    let done: u64 = counts.into_iter().collect::<Outcome<Vec<_>>>()?.iter().sum();
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}

/// How often the modes take turns, and how many acquisitions a turn of one task has.
const TURNS: u32 = 10;
const TURN: usize = 100;
const FRESH_NAMES: usize = 1000;
const SPAN: Duration = Duration::from_secs(1);
