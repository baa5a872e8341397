//! Checks fencing numbers: they are unique, they follow the order of the locks, and no stale write gets through.

use std::collections::BTreeMap;

use super::{Findings, Grant, Invariant, LockAttempt, Span, World, clock};
use crate::history::EventKind;

pub(super) fn check(world: &World<'_>, attempts: &[LockAttempt<'_>], findings: &mut Findings) {
    let mut numbers: BTreeMap<&str, Vec<NumberedGrant<'_>>> = BTreeMap::new();
    for attempt in attempts {
        let Some(grant) = &attempt.grant else { continue };
        let Some(number) = grant.fencing_number else { continue };
        for key in attempt.keys {
            numbers.entry(key).or_default().push(NumberedGrant { number, attempt, grant });
        }
    }
    for (key, mut numbers) in numbers {
        check_unique(world, key, &mut numbers, findings);
        check_ordered(world, key, &mut numbers, findings);
    }
    check_writes(world, attempts, findings);
}

#[derive(Clone, Copy)]
struct NumberedGrant<'a> {
    number: u64,
    attempt: &'a LockAttempt<'a>,
    grant: &'a Grant<'a>,
}

fn check_unique(world: &World<'_>, key: &str, numbers: &mut [NumberedGrant<'_>], findings: &mut Findings) {
    numbers.sort_by_key(|one| (one.number, one.grant.at));
    for pair in numbers.windows(2) {
        let [first, second] = [pair[0], pair[1]];
        if first.number == second.number {
            let words = format!(
                "{key}: number {} was granted to {} at {} and to {} at {}",
                first.number,
                first.attempt.name(),
                clock(world, first.grant.at),
                second.attempt.name(),
                clock(world, second.grant.at),
            );
            let events = vec![first.grant.event_index, second.grant.event_index];
            let excuse = excuse(world, first, second);
            findings.record(Invariant::NumbersUnique, second.grant.at, events, words, excuse);
        }
    }
}

/// Checks the order: a lock requested after another was granted has the larger number.
fn check_ordered(world: &World<'_>, key: &str, numbers: &mut [NumberedGrant<'_>], findings: &mut Findings) {
    let mut granted: Vec<NumberedGrant<'_>> = numbers.to_vec();
    granted.sort_by_key(|one| one.grant.at);
    numbers.sort_by_key(|one| one.grant.earliest);
    let mut known = 0;
    let mut largest = 0;
    for one in numbers.iter() {
        while known < granted.len() && granted[known].grant.at < one.grant.earliest {
            largest = largest.max(granted[known].number);
            known += 1;
        }
        if one.number >= largest {
            continue;
        }
        // Each earlier lock with a larger number needs its own excuse.
        let earlier = granted[..known].iter().filter(|earlier| earlier.number > one.number);
        let cases = earlier.map(|earlier| (earlier, excuse(world, *earlier, *one)));
        let Some((earlier, excuse)) = cases.min_by_key(|(_, excuse)| excuse.is_some()) else { continue };
        let words = format!(
            "{key}: {} was granted number {} at {}; {} sent its request later, at {}, and was granted {}",
            earlier.attempt.name(),
            earlier.number,
            clock(world, earlier.grant.at),
            one.attempt.name(),
            clock(world, one.grant.earliest),
            one.number,
        );
        let events = vec![earlier.grant.event_index, one.grant.event_index];
        findings.record(Invariant::NumbersOrdered, one.grant.at, events, words, excuse);
    }
}

/// Why the numbers of two locks could be out of order. DESIGN: order "holds if fewer than 2q − N nodes lost their
/// counter, or node clocks are wrong by less than (Q − tol)/2 and were not set back by more than the idle time".
fn excuse(world: &World<'_>, first: NumberedGrant<'_>, second: NumberedGrant<'_>) -> Option<String> {
    let span = Span { from: first.grant.earliest, to: second.grant.at };
    let forgetters = world.nodes_with_data_loss(span, |_, counters| counters);
    if forgetters.len() < world.shared() {
        return None;
    }
    if !world.settings.probation {
        return Some("nodes lost their counters, and probation was off".into());
    }
    let bound_micros = (world.max_ttl() / 1_000).saturating_sub(TOLERANCE_MICROS) / 2;
    if world.clock_error(second.grant.at) >= bound_micros {
        return Some(
            "nodes lost their counters, and clocks were wrong by more than half the probation".into(),
        );
    }
    let idle_since = first.attempt.held_span().map_or(first.grant.at, |believed| believed.to);
    let idle_micros = second.grant.at.saturating_sub(idle_since) / 1_000;
    let back = world.clock_setback(span) > idle_micros;
    back.then(|| "nodes lost their counters, and clocks were set back by more than the lock was idle".into())
}

/// A write that a store accepted, and its place in the history.
struct Write<'a> {
    position: u64,
    number: Option<u64>,
    nonce: Option<&'a str>,
    at: u64,
    event: usize,
    attempt: &'a LockAttempt<'a>,
    grant: &'a Grant<'a>,
}

fn check_writes(world: &World<'_>, attempts: &[LockAttempt<'_>], findings: &mut Findings) {
    let mut stores: BTreeMap<&str, Vec<Write<'_>>> = BTreeMap::new();
    for attempt in attempts {
        let Some(grant) = &attempt.grant else { continue };
        for (event, place) in attempt.events.iter().zip(&attempt.event_indexes) {
            if let EventKind::Wrote {
                store,
                position: order,
                fencing_number: number,
                nonce,
                accepted: true,
            } = &event.kind
            {
                if number.is_some() && (*number, nonce.as_deref()) != (grant.fencing_number, grant.nonce) {
                    let words = format!("{} sent {store} another number than it was granted", attempt.name());
                    findings.violation(
                        Invariant::CompleteHistory,
                        event.at,
                        vec![grant.event_index, *place],
                        words,
                    );
                }
                stores.entry(store).or_default().push(Write {
                    position: *order,
                    number: *number,
                    nonce: nonce.as_deref(),
                    at: event.at,
                    event: *place,
                    attempt,
                    grant,
                });
            }
        }
    }
    for (store, mut writes) in stores {
        writes.sort_by_key(|write| write.position);
        check_stale_writes(world, store, &writes, findings);
    }
}

/// Checks the writes in the order in which the store executed them: each one belongs to the lock of the previous write,
/// or to a later lock.
fn check_stale_writes(world: &World<'_>, store: &str, writes: &[Write<'_>], findings: &mut Findings) {
    let mut latest: Option<&Write<'_>> = None;
    for write in writes {
        let Some(before) = latest else {
            latest = Some(write);
            continue;
        };
        let later_lock = before.grant.earliest > write.grant.at;
        let smaller = write.number < before.number
            || (write.number.is_some() && write.number == before.number && write.nonce != before.nonce);
        if later_lock || smaller {
            let shown = |write: &Write<'_>| {
                write.number.map_or("no number".into(), |number| format!("number {number}"))
            };
            let words = format!(
                "store {store} accepted a write of {} ({}) at {}, after a write of {} ({}), whose lock is later",
                write.attempt.name(),
                shown(write),
                clock(world, write.at),
                before.attempt.name(),
                shown(before),
            );
            let excuse = match (write.number, before.number) {
                (None, _) | (_, None) => Some("the store checks no number".into()),
                (Some(number), Some(other)) => excuse(
                    world,
                    NumberedGrant { number, attempt: write.attempt, grant: write.grant },
                    NumberedGrant { number: other, attempt: before.attempt, grant: before.grant },
                ),
            };
            let events = vec![write.grant.event_index, before.grant.event_index, before.event, write.event];
            findings.record(Invariant::NoStaleWrite, write.at, events, words, excuse);
        }
        if write.grant.earliest >= before.grant.earliest {
            latest = Some(write);
        }
    }
}

/// How far a node's clock may be behind that of the client that reads it: DESIGN's tol, 250 ms.
const TOLERANCE_MICROS: u64 = 250_000;
