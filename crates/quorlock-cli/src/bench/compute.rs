//! Computes each result from the recorded times.

use quorlock::node::NodeStatus;

use super::load::LoadResult;
use super::percentiles::{Percentiles, curve, round_to_tenths, round_to_thousandths};
use super::probe::ProbeSample;
use super::progress_state::{NodeChange, Phase};
use super::recorder::{PhaseRecord, Recorder};
use super::results::{
    Change, ChartData, Contention, Cost, Killed, Measurements, Node, PhaseResult, Throughput, Times,
};

pub(super) fn nodes(measurements: &Measurements<'_>, alone: (u64, u64), load: (u64, u64)) -> Vec<Node> {
    let times = |samples: &[ProbeSample], (from, to): (u64, u64)| {
        let within = || samples.iter().filter(move |sample| (from..to).contains(&sample.at));
        Times {
            round_trip: Percentiles::of_list(within().filter_map(|sample| sample.round_trip)),
            write: Percentiles::of_list(within().filter_map(|sample| sample.write)),
        }
    };
    let node = |(status, samples): (&NodeStatus, &Vec<ProbeSample>)| Node {
        address: status.address.to_string(),
        server: status.server.clone(),
        is_voting: status.is_voting(),
        rank: None,
        alone: times(samples, alone),
        load: times(samples, load),
        samples: samples.len(),
        missing_replies: samples.iter().filter(|sample| sample.round_trip.is_none()).count(),
    };
    let mut nodes: Vec<Node> = measurements.load.nodes.iter().zip(measurements.samples).map(node).collect();
    let mut by_round_trip: Vec<(usize, f64)> =
        nodes.iter().enumerate().filter_map(|(index, node)| Some((index, node.round_trip()?))).collect();
    by_round_trip.sort_by(|one, other| one.1.total_cmp(&other.1));
    for (rank, (index, _)) in by_round_trip.into_iter().enumerate() {
        nodes[index].rank = Some(rank + 1);
    }
    nodes
}

pub(super) fn cost(measurements: &Measurements<'_>, alone: &PhaseResult, nodes: &[Node]) -> Cost {
    let quorum = measurements.plan.quorum;
    let span = measurements.progress.span(Phase::Alone).unwrap_or_default();
    let voting: Vec<&[ProbeSample]> = (measurements.load.nodes.iter().zip(measurements.samples))
        .filter_map(|(node, samples)| node.is_voting().then_some(samples.as_slice()))
        .collect();
    let nth = |time: fn(&ProbeSample) -> Option<u64>| {
        let times = nth_fastest_of_rounds(&voting, quorum, span, time);
        Percentiles::of_list(times).map(|percentiles| percentiles.p50_us).filter(|us| *us > 0.0)
    };
    let acquire = alone.acquire.map(|percentiles| percentiles.p50_us);
    let (round_trip, write) = (nth(|sample| sample.round_trip), nth(|sample| sample.write));
    // If one of the fastest nodes is dead, the lock waits for the next one's reply instead.
    let mut round_trips: Vec<f64> =
        nodes.iter().filter(|node| node.is_voting).filter_map(Node::round_trip).collect();
    round_trips.sort_by(f64::total_cmp);
    let extra = round_trips.get(quorum).map(|next| next - round_trips[quorum - 1]);
    Cost {
        acquire_us: acquire,
        release_us: alone.release.map(|percentiles| percentiles.p50_us),
        round_trip_us: round_trip,
        acquire_above_round_trip_us: acquire
            .zip(round_trip)
            .map(|(acquire, round_trip)| round_to_tenths(acquire - round_trip)),
        acquire_per_round_trip: acquire
            .zip(round_trip)
            .map(|(acquire, round_trip)| round_to_thousandths(acquire / round_trip)),
        write_us: write,
        acquire_per_write: acquire.zip(write).map(|(acquire, write)| round_to_thousandths(acquire / write)),
        acquire_without_one_us: acquire.zip(extra).map(|(acquire, extra)| round_to_tenths(acquire + extra)),
    }
}

/// The time of the q-th fastest node in each round of probes within the span.
/// Rounds with fewer replies do not count.
fn nth_fastest_of_rounds(
    nodes: &[&[ProbeSample]],
    quorum: usize,
    (from, to): (u64, u64),
    time: fn(&ProbeSample) -> Option<u64>,
) -> Vec<u64> {
    let rounds = nodes.iter().map(|samples| samples.len()).min().unwrap_or(0);
    let nth = |round: usize| {
        let samples =
            nodes.iter().map(|samples| &samples[round]).filter(|sample| (from..to).contains(&sample.at));
        let mut times: Vec<u64> = samples.filter_map(time).collect();
        times.sort_unstable();
        times.get(quorum - 1).copied()
    };
    (0..rounds).filter_map(nth).collect()
}

pub(super) fn throughput(load_result: &LoadResult, load: &PhaseResult) -> Throughput {
    let Recorder { by_task, unserved, .. } = &load_result.recorder;
    let per_lock = |all: f64| (load.locks > 0).then(|| round_to_thousandths(all / load.locks as f64));
    let (fewest, most) =
        (by_task.iter().copied().min().unwrap_or(0), by_task.iter().copied().max().unwrap_or(0));
    Throughput {
        locks_per_second: load.locks_per_second.unwrap_or_default(),
        client_cpu_us_per_lock: per_lock(load_result.cpu.as_secs_f64() * 1e6),
        commands_per_lock: per_lock(load_result.commands as f64),
        min_per_task: fewest,
        max_per_task: most,
        max_per_min: (fewest > 0).then(|| round_to_thousandths(most as f64 / fewest as f64)),
        waiting_at_the_end: unserved.len(),
        longest_waiting_us: unserved.iter().copied().max().unwrap_or(0) as f64 / 1e3,
    }
}

pub(super) fn contention(record: &PhaseRecord, load: &PhaseResult, keys: usize) -> Contention {
    let time = load.seconds * keys as f64;
    let per_key_second = |total: f64| if time > 0.0 { round_to_thousandths(total / time) } else { 0.0 };
    Contention {
        held_share: per_key_second(record.held_nanos as f64 / 1e9),
        held: Percentiles::of(&record.held),
        hand_off: Percentiles::of(&record.gap),
        hand_offs_per_second: per_key_second(record.gap.len() as f64),
    }
}

pub(super) fn killed(measurements: &Measurements<'_>, node: usize) -> Killed {
    let records = &measurements.load.recorder.phases;
    let phase_result = |phase: Phase| {
        PhaseResult::of(&records[phase.index()], measurements.progress.span(phase).unwrap_or_default())
    };
    let address = &measurements.load.nodes[node].address;
    // The time from its last event since the restart: up, or up and on probation for some time.
    let back = measurements.progress.began_at(Phase::NodeBack).unwrap_or(u64::MAX);
    let end = measurements.progress.span(Phase::NodeBack).map_or(0, |span| span.1);
    let voted_at =
        measurements.changes.iter().filter(|change| *change.node == **address && change.at >= back);
    let voted_at = voted_at.map(|change| change.at + change.probation_nanos).max().filter(|at| *at <= end);
    Killed {
        node: address.to_string(),
        before: phase_result(Phase::Load),
        down: phase_result(Phase::NodeDown),
        back: phase_result(Phase::NodeBack),
        votes_after_seconds: voted_at.map(|at| round_to_thousandths((at - back) as f64 / 1e9)),
    }
}

/// The changes at the nodes after the start, without those of the killed node.
pub(super) fn changes(measurements: &Measurements<'_>) -> Vec<Change> {
    let began_at = measurements.progress.began_at(Phase::Alone).unwrap_or(u64::MAX);
    let end =
        Phase::ALL.iter().filter_map(|phase| Some(measurements.progress.span(*phase)?.1)).max().unwrap_or(0);
    let killed = measurements.killed.map(|node| measurements.load.nodes[node].address.clone());
    let during_run = measurements.changes.iter().filter(|change| (began_at..end).contains(&change.at));
    let others = during_run.filter(|change| killed.as_deref() != Some(&*change.node));
    let change = |change: &NodeChange| Change {
        seconds: round_to_thousandths((change.at - began_at) as f64 / 1e9),
        node: change.node.clone(),
        what: change.what,
    };
    others.map(change).collect()
}

pub(super) fn chart_data(
    measurements: &Measurements<'_>,
    load_record: &PhaseRecord,
    killed: Option<&Killed>,
) -> ChartData {
    let Some((began_at, load_began_at)) =
        measurements.progress.began_at(Phase::Alone).zip(measurements.progress.began_at(Phase::Load))
    else {
        return ChartData::default();
    };
    let recorder = &measurements.load.recorder;
    let end = Phase::ALL
        .iter()
        .filter_map(|phase| Some(measurements.progress.span(*phase)?.1))
        .max()
        .unwrap_or(began_at);
    let seconds = |at: u64| at.saturating_sub(began_at) as f64 / 1e9;
    let slices = recorder.slices.iter().enumerate().filter_map(|(index, slice)| {
        let percentiles = Percentiles::of(&slice.acquire)?;
        let middle = (index as f64 + 0.5) * recorder.slice_seconds();
        Some((
            middle,
            percentiles.p50_us,
            percentiles.p99_us,
            percentiles.max_us,
            percentiles.count as f64 / recorder.slice_seconds(),
        ))
    });
    let [alone, load, down, back] = &recorder.phases;
    let tasks = quorlock_chaos::checker::counted(measurements.plan.tasks, "task");
    let mut curves = vec![("acquire, alone".to_owned(), curve(&alone.acquire))];
    if measurements.killed.is_some() {
        curves.push(("acquire, all nodes up".to_owned(), curve(&load.acquire)));
        curves.push(("acquire, one dead".to_owned(), curve(&down.acquire)));
        curves.push(("acquire, restarted".to_owned(), curve(&back.acquire)));
    } else {
        curves.push((format!("acquire, {tasks}"), curve(&load_record.acquire)));
        curves.push(("release, alone".to_owned(), curve(&alone.release)));
        curves.push((format!("release, {tasks}"), curve(&load_record.release)));
    }
    curves.retain(|(_, points)| !points.is_empty());
    let slice = recorder.slice_seconds();
    let nodes = measurements.samples.iter().map(|samples| medians(samples, began_at, slice)).collect();
    let killed = killed.zip(measurements.progress.span(Phase::NodeDown)).map(|(killed, (from, to))| {
        let voted_at = killed.votes_after_seconds.map(|after| seconds(to) + after);
        (seconds(from), seconds(to), killed.node.clone(), voted_at)
    });
    ChartData {
        seconds: seconds(end),
        alone_seconds: seconds(load_began_at),
        slices: slices.collect(),
        curves,
        nodes,
        killed,
    }
}

/// The median round trip of each slice, at its middle. A slice without a reply breaks the line.
fn medians(samples: &[ProbeSample], began_at: u64, slice: f64) -> Vec<(f64, Option<f64>)> {
    let slice_of = |sample: &ProbeSample| (sample.at.saturating_sub(began_at) as f64 / 1e9 / slice) as usize;
    let samples: Vec<&ProbeSample> = samples.iter().filter(|sample| sample.at >= began_at).collect();
    let groups = samples.chunk_by(|first, second| slice_of(first) == slice_of(second));
    groups
        .map(|group| {
            let percentiles = Percentiles::of_list(group.iter().filter_map(|sample| sample.round_trip));
            ((slice_of(group[0]) as f64 + 0.5) * slice, percentiles.map(|percentiles| percentiles.p50_us))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(trips: [Option<u64>; 3]) -> Vec<ProbeSample> {
        let sample =
            |(round, round_trip)| ProbeSample { at: 100 * (round as u64 + 1), round_trip, write: None };
        trips.into_iter().enumerate().map(sample).collect()
    }

    #[test]
    fn each_round_counts_by_its_own_q_th_fastest() {
        let nodes = [
            samples([Some(5), Some(9), Some(1)]),
            samples([Some(7), None, Some(1)]),
            samples([Some(90), Some(8), Some(1)]),
        ];
        let nodes = nodes.each_ref().map(Vec::as_slice);
        let times = |quorum, span| nth_fastest_of_rounds(&nodes, quorum, span, |sample| sample.round_trip);
        assert_eq!(times(2, (0, 250)), [7, 9], "the third round is out of the span");
        assert_eq!(times(3, (0, 1_000)), [90, 1], "the second round has two replies only");
        assert!(nth_fastest_of_rounds(&nodes, 2, (0, 1_000), |sample| sample.write).is_empty());
    }

    #[test]
    fn a_slice_without_a_reply_breaks_the_line() {
        let samples_of_a_node = samples([Some(4_000), None, Some(6_000)]);
        assert_eq!(
            medians(&samples_of_a_node, 100, 1e-7),
            [(5e-8, Some(4.0)), (1.5e-7, None), (2.5e-7, Some(6.0))]
        );
    }
}
