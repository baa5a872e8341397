//! Fencing numbers: they only grow, whatever clocks do, and cost a second round only where clocks differ.

use crate::attempt::FailureReason;
use crate::coordinator::OperationEvent;
use crate::fence::MAX_MIN_FENCING_NUMBER;
use crate::lease::LossReason;
use crate::quorum::NodeSet;
use crate::request::Key;
use crate::test_util::node::{DataKey, DataValue};
use crate::tests::world::{ALICE, BOB, KEY, MAX_TTL, Wish, World, ms};
use crate::vote::{ReplyFailure, Vote};

/// How far the nodes' clocks are ahead, in milliseconds.
pub(super) const AHEAD: [i64; 5] = [0, 1_000, 0, 0, 2_000];
const LAST_NUMBER: u64 = (1 << 53) - 1;
const HOUR_MICROS: u64 = 3_600_000_000;

/// A world of nodes whose clocks were set before any client met them.
pub(super) fn apart(nodes: usize, need: Option<usize>, ahead_millis: &[i64]) -> World {
    let mut world = World::unconnected(nodes, need, 2, Some(MAX_TTL));
    (0..nodes).for_each(|node| world.set_clock(node, ahead_millis[node]));
    world.declare();
    world.connect_all();
    world.drive();
    // Numbers start above the end of the probation, which is just over; from here on clocks decide.
    world.sleep(ms(1_000));
    world
}

fn set_fence(world: &mut World, node: usize, number: u64) {
    let entry = DataValue { value: Some(number.to_string().into_bytes()), expires: None };
    world.servers[node].node.data_mut().insert(fence(), entry);
}

fn forget_fence(world: &mut World, node: usize) {
    world.servers[node].node.data_mut().remove(&fence());
}

fn fence() -> DataKey {
    DataKey::Fence(Key::new(KEY))
}

/// The number and the rounds of the lock that was won last.
pub(super) fn won(world: &mut World, who: usize) -> Option<(u64, u8)> {
    world.event(who).into_iter().find_map(|event| match event {
        OperationEvent::Won { fencing_number: number, rounds, .. } => {
            Some((number.expect("a fenced lock"), rounds))
        }
        _ => None,
    })
}

/// Takes the lock and lets it go again; its number and its rounds.
pub(super) fn take(world: &mut World, who: usize, wish: Wish) -> (u64, u8) {
    let lock = world.acquire_as(who, wish);
    world.drive();
    let won = won(world, who).expect("nothing stands in the way");
    world.release(who, lock);
    world.drive();
    assert_eq!(world.keys(), 0);
    won
}

#[test]
fn with_clocks_that_agree_one_round_gives_the_time_as_the_number_also_to_a_fresh_name() {
    let mut world = World::fenced(5);
    world.sleep(ms(1));
    let micros = world.now(ALICE).wall_nanos() / 1000;
    assert!((0..5).all(|node| world.fence(node).is_none()), "the name is fresh");
    assert_eq!(take(&mut world, ALICE, Wish::default()), (micros, 1));
    assert!((0..5).all(|node| world.fence(node) == Some(micros)), "all nodes have it, and keep it");
}

#[test]
fn two_locks_in_the_same_microsecond_have_two_numbers_in_one_round_each() {
    let mut world = World::fenced(3);
    let mut last = 0;
    for who in [ALICE, ALICE, BOB, ALICE, BOB] {
        let (number, rounds) = take(&mut world, who, Wish::default());
        assert!(number > last && rounds == 1, "{number} after {last} in {rounds}");
        last = number;
    }
}

#[test]
fn where_clocks_differ_a_second_round_makes_the_largest_number_that_of_a_quorum() {
    let mut world = apart(3, None, &AHEAD);
    let lock = world.acquire(ALICE);
    world.drive();
    let (number, rounds) = won(&mut world, ALICE).expect("a lock");
    assert_eq!(rounds, 2);
    assert!((0..3).all(|node| world.fence(node) == Some(number)), "the last one is raised too");
    assert!((0..3).all(|node| world.has(node, lock)));
    let ahead = number - world.now(ALICE).wall_nanos() / 1000;
    assert_eq!(ahead, 1_000_000 - 250_000 + 1, "the tolerance behind the clock that is ahead");
}

#[test]
fn a_renewal_counts_only_where_no_larger_number_was_given_and_makes_ours_the_fence() {
    let mut world = World::fenced(3);
    let lock = world.hold(ALICE);
    let number = world.number(ALICE, lock);
    set_fence(&mut world, 0, number - 3);
    forget_fence(&mut world, 1);
    set_fence(&mut world, 2, number + 5);
    world.sleep(ms(3_334));
    world.drive();
    assert!(world.is_valid(ALICE, lock));
    let event = world.event(ALICE);
    assert!(event.contains(&OperationEvent::Confirmed(NodeSet::from_bits(0b011))), "{event:?}");
    let fences = [0, 1, 2].map(|node| world.fence(node));
    assert_eq!(fences, [Some(number), Some(number), Some(number + 5)]);
}

#[test]
fn a_lock_that_a_quorum_has_gone_past_is_lost() {
    let mut world = World::fenced(3);
    let lock = world.hold(ALICE);
    let number = world.number(ALICE, lock);
    (0..2).for_each(|node| set_fence(&mut world, node, number + 5));
    world.sleep(ms(3_334));
    world.drive();
    assert_eq!(world.loss(ALICE), Some(LossReason::TakenByOthers));
    world.release(ALICE, lock);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_node_where_the_key_went_missing_is_retaken_with_our_number() {
    let mut world = World::fenced(3);
    let lock = world.hold(ALICE);
    world.wipe(2);
    forget_fence(&mut world, 2);
    world.sleep(ms(3_334));
    world.drive();
    assert!(world.has(2, lock));
    assert_eq!(world.fence(2), Some(world.number(ALICE, lock)));
}

#[test]
fn a_node_that_gave_a_larger_number_is_not_retaken() {
    let mut world = World::fenced(3);
    let lock = world.hold(ALICE);
    let past_us = world.number(ALICE, lock) + 5;
    world.wipe(2);
    set_fence(&mut world, 2, past_us);
    world.sleep(ms(3_334));
    world.drive();
    assert!(world.is_valid(ALICE, lock) && !world.has(2, lock));
    assert_eq!(world.fence(2), Some(past_us));
}

#[test]
fn numbers_grow_on_nodes_whose_clocks_are_minutes_apart() {
    let mut world = apart(5, None, &[-180_000, 0, 240_000, 60_000, -600_000]);
    let mut last = 0;
    for turn in 0..15 {
        // Another two nodes are away each time, in a different combination.
        let (one, other) = (turn % 5, (turn + 2) % 5);
        let who = turn % 2;
        world.cut(who, one);
        world.cut(who, other);
        let (number, rounds) = take(&mut world, who, Wish::default());
        assert!(number > last, "turn {turn}: {number} after {last}");
        assert!(rounds <= 2);
        last = number;
        world.connect(who, one);
        world.connect(who, other);
        world.drive();
        world.live(ms(700));
    }
}

#[test]
fn numbers_grow_past_nodes_that_lost_theirs() {
    // Four of five: two quorums share three nodes, so two may forget.
    let mut world = apart(5, Some(4), &AHEAD);
    let far = world.now(ALICE).wall_nanos() / 1000 + HOUR_MICROS;
    world.cut(ALICE, 4);
    let (number, _) = take(&mut world, ALICE, Wish { floor: far, ..Wish::default() });
    assert!(number > far && world.fence(4).is_none());
    for forgetful in [(0, 1), (1, 3), (2, 0)] {
        for away in 0..4 {
            let mut world = apart(5, Some(4), &AHEAD);
            (0..4).for_each(|node| set_fence(&mut world, node, number));
            forget_fence(&mut world, forgetful.0);
            forget_fence(&mut world, forgetful.1);
            world.cut(BOB, away);
            let (next, rounds) = take(&mut world, BOB, Wish::default());
            assert!(next > number, "{forgetful:?} forgot, {away} is away");
            assert_eq!(rounds, 2, "those who forgot learn it");
        }
    }
}

#[test]
fn a_floor_far_ahead_is_passed_and_stays_passed_in_one_round_each() {
    for floor in [HOUR_MICROS, 10 * 365 * 24 * HOUR_MICROS] {
        let mut world = World::fenced(3);
        let floor = world.now(ALICE).wall_nanos() / 1000 + floor;
        let first = take(&mut world, ALICE, Wish { floor, ..Wish::default() });
        assert_eq!(first, (floor + 1, 1));
        assert_eq!(take(&mut world, ALICE, Wish::default()), (floor + 2, 1), "who saw it hints above it");
        assert_eq!(
            take(&mut world, BOB, Wish::default()),
            (floor + 3, 1),
            "to who did not, the nodes say it"
        );
    }
}

#[test]
fn the_largest_floor_leaves_room_and_the_end_of_numbers_is_an_error_that_leaves_nothing() {
    let mut world = World::fenced(3);
    let first = take(&mut world, ALICE, Wish { floor: MAX_MIN_FENCING_NUMBER, ..Wish::default() });
    assert_eq!(first, (MAX_MIN_FENCING_NUMBER + 1, 1));
    assert_eq!(take(&mut world, BOB, Wish::default()), (MAX_MIN_FENCING_NUMBER + 2, 1));

    (0..3).for_each(|node| set_fence(&mut world, node, LAST_NUMBER - 1));
    assert_eq!(take(&mut world, ALICE, Wish::default()), (LAST_NUMBER, 1), "the very last");
    world.acquire(BOB);
    world.drive();
    let refusal = world.refusal(BOB).expect("no number is left");
    assert_eq!(refusal.reason, FailureReason::NoQuorum);
    assert!(
        matches!(refusal.votes[0], Vote::Unknown(ReplyFailure::TransientError(_))),
        "{:?}",
        refusal.votes
    );
    assert_eq!((world.keys(), world.undone(BOB)), (0, 0));
    assert!((0..3).all(|node| world.fence(node) == Some(LAST_NUMBER)));
}

#[test]
fn numbers_grow_across_clients_whose_clocks_are_an_hour_off() {
    let mut world = World::fenced(3);
    world.sleep(ms(10));
    world.set_wall(ALICE, -3_600_000);
    world.set_wall(BOB, 3_600_000);
    let mut last = 0;
    for who in [ALICE, BOB, BOB, ALICE, ALICE, BOB] {
        let (number, _) = take(&mut world, who, Wish::default());
        let off = (number as i64 - (world.now(ALICE).wall_nanos() / 1000 + HOUR_MICROS) as i64).abs();
        assert!(number > last && off < 1_000_000, "the nodes' clocks decide, and not the clients'");
        last = number;
        world.live(ms(100));
    }
}

#[test]
fn a_hint_that_is_off_costs_a_round_only_if_the_nodes_answer_at_different_times() {
    for (ahead, rounds) in [(0, 1), (-3_600_000, 2), (3_600_000, 2)] {
        let mut world = apart(3, None, &[0; 3]);
        world.set_wall(ALICE, ahead);
        world.acquire(ALICE);
        for node in 0..3 {
            world.pass(ms(3));
            world.step(ALICE, node);
        }
        world.drive();
        assert_eq!(won(&mut world, ALICE).map(|(_, rounds)| rounds), Some(rounds), "{ahead} ms");
    }
}
