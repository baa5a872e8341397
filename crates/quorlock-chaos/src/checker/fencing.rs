//! Fencing (Kleppmann, "How to do distributed locking", 2016): numbers are unique and ordered, and stale
//! writes rejected.

use std::collections::BTreeMap;

use super::run_facts::NodeData;
use super::{Findings, Grant, Invariant, LockAttempt, RunFacts, Span, format_time, moved_addresses};
use crate::history::EventKind;

pub(super) fn check(facts: &RunFacts<'_>, attempts: &[LockAttempt<'_>], findings: &mut Findings) {
    let mut grants: BTreeMap<&str, Vec<NumberedGrant<'_>>> = BTreeMap::new();
    for attempt in attempts {
        let Some(grant) = &attempt.grant else { continue };
        let Some(fencing_number) = grant.fencing_number else { continue };
        for key in attempt.keys {
            grants.entry(key).or_default().push(NumberedGrant { fencing_number, attempt, grant });
        }
    }
    for (key, mut grants) in grants {
        check_unique(facts, key, &mut grants, findings);
        check_ordered(facts, key, &mut grants, findings);
    }
    check_writes(facts, attempts, findings);
}

#[derive(Clone, Copy)]
struct NumberedGrant<'a> {
    fencing_number: u64,
    attempt: &'a LockAttempt<'a>,
    grant: &'a Grant<'a>,
}

fn check_unique(facts: &RunFacts<'_>, key: &str, grants: &mut [NumberedGrant<'_>], findings: &mut Findings) {
    grants.sort_by_key(|numbered| (numbered.fencing_number, numbered.grant.at));
    for pair in grants.windows(2) {
        let [first, second] = [pair[0], pair[1]];
        if first.fencing_number == second.fencing_number {
            let message = format!(
                "{key}: number {} was granted to {} at {} and to {} at {}",
                first.fencing_number,
                first.attempt.name(),
                format_time(facts, first.grant.at),
                second.attempt.name(),
                format_time(facts, second.grant.at),
            );
            let events = vec![first.grant.event_index, second.grant.event_index];
            let excuse = excuse(facts, first, second);
            findings.record(Invariant::NumbersUnique, second.grant.at, events, message, excuse);
        }
    }
}

/// Checks the order: a lock requested after another was granted has the larger fencing number.
fn check_ordered(facts: &RunFacts<'_>, key: &str, grants: &mut [NumberedGrant<'_>], findings: &mut Findings) {
    let mut granted: Vec<NumberedGrant<'_>> = grants.to_vec();
    granted.sort_by_key(|numbered| numbered.grant.at);
    grants.sort_by_key(|numbered| numbered.grant.earliest_request);
    let mut known = 0;
    let mut largest = 0;
    for numbered in grants.iter() {
        while known < granted.len() && granted[known].grant.at < numbered.grant.earliest_request {
            largest = largest.max(granted[known].fencing_number);
            known += 1;
        }
        if numbered.fencing_number >= largest {
            continue;
        }
        // Each earlier lock with a larger number needs its own excuse.
        let earlier =
            granted[..known].iter().filter(|earlier| earlier.fencing_number > numbered.fencing_number);
        let cases = earlier.map(|earlier| (earlier, excuse(facts, *earlier, *numbered)));
        let Some((earlier, excuse)) = cases.min_by_key(|(_, excuse)| excuse.is_some()) else { continue };
        let message = format!(
            "{key}: {} was granted number {} at {}; {} sent its request later, at {}, and was granted {}",
            earlier.attempt.name(),
            earlier.fencing_number,
            format_time(facts, earlier.grant.at),
            numbered.attempt.name(),
            format_time(facts, numbered.grant.earliest_request),
            numbered.fencing_number,
        );
        let events = vec![earlier.grant.event_index, numbered.grant.event_index];
        findings.record(Invariant::NumbersOrdered, numbered.grant.at, events, message, excuse);
    }
}

/// The excuse for fencing numbers that are out of order. The order holds if fewer than 2q − N nodes lost
/// their fence. The order also holds if node clocks are wrong by less than (max ttl − tolerance) / 2, and no
/// clock was set back by more than the time in which the lock was idle.
fn excuse(facts: &RunFacts<'_>, first: NumberedGrant<'_>, second: NumberedGrant<'_>) -> Option<String> {
    let span = Span { from: first.grant.earliest_request, to: second.grant.at };
    let lossy_nodes = facts.nodes_with_data_loss(span, NodeData::Fences);
    if lossy_nodes.len() < facts.quorum_overlap() {
        return None;
    }
    if !facts.settings.probation {
        return Some("nodes lost their fences, and probation was off".into());
    }
    if let Some(excuse) = moved_addresses::excuse(facts, span) {
        return Some(excuse);
    }
    let bound_micros = (facts.max_ttl() / 1_000).saturating_sub(TOLERANCE_MICROS) / 2;
    if facts.max_clock_offset(second.grant.at) >= bound_micros {
        return Some("nodes lost their fences, and clocks were wrong by more than half the probation".into());
    }
    let idle_since = first.attempt.held_span().map_or(first.grant.at, |span| span.to);
    let idle_micros = second.grant.at.saturating_sub(idle_since) / 1_000;
    let was_set_back = facts.max_clock_setback(span) > idle_micros;
    was_set_back
        .then(|| "nodes lost their fences, and clocks were set back by more than the lock was idle".into())
}

/// A write that a store accepted, and the lock it belongs to.
struct Write<'a> {
    position: u64,
    fencing_number: Option<u64>,
    nonce: Option<&'a str>,
    at: u64,
    event: usize,
    attempt: &'a LockAttempt<'a>,
    grant: &'a Grant<'a>,
}

fn check_writes(facts: &RunFacts<'_>, attempts: &[LockAttempt<'_>], findings: &mut Findings) {
    let mut stores: BTreeMap<&str, Vec<Write<'_>>> = BTreeMap::new();
    for attempt in attempts {
        let Some(grant) = &attempt.grant else { continue };
        for (event, index) in attempt.events.iter().zip(&attempt.event_indexes) {
            if let EventKind::Wrote { store, position, fencing_number, nonce, accepted: true } = &event.kind {
                if fencing_number.is_some()
                    && (*fencing_number, nonce.as_deref()) != (grant.fencing_number, grant.nonce)
                {
                    let message =
                        format!("{} sent {store} another number than it was granted", attempt.name());
                    findings.record_violation(
                        Invariant::CompleteHistory,
                        event.at,
                        vec![grant.event_index, *index],
                        message,
                    );
                }
                stores.entry(store).or_default().push(Write {
                    position: *position,
                    fencing_number: *fencing_number,
                    nonce: nonce.as_deref(),
                    at: event.at,
                    event: *index,
                    attempt,
                    grant,
                });
            }
        }
    }
    for (store, mut writes) in stores {
        writes.sort_by_key(|write| write.position);
        check_stale_writes(facts, store, &writes, findings);
    }
}

/// Checks the writes in the order in which the store executed them: each belongs to the lock of the previous
/// write, or to a later lock.
fn check_stale_writes(facts: &RunFacts<'_>, store: &str, writes: &[Write<'_>], findings: &mut Findings) {
    let mut latest: Option<&Write<'_>> = None;
    for write in writes {
        let Some(previous) = latest else {
            latest = Some(write);
            continue;
        };
        let later_lock = previous.grant.earliest_request > write.grant.at;
        let smaller = write.fencing_number < previous.fencing_number
            || (write.fencing_number.is_some()
                && write.fencing_number == previous.fencing_number
                && write.nonce != previous.nonce);
        if later_lock || smaller {
            let shown = |write: &Write<'_>| {
                write
                    .fencing_number
                    .map_or("no number".into(), |fencing_number| format!("number {fencing_number}"))
            };
            let message = format!(
                "store {store} accepted a write of {} ({}) at {}, after a write of {} ({}), whose lock is later",
                write.attempt.name(),
                shown(write),
                format_time(facts, write.at),
                previous.attempt.name(),
                shown(previous),
            );
            let excuse = match (write.fencing_number, previous.fencing_number) {
                (None, _) | (_, None) => Some("the store checks no number".into()),
                (Some(fencing_number), Some(other)) => excuse(
                    facts,
                    NumberedGrant { fencing_number, attempt: write.attempt, grant: write.grant },
                    NumberedGrant { fencing_number: other, attempt: previous.attempt, grant: previous.grant },
                ),
            };
            let events =
                vec![write.grant.event_index, previous.grant.event_index, previous.event, write.event];
            findings.record(Invariant::NoStaleWrite, write.at, events, message, excuse);
        }
        if write.grant.earliest_request >= previous.grant.earliest_request {
            latest = Some(write);
        }
    }
}

/// How far a node's clock may be behind that of the client that reads it: 250 ms.
const TOLERANCE_MICROS: u64 = 250_000;
