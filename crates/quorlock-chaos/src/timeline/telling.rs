//! Events in words, and which of them lie around a violation.

use crate::history::{Event, History, What, Who};
use crate::judge::Violation;

/// A line of what happened around a violation.
pub(super) struct Line {
    pub(super) at: u64,
    pub(super) who: String,
    pub(super) what: String,
    /// Whether the judge named it, or it only lies near.
    pub(super) is_evidence: bool,
}

/// The events that show the violation, and what happened shortly before and after, in the order of time.
pub(super) fn around(history: &History, violation: &Violation) -> Vec<Line> {
    let events = history.events();
    let place = events.partition_point(|event| event.at < violation.at);
    let told = |place: &usize| !matches!(events[*place].what, What::Looked { valid: true, .. });
    let before = (0..place).rev().filter(told).take(NEAR);
    let after = (place..events.len()).filter(told).take(NEAR);
    let mut places: Vec<usize> = before.chain(after).collect();
    places.extend(violation.events.iter().copied().filter(|place| *place < events.len()).take(EVIDENCE));
    places.sort_unstable();
    places.dedup();
    let line = |place: usize| Line {
        at: events[place].at,
        who: who(&events[place]),
        what: what(&events[place]),
        is_evidence: violation.events.contains(&place),
    };
    places.into_iter().map(line).collect()
}

fn who(event: &Event) -> String {
    match event.who {
        Who::Run => "run".to_owned(),
        Who::Client { process, task, .. } => format!("client {process}.{task}"),
    }
}

fn what(event: &Event) -> String {
    let ahead = |deadline: u64| {
        let millis = (deadline as i128 - i128::from(event.at)) / 1_000_000;
        if millis < 0 {
            format!("its deadline was {} ms ago", -millis)
        } else {
            format!("{millis} ms to its deadline")
        }
    };
    match &event.what {
        What::Settings(_) => "begins".to_owned(),
        What::Fault(fault) => {
            let nodes = fault.nodes.iter().map(|node| format!(" node {node}"));
            let clients = fault.processes.iter().map(|process| format!(" client {process}"));
            let hit: String = nodes.chain(clients).collect();
            let detail = if fault.detail.is_empty() { String::new() } else { format!(" ({})", fault.detail) };
            format!("{}{hit}{detail} [{}]", fault.kind, fault.id)
        }
        What::Healed { fault } => format!("mends [{fault}]"),
        What::KeyLeft { node, key, ttl_ms } => format!("finds {key} on node {node}, {ttl_ms} ms left"),
        What::Seen { node, stand } => format!("sees node {node}: {stand:?}"),
        What::Waiting { keys, ttl_ms, .. } => format!("asks for {} for {ttl_ms} ms", keys.join(" + ")),
        What::Granted { deadline, number, margin, .. } => {
            let number = number.map_or(String::new(), |number| format!("number {number}, "));
            format!("is granted it: {number}margin {margin}, {}", ahead(*deadline))
        }
        What::Looked { valid: true, deadline, .. } => format!("finds it valid, {}", ahead(*deadline)),
        What::Looked { valid: false, .. } => "finds it no longer valid".to_owned(),
        What::Lost { how } => format!("is told that it is lost: {how}"),
        What::Releasing => "gives it up".to_owned(),
        What::Released { confirmed: true } => "has released it".to_owned(),
        What::Released { confirmed: false } => "has released it, too few nodes confirm".to_owned(),
        What::Refused { why } => format!("is refused: {why:?}"),
        What::Abandoned => "walks away".to_owned(),
        What::Wrote { store, number, accepted, .. } => {
            let number =
                number.map_or("without a number".to_owned(), |number| format!("with number {number}"));
            format!("writes to {store} {number}: {}", if *accepted { "taken" } else { "refused" })
        }
        What::Errored { words } => format!("fails: {words}"),
        What::Panicked { words } => format!("panics: {words}"),
        What::Finished => "is done".to_owned(),
    }
}

/// How many events are shown to either side.
const NEAR: usize = 6;

/// How many of those that the judge named.
const EVIDENCE: usize = 16;
