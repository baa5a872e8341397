//! Probes each node alone: the round trip of a request, and the time of a write.
//!
//! For each node there is a client that knows no other node; all run on one thread. The request inspects a
//! name that is not held; the write is the plain lock on that one node. Only the probes use the name.
//!
//! While one task is alone, it alternates with the probes. Otherwise a node that is busy with the task's command
//! would delay the probe, which would then seem slower than the lock. All nodes are probed at once, as a
//! lock sends its requests at once. While all tasks run, each node is probed now and then, to see the effect
//! of the load.

use std::time::Duration;

use quorlock::error::ConnectError;
use quorlock::node::NodeReply;
use quorlock::{CancellationToken, Redlock, RedlockBuilder};
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

/// Probes all nodes in rounds as long as rounds are requested, and then each node until the run ends. Returns
/// the probes of each, in the order of the nodes.
pub(super) fn run(
    builder: &RedlockBuilder,
    urls: &[String],
    plan: &BenchPlan,
    mut rounds: mpsc::Receiver<oneshot::Sender<()>>,
    progress: &ProgressState,
) -> Result<Vec<Vec<ProbeSample>>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::SOFTWARE, format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let probes = urls.iter().enumerate().map(|(node, url)| {
            // A plain client shares no name with a fenced one, so it voids no probation.
            let builder = builder
                .clone()
                .nodes([url])
                .quorum(1)
                .mode(quorlock::Mode::Plain)
                .client_name("quorlock-bench-probe");
            let name = format!("{}:probe", plan.prefix);
            Ok(Probe { node, client: builder.connect_lazy()?, name, ttl: plan.ttl })
        });
        let probes: Vec<Probe> = probes.collect::<Result<_, ConnectError>>()?;
        let mut samples: Vec<Vec<ProbeSample>> = vec![Vec::new(); urls.len()];
        // One thread sends the requests, so one is always last: the order rotates.
        let mut rotation: Vec<&Probe> = probes.iter().collect();
        while let Some(done) = rounds.recv().await {
            rotation.rotate_left(1);
            let sample_of = |probe: &&Probe| {
                let probe = (*probe).clone();
                async move { (probe.node, vec![probe.sample().await]) }
            };
            let tasks: JoinSet<_> = rotation.iter().map(sample_of).collect();
            gather(tasks, &mut samples).await?;
            // The task that requested it may have ended meanwhile.
            let _ = done.send(());
        }
        let tasks: JoinSet<_> =
            probes.iter().cloned().map(|probe| probe.samples(urls.len(), progress.stop.clone())).collect();
        gather(tasks, &mut samples).await?;
        Ok(samples)
    })
}

async fn gather(
    mut tasks: JoinSet<(usize, Vec<ProbeSample>)>,
    samples: &mut [Vec<ProbeSample>],
) -> Result<(), Failure> {
    while let Some(ended) = tasks.join_next().await {
        let (node, new) = ended.map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?;
        samples[node].extend(new);
    }
    Ok(())
}

impl Probe {
    async fn samples(self, nodes: usize, run_ended: CancellationToken) -> (usize, Vec<ProbeSample>) {
        let mut samples = Vec::new();
        // Staggered, so that they do not collide on a machine that they share.
        let mut delay = INTERVAL.mul_f64(self.node as f64 / nodes as f64);
        loop {
            tokio::select! {
                () = run_ended.cancelled() => break,
                () = sleep(delay) => {}
            }
            delay = INTERVAL;
            samples.push(self.sample().await);
        }
        // A lock that it cannot release any more expires.
        let _ = self.client.shutdown(DRAIN).await;
        (self.node, samples)
    }

    async fn sample(&self) -> ProbeSample {
        let at = boot_nanos();
        let inspection = self.client.inspect(&self.name).await.ok();
        let replied = inspection
            .is_some_and(|it| it.nodes.iter().all(|node| matches!(node.reply, NodeReply::Inspected(_))));
        let round_trip = replied.then(|| boot_nanos() - at);
        let requested_at = boot_nanos();
        let guard = self.client.mutex(&self.name).ttl(self.ttl).try_acquire().await.ok().flatten();
        let write = guard.is_some().then(|| boot_nanos() - requested_at);
        if let Some(guard) = guard {
            // If unconfirmed, it is released in the background as soon as the node is reachable again.
            let _ = guard.release().await;
        }
        ProbeSample { at, round_trip, write }
    }
}

const INTERVAL: Duration = Duration::from_millis(25);
const DRAIN: Duration = Duration::from_secs(1);
