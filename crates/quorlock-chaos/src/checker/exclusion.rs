//! Mutual exclusion: two clients never believe at the same time that they hold locks that exclude each other.

use std::collections::BTreeMap;

use super::{Findings, Invariant, LockAttempt, Span, World, clock, millis};
use crate::history::LockKind;

pub(super) fn check(world: &World<'_>, attempts: &[LockAttempt<'_>], findings: &mut Findings) {
    let mut holds: BTreeMap<&str, Vec<(Span, &LockAttempt<'_>)>> = BTreeMap::new();
    for attempt in attempts {
        let Some(span) = attempt.held_span() else { continue };
        for key in attempt.keys {
            holds.entry(key).or_default().push((span, attempt));
        }
    }
    for (key, mut holds) in holds {
        holds.sort_by_key(|(span, _)| span.from);
        let mut current: Vec<(Span, &LockAttempt<'_>)> = Vec::new();
        for (span, attempt) in holds {
            current.retain(|(earlier, _)| earlier.to > span.from);
            for (earlier, other) in current.iter().filter(|(_, other)| other.conflicts_with(attempt)) {
                overlap(world, key, (*earlier, other), (span, attempt), findings);
            }
            current.push((span, attempt));
            permits(world, key, &current, findings);
        }
    }
}

/// Checks two locks that exclude each other and overlap in time. `first` was granted first.
fn overlap(
    world: &World<'_>,
    key: &str,
    first: (Span, &LockAttempt<'_>),
    second: (Span, &LockAttempt<'_>),
    findings: &mut Findings,
) {
    let Some(both) = first.0.intersection(second.0) else { return };
    let words = format!(
        "{key}: {} held it from {} and {} was granted it at {}; for {:.3} ms both believed that they held it",
        first.1.name(),
        clock(world, first.0.from),
        second.1.name(),
        clock(world, both.from),
        millis(both.len()),
    );
    let mut events = first.1.evidence_at(both.from);
    events.extend(second.1.evidence_at(both.from));
    events.sort_unstable();
    let excuse = excuse(world, first.1, second.1, both.from);
    findings.record(Invariant::Exclusion, both.from, events, words, excuse);
}

/// Why two locks could be held at once: more nodes misbehaved than the first lock could spare.
fn excuse(world: &World<'_>, first: &LockAttempt<'_>, second: &LockAttempt<'_>, at: u64) -> Option<String> {
    let (grant, rival) = (first.grant.as_ref()?, second.grant.as_ref()?);
    let (_, deadline, margin) = *grant.deadlines.iter().rev().find(|(known, ..)| *known <= at)?;
    // The last renewal of the first lock repaired on its nodes whatever happened before it.
    let renewed = deadline.saturating_sub(first.ttl_ms * super::MS).max(grant.earliest);
    let span = Span { from: renewed.min(rival.earliest), to: at };
    let leapers = world.nodes_with_clock_changes(span, first.ttl_ms.max(second.ttl_ms));
    let forgetters = world.nodes_with_data_loss(span, |locks, _| locks);
    let fenced = world.settings.fenced && world.settings.probation;

    let (liars, because) = if fenced && leapers.is_empty() {
        // Because probation covers every node that lost data, there is no excuse.
        return None;
    } else if leapers.is_empty() {
        let why = if world.settings.fenced { "probation was off" } else { "plain locks have no probation" };
        (forgetters, format!("nodes lost locks, and {why}"))
    } else {
        (
            leapers.union(&forgetters).copied().collect(),
            "clocks of more nodes jumped ahead than the lock could spare".into(),
        )
    };
    let spare = usize::try_from(margin).unwrap_or(0);
    (liars.len() > spare).then_some(because)
}

/// Checks that no more permits are held than there are.
fn permits(world: &World<'_>, key: &str, current: &[(Span, &LockAttempt<'_>)], findings: &mut Findings) {
    let Some((newest, attempt)) = current.last() else { return };
    let LockKind::Permit { of } = attempt.kind else { return };
    let out: Vec<_> =
        current.iter().filter(|(_, other)| matches!(other.kind, LockKind::Permit { .. })).collect();
    if out.len() <= of as usize {
        return;
    }
    let words = format!(
        "{key}: {} permits were held at {}, but there are only {of}",
        out.len(),
        clock(world, newest.from)
    );
    let mut events: Vec<usize> =
        out.iter().flat_map(|(_, attempt)| attempt.evidence_at(newest.from)).collect();
    events.sort_unstable();
    let others = out.iter().filter(|(_, other)| !std::ptr::eq(*other, *attempt));
    let excuse = others.into_iter().find_map(|(_, other)| excuse(world, other, attempt, newest.from));
    findings.record(Invariant::Exclusion, newest.from, events, words, excuse);
}

impl LockAttempt<'_> {
    /// The events that show its state at `at`: its grant, its last event before, and its first after.
    fn evidence_at(&self, at: u64) -> Vec<usize> {
        let before = self.events.iter().rposition(|event| event.at <= at);
        let after = self.events.iter().position(|event| event.at > at);
        let mut places: Vec<usize> =
            [before, after].into_iter().flatten().map(|place| self.event_indexes[place]).collect();
        places.extend(self.grant.as_ref().map(|grant| grant.event_index));
        places.sort_unstable();
        places.dedup();
        places
    }
}
