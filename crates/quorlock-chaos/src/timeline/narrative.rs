//! Describes events in words, and selects those around a violation.

use crate::checker::Violation;
use crate::history::{Actor, Event, EventKind, History};

/// A line of what happened around a violation.
pub(super) struct Line {
    pub(super) at: u64,
    pub(super) who: String,
    pub(super) what: String,
    /// Whether the checker named it, or it is only near.
    pub(super) is_evidence: bool,
}

/// The events that show the violation, and those shortly before and after, ordered by time.
pub(super) fn around(history: &History, violation: &Violation) -> Vec<Line> {
    let events = history.events();
    let place = events.partition_point(|event| event.at < violation.at);
    let is_shown = |place: &usize| {
        !matches!(events[*place].kind, EventKind::Validated { valid: true, .. } | EventKind::Sampled { .. })
    };
    let before = (0..place).rev().filter(is_shown).take(CONTEXT_EVENTS);
    let after = (place..events.len()).filter(is_shown).take(CONTEXT_EVENTS);
    let mut places: Vec<usize> = before.chain(after).collect();
    places.extend(violation.events.iter().copied().filter(|place| *place < events.len()).take(MAX_EVIDENCE));
    places.sort_unstable();
    places.dedup();
    let line = |place: usize| Line {
        at: events[place].at,
        who: actor_name(&events[place]),
        what: description(&events[place], &keys(history, place)),
        is_evidence: violation.events.contains(&place),
    };
    places.into_iter().map(line).collect()
}

fn actor_name(event: &Event) -> String {
    match event.actor {
        Actor::Run => "run".to_owned(),
        Actor::Client { process, task, .. } => format!("client {process}.{task}"),
    }
}

/// The keys that an event of a client is about: those of its last request.
fn keys(history: &History, place: usize) -> String {
    let who = history.events()[place].actor;
    let mut earlier = history.events()[..=place].iter().rev().filter(|event| event.actor == who);
    let asked = earlier.find_map(|event| match &event.kind {
        EventKind::Waiting { keys, .. } => Some(keys.join(" + ")),
        _ => None,
    });
    asked.unwrap_or_else(|| "it".to_owned())
}

fn description(event: &Event, keys: &str) -> String {
    let ahead = |deadline: u64| {
        let millis = (i128::from(deadline) - i128::from(event.at)) / 1_000_000;
        if millis < 0 {
            format!("its deadline was {} ms ago", -millis)
        } else {
            format!("{millis} ms to its deadline")
        }
    };
    match &event.kind {
        EventKind::Settings(_) => "begins".to_owned(),
        EventKind::Fault(fault) => {
            let nodes = fault.nodes.iter().map(|node| format!(" node {node}"));
            let clients = fault.processes.iter().map(|process| format!(" client {process}"));
            let hit: String = nodes.chain(clients).collect();
            let detail = if fault.detail.is_empty() { String::new() } else { format!(" ({})", fault.detail) };
            format!("{}{hit}{detail} [{}]", fault.kind, fault.id)
        }
        EventKind::FaultApplied { fault } => format!("has applied fault [{fault}]"),
        EventKind::FaultEnding { fault } => format!("begins to end fault [{fault}]"),
        EventKind::FaultEnded { fault } => format!("has ended fault [{fault}]"),
        EventKind::KeyLeft { node, key, ttl_ms } => format!("finds {key} on node {node}, {ttl_ms} ms left"),
        EventKind::Sampled { node, keys, .. } => {
            let seen =
                keys.iter().filter_map(|(key, seen)| Some(format!("{key} of #{}", seen.owner.as_ref()?)));
            let seen: Vec<String> = seen.collect();
            format!(
                "samples node {node}: {}",
                if seen.is_empty() { "no keys".to_owned() } else { seen.join(", ") }
            )
        }
        EventKind::NodeViewChanged { node, view: stand } => format!("sees node {node}: {stand:?}"),
        EventKind::RuntimeStalled { millis } => format!("got no CPU time for {millis} ms"),
        EventKind::Waiting { ttl_ms, .. } => format!("requests {keys} for {ttl_ms} ms"),
        EventKind::Granted { deadline, fencing_number: number, spare_nodes: margin, .. } => {
            let number = number.map_or(String::new(), |number| format!("number {number}, "));
            format!("is granted {keys}: {number}margin {margin}, {}", ahead(*deadline))
        }
        EventKind::Validated { valid: true, deadline, .. } => {
            format!("finds {keys} valid, {}", ahead(*deadline))
        }
        EventKind::Validated { valid: false, .. } => format!("finds {keys} no longer valid"),
        EventKind::Lost { reason: how } => format!("receives the loss signal of {keys}: {how}"),
        EventKind::Releasing => format!("releases {keys}"),
        EventKind::Released { confirmed: true } => format!("has released {keys}"),
        EventKind::Released { confirmed: false } => {
            format!("has released {keys}, but too few nodes confirmed")
        }
        EventKind::Failed { reason: why } => format!("is refused {keys}: {why:?}"),
        EventKind::Abandoned => format!("drops the future for {keys}"),
        EventKind::Wrote { store, fencing_number: number, accepted, .. } => {
            let number =
                number.map_or("without a number".to_owned(), |number| format!("with number {number}"));
            format!("writes to {store} {number}: {}", if *accepted { "accepted" } else { "rejected" })
        }
        EventKind::UnexpectedError { message: words } => format!("fails: {words}"),
        EventKind::Panicked { message: words } => format!("panics: {words}"),
        EventKind::Finished => "is done".to_owned(),
    }
}

/// How many events are shown to either side.
const CONTEXT_EVENTS: usize = 6;

/// How many of those that the checker named.
const MAX_EVIDENCE: usize = 16;
