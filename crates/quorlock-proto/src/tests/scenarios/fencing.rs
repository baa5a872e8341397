//! Fencing numbers (Kleppmann, "How to do distributed locking", 2016): they only grow, whatever clocks do.
//!
//! A second round is needed only where clocks differ.

use crate::attempt::FailureReason;
use crate::coordinator::{AttemptEvent, LeaseEvent, OperationEvent};
use crate::fence::MAX_MIN_FENCING_NUMBER;
use crate::lease::LossReason;
use crate::quorum::NodeSet;
use crate::request::Key;
use crate::test_util::node::DataKey;
use crate::tests::world::{ALICE, AcquireOptions, BOB, KEY, MAX_TTL, World, ms};
use crate::vote::{ReplyFailure, Vote};

/// How far the nodes' clocks are ahead, in milliseconds.
pub(super) const CLOCKS_AHEAD_MILLIS: [i64; 5] = [0, 1_000, 0, 0, 2_000];
const LAST_NUMBER: u64 = (1 << 53) - 1;
const HOUR_MICROS: u64 = 3_600_000_000;

/// A fenced world whose node clocks were set before any client connected.
pub(super) fn world_with_clocks_ahead(
    nodes: usize,
    quorum_size: Option<usize>,
    ahead_millis: &[i64],
) -> World {
    let mut world = World::unconnected(nodes, quorum_size, 2, Some(MAX_TTL));
    (0..nodes).for_each(|node| world.shift_clock(node, ahead_millis[node]));
    world.initialize_nodes();
    world.connect_all();
    world.deliver_all();
    // Numbers start above the end of the probation, which is just over; from here on they follow the clocks.
    world.run_timers_for(ms(1_000));
    world
}

fn set_fence(world: &mut World, node: usize, number: u64) {
    world.set_fence(node, &number.to_string());
}

fn delete_fence(world: &mut World, node: usize) {
    world.servers[node].node.data_mut().remove(&DataKey::Fence(Key::new(KEY)));
}

/// The fencing number and the number of rounds of the lock that was just acquired.
pub(super) fn take_fencing_number_and_rounds(world: &mut World, client: usize) -> Option<(u64, u8)> {
    world.take_events(client).into_iter().find_map(|event| match event {
        OperationEvent::Attempt(AttemptEvent::Won { fencing_number, rounds, .. }) => {
            Some((fencing_number.expect("a fenced lock"), rounds))
        }
        _ => None,
    })
}

/// Acquires and releases the lock. Returns its fencing number and its number of rounds.
pub(super) fn acquire_and_release(world: &mut World, client: usize, options: AcquireOptions) -> (u64, u8) {
    let lock = world.start_acquire_with(client, options);
    world.deliver_all();
    let won = take_fencing_number_and_rounds(world, client).expect("the lock is free");
    world.release(client, lock);
    world.deliver_all();
    assert_eq!(world.key_count(), 0);
    won
}

#[test]
fn with_equal_clocks_the_first_fencing_number_is_the_time_in_one_round() {
    let mut world = World::fenced(5);
    world.run_timers_for(ms(1));
    let micros = world.now(ALICE).wall_nanos() / 1000;
    assert!((0..5).all(|node| world.fence(node).is_none()), "the key has no fence yet");
    assert_eq!(acquire_and_release(&mut world, ALICE, AcquireOptions::default()), (micros, 1));
    assert!((0..5).all(|node| world.fence(node) == Some(micros)), "all nodes have it and keep it");
}

#[test]
fn locks_in_the_same_microsecond_get_different_numbers_in_one_round_each() {
    let mut world = World::fenced(3);
    let mut last = 0;
    for client in [ALICE, ALICE, BOB, ALICE, BOB] {
        let (number, rounds) = acquire_and_release(&mut world, client, AcquireOptions::default());
        assert!(number > last && rounds == 1, "{number} after {last} in {rounds}");
        last = number;
    }
}

#[test]
fn with_different_clocks_a_second_round_writes_the_largest_number_to_a_quorum() {
    let mut world = world_with_clocks_ahead(3, None, &CLOCKS_AHEAD_MILLIS);
    let lock = world.start_acquire(ALICE);
    world.deliver_all();
    let (number, rounds) = take_fencing_number_and_rounds(&mut world, ALICE).expect("a lock");
    assert_eq!(rounds, 2);
    assert!((0..3).all(|node| world.fence(node) == Some(number)), "the third node is raised too");
    assert!((0..3).all(|node| world.has_key_of(node, lock)));
    let ahead = number - world.now(ALICE).wall_nanos() / 1000;
    assert_eq!(ahead, 1_000_000 - 250_000 + 1, "250 ms, the tolerance, behind the clock that is ahead");
}

#[test]
fn a_renewal_counts_only_under_no_larger_fence_and_writes_its_own_number() {
    let mut world = World::fenced(3);
    let lock = world.acquire(ALICE);
    let number = world.fencing_number(ALICE, lock);
    set_fence(&mut world, 0, number - 3);
    delete_fence(&mut world, 1);
    set_fence(&mut world, 2, number + 5);
    world.run_timers_for(ms(3_334));
    world.deliver_all();
    assert!(world.is_valid(ALICE, lock));
    let events = world.take_events(ALICE);
    assert!(
        events.contains(&OperationEvent::Lease(LeaseEvent::Confirmed(NodeSet::from_bits(0b011)))),
        "{events:?}"
    );
    let fences = [0, 1, 2].map(|node| world.fence(node));
    assert_eq!(fences, [Some(number), Some(number), Some(number + 5)]);
}

#[test]
fn a_lock_with_larger_fences_on_a_quorum_is_lost() {
    let mut world = World::fenced(3);
    let lock = world.acquire(ALICE);
    let number = world.fencing_number(ALICE, lock);
    (0..2).for_each(|node| set_fence(&mut world, node, number + 5));
    world.run_timers_for(ms(3_334));
    world.deliver_all();
    assert_eq!(world.take_loss(ALICE), Some(LossReason::TakenByOthers));
    world.release(ALICE, lock);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_missing_key_is_reacquired_with_the_number_of_the_lock() {
    let mut world = World::fenced(3);
    let lock = world.acquire(ALICE);
    world.delete_key(2);
    delete_fence(&mut world, 2);
    world.run_timers_for(ms(3_334));
    world.deliver_all();
    assert!(world.has_key_of(2, lock));
    assert_eq!(world.fence(2), Some(world.fencing_number(ALICE, lock)));
}

#[test]
fn a_missing_key_under_a_larger_fence_is_not_reacquired() {
    let mut world = World::fenced(3);
    let lock = world.acquire(ALICE);
    let larger = world.fencing_number(ALICE, lock) + 5;
    world.delete_key(2);
    set_fence(&mut world, 2, larger);
    world.run_timers_for(ms(3_334));
    world.deliver_all();
    assert!(world.is_valid(ALICE, lock) && !world.has_key_of(2, lock));
    assert_eq!(world.fence(2), Some(larger));
}

#[test]
fn fencing_numbers_grow_on_nodes_whose_clocks_are_minutes_apart() {
    let mut world = world_with_clocks_ahead(5, None, &[-180_000, 0, 240_000, 60_000, -600_000]);
    let mut last = 0;
    for round in 0..15 {
        // In each round a different pair of nodes is disconnected.
        let (first, second) = (round % 5, (round + 2) % 5);
        let client = round % 2;
        world.disconnect(client, first);
        world.disconnect(client, second);
        let (number, rounds) = acquire_and_release(&mut world, client, AcquireOptions::default());
        assert!(number > last, "round {round}: {number} after {last}");
        assert!(rounds <= 2);
        last = number;
        world.connect(client, first);
        world.connect(client, second);
        world.deliver_all();
        world.run_for(ms(700));
    }
}

#[test]
fn fencing_numbers_grow_although_a_minority_lost_its_fences() {
    // Quorum intersection: two quorums of four of five share three nodes, so two nodes may lose their fences.
    let mut world = world_with_clocks_ahead(5, Some(4), &CLOCKS_AHEAD_MILLIS);
    let far = world.now(ALICE).wall_nanos() / 1000 + HOUR_MICROS;
    world.disconnect(ALICE, 4);
    let (number, _) = acquire_and_release(
        &mut world,
        ALICE,
        AcquireOptions { min_fencing_number: far, ..AcquireOptions::default() },
    );
    assert!(number > far && world.fence(4).is_none());
    for lost_fences in [(0, 1), (1, 3), (2, 0)] {
        for disconnected in 0..4 {
            let mut world = world_with_clocks_ahead(5, Some(4), &CLOCKS_AHEAD_MILLIS);
            (0..4).for_each(|node| set_fence(&mut world, node, number));
            delete_fence(&mut world, lost_fences.0);
            delete_fence(&mut world, lost_fences.1);
            world.disconnect(BOB, disconnected);
            let (next, rounds) = acquire_and_release(&mut world, BOB, AcquireOptions::default());
            assert!(next > number, "{lost_fences:?} lost their fences, {disconnected} is disconnected");
            assert_eq!(rounds, 2, "the nodes without a fence are raised");
        }
    }
}

#[test]
fn a_minimum_fencing_number_far_ahead_is_exceeded_in_one_round() {
    for ahead_micros in [HOUR_MICROS, 10 * 365 * 24 * HOUR_MICROS] {
        let mut world = World::fenced(3);
        let min_fencing_number = world.now(ALICE).wall_nanos() / 1000 + ahead_micros;
        let first = acquire_and_release(
            &mut world,
            ALICE,
            AcquireOptions { min_fencing_number, ..AcquireOptions::default() },
        );
        assert_eq!(first, (min_fencing_number + 1, 1));
        assert_eq!(
            acquire_and_release(&mut world, ALICE, AcquireOptions::default()),
            (min_fencing_number + 2, 1),
            "Alice knows the number and requests more"
        );
        assert_eq!(
            acquire_and_release(&mut world, BOB, AcquireOptions::default()),
            (min_fencing_number + 3, 1),
            "Bob learns the number from the nodes"
        );
    }
}

#[test]
fn exhausted_fencing_numbers_are_an_error_that_leaves_nothing() {
    let mut world = World::fenced(3);
    let first = acquire_and_release(
        &mut world,
        ALICE,
        AcquireOptions { min_fencing_number: MAX_MIN_FENCING_NUMBER, ..AcquireOptions::default() },
    );
    assert_eq!(first, (MAX_MIN_FENCING_NUMBER + 1, 1));
    assert_eq!(
        acquire_and_release(&mut world, BOB, AcquireOptions::default()),
        (MAX_MIN_FENCING_NUMBER + 2, 1)
    );

    (0..3).for_each(|node| set_fence(&mut world, node, LAST_NUMBER - 1));
    assert_eq!(
        acquire_and_release(&mut world, ALICE, AcquireOptions::default()),
        (LAST_NUMBER, 1),
        "the last number"
    );
    world.start_acquire(BOB);
    world.deliver_all();
    let failure = world.take_failure(BOB).expect("no number is left");
    assert_eq!(failure.reason, FailureReason::NoQuorum);
    assert!(
        matches!(failure.votes[0], Vote::Unknown(ReplyFailure::TransientError(_))),
        "{:?}",
        failure.votes
    );
    assert_eq!((world.key_count(), world.pending_releases(BOB)), (0, 0));
    assert!((0..3).all(|node| world.fence(node) == Some(LAST_NUMBER)));
}

#[test]
fn fencing_numbers_grow_across_clients_whose_clocks_are_an_hour_off() {
    let mut world = World::fenced(3);
    world.run_timers_for(ms(10));
    world.shift_wall_clock(ALICE, -3_600_000);
    world.shift_wall_clock(BOB, 3_600_000);
    let mut last = 0;
    for client in [ALICE, BOB, BOB, ALICE, ALICE, BOB] {
        let (number, _) = acquire_and_release(&mut world, client, AcquireOptions::default());
        let offset_micros =
            (number as i64 - (world.now(ALICE).wall_nanos() / 1000 + HOUR_MICROS) as i64).abs();
        assert!(number > last && offset_micros < 1_000_000, "the node clocks decide, not the client clocks");
        last = number;
        world.run_for(ms(100));
    }
}

#[test]
fn a_wrong_client_clock_costs_a_second_round_if_nodes_are_reached_at_different_times() {
    for (ahead, rounds) in [(0, 1), (-3_600_000, 2), (3_600_000, 2)] {
        let mut world = world_with_clocks_ahead(3, None, &[0; 3]);
        world.shift_wall_clock(ALICE, ahead);
        world.start_acquire(ALICE);
        for node in 0..3 {
            world.advance_clock(ms(3));
            world.round_trip(ALICE, node);
        }
        world.deliver_all();
        assert_eq!(
            take_fencing_number_and_rounds(&mut world, ALICE).map(|(_, rounds)| rounds),
            Some(rounds),
            "{ahead} ms"
        );
    }
}
