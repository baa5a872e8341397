//! The load: tasks acquire and release locks in a loop, first one task, then all. They run on one thread, as
//! in most programs.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorlock::node::NodeStatus;
use quorlock::{CancellationToken, Redlock, RedlockBuilder};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Duration, sleep};

use super::bench_plan::BenchPlan;
use super::pause::Timer;
use super::probe::Rounds;
use super::progress_state::{EventCounter, Phase, ProgressState};
use super::recorder::{LockSample, Recorder};
use crate::exit::{self, Failure};
use crate::nodes;
use crate::reaper::boot_nanos;

/// What the load recorded.
pub(super) struct LoadResult {
    pub(super) recorder: Recorder,
    /// The nodes' states at the beginning.
    pub(super) nodes: Vec<NodeStatus>,
    /// Processor time of the client while all tasks ran.
    pub(super) cpu: Duration,
    /// The number of replies in that time.
    pub(super) commands: u64,
    /// Keys that may still be on nodes, because their release is pending: each with its node, or none.
    pub(super) pending_releases: Vec<(String, Option<String>)>,
}

/// The state that the tasks share.
struct Workload {
    plan: BenchPlan,
    redlock: Redlock,
    pauses: Timer,
    recorder: Mutex<Recorder>,
    progress: Arc<ProgressState>,
}

/// Runs the load on the current thread, the only one that the locks use.
pub(super) fn run(
    builder: RedlockBuilder,
    plan: &BenchPlan,
    progress: &Arc<ProgressState>,
    event_counter: &Arc<EventCounter>,
    rounds: Rounds,
) -> Result<LoadResult, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::SOFTWARE, format!("no runtime: {error}")))?;
    let load_result = runtime.block_on(measure(builder, plan, progress, event_counter, rounds));
    // Also after an error: the other threads wait for it.
    progress.end();
    load_result
}

async fn measure(
    builder: RedlockBuilder,
    plan: &BenchPlan,
    progress: &Arc<ProgressState>,
    event_counter: &Arc<EventCounter>,
    rounds: Rounds,
) -> Result<LoadResult, Failure> {
    let event_listener = Arc::clone(event_counter);
    let redlock = builder.on_event(move |event| event_listener.on_event(event)).connect_lazy()?;
    let nodes = redlock.node_status().await;
    check(&nodes, plan)?;
    // The first locks are slower than all later ones (pages that are not in memory yet) and do not count.
    for _ in 0..WARM_UP {
        let lock = redlock.mutex(plan.name(0)).ttl(plan.ttl).wait_timeout(FIRST_WAIT);
        lock.acquire()
            .await?
            .release()
            .await
            .map_err(|error| Failure::new(exit::NO_QUORUM, error.to_string()))?;
    }
    let workload = Arc::new(Workload {
        plan: plan.clone(),
        redlock: redlock.clone(),
        pauses: Timer::start()
            .map_err(|error| Failure::new(exit::SOFTWARE, format!("no thread: {error}")))?,
        recorder: Mutex::new(Recorder::new(plan.tasks, plan.keys, boot_nanos(), plan.total())),
        progress: Arc::clone(progress),
    });
    let phases = workload.run_phases(event_counter, rounds).await;
    progress.end();
    // Also after an error: no key may be left behind.
    let pending_releases = redlock.shutdown(DRAIN).await.err().map_or_else(Vec::new, |error| {
        let unfinished =
            error.pending_releases.into_iter().map(|it| (it.key.to_string(), Some(it.node.to_string())));
        unfinished.chain(error.held_locks.into_iter().map(|key| (key.to_string(), None))).collect()
    });
    let (commands, cpu) = phases?;
    let recorder = std::mem::replace(&mut *workload.recorder(), Recorder::new(0, 0, 0, Duration::ZERO));
    Ok(LoadResult { recorder, nodes, cpu, commands, pending_releases })
}

/// Checks that locks can be granted at all, before anything is counted.
fn check(nodes: &[NodeStatus], plan: &BenchPlan) -> Result<(), Failure> {
    if nodes::are_uninitialized(nodes) {
        let message = "these nodes are not initialized as a lock cluster, and bench does not initialize them: run `quorlock init` once";
        return Err(Failure::new(exit::NO_QUORUM, message));
    }
    let voting = nodes::voting(nodes);
    if voting >= plan.quorum {
        return Ok(());
    }
    let lines = nodes.iter().filter(|node| !node.is_voting()).map(|node| format!("\n  {node}"));
    let message = format!(
        "{voting} of {} nodes vote and {} must:{}",
        nodes.len(),
        plan.quorum,
        lines.collect::<String>()
    );
    Err(Failure::new(exit::code_of_exclusions(nodes).unwrap_or(exit::NO_QUORUM), message))
}

impl Workload {
    /// Runs one task, then all. Returns the number of replies and the client's processor time while all ran.
    async fn run_phases(
        self: &Arc<Self>,
        event_counter: &EventCounter,
        rounds: Rounds,
    ) -> Result<(u64, Duration), Failure> {
        self.progress.enter(Phase::Alone);
        self.run_phase(1, self.plan.alone, Some(rounds)).await?;
        self.progress.enter(Phase::Load);
        let (replies_before, cpu_before) = (event_counter.replies(), cpu());
        self.run_phase(self.plan.tasks, self.plan.load, None).await?;
        Ok((event_counter.replies() - replies_before, cpu().saturating_sub(cpu_before)))
    }

    /// Runs this many tasks for this long, or until the run ends.
    async fn run_phase(
        self: &Arc<Self>,
        tasks: usize,
        duration: Duration,
        rounds: Option<Rounds>,
    ) -> Result<(), Failure> {
        let phase_end = self.progress.stop.child_token();
        let mut running = JoinSet::new();
        for task in 0..tasks {
            running.spawn(Arc::clone(self).run_cycles(task, phase_end.clone(), rounds.clone()));
        }
        drop(rounds);
        let mut timer = pin!(sleep(duration));
        let mut failure = None;
        loop {
            tokio::select! {
                () = &mut timer, if !phase_end.is_cancelled() => phase_end.cancel(),
                ended = running.join_next() => {
                    let Some(ended) = ended else { break };
                    let panicked = |error: JoinError| Err(Failure::new(exit::SOFTWARE, error.to_string()));
                    if let Err(error) = ended.unwrap_or_else(panicked) {
                        failure.get_or_insert(error);
                        phase_end.cancel();
                    }
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Acquires and releases locks, alternating with probes of the nodes if `rounds` is given.
    async fn run_cycles(
        self: Arc<Self>,
        task: usize,
        phase_end: CancellationToken,
        rounds: Option<Rounds>,
    ) -> Result<(), Failure> {
        let key = task % self.plan.keys;
        let lock = self.redlock.mutex(self.plan.name(key)).ttl(self.plan.ttl);
        let mut phase_ended = pin!(phase_end.cancelled());
        let mut next_probes_at = 0;
        while !phase_end.is_cancelled() {
            let requested_at = boot_nanos();
            let guard = tokio::select! {
                guard = lock.acquire() => guard?,
                () = &mut phase_ended => {
                    self.recorder().unserved.push(boot_nanos() - requested_at);
                    break;
                }
            };
            let granted_at = boot_nanos();
            if !self.plan.hold.is_zero() {
                self.pauses.pause(self.plan.hold).await;
            }
            let release_began_at = boot_nanos();
            let was_lost = !guard.is_valid();
            let is_confirmed = guard.release().await.is_ok();
            let released_at = boot_nanos();
            let sample = LockSample {
                task,
                key,
                requested_at,
                granted_at,
                release_began_at,
                released_at,
                was_lost,
                is_confirmed,
            };
            self.progress.locks.fetch_add(1, Ordering::Relaxed);
            self.recorder().record(self.progress.phase(), sample);
            if let Some(rounds) = rounds.as_ref().filter(|_| released_at >= next_probes_at) {
                let (done_sender, done) = oneshot::channel();
                // If the probes have ended, they report why themselves.
                if rounds.send(done_sender).await.is_ok() {
                    let _ = done.await;
                }
                // Locks get as much time as the round took. Otherwise a slow node, which makes rounds long,
                // would leave few locks.
                let probed_at = boot_nanos();
                next_probes_at = probed_at + (probed_at - released_at);
            }
        }
        Ok(())
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The processor time that this thread has used.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

const WARM_UP: u32 = 20;
const FIRST_WAIT: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(5);
