//! The verdict and the notes on the results.

use std::fmt::Write as _;

use quorlock_chaos::checker::counted;

use super::percentiles::time_text;
use super::results::{Killed, Node, Results};

/// The verdict in one line: the cost of a lock, compared with a round trip or a write.
pub(super) fn verdict(results: &Results) -> String {
    let cost = &results.cost;
    let Some((acquire, release)) = cost.acquire_us.zip(cost.release_us) else {
        return "no lock was granted".to_owned();
    };
    let node_name = ordinal(results.quorum, results.nodes.len());
    let comparison =
        match (cost.round_trip_us, cost.acquire_per_round_trip, cost.write_us, cost.acquire_per_write) {
            // Where the nodes' disks take much of the time, the round trip explains nothing.
            (Some(trip), _, Some(write), Some(times)) if write > trip * DISK => {
                format!(": {times:.2} times a plain write to {node_name}")
            }
            (Some(_), Some(times), ..) => format!(": {times:.2} times the round trip to {node_name}"),
            _ => String::new(),
        };
    format!("a lock here costs {}{comparison}; releasing it {}", time_text(acquire), time_text(release))
}

/// Further notes: slow nodes, the cost of a dead node, leftovers.
pub(super) fn notes(results: &Results) -> Vec<String> {
    let mut notes = Vec::new();
    let cost = &results.cost;
    let dead = results.nodes.iter().filter(|node| !node.is_voting);
    notes.extend(dead.map(|node| format!("{} does not vote: see `quorlock doctor`", node.address)));
    if let Some(trip) = cost.round_trip_us {
        let slow =
            |node: &&Node| node.round_trip().is_some_and(|us| us > trip * SLOW && us > trip + SLOW_BY_US);
        for node in results.nodes.iter().filter(slow) {
            let us = node.round_trip().unwrap_or_default();
            notes.push(format!(
                "{} is slow: a round trip takes {}, {:.1} times {}; no lock waits for it while enough faster ones live",
                node.address,
                time_text(us),
                us / trip,
                ordinal(results.quorum, results.nodes.len()),
            ));
        }
    }
    match (&results.killed, cost.acquire_without_one_us) {
        (Some(killed), _) => notes.push(node_death(killed)),
        (None, Some(us)) => {
            let fastest = fastest(results.quorum);
            notes.push(format!("if {fastest} died, a lock would cost about {}", time_text(us)));
        }
        (None, None) if results.nodes.iter().filter(|node| node.is_voting).count() == results.quorum => {
            notes.push("all nodes that vote are needed: if one dies, no lock can be granted".to_owned());
        }
        (None, None) => {}
    }
    let writes = cost.write_us.zip(cost.round_trip_us).is_some_and(|(write, trip)| write > trip * DISK);
    if writes && results.mode == "fenced" && cost.acquire_per_write.is_some_and(|times| times > DISK) {
        notes.push(
            "a fenced lock writes a fencing number too: --mode plain shows what that costs here".to_owned(),
        );
    }
    let shown = results.changes.iter().take(SHOWN);
    notes.extend(shown.map(|it| format!("{} {} after {:.1} s", it.node, it.what, it.seconds)));
    if let Some(more) = results.changes.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        notes.push(format!("and {} of nodes (--json lists all)", counted(more, "more change")));
    }
    let locks = |count: u64, text: &str| {
        let were = if count == 1 { "was" } else { "were" };
        (count > 0).then(|| format!("{} {were} {text}", counted(count as usize, "lock")))
    };
    notes.extend(locks(results.lost, "lost while held"));
    notes.extend(locks(results.unconfirmed_releases, "released without a quorum's confirmation"));
    if results.failed_attempts > 0 {
        let attempts = counted(results.failed_attempts as usize, "attempt");
        notes.push(format!("{attempts} found no quorum, or too late"));
    }
    notes.push(leftovers(results));
    notes
}

/// The effect of the killed node.
fn node_death(killed: &Killed) -> String {
    let p50 = |phase: &super::results::PhaseResult| phase.acquire.map(|percentiles| percentiles.p50_us);
    let text = match p50(&killed.before).zip(p50(&killed.down)) {
        Some((before, down)) => format!(
            "while {} was dead, a lock cost {} ({:.2} times as much as before), {} at the most",
            killed.node,
            time_text(down),
            down / before,
            time_text(killed.down.acquire.map_or(0.0, |percentiles| percentiles.max_us)),
        ),
        None => format!("while {} was dead, no lock was granted", killed.node),
    };
    match killed.votes_after_seconds {
        Some(seconds) => text + &format!("; it voted again {seconds:.1} s after its restart"),
        None => text + "; it did not vote again by the end, because it may have lost locks",
    }
}

/// The keys and fences that this run left on the nodes.
fn leftovers(results: &Results) -> String {
    let found = &results.leftovers;
    let mut text = match found.keys.len() {
        0 => "no key of this run is left on the nodes".to_owned(),
        1 => format!("1 KEY OF THIS RUN IS LEFT, until it expires: {}", found.keys[0]),
        count => format!("{count} KEYS OF THIS RUN ARE LEFT, until they expire: {}", found.keys.join(", ")),
    };
    if !found.unchecked.is_empty() {
        let _ = write!(text, " (not checked, because there was no reply: {})", found.unchecked.join(", "));
    }
    if found.fences > 0 {
        let _ = write!(
            text,
            "; fencing numbers of {} are, and expire within {} s",
            counted(found.fences, "name"),
            found.fences_expire_in_seconds
        );
    }
    text
}

/// The name of the slowest node that a quorum needs.
pub(super) fn ordinal(quorum: usize, nodes: usize) -> String {
    match (quorum, nodes) {
        (_, 1) => "the node".to_owned(),
        (quorum, nodes) if quorum == nodes => "the slowest node".to_owned(),
        (quorum, _) => format!("the {}-fastest node", ORDINALS.get(quorum - 1).unwrap_or(&"n-th")),
    }
}

fn fastest(quorum: usize) -> String {
    let number = NUMBERS.get(quorum - 1).unwrap_or(&"fastest");
    if quorum == 1 { "the fastest node".to_owned() } else { format!("one of the {number} fastest nodes") }
}

const ORDINALS: [&str; 9] =
    ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"];
const NUMBERS: [&str; 9] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
/// How many changes of nodes are shown.
const SHOWN: usize = 5;
/// From this factor on a node is called slow.
const SLOW: f64 = 2.0;
const SLOW_BY_US: f64 = 500.0;
/// From this factor on, a lock is compared with a write instead of a round trip.
const DISK: f64 = 1.25;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::{Change, Cost};

    fn of(trip: f64, write: f64) -> Results {
        let cost = Cost {
            acquire_us: Some(2_100.0),
            release_us: Some(1_900.0),
            round_trip_us: Some(trip),
            acquire_per_round_trip: Some(2_100.0 / trip),
            write_us: Some(write),
            acquire_per_write: Some(2_100.0 / write),
            ..Cost::default()
        };
        let nodes = (0..5).map(|_| Node::default()).collect();
        Results { quorum: 3, mode: "fenced", nodes, cost, ..Results::default() }
    }

    #[test]
    fn a_lock_is_compared_with_a_round_trip_or_with_a_write_on_slow_disks() {
        let far = verdict(&of(2_000.0, 2_050.0));
        let want = "a lock here costs 2.10 ms: 1.05 times the round trip to the third-fastest node; releasing it 1.90 ms";
        assert_eq!(far, want);
        let slow_disks = verdict(&of(200.0, 1_500.0));
        assert!(
            slow_disks.contains("2.10 ms: 1.40 times a plain write to the third-fastest node;"),
            "{slow_disks}"
        );
        assert_eq!(verdict(&Results::default()), "no lock was granted");
    }

    #[test]
    fn failures_and_leftovers_are_reported() {
        let mut results = of(2_000.0, 2_050.0);
        results.lost = 2;
        results.leftovers.keys = vec!["quorlock-bench:1:0 on h:1".to_owned()];
        let change = |seconds| Change { seconds, node: "h:1".to_owned(), what: "down" };
        results.changes = (0..7).map(|at| change(f64::from(at))).collect();
        let shown = notes(&results).join("\n");
        for text in
            ["2 locks were lost", "1 KEY OF THIS RUN IS LEFT", "h:1 down after 4.0 s", "and 2 more changes"]
        {
            assert!(shown.contains(text), "{text} is missing from: {shown}");
        }
        assert!(!shown.contains("after 5.0 s"), "{shown}");
    }

    #[test]
    fn the_slowest_node_of_a_quorum_is_named_by_its_ordinal() {
        let shown = [ordinal(3, 5), ordinal(2, 3), ordinal(1, 1), ordinal(2, 2), ordinal(4, 5)];
        let want = [
            "the third-fastest node",
            "the second-fastest node",
            "the node",
            "the slowest node",
            "the fourth-fastest node",
        ];
        assert_eq!(shown, want);
    }
}
