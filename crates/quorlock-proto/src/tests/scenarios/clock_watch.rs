//! Clocks of nodes, watched by the times in their answers: what is proved, what it costs, and what proves nothing.

use super::memory::{LAST_MOMENT, NO_VOTE, meet_again};
use crate::attempt::FailureReason;
use crate::clock_monitor::ClockAnomaly;
use crate::coordinator::OperationId;
use crate::lease::LossReason;
use crate::membership::VotingStatus;
use crate::request::{Key, RequestKind};
use crate::test_util::node::{DataKey, DataValue};
use crate::tests::world::{ALICE, BOB, KEY, TTL, Wish, World, ms};
use crate::vote::{ProbationReason, Vote};

const BY_HAND: Wish = Wish { ttl: TTL, curious: false, auto_renew: false, floor: 0, max_hold: None };

/// Nodes whose clocks Alice has seen once, just now.
fn seen(nodes: usize, need: Option<usize>) -> World {
    let mut world = World::fenced_with(nodes, need, 2);
    world.live(ms(10_000));
    glance(&mut world, ALICE);
    world
}

/// Takes the lock and lets it go, which shows every node's clock.
fn glance(world: &mut World, who: usize) {
    let lock = world.acquire_as(who, BY_HAND);
    world.drive();
    world.abandon(who, lock);
    world.drive();
    world.event(who);
    assert_eq!(world.keys(), 0);
}

fn jumps(world: &World, who: usize) -> Vec<(usize, i64)> {
    let reported = world.clients[who].oddities.iter().filter_map(|(node, anomaly)| match anomaly {
        ClockAnomaly::Jumped { by_micros } => Some((*node, *by_micros)),
        ClockAnomaly::Drifts { .. } => None,
    });
    reported.collect()
}

fn is_out(world: &World, who: usize, node: usize) -> bool {
    matches!(
        world.clients[who].statuses[node],
        Some(VotingStatus::OnProbation(_, ProbationReason::ClockJump))
    )
}

fn renewal(world: &mut World, lock: OperationId) {
    world.extend(ALICE, lock, TTL);
    world.drive();
}

#[test]
fn a_jump_is_told_only_past_the_drift_and_the_slack() {
    // In a second a sane clock may be off by 10 ms, and time services correct by up to 20.
    for (by, is_reported) in
        [(31, true), (29, false), (-29, false), (-31, true), (5_000, true), (-5_000, true)]
    {
        let mut world = seen(3, None);
        world.live(ms(1_000));
        world.set_clock(1, by);
        glance(&mut world, ALICE);
        let expected = if is_reported { vec![(1, by * 1_000)] } else { vec![] };
        assert_eq!(jumps(&world, ALICE), expected, "by {by} ms");
        assert_eq!(is_out(&world, ALICE, 1), is_reported);
    }
}

#[test]
fn answers_that_were_long_on_their_way_prove_nothing() {
    for late_first in [true, false] {
        let mut world = World::fenced(3);
        world.live(ms(10_000));
        for turn in 0..6 {
            let lock = world.acquire_as(ALICE, BY_HAND);
            for node in 0..3 {
                if (turn % 2 == 0) == late_first {
                    // There at once, and the answer comes late: the next looks as if the clock had run ahead.
                    world.deliver(ALICE, node);
                    world.pass(ms(150));
                    world.answer(ALICE, node);
                } else {
                    world.pass(ms(150));
                    world.step(ALICE, node);
                }
            }
            world.abandon(ALICE, lock);
            world.drive();
        }
        assert_eq!(world.clients[ALICE].oddities, []);
    }
}

#[test]
fn a_jump_is_told_however_long_its_answer_was_on_its_way() {
    let mut world = seen(3, None);
    world.live(ms(1_000));
    world.set_clock(1, 1_000);
    world.acquire_as(ALICE, BY_HAND);
    world.deliver(ALICE, 1);
    world.pass(ms(400));
    world.answer(ALICE, 1);
    assert_eq!(jumps(&world, ALICE).len(), 1);
}

#[test]
fn a_clock_that_stands_still_is_told_as_a_jump_back() {
    let mut world = World::fenced(3);
    world.hold(ALICE);
    world.set_haste(1, -1_000_000);
    world.live(ms(3_500));
    let reported = jumps(&world, ALICE);
    assert!(matches!(reported[..], [(1, back)] if back < -3_000_000), "{reported:?}");
    assert!(is_out(&world, ALICE, 1) && !is_out(&world, ALICE, 0));
}

#[test]
fn a_clock_that_creeps_is_warned_of_once_in_a_while_and_goes_on_voting() {
    for haste in [10_400, -10_400] {
        let mut world = World::fenced(3);
        let lock = world.hold(ALICE);
        world.set_haste(1, haste);
        world.live(ms(65_000));
        let reported: Vec<_> = world.clients[ALICE].oddities.clone();
        assert!((2..=3).contains(&reported.len()), "once in the max ttl: {reported:?}");
        for (node, anomaly) in reported {
            let ClockAnomaly::Drifts { drift_ppm: millionths } = anomaly else { panic!("{anomaly:?}") };
            assert_eq!((node, millionths.signum()), (1, haste.signum()), "{millionths}");
        }
        assert!(!is_out(&world, ALICE, 1) && world.is_valid(ALICE, lock) && world.has(1, lock));
    }
}

#[test]
fn clocks_within_the_drift_are_never_told_of() {
    for haste in [9_900, -9_900] {
        let mut world = World::fenced(3);
        world.hold(ALICE);
        (0..3).for_each(|node| world.set_haste(node, haste));
        world.live(ms(120_000));
        assert_eq!(world.clients[ALICE].oddities, []);
    }
}

#[test]
fn a_node_whose_clock_jumped_is_out_of_the_count_for_the_max_ttl() {
    let mut world = seen(3, None);
    world.set_clock(1, 5_000);
    glance(&mut world, ALICE);
    assert!(is_out(&world, ALICE, 1));
    world.live(LAST_MOMENT);
    let lock = world.acquire_as(ALICE, BY_HAND);
    assert_eq!(world.wire(ALICE, 1), [], "no request is sent to it");
    world.drive();
    world.abandon(ALICE, lock);
    world.drive();
    world.live(ms(1));
    assert!(!is_out(&world, ALICE, 1));
    let lock = world.hold(ALICE);
    assert!(world.has(1, lock));
    assert_eq!(jumps(&world, ALICE).len(), 1, "it has been steady since");
}

#[test]
fn the_answer_that_reveals_a_jump_does_not_count_and_is_undone_with_its_attempt() {
    let mut world = seen(3, None);
    world.set_clock(1, 5_000);
    world.plant(0, Some(b"another owner"), Some(TTL));
    world.acquire_as(ALICE, BY_HAND);
    world.step(ALICE, 1);
    world.step(ALICE, 0);
    let refusal = world.refusal(ALICE).expect("one node of three is left");
    assert!(
        matches!(refusal.votes[1], Vote::OnProbation { reason: ProbationReason::ClockJump, .. }),
        "{:?}",
        refusal.votes
    );
    assert_eq!(world.wire(ALICE, 1), [RequestKind::Release], "it granted, and that stands there");
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (1, 0), "all but the key of another owner");
}

#[test]
fn a_grant_that_revealed_a_jump_is_released_with_the_lock() {
    let mut world = seen(3, None);
    world.set_clock(1, 5_000);
    let lock = world.acquire_as(ALICE, BY_HAND);
    world.drive();
    assert!(world.is_valid(ALICE, lock) && world.has(1, lock), "by the other two");
    world.release(ALICE, lock);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn with_too_many_clocks_in_doubt_a_refusal_tells_until_when() {
    let mut world = seen(3, None);
    (0..2).for_each(|node| world.set_clock(node, 5_000));
    let lock = world.acquire_as(ALICE, BY_HAND);
    world.drive();
    assert!(!world.is_valid(ALICE, lock));
    assert_eq!(
        world.refusal(ALICE).map(|refusal| refusal.reason),
        Some(FailureReason::OnProbation { retry_after: Some(NO_VOTE) })
    );
    world.live(NO_VOTE);
    world.hold(ALICE);
}

#[test]
fn a_lock_that_all_nodes_hold_survives_as_many_jumps_as_it_can_spare() {
    for (nodes, need, spare) in [(3, None, 1), (5, None, 2), (5, Some(4), 1), (3, Some(3), 0)] {
        for by in [5_000, -5_000] {
            let mut world = seen(nodes, need);
            let lock = world.hold_as(ALICE, BY_HAND);
            for node in 0..=spare {
                assert!(world.is_valid(ALICE, lock), "{nodes} {need:?}: {node} jumped, {spare} to spare");
                world.set_clock(node, by);
                renewal(&mut world, lock);
                assert!(is_out(&world, ALICE, node));
            }
            assert!(!world.is_valid(ALICE, lock), "{nodes} {need:?}");
            assert_eq!(world.loss(ALICE), Some(LossReason::ClockJump));
            world.release(ALICE, lock);
            world.drive();
            assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
        }
    }
}

#[test]
fn a_lock_that_just_a_quorum_holds_does_not_survive_a_jump_of_one_of_them() {
    for (jumped, survives) in [(0, false), (2, true)] {
        let mut world = seen(3, None);
        world.servers[2].hangs = true;
        let lock = world.hold_as(ALICE, BY_HAND);
        world.servers[2].hangs = false;
        world.wipe(2);
        world.set_clock(jumped, 5_000);
        // The attempt of another client shows nothing to Alice; her own renewal does.
        glance_in_vain(&mut world);
        assert!(world.is_valid(ALICE, lock));
        world.extend(ALICE, lock, TTL);
        world.step(ALICE, 2);
        world.step(ALICE, 2);
        (0..2).for_each(|node| assert!(world.step(ALICE, node)));
        assert_eq!(world.is_valid(ALICE, lock), survives, "{jumped} jumped");
    }
}

/// Bob tries while Alice holds two of three.
fn glance_in_vain(world: &mut World) {
    let lock = world.acquire_as(BOB, BY_HAND);
    (0..3).for_each(|node| assert!(world.step(BOB, node)));
    assert!(!world.is_valid(BOB, lock));
    for node in 0..3 {
        while world.step(BOB, node) {}
    }
}

#[test]
fn a_renewal_that_reveals_a_jump_does_not_count() {
    let mut world = seen(3, None);
    world.cut(ALICE, 2);
    let lock = world.hold_as(ALICE, BY_HAND);
    world.connect(ALICE, 2);
    let before = world.deadline(ALICE, lock);
    world.live(ms(1_000));
    world.set_clock(1, -5_000);
    renewal(&mut world, lock);
    assert_eq!(world.loss(ALICE), Some(LossReason::ClockJump));
    assert_eq!(world.deadline(ALICE, lock), before, "two answers said yes, and one is worth nothing");
}

#[test]
fn a_client_that_only_met_the_nodes_knows_their_clocks() {
    let mut world = seen(3, None);
    meet_again(&mut world, BOB, 0..3);
    world.live(ms(1_000));
    world.set_clock(1, -5_000);
    glance(&mut world, BOB);
    assert_eq!(world.clients[BOB].oddities, [(1, ClockAnomaly::Jumped { by_micros: -5_000_000 })]);
}

#[test]
fn a_client_that_never_saw_the_clock_before_it_jumped_has_nothing_to_tell() {
    let mut world = seen(3, None);
    world.set_clock(1, 5_000);
    meet_again(&mut world, BOB, 0..3);
    glance(&mut world, BOB);
    assert_eq!(world.clients[BOB].oddities, []);
    world.live(ms(1_000));
    world.set_clock(1, 5_000);
    glance(&mut world, BOB);
    assert_eq!(jumps(&world, BOB), [(1, 5_000_000)]);
}

#[test]
fn a_grant_of_an_attempt_under_way_does_not_outlive_the_jump_of_its_node() {
    let mut world = seen(3, None);
    let lock = world.acquire_as(ALICE, BY_HAND);
    world.step(ALICE, 1);
    world.set_clock(1, 5_000);
    // Another question of hers reveals it, while two more answers to the first are due.
    let other = world.acquire_as(ALICE, BY_HAND);
    world.step(ALICE, 1);
    assert!(is_out(&world, ALICE, 1));
    world.step(ALICE, 0);
    assert!(!world.is_valid(ALICE, lock), "one grant of two is of a node that is out of the count");
    world.step(ALICE, 2);
    assert!(world.is_valid(ALICE, lock), "now two others have it");
    world.abandon(ALICE, other);
    world.release(ALICE, lock);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_renewal_under_way_does_not_count_a_node_whose_clock_has_jumped_since_it_said_yes() {
    let mut world = seen(3, None);
    let lock = world.hold_as(ALICE, BY_HAND);
    world.cut(ALICE, 2);
    let before = world.deadline(ALICE, lock);
    world.live(ms(1_000));
    world.extend(ALICE, lock, TTL);
    world.step(ALICE, 1);
    world.set_clock(1, 5_000);
    world.acquire_as(ALICE, BY_HAND);
    world.step(ALICE, 1);
    assert!(is_out(&world, ALICE, 1));
    world.step(ALICE, 0);
    assert_eq!(world.deadline(ALICE, lock), before, "two said yes, and one is out of the count");
}

#[test]
fn a_number_of_a_node_whose_clock_jumped_is_not_ours_on_a_quorum() {
    let mut world = seen(3, None);
    // The first has given a larger number, to which the second must be raised.
    let lock = world.acquire_as(ALICE, BY_HAND);
    world.servers[0].node.data_mut().insert(DataKey::Fence(Key::new(KEY)), fence(u64::MAX >> 12));
    (0..2).for_each(|node| assert!(world.step(ALICE, node)));
    assert_eq!(world.wire(ALICE, 1), [RequestKind::RaiseFence]);
    world.set_clock(0, 5_000);
    world.acquire_as(ALICE, BY_HAND);
    world.step(ALICE, 0);
    assert!(is_out(&world, ALICE, 0));
    world.step(ALICE, 1);
    assert!(!world.is_valid(ALICE, lock), "of two nodes with the number, one is out of the count");
}

fn fence(number: u64) -> DataValue {
    DataValue { value: Some(number.to_string().into_bytes()), expires: None }
}
