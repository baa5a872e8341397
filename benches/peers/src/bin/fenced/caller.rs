//! What a caller sees, fenced and plain, each on five servers of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use peers::Outcome;
use peers::stats::median;
use quorlock::{Event, Redlock};
use quorlock_chaos::Fleet;
use rustix::time::{ClockId, clock_gettime};

use crate::table::{Goal, Table};

/// The servers of each mode.
pub(crate) struct Caller<'a> {
    pub(crate) fenced: &'a Fleet,
    pub(crate) plain: &'a Fleet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Fenced,
    Plain,
}

impl Mode {
    pub(crate) const BOTH: [Self; 2] = [Self::Fenced, Self::Plain];
}

/// How many locks were taken, and how many of them in one round.
#[derive(Default)]
struct Rounds {
    all: AtomicU64,
    one: AtomicU64,
}

type Counted = (Mode, Redlock, Arc<Rounds>);

/// Processor time of the caller and of all its servers, in microseconds: what does not hang on who else wants the
/// machine.
#[derive(Clone, Copy, Default)]
struct Work {
    caller: f64,
    servers: f64,
}

impl Work {
    /// So far, of this process and of these servers.
    fn of(fleet: &Fleet) -> Outcome<Self> {
        let mut servers = 0.0;
        for server in fleet.servers() {
            let info: String = server.command(&["INFO", "cpu"])?;
            let of_main =
                |line: &&str| line.starts_with("used_cpu_sys:") || line.starts_with("used_cpu_user:");
            for line in info.lines().filter(of_main) {
                servers += line.split_once(':').ok_or("an odd INFO")?.1.parse::<f64>()? * 1e6;
            }
        }
        let caller = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime))?.as_secs_f64() * 1e6;
        Ok(Self { caller, servers })
    }

    fn add_since(&mut self, before: Self, fleet: &Fleet) -> Outcome<()> {
        let now = Self::of(fleet)?;
        self.caller += now.caller - before.caller;
        self.servers += now.servers - before.servers;
        Ok(())
    }
}

impl Caller<'_> {
    /// One task takes and releases one lock again and again. The modes take turns, so that what else the machine does
    /// hits both alike.
    pub(crate) async fn sequential(&self, table: &mut Table, order: [Mode; 2], threads: &str) -> Outcome<()> {
        let clients = self.connect_all(order).await?;
        let mut work = [Work::default(); 2];
        let (mut acquires, mut totals) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for turn in 0..=TURNS {
            for (mode, client, _) in &clients {
                let before = Work::of(self.fleet(*mode))?;
                let micros = tokio::spawn(one_by_one(client.clone())).await??;
                // The first turn is to warm up.
                if turn > 0 {
                    work[*mode as usize].add_since(before, self.fleet(*mode))?;
                    acquires[*mode as usize].extend(micros.iter().map(|(acquire, _)| acquire));
                    totals[*mode as usize].extend(micros.iter().map(|(_, total)| total));
                }
            }
        }
        let both = |[fenced, plain]: [Vec<f64>; 2]| (median(fenced), Some(median(plain)));
        let (fenced, plain) = both(acquires);
        table.put(&format!("acquire p50, one task, {threads} (us)"), Goal::AtMost(1.4), fenced, plain);
        let (fenced, plain) = both(totals);
        table.put(&format!("acquire + release p50, one task, {threads} (us)"), Goal::None, fenced, plain);
        put_work(table, &format!("one task, {threads}"), work, [f64::from(TURNS) * TURN as f64; 2]);
        let name = format!("share taken in one round, one task, one name, {threads}");
        table.put(&name, Goal::None, share(&clients), None);
        Ok(())
    }

    /// 64 tasks, each with a name of its own; by turns, too.
    pub(crate) async fn throughput(&self, table: &mut Table, order: [Mode; 2]) -> Outcome<()> {
        let clients = self.connect_all(order).await?;
        let (mut per_second, mut done, mut work) = ([0.0; 2], [0.0; 2], [Work::default(); 2]);
        for _ in 0..TURNS {
            for (mode, client, _) in &clients {
                let names = (0..64).map(|task| (client.clone(), format!("bench:own:{task}")));
                let before = Work::of(self.fleet(*mode))?;
                let rush = rush(names, SPAN / TURNS).await?;
                work[*mode as usize].add_since(before, self.fleet(*mode))?;
                per_second[*mode as usize] += rush.per_second / f64::from(TURNS);
                done[*mode as usize] += rush.done;
            }
        }
        let [fenced, plain] = per_second;
        let name = "acquire + release per second, 64 tasks, a name each";
        table.put(name, Goal::AtLeast(0.4), fenced, Some(plain));
        put_work(table, "64 tasks, a name each", work, done);
        let name = "share taken in one round, 64 tasks, a name each";
        table.put(name, Goal::None, share(&clients), None);
        Ok(())
    }

    /// Names that no node has heard of.
    pub(crate) async fn fresh_names(&self, table: &mut Table) -> Outcome<()> {
        let (client, rounds) = self.connect(Mode::Fenced).await?;
        for _ in 0..FRESH_NAMES {
            let name = format!("bench:fresh:{:032x}", rand::random::<u128>());
            client.mutex(name).acquire().await?.release().await?;
        }
        let share = share(&[(Mode::Fenced, client, rounds)]);
        table.put("share taken in one round, one task, fresh names", Goal::None, share, None);
        Ok(())
    }

    /// Six clients, as of six processes, and one name.
    pub(crate) async fn contended(&self, table: &mut Table) -> Outcome<()> {
        let clients = self.connect_all([Mode::Fenced; 6]).await?;
        let contenders = clients.iter().map(|(_, client, _)| (client.clone(), "bench:wanted".to_owned()));
        let per_second = rush(contenders, SPAN).await?.per_second;
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

    fn fleet(&self, mode: Mode) -> &Fleet {
        match mode {
            Mode::Fenced => self.fenced,
            Mode::Plain => self.plain,
        }
    }

    async fn connect(&self, mode: Mode) -> Outcome<(Redlock, Arc<Rounds>)> {
        let rounds = Arc::new(Rounds::default());
        let counted = Arc::clone(&rounds);
        let builder = Redlock::builder().nodes(self.fleet(mode).urls());
        let builder = if mode == Mode::Plain { builder.plain() } else { builder };
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

/// For one acquire and its release.
fn put_work(table: &mut Table, title: &str, work: [Work; 2], done: [f64; 2]) {
    let mut put = |whose: &str, figure: fn(&Work) -> f64| {
        let name = format!("processor time of {whose} for one acquire + release, {title} (us)");
        let [fenced, plain] = [0, 1].map(|mode| figure(&work[mode]) / done[mode]);
        table.put(&name, Goal::None, fenced, Some(plain));
    };
    put("the caller", |work| work.caller);
    put("all five servers", |work| work.servers);
}

/// How many of all the fenced locks were taken in one round.
fn share(clients: &[Counted]) -> f64 {
    let sum = |count: fn(&Rounds) -> &AtomicU64| -> f64 {
        let fenced = clients.iter().filter(|(mode, ..)| *mode == Mode::Fenced);
        fenced.map(|(.., rounds)| count(rounds).load(Ordering::Relaxed)).sum::<u64>() as f64
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

/// How often all tasks together took and released their locks.
struct Rush {
    done: f64,
    per_second: f64,
}

/// Each task takes its name again and again for so long.
async fn rush(tasks: impl Iterator<Item = (Redlock, String)>, span: Duration) -> Outcome<Rush> {
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
    let done = counts.into_iter().sum::<Outcome<u64>>()? as f64;
    Ok(Rush { done, per_second: done / begin.elapsed().as_secs_f64() })
}

/// How often the modes take turns, and how many acquisitions a turn of one task has.
const TURNS: u32 = 10;
const TURN: usize = 100;
const FRESH_NAMES: usize = 1000;
const SPAN: Duration = Duration::from_secs(1);
