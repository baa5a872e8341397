//! Nobody waits for ever while a quorum is up, and every question is answered in its time.

use std::collections::BTreeMap;

use super::{Findings, Invariant, LockAttempt, MS, Span, World, clock, millis};

pub(super) fn check(world: &World<'_>, turns: &[LockAttempt<'_>], findings: &mut Findings) {
    let votes = world.quorum_votes();
    let present = world.quorum_present();
    let occupied = world.occupied();
    for (key, turns) in by_key(turns) {
        for stall in stalls(world, &turns) {
            stalled(world, key, stall, &votes, &turns, findings);
            starved(world, key, stall, (&votes, &occupied), &turns, findings);
            recovered(world, stall, &present, &turns, findings);
        }
    }
    for turn in turns {
        answered(world, turn, findings);
    }
}

fn by_key<'a, 'b>(turns: &'b [LockAttempt<'a>]) -> BTreeMap<&'a str, Vec<&'b LockAttempt<'a>>> {
    let mut keys: BTreeMap<&str, Vec<&LockAttempt<'_>>> = BTreeMap::new();
    for turn in turns {
        for key in turn.keys {
            keys.entry(key).or_default().push(turn);
        }
    }
    keys
}

/// When the key was wanted, nobody believed to hold it, and nobody was granted it.
fn stalls(world: &World<'_>, turns: &[&LockAttempt<'_>]) -> Vec<Span> {
    let mut wanted: Vec<Span> = turns.iter().flat_map(|turn| awake(world, turn)).collect();
    wanted.sort_by_key(|span| span.from);
    let mut holds: Vec<Span> = turns.iter().filter_map(|turn| turn.believed()).collect();
    holds.sort_by_key(|span| span.from);

    let (held_until, wanted_until) = (reach(&holds), reach(&wanted));
    let mut stalls = Vec::new();
    // Who is refused and asks again goes on waiting, but a stall begins only where somebody does wait.
    let mut stall = |from: u64, to: u64| {
        let begun = wanted.partition_point(|span| span.from <= from);
        let waiting = begun > 0 && wanted_until[begun - 1] > from;
        let from = if waiting { from } else { wanted.get(begun).map_or(to, |next| next.from) };
        if from < to {
            stalls.push(Span { from, to });
        }
    };
    for wanted in joined(&wanted) {
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

/// For each of these, in the order of their beginnings: the latest end so far.
fn reach(spans: &[Span]) -> Vec<u64> {
    let mut latest = 0;
    let ends = spans.iter().map(|span| {
        latest = latest.max(span.to);
        latest
    });
    ends.collect()
}

/// While it waited, less the time in which its process stood still.
fn awake(world: &World<'_>, turn: &LockAttempt<'_>) -> Vec<Span> {
    let waited = turn.waited(world);
    let mut spans = Vec::new();
    let mut from = waited.from;
    for stop in world.stops(turn.process, waited) {
        spans.push(Span { from, to: stop.from });
        from = stop.to;
    }
    spans.push(Span { from, to: waited.to });
    spans.retain(|span| span.from < span.to);
    spans
}

/// Waits that follow each other closely are one: who is refused asks again.
fn joined(spans: &[Span]) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.from <= last.to.saturating_add(BREATH) => last.to = last.to.max(span.to),
            _ => joined.push(*span),
        }
    }
    joined
}

/// A key that is wanted and free is granted within the bound, counted while a quorum of nodes votes.
fn stalled(
    world: &World<'_>,
    key: &str,
    stall: Span,
    votes: &[Span],
    turns: &[&LockAttempt<'_>],
    findings: &mut Findings,
) {
    let bound = world.settings.recovery_ms * MS;
    let usable = votes.iter().filter_map(|span| span.and(stall)).max_by_key(Span::len);
    let Some(usable) = usable.filter(|span| span.len() > bound) else { return };
    let waiting = turns.iter().filter(|turn| turn.waited(world).meets(usable));
    let events: Vec<usize> = waiting.filter_map(|turn| turn.places.first().copied()).take(8).collect();
    let words = format!(
        "{key}: wanted, free, and not granted from {} for {:.0} ms, though a quorum of nodes was voting (the bound is {} ms)",
        clock(world, usable.from),
        millis(usable.len()),
        world.settings.recovery_ms,
    );
    findings.broken(Invariant::Progress, usable.from + bound, events, words);
}

/// What stands on a minority of the nodes keeps nobody from a key that is free on a quorum. Its last holder may have died.
fn starved(
    world: &World<'_>,
    key: &str,
    stall: Span,
    (votes, occupied): (&[Span], &[Span]),
    turns: &[&LockAttempt<'_>],
    findings: &mut Findings,
) {
    let Some(starvation_ms) = world.settings.starvation_ms else { return };
    let ttl_ms = turns.iter().map(|turn| turn.ttl_ms).max().unwrap_or(0);
    let bound_ms = ttl_ms + starvation_ms + world.settings.slack_ms;
    let usable = votes.iter().filter_map(|span| span.and(stall));
    let usable = usable.flat_map(|span| occupied.iter().filter_map(move |other| other.and(span)));
    let Some(usable) = usable.max_by_key(Span::len).filter(|span| span.len() > bound_ms * MS) else { return };
    let waiting = turns.iter().filter(|turn| turn.waited(world).meets(usable));
    let events: Vec<usize> = waiting.filter_map(|turn| turn.places.first().copied()).take(8).collect();
    let words = format!(
        "{key}: wanted, free, and not granted from {} for {:.0} ms, though a quorum of nodes was voting beside those where keys stood that were nobody's (the bound is {bound_ms} ms)",
        clock(world, usable.from),
        millis(usable.len()),
    );
    findings.broken(Invariant::Progress, usable.from + bound_ms * MS, events, words);
}

/// How long it took from when something was mended, a quorum being there, to the grant that ended the stall.
fn recovered(
    world: &World<'_>,
    stall: Span,
    present: &[Span],
    turns: &[&LockAttempt<'_>],
    findings: &mut Findings,
) {
    let granted = turns.iter().any(|turn| turn.grant.as_ref().is_some_and(|grant| grant.at == stall.to));
    if !granted {
        return;
    }
    let mended = world.bouts.iter().filter(|bout| bout.healed && !bout.fault.nodes.is_empty());
    let mended = mended.map(|bout| bout.span.to).filter(|at| stall.from <= *at && *at < stall.to);
    let serving = |at: &u64| present.iter().any(|span| span.from <= *at && *at < span.to);
    if let Some(from) = mended.filter(serving).min() {
        findings.recoveries.push(Span { from, to: stall.to });
    }
}

/// An acquire ends within its wait, and a release within the node time-out, and what a busy machine needs.
fn answered(world: &World<'_>, turn: &LockAttempt<'_>, findings: &mut Findings) {
    let slack = world.settings.slack_ms * MS;
    let waited = turn.waited(world);
    let mut late = |what: &str, span: Span, allowed: u64| {
        let took = span.len().saturating_sub(world.stood_still(turn.process, span));
        if took > allowed + slack {
            let words = format!(
                "{} began to {what} {} at {} and had no answer within {:.0} ms; allowed were {:.0} ms",
                turn.name(),
                turn.keys.join(" + "),
                clock(world, span.from),
                millis(took),
                millis(allowed),
            );
            findings.broken(Invariant::RepliesInTime, span.from + allowed, turn.places.clone(), words);
        }
    };
    // The last attempt may begin just before the wait is over.
    late("acquire", waited, (turn.wait_ms + world.settings.reply_timeout_ms) * MS);
    if let (Some(from), false) = (turn.releasing, turn.abandoned) {
        let to = turn.released.into_iter().chain(turn.killed).min().unwrap_or(world.to);
        late("release", Span { from, to }, world.settings.reply_timeout_ms * MS);
    }
}

/// Between being refused and asking again.
const BREATH: u64 = 500 * MS;
