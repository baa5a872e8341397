//! Describes events as text, and selects those around a violation.

use crate::checker::Violation;
use crate::history::{Actor, Event, EventKind, History};

/// One event, described.
pub(super) struct Line {
    pub(super) at: u64,
    pub(super) actor: String,
    pub(super) description: String,
    /// Whether the checker named it as evidence, or it is only near in time.
    pub(super) is_evidence: bool,
}

/// The events that show the violation, and those shortly before and after, ordered by time.
pub(super) fn events_around(history: &History, violation: &Violation) -> Vec<Line> {
    let events = history.events();
    let index = events.partition_point(|event| event.at < violation.at);
    let is_shown = |index: &usize| {
        !matches!(events[*index].kind, EventKind::Validated { valid: true, .. } | EventKind::Sampled { .. })
    };
    let before = (0..index).rev().filter(is_shown).take(CONTEXT_EVENTS);
    let after = (index..events.len()).filter(is_shown).take(CONTEXT_EVENTS);
    let mut indexes: Vec<usize> = before.chain(after).collect();
    indexes.extend(violation.events.iter().copied().filter(|index| *index < events.len()).take(MAX_EVIDENCE));
    indexes.sort_unstable();
    indexes.dedup();
    let line = |index: usize| Line {
        at: events[index].at,
        actor: actor_name(&events[index]),
        description: description(&events[index], &keys(history, index)),
        is_evidence: violation.events.contains(&index),
    };
    indexes.into_iter().map(line).collect()
}

fn actor_name(event: &Event) -> String {
    match event.actor {
        Actor::Run => "run".to_owned(),
        Actor::Client { process, task, .. } => format!("client {process}.{task}"),
    }
}

/// The keys of a client's event: those of its last request.
fn keys(history: &History, index: usize) -> String {
    let actor = history.events()[index].actor;
    let mut earlier = history.events()[..=index].iter().rev().filter(|event| event.actor == actor);
    let keys = earlier.find_map(|event| match &event.kind {
        EventKind::Waiting { keys, .. } => Some(keys.join(" + ")),
        _ => None,
    });
    keys.unwrap_or_else(|| "it".to_owned())
}

fn description(event: &Event, keys: &str) -> String {
    let time_left = |deadline: u64| {
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
        EventKind::NodeViewChanged { node, view } => format!("sees node {node}: {view:?}"),
        EventKind::RuntimeStalled { millis } => format!("got no CPU time for {millis} ms"),
        EventKind::Waiting { ttl_ms, .. } => format!("requests {keys} for {ttl_ms} ms"),
        EventKind::Granted { deadline, fencing_number, spare_nodes, .. } => {
            let fencing_number =
                fencing_number.map_or(String::new(), |fencing_number| format!("number {fencing_number}, "));
            format!("is granted {keys}: {fencing_number}spare nodes {spare_nodes}, {}", time_left(*deadline))
        }
        EventKind::Validated { valid: true, deadline, .. } => {
            format!("finds {keys} valid, {}", time_left(*deadline))
        }
        EventKind::Validated { valid: false, .. } => format!("finds {keys} no longer valid"),
        EventKind::Lost { reason } => format!("receives the loss signal of {keys}: {reason}"),
        EventKind::Releasing => format!("releases {keys}"),
        EventKind::Released { confirmed: true } => format!("has released {keys}"),
        EventKind::Released { confirmed: false } => {
            format!("has released {keys}, but too few nodes confirmed")
        }
        EventKind::Failed { reason } => format!("fails to acquire {keys}: {reason:?}"),
        EventKind::Cancelled => format!("drops the future for {keys}"),
        EventKind::Wrote { store, fencing_number, accepted, .. } => {
            let fencing_number = fencing_number.map_or("without a number".to_owned(), |fencing_number| {
                format!("with number {fencing_number}")
            });
            format!("writes to {store} {fencing_number}: {}", if *accepted { "accepted" } else { "rejected" })
        }
        EventKind::UnexpectedError { message } => format!("fails: {message}"),
        EventKind::Panicked { message } => format!("panics: {message}"),
        EventKind::Finished => "has finished".to_owned(),
    }
}

/// The number of events shown before, and after.
const CONTEXT_EVENTS: usize = 6;

/// The number of events shown of those that the checker named.
const MAX_EVIDENCE: usize = 16;
