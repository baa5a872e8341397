//! Redundancy: a lock reaches every healthy node and stays there.

use std::time::Duration;

use super::fencing::{CLOCKS_AHEAD_MILLIS, world_with_clocks_ahead};
use super::helpers::PROBATION;
use crate::coordinator::{LeaseEvent, OperationEvent};
use crate::lease::LossReason;
use crate::quorum::NodeSet;
use crate::request::RequestKind;
use crate::tests::world::{ALICE, AcquireOptions, BOB, MAX_TTL, TTL, World, ms};
use crate::time::DualTimestamp;

/// Bob fails to acquire the lock. Everything in flight is delivered.
fn bob_fails_to_acquire(world: &mut World) {
    let attempt = world.start_acquire(BOB);
    world.deliver_all();
    assert!(!world.is_valid(BOB, attempt));
}

fn is_on_all_nodes(world: &World, lock: u64) -> bool {
    (0..world.quorum().nodes()).all(|node| world.has_key_of(node, lock))
}

/// Disconnects one node and returns whether the lock survives without it.
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
            assert!(world.is_valid(ALICE, lock), "granted by two of three");
            world.deliver_all();
            assert!(
                world.is_nothing_in_flight(ALICE),
                "no renewal is sent at once, in case the lock is released soon"
            );
            world.run_for(ms(100));
            assert!(world.fence(late) > Some(world.fencing_number(ALICE, lock)), "its clock is ahead");
            for disconnected in (0..3).filter(|node| *node != late) {
                let new_world = || -> World {
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
                    survives_without(new_world(), lock, disconnected),
                    "{ahead} ms, {late} late, {disconnected} disconnected"
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
    assert!(
        world.fence(2) > Some(world.fencing_number(ALICE, lock)),
        "the grant is later than the tolerance"
    );
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
        assert!(!world.has_key_of(node, lock), "the larger fence may belong to a holder");
        world.wake(ALICE);
        world.deliver_all();
        assert!(
            world.has_key_of(node, lock),
            "the next renewal verified that the fence belongs to no holder"
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
    // A lock on three nodes does not survive the loss of two keys; the next client gets it.
    let mut world = World::fenced(3);
    let lock = world.acquire_with(ALICE, AcquireOptions::default());
    (1..3).for_each(|node| world.delete_key(node));
    world.advance_clock(ms(1));
    let bobs_lock = world.acquire(BOB);
    world.release(BOB, bobs_lock);
    for _ in 0..3 {
        world.run_for(TTL / 2);
    }
    assert_eq!(world.take_loss(ALICE), Some(LossReason::TakenByOthers));
    assert!(!world.is_valid(ALICE, lock) && !(1..3).any(|node| world.has_key_of(node, lock)));
}

#[test]
fn a_late_grant_over_the_fence_of_a_later_holder_does_not_count() {
    // Alice has grants of nodes 0 and 1. Her key on node 1 is lost; Bob acquires and releases the lock.
    // Only then does her request reach node 2.
    let mut world = World::fenced(3);
    world.run_timers_for(ms(1));
    let lock = world.start_acquire(ALICE);
    (0..2).for_each(|node| assert!(world.round_trip(ALICE, node)));
    world.delete_key(1);
    world.advance_clock(ms(1));
    let bobs_lock = world.start_acquire(BOB);
    (0..3).for_each(|node| while world.round_trip(BOB, node) {});
    assert!(world.is_valid(BOB, bobs_lock));
    world.release(BOB, bobs_lock);
    (0..3).for_each(|node| while world.round_trip(BOB, node) {});
    world.deliver_all();
    assert!(world.has_key_of(2, lock), "her late request set the key");
    let deadline: DualTimestamp = world.deadline(ALICE, lock);
    world.run_for(TTL * 2);
    assert_eq!(world.take_loss(ALICE), Some(LossReason::Expired), "one node of three is not enough");
    assert_eq!(world.deadline(ALICE, lock), deadline);
}

#[test]
fn a_lock_reaches_all_nodes_although_their_clocks_differ() {
    for nodes in [3, 5] {
        for (earlier_locks, disconnected) in (0..nodes).enumerate() {
            let mut world = world_with_clocks_ahead(nodes, None, &CLOCKS_AHEAD_MILLIS[..nodes]);
            // Earlier locks left fences of their own.
            for _ in 0..earlier_locks {
                let lock = world.acquire(BOB);
                world.release(BOB, lock);
                world.run_for(ms(1));
            }
            let lock = world.acquire(ALICE);
            world.run_for(TTL * 3);
            assert!(is_on_all_nodes(&world, lock), "{nodes} nodes, {earlier_locks} earlier locks");
            assert!(survives_without(world, lock, disconnected));
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
        // Well before the next renewal is due, and before the node votes for new attempts.
        world.take_events(ALICE);
        world.run_for(PROBATION - MAX_TTL);
        assert!(world.has_key_of(node, lock), "node {node}");
        assert!(
            world
                .take_events(ALICE)
                .contains(&OperationEvent::Lease(LeaseEvent::Confirmed(NodeSet::from_bits(0b111))))
        );
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
        // Bob's failed attempt reaches node 2 right before each request of Alice.
        deliver_only_bobs_failed_attempt(&mut world);
        (0..3).for_each(|node| while world.round_trip(ALICE, node) {});
        world.wake(ALICE);
        let is_renewal =
            |event: &OperationEvent| matches!(event, OperationEvent::Lease(LeaseEvent::Renewing));
        renewals += world.take_events(ALICE).iter().filter(|event| is_renewal(event)).count();
    }
    assert!((10..30).contains(&renewals), "{renewals}");
    assert!(world.is_valid(ALICE, lock));
    // After Bob has stopped, the next regular renewals reacquire the node.
    world.run_for(TTL);
    assert!(is_on_all_nodes(&world, lock));
}

/// As [`bob_fails_to_acquire`], but Alice's requests stay in flight.
fn deliver_only_bobs_failed_attempt(world: &mut World) {
    world.advance_clock(Duration::from_micros(10));
    let attempt = world.start_acquire(BOB);
    (0..3).for_each(|node| while world.round_trip(BOB, node) {});
    assert!(!world.is_valid(BOB, attempt));
}

/// Alice holds nodes 0 and 1, and node 2 by a late grant with a larger number. Her renewal is in flight.
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
    for jumps_before_reply in [true, false] {
        let (mut world, lock) = world_during_renewal_with_late_grant();
        if jumps_before_reply {
            world.shift_clock(2, 5_000);
            assert!(world.round_trip(ALICE, 2));
        } else {
            assert!(world.round_trip(ALICE, 2));
            world.shift_clock(2, 5_000);
            // Another attempt of Alice reveals the jump.
            let other = world.start_acquire(ALICE);
            assert!(world.round_trip(ALICE, 2));
            world.cancel(ALICE, other);
        }
        assert!(!world.clients[ALICE].clock_anomalies.is_empty(), "the jump was reported");
        assert!(world.round_trip(ALICE, 0) && world.round_trip(ALICE, 1));
        let confirmed = world.take_events(ALICE).into_iter().filter_map(|event| match event {
            OperationEvent::Lease(LeaseEvent::Confirmed(nodes)) => Some(nodes),
            _ => None,
        });
        assert_eq!(
            confirmed.last(),
            Some(NodeSet::from_bits(0b011)),
            "jump before reply: {jumps_before_reply}"
        );
        world.shift_clock(1, 5_000);
        world.extend(ALICE, lock, TTL);
        world.deliver_all();
        assert_eq!(
            world.take_loss(ALICE),
            Some(LossReason::ClockJump),
            "jump before reply: {jumps_before_reply}"
        );
    }
}

/// Alice holds the lock on all three nodes, optionally with a larger fence of no holder on node 2.
fn acquired_on_all_nodes(with_larger_fence: bool) -> (World, u64) {
    if !with_larger_fence {
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
    for with_larger_fence in [false, true] {
        let (mut world, lock) = acquired_on_all_nodes(with_larger_fence);
        let deadline = world.deadline(ALICE, lock);
        world.disconnect(ALICE, 1);
        world.shift_clock(2, 5_000);
        world.run_for(TTL / 3 + ms(1));
        assert_eq!(world.deadline(ALICE, lock), deadline, "larger fence: {with_larger_fence}");
        world.shift_clock(2, 11_000);
        world.run_for(TTL * 2 / 3 + ms(100));
        world.start_acquire(BOB);
        world.deliver_all();
        assert_eq!(world.overlap, None, "larger fence: {with_larger_fence}");
    }
}

/// Alice's first request to node 2 is stuck on a lost connection. Node 2 is reacquired, then loses its key.
#[test]
fn a_verified_larger_fence_does_not_verify_later_fences_of_its_node() {
    for with_failed_attempt in [false, true] {
        let mut world = World::fenced(3);
        world.run_for(ms(100));
        let lock = world.start_acquire(ALICE);
        world.disconnect_leaving(ALICE, 2, 1);
        world.deliver_all();
        if with_failed_attempt {
            world.run_for(ms(10));
            bob_fails_to_acquire(&mut world);
        }
        world.connect(ALICE, 2);
        (0..4).for_each(|_| world.run_for(TTL / 3 + ms(10)));
        assert!(world.has_key_of(2, lock));
        // Alice loses the connection to node 1, where her key expires.
        world.disconnect(ALICE, 1);
        world.run_for(TTL * 2);
        assert!(world.is_valid(ALICE, lock) && !world.has_key_of(1, lock));
        world.delete_key(2);
        let bobs_lock = world.start_acquire(BOB);
        (0..3).for_each(|node| while world.round_trip(BOB, node) {});
        assert!(world.is_valid(BOB, bobs_lock));
        let deadline = world.deadline(ALICE, lock);
        world.release(BOB, bobs_lock);
        (0..3).for_each(|node| while world.round_trip(BOB, node) {});
        while world.deliver_orphan(2) && !world.has_key_of(2, lock) {}
        assert!(world.has_key_of(2, lock), "Alice's first request set the key");
        world.run_for(TTL * 2);
        assert_eq!(
            world.deadline(ALICE, lock),
            deadline,
            "Bob held the lock in between, failed attempt: {with_failed_attempt}"
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
    let rounds = world
        .take_events(ALICE)
        .iter()
        .filter(|event| matches!(event, OperationEvent::Lease(LeaseEvent::Renewing)))
        .count();
    assert!(world.is_valid(ALICE, lock) && rounds <= 13, "{rounds} in ten seconds");
}
