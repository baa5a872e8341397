//! What a single lock promises to its holder: an honest deadline, an end, and word of it.

use super::{Findings, Invariant, LockAttempt, MS, Span, World, clock, millis};
use crate::history::EventKind;

pub(super) fn check(world: &World<'_>, turns: &[LockAttempt<'_>], findings: &mut Findings) {
    for turn in turns {
        deadline(world, turn, findings);
        looks(world, turn, findings);
        told(world, turn, findings);
    }
}

/// The deadline of a grant lies no further ahead than that of a lock whose request went out and came back at once.
fn deadline(world: &World<'_>, turn: &LockAttempt<'_>, findings: &mut Findings) {
    let Some(grant) = &turn.grant else { return };
    let Some((at, deadline, _)) = grant.terms.first().copied() else { return };
    let bound = at + world.validity(turn.ttl_ms);
    if deadline > bound {
        let words = format!(
            "{} was granted {} at {} with a deadline {:.3} ms later than its ttl of {} ms allows",
            turn.name(),
            turn.keys.join(" + "),
            clock(world, at),
            millis(deadline - bound),
            turn.ttl_ms,
        );
        findings.broken(Invariant::DeadlineWithinTtl, at, vec![grant.place], words);
    }
}

/// No lock is valid past its deadline, nor once it was lost, invalid or given up.
fn looks(world: &World<'_>, turn: &LockAttempt<'_>, findings: &mut Findings) {
    let mut over: Option<(usize, &str)> = None;
    for (event, place) in turn.events.iter().zip(&turn.places) {
        match &event.kind {
            EventKind::Looked { valid: true, deadline, .. } => {
                let who = || {
                    format!(
                        "{} found {} valid at {}",
                        turn.name(),
                        turn.keys.join(" + "),
                        clock(world, event.at)
                    )
                };
                if event.at >= *deadline {
                    let words = format!("{}, {:.3} ms past the deadline", who(), millis(event.at - deadline));
                    findings.broken(Invariant::InvalidAfterDeadline, event.at, vec![*place], words);
                }
                if let Some((end, how)) = over {
                    let words = format!("{}, when it was {how}", who());
                    findings.broken(Invariant::StaysLost, event.at, vec![end, *place], words);
                }
            }
            EventKind::Looked { valid: false, .. } => over = over.or(Some((*place, "invalid already"))),
            EventKind::Lost { .. } => over = over.or(Some((*place, "lost already"))),
            EventKind::Releasing => over = over.or(Some((*place, "given up already"))),
            _ => {}
        }
    }
}

/// Who still holds a lock at its deadline is told that it is lost, and soon if it can hear.
fn told(world: &World<'_>, turn: &LockAttempt<'_>, findings: &mut Findings) {
    let (Some(grant), Some(deadline)) = (&turn.grant, turn.deadline()) else { return };
    let end = turn.releasing.into_iter().chain(turn.killed).min().unwrap_or(world.to);
    let until = turn.lost.unwrap_or(end);
    if until <= deadline {
        return;
    }
    // Time in which the process stood still, or had just been woken, is not the signal's.
    let stood_still = world.stood_still(turn.process, Span { from: deadline, to: until });
    let late = (until - deadline).saturating_sub(stood_still);
    if turn.lost.is_some_and(|lost| lost <= end) {
        findings.signals_late.push(late);
    }
    if late > world.settings.slack_ms * MS {
        let came = if turn.lost.is_some() { "came" } else { "had not come" };
        let words = format!(
            "{} lost {} by its deadline at {}; the signal {came} {:.0} ms after that",
            turn.name(),
            turn.keys.join(" + "),
            clock(world, deadline),
            millis(late),
        );
        let last = turn.places.last().copied().unwrap_or(grant.place);
        findings.broken(Invariant::LossSignalled, deadline, vec![grant.place, last], words);
    }
}
