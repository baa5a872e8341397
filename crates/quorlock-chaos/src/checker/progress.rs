//! Progress: no client waits forever while a quorum is up, and every call returns in time.

use std::collections::BTreeMap;

use super::{Findings, Invariant, LockAttempt, MS, RunFacts, Span, format_time, millis};

pub(super) fn check(facts: &RunFacts<'_>, attempts: &[LockAttempt<'_>], findings: &mut Findings) {
    let votes = facts.quorum_votes();
    let present = facts.quorum_present();
    let stale_key_spans = facts.stale_key_spans();
    for (key, attempts) in by_key(attempts) {
        for stall in unserved_spans(facts, &attempts) {
            check_stall(facts, key, stall, &votes, &attempts, findings);
            check_starvation(facts, key, stall, (&votes, &stale_key_spans), &attempts, findings);
            record_recovery(facts, stall, &present, &attempts, findings);
        }
    }
    for attempt in attempts {
        check_reply_time(facts, attempt, findings);
    }
}

fn by_key<'a, 'b>(attempts: &'b [LockAttempt<'a>]) -> BTreeMap<&'a str, Vec<&'b LockAttempt<'a>>> {
    let mut keys: BTreeMap<&str, Vec<&LockAttempt<'_>>> = BTreeMap::new();
    for attempt in attempts {
        for key in attempt.keys {
            keys.entry(key).or_default().push(attempt);
        }
    }
    keys
}

/// The spans in which the key was wanted, no client believed that it held it, and it was not granted.
fn unserved_spans(facts: &RunFacts<'_>, attempts: &[&LockAttempt<'_>]) -> Vec<Span> {
    let mut wanted: Vec<Span> = attempts.iter().flat_map(|attempt| running_spans(facts, attempt)).collect();
    wanted.sort_by_key(|span| span.from);
    let mut holds: Vec<Span> = attempts.iter().filter_map(|attempt| attempt.held_span()).collect();
    holds.sort_by_key(|span| span.from);

    let (held_until, wanted_until) = (latest_ends(&holds), latest_ends(&wanted));
    let mut stalls = Vec::new();
    // A client that failed and retries counts as waiting. But a stall begins only when an attempt is under
    // way.
    let mut stall = |from: u64, to: u64| {
        let begun_count = wanted.partition_point(|span| span.from <= from);
        let waiting = begun_count > 0 && wanted_until[begun_count - 1] > from;
        let from = if waiting { from } else { wanted.get(begun_count).map_or(to, |next| next.from) };
        if from < to {
            stalls.push(Span { from, to });
        }
    };
    for wanted in merged(&wanted) {
        let mut from = wanted.from;
        let first = holds.partition_point(|hold| hold.from < wanted.from);
        if first > 0 {
            from = from.max(held_until[first - 1].min(wanted.to));
        }
        for hold in holds[first..].iter().take_while(|hold| hold.from < wanted.to) {
            stall(from, hold.from);
            from = from.max(hold.to);
        }
        stall(from, wanted.to);
    }
    stalls
}

/// For each span, in order of start times: the latest end so far.
fn latest_ends(spans: &[Span]) -> Vec<u64> {
    let mut latest = 0;
    let ends = spans.iter().map(|span| {
        latest = latest.max(span.to);
        latest
    });
    ends.collect()
}

/// The time in which an attempt waited, minus the time in which its process was stopped.
fn running_spans(facts: &RunFacts<'_>, attempt: &LockAttempt<'_>) -> Vec<Span> {
    let waited = attempt.wait_span(facts);
    let mut spans = Vec::new();
    let mut from = waited.from;
    for stop in facts.stopped_spans(attempt.process, waited) {
        spans.push(Span { from, to: stop.from });
        from = stop.to;
    }
    spans.push(Span { from, to: waited.to });
    spans.retain(|span| span.from < span.to);
    spans
}

/// Joins waits that follow each other closely: the client failed and retries.
fn merged(spans: &[Span]) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.from <= last.to.saturating_add(MIN_STALL) => last.to = last.to.max(span.to),
            _ => joined.push(*span),
        }
    }
    joined
}

/// Checks that a wanted and free key is granted within the bound, counted while a quorum of nodes votes.
fn check_stall(
    facts: &RunFacts<'_>,
    key: &str,
    stall: Span,
    votes: &[Span],
    attempts: &[&LockAttempt<'_>],
    findings: &mut Findings,
) {
    let bound = facts.settings.recovery_ms * MS;
    let usable = votes.iter().filter_map(|span| span.intersection(stall)).max_by_key(Span::len);
    let Some(usable) = usable.filter(|span| span.len() > bound) else { return };
    let waiting = attempts.iter().filter(|attempt| attempt.wait_span(facts).overlaps(usable));
    let events: Vec<usize> =
        waiting.filter_map(|attempt| attempt.event_indexes.first().copied()).take(8).collect();
    let message = format!(
        "{key}: wanted, free, and not granted from {} for {:.0} ms, though a quorum of nodes was voting (the bound is {} ms)",
        format_time(facts, usable.from),
        millis(usable.len()),
        facts.settings.recovery_ms,
    );
    findings.record_violation(Invariant::Progress, usable.from + bound, events, message);
}

/// Checks that stale keys on a minority of the nodes do not block a lock. The bound includes the lock's ttl,
/// because the last holder may have died.
fn check_starvation(
    facts: &RunFacts<'_>,
    key: &str,
    stall: Span,
    (votes, stale_key_spans): (&[Span], &[Span]),
    attempts: &[&LockAttempt<'_>],
    findings: &mut Findings,
) {
    let Some(starvation_ms) = facts.settings.starvation_ms else { return };
    let ttl_ms = attempts.iter().map(|attempt| attempt.ttl_ms).max().unwrap_or(0);
    let bound_ms = ttl_ms + starvation_ms + facts.settings.slack_ms;
    let usable = votes.iter().filter_map(|span| span.intersection(stall));
    let usable =
        usable.flat_map(|span| stale_key_spans.iter().filter_map(move |other| other.intersection(span)));
    let Some(usable) = usable.max_by_key(Span::len).filter(|span| span.len() > bound_ms * MS) else { return };
    let waiting = attempts.iter().filter(|attempt| attempt.wait_span(facts).overlaps(usable));
    let events: Vec<usize> =
        waiting.filter_map(|attempt| attempt.event_indexes.first().copied()).take(8).collect();
    let message = format!(
        "{key}: wanted, free, and not granted from {} for {:.0} ms, though a quorum of nodes without stale keys was voting (the bound is {bound_ms} ms)",
        format_time(facts, usable.from),
        millis(usable.len()),
    );
    findings.record_violation(Invariant::Progress, usable.from + bound_ms * MS, events, message);
}

/// Records the recovery time: from the end of a fault, with a quorum present, to the grant that ended the
/// stall.
fn record_recovery(
    facts: &RunFacts<'_>,
    stall: Span,
    present: &[Span],
    attempts: &[&LockAttempt<'_>],
    findings: &mut Findings,
) {
    let granted =
        attempts.iter().any(|attempt| attempt.grant.as_ref().is_some_and(|grant| grant.at == stall.to));
    if !granted {
        return;
    }
    let fault_ends =
        facts.fault_windows.iter().filter(|window| window.has_ended && !window.fault.nodes.is_empty());
    let fault_ends = fault_ends.map(|window| window.span.to).filter(|at| stall.from <= *at && *at < stall.to);
    let serving = |at: &u64| present.iter().any(|span| span.from <= *at && *at < span.to);
    if let Some(from) = fault_ends.filter(serving).min() {
        findings.recoveries.push(Span { from, to: stall.to });
    }
}

/// Checks that an acquire ends within its wait timeout, and a release within the reply timeout, plus slack
/// for a busy machine.
fn check_reply_time(facts: &RunFacts<'_>, attempt: &LockAttempt<'_>, findings: &mut Findings) {
    let slack = facts.settings.slack_ms * MS;
    let waited = attempt.wait_span(facts);
    let mut check_span = |action: &str, span: Span, allowed: u64| {
        let took = span.len().saturating_sub(facts.stopped_time(attempt.process, span));
        if took > allowed + slack {
            let message = format!(
                "{} began to {action} {} at {} and got no reply within {:.0} ms (allowed: {:.0} ms)",
                attempt.name(),
                attempt.keys.join(" + "),
                format_time(facts, span.from),
                millis(took),
                millis(allowed),
            );
            findings.record_violation(
                Invariant::RepliesInTime,
                span.from + allowed,
                attempt.event_indexes.clone(),
                message,
            );
        }
    };
    // The last round may begin just before the wait timeout.
    check_span("acquire", waited, (attempt.wait_ms + facts.settings.reply_timeout_ms) * MS);
    if let (Some(from), false) = (attempt.releasing_at, attempt.cancelled) {
        let to = attempt.released_at.into_iter().chain(attempt.killed_at).min().unwrap_or(facts.to);
        check_span("release", Span { from, to }, facts.settings.reply_timeout_ms * MS);
    }
}

/// The longest gap between a failure and the retry.
const MIN_STALL: u64 = 500 * MS;
