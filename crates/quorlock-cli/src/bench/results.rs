//! The results: computes the reported numbers from the recorded times.

use quorlock::node::ServerVersion;
use serde::Serialize;

use super::bench_plan::BenchPlan;
use super::compute::{changes, chart_data, contention, cost, killed, nodes, throughput};
use super::leak_check::Leftovers;
use super::load::LoadResult;
use super::percentiles::{Percentiles, round_to_tenths, round_to_thousandths};
use super::probe::ProbeSample;
use super::progress_state::{NodeChange, Phase, ProgressState};
use super::recorder::PhaseRecord;
use super::verdict;
use crate::about::{about, command_line};

/// All results.
#[derive(Debug, Default, Serialize)]
pub(super) struct Results {
    pub(super) verdict: String,
    /// Further notes.
    pub(super) notes: Vec<String>,
    /// When and where the benchmark ran.
    pub(super) description: String,
    /// The command line.
    pub(super) command: String,
    /// Whether the benchmark was interrupted.
    pub(super) interrupted: bool,
    pub(super) quorum: usize,
    pub(super) mode: &'static str,
    pub(super) tasks: usize,
    pub(super) keys: usize,
    pub(super) hold_us: f64,
    pub(super) ttl_ms: u64,
    pub(super) max_ttl_ms: Option<u64>,
    pub(super) cost: Cost,
    pub(super) alone: PhaseResult,
    pub(super) load: PhaseResult,
    /// The three phases of the load, if a node was killed.
    pub(super) killed: Option<Killed>,
    pub(super) throughput: Throughput,
    pub(super) contention: Option<Contention>,
    pub(super) nodes: Vec<Node>,
    /// Changes at the nodes that the run did not cause.
    pub(super) changes: Vec<Change>,
    pub(super) leftovers: Leftovers,
    pub(super) lost: u64,
    pub(super) unconfirmed_releases: u64,
    /// Attempts that found no quorum, or too late.
    pub(super) failed_attempts: u64,
    /// The data of the page's plots.
    #[serde(skip)]
    pub(super) chart: ChartData,
}

/// The cost of one lock without other load, compared with the nodes' times. None without a lock or a probe.
#[derive(Debug, Default, Serialize)]
pub(super) struct Cost {
    pub(super) acquire_us: Option<f64>,
    pub(super) release_us: Option<f64>,
    /// The time of the q-th fastest node: how long until q have replied.
    pub(super) round_trip_us: Option<f64>,
    pub(super) acquire_above_round_trip_us: Option<f64>,
    pub(super) acquire_per_round_trip: Option<f64>,
    /// How long until q have written.
    pub(super) write_us: Option<f64>,
    pub(super) acquire_per_write: Option<f64>,
    /// An estimate of the cost if one of the q fastest nodes were dead.
    pub(super) acquire_without_one_us: Option<f64>,
}

/// A phase of the run.
#[derive(Debug, Default, Serialize)]
pub(super) struct PhaseResult {
    pub(super) seconds: f64,
    pub(super) locks: u64,
    /// None for one task alone, because it alternates with probes.
    pub(super) locks_per_second: Option<f64>,
    pub(super) acquire: Option<Percentiles>,
    pub(super) release: Option<Percentiles>,
}

/// The effect of a dead node.
#[derive(Debug, Default, Serialize)]
pub(super) struct Killed {
    pub(super) node: String,
    pub(super) before: PhaseResult,
    pub(super) down: PhaseResult,
    pub(super) back: PhaseResult,
    /// How long after its restart it voted again; none if not by the end.
    pub(super) votes_after_seconds: Option<f64>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Throughput {
    pub(super) locks_per_second: f64,
    pub(super) client_cpu_us_per_lock: Option<f64>,
    /// Over all nodes together.
    pub(super) commands_per_lock: Option<f64>,
    /// The locks of the task with the fewest.
    pub(super) min_per_task: u64,
    /// The locks of the task with the most.
    pub(super) max_per_task: u64,
    pub(super) max_per_min: Option<f64>,
    /// The number of tasks that were waiting at the end.
    pub(super) waiting_at_the_end: usize,
    /// The longest wait of these tasks.
    pub(super) longest_waiting_us: f64,
}

/// Times where tasks wait for each other.
#[derive(Debug, Default, Serialize)]
pub(super) struct Contention {
    /// The share of the time in which a key was held.
    pub(super) held_share: f64,
    pub(super) held: Option<Percentiles>,
    /// From the release of a key to its grant to the next task.
    pub(super) hand_off: Option<Percentiles>,
    /// Hand-overs per second of each key.
    pub(super) hand_offs_per_second: f64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Node {
    #[serde(rename = "node")]
    pub(super) address: String,
    pub(super) server: Option<ServerVersion>,
    pub(super) is_voting: bool,
    /// 1 is the fastest. None without a reply.
    pub(super) rank: Option<usize>,
    pub(super) alone: Times,
    pub(super) load: Times,
    pub(super) samples: usize,
    pub(super) missing_replies: usize,
}

/// A node went down, came up, or must not vote for a while.
#[derive(Debug, Default, Serialize)]
pub(super) struct Change {
    /// Since the beginning.
    pub(super) seconds: f64,
    pub(super) node: String,
    pub(super) what: &'static str,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Times {
    pub(super) round_trip: Option<Percentiles>,
    pub(super) write: Option<Percentiles>,
}

/// The data of the plots.
#[derive(Debug, Default, Serialize)]
pub(super) struct ChartData {
    pub(super) seconds: f64,
    pub(super) alone_seconds: f64,
    /// Middle of the slice, p50, p99, the longest, and locks a second.
    pub(super) slices: Vec<(f64, f64, f64, f64, f64)>,
    pub(super) curves: Vec<(String, Vec<(f64, f64)>)>,
    /// For each node, times with the median round trip; none without a reply.
    pub(super) nodes: Vec<Vec<(f64, Option<f64>)>>,
    /// When a node was killed, when it was restarted, which node, and when it voted again, if it did.
    pub(super) killed: Option<(f64, f64, String, Option<f64>)>,
}

/// All recorded data.
pub(super) struct Measurements<'a> {
    pub(super) plan: &'a BenchPlan,
    pub(super) progress: &'a ProgressState,
    pub(super) load: &'a LoadResult,
    pub(super) samples: &'a [Vec<ProbeSample>],
    pub(super) changes: Vec<NodeChange>,
    /// The index of the killed node.
    pub(super) killed: Option<usize>,
    pub(super) failed: u64,
    pub(super) left: Leftovers,
    pub(super) is_interrupted: bool,
}

impl Results {
    pub(super) fn of(measurements: &Measurements<'_>) -> Self {
        let Measurements { plan, progress, load: load_result, .. } = measurements;
        let records = &load_result.recorder.phases;
        let [_, together, down, back] = records;
        let all = together.clone().merge(down).merge(back);
        let span = |phase| progress.span(phase).unwrap_or_default();
        let load_span = (span(Phase::Load).0, span(Phase::NodeBack).1.max(span(Phase::Load).1));
        let nodes = nodes(measurements, span(Phase::Alone), load_span);
        let alone = PhaseResult {
            locks_per_second: None,
            ..PhaseResult::of(&records[Phase::Alone.index()], span(Phase::Alone))
        };
        let load = PhaseResult::of(&all, load_span);
        let mut results = Self {
            verdict: String::new(),
            notes: Vec::new(),
            description: about(),
            command: command_line(std::env::args_os()),
            interrupted: measurements.is_interrupted,
            quorum: plan.quorum,
            mode: if plan.max_ttl.is_some() { "fenced" } else { "plain" },
            tasks: plan.tasks,
            keys: plan.keys,
            hold_us: plan.hold.as_secs_f64() * 1e6,
            ttl_ms: plan.ttl.as_millis() as u64,
            max_ttl_ms: plan.max_ttl.map(|longest| longest.as_millis() as u64),
            cost: cost(measurements, &alone, &nodes),
            throughput: throughput(load_result, &load),
            contention: plan.is_contended().then(|| contention(&all, &load, plan.keys)),
            killed: measurements.killed.map(|node| killed(measurements, node)),
            lost: records.iter().map(|record| record.lost).sum(),
            unconfirmed_releases: records.iter().map(|record| record.unconfirmed).sum(),
            failed_attempts: measurements.failed,
            chart: ChartData::default(),
            changes: changes(measurements),
            leftovers: measurements.left.clone(),
            alone,
            load,
            nodes,
        };
        results.chart = chart_data(measurements, &all, results.killed.as_ref());
        results.verdict = verdict::verdict(&results);
        results.notes = verdict::notes(&results);
        results
    }
}

impl PhaseResult {
    pub(super) fn of(share: &PhaseRecord, (from, to): (u64, u64)) -> Self {
        let seconds = round_to_thousandths(to.saturating_sub(from) as f64 / 1e9);
        let locks = share.acquire.len();
        Self {
            seconds,
            locks,
            locks_per_second: (seconds > 0.0).then(|| round_to_tenths(locks as f64 / seconds)),
            acquire: Percentiles::of(&share.acquire),
            release: Percentiles::of(&share.release),
        }
    }
}

impl Node {
    /// Its median without other load, in microseconds.
    pub(super) fn round_trip(&self) -> Option<f64> {
        self.alone.round_trip.map(|percentiles| percentiles.p50_us)
    }
}
