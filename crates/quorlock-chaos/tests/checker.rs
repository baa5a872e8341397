//! Tests the checker with synthetic histories: each kind of violation and of excuse, one at a time.
//!
//! It is past 400 lines: one short test per kind.

mod history_builder;

use history_builder::{JUMP, WIPE, builder, check};
use quorlock_chaos::checker::{Invariant, check_history};
use quorlock_chaos::history::{
    Actor, Effect, EventKind, FailureReason, Fault, History, LockKind, NegativeControl,
};

#[test]
fn a_run_without_violations_passes_and_is_counted() {
    let mut builder = builder();
    builder.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 450, 800, Some(11)).hold(1, 1, 900, 1_000, Some(12));
    builder.fault(1, "kill", &[0], 850, 2_000, &[Effect::Down]);
    let verdict = check(&builder, &[], &[]);
    assert_eq!(verdict.acquisitions, 3);
    assert_eq!(verdict.faults["kill"], 1);
    assert_eq!(verdict.totals.wait_ms.map(|[_, _, slowest]| slowest), Some(10.0));
    assert!(verdict.to_string().starts_with("every invariant held: 3 acquisitions, 1 fault in"), "{verdict}");
}

#[test]
fn a_history_can_be_written_and_read_again() {
    let mut builder = builder();
    builder.hold(1, 0, 100, 400, Some(10)).fault(1, "jump", &[0, 1], 50, 60, &JUMP);
    let history = builder.build();
    let text: String = history.events().iter().map(|event| event.line() + "\n").collect();
    assert_eq!(History::read(text.as_bytes()).expect("every line is an event"), history);

    // If a client was killed in the middle of a line, the lines before it count.
    let truncated = History::read(&text.as_bytes()[..text.len() - 3]).expect("the other lines are complete");
    assert_eq!(truncated.events(), &history.events()[..history.events().len() - 1]);
    assert!(History::read("nonsense\n".as_bytes()).is_err());
}

#[test]
fn two_holders_at_once_are_a_violation() {
    let mut builder = builder();
    builder.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 399, 800, Some(11));
    let verdict = check(&builder, &[Invariant::MutualExclusion], &[]);
    assert!(
        verdict.violations[0].message.contains("for 1.000 ms both believed that they held it"),
        "{verdict:?}"
    );
}

#[test]
fn the_deadline_or_a_kill_ends_a_hold() {
    // Client 1 never releases the lock. Its deadline is at 1 078 ms, and then comes the loss signal.
    let mut builder = builder();
    builder.acquire(1, 0, 100, Some(10)).lost(1, 0, 1_085).hold(2, 0, 1_090, 1_200, Some(11));
    check(&builder, &[], &[]);

    let mut builder = history_builder::builder();
    builder.acquire(1, 0, 100, Some(10)).kill(1, 300).hold(2, 0, 301, 500, Some(11));
    check(&builder, &[], &[]);
}

#[test]
fn other_keys_and_other_readers_do_not_conflict() {
    let mut builder = builder();
    builder.key("a").hold(1, 0, 100, 400, Some(10)).key("b").hold(2, 0, 200, 300, Some(9));
    check(&builder, &[], &[]);

    let mut builder = history_builder::builder();
    builder.kind(LockKind::Read).hold(1, 0, 100, 400, Some(10)).hold(2, 0, 200, 300, Some(11));
    check(&builder, &[], &[]);
    builder.kind(LockKind::Write).hold(3, 0, 250, 280, Some(12));
    check(&builder, &[Invariant::MutualExclusion], &[]);
}

#[test]
fn more_permits_than_the_limit_are_a_violation() {
    let mut builder = builder();
    builder.kind(LockKind::Permit { of: 2 }).hold(1, 0, 100, 400, Some(10)).hold(2, 0, 200, 300, Some(11));
    check(&builder, &[], &[]);
    builder.hold(3, 0, 250, 280, Some(12));
    check(&builder, &[Invariant::MutualExclusion], &[]);
}

#[test]
fn data_loss_excuses_an_overlap_only_without_probation() {
    let overlap = || {
        let mut builder = builder();
        builder.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 300, 800, Some(11));
        builder.fault(1, "wipe", &[0, 1, 2], 200, 201, &WIPE);
        builder
    };
    check(&overlap(), &[Invariant::MutualExclusion], &[]);
    let mut without_probation = overlap();
    without_probation.settings.probation = false;
    let verdict = check(&without_probation, &[], &[Invariant::MutualExclusion]);
    assert!(verdict.expected[0].excuse.contains("probation was off"), "{verdict:?}");
    // Even then, data loss on no more nodes than the lock could spare is no excuse.
    let mut builder = builder();
    builder.settings.probation = false;
    builder.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 300, 800, Some(11));
    builder.fault(1, "wipe", &[0], 200, 201, &WIPE);
    check(&builder, &[Invariant::MutualExclusion], &[]);
}

#[test]
fn a_node_may_lose_locks_at_any_time_until_the_fault_ends() {
    let overlap = |from: u64, to: u64| {
        let mut builder = builder();
        builder.settings.fenced = false;
        builder.settings.probation = false;
        builder.hold(1, 0, 100, 400, None).hold(2, 0, 300, 800, None);
        builder.fault(1, "flush", &[0, 1, 2], from, to, &WIPE);
        builder
    };
    // Client 1 sent its request at 90 ms. The flush was recorded before and may have been executed after
    // that.
    check(&overlap(85, 95), &[], &[Invariant::MutualExclusion]);
    check(&overlap(85, 90), &[], &[Invariant::MutualExclusion]);
    check(&overlap(80, 89), &[Invariant::MutualExclusion], &[]);
    // The flush is an excuse only if it was recorded before the grant of client 2.
    check(&overlap(300, 400), &[], &[Invariant::MutualExclusion]);
    check(&overlap(301, 400), &[Invariant::MutualExclusion], &[]);
}

#[test]
fn a_node_may_lose_fences_at_any_time_until_the_fault_ends() {
    let lost = |to: u64| {
        let mut builder = builder();
        builder.settings.probation = false;
        builder.hold(1, 0, 100, 200, Some(20)).hold(2, 0, 300, 400, Some(10));
        builder.fault(1, "flush", &[0], 80, to, &WIPE);
        builder
    };
    check(&lost(110), &[], &[Invariant::NumbersOrdered]);
    check(&lost(89), &[Invariant::NumbersOrdered], &[]);
}

#[test]
fn a_fencing_number_granted_twice_is_a_violation() {
    let mut builder = builder();
    builder.hold(1, 0, 100, 200, Some(10)).hold(2, 0, 195, 400, Some(10));
    check(&builder, &[Invariant::MutualExclusion, Invariant::NumbersUnique], &[]);
}

#[test]
fn fencing_numbers_out_of_order_are_a_violation() {
    let mut builder = builder();
    builder.hold(1, 0, 100, 200, Some(20)).hold(2, 0, 300, 400, Some(30)).hold(1, 1, 500, 600, Some(25));
    check(&builder, &[Invariant::NumbersOrdered], &[]);
}

#[test]
fn a_deadline_shows_when_the_granting_request_was_sent() {
    // Client 2 waits from 50 ms on, but the granting request was sent at 290 ms, as its deadline shows.
    let mut builder = builder();
    builder.waiting(2, 0, 50).hold(1, 0, 100, 200, Some(20));
    builder.granted(2, 0, 300, 290 + 988, Some(19)).release(2, 0, 400);
    check(&builder, &[Invariant::NumbersOrdered], &[]);
}

#[test]
fn an_attempt_that_began_before_the_other_grant_may_have_the_smaller_number() {
    // Client 2 began at 190 ms and was slow: client 1 acquired and released the lock meanwhile.
    let mut builder = builder();
    builder.hold(1, 0, 200, 210, Some(20)).hold_after_slow_grant(2, 0, 190, 400, 500, Some(19));
    check(&builder, &[], &[]);
}

#[test]
fn an_accepted_stale_write_is_a_violation_and_a_rejected_one_is_not() {
    let late = |accepted: bool, fenced: bool| {
        let mut builder = builder();
        builder.acquire(1, 0, 100, Some(10)).lost(1, 0, 1_080).acquire(2, 0, 1_200, Some(11));
        builder.write(2, 0, 1_250, 1, fenced.then_some(11), true).write(
            1,
            0,
            1_300,
            2,
            fenced.then_some(10),
            accepted,
        );
        builder.release(2, 0, 1_400);
        builder
    };
    check(&late(false, true), &[], &[]);
    check(&late(true, true), &[Invariant::NoStaleWrite], &[]);
    let verdict = check(&late(true, false), &[], &[Invariant::NoStaleWrite]);
    assert!(verdict.expected[0].excuse.contains("checks no number"));
    let verdict = check(&late(false, true), &[], &[]);
    assert_eq!(verdict.totals.rejected_writes, 1);
}

#[test]
fn a_write_with_a_number_that_was_not_granted_is_a_violation() {
    let mut builder = builder();
    builder.hold(1, 0, 100, 200, Some(10)).write(1, 0, 150, 1, Some(99), true);
    check(&builder, &[Invariant::CompleteHistory], &[]);
}

#[test]
fn a_lock_that_is_valid_after_its_deadline_is_a_violation() {
    let mut builder = builder();
    builder.acquire(1, 0, 100, Some(10)).validated(1, 0, 1_079, 1_078).lost(1, 0, 1_080);
    check(&builder, &[Invariant::InvalidAfterDeadline], &[]);
}

#[test]
fn a_lost_lock_that_is_valid_again_is_a_violation() {
    let mut builder = builder();
    builder.acquire(1, 0, 100, Some(10)).lost(1, 0, 500).validated(1, 0, 600, 1_500).release(1, 0, 700);
    check(&builder, &[Invariant::StaysLost], &[]);

    let mut builder = history_builder::builder();
    builder
        .acquire(1, 0, 100, Some(10))
        .found_invalid(1, 0, 500)
        .validated(1, 0, 600, 1_500)
        .release(1, 0, 700);
    check(&builder, &[Invariant::StaysLost], &[]);
}

#[test]
fn a_deadline_that_ignores_drift_is_a_violation() {
    let mut builder = builder();
    builder.settings.drift_ppm = 10_000;
    // Requested at 95 ms, granted at 100 ms, and valid until start + ttl − 2 ms.
    builder.waiting(1, 0, 95).granted(1, 0, 100, 95 + 1_000 - 2, Some(10)).release(1, 0, 200);
    check(&builder, &[Invariant::DeadlineWithinTtl], &[]);
}

#[test]
fn a_loss_without_a_prompt_signal_is_a_violation() {
    let mut builder = builder();
    builder.acquire(1, 0, 100, Some(10)).hold(2, 0, 2_500, 2_600, Some(11));
    check(&builder, &[Invariant::LossSignaled], &[]);

    // The signal comes more than 1 s after the deadline at 1 078 ms.
    let mut late = history_builder::builder();
    late.acquire(1, 0, 100, Some(10)).lost(1, 0, 2_100).hold(2, 0, 2_500, 2_600, Some(11));
    check(&late, &[Invariant::LossSignaled], &[]);

    // A stopped process receives no signal; only the delay after the stop is measured.
    let mut stopped = history_builder::builder();
    stopped.acquire(1, 0, 100, Some(10)).stop(1, 500, 2_098).lost(1, 0, 2_100).hold(
        2,
        0,
        2_500,
        2_600,
        Some(11),
    );
    let verdict = check(&stopped, &[], &[]);
    assert_eq!(verdict.totals.slowest_signal_ms, Some(2.0));

    // The same holds for a process without CPU time. Its event does not count for another process.
    let stalled = |process| {
        let mut builder = history_builder::builder();
        let actor = Actor::Client { process, task: 0, attempt: 0 };
        builder.event(1_500, actor, EventKind::RuntimeStalled { millis: 420 }).event(
            2_098,
            actor,
            EventKind::RuntimeStalled { millis: 700 },
        );
        builder.acquire(1, 0, 100, Some(10)).lost(1, 0, 2_100).hold(2, 0, 2_500, 2_600, Some(11));
        builder
    };
    let verdict = check(&stalled(1), &[], &[]);
    assert_eq!(verdict.totals.slowest_signal_ms, Some(4.0));
    check(&stalled(2), &[Invariant::LossSignaled], &[]);
}

#[test]
fn a_key_that_outlives_its_ttl_is_a_violation() {
    let left = |at: u64, ttl_ms: i64| {
        let mut builder = builder();
        builder.hold(1, 0, 100, 400, Some(10));
        builder.key_left(at, ttl_ms);
        builder
    };
    check(&left(1_300, 100), &[], &[]);
    check(&left(2_500, 100), &[Invariant::KeysExpire], &[]);
    check(&left(1_300, 1_001), &[Invariant::KeysExpire], &[]);
    check(&left(1_300, -1), &[Invariant::KeysExpire], &[]);

    // A paused node may have executed the command when it was resumed.
    let mut paused = left(2_500, 100);
    paused.fault(1, "pause", &[0], 150, 1_900, &[Effect::Paused]);
    check(&paused, &[], &[]);
    // A node whose clock was set back expires its keys later.
    let mut set_back = left(2_500, 100);
    set_back.fault(1, "jump", &[0], 150, 2_900, &[Effect::ClockStep { micros: -1_000_000 }]);
    check(&set_back, &[], &[Invariant::KeysExpire]);
}

#[test]
fn waiting_too_long_with_a_quorum_is_a_violation() {
    let stalled = |nodes: &[usize], kind: Effect| {
        let mut builder = builder();
        builder.hold(1, 0, 100, 200, Some(10)).waiting(2, 0, 300).granted(2, 0, 8_000, 8_900, Some(11));
        builder.release(2, 0, 8_100).fault(1, "outage", nodes, 250, 6_000, &[kind]);
        builder
    };
    let verdict = check(&stalled(&[0, 1], Effect::Unreachable), &[Invariant::Progress], &[]);
    assert!(verdict.violations[0].message.contains("from 0.300 s"), "{verdict:?}");
    // No lock can be granted without a quorum, nor while restarted nodes are on probation.
    let verdict = check(&stalled(&[0, 1, 2], Effect::Unreachable), &[], &[]);
    assert_eq!(verdict.slowest_recovery_ms, Some(2_000.0));
    check(&stalled(&[0, 1, 2], Effect::Down), &[], &[]);
    check(&stalled(&[0, 1, 2], Effect::Slow { ms: 400 }), &[], &[]);
    check(&stalled(&[0, 1, 2], Effect::Slow { ms: 40 }), &[Invariant::Progress], &[]);
}

#[test]
fn stale_keys_on_a_minority_must_not_delay_a_grant() {
    let stalled = |nodes: &[usize], to: u64, effect: Effect| {
        let mut builder = builder();
        builder.settings.recovery_ms = 60_000;
        builder.hold(1, 0, 100, 200, Some(10)).waiting(2, 0, 300).granted(2, 0, 4_000, 4_900, Some(11));
        builder.release(2, 0, 4_100).fault(1, "stale-key", nodes, 250, to, &[effect]);
        builder
    };
    let verdict = check(&stalled(&[0, 1], 5_000, Effect::StaleKey), &[Invariant::Progress], &[]);
    assert!(verdict.violations[0].message.contains("from 0.300 s for 3700 ms"), "{verdict:?}");
    // The bound is 3 s: the ttl, `starvation_ms` and `slack_ms`.
    check(&stalled(&[0, 1], 3_299, Effect::StaleKey), &[], &[]);
    check(&stalled(&[0, 1], 3_301, Effect::StaleKey), &[Invariant::Progress], &[]);
    check(&stalled(&[0, 1, 2], 5_000, Effect::StaleKey), &[], &[]);
    check(&stalled(&[0, 1], 5_000, Effect::Unreachable), &[], &[]);
    let mut no_quorum = stalled(&[0, 1], 5_000, Effect::StaleKey);
    no_quorum.fault(2, "partition", &[2], 1_000, 2_000, &[Effect::Unreachable]);
    check(&no_quorum, &[], &[]);
    let mut unchecked = stalled(&[0, 1], 5_000, Effect::StaleKey);
    unchecked.settings.starvation_ms = None;
    check(&unchecked, &[], &[]);
}

#[test]
fn probation_does_not_count_as_a_stall() {
    // Restarted at 6 000 ms, on probation until 8 000 ms, granted 2.5 s later.
    let stalled = |probation: bool, kind: Effect| {
        let mut builder = builder();
        builder.settings.probation = probation;
        builder.hold(1, 0, 100, 200, Some(10)).waiting(2, 0, 5_000).granted(2, 0, 10_500, 11_400, Some(11));
        builder.release(2, 0, 10_600).fault(1, "outage", &[0, 1, 2], 250, 6_000, &[kind]);
        builder
    };
    check(&stalled(true, Effect::Down), &[], &[]);
    check(&stalled(false, Effect::Down), &[Invariant::Progress], &[]);
    check(&stalled(true, Effect::Unreachable), &[Invariant::Progress], &[]);
}

#[test]
fn a_stall_counts_only_while_a_client_waits_and_no_client_holds() {
    // No client wants the lock between 200 ms and 7 000 ms.
    let mut builder = builder();
    builder.hold(1, 0, 100, 200, Some(10)).hold(2, 0, 7_000, 7_100, Some(11));
    check(&builder, &[], &[]);
    // One client waits, another holds and renews.
    let mut builder = history_builder::builder();
    builder.acquire(1, 0, 100, Some(10));
    for check in 1..14 {
        builder.validated(1, 0, 100 + check * 500, 100 + check * 500 + 900);
    }
    builder
        .waiting(2, 0, 300)
        .granted(2, 0, 7_020, 8_000, Some(11))
        .release(1, 0, 7_000)
        .release(2, 0, 7_100);
    check(&builder, &[], &[]);
    // A client that fails and retries counts as waiting.
    let mut builder = history_builder::builder();
    builder.hold(1, 0, 100, 200, Some(10));
    for attempt in 0..8 {
        let from = 300 + u64::from(attempt) * 600;
        builder.waiting(2, attempt, from).client_event(
            2,
            attempt,
            from + 590,
            EventKind::Failed { reason: FailureReason::NoQuorum },
        );
    }
    check(&builder, &[Invariant::Progress], &[]);
}

#[test]
fn a_call_that_does_not_return_in_time_is_a_violation() {
    let mut builder = builder();
    builder.settings.recovery_ms = 60_000;
    builder.hold(1, 0, 100, 200, Some(10)).waiting(2, 0, 300).hold(1, 1, 14_000, 14_100, Some(11));
    check(&builder, &[Invariant::RepliesInTime], &[]);

    let mut builder = history_builder::builder();
    builder.acquire(1, 0, 100, Some(10)).client_event(1, 0, 200, EventKind::Releasing).hold(
        2,
        0,
        2_000,
        2_100,
        Some(11),
    );
    check(&builder, &[Invariant::RepliesInTime], &[]);
}

#[test]
fn panics_and_unexpected_errors_are_violations() {
    let mut builder = builder();
    builder.hold(1, 0, 100, 200, Some(10));
    builder.waiting(2, 0, 300).client_event(
        2,
        0,
        310,
        EventKind::Panicked { message: "index out of bounds".into() },
    );
    check(&builder, &[Invariant::NoPanic], &[]);

    let mut builder = history_builder::builder();
    builder.hold(1, 0, 100, 200, Some(10));
    builder.waiting(2, 0, 300).client_event(
        2,
        0,
        310,
        EventKind::UnexpectedError { message: "the driver has ended".into() },
    );
    check(&builder, &[Invariant::NoUnexpectedError], &[]);
}

#[test]
fn an_incomplete_or_inconsistent_history_is_a_violation() {
    // No lock was granted.
    check(&builder(), &[Invariant::CompleteHistory], &[]);
    // A client records no final event (aborted, out of memory), though it was not killed.
    let mut unfinished = builder();
    unfinished.hold(1, 0, 100, 200, Some(10)).hold(2, 0, 300, 400, Some(11)).unfinished.push(2);
    check(&unfinished, &[Invariant::CompleteHistory], &[]);
    // A grant without a request.
    let mut unrequested = builder();
    unrequested.hold(1, 0, 100, 200, Some(10)).granted(2, 0, 300, 1_000, Some(11));
    check(&unrequested, &[Invariant::CompleteHistory], &[]);
    // A fenced lock without a fencing number.
    let mut without_number = builder();
    without_number.hold(1, 0, 100, 200, None);
    check(&without_number, &[Invariant::CompleteHistory], &[]);
    // Without settings nothing can be checked.
    let history = History::new(builder().build().events()[1..].to_vec());
    assert!(!check_history(&history).passed());
    // A fault that never ends would excuse everything after it.
    let mut endless_fault = builder();
    endless_fault.hold(1, 0, 100, 200, Some(10));
    let (nodes, processes, effects) = (vec![0], Vec::new(), vec![Effect::Unreachable]);
    let fault = Fault {
        id: 1,
        kind: "partition".into(),
        nodes,
        side: None,
        processes,
        effects,
        detail: String::new(),
    };
    endless_fault.event(150, Actor::Run, EventKind::Fault(fault));
    check(&endless_fault, &[Invariant::CompleteHistory], &[]);
    // An event of a fault that has ended, or does not exist, would extend its excuse.
    let mut ended = builder();
    ended.hold(1, 0, 100, 200, Some(10)).fault(1, "jump", &[0], 50, 60, &JUMP);
    let mut unknown = ended.clone();
    ended.event(150, Actor::Run, EventKind::FaultApplied { fault: 1 });
    check(&ended, &[Invariant::CompleteHistory], &[]);
    unknown.event(55, Actor::Run, EventKind::FaultEnding { fault: 2 });
    check(&unknown, &[Invariant::CompleteHistory], &[]);
    // A client must not record events of the run.
    let mut wrong_actor = builder();
    wrong_actor.hold(1, 0, 100, 200, Some(10));
    let actor = Actor::Client { process: 1, task: 0, attempt: 0 };
    wrong_actor.event(150, actor, EventKind::KeyLeft { node: 0, key: "orders:42".into(), ttl_ms: 10 });
    check(&wrong_actor, &[Invariant::CompleteHistory], &[]);
}

#[test]
fn a_negative_control_that_detects_nothing_is_reported() {
    let mut builder = builder();
    builder.settings.probation = false;
    builder.settings.controls =
        vec![NegativeControl { name: "probation off".into(), breaks: Invariant::MutualExclusion }];
    builder.hold(1, 0, 100, 400, Some(10));
    builder.fault(1, "wipe", &[0, 1, 2], 200, 201, &WIPE);
    let verdict = check(&builder, &[], &[]);
    assert_eq!(verdict.idle_controls().count(), 1);
    assert!(verdict.to_string().contains("\"probation off\" detected nothing"), "{verdict}");

    builder.hold(2, 0, 300, 800, Some(11));
    let verdict = check(&builder, &[], &[Invariant::MutualExclusion]);
    assert_eq!(verdict.idle_controls().count(), 0);
    assert_eq!(verdict.controls[0].count, 1);
}
