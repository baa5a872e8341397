//! Tests the checker with synthetic histories of clock faults: which violations they excuse, and which not.

mod history_builder;

use history_builder::{JUMP, WIPE, builder, check};
use quorlock_chaos::checker::Invariant;
use quorlock_chaos::history::{Actor, Effect, EventKind, Fault};

#[test]
fn clock_jumps_excuse_an_overlap_only_on_more_nodes_than_the_lock_can_spare() {
    let overlap = |jumped: &[usize], at: u64, effects: &[Effect]| {
        let mut builder = builder();
        builder.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 300, 800, Some(11));
        builder.fault(1, "jump", jumped, at, 5_000, effects);
        builder
    };
    // The lock is on four of five nodes: one node may lose the key, two are too many.
    check(&overlap(&[0], 200, &JUMP), &[Invariant::MutualExclusion], &[]);
    check(&overlap(&[0, 1], 200, &JUMP), &[], &[Invariant::MutualExclusion]);
    // No excuse: a jump before the request, a jump back, and a jump that the deadline allows for.
    check(&overlap(&[0, 1], 50, &JUMP), &[Invariant::MutualExclusion], &[]);
    check(
        &overlap(&[0, 1], 200, &[Effect::ClockStep { micros: -5_000_000 }]),
        &[Invariant::MutualExclusion],
        &[],
    );
    check(
        &overlap(&[0, 1], 200, &[Effect::ClockStep { micros: 11_000 }]),
        &[Invariant::MutualExclusion],
        &[],
    );
    // A clock that runs within the drift is no excuse.
    check(&overlap(&[0, 1], 90, &[Effect::ClockRate { ppm: 10_000 }]), &[Invariant::MutualExclusion], &[]);
    check(&overlap(&[0, 1], 90, &[Effect::ClockRate { ppm: 100_000 }]), &[], &[Invariant::MutualExclusion]);
}

#[test]
fn the_end_of_a_step_back_is_a_jump_ahead() {
    let mut builder = builder();
    builder.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 300, 800, Some(11));
    builder.fault(1, "jump", &[0, 1], 20, 200, &[Effect::ClockStep { micros: -5_000_000 }]);
    check(&builder, &[], &[Invariant::MutualExclusion]);
}

#[test]
fn a_clock_may_jump_at_any_time_between_the_events_that_announce_and_confirm_it() {
    let overlap = |begins: (u64, u64), ends: (u64, u64), micros: i64| {
        let mut builder = builder();
        builder.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 300, 800, Some(11));
        builder.fault_with_spans(1, "jump", &[0, 1], begins, ends, &[Effect::ClockStep { micros }]);
        builder
    };
    let (ahead, back) = (5_000_000, -5_000_000);
    // Client 1 sent its request at 90 ms. The jump was announced before and may have happened after that.
    check(&overlap((80, 90), (5_000, 5_000), ahead), &[], &[Invariant::MutualExclusion]);
    check(&overlap((80, 89), (5_000, 5_000), ahead), &[Invariant::MutualExclusion], &[]);
    // Client 2 was granted the lock at 300 ms.
    check(&overlap((300, 400), (5_000, 5_000), ahead), &[], &[Invariant::MutualExclusion]);
    check(&overlap((301, 400), (5_000, 5_000), ahead), &[Invariant::MutualExclusion], &[]);
    // A clock that was set back jumps ahead at the end of the fault, also at some time between two events.
    check(&overlap((20, 20), (80, 90), back), &[], &[Invariant::MutualExclusion]);
    check(&overlap((20, 20), (80, 89), back), &[Invariant::MutualExclusion], &[]);
    check(&overlap((20, 20), (300, 400), back), &[], &[Invariant::MutualExclusion]);
    check(&overlap((20, 20), (301, 400), back), &[Invariant::MutualExclusion], &[]);
}

#[test]
fn a_jump_with_only_a_first_and_a_last_event_may_happen_at_any_time_in_between() {
    let overlap = |from: u64, to: u64| {
        let mut builder = builder();
        builder.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 300, 800, Some(11));
        let (nodes, processes, effects) = (vec![0, 1], Vec::new(), JUMP.to_vec());
        let fault = Fault {
            id: 1,
            kind: "jump".into(),
            nodes,
            side: None,
            processes,
            effects,
            detail: String::new(),
        };
        builder.event(from, Actor::Run, EventKind::Fault(fault)).event(
            to,
            Actor::Run,
            EventKind::FaultEnded { fault: 1 },
        );
        builder
    };
    check(&overlap(50, 90), &[], &[Invariant::MutualExclusion]);
    check(&overlap(50, 89), &[Invariant::MutualExclusion], &[]);
}

#[test]
fn a_clock_jump_before_a_renewal_is_no_excuse() {
    let mut builder = builder();
    builder.acquire(1, 0, 100, Some(10)).validated(1, 0, 2_000, 2_980).release(1, 0, 2_400);
    builder.hold(2, 0, 2_300, 2_800, Some(11)).fault(1, "jump", &[0, 1], 200, 5_000, &JUMP);
    check(&builder, &[Invariant::MutualExclusion], &[]);
}

#[test]
fn lost_fences_and_wrong_clocks_excuse_numbers_only_together() {
    let numbers = || {
        let mut builder = builder();
        builder.hold(1, 0, 100, 200, Some(20)).hold(2, 0, 6_000, 6_100, Some(10));
        builder
    };
    let mut lost = numbers();
    lost.fault(1, "wipe", &[0], 300, 301, &WIPE);
    check(&lost, &[Invariant::NumbersOrdered], &[]);

    let mut wrong = numbers();
    wrong.fault(1, "jump", &[0], 300, 6_500, &[Effect::ClockStep { micros: -900_000 }]);
    check(&wrong, &[Invariant::NumbersOrdered], &[]);

    // The bound is (2 s − 250 ms) / 2 = 875 ms.
    let both = |micros: i64| {
        let mut builder = numbers();
        builder.fault(1, "wipe", &[0], 300, 301, &WIPE);
        builder.fault(2, "jump", &[3], 300, 6_500, &[Effect::ClockStep { micros }]);
        builder
    };
    check(&both(-874_000), &[Invariant::NumbersOrdered], &[]);
    check(&both(-875_000), &[], &[Invariant::NumbersOrdered]);
    check(&both(875_000), &[], &[Invariant::NumbersOrdered]);

    // With a quorum of four of five, any two quorums share three nodes, so data loss on one node does no
    // harm.
    let mut four = both(-5_000_000);
    four.settings.quorum = 4;
    check(&four, &[Invariant::NumbersOrdered], &[]);

    // A fence that was lost before the first grant did not contain its fencing number.
    let mut before = numbers();
    before.fault(1, "wipe", &[0], 50, 51, &WIPE);
    before.fault(2, "jump", &[3], 60, 6_500, &JUMP);
    check(&before, &[Invariant::NumbersOrdered], &[]);
}

#[test]
fn a_clock_set_back_by_more_than_the_idle_time_excuses_numbers() {
    let set_back = |again: u64| {
        let mut builder = builder();
        builder.hold(1, 0, 100, 200, Some(20)).hold(2, 0, again, again + 100, Some(10));
        builder.fault(1, "wipe", &[0], 300, 301, &WIPE);
        builder.fault(2, "jump", &[3], 300, 6_500, &[Effect::ClockStep { micros: -800_000 }]);
        builder
    };
    check(&set_back(900), &[], &[Invariant::NumbersOrdered]);
    check(&set_back(1_100), &[Invariant::NumbersOrdered], &[]);
}

#[test]
fn a_clock_may_be_set_back_at_any_time_between_the_events_that_announce_and_confirm_it() {
    // Client 1 sent its request at 90 ms and released at 200 ms; client 2 was granted the lock at 500 ms.
    let set_back = |begins: (u64, u64), ends: (u64, u64), micros: i64| {
        let mut builder = builder();
        builder.hold(1, 0, 100, 200, Some(20)).hold(2, 0, 500, 600, Some(10));
        builder.fault(1, "wipe", &[0], 300, 301, &WIPE);
        builder.fault_with_spans(2, "jump", &[3], begins, ends, &[Effect::ClockStep { micros }]);
        builder
    };
    let (ahead, back) = (800_000, -800_000);
    check(&set_back((80, 90), (6_500, 6_500), back), &[], &[Invariant::NumbersOrdered]);
    check(&set_back((80, 89), (6_500, 6_500), back), &[Invariant::NumbersOrdered], &[]);
    check(&set_back((500, 510), (6_500, 6_500), back), &[], &[Invariant::NumbersOrdered]);
    check(&set_back((501, 510), (6_500, 6_500), back), &[Invariant::NumbersOrdered], &[]);
    // A clock that was set ahead is set back at the end of the fault.
    check(&set_back((20, 20), (80, 90), ahead), &[], &[Invariant::NumbersOrdered]);
    check(&set_back((20, 20), (80, 89), ahead), &[Invariant::NumbersOrdered], &[]);
    check(&set_back((20, 20), (500, 510), ahead), &[], &[Invariant::NumbersOrdered]);
    check(&set_back((20, 20), (501, 510), ahead), &[Invariant::NumbersOrdered], &[]);
}

#[test]
fn a_clock_with_a_wrong_rate_excuses_numbers_once_its_error_reaches_the_bound() {
    let drifted = |until: u64| {
        let mut builder = builder();
        builder.hold(1, 0, 100, 200, Some(20)).hold(2, 0, 6_000, 6_100, Some(10));
        builder.fault(1, "wipe", &[0], 300, 301, &WIPE);
        builder.fault(2, "skew", &[3], 300, until, &[Effect::ClockRate { ppm: 300_000 }]);
        builder
    };
    check(&drifted(2_000), &[Invariant::NumbersOrdered], &[]);
    check(&drifted(4_000), &[], &[Invariant::NumbersOrdered]);
}
