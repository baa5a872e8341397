//! Mutual exclusion: two clients never believe at the same time that they hold locks that exclude each other.

use std::collections::BTreeMap;

use super::run_facts::NodeData;
use super::{Findings, Invariant, LockAttempt, RunFacts, Span, format_time, millis, moved_addresses};
use crate::history::LockKind;

pub(super) fn check(facts: &RunFacts<'_>, attempts: &[LockAttempt<'_>], findings: &mut Findings) {
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
                report_overlap(facts, key, (*earlier, other), (span, attempt), findings);
            }
            current.push((span, attempt));
            check_permits(facts, key, &current, findings);
        }
    }
}

/// Reports two locks that exclude each other and overlap in time. `first` was granted first.
fn report_overlap(
    facts: &RunFacts<'_>,
    key: &str,
    first: (Span, &LockAttempt<'_>),
    second: (Span, &LockAttempt<'_>),
    findings: &mut Findings,
) {
    let Some(common) = first.0.intersection(second.0) else { return };
    let message = format!(
        "{key}: {} held it from {} and {} was granted it at {}; for {:.3} ms both believed that they held it",
        first.1.name(),
        format_time(facts, first.0.from),
        second.1.name(),
        format_time(facts, common.from),
        millis(common.len()),
    );
    let mut events = first.1.evidence_at(common.from);
    events.extend(second.1.evidence_at(common.from));
    events.sort_unstable();
    let excuse = excuse(facts, first.1, second.1, common.from);
    findings.record(Invariant::MutualExclusion, common.from, events, message, excuse);
}

/// The excuse for two locks held at once: more nodes were faulty than the first lock could spare.
fn excuse(
    facts: &RunFacts<'_>,
    first: &LockAttempt<'_>,
    second: &LockAttempt<'_>,
    at: u64,
) -> Option<String> {
    let (first_grant, second_grant) = (first.grant.as_ref()?, second.grant.as_ref()?);
    let (_, deadline, spare_nodes) = *first_grant.deadlines.iter().rev().find(|(known, ..)| *known <= at)?;
    // Faults before the last renewal of the first lock do not count, because that renewal set its keys again.
    let renewed = deadline.saturating_sub(first.ttl_ms * super::MS).max(first_grant.earliest_request);
    let span = Span { from: renewed.min(second_grant.earliest_request), to: at };
    let jumped_nodes = facts.nodes_with_clock_changes(span, first.ttl_ms.max(second.ttl_ms));
    let lossy_nodes = facts.nodes_with_data_loss(span, NodeData::Locks);
    let fenced = facts.settings.fenced && facts.settings.probation;

    let (faulty_nodes, reason) = if fenced && jumped_nodes.is_empty() {
        // Data loss alone is no excuse, because probation covers every node that lost data.
        return moved_addresses::excuse(facts, span);
    } else if jumped_nodes.is_empty() {
        let cause = if facts.settings.fenced { "probation was off" } else { "plain locks have no probation" };
        (lossy_nodes, format!("nodes lost locks, and {cause}"))
    } else {
        (
            jumped_nodes.union(&lossy_nodes).copied().collect(),
            "clocks jumped ahead on more nodes than the lock could spare".into(),
        )
    };
    let spare_count = usize::try_from(spare_nodes).unwrap_or(0);
    (faulty_nodes.len() > spare_count).then_some(reason)
}

/// Reports more permits held at once than the limit.
fn check_permits(
    facts: &RunFacts<'_>,
    key: &str,
    current: &[(Span, &LockAttempt<'_>)],
    findings: &mut Findings,
) {
    let Some((newest, attempt)) = current.last() else { return };
    let LockKind::Permit { of } = attempt.kind else { return };
    let held: Vec<_> =
        current.iter().filter(|(_, other)| matches!(other.kind, LockKind::Permit { .. })).collect();
    if held.len() <= of as usize {
        return;
    }
    let message = format!(
        "{key}: {} permits were held at {}, but there are only {of}",
        held.len(),
        format_time(facts, newest.from)
    );
    let mut events: Vec<usize> =
        held.iter().flat_map(|(_, attempt)| attempt.evidence_at(newest.from)).collect();
    events.sort_unstable();
    let others = held.iter().filter(|(_, other)| !std::ptr::eq(*other, *attempt));
    let excuse = others.into_iter().find_map(|(_, other)| excuse(facts, other, attempt, newest.from));
    findings.record(Invariant::MutualExclusion, newest.from, events, message, excuse);
}

impl LockAttempt<'_> {
    /// The events that show its state at `at`: the grant, the last event before, and the first after.
    fn evidence_at(&self, at: u64) -> Vec<usize> {
        let before = self.events.iter().rposition(|event| event.at <= at);
        let after = self.events.iter().position(|event| event.at > at);
        let mut indexes: Vec<usize> =
            [before, after].into_iter().flatten().map(|index| self.event_indexes[index]).collect();
        indexes.extend(self.grant.as_ref().map(|first_grant| first_grant.event_index));
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }
}
