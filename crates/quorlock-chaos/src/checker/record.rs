//! Checks that the history is complete and consistent. Reports events that are violations by themselves:
//! panics, unexpected errors, keys left after their ttl.

use std::collections::{BTreeMap, HashSet};

use super::{Findings, Invariant, LockAttempt, MS, RunFacts, format_time};
use crate::history::{Actor, Effect, Event, EventKind, History};

pub(super) fn check(
    history: &History,
    facts: &RunFacts<'_>,
    attempts: &[LockAttempt<'_>],
    findings: &mut Findings,
) {
    let mut tasks: BTreeMap<(u32, u32), (usize, bool)> = BTreeMap::new();
    let mut is_run_finished = false;
    let mut seen = SeenEvents::default();
    for (index, event) in history.events().iter().enumerate() {
        let described =
            |text: &str| format!("{} at {}: {text}", actor_name(event.actor), format_time(facts, event.at));
        match &event.kind {
            EventKind::Panicked { message } => {
                findings.record_violation(
                    Invariant::NoPanic,
                    event.at,
                    vec![index],
                    described(&format!("panicked: {message}")),
                );
            }
            EventKind::UnexpectedError { message } => {
                findings.record_violation(
                    Invariant::NoUnexpectedError,
                    event.at,
                    vec![index],
                    described(message),
                );
            }
            EventKind::KeyLeft { node, key, ttl_ms } => {
                check_left_key(facts, attempts, index, event, (*node, key, *ttl_ms), findings);
            }
            EventKind::Finished if event.actor == Actor::Run => is_run_finished = true,
            _ => {}
        }
        if let Some(problem) = seen.record_and_check(facts, event) {
            findings.record_violation(Invariant::CompleteHistory, event.at, vec![index], described(problem));
        }
        if let Actor::Client { process, task, .. } = event.actor {
            let state = tasks.entry((process, task)).or_default();
            *state = (index, state.1 || event.kind == EventKind::Finished);
        }
    }
    for ((process, task), (last, finished)) in tasks {
        if !finished && facts.killed_at(process).is_none() {
            let message = format!("client {process}.{task} sent no final event, though it was not killed");
            findings.record_violation(
                Invariant::CompleteHistory,
                history.events()[last].at,
                vec![last],
                message,
            );
        }
    }
    for window in
        facts.fault_windows.iter().filter(|window| !window.has_ended && !window.fault.nodes.is_empty())
    {
        // A fault that never ends would excuse everything after it.
        let message = format!("fault {} [{}] never ended", window.fault.kind, window.fault.id);
        findings.record_violation(Invariant::CompleteHistory, window.span.from, Vec::new(), message);
    }
    if !is_run_finished {
        let message = "the run recorded no end".to_owned();
        findings.record_violation(Invariant::CompleteHistory, facts.to, Vec::new(), message);
    }
    if attempts.iter().all(|attempt| attempt.grant.is_none()) {
        let message = "no lock was ever granted, so nothing was tested".to_owned();
        findings.record_violation(Invariant::CompleteHistory, facts.to, Vec::new(), message);
    }
}

/// The events so far that decide which event may come next.
#[derive(Default)]
struct SeenEvents {
    settings: bool,
    faults: HashSet<u64>,
    ended: HashSet<u64>,
    waiting: HashSet<Actor>,
    granted: HashSet<Actor>,
}

impl SeenEvents {
    /// Records the next event. Returns why it is inconsistent with the earlier events, if it is.
    fn record_and_check(&mut self, facts: &RunFacts<'_>, event: &Event) -> Option<&'static str> {
        let actor = event.actor;
        let problem = match &event.kind {
            EventKind::Settings(_) => {
                std::mem::replace(&mut self.settings, true).then_some("settings for the second time")
            }
            _ if !self.settings => Some("an event before the settings"),
            EventKind::Fault(fault) if fault.nodes.iter().any(|node| *node >= facts.settings.nodes) => {
                Some("a fault on a node that does not exist")
            }
            EventKind::Fault(fault) => {
                (!self.faults.insert(fault.id)).then_some("a fault with the number of another")
            }
            EventKind::FaultEnded { fault } if !self.faults.contains(fault) => {
                Some("a fault ended that never began")
            }
            EventKind::FaultApplied { fault } | EventKind::FaultEnding { fault }
                if !self.faults.contains(fault) || self.ended.contains(fault) =>
            {
                Some("an event of a fault that never began or has ended")
            }
            EventKind::FaultEnded { fault } => (!self.ended.insert(*fault)).then_some("a fault ended twice"),
            EventKind::Waiting { .. } => {
                (!self.waiting.insert(actor)).then_some("an attempt that begins twice")
            }
            EventKind::Granted { .. } if !self.waiting.contains(&actor) => Some("granted without a request"),
            EventKind::Granted { fencing_number, .. } => {
                let granted_twice = (!self.granted.insert(actor)).then_some("granted twice in one attempt");
                granted_twice.or((facts.settings.fenced && fencing_number.is_none())
                    .then_some("a fenced lock without a number"))
            }
            EventKind::Validated { .. }
            | EventKind::Lost { .. }
            | EventKind::Releasing
            | EventKind::Released { .. }
            | EventKind::Wrote { .. } => {
                (!self.granted.contains(&actor)).then_some("an event of a lock that was not granted")
            }
            _ => None,
        };
        let of_run = matches!(
            event.kind,
            EventKind::Settings(_)
                | EventKind::Fault(_)
                | EventKind::FaultApplied { .. }
                | EventKind::FaultEnding { .. }
                | EventKind::FaultEnded { .. }
                | EventKind::KeyLeft { .. }
                | EventKind::Sampled { .. }
        );
        problem.or((of_run && actor != Actor::Run).then_some("an event that only the run may record"))
    }
}

/// Checks a lock's key that was found at the end. A key may stay for one ttl after a client set it, or a
/// paused node that resumed with unread commands.
fn check_left_key(
    facts: &RunFacts<'_>,
    attempts: &[LockAttempt<'_>],
    index: usize,
    event: &Event,
    (node, key, ttl_ms): (usize, &str, i64),
    findings: &mut Findings,
) {
    let of_key = || attempts.iter().filter(|attempt| attempt.keys.iter().any(|name| name == key));
    let Some(max_ttl_ms) = of_key().map(|attempt| attempt.ttl_ms).max() else {
        let message = format!("node {node} has the key {key}, which no client ever requested");
        findings.record_violation(Invariant::CompleteHistory, event.at, vec![index], message);
        return;
    };
    let ends = of_key()
        .flat_map(|attempt| attempt.events.last().map(|event| event.at).into_iter().chain(attempt.killed_at));
    let outages = facts.fault_windows.iter().filter(|window| {
        window.has_ended && window.fault.nodes.contains(&node) && window.is_unavailable(facts.settings)
    });
    let last = ends.chain(outages.map(|window| window.span.to)).max().unwrap_or(facts.from);
    let expires_by = last + (max_ttl_ms + facts.settings.slack_ms) * MS;
    let is_endless = ttl_ms < 0;
    let is_too_long = ttl_ms > 0 && ttl_ms.unsigned_abs() > max_ttl_ms;
    if !is_endless && !is_too_long && event.at <= expires_by {
        return;
    }
    let state = if is_endless { "without a ttl".to_owned() } else { format!("with {ttl_ms} ms left") };
    let message = format!(
        "node {node} had {key} {state} at {}; it was set at {} at the latest, for {max_ttl_ms} ms at most",
        format_time(facts, event.at),
        format_time(facts, last),
    );
    let is_slow = !is_endless && clock_held_back(facts, node);
    let excuse = is_slow.then(|| "the node's clock was set back, or ran slow".to_owned());
    findings.record(Invariant::KeysExpire, event.at, vec![index], message, excuse);
}

/// Whether the node's clock was set back, or ran slow.
fn clock_held_back(facts: &RunFacts<'_>, node: usize) -> bool {
    let of_node = facts.fault_windows.iter().filter(|window| window.fault.nodes.contains(&node));
    let mut effects =
        of_node.flat_map(|window| window.fault.effects.iter().map(|effect| (effect, window.has_ended)));
    let limit = -i64::from(facts.settings.drift_ppm);
    effects.any(|(effect, ended)| match effect {
        // A clock that was set ahead is set back when the fault ends.
        Effect::ClockStep { micros } => *micros < 0 || (ended && *micros > 0),
        Effect::ClockRate { ppm } => *ppm < limit,
        _ => false,
    })
}

/// The actor's name in messages.
fn actor_name(actor: Actor) -> String {
    match actor {
        Actor::Run => "the run".to_owned(),
        Actor::Client { process, task, .. } => format!("client {process}.{task}"),
    }
}
