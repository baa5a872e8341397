//! Whether the story is whole and fits together, and what in it is bad by itself: panics, errors nobody planned
//! for, keys that stay.

use std::collections::{BTreeMap, HashSet};

use super::world::is_run;
use super::{Findings, Invariant, LockAttempt, MS, World, clock};
use crate::history::{Actor, Effect, Event, EventKind, History};

pub(super) fn check(
    history: &History,
    world: &World<'_>,
    turns: &[LockAttempt<'_>],
    findings: &mut Findings,
) {
    let mut tellers: BTreeMap<(u32, u32), (usize, bool)> = BTreeMap::new();
    let mut over = false;
    let mut seen = Seen::default();
    for (place, event) in history.events().iter().enumerate() {
        let told = |words: &str| format!("{} at {}: {words}", named(event.actor), clock(world, event.at));
        match &event.kind {
            EventKind::Panicked { words } => {
                findings.broken(
                    Invariant::NoPanic,
                    event.at,
                    vec![place],
                    told(&format!("panicked: {words}")),
                );
            }
            EventKind::Errored { words } => {
                findings.broken(Invariant::NoUnexpectedError, event.at, vec![place], told(words));
            }
            EventKind::KeyLeft { node, key, ttl_ms } => {
                left(world, turns, place, event, (*node, key, *ttl_ms), findings);
            }
            EventKind::Finished if is_run(event) => over = true,
            _ => {}
        }
        if let Some(words) = seen.odd(world, event) {
            findings.broken(Invariant::CompleteHistory, event.at, vec![place], told(words));
        }
        if let Actor::Client { process, task, .. } = event.actor {
            let teller = tellers.entry((process, task)).or_default();
            *teller = (place, teller.1 || event.kind == EventKind::Finished);
        }
    }
    for ((process, task), (last, finished)) in tellers {
        if !finished && world.killed(process).is_none() {
            let words = format!("client {process}.{task} fell silent, and nobody had killed it");
            findings.broken(Invariant::CompleteHistory, history.events()[last].at, vec![last], words);
        }
    }
    for bout in world.bouts.iter().filter(|bout| !bout.healed && !bout.fault.nodes.is_empty()) {
        // Who may break nodes for good has an excuse for everything that comes after.
        let words = format!("the fault {} [{}] was never mended", bout.fault.kind, bout.fault.id);
        findings.broken(Invariant::CompleteHistory, bout.span.from, Vec::new(), words);
    }
    if !over {
        let words = "the run did not tell that it was over".to_owned();
        findings.broken(Invariant::CompleteHistory, world.to, Vec::new(), words);
    }
    if turns.iter().all(|turn| turn.grant.is_none()) {
        let words = "nobody was ever granted a lock, so nothing was tested".to_owned();
        findings.broken(Invariant::CompleteHistory, world.to, Vec::new(), words);
    }
}

/// What was told so far, as far as it decides what may be told next.
#[derive(Default)]
struct Seen {
    settings: bool,
    faults: HashSet<u64>,
    healed: HashSet<u64>,
    waiting: HashSet<Actor>,
    granted: HashSet<Actor>,
}

impl Seen {
    /// What does not fit in the next event.
    fn odd(&mut self, world: &World<'_>, event: &Event) -> Option<&'static str> {
        let who = event.actor;
        let odd = match &event.kind {
            EventKind::Settings(_) => {
                std::mem::replace(&mut self.settings, true).then_some("settings for the second time")
            }
            _ if !self.settings => Some("something happened before the settings"),
            EventKind::Fault(fault) if fault.nodes.iter().any(|node| *node >= world.settings.nodes) => {
                Some("a fault on a node that is not there")
            }
            EventKind::Fault(fault) => {
                (!self.faults.insert(fault.id)).then_some("a fault with the number of another")
            }
            EventKind::FaultEnded { fault } if !self.faults.contains(fault) => {
                Some("a fault healed that never began")
            }
            EventKind::FaultApplied { fault } | EventKind::FaultEnding { fault }
                if !self.faults.contains(fault) || self.healed.contains(fault) =>
            {
                Some("more of a fault that never began or is over")
            }
            EventKind::FaultEnded { fault } => {
                (!self.healed.insert(*fault)).then_some("a fault healed twice")
            }
            EventKind::Waiting { .. } => (!self.waiting.insert(who)).then_some("a turn that begins twice"),
            EventKind::Granted { .. } if !self.waiting.contains(&who) => {
                Some("granted what it did not ask for")
            }
            EventKind::Granted { number, .. } => {
                let twice = (!self.granted.insert(who)).then_some("granted twice in one turn");
                twice
                    .or((world.settings.fenced && number.is_none())
                        .then_some("a fenced lock without a number"))
            }
            EventKind::Looked { .. }
            | EventKind::Lost { .. }
            | EventKind::Releasing
            | EventKind::Released { .. }
            | EventKind::Wrote { .. } => {
                (!self.granted.contains(&who)).then_some("told of a lock that it was not granted")
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
        odd.or((of_run && who != Actor::Run).then_some("told what only the run can know"))
    }
}

/// A lock's key that was found at the end. It may be there only as long as the ttl allows, counted from the last
/// time that somebody, or a node that was held up with commands unread, may have set it.
fn left(
    world: &World<'_>,
    turns: &[LockAttempt<'_>],
    place: usize,
    event: &Event,
    (node, key, ttl_ms): (usize, &str, i64),
    findings: &mut Findings,
) {
    let of_key = || turns.iter().filter(|turn| turn.keys.iter().any(|name| name == key));
    let Some(longest) = of_key().map(|turn| turn.ttl_ms).max() else {
        let words = format!("node {node} has the key {key}, which no client ever asked for");
        findings.broken(Invariant::CompleteHistory, event.at, vec![place], words);
        return;
    };
    let ends =
        of_key().flat_map(|turn| turn.events.last().map(|event| event.at).into_iter().chain(turn.killed));
    let held_up = world
        .bouts
        .iter()
        .filter(|bout| bout.healed && bout.fault.nodes.contains(&node) && bout.is_away(world.settings));
    let last = ends.chain(held_up.map(|bout| bout.span.to)).max().unwrap_or(world.from);
    let over = last + (longest + world.settings.slack_ms) * MS;
    let endless = ttl_ms < 0;
    let too_long = ttl_ms > 0 && ttl_ms.unsigned_abs() > longest;
    if !endless && !too_long && event.at <= over {
        return;
    }
    let state = if endless { "without an end".to_owned() } else { format!("with {ttl_ms} ms left") };
    let words = format!(
        "node {node} had {key} {state} at {}; nobody can have set it after {}, for more than {longest} ms",
        clock(world, event.at),
        clock(world, last),
    );
    let slow = !endless && clock_held_back(world, node);
    let excuse = slow.then(|| "the node's clock was set back, or ran slow".to_owned());
    findings.found(Invariant::KeysExpire, event.at, vec![place], words, excuse);
}

fn clock_held_back(world: &World<'_>, node: usize) -> bool {
    let of_node = world.bouts.iter().filter(|bout| bout.fault.nodes.contains(&node));
    let mut effects = of_node.flat_map(|bout| bout.fault.effects.iter().map(|effect| (effect, bout.healed)));
    let limit = -i64::from(world.settings.drift_ppm);
    effects.any(|(effect, healed)| match effect {
        // A clock set ahead is set back when that is healed.
        Effect::Steps { micros } => *micros < 0 || (healed && *micros > 0),
        Effect::Runs { ppm } => *ppm < limit,
        _ => false,
    })
}

/// Who, for people.
fn named(who: Actor) -> String {
    match who {
        Actor::Run => "the run".to_owned(),
        Actor::Client { process, task, .. } => format!("client {process}.{task}"),
    }
}
