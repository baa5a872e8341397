//! A lock comes to stand on every node that is well, and stays there.

use std::time::Duration;

use super::fencing::{CLOCKS_AHEAD_MILLIS, world_with_clocks_ahead};
use super::helpers::PROBATION;
use crate::coordinator::OperationEvent;
use crate::lease::LossReason;
use crate::quorum::NodeSet;
use crate::request::RequestKind;
use crate::tests::world::{ALICE, AcquireOptions, BOB, MAX_TTL, TTL, World, ms};
use crate::time::DualTimestamp;

/// Bob tries and is refused, and everything of his attempt is heard of.
fn bob_fails_to_acquire(world: &mut World) {
    let attempt = world.start_acquire(BOB);
    world.deliver_all();
    assert!(!world.is_valid(BOB, attempt));
}

fn is_on_all_nodes(world: &World, lock: u64) -> bool {
    (0..world.quorum().nodes()).all(|node| world.has_key_of(node, lock))
}

/// Cuts one node off for good, and looks whether the lock lives on without it.
fn survives_without(mut world: World, lock: u64, node: usize) -> bool {
    world.disconnect(ALICE, node);
    world.run_for(TTL * 2);
    world.is_valid(ALICE, lock)
}

#[test]
fn a_late_grant_with_a_larger_number_counts_after_the_next_renewal() {
    for ahead in [1_000, 3_600_000] {
        for late in 0..3 {
            let clocks: Vec<i64> = (0..3).map(|node| if node == late { ahead } else { 0 }).collect();
            let mut world = world_with_clocks_ahead(3, None, &clocks);
            let lock = world.start_acquire(ALICE);
            for node in (0..3).filter(|node| *node != late) {
                world.round_trip(ALICE, node);
            }
            assert!(world.is_valid(ALICE, lock), "two of three");
            world.deliver_all();
            assert!(world.is_nothing_in_flight(ALICE), "a lock that is given up at once costs no renewal");
            world.run_for(ms(100));
            assert!(world.fence(late) > Some(world.fencing_number(ALICE, lock)), "its clock is ahead");
            for away in (0..3).filter(|node| *node != late) {
                let world_without = || -> World {
                    let mut world = world_with_clocks_ahead(3, None, &clocks);
                    let again = world.start_acquire(ALICE);
                    assert_eq!(again, lock);
                    (0..3)
                        .filter(|node| *node != late)
                        .for_each(|node| assert!(world.round_trip(ALICE, node)));
                    world.deliver_all();
                    world.run_for(ms(100));
                    world
                };
                assert!(
                    survives_without(world_without(), lock, away),
                    "{ahead} ms, {late} late, {away} away"
                );
            }
            world.run_for(TTL * 3);
            assert!(is_on_all_nodes(&world, lock) && world.is_valid(ALICE, lock));
        }
    }
}

#[test]
fn a_late_grant_counts_like_any_other() {
    let mut world = world_with_clocks_ahead(3, None, &[0; 3]);
    let lock = world.start_acquire(ALICE);
    (0..2).for_each(|node| assert!(world.round_trip(ALICE, node)));
    world.advance_clock(ms(400));
    world.deliver_all();
    assert!(world.fence(2) > Some(world.fencing_number(ALICE, lock)), "more than the tolerance late");
    world.run_for(TTL * 3);
    assert!(is_on_all_nodes(&world, lock));
    assert!(survives_without(world, lock, 0));
}

#[test]
fn a_missing_key_is_reacquired_over_the_fences_of_failed_attempts() {
    for node in 0..3 {
        let mut world = World::fenced(3);
        let lock = world.acquire(ALICE);
        world.delete_key(node);
        world.advance_clock(ms(1));
        bob_fails_to_acquire(&mut world);
        assert!(world.fence(node) > Some(world.fencing_number(ALICE, lock)) && !world.has_key_of(node, lock));
        world.run_timers_for(TTL / 3 + ms(1));
        world.deliver_all();
        assert!(!world.has_key_of(node, lock), "the node reported its number, which may belong to a holder");
        world.wake(ALICE);
        world.deliver_all();
        assert!(
            world.has_key_of(node, lock),
            "the next renewal, at once, showed that the number belongs to no holder"
        );
        assert!(survives_without(world, lock, (node + 1) % 3));
    }
}

#[test]
fn repeated_failed_attempts_cannot_keep_a_node_from_the_holder() {
    let mut world = World::fenced(5);
    let lock = world.acquire(ALICE);
    world.delete_key(4);
    for _ in 0..40 {
        world.run_for(ms(250));
        bob_fails_to_acquire(&mut world);
    }
    assert!(is_on_all_nodes(&world, lock) && world.is_valid(ALICE, lock));
}

#[test]
fn a_key_is_not_reacquired_over_the_fence_of_a_later_holder() {
    // Two keys are lost at once, which no lock of three survives; the next client gets the lock.
    let mut world = World::fenced(3);
    let lock = world.acquire_with(ALICE, AcquireOptions::default());
    (1..3).for_each(|node| world.delete_key(node));
    world.advance_clock(ms(1));
    let later = world.acquire(BOB);
    world.release(BOB, later);
    for _ in 0..3 {
        world.run_for(TTL / 2);
    }
    assert_eq!(world.take_loss(ALICE), Some(LossReason::TakenByOthers));
    assert!(!world.is_valid(ALICE, lock) && !(1..3).any(|node| world.has_key_of(node, lock)));
}

#[test]
fn a_late_grant_over_the_fence_of_a_later_holder_does_not_count() {
    // Alice has nodes 0 and 1; her question to 2 is under way. Her key on 1 is lost, Bob has the lock and gives it
    // back, and only then does her question reach node 2.
    let mut world = World::fenced(3);
    world.run_timers_for(ms(1));
    let lock = world.start_acquire(ALICE);
    (0..2).for_each(|node| assert!(world.round_trip(ALICE, node)));
    world.delete_key(1);
    world.advance_clock(ms(1));
    let later = world.start_acquire(BOB);
    (0..3).for_each(|node| while world.round_trip(BOB, node) {});
    assert!(world.is_valid(BOB, later));
    world.release(BOB, later);
    (0..3).for_each(|node| while world.round_trip(BOB, node) {});
    world.deliver_all();
    assert!(world.has_key_of(2, lock), "her late question took the key");
    let deadline: DualTimestamp = world.deadline(ALICE, lock);
    world.run_for(TTL * 2);
    assert_eq!(world.take_loss(ALICE), Some(LossReason::Expired), "one node of three is not enough");
    assert_eq!(world.deadline(ALICE, lock), deadline);
}

#[test]
fn different_clocks_cost_no_node() {
    for nodes in [3, 5] {
        for (turn, away) in (0..nodes).enumerate() {
            let mut world = world_with_clocks_ahead(nodes, None, &CLOCKS_AHEAD_MILLIS[..nodes]);
            // Locks of before have left numbers of their own.
            for _ in 0..turn {
                let lock = world.acquire(BOB);
                world.release(BOB, lock);
                world.run_for(ms(1));
            }
            let lock = world.acquire(ALICE);
            world.run_for(TTL * 3);
            assert!(is_on_all_nodes(&world, lock), "{nodes} nodes, turn {turn}");
            assert!(survives_without(world, lock, away));
        }
    }
}

#[test]
fn a_node_that_votes_again_is_reacquired_before_the_next_renewal() {
    for node in 0..3 {
        let mut world = World::fenced(3);
        let lock = world.acquire(ALICE);
        let data = world.servers[node].node.data().clone();
        world.restart(node, data);
        (0..2).for_each(|client| world.connect(client, node));
        world.delete_key(node);
        world.run_for(MAX_TTL - ms(100));
        assert!(!world.has_key_of(node, lock) && world.is_valid(ALICE, lock), "it is on probation");
        // Well before a renewal would be due, and before it votes for others.
        world.take_events(ALICE);
        world.run_for(PROBATION - MAX_TTL);
        assert!(world.has_key_of(node, lock), "node {node}");
        assert!(world.take_events(ALICE).contains(&OperationEvent::Confirmed(NodeSet::from_bits(0b111))));
    }
}

#[test]
fn repeated_failed_attempts_do_not_cause_endless_renewals() {
    let mut world = World::fenced(3);
    let lock = world.acquire(ALICE);
    world.delete_key(2);
    world.run_timers_for(TTL / 3 + ms(1));
    let mut renewals = 0;
    for _ in 0..200 {
        // Bob's vain attempt is on node 2 right before anything of Alice's.
        bob_fails_to_acquire_alone(&mut world);
        (0..3).for_each(|node| while world.round_trip(ALICE, node) {});
        world.wake(ALICE);
        let is_renewal = |event: &OperationEvent| matches!(event, OperationEvent::Renewing);
        renewals += world.take_events(ALICE).iter().filter(|event| is_renewal(event)).count();
    }
    assert!((10..30).contains(&renewals), "{renewals}");
    assert!(world.is_valid(ALICE, lock));
    // When he has gone, the next regular renewals have the node back.
    world.run_for(TTL);
    assert!(is_on_all_nodes(&world, lock));
}

/// As [`try_in_vain`], while what is under way of Alice's stays so.
fn bob_fails_to_acquire_alone(world: &mut World) {
    world.advance_clock(Duration::from_micros(10));
    let attempt = world.start_acquire(BOB);
    (0..3).for_each(|node| while world.round_trip(BOB, node) {});
    assert!(!world.is_valid(BOB, attempt));
}

/// Alice has nodes 0 and 1, and on node 2 her late grant with a larger number; her renewal is under way.
fn world_during_renewal_with_late_grant() -> (World, u64) {
    let mut world = world_with_clocks_ahead(3, None, &[0, 0, 1_000]);
    let lock = world.start_acquire(ALICE);
    (0..3).for_each(|node| assert!(world.round_trip(ALICE, node)));
    world.take_events(ALICE);
    world.run_timers_for(ms(100));
    assert!((0..3).all(|node| world.undelivered(ALICE, node) == [RequestKind::Renew]));
    (world, lock)
}

#[test]
fn a_clock_jump_prevents_a_renewal_from_verifying_a_larger_fence() {
    for jumps_first in [true, false] {
        let (mut world, lock) = world_during_renewal_with_late_grant();
        if jumps_first {
            world.shift_clock(2, 5_000);
            assert!(world.round_trip(ALICE, 2));
        } else {
            assert!(world.round_trip(ALICE, 2));
            world.shift_clock(2, 5_000);
            // What another task of hers asks shows it.
            let other = world.start_acquire(ALICE);
            assert!(world.round_trip(ALICE, 2));
            world.cancel(ALICE, other);
        }
        assert!(!world.clients[ALICE].clock_anomalies.is_empty(), "the jump was seen");
        assert!(world.round_trip(ALICE, 0) && world.round_trip(ALICE, 1));
        let confirmed = world.take_events(ALICE).into_iter().filter_map(|event| match event {
            OperationEvent::Confirmed(nodes) => Some(nodes),
            _ => None,
        });
        assert_eq!(confirmed.last(), Some(NodeSet::from_bits(0b011)), "jumps first: {jumps_first}");
        world.shift_clock(1, 5_000);
        world.extend(ALICE, lock, TTL);
        world.deliver_all();
        assert_eq!(world.take_loss(ALICE), Some(LossReason::ClockJump), "jumps first: {jumps_first}");
    }
}

/// Alice has the lock on nodes 0 and 1, and on node 2 under a larger number that is known to be no holder's; or, if
/// not `cleared`, on all three without any.
fn acquired_on_all_nodes(cleared: bool) -> (World, u64) {
    if !cleared {
        let mut world = World::fenced(3);
        let lock = world.acquire(ALICE);
        return (world, lock);
    }
    let mut world = world_with_clocks_ahead(3, None, &[0, 0, 1_000]);
    let lock = world.start_acquire(ALICE);
    (0..2).for_each(|node| assert!(world.round_trip(ALICE, node)));
    world.deliver_all();
    world.run_for(ms(100));
    assert!(world.fence(2) > Some(world.fencing_number(ALICE, lock)));
    world.take_events(ALICE);
    (world, lock)
}

#[test]
fn a_renewal_that_reveals_a_jump_does_not_count_under_a_verified_larger_fence() {
    for cleared in [false, true] {
        let (mut world, lock) = acquired_on_all_nodes(cleared);
        let deadline = world.deadline(ALICE, lock);
        world.disconnect(ALICE, 1);
        world.shift_clock(2, 5_000);
        world.run_for(TTL / 3 + ms(1));
        assert_eq!(world.deadline(ALICE, lock), deadline, "cleared: {cleared}");
        world.shift_clock(2, 11_000);
        world.run_for(TTL * 2 / 3 + ms(100));
        world.start_acquire(BOB);
        world.deliver_all();
        assert_eq!(world.overlap, None, "cleared: {cleared}");
    }
}

/// Her question to node 2 is stuck on an old connection, and the node is taken again and cleared. Then one key is lost.
#[test]
fn a_verified_larger_fence_does_not_verify_later_fences_of_its_node() {
    for with_vain_rival in [false, true] {
        let mut world = World::fenced(3);
        world.run_for(ms(100));
        let lock = world.start_acquire(ALICE);
        world.disconnect_leaving(ALICE, 2, 1);
        world.deliver_all();
        if with_vain_rival {
            world.run_for(ms(10));
            bob_fails_to_acquire(&mut world);
        }
        world.connect(ALICE, 2);
        (0..4).for_each(|_| world.run_for(TTL / 3 + ms(10)));
        assert!(world.has_key_of(2, lock));
        // She is cut off from node 1, where her key runs out.
        world.disconnect(ALICE, 1);
        world.run_for(TTL * 2);
        assert!(world.is_valid(ALICE, lock) && !world.has_key_of(1, lock));
        world.delete_key(2);
        let theirs = world.start_acquire(BOB);
        (0..3).for_each(|node| while world.round_trip(BOB, node) {});
        assert!(world.is_valid(BOB, theirs));
        let deadline = world.deadline(ALICE, lock);
        world.release(BOB, theirs);
        (0..3).for_each(|node| while world.round_trip(BOB, node) {});
        while world.deliver_orphan(2) && !world.has_key_of(2, lock) {}
        assert!(world.has_key_of(2, lock), "her question of long ago");
        world.run_for(TTL * 2);
        assert_eq!(
            world.deadline(ALICE, lock),
            deadline,
            "Bob had it in between, vain rival: {with_vain_rival}"
        );
    }
}

#[test]
fn a_flapping_connection_does_not_cause_endless_renewals() {
    let mut world = World::fenced(5);
    let lock = world.acquire(ALICE);
    world.disconnect(ALICE, 4);
    world.run_for(TTL);
    world.take_events(ALICE);
    for _ in 0..250 {
        world.connect(ALICE, 4);
        world.wake(ALICE);
        world.disconnect(ALICE, 4);
        world.run_timers_for(ms(40));
        world.deliver_all();
    }
    let rounds =
        world.take_events(ALICE).iter().filter(|event| matches!(event, OperationEvent::Renewing)).count();
    assert!(world.is_valid(ALICE, lock) && rounds <= 13, "{rounds} in ten seconds");
}
