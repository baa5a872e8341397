//! Checks that the history is complete and consistent, and reports events that are violations by themselves: panics,
//! unexpected errors, keys that stay.

use std::collections::{BTreeMap, HashSet};

use super::world::is_of_run;
use super::{Findings, Invariant, LockAttempt, MS, World, clock};
use crate::history::{Actor, Effect, Event, EventKind, History};

pub(super) fn check(
    history: &History,
    world: &World<'_>,
    attempts: &[LockAttempt<'_>],
    findings: &mut Findings,
) {
    let mut tasks: BTreeMap<(u32, u32), (usize, bool)> = BTreeMap::new();
    let mut over = false;
    let mut seen = SeenEvents::default();
    for (place, event) in history.events().iter().enumerate() {
        let described =
            |words: &str| format!("{} at {}: {words}", actor_name(event.actor), clock(world, event.at));
        match &event.kind {
            EventKind::Panicked { message: words } => {
                findings.violation(
                    Invariant::NoPanic,
                    event.at,
                    vec![place],
                    described(&format!("panicked: {words}")),
                );
            }
            EventKind::UnexpectedError { message: words } => {
                findings.violation(Invariant::NoUnexpectedError, event.at, vec![place], described(words));
            }
            EventKind::KeyLeft { node, key, ttl_ms } => {
                check_left_key(world, attempts, place, event, (*node, key, *ttl_ms), findings);
            }
            EventKind::Finished if is_of_run(event) => over = true,
            _ => {}
        }
        if let Some(words) = seen.inconsistency(world, event) {
            findings.violation(Invariant::CompleteHistory, event.at, vec![place], described(words));
        }
        if let Actor::Client { process, task, .. } = event.actor {
            let state = tasks.entry((process, task)).or_default();
            *state = (place, state.1 || event.kind == EventKind::Finished);
        }
    }
    for ((process, task), (last, finished)) in tasks {
        if !finished && world.killed(process).is_none() {
            let words = format!("client {process}.{task} sent no final event, though it was not killed");
            findings.violation(Invariant::CompleteHistory, history.events()[last].at, vec![last], words);
        }
    }
    for bout in world.fault_windows.iter().filter(|bout| !bout.has_ended && !bout.fault.nodes.is_empty()) {
        // A fault that never ends would excuse everything after it.
        let words = format!("fault {} [{}] never ended", bout.fault.kind, bout.fault.id);
        findings.violation(Invariant::CompleteHistory, bout.span.from, Vec::new(), words);
    }
    if !over {
        let words = "the run recorded no end".to_owned();
        findings.violation(Invariant::CompleteHistory, world.to, Vec::new(), words);
    }
    if attempts.iter().all(|attempt| attempt.grant.is_none()) {
        let words = "no lock was ever granted, so nothing was tested".to_owned();
        findings.violation(Invariant::CompleteHistory, world.to, Vec::new(), words);
    }
}

/// The events so far, as far as they decide which event may come next.
#[derive(Default)]
struct SeenEvents {
    settings: bool,
    faults: HashSet<u64>,
    healed: HashSet<u64>,
    waiting: HashSet<Actor>,
    granted: HashSet<Actor>,
}

impl SeenEvents {
    /// Why the next event does not fit, if it does not.
    fn inconsistency(&mut self, world: &World<'_>, event: &Event) -> Option<&'static str> {
        let who = event.actor;
        let odd = match &event.kind {
            EventKind::Settings(_) => {
                std::mem::replace(&mut self.settings, true).then_some("settings for the second time")
            }
            _ if !self.settings => Some("something happened before the settings"),
            EventKind::Fault(fault) if fault.nodes.iter().any(|node| *node >= world.settings.nodes) => {
                Some("a fault on a node that does not exist")
            }
            EventKind::Fault(fault) => {
                (!self.faults.insert(fault.id)).then_some("a fault with the number of another")
            }
            EventKind::FaultEnded { fault } if !self.faults.contains(fault) => {
                Some("a fault ended that never began")
            }
            EventKind::FaultApplied { fault } | EventKind::FaultEnding { fault }
                if !self.faults.contains(fault) || self.healed.contains(fault) =>
            {
                Some("an event of a fault that never began or has ended")
            }
            EventKind::FaultEnded { fault } => (!self.healed.insert(*fault)).then_some("a fault ended twice"),
            EventKind::Waiting { .. } => {
                (!self.waiting.insert(who)).then_some("an attempt that begins twice")
            }
            EventKind::Granted { .. } if !self.waiting.contains(&who) => Some("granted without a request"),
            EventKind::Granted { fencing_number: number, .. } => {
                let twice = (!self.granted.insert(who)).then_some("granted twice in one attempt");
                twice
                    .or((world.settings.fenced && number.is_none())
                        .then_some("a fenced lock without a number"))
            }
            EventKind::Validated { .. }
            | EventKind::Lost { .. }
            | EventKind::Releasing
            | EventKind::Released { .. }
            | EventKind::Wrote { .. } => {
                (!self.granted.contains(&who)).then_some("an event of a lock that was not granted")
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
        odd.or((of_run && who != Actor::Run).then_some("an event that only the run may record"))
    }
}

/// Checks a lock's key that was found at the end. It may stay only as long as the ttl allows, counted from the last
/// time that a client may have set it, or a node that was stopped with unread commands.
fn check_left_key(
    world: &World<'_>,
    attempts: &[LockAttempt<'_>],
    place: usize,
    event: &Event,
    (node, key, ttl_ms): (usize, &str, i64),
    findings: &mut Findings,
) {
    let of_key = || attempts.iter().filter(|attempt| attempt.keys.iter().any(|name| name == key));
    let Some(longest) = of_key().map(|attempt| attempt.ttl_ms).max() else {
        let words = format!("node {node} has the key {key}, which no client ever requested");
        findings.violation(Invariant::CompleteHistory, event.at, vec![place], words);
        return;
    };
    let ends = of_key()
        .flat_map(|attempt| attempt.events.last().map(|event| event.at).into_iter().chain(attempt.killed));
    let held_up = world.fault_windows.iter().filter(|bout| {
        bout.has_ended && bout.fault.nodes.contains(&node) && bout.is_unavailable(world.settings)
    });
    let last = ends.chain(held_up.map(|bout| bout.span.to)).max().unwrap_or(world.from);
    let over = last + (longest + world.settings.slack_ms) * MS;
    let endless = ttl_ms < 0;
    let too_long = ttl_ms > 0 && ttl_ms.unsigned_abs() > longest;
    if !endless && !too_long && event.at <= over {
        return;
    }
    let state = if endless { "without an end".to_owned() } else { format!("with {ttl_ms} ms left") };
    let words = format!(
        "node {node} had {key} {state} at {}; it was set at {} at the latest, for {longest} ms at most",
        clock(world, event.at),
        clock(world, last),
    );
    let slow = !endless && clock_held_back(world, node);
    let excuse = slow.then(|| "the node's clock was set back, or ran slow".to_owned());
    findings.record(Invariant::KeysExpire, event.at, vec![place], words, excuse);
}

fn clock_held_back(world: &World<'_>, node: usize) -> bool {
    let of_node = world.fault_windows.iter().filter(|bout| bout.fault.nodes.contains(&node));
    let mut effects =
        of_node.flat_map(|bout| bout.fault.effects.iter().map(|effect| (effect, bout.has_ended)));
    let limit = -i64::from(world.settings.drift_ppm);
    effects.any(|(effect, healed)| match effect {
        // A clock that was set ahead is set back when the fault ends.
        Effect::ClockStep { micros } => *micros < 0 || (healed && *micros > 0),
        Effect::ClockRate { ppm } => *ppm < limit,
        _ => false,
    })
}

/// The actor's name in messages.
fn actor_name(who: Actor) -> String {
    match who {
        Actor::Run => "the run".to_owned(),
        Actor::Client { process, task, .. } => format!("client {process}.{task}"),
    }
}
