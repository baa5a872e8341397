//! Validity of a single lock: its deadline, its end, and its loss signal.

use super::{Findings, Invariant, LockAttempt, MS, RunFacts, Span, format_time, millis};
use crate::history::EventKind;

pub(super) fn check(facts: &RunFacts<'_>, attempts: &[LockAttempt<'_>], findings: &mut Findings) {
    for attempt in attempts {
        check_deadlines(facts, attempt, findings);
        check_validity_reports(facts, attempt, findings);
        check_loss_signal(facts, attempt, findings);
    }
}

/// Checks that a grant's deadline is at most the ttl, minus drift, after the grant.
fn check_deadlines(facts: &RunFacts<'_>, attempt: &LockAttempt<'_>, findings: &mut Findings) {
    let Some(grant) = &attempt.grant else { return };
    let Some((at, deadline, _)) = grant.deadlines.first().copied() else { return };
    let bound = at + facts.validity(attempt.ttl_ms);
    if deadline > bound {
        let message = format!(
            "{} was granted {} at {} with a deadline {:.3} ms later than its ttl of {} ms allows",
            attempt.name(),
            attempt.keys.join(" + "),
            format_time(facts, at),
            millis(deadline - bound),
            attempt.ttl_ms,
        );
        findings.record_violation(Invariant::DeadlineWithinTtl, at, vec![grant.event_index], message);
    }
}

/// Checks that no lock is valid after its deadline, nor after it was lost, invalid or released.
fn check_validity_reports(facts: &RunFacts<'_>, attempt: &LockAttempt<'_>, findings: &mut Findings) {
    let mut ended: Option<(usize, &str)> = None;
    for (event, index) in attempt.events.iter().zip(&attempt.event_indexes) {
        match &event.kind {
            EventKind::Validated { valid: true, deadline, .. } => {
                let observation = || {
                    format!(
                        "{} saw {} as valid at {}",
                        attempt.name(),
                        attempt.keys.join(" + "),
                        format_time(facts, event.at)
                    )
                };
                if event.at >= *deadline {
                    let message =
                        format!("{}, {:.3} ms past the deadline", observation(), millis(event.at - deadline));
                    findings.record_violation(
                        Invariant::InvalidAfterDeadline,
                        event.at,
                        vec![*index],
                        message,
                    );
                }
                if let Some((end, state)) = ended {
                    let message = format!("{}, when it was {state}", observation());
                    findings.record_violation(Invariant::StaysLost, event.at, vec![end, *index], message);
                }
            }
            EventKind::Validated { valid: false, .. } => ended = ended.or(Some((*index, "invalid already"))),
            EventKind::Lost { .. } => ended = ended.or(Some((*index, "lost already"))),
            EventKind::Releasing => ended = ended.or(Some((*index, "released already"))),
            _ => {}
        }
    }
}

/// Checks that a client that still holds a lock at its deadline receives the loss signal, promptly if its
/// process runs.
fn check_loss_signal(facts: &RunFacts<'_>, attempt: &LockAttempt<'_>, findings: &mut Findings) {
    let (Some(grant), Some(deadline)) = (&attempt.grant, attempt.deadline()) else { return };
    let end = attempt.releasing_at.into_iter().chain(attempt.killed_at).min().unwrap_or(facts.to);
    let until = attempt.lost_at.unwrap_or(end);
    if until <= deadline {
        return;
    }
    // Time in which the process was stopped does not count as a delay of the signal.
    let stopped = facts.stopped_time(attempt.process, Span { from: deadline, to: until });
    let late = (until - deadline).saturating_sub(stopped);
    if attempt.lost_at.is_some_and(|lost| lost <= end) {
        findings.signal_delays.push(late);
    }
    if late > facts.settings.slack_ms * MS {
        let arrival = if attempt.lost_at.is_some() { "came" } else { "had not come" };
        let message = format!(
            "{} lost {} by its deadline at {}; the signal {arrival} {:.0} ms after that",
            attempt.name(),
            attempt.keys.join(" + "),
            format_time(facts, deadline),
            millis(late),
        );
        let last = attempt.event_indexes.last().copied().unwrap_or(grant.event_index);
        findings.record_violation(Invariant::LossSignaled, deadline, vec![grant.event_index, last], message);
    }
}
