//! Computes each result from the recorded times.

use quorlock::NodeStatus;

use super::load::LoadResult;
use super::percentiles::{Percentiles, curve, round_to_tenths, round_to_thousandths};
use super::probe::ProbeSample;
use super::progress_state::{NodeChange, Phase};
use super::recorder::{PhaseRecord, Recorder};
use super::results::{
    Change, ChartData, Contention, Cost, Killed, Measurements, Node, PhaseResult, Throughput, Times,
};

pub(super) fn nodes(counted: &Measurements<'_>, alone: (u64, u64), load: (u64, u64)) -> Vec<Node> {
    let times = |looks: &[ProbeSample], (from, to): (u64, u64)| {
        let within = || looks.iter().filter(move |look| (from..to).contains(&look.at));
        Times {
            round_trip: Percentiles::of_list(within().filter_map(|look| look.round_trip)),
            write: Percentiles::of_list(within().filter_map(|look| look.write)),
        }
    };
    let node = |(status, looks): (&NodeStatus, &Vec<ProbeSample>)| Node {
        address: status.address.clone(),
        server: status.server.clone(),
        votes: status.is_voting(),
        rank: None,
        alone: times(looks, alone),
        load: times(looks, load),
        samples: looks.len(),
        missing_replies: looks.iter().filter(|look| look.round_trip.is_none()).count(),
    };
    let mut nodes: Vec<Node> = counted.load.nodes.iter().zip(counted.samples).map(node).collect();
    let mut order: Vec<(usize, f64)> =
        nodes.iter().enumerate().filter_map(|(place, node)| Some((place, node.round_trip()?))).collect();
    order.sort_by(|one, other| one.1.total_cmp(&other.1));
    for (rank, (place, _)) in order.into_iter().enumerate() {
        nodes[place].rank = Some(rank + 1);
    }
    nodes
}

pub(super) fn cost(counted: &Measurements<'_>, alone: &PhaseResult, nodes: &[Node]) -> Cost {
    let quorum = counted.plan.quorum;
    let from_to = counted.progress.span(Phase::Alone).unwrap_or_default();
    let voting: Vec<&[ProbeSample]> = (counted.load.nodes.iter().zip(counted.samples))
        .filter_map(|(node, looks)| node.is_voting().then_some(looks.as_slice()))
        .collect();
    let nth = |time: fn(&ProbeSample) -> Option<u64>| {
        let times = nth_fastest_of_rounds(&voting, quorum, from_to, time);
        Percentiles::of_list(times).map(|spread| spread.p50_us).filter(|us| *us > 0.0)
    };
    let acquire = alone.acquire.map(|spread| spread.p50_us);
    let (trip, write) = (nth(|look| look.round_trip), nth(|look| look.write));
    // If one of the fastest nodes is dead, the lock waits for the next one's reply instead.
    let mut each: Vec<f64> = nodes.iter().filter(|node| node.votes).filter_map(Node::round_trip).collect();
    each.sort_by(f64::total_cmp);
    let more = each.get(quorum).map(|next| next - each[quorum - 1]);
    Cost {
        acquire_us: acquire,
        release_us: alone.release.map(|spread| spread.p50_us),
        round_trip_us: trip,
        acquire_above_round_trip_us: acquire.zip(trip).map(|(acquire, trip)| round_to_tenths(acquire - trip)),
        acquire_per_round_trip: acquire.zip(trip).map(|(acquire, trip)| round_to_thousandths(acquire / trip)),
        write_us: write,
        acquire_per_write: acquire.zip(write).map(|(acquire, write)| round_to_thousandths(acquire / write)),
        acquire_without_one_us: acquire.zip(more).map(|(acquire, more)| round_to_tenths(acquire + more)),
    }
}

/// The time of the q-th fastest node for each round of probes in this span, without rounds in which fewer replied.
fn nth_fastest_of_rounds(
    nodes: &[&[ProbeSample]],
    quorum: usize,
    (from, to): (u64, u64),
    time: fn(&ProbeSample) -> Option<u64>,
) -> Vec<u64> {
    let rounds = nodes.iter().map(|looks| looks.len()).min().unwrap_or(0);
    let nth = |round: usize| {
        let looks = nodes.iter().map(|looks| &looks[round]).filter(|look| (from..to).contains(&look.at));
        let mut times: Vec<u64> = looks.filter_map(time).collect();
        times.sort_unstable();
        times.get(quorum - 1).copied()
    };
    (0..rounds).filter_map(nth).collect()
}

pub(super) fn throughput(loaded: &LoadResult, load: &PhaseResult) -> Throughput {
    let Recorder { by_task, unserved, .. } = &loaded.recorder;
    let each = |all: f64| (load.locks > 0).then(|| round_to_thousandths(all / load.locks as f64));
    let (fewest, most) =
        (by_task.iter().copied().min().unwrap_or(0), by_task.iter().copied().max().unwrap_or(0));
    Throughput {
        locks_per_second: load.locks_per_second.unwrap_or_default(),
        client_cpu_us_per_lock: each(loaded.cpu.as_secs_f64() * 1e6),
        commands_per_lock: each(loaded.commands as f64),
        min_per_task: fewest,
        max_per_task: most,
        max_per_min: (fewest > 0).then(|| round_to_thousandths(most as f64 / fewest as f64)),
        waiting_at_the_end: unserved.len(),
        longest_waiting_us: unserved.iter().copied().max().unwrap_or(0) as f64 / 1e3,
    }
}

pub(super) fn contention(all: &PhaseRecord, load: &PhaseResult, keys: usize) -> Contention {
    let time = load.seconds * keys as f64;
    let each = |all: f64| if time > 0.0 { round_to_thousandths(all / time) } else { 0.0 };
    Contention {
        held_share: each(all.held_nanos as f64 / 1e9),
        held: Percentiles::of(&all.held),
        hand_over: Percentiles::of(&all.gap),
        hand_overs_per_second: each(all.gap.len() as f64),
    }
}

pub(super) fn killed(counted: &Measurements<'_>, place: usize) -> Killed {
    let shares = &counted.load.recorder.phases;
    let stretch =
        |part: Phase| PhaseResult::of(&shares[part.index()], counted.progress.span(part).unwrap_or_default());
    let node = &counted.load.nodes[place].address;
    // The last event of it since it was started again: up, or up and on probation until then.
    let back = counted.progress.began_at(Phase::NodeBack).unwrap_or(u64::MAX);
    let end = counted.progress.span(Phase::NodeBack).map_or(0, |span| span.1);
    let votes = counted.changes.iter().filter(|turn| &turn.node == node && turn.at >= back);
    let votes = votes.map(|turn| turn.at + turn.silent_nanos).max().filter(|at| *at <= end);
    Killed {
        node: node.clone(),
        before: stretch(Phase::Load),
        down: stretch(Phase::NodeDown),
        back: stretch(Phase::NodeBack),
        votes_after_seconds: votes.map(|at| round_to_thousandths((at - back) as f64 / 1e9)),
    }
}

/// The changes at the nodes after the start, without those of the killed node.
pub(super) fn changes(counted: &Measurements<'_>) -> Vec<Change> {
    let began = counted.progress.began_at(Phase::Alone).unwrap_or(u64::MAX);
    let end = Phase::ALL.iter().filter_map(|part| Some(counted.progress.span(*part)?.1)).max().unwrap_or(0);
    let killed = counted.killed.map(|place| counted.load.nodes[place].address.as_str());
    let within = counted.changes.iter().filter(|turn| (began..end).contains(&turn.at));
    let others = within.filter(|turn| Some(turn.node.as_str()) != killed);
    let change = |turn: &NodeChange| Change {
        seconds: round_to_thousandths((turn.at - began) as f64 / 1e9),
        node: turn.node.clone(),
        what: turn.what,
    };
    others.map(change).collect()
}

pub(super) fn chart_data(
    counted: &Measurements<'_>,
    all: &PhaseRecord,
    killed: Option<&Killed>,
) -> ChartData {
    let Some((began, load)) =
        counted.progress.began_at(Phase::Alone).zip(counted.progress.began_at(Phase::Load))
    else {
        return ChartData::default();
    };
    let tally = &counted.load.recorder;
    let end =
        Phase::ALL.iter().filter_map(|part| Some(counted.progress.span(*part)?.1)).max().unwrap_or(began);
    let seconds = |at: u64| at.saturating_sub(began) as f64 / 1e9;
    let slices = tally.slices.iter().enumerate().filter_map(|(place, slice)| {
        let spread = Percentiles::of(&slice.acquire)?;
        let middle = (place as f64 + 0.5) * tally.slice_seconds();
        Some((
            middle,
            spread.p50_us,
            spread.p99_us,
            spread.max_us,
            spread.count as f64 / tally.slice_seconds(),
        ))
    });
    let [alone, together, down, back] = &tally.phases;
    let tasks = quorlock_chaos::checker::counted(counted.plan.tasks, "task");
    let mut curves = vec![("acquire, alone".to_owned(), curve(&alone.acquire))];
    if counted.killed.is_some() {
        curves.push(("acquire, all nodes up".to_owned(), curve(&together.acquire)));
        curves.push(("acquire, one dead".to_owned(), curve(&down.acquire)));
        curves.push(("acquire, restarted".to_owned(), curve(&back.acquire)));
    } else {
        curves.push((format!("acquire, {tasks}"), curve(&all.acquire)));
        curves.push(("release, alone".to_owned(), curve(&alone.release)));
        curves.push((format!("release, {tasks}"), curve(&all.release)));
    }
    curves.retain(|(_, points)| !points.is_empty());
    let slice = tally.slice_seconds();
    let nodes = counted.samples.iter().map(|looks| medians(looks, began, slice)).collect();
    let killed = killed.zip(counted.progress.span(Phase::NodeDown)).map(|(killed, (from, to))| {
        let votes = killed.votes_after_seconds.map(|after| seconds(to) + after);
        (seconds(from), seconds(to), killed.node.clone(), votes)
    });
    ChartData {
        seconds: seconds(end),
        alone_seconds: seconds(load),
        slices: slices.collect(),
        curves,
        nodes,
        killed,
    }
}

/// The median of each slice, at its middle; a slice without a reply breaks the line.
fn medians(looks: &[ProbeSample], began: u64, slice: f64) -> Vec<(f64, Option<f64>)> {
    let place = |look: &ProbeSample| (look.at.saturating_sub(began) as f64 / 1e9 / slice) as usize;
    let looks: Vec<&ProbeSample> = looks.iter().filter(|look| look.at >= began).collect();
    let groups = looks.chunk_by(|one, other| place(one) == place(other));
    groups
        .map(|group| {
            let spread = Percentiles::of_list(group.iter().filter_map(|look| look.round_trip));
            ((place(group[0]) as f64 + 0.5) * slice, spread.map(|spread| spread.p50_us))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(trips: [Option<u64>; 3]) -> Vec<ProbeSample> {
        let look =
            |(round, round_trip)| ProbeSample { at: 100 * (round as u64 + 1), round_trip, write: None };
        trips.into_iter().enumerate().map(look).collect()
    }

    #[test]
    fn each_round_counts_by_its_own_q_th_fastest() {
        let nodes = [
            samples([Some(5), Some(9), Some(1)]),
            samples([Some(7), None, Some(1)]),
            samples([Some(90), Some(8), Some(1)]),
        ];
        let nodes = nodes.each_ref().map(Vec::as_slice);
        let times = |quorum, span| nth_fastest_of_rounds(&nodes, quorum, span, |look| look.round_trip);
        assert_eq!(times(2, (0, 250)), [7, 9], "the third round is out of the span");
        assert_eq!(times(3, (0, 1_000)), [90, 1], "the second had two answers only");
        assert!(nth_fastest_of_rounds(&nodes, 2, (0, 1_000), |look| look.write).is_empty());
    }

    #[test]
    fn a_slice_without_an_answer_breaks_the_line() {
        let looks = samples([Some(4_000), None, Some(6_000)]);
        assert_eq!(medians(&looks, 100, 1e-7), [(5e-8, Some(4.0)), (1.5e-7, None), (2.5e-7, Some(6.0))]);
    }
}
