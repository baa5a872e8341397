//! Probes of each node by itself: how long a request and its reply take, and how long a write takes.
//!
//! Each node has a client of its own that knows no other node; all run on one thread. The request inspects a name that
//! is not held; the write is the plain lock on that one node. Only the probes use the name.
//!
//! While one task is alone, it alternates with the probes: a node that is busy with the task's command would delay the
//! probe, and the probe would then seem slower than the lock. All nodes are probed at once, as a lock sends its
//! requests at once. While all tasks run, each node is probed now and then, to see the effect of the load.

use std::time::Duration;

use quorlock::{CancellationToken, ConnectError, Redlock, RedlockBuilder, Vote};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::bench_plan::BenchPlan;
use super::progress_state::ProgressState;
use crate::exit::{self, Failure};
use crate::reaper::boot_nanos;

/// One probe of a node, times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeSample {
    /// When the request was sent, by the boot clock.
    pub(super) at: u64,
    /// None without a reply.
    pub(super) round_trip: Option<u64>,
    pub(super) write: Option<u64>,
}

/// Requests a round of probes, and is notified when it is over.
pub(super) type Rounds = mpsc::Sender<oneshot::Sender<()>>;

/// A node, and where it is in the list.
#[derive(Clone)]
struct Probe {
    node: usize,
    client: Redlock,
    name: String,
    ttl: Duration,
}

/// Probes all nodes in rounds as long as rounds are requested, and then each node until the run ends. Returns the
/// probes of each, in the order of the nodes.
pub(super) fn run(
    builder: &RedlockBuilder,
    urls: &[String],
    setting: &BenchPlan,
    mut rounds: mpsc::Receiver<oneshot::Sender<()>>,
    live: &ProgressState,
) -> Result<Vec<Vec<ProbeSample>>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::SOFTWARE, format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let probes = urls.iter().enumerate().map(|(place, url)| {
            // A plain client shares no name with a fenced one, so it voids no probation.
            let builder = builder.clone().nodes([url]).quorum(1).plain().client_name("quorlock-bench-probe");
            let name = format!("{}:probe", setting.prefix);
            Ok(Probe { node: place, client: builder.connect_lazy()?, name, ttl: setting.ttl })
        });
        let probes: Vec<Probe> = probes.collect::<Result<_, ConnectError>>()?;
        let mut looks: Vec<Vec<ProbeSample>> = vec![Vec::new(); urls.len()];
        // One thread sends the requests, so one is always last: the order rotates.
        let mut order: Vec<&Probe> = probes.iter().collect();
        while let Some(done) = rounds.recv().await {
            order.rotate_left(1);
            let one = |probe: &&Probe| {
                let probe = (*probe).clone();
                async move { (probe.node, vec![probe.sample().await]) }
            };
            let crew: JoinSet<_> = order.iter().map(one).collect();
            gather(crew, &mut looks).await?;
            // The task that requested it may have ended meanwhile.
            let _ = done.send(());
        }
        let crew: JoinSet<_> =
            probes.iter().cloned().map(|probe| probe.samples(urls.len(), live.stop.clone())).collect();
        gather(crew, &mut looks).await?;
        Ok(looks)
    })
}

async fn gather(
    mut crew: JoinSet<(usize, Vec<ProbeSample>)>,
    looks: &mut [Vec<ProbeSample>],
) -> Result<(), Failure> {
    while let Some(ended) = crew.join_next().await {
        let (place, found) = ended.map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?;
        looks[place].extend(found);
    }
    Ok(())
}

impl Probe {
    async fn samples(self, nodes: usize, over: CancellationToken) -> (usize, Vec<ProbeSample>) {
        let mut looks = Vec::new();
        // Staggered, so that they do not collide on a machine that they share.
        let mut pause = INTERVAL.mul_f64(self.node as f64 / nodes as f64);
        loop {
            tokio::select! {
                () = over.cancelled() => break,
                () = sleep(pause) => {}
            }
            pause = INTERVAL;
            looks.push(self.sample().await);
        }
        // A lock that it cannot release any more expires.
        let _ = self.client.shutdown(DRAIN).await;
        (self.node, looks)
    }

    async fn sample(&self) -> ProbeSample {
        let at = boot_nanos();
        let seen = self.client.inspect(&self.name).await.ok();
        let answered =
            seen.is_some_and(|it| it.nodes.iter().all(|node| matches!(node.reply, Vote::Inspected(_))));
        let round_trip = answered.then(|| boot_nanos() - at);
        let asked = boot_nanos();
        let guard = self.client.mutex(&self.name).ttl(self.ttl).try_acquire().await.ok().flatten();
        let write = guard.is_some().then(|| boot_nanos() - asked);
        if let Some(guard) = guard {
            // If unconfirmed, it is released in the background as soon as the node is reachable again.
            let _ = guard.release().await;
        }
        ProbeSample { at, round_trip, write }
    }
}

const INTERVAL: Duration = Duration::from_millis(25);
const DRAIN: Duration = Duration::from_secs(1);
