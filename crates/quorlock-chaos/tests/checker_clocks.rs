//! The checker against forged histories in which clocks go wrong: what they excuse, and what not.

mod forge;

use forge::{JUMP, WIPE, check, story};
use quorlock_chaos::checker::Invariant;
use quorlock_chaos::history::{Actor, Effect, EventKind, Fault};

#[test]
fn clocks_excuse_two_at_once_only_beyond_the_margin() {
    let overlap = |jumped: &[usize], at: u64, effects: &[Effect]| {
        let mut story = story();
        story.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 300, 800, Some(11));
        story.fault(1, "jump", jumped, at, 5_000, effects);
        story
    };
    // Held on four of five: one may lose the key, two are too many.
    check(&overlap(&[0], 200, &JUMP), &[Invariant::Exclusion], &[]);
    check(&overlap(&[0, 1], 200, &JUMP), &[], &[Invariant::Exclusion]);
    // No excuse: before the lock was requested, a step back, or less than the deadline leaves room for.
    check(&overlap(&[0, 1], 50, &JUMP), &[Invariant::Exclusion], &[]);
    check(&overlap(&[0, 1], 200, &[Effect::ClockStep { micros: -5_000_000 }]), &[Invariant::Exclusion], &[]);
    check(&overlap(&[0, 1], 200, &[Effect::ClockStep { micros: 11_000 }]), &[Invariant::Exclusion], &[]);
    // A clock that runs within the drift is no excuse.
    check(&overlap(&[0, 1], 90, &[Effect::ClockRate { ppm: 10_000 }]), &[Invariant::Exclusion], &[]);
    check(&overlap(&[0, 1], 90, &[Effect::ClockRate { ppm: 100_000 }]), &[], &[Invariant::Exclusion]);
}

#[test]
fn a_clock_set_back_again_has_jumped_ahead() {
    let mut story = story();
    story.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 300, 800, Some(11));
    story.fault(1, "jump", &[0, 1], 20, 200, &[Effect::ClockStep { micros: -5_000_000 }]);
    check(&story, &[], &[Invariant::Exclusion]);
}

#[test]
fn a_clock_may_jump_at_any_time_between_the_event_and_the_change() {
    let overlap = |begins: (u64, u64), ends: (u64, u64), micros: i64| {
        let mut story = story();
        story.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 300, 800, Some(11));
        story.fault_of_length(1, "jump", &[0, 1], begins, ends, &[Effect::ClockStep { micros }]);
        story
    };
    let (ahead, back) = (5_000_000, -5_000_000);
    // Client 1 sent its request at 90. The jump was recorded before that and may have been done after.
    check(&overlap((80, 90), (5_000, 5_000), ahead), &[], &[Invariant::Exclusion]);
    check(&overlap((80, 89), (5_000, 5_000), ahead), &[Invariant::Exclusion], &[]);
    // Client 2 was granted the lock at 300.
    check(&overlap((300, 400), (5_000, 5_000), ahead), &[], &[Invariant::Exclusion]);
    check(&overlap((301, 400), (5_000, 5_000), ahead), &[Invariant::Exclusion], &[]);
    // A clock that was set back jumps ahead when the fault ends: between the event and the change.
    check(&overlap((20, 20), (80, 90), back), &[], &[Invariant::Exclusion]);
    check(&overlap((20, 20), (80, 89), back), &[Invariant::Exclusion], &[]);
    check(&overlap((20, 20), (300, 400), back), &[], &[Invariant::Exclusion]);
    check(&overlap((20, 20), (301, 400), back), &[Invariant::Exclusion], &[]);
}

#[test]
fn a_jump_of_which_only_beginning_and_end_are_recorded_may_be_at_any_time_in_between() {
    let overlap = |from: u64, to: u64| {
        let mut story = story();
        story.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 300, 800, Some(11));
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
        story.event(from, Actor::Run, EventKind::Fault(fault)).event(
            to,
            Actor::Run,
            EventKind::FaultEnded { fault: 1 },
        );
        story
    };
    check(&overlap(50, 90), &[], &[Invariant::Exclusion]);
    check(&overlap(50, 89), &[Invariant::Exclusion], &[]);
}

#[test]
fn a_renewal_makes_up_for_what_jumped_before() {
    let mut story = story();
    story.take(1, 0, 100, Some(10)).look(1, 0, 2_000, 2_980).release(1, 0, 2_400);
    story.hold(2, 0, 2_300, 2_800, Some(11)).fault(1, "jump", &[0, 1], 200, 5_000, &JUMP);
    check(&story, &[Invariant::Exclusion], &[]);
}

#[test]
fn lost_counters_and_wrong_clocks_excuse_numbers_only_together() {
    let numbers = || {
        let mut story = story();
        story.hold(1, 0, 100, 200, Some(20)).hold(2, 0, 6_000, 6_100, Some(10));
        story
    };
    let mut lost = numbers();
    lost.fault(1, "wipe", &[0], 300, 301, &WIPE);
    check(&lost, &[Invariant::NumbersOrdered], &[]);

    let mut wrong = numbers();
    wrong.fault(1, "jump", &[0], 300, 6_500, &[Effect::ClockStep { micros: -900_000 }]);
    check(&wrong, &[Invariant::NumbersOrdered], &[]);

    // (2 s − 250 ms) / 2 = 875 ms is the bound.
    let both = |micros: i64| {
        let mut story = numbers();
        story.fault(1, "wipe", &[0], 300, 301, &WIPE);
        story.fault(2, "jump", &[3], 300, 6_500, &[Effect::ClockStep { micros }]);
        story
    };
    check(&both(-874_000), &[Invariant::NumbersOrdered], &[]);
    check(&both(-875_000), &[], &[Invariant::NumbersOrdered]);
    check(&both(875_000), &[], &[Invariant::NumbersOrdered]);

    // With four of five any two quorums share three nodes, and one that loses data does no harm.
    let mut four = both(-5_000_000);
    four.settings.quorum = 4;
    check(&four, &[Invariant::NumbersOrdered], &[]);

    // A counter that was lost before the first lock was granted cannot have had its number.
    let mut before = numbers();
    before.fault(1, "wipe", &[0], 50, 51, &WIPE);
    before.fault(2, "jump", &[3], 60, 6_500, &JUMP);
    check(&before, &[Invariant::NumbersOrdered], &[]);
}

#[test]
fn a_clock_set_back_by_more_than_the_idle_time_excuses_numbers() {
    let set_back = |again: u64| {
        let mut story = story();
        story.hold(1, 0, 100, 200, Some(20)).hold(2, 0, again, again + 100, Some(10));
        story.fault(1, "wipe", &[0], 300, 301, &WIPE);
        story.fault(2, "jump", &[3], 300, 6_500, &[Effect::ClockStep { micros: -800_000 }]);
        story
    };
    check(&set_back(900), &[], &[Invariant::NumbersOrdered]);
    check(&set_back(1_100), &[Invariant::NumbersOrdered], &[]);
}

#[test]
fn a_clock_may_be_set_back_at_any_time_between_the_event_and_the_change() {
    // Client 1 sent its request at 90 and released at 200; client 2 was granted the lock at 500.
    let set_back = |begins: (u64, u64), ends: (u64, u64), micros: i64| {
        let mut story = story();
        story.hold(1, 0, 100, 200, Some(20)).hold(2, 0, 500, 600, Some(10));
        story.fault(1, "wipe", &[0], 300, 301, &WIPE);
        story.fault_of_length(2, "jump", &[3], begins, ends, &[Effect::ClockStep { micros }]);
        story
    };
    let (ahead, back) = (800_000, -800_000);
    check(&set_back((80, 90), (6_500, 6_500), back), &[], &[Invariant::NumbersOrdered]);
    check(&set_back((80, 89), (6_500, 6_500), back), &[Invariant::NumbersOrdered], &[]);
    check(&set_back((500, 510), (6_500, 6_500), back), &[], &[Invariant::NumbersOrdered]);
    check(&set_back((501, 510), (6_500, 6_500), back), &[Invariant::NumbersOrdered], &[]);
    // A clock that was set ahead is set back when the fault ends.
    check(&set_back((20, 20), (80, 90), ahead), &[], &[Invariant::NumbersOrdered]);
    check(&set_back((20, 20), (80, 89), ahead), &[Invariant::NumbersOrdered], &[]);
    check(&set_back((20, 20), (500, 510), ahead), &[], &[Invariant::NumbersOrdered]);
    check(&set_back((20, 20), (501, 510), ahead), &[Invariant::NumbersOrdered], &[]);
}

#[test]
fn a_drifting_clock_counts_by_how_far_it_went() {
    let drifted = |until: u64| {
        let mut story = story();
        story.hold(1, 0, 100, 200, Some(20)).hold(2, 0, 6_000, 6_100, Some(10));
        story.fault(1, "wipe", &[0], 300, 301, &WIPE);
        story.fault(2, "skew", &[3], 300, until, &[Effect::ClockRate { ppm: 300_000 }]);
        story
    };
    check(&drifted(2_000), &[Invariant::NumbersOrdered], &[]);
    check(&drifted(4_000), &[], &[Invariant::NumbersOrdered]);
}
