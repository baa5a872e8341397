//! Measures what an acquire costs a server: the time of `EVALSHA` in `INFO commandstats`, while only acquires
//! run.
//!
//! The locks of a batch are acquired and held, then the counts are read. Only then the locks are released,
//! because a release is an `EVALSHA` too. The reference is an `EVALSHA` of only `SET NX PX`, on the same
//! servers.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use peers::Outcome;
use peers::by_hand::{ByHand, Lock};
use quorlock::{Guard, Redlock};
use quorlock_chaos::Fleet;
use tokio::time::sleep;

use crate::caller::Mode;
use crate::table::{Goal, Table};

/// The servers, and both connected clients.
pub(crate) struct Servers<'a> {
    fleet: &'a Fleet,
    fenced: Redlock,
    bare: ByHand,
}

/// How many acquires run at the same time. A value is meaningful only with it: a busy server executes a
/// command in less time than an idle one, because code and data are in its caches.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    name: &'static str,
    concurrency: usize,
    goal: Goal,
}

impl Load {
    pub(crate) const ALL: [Self; 2] = [
        Self { name: "one at a time", concurrency: 1, goal: Goal::AtMost(2.8) },
        Self { name: "64 at once", concurrency: 64, goal: Goal::None },
    ];
}

/// The cost of one or more batches.
#[derive(Default)]
struct Cost {
    server_micros: f64,
    /// With second rounds, more than one per lock and node.
    calls: f64,
    caller: Duration,
}

impl<'a> Servers<'a> {
    pub(crate) async fn connect(fleet: &'a Fleet) -> Outcome<Self> {
        let fenced = Redlock::builder().nodes(fleet.urls()).connect().await?;
        Ok(Self { fleet, fenced, bare: ByHand::connect(&fleet.urls()).await? })
    }

    pub(crate) async fn measure(
        &self,
        table: &mut Table,
        nodes: &str,
        load: Load,
        order: [Mode; 2],
    ) -> Outcome<()> {
        let (mut fenced, mut bare) = (Cost::default(), Cost::default());
        for batch in 0..=BATCHES {
            for mode in order {
                let (sum, cost) = match mode {
                    Mode::Fenced => (&mut fenced, self.fenced(load).await?),
                    Mode::Plain => (&mut bare, self.bare(load).await?),
                };
                // The first batch is a warm-up, and installs the fence of every name.
                if batch > 0 {
                    sum.server_micros += cost.server_micros;
                    sum.calls += cost.calls;
                    sum.caller += cost.caller;
                }
            }
        }
        let acquisitions = (NAMES * BATCHES) as f64;
        let replies = acquisitions * self.fleet.len() as f64;
        let mut add = |name: &str, goal, value: &dyn Fn(&Cost) -> f64| {
            let name = format!("{name}, {nodes}, {}", load.name);
            table.add(&name, goal, value(&fenced), Some(value(&bare)));
        };
        add("server time per node and acquisition (us)", load.goal, &|cost| cost.server_micros / replies);
        add("EVALSHA calls per node and acquisition", Goal::None, &|cost| cost.calls / replies);
        add("pace of these acquisitions (us)", Goal::None, &|cost| {
            cost.caller.as_secs_f64() * 1e6 / acquisitions
        });
        Ok(())
    }

    async fn fenced(&self, load: Load) -> Outcome<Cost> {
        // Without renewals, so that only acquires run.
        let acquire = async |name| {
            let lock = self.fenced.mutex(name).ttl(TTL).auto_renew(false);
            Ok(lock.acquire().await?)
        };
        let release = async |guard: Guard| {
            guard.release().await?;
            Ok(())
        };
        self.batch("fenced", load, acquire, release).await
    }

    async fn bare(&self, load: Load) -> Outcome<Cost> {
        let acquire = async |name: String| self.bare.acquire_by_script(&name, TTL).await;
        self.batch("bare", load, acquire, async |lock: Lock| lock.release().await).await
    }

    async fn batch<L>(
        &self,
        label: &str,
        load: Load,
        acquire: impl AsyncFn(String) -> Outcome<L>,
        release: impl AsyncFn(L) -> Outcome<()>,
    ) -> Outcome<Cost> {
        for server in self.fleet.servers() {
            server.command::<()>(&["CONFIG", "RESETSTAT"])?;
        }
        let begin = Instant::now();
        let names = stream::iter(0..NAMES).map(|number| acquire(format!("bench:{label}:{number}")));
        let locks: Vec<L> = names.buffer_unordered(load.concurrency).try_collect().await?;
        let caller = begin.elapsed();
        let (calls, server_micros) = self.evalsha_stats().await?;
        stream::iter(locks).map(|lock| release(lock)).buffer_unordered(64).try_collect::<()>().await?;
        Ok(Cost { server_micros, calls, caller })
    }

    /// Sums up calls and microseconds of `EVALSHA` on all nodes, once every node has executed every acquire.
    async fn evalsha_stats(&self) -> Outcome<(f64, f64)> {
        let mut sum = (0.0, 0.0);
        for server in self.fleet.servers() {
            let begin = Instant::now();
            let (calls, micros) = loop {
                let info: String = server.command(&["INFO", "commandstats"])?;
                let field = |name: &str| -> Option<f64> {
                    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:"))?;
                    line.split(',').find_map(|field| field.strip_prefix(name))?.parse().ok()
                };
                match (field("calls="), field("usec=")) {
                    (Some(calls), Some(micros)) if calls >= NAMES as f64 => break (calls, micros),
                    _ if begin.elapsed() > TIMEOUT => {
                        return Err("a node did not receive every acquire".into());
                    }
                    _ => sleep(Duration::from_millis(1)).await,
                }
            };
            sum = (sum.0 + calls, sum.1 + micros);
        }
        Ok(sum)
    }
}

const NAMES: usize = 200;
const BATCHES: usize = 10;
const TTL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(5);
