//! Leases whose keys are missing: a loss is reported at the next renewal, unless the keys can be reacquired.

use crate::lease::LossReason;
use crate::request::RequestKind;
use crate::tests::world::{ALICE, BOB, TTL, World, ms};
use crate::vote::Vote;

/// Runs the next renewal and everything that follows from it at once.
fn run_next_renewal(world: &mut World) {
    world.run_for(TTL / 3 + ms(1));
    world.wake(ALICE);
    world.deliver_all();
}

/// Deletes the key on these nodes; then Bob acquires and releases the lock.
fn lose_keys_to_bob(world: &mut World, nodes: impl Iterator<Item = usize>) {
    nodes.for_each(|node| world.delete_key(node));
    world.advance_clock(ms(1));
    let bobs_lock = world.acquire(BOB);
    world.release(BOB, bobs_lock);
    world.deliver_all();
}

#[test]
fn a_lock_that_another_client_held_meanwhile_is_reported_lost_at_the_next_renewal() {
    for (nodes, lost) in [(3, 3), (3, 2), (5, 5), (5, 3)] {
        let mut world = World::fenced(nodes);
        let lock = world.acquire(ALICE);
        lose_keys_to_bob(&mut world, 0..lost);
        run_next_renewal(&mut world);
        assert_eq!(world.take_loss(ALICE), Some(LossReason::TakenByOthers), "{lost} of {nodes}");
        assert!(!world.is_valid(ALICE, lock) && !(0..lost).any(|node| world.has_key_of(node, lock)));
    }
}

#[test]
fn a_loss_is_reported_with_the_reply_that_proves_it() {
    let mut world = World::fenced(5);
    let lock = world.acquire(ALICE);
    lose_keys_to_bob(&mut world, 0..5);
    world.run_timers_for(TTL / 3 + ms(1));
    // A renewal and a reacquire each: so far only two of five nodes are lost.
    for node in 0..2 {
        assert!(world.round_trip(ALICE, node) && world.round_trip(ALICE, node));
    }
    assert!(world.round_trip(ALICE, 2), "a missing key proves no loss");
    assert!(world.is_valid(ALICE, lock) && world.take_loss(ALICE).is_none());
    assert!(world.round_trip(ALICE, 2), "a larger fence, so only two nodes are left");
    assert_eq!(world.take_loss(ALICE), Some(LossReason::TakenByOthers));
}

#[test]
fn larger_fences_from_failed_attempts_on_a_minority_are_no_loss() {
    for nodes in [3, 5] {
        let mut world = World::fenced(nodes);
        let lock = world.acquire(ALICE);
        for _ in 0..3 {
            (0..(nodes - 1) / 2).for_each(|node| world.delete_key(node));
            world.advance_clock(ms(1));
            let failed = world.start_acquire(BOB);
            world.deliver_all();
            assert!(!world.is_valid(BOB, failed));
            world.run_for(TTL);
        }
        assert!(world.is_valid(ALICE, lock) && (0..nodes).all(|node| world.has_key_of(node, lock)));
    }
}

#[test]
fn nodes_that_do_not_reply_prove_no_loss() {
    let mut world = World::fenced(3);
    let lock = world.acquire(ALICE);
    world.delete_key(0);
    world.advance_clock(ms(1));
    world.start_acquire(BOB);
    world.deliver_all();
    (1..3).for_each(|node| world.servers[node].hangs = true);
    world.run_timers_for(TTL / 3 + ms(1));
    world.deliver_all();
    assert!(world.is_valid(ALICE, lock) && world.take_loss(ALICE).is_none());
    (1..3).for_each(|node| world.servers[node].hangs = false);
    world.run_for(TTL);
    assert!(world.is_valid(ALICE, lock) && (0..3).all(|node| world.has_key_of(node, lock)));
}

#[test]
fn a_fence_past_the_last_number_counts_as_larger() {
    for fence in ["9007199254740991", "1e300"] {
        let mut world = World::fenced(3);
        let lock = world.acquire(ALICE);
        for node in 0..2 {
            world.delete_key(node);
            world.set_fence(node, fence);
        }
        run_next_renewal(&mut world);
        assert_eq!(world.take_loss(ALICE), Some(LossReason::TakenByOthers), "{fence}");
        assert!(!world.is_valid(ALICE, lock));
    }
}

#[test]
fn a_force_released_lock_is_reported_lost_and_stays_free() {
    for nodes in [1, 2, 3, 5] {
        let mut world = World::fenced(nodes);
        let lock = world.acquire(ALICE);
        world.survey(BOB, RequestKind::ForceRelease);
        world.deliver_all();
        assert_eq!(world.key_count(), 0);
        run_next_renewal(&mut world);
        assert_eq!(world.take_loss(ALICE), Some(LossReason::TakenByOthers), "{nodes} nodes");
        world.run_for(TTL * 2);
        assert_eq!(world.key_count(), 0, "no client reacquires it");
        let next = world.acquire(BOB);
        assert!(world.fencing_number(BOB, next) > world.fencing_number(ALICE, lock));
    }
}

#[test]
fn a_force_release_on_a_minority_leaves_the_lock_valid() {
    for nodes in [3, 5] {
        let mut world = World::fenced(nodes);
        let lock = world.acquire(ALICE);
        let minority = (nodes - 1) / 2;
        (minority..nodes).for_each(|node| world.disconnect(BOB, node));
        world.survey(BOB, RequestKind::ForceRelease);
        world.deliver_all();
        assert_eq!(world.key_count(), nodes - minority);
        world.run_for(TTL * 2);
        assert!(world.is_valid(ALICE, lock) && (0..nodes).all(|node| world.has_key_of(node, lock)));
    }
}

#[test]
fn a_force_released_plain_lock_is_reacquired_by_its_holder() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.survey(BOB, RequestKind::ForceRelease);
    world.deliver_all();
    assert_eq!(world.key_count(), 0);
    world.run_for(TTL / 3 + ms(100));
    assert!(world.is_valid(ALICE, lock) && (0..3).all(|node| world.has_key_of(node, lock)));
}

#[test]
fn a_release_distinguishes_a_stolen_key_from_a_missing_one() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    (0..2).for_each(|node| world.set_foreign_key(node, Some(b"another owner"), Some(TTL)));
    world.delete_key(2);
    world.release(ALICE, lock);
    world.deliver_all();
    let votes = world.take_release_votes(ALICE).expect("each reply confirms the release");
    assert_eq!(votes[..2], [Vote::HeldByOther { remaining: None }, Vote::HeldByOther { remaining: None }]);
    assert_eq!(world.pending_releases(ALICE), 0, "Alice has no key left");
}
