//! What an acquisition costs a server: all that `INFO commandstats` books as `EVALSHA`, while nothing but acquisitions
//! runs.
//!
//! The locks of a batch are taken and held; the figures are read; only then are the locks released, since a release is
//! an `EVALSHA` too. The reference is an `EVALSHA` of nothing but `SET NX PX`, on the same servers.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use peers::Outcome;
use peers::by_hand::{ByHand, Lock};
use quorlock::{Guard, Redlock};
use quorlock_chaos::Fleet;
use tokio::time::sleep;

use crate::caller::Mode;
use crate::table::{Goal, Table};

/// The servers, with both clients connected.
pub(crate) struct Servers<'a> {
    fleet: &'a Fleet,
    fenced: Redlock,
    bare: ByHand,
}

/// How many acquisitions are under way at once. A busy server does a command in less time than an idle one, since
/// its code and data are in the caches, so no figure is of any use without it.
#[derive(Clone, Copy)]
pub(crate) struct Sending {
    name: &'static str,
    at_once: usize,
    goal: Goal,
}

impl Sending {
    pub(crate) const ALL: [Self; 2] = [
        Self { name: "one at a time", at_once: 1, goal: Goal::AtMost(2.8) },
        Self { name: "64 at once", at_once: 64, goal: Goal::None },
    ];
}

/// What a batch costs, or several.
#[derive(Default)]
struct Cost {
    server_micros: f64,
    /// More than one for each lock and node if there were second rounds.
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
        sending: Sending,
        order: [Mode; 2],
    ) -> Outcome<()> {
        let (mut fenced, mut bare) = (Cost::default(), Cost::default());
        for batch in 0..=BATCHES {
            for mode in order {
                let (sum, cost) = match mode {
                    Mode::Fenced => (&mut fenced, self.fenced(sending).await?),
                    Mode::Plain => (&mut bare, self.bare(sending).await?),
                };
                // The first one is to warm up, and gives every name its fence.
                if batch > 0 {
                    sum.server_micros += cost.server_micros;
                    sum.calls += cost.calls;
                    sum.caller += cost.caller;
                }
            }
        }
        let acquisitions = (NAMES * BATCHES) as f64;
        let answers = acquisitions * self.fleet.len() as f64;
        let mut put = |name: &str, goal, figure: &dyn Fn(&Cost) -> f64| {
            let name = format!("{name}, {nodes}, {}", sending.name);
            table.put(&name, goal, figure(&fenced), Some(figure(&bare)));
        };
        put("server time per node and acquisition (us)", sending.goal, &|cost| cost.server_micros / answers);
        put("EVALSHA calls per node and acquisition", Goal::None, &|cost| cost.calls / answers);
        put("pace of these acquisitions (us)", Goal::None, &|cost| {
            cost.caller.as_secs_f64() * 1e6 / acquisitions
        });
        Ok(())
    }

    async fn fenced(&self, sending: Sending) -> Outcome<Cost> {
        // Nothing but acquisitions: no renewal comes in between.
        let acquire = async |name| {
            let lock = self.fenced.mutex(name).ttl(TTL).auto_renew(false);
            Ok(lock.acquire().await?)
        };
        let release = async |guard: Guard| {
            guard.release().await?;
            Ok(())
        };
        self.batch("fenced", sending, acquire, release).await
    }

    async fn bare(&self, sending: Sending) -> Outcome<Cost> {
        let acquire = async |name: String| self.bare.acquire_by_script(&name, TTL).await;
        self.batch("bare", sending, acquire, async |lock: Lock| lock.release().await).await
    }

    async fn batch<L>(
        &self,
        who: &str,
        sending: Sending,
        acquire: impl AsyncFn(String) -> Outcome<L>,
        release: impl AsyncFn(L) -> Outcome<()>,
    ) -> Outcome<Cost> {
        for server in self.fleet.servers() {
            server.command::<()>(&["CONFIG", "RESETSTAT"])?;
        }
        let begin = Instant::now();
        let names = stream::iter(0..NAMES).map(|place| acquire(format!("bench:{who}:{place}")));
        let locks: Vec<L> = names.buffer_unordered(sending.at_once).try_collect().await?;
        let caller = begin.elapsed();
        let (calls, server_micros) = self.booked().await?;
        stream::iter(locks).map(|lock| release(lock)).buffer_unordered(64).try_collect::<()>().await?;
        Ok(Cost { server_micros, calls, caller })
    }

    /// Calls and microseconds of `EVALSHA` on all nodes together, after the late replies are in.
    async fn booked(&self) -> Outcome<(f64, f64)> {
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
                    _ if begin.elapsed() > PATIENCE => return Err("a node did not hear of every lock".into()),
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
const PATIENCE: Duration = Duration::from_secs(5);
