//! The checker against forged histories: each kind of violation and of excuse, one at a time.

mod forge;

use forge::{JUMP, WIPE, check, story};
use quorlock_chaos::checker::{Invariant, check_history};
use quorlock_chaos::history::{Actor, Control, Effect, EventKind, FailureReason, Fault, History, LockKind};

#[test]
fn a_good_run_holds_and_is_counted() {
    let mut story = story();
    story.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 450, 800, Some(11)).hold(1, 1, 900, 1_000, Some(12));
    story.fault(1, "kill", &[0], 850, 2_000, &[Effect::Down]);
    let verdict = check(&story, &[], &[]);
    assert_eq!(verdict.acquisitions, 3);
    assert_eq!(verdict.faults["kill"], 1);
    assert_eq!(verdict.totals.wait_ms.map(|[_, _, slowest]| slowest), Some(10.0));
    assert!(verdict.to_string().starts_with("every invariant held: 3 acquisitions, 1 fault in"), "{verdict}");
}

#[test]
fn a_history_survives_its_own_text() {
    let mut story = story();
    story.hold(1, 0, 100, 400, Some(10)).fault(1, "jump", &[0, 1], 50, 60, &JUMP);
    let history = story.history();
    let text: String = history.events().iter().map(|event| event.line() + "\n").collect();
    assert_eq!(History::read(text.as_bytes()).expect("every line is an event"), history);

    // A client that was killed in the middle of a line has recorded the lines before it.
    let cut = History::read(&text.as_bytes()[..text.len() - 3]).expect("the rest is whole");
    assert_eq!(cut.events(), &history.events()[..history.events().len() - 1]);
    assert!(History::read("nonsense\n".as_bytes()).is_err());
}

#[test]
fn two_at_once_are_caught() {
    let mut story = story();
    story.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 399, 800, Some(11));
    let verdict = check(&story, &[Invariant::Exclusion], &[]);
    assert!(
        verdict.violations[0].message.contains("for 1.000 ms both believed that they held it"),
        "{verdict:?}"
    );
}

#[test]
fn the_deadline_ends_what_is_believed_and_so_does_a_kill() {
    // Client 1 never releases it; its deadline comes at 1 088, and then the signal.
    let mut story = story();
    story.take(1, 0, 100, Some(10)).lost(1, 0, 1_085).hold(2, 0, 1_090, 1_200, Some(11));
    check(&story, &[], &[]);

    let mut story = forge::story();
    story.take(1, 0, 100, Some(10)).kill(1, 300).hold(2, 0, 301, 500, Some(11));
    check(&story, &[], &[]);
}

#[test]
fn other_keys_and_other_readers_are_no_rivals() {
    let mut story = story();
    story.key("a").hold(1, 0, 100, 400, Some(10)).key("b").hold(2, 0, 200, 300, Some(9));
    check(&story, &[], &[]);

    let mut story = forge::story();
    story.kind(LockKind::Read).hold(1, 0, 100, 400, Some(10)).hold(2, 0, 200, 300, Some(11));
    check(&story, &[], &[]);
    story.kind(LockKind::Write).hold(3, 0, 250, 280, Some(12));
    check(&story, &[Invariant::Exclusion], &[]);
}

#[test]
fn one_permit_too_many_is_caught() {
    let mut story = story();
    story.kind(LockKind::Permit { of: 2 }).hold(1, 0, 100, 400, Some(10)).hold(2, 0, 200, 300, Some(11));
    check(&story, &[], &[]);
    story.hold(3, 0, 250, 280, Some(12));
    check(&story, &[Invariant::Exclusion], &[]);
}

#[test]
fn nodes_that_forget_excuse_nothing_while_there_is_probation() {
    let overlap = || {
        let mut story = story();
        story.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 300, 800, Some(11));
        story.fault(1, "wipe", &[0, 1, 2], 200, 201, &WIPE);
        story
    };
    check(&overlap(), &[Invariant::Exclusion], &[]);
    let mut off = overlap();
    off.settings.probation = false;
    let verdict = check(&off, &[], &[Invariant::Exclusion]);
    assert!(verdict.expected[0].excuse.contains("probation was off"), "{verdict:?}");
    // Even then, fewer nodes than the lock could spare are no excuse.
    let mut story = story();
    story.settings.probation = false;
    story.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 300, 800, Some(11));
    story.fault(1, "wipe", &[0], 200, 201, &WIPE);
    check(&story, &[Invariant::Exclusion], &[]);
}

#[test]
fn a_node_may_forget_at_any_time_until_it_is_healed() {
    let overlap = |from: u64, to: u64| {
        let mut story = story();
        story.settings.fenced = false;
        story.settings.probation = false;
        story.hold(1, 0, 100, 400, None).hold(2, 0, 300, 800, None);
        story.fault(1, "flush", &[0, 1, 2], from, to, &WIPE);
        story
    };
    // Client 1 sent its request at 90. The flush was recorded before that and may have been done after.
    check(&overlap(85, 95), &[], &[Invariant::Exclusion]);
    check(&overlap(85, 90), &[], &[Invariant::Exclusion]);
    check(&overlap(80, 89), &[Invariant::Exclusion], &[]);
    // It is no excuse unless it was recorded before client 2 was granted the lock.
    check(&overlap(300, 400), &[], &[Invariant::Exclusion]);
    check(&overlap(301, 400), &[Invariant::Exclusion], &[]);
}

#[test]
fn a_node_may_lose_its_counters_at_any_time_until_it_is_healed() {
    let lost = |to: u64| {
        let mut story = story();
        story.settings.probation = false;
        story.hold(1, 0, 100, 200, Some(20)).hold(2, 0, 300, 400, Some(10));
        story.fault(1, "flush", &[0], 80, to, &WIPE);
        story
    };
    check(&lost(110), &[], &[Invariant::NumbersOrdered]);
    check(&lost(89), &[Invariant::NumbersOrdered], &[]);
}

#[test]
fn the_same_number_twice_is_caught() {
    let mut story = story();
    story.hold(1, 0, 100, 200, Some(10)).hold(2, 0, 195, 400, Some(10));
    check(&story, &[Invariant::Exclusion, Invariant::NumbersUnique], &[]);
}

#[test]
fn numbers_out_of_order_are_caught_past_any_number_of_locks() {
    let mut story = story();
    story.hold(1, 0, 100, 200, Some(20)).hold(2, 0, 300, 400, Some(30)).hold(1, 1, 500, 600, Some(25));
    check(&story, &[Invariant::NumbersOrdered], &[]);
}

#[test]
fn a_long_waiter_requests_when_its_attempt_begins() {
    // Client 2 wants it from 50 on, but the attempt that won began at 290, as its deadline shows.
    let mut story = story();
    story.waits(2, 0, 50).hold(1, 0, 100, 200, Some(20));
    story.granted(2, 0, 300, 290 + 988, Some(19)).release(2, 0, 400);
    check(&story, &[Invariant::NumbersOrdered], &[]);
}

#[test]
fn a_client_that_began_before_the_other_was_granted_may_have_the_smaller_number() {
    // Client 2 began at 190 and was slow: client 1's lock came and went meanwhile.
    let mut story = story();
    story.hold(1, 0, 200, 210, Some(20)).slow(2, 0, 190, 400, 500, Some(19));
    check(&story, &[], &[]);
}

#[test]
fn a_stale_write_is_caught_and_a_refused_one_is_fine() {
    let late = |accepted: bool, fenced: bool| {
        let mut story = story();
        story.take(1, 0, 100, Some(10)).lost(1, 0, 1_080).take(2, 0, 1_200, Some(11));
        story.write(2, 0, 1_250, 1, fenced.then_some(11), true).write(
            1,
            0,
            1_300,
            2,
            fenced.then_some(10),
            accepted,
        );
        story.release(2, 0, 1_400);
        story
    };
    check(&late(false, true), &[], &[]);
    check(&late(true, true), &[Invariant::NoStaleWrite], &[]);
    let verdict = check(&late(true, false), &[], &[Invariant::NoStaleWrite]);
    assert!(verdict.expected[0].excuse.contains("checks no number"));
    let verdict = check(&late(false, true), &[], &[]);
    assert_eq!(verdict.totals.rejected_writes, 1);
}

#[test]
fn a_store_that_accepts_a_number_that_was_not_granted_is_caught() {
    let mut story = story();
    story.hold(1, 0, 100, 200, Some(10)).write(1, 0, 150, 1, Some(99), true);
    check(&story, &[Invariant::CompleteHistory], &[]);
}

#[test]
fn valid_past_the_deadline_is_caught() {
    let mut story = story();
    story.take(1, 0, 100, Some(10)).look(1, 0, 1_079, 1_078).lost(1, 0, 1_080);
    check(&story, &[Invariant::InvalidAfterDeadline], &[]);
}

#[test]
fn what_was_lost_does_not_come_back() {
    let mut story = story();
    story.take(1, 0, 100, Some(10)).lost(1, 0, 500).look(1, 0, 600, 1_500).release(1, 0, 700);
    check(&story, &[Invariant::StaysLost], &[]);

    let mut story = forge::story();
    story.take(1, 0, 100, Some(10)).invalid(1, 0, 500).look(1, 0, 600, 1_500).release(1, 0, 700);
    check(&story, &[Invariant::StaysLost], &[]);
}

#[test]
fn a_deadline_without_drift_is_caught() {
    let mut story = story();
    story.settings.drift_ppm = 10_000;
    // Requested at 95, granted at 100, and valid until start + ttl − 2 ms.
    story.waits(1, 0, 95).granted(1, 0, 100, 95 + 1_000 - 2, Some(10)).release(1, 0, 200);
    check(&story, &[Invariant::DeadlineWithinTtl], &[]);
}

#[test]
fn a_loss_without_a_signal_is_caught() {
    let mut story = story();
    story.take(1, 0, 100, Some(10)).hold(2, 0, 2_500, 2_600, Some(11));
    check(&story, &[Invariant::LossSignalled], &[]);

    // The signal of the next renewal, a second and more after the deadline at 1 078.
    let mut late = forge::story();
    late.take(1, 0, 100, Some(10)).lost(1, 0, 2_100).hold(2, 0, 2_500, 2_600, Some(11));
    check(&late, &[Invariant::LossSignalled], &[]);

    // A process that stands still receives nothing; the remaining delay is recorded as a measurement.
    let mut stopped = forge::story();
    stopped.take(1, 0, 100, Some(10)).stop(1, 500, 2_098).lost(1, 0, 2_100).hold(
        2,
        0,
        2_500,
        2_600,
        Some(11),
    );
    let verdict = check(&stopped, &[], &[]);
    assert_eq!(verdict.totals.slowest_signal_ms, Some(2.0));

    // The same holds for a process without CPU time, but its event counts only for itself.
    let overslept = |process| {
        let mut story = forge::story();
        let who = Actor::Client { process, task: 0, attempt: 0 };
        story.event(1_500, who, EventKind::RuntimeStalled { millis: 420 }).event(
            2_098,
            who,
            EventKind::RuntimeStalled { millis: 700 },
        );
        story.take(1, 0, 100, Some(10)).lost(1, 0, 2_100).hold(2, 0, 2_500, 2_600, Some(11));
        story
    };
    let verdict = check(&overslept(1), &[], &[]);
    assert_eq!(verdict.totals.slowest_signal_ms, Some(4.0));
    check(&overslept(2), &[Invariant::LossSignalled], &[]);
}

#[test]
fn a_key_that_stays_is_caught() {
    let left = |at: u64, ttl_ms: i64| {
        let mut story = story();
        story.hold(1, 0, 100, 400, Some(10));
        story.key_left(at, ttl_ms);
        story
    };
    check(&left(1_300, 100), &[], &[]);
    check(&left(2_500, 100), &[Invariant::KeysExpire], &[]);
    check(&left(1_300, 1_001), &[Invariant::KeysExpire], &[]);
    check(&left(1_300, -1), &[Invariant::KeysExpire], &[]);

    // A node that was stopped may have set it when it was resumed.
    let mut held_up = left(2_500, 100);
    held_up.fault(1, "pause", &[0], 150, 1_900, &[Effect::Paused]);
    check(&held_up, &[], &[]);
    // A node whose clock was set back keeps its keys for longer.
    let mut set_back = left(2_500, 100);
    set_back.fault(1, "jump", &[0], 150, 2_900, &[Effect::ClockStep { micros: -1_000_000 }]);
    check(&set_back, &[], &[Invariant::KeysExpire]);
}

#[test]
fn waiting_forever_with_a_quorum_is_caught() {
    let stalled = |away: &[usize], kind: Effect| {
        let mut story = story();
        story.hold(1, 0, 100, 200, Some(10)).waits(2, 0, 300).granted(2, 0, 8_000, 8_900, Some(11));
        story.release(2, 0, 8_100).fault(1, "away", away, 250, 6_000, &[kind]);
        story
    };
    let verdict = check(&stalled(&[0, 1], Effect::Unreachable), &[Invariant::Progress], &[]);
    assert!(verdict.violations[0].message.contains("from 0.300 s"), "{verdict:?}");
    // Without a quorum no lock can be granted; with restarted nodes, not before probation is over.
    let verdict = check(&stalled(&[0, 1, 2], Effect::Unreachable), &[], &[]);
    assert_eq!(verdict.slowest_recovery_ms, Some(2_000.0));
    check(&stalled(&[0, 1, 2], Effect::Down), &[], &[]);
    check(&stalled(&[0, 1, 2], Effect::Slow { ms: 400 }), &[], &[]);
    check(&stalled(&[0, 1, 2], Effect::Slow { ms: 40 }), &[Invariant::Progress], &[]);
}

#[test]
fn waiting_for_a_key_that_is_free_on_a_quorum_is_caught_sooner_where_others_have_it_on_a_minority() {
    let stalled = |nodes: &[usize], to: u64, effect: Effect| {
        let mut story = story();
        story.settings.recovery_ms = 60_000;
        story.hold(1, 0, 100, 200, Some(10)).waits(2, 0, 300).granted(2, 0, 4_000, 4_900, Some(11));
        story.release(2, 0, 4_100).fault(1, "stale-key", nodes, 250, to, &[effect]);
        story
    };
    let verdict = check(&stalled(&[0, 1], 5_000, Effect::StaleKey), &[Invariant::Progress], &[]);
    assert!(verdict.violations[0].message.contains("from 0.300 s for 3700 ms"), "{verdict:?}");
    // A ttl, a second, and slack for a busy machine.
    check(&stalled(&[0, 1], 3_299, Effect::StaleKey), &[], &[]);
    check(&stalled(&[0, 1], 3_301, Effect::StaleKey), &[Invariant::Progress], &[]);
    check(&stalled(&[0, 1, 2], 5_000, Effect::StaleKey), &[], &[]);
    check(&stalled(&[0, 1], 5_000, Effect::Unreachable), &[], &[]);
    let mut beside = stalled(&[0, 1], 5_000, Effect::StaleKey);
    beside.fault(2, "cut", &[2], 1_000, 2_000, &[Effect::Unreachable]);
    check(&beside, &[], &[]);
    let mut unasked = stalled(&[0, 1], 5_000, Effect::StaleKey);
    unasked.settings.starvation_ms = None;
    check(&unasked, &[], &[]);
}

#[test]
fn probation_is_no_stall() {
    // Restarted at 6 000, on probation until 8 000, granted 2.5 seconds later.
    let stalled = |probation: bool, kind: Effect| {
        let mut story = story();
        story.settings.probation = probation;
        story.hold(1, 0, 100, 200, Some(10)).waits(2, 0, 5_000).granted(2, 0, 10_500, 11_400, Some(11));
        story.release(2, 0, 10_600).fault(1, "away", &[0, 1, 2], 250, 6_000, &[kind]);
        story
    };
    check(&stalled(true, Effect::Down), &[], &[]);
    check(&stalled(false, Effect::Down), &[Invariant::Progress], &[]);
    check(&stalled(true, Effect::Unreachable), &[Invariant::Progress], &[]);
}

#[test]
fn a_stall_counts_only_while_a_client_waits_and_none_holds() {
    // No client wanted it between 200 and 7 000.
    let mut story = story();
    story.hold(1, 0, 100, 200, Some(10)).hold(2, 0, 7_000, 7_100, Some(11));
    check(&story, &[], &[]);
    // One client waits, another holds and renews.
    let mut story = forge::story();
    story.take(1, 0, 100, Some(10));
    for look in 1..14 {
        story.look(1, 0, 100 + look * 500, 100 + look * 500 + 900);
    }
    story.waits(2, 0, 300).granted(2, 0, 7_020, 8_000, Some(11)).release(1, 0, 7_000).release(2, 0, 7_100);
    check(&story, &[], &[]);
    // A client that is refused and retries keeps waiting.
    let mut story = forge::story();
    story.hold(1, 0, 100, 200, Some(10));
    for attempt in 0..8 {
        let from = 300 + u64::from(attempt) * 600;
        story.waits(2, attempt, from).say(
            2,
            attempt,
            from + 590,
            EventKind::Failed { reason: FailureReason::NoQuorum },
        );
    }
    check(&story, &[Invariant::Progress], &[]);
}

#[test]
fn an_answer_that_does_not_come_is_caught() {
    let mut story = story();
    story.settings.recovery_ms = 60_000;
    story.hold(1, 0, 100, 200, Some(10)).waits(2, 0, 300).hold(1, 1, 14_000, 14_100, Some(11));
    check(&story, &[Invariant::RepliesInTime], &[]);

    let mut story = forge::story();
    story.take(1, 0, 100, Some(10)).say(1, 0, 200, EventKind::Releasing).hold(2, 0, 2_000, 2_100, Some(11));
    check(&story, &[Invariant::RepliesInTime], &[]);
}

#[test]
fn panics_and_unplanned_errors_are_caught() {
    let mut story = story();
    story.hold(1, 0, 100, 200, Some(10));
    story.waits(2, 0, 300).say(2, 0, 310, EventKind::Panicked { message: "index out of bounds".into() });
    check(&story, &[Invariant::NoPanic], &[]);

    let mut story = forge::story();
    story.hold(1, 0, 100, 200, Some(10));
    story.waits(2, 0, 300).say(
        2,
        0,
        310,
        EventKind::UnexpectedError { message: "the driver has ended".into() },
    );
    check(&story, &[Invariant::NoUnexpectedError], &[]);
}

#[test]
fn a_story_with_gaps_is_caught() {
    // Nothing happened.
    check(&story(), &[Invariant::CompleteHistory], &[]);
    // A client sends no final event (aborted, out of memory), though it was not killed.
    let mut silent = story();
    silent.hold(1, 0, 100, 200, Some(10)).hold(2, 0, 300, 400, Some(11)).silent.push(2);
    check(&silent, &[Invariant::CompleteHistory], &[]);
    // Granted without a request.
    let mut unasked = story();
    unasked.hold(1, 0, 100, 200, Some(10)).granted(2, 0, 300, 1_000, Some(11));
    check(&unasked, &[Invariant::CompleteHistory], &[]);
    // A fenced lock without a number.
    let mut unnumbered = story();
    unnumbered.hold(1, 0, 100, 200, None);
    check(&unnumbered, &[Invariant::CompleteHistory], &[]);
    // Without settings nothing can be checked.
    let history = History::new(story().history().events()[1..].to_vec());
    assert!(!check_history(&history).passed());
    // A node that stays broken would excuse everything after it.
    let mut unended = story();
    unended.hold(1, 0, 100, 200, Some(10));
    let (nodes, processes, effects) = (vec![0], Vec::new(), vec![Effect::Unreachable]);
    let fault =
        Fault { id: 1, kind: "cut".into(), nodes, side: None, processes, effects, detail: String::new() };
    unended.event(150, Actor::Run, EventKind::Fault(fault));
    check(&unended, &[Invariant::CompleteHistory], &[]);
    // An event of a fault that has ended, or never was, would extend what it excuses.
    let mut stretched = story();
    stretched.hold(1, 0, 100, 200, Some(10)).fault(1, "jump", &[0], 50, 60, &JUMP);
    let mut unknown = stretched.clone();
    stretched.event(150, Actor::Run, EventKind::FaultApplied { fault: 1 });
    check(&stretched, &[Invariant::CompleteHistory], &[]);
    unknown.event(55, Actor::Run, EventKind::FaultEnding { fault: 2 });
    check(&unknown, &[Invariant::CompleteHistory], &[]);
    // A client cannot record faults.
    let mut forged = story();
    forged.hold(1, 0, 100, 200, Some(10));
    let who = Actor::Client { process: 1, task: 0, attempt: 0 };
    forged.event(150, who, EventKind::KeyLeft { node: 0, key: "orders:42".into(), ttl_ms: 10 });
    check(&forged, &[Invariant::CompleteHistory], &[]);
}

#[test]
fn a_negative_control_that_detects_nothing_is_reported() {
    let mut story = story();
    story.settings.probation = false;
    story.settings.controls = vec![Control { name: "probation off".into(), breaks: Invariant::Exclusion }];
    story.hold(1, 0, 100, 400, Some(10));
    story.fault(1, "wipe", &[0, 1, 2], 200, 201, &WIPE);
    let verdict = check(&story, &[], &[]);
    assert_eq!(verdict.idle_controls().count(), 1);
    assert!(verdict.to_string().contains("\"probation off\" detected nothing"), "{verdict}");

    story.hold(2, 0, 300, 800, Some(11));
    let verdict = check(&story, &[], &[Invariant::Exclusion]);
    assert_eq!(verdict.idle_controls().count(), 0);
    assert_eq!(verdict.controls[0].count, 1);
}
