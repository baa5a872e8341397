//! Measures a caller in fenced and in plain mode, each with five separate servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use peers::Outcome;
use peers::stats::median;
use quorlock::Redlock;
use quorlock::event::Event;
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

/// The number of acquired locks, and how many of them needed only one network round.
#[derive(Default)]
struct Rounds {
    all: AtomicU64,
    one: AtomicU64,
}

type Counted = (Mode, Redlock, Arc<Rounds>);

/// The processor time of the caller and of its servers, in microseconds. Other load on the machine hardly
/// affects it.
#[derive(Clone, Copy, Default)]
struct CpuTime {
    caller: f64,
    servers: f64,
}

impl CpuTime {
    /// The total so far of this process and of these servers.
    fn read(fleet: &Fleet) -> Outcome<Self> {
        let mut servers = 0.0;
        for server in fleet.servers() {
            let info: String = server.command(&["INFO", "cpu"])?;
            let is_main_thread =
                |line: &&str| line.starts_with("used_cpu_sys:") || line.starts_with("used_cpu_user:");
            for line in info.lines().filter(is_main_thread) {
                servers += line.split_once(':').ok_or("unexpected INFO")?.1.parse::<f64>()? * 1e6;
            }
        }
        let caller = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime))?.as_secs_f64() * 1e6;
        Ok(Self { caller, servers })
    }

    fn add_since(&mut self, before: Self, fleet: &Fleet) -> Outcome<()> {
        let now = Self::read(fleet)?;
        self.caller += now.caller - before.caller;
        self.servers += now.servers - before.servers;
        Ok(())
    }
}

impl Caller<'_> {
    /// Measures one task that acquires and releases one lock repeatedly. The modes alternate in batches, so
    /// that other load on the machine affects both.
    pub(crate) async fn sequential(&self, table: &mut Table, order: [Mode; 2], threads: &str) -> Outcome<()> {
        let clients = self.connect_all(order).await?;
        let mut cpu_time = [CpuTime::default(); 2];
        let (mut acquires, mut totals) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for batch in 0..=BATCHES {
            for (mode, client, _) in &clients {
                let before = CpuTime::read(self.fleet(*mode))?;
                let micros = tokio::spawn(acquire_sequentially(client.clone())).await??;
                // The first batch is a warm-up.
                if batch > 0 {
                    cpu_time[*mode as usize].add_since(before, self.fleet(*mode))?;
                    acquires[*mode as usize].extend(micros.iter().map(|(acquire, _)| acquire));
                    totals[*mode as usize].extend(micros.iter().map(|(_, total)| total));
                }
            }
        }
        let both = |[fenced, plain]: [Vec<f64>; 2]| (median(fenced), Some(median(plain)));
        let (fenced, plain) = both(acquires);
        table.add(&format!("acquire p50, one task, {threads} (us)"), Goal::AtMost(1.4), fenced, plain);
        let (fenced, plain) = both(totals);
        table.add(&format!("acquire + release p50, one task, {threads} (us)"), Goal::None, fenced, plain);
        add_cpu_time(
            table,
            &format!("one task, {threads}"),
            cpu_time,
            [f64::from(BATCHES) * BATCH_SIZE as f64; 2],
        );
        let name = format!("share acquired in one round, one task, one name, {threads}");
        table.add(&name, Goal::None, one_round_share(&clients), None);
        Ok(())
    }

    /// Measures 64 tasks, each with its own name. The modes alternate.
    pub(crate) async fn throughput(&self, table: &mut Table, order: [Mode; 2]) -> Outcome<()> {
        let clients = self.connect_all(order).await?;
        let (mut per_second, mut done, mut cpu_time) = ([0.0; 2], [0.0; 2], [CpuTime::default(); 2]);
        for _ in 0..BATCHES {
            for (mode, client, _) in &clients {
                let names = (0..64).map(|task| (client.clone(), format!("bench:own:{task}")));
                let before = CpuTime::read(self.fleet(*mode))?;
                let throughput = throughput(names, DURATION / BATCHES).await?;
                cpu_time[*mode as usize].add_since(before, self.fleet(*mode))?;
                per_second[*mode as usize] += throughput.per_second / f64::from(BATCHES);
                done[*mode as usize] += throughput.done;
            }
        }
        let [fenced, plain] = per_second;
        let name = "acquire + release per second, 64 tasks, one name per task";
        table.add(name, Goal::AtLeast(0.4), fenced, Some(plain));
        add_cpu_time(table, "64 tasks, one name per task", cpu_time, done);
        let name = "share acquired in one round, 64 tasks, one name per task";
        table.add(name, Goal::None, one_round_share(&clients), None);
        Ok(())
    }

    /// Acquires names that no node has a fence for.
    pub(crate) async fn fresh_names(&self, table: &mut Table) -> Outcome<()> {
        let (client, rounds) = self.connect(Mode::Fenced).await?;
        for _ in 0..FRESH_NAMES {
            let name = format!("bench:fresh:{:032x}", rand::random::<u128>());
            client.mutex(name).acquire().await?.release().await?;
        }
        let share = one_round_share(&[(Mode::Fenced, client, rounds)]);
        table.add("share acquired in one round, one task, fresh names", Goal::None, share, None);
        Ok(())
    }

    /// Measures six clients, one per process in practice, that contend for one name.
    pub(crate) async fn contended(&self, table: &mut Table) -> Outcome<()> {
        let clients = self.connect_all([Mode::Fenced; 6]).await?;
        let contenders = clients.iter().map(|(_, client, _)| (client.clone(), "bench:contended".to_owned()));
        let per_second = throughput(contenders, DURATION).await?.per_second;
        let name = "share acquired in one round, 6 clients, one name";
        table.add(name, Goal::None, one_round_share(&clients), None);
        table.add("acquire + release per second, 6 clients, one name", Goal::None, per_second, None);
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
        let builder = if mode == Mode::Plain { builder.mode(quorlock::Mode::Plain) } else { builder };
        // Both modes have an observer, so that both have its cost.
        let client = builder
            .on_event(move |event| {
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

/// Adds the processor time of one acquire and its release.
fn add_cpu_time(table: &mut Table, title: &str, cpu_time: [CpuTime; 2], done: [f64; 2]) {
    let mut add = |process: &str, value: fn(&CpuTime) -> f64| {
        let name = format!("processor time of {process} for one acquire + release, {title} (us)");
        let [fenced, plain] = [0, 1].map(|mode| value(&cpu_time[mode]) / done[mode]);
        table.add(&name, Goal::None, fenced, Some(plain));
    };
    add("the caller", |time| time.caller);
    add("all five servers", |time| time.servers);
}

/// The share of fenced locks that were acquired in one round.
fn one_round_share(clients: &[Counted]) -> f64 {
    let sum = |count: fn(&Rounds) -> &AtomicU64| -> f64 {
        let fenced = clients.iter().filter(|(mode, ..)| *mode == Mode::Fenced);
        fenced.map(|(.., rounds)| count(rounds).load(Ordering::Relaxed)).sum::<u64>() as f64
    };
    sum(|rounds| &rounds.one) / sum(|rounds| &rounds.all)
}

/// The microseconds of every acquire, and of acquire plus release.
async fn acquire_sequentially(client: Redlock) -> Outcome<Vec<(f64, f64)>> {
    let mut micros = Vec::with_capacity(BATCH_SIZE);
    for _ in 0..BATCH_SIZE {
        let begin = Instant::now();
        let guard = client.mutex("bench:one").acquire().await?;
        let acquired = begin.elapsed();
        guard.release().await?;
        micros.push((acquired.as_secs_f64() * 1e6, begin.elapsed().as_secs_f64() * 1e6));
    }
    Ok(micros)
}

/// How many times all tasks together acquired and released their locks.
struct Throughput {
    done: f64,
    per_second: f64,
}

/// Each task acquires and releases its name repeatedly for this duration.
async fn throughput(
    tasks: impl Iterator<Item = (Redlock, String)>,
    duration: Duration,
) -> Outcome<Throughput> {
    let begin = Instant::now();
    let tasks = tasks.map(|(client, name)| {
        tokio::spawn(async move {
            let mut done = 0_u64;
            while begin.elapsed() < duration {
                client.mutex(&*name).acquire().await?.release().await?;
                done += 1;
            }
            Outcome::Ok(done)
        })
    });
    let counts = try_join_all(tasks).await?;
    let done = counts.into_iter().sum::<Outcome<u64>>()? as f64;
    Ok(Throughput { done, per_second: done / begin.elapsed().as_secs_f64() })
}

/// The number of batches per mode and round.
const BATCHES: u32 = 10;
/// The number of acquires in a batch of one task.
const BATCH_SIZE: usize = 100;
const FRESH_NAMES: usize = 1000;
const DURATION: Duration = Duration::from_secs(1);
