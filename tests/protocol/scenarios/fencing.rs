//! Fencing numbers: they only grow, whatever clocks do, and cost a second round only where clocks differ.

use crate::node::{Entry, Slot};
use crate::protocol::attempt::Why;
use crate::protocol::board::News;
use crate::protocol::claim::{Key, Phase};
use crate::protocol::fence::LARGEST_FLOOR;
use crate::protocol::lease::Loss;
use crate::protocol::quorum::{NodeId, NodeSet};
use crate::protocol::vote::{Fault, Vote};
use crate::world::{ALICE, BOB, KEY, LONGEST_TTL, NODE_TIMEOUT, TRUSTED, Wish, World, ms};

/// The second and later numbers of the nodes differ by what their clocks do.
const AHEAD: [i64; 5] = [0, 1_000, 0, 0, 2_000];
const LAST_NUMBER: u64 = (1 << 53) - 1;
const HOUR_MICROS: u64 = 3_600_000_000;

/// A world of nodes whose clocks were set before anybody met them.
fn apart(nodes: usize, need: Option<usize>, ahead_millis: &[i64]) -> World {
    let mut world = World::unconnected(nodes, need, 2, Some(LONGEST_TTL));
    (0..nodes).for_each(|node| world.set_clock(node, ahead_millis[node]));
    world.declare();
    world.connect_all();
    world.drive();
    // Numbers start above the end of the probation, which is just over; from here on clocks decide.
    world.sleep(ms(1_000));
    world
}

fn set_fence(world: &mut World, node: usize, number: u64) {
    let entry = Entry { value: Some(number.to_string().into_bytes()), expires: None };
    world.servers[node].node.data_mut().insert(fence(), entry);
}

fn forget_fence(world: &mut World, node: usize) {
    world.servers[node].node.data_mut().remove(&fence());
}

fn fence() -> Slot {
    Slot::Fence(Key::new(KEY))
}

/// The number and the rounds of the lock that was won last.
fn won(world: &mut World, who: usize) -> Option<(u64, u8)> {
    world.news(who).into_iter().find_map(|news| match news {
        News::Won { number, rounds, .. } => Some((number.expect("a guarded lock"), rounds)),
        _ => None,
    })
}

/// Takes the lock and lets it go again; its number and its rounds.
fn take(world: &mut World, who: usize, wish: Wish) -> (u64, u8) {
    let lock = world.acquire_as(who, wish);
    world.drive();
    let won = won(world, who).expect("nothing stands in the way");
    world.release(who, lock);
    world.drive();
    assert_eq!(world.keys(), 0);
    won
}

/// Three nodes, of which the second is ahead by a second: two grants are in, and the first must be raised.
fn raising() -> (World, u64) {
    let mut world = apart(3, None, &AHEAD);
    let lock = world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    assert_eq!(world.wire(ALICE, 0), [Phase::Raise]);
    assert_eq!(world.wire(ALICE, 1), []);
    assert_eq!(world.news(ALICE), [], "q nodes must have the number first");
    (world, lock)
}

#[test]
fn with_clocks_that_agree_one_round_gives_the_time_as_the_number_also_to_a_fresh_name() {
    let mut world = World::guarded(5);
    world.sleep(ms(1));
    let micros = world.now(ALICE).wall_nanos() / 1000;
    assert!((0..5).all(|node| world.fence(node).is_none()), "the name is fresh");
    assert_eq!(take(&mut world, ALICE, Wish::default()), (micros, 1));
    assert!((0..5).all(|node| world.fence(node) == Some(micros)), "all nodes have it, and keep it");
}

#[test]
fn two_locks_in_the_same_microsecond_have_two_numbers_in_one_round_each() {
    let mut world = World::guarded(3);
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
fn grants_that_come_during_the_raise_are_raised_or_outranked() {
    let mut world = apart(5, None, &AHEAD);
    let lock = world.acquire(ALICE);
    (0..3).for_each(|node| assert!(world.step(ALICE, node)));
    assert_eq!((world.wire(ALICE, 0), world.wire(ALICE, 2)), (vec![Phase::Raise], vec![Phase::Raise]));
    world.step(ALICE, 3);
    assert_eq!(world.wire(ALICE, 3), [Phase::Raise], "a smaller one is raised with the others");
    world.step(ALICE, 4);
    assert_eq!(world.wire(ALICE, 4), [], "a larger one is not, and does not count");
    world.step(ALICE, 0);
    assert_eq!(world.news(ALICE), [], "two of five have the number");
    world.step(ALICE, 3);
    let number = world.fence(1);
    assert!(world.fence(4) > number, "it outranks us");
    let confirmed = NodeSet::from_bits(0b01111);
    let news = world.news(ALICE);
    let [News::Won { confirmed: by, number: given, rounds: 2, .. }] = news[..] else { panic!("{news:?}") };
    assert_eq!((by, given), (confirmed, number));
    world.drive();
    assert!(world.has(4, lock), "the key is there all the same");
    world.release(ALICE, lock);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0), "and is released with the others");
}

#[test]
fn a_straggler_that_outranks_us_cannot_make_the_quorum() {
    let mut world = apart(3, None, &[0, 1_000, 2_000]);
    world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    world.step(ALICE, 2);
    assert_eq!(world.news(ALICE), [], "it granted, and yet does not count");
    world.wipe(0);
    world.step(ALICE, 0);
    assert_eq!(world.refusal(ALICE).map(|refusal| refusal.why), Some(Why::TooLate));
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_key_that_ran_out_before_its_raise_is_too_late_and_everything_is_undone() {
    let mut world = apart(3, None, &AHEAD);
    world.cut(ALICE, 2);
    world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    world.wipe(0);
    world.step(ALICE, 0);
    let refusal = world.refusal(ALICE).expect("nobody else is there to make the quorum");
    assert_eq!(refusal.why, Why::TooLate);
    assert_eq!(refusal.votes[0], Vote::Missing);
    assert_eq!((world.wire(ALICE, 0), world.wire(ALICE, 1)), (vec![], vec![Phase::Release]));
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_raise_that_somebody_else_overtook_is_too_little() {
    let (mut world, _) = raising();
    world.plant(0, Some(b"somebody else"), Some(ms(4_000)));
    world.plant(2, Some(b"somebody else"), Some(ms(3_000)));
    world.step(ALICE, 0);
    world.step(ALICE, 2);
    let why = world.refusal(ALICE).expect("two of three are another's").why;
    assert_eq!(why, Why::Contended { retry_after: Some(ms(3_000)) }, "and their lives are told unasked");
    world.drive();
    assert_eq!(world.keys(), 2, "ours is gone, theirs are theirs");
}

#[test]
fn a_late_grant_takes_the_place_of_a_raise_that_failed() {
    let (mut world, lock) = raising();
    world.wipe(0);
    world.step(ALICE, 0);
    assert_eq!(world.news(ALICE), []);
    world.step(ALICE, 2);
    assert_eq!(world.wire(ALICE, 2), [Phase::Raise]);
    world.step(ALICE, 2);
    assert_eq!(won(&mut world, ALICE).map(|(_, rounds)| rounds), Some(2));
    assert!(world.is_valid(ALICE, lock));
    assert_eq!((world.fence(1), world.fence(2)), (Some(world.number(ALICE, lock)), world.fence(1)));
}

#[test]
fn a_raise_that_ends_past_the_deadline_is_too_late() {
    let (mut world, lock) = raising();
    world.deliver(ALICE, 0);
    world.pass(TRUSTED);
    world.answer(ALICE, 0);
    assert_eq!(world.refusal(ALICE).map(|refusal| refusal.why), Some(Why::TooLate));
    assert!(!world.is_valid(ALICE, lock));
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn patience_covers_both_rounds() {
    let (mut world, _) = raising();
    world.sleep(NODE_TIMEOUT);
    assert_eq!(world.refusal(ALICE).map(|refusal| refusal.why), Some(Why::NoQuorum));
    assert_eq!(world.wire(ALICE, 0), [Phase::Raise, Phase::Release]);
    assert_eq!(
        (world.wire(ALICE, 1), world.wire(ALICE, 2)),
        (vec![Phase::Release], vec![Phase::Grant, Phase::Release])
    );
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn an_attempt_abandoned_in_its_second_round_leaves_nothing_but_numbers() {
    let (mut world, lock) = raising();
    world.abandon(ALICE, lock);
    assert_eq!(world.wire(ALICE, 0), [Phase::Raise, Phase::Release]);
    assert_eq!(world.wire(ALICE, 1), [Phase::Release]);
    assert_eq!(world.wire(ALICE, 2), [Phase::Grant, Phase::Release]);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE), world.news(ALICE)), (0, 0, vec![]));
    let largest = (0..3).filter_map(|node| world.fence(node)).max().expect("numbers were given");
    assert!(take(&mut world, BOB, Wish::default()).0 > largest, "and nobody is given one of them again");
}

#[test]
fn the_undo_goes_also_where_a_raise_failed() {
    for failure in [Fault::Refused("OOM".into()), Fault::Odd] {
        let mut world = apart(3, None, &AHEAD);
        world.cut(ALICE, 2);
        let lock = world.acquire(ALICE);
        world.step(ALICE, 0);
        world.step(ALICE, 1);
        world.servers[0].excuses.push_back(Vote::Unknown(failure));
        world.step(ALICE, 0);
        assert_eq!(world.refusal(ALICE).map(|refusal| refusal.why), Some(Why::NoQuorum));
        assert!(world.has(0, lock), "the grant is still there");
        assert_eq!(
            (world.wire(ALICE, 0), world.wire(ALICE, 1)),
            (vec![Phase::Release], vec![Phase::Release])
        );
        world.drive();
        assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
    }
}

#[test]
fn a_raise_whose_connection_was_lost_is_owed_its_undo() {
    let (mut world, lock) = raising();
    world.deliver(ALICE, 0);
    world.cut(ALICE, 0);
    world.step(ALICE, 2);
    world.step(ALICE, 2);
    assert_eq!(won(&mut world, ALICE).map(|(_, rounds)| rounds), Some(2), "by the other two");
    world.release(ALICE, lock);
    world.drive();
    assert!(world.has(0, lock));
    world.connect(ALICE, 0);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_node_that_went_away_after_its_grant_is_not_raised_and_owes_no_answer_when_it_is_back() {
    let mut world = apart(3, None, &AHEAD);
    let lock = world.acquire(ALICE);
    world.step(ALICE, 0);
    world.cut(ALICE, 0);
    world.step(ALICE, 1);
    world.connect(ALICE, 0);
    assert_eq!(world.clients[ALICE].board.expects(NodeId(0)), None, "answers must fit their questions");
    assert_eq!(world.news(ALICE), []);
    world.drive();
    assert!(world.is_valid(ALICE, lock), "by the third");
    world.release(ALICE, lock);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_raise_whose_answer_was_lost_is_confirmed_by_the_next_renewal() {
    let (mut world, lock) = raising();
    world.deliver(ALICE, 0);
    world.cut(ALICE, 0);
    world.drive();
    world.connect(ALICE, 0);
    world.news(ALICE);
    world.sleep(ms(3_334));
    world.drive();
    let confirmed = world.news(ALICE).into_iter().filter_map(|news| match news {
        News::Confirmed(nodes) => Some(nodes),
        _ => None,
    });
    assert_eq!(confirmed.last(), Some(NodeSet::from_bits(0b111)));
    assert_eq!(world.fence(0), Some(world.number(ALICE, lock)));
}

#[test]
fn a_raise_that_a_node_does_not_know_goes_out_as_text() {
    let (mut world, lock) = raising();
    world.flush_scripts(0);
    world.step(ALICE, 0);
    assert!(world.commands(ALICE, 0).all(|command| command.as_text && command.ask.phase == Phase::Raise));
    world.step(ALICE, 0);
    assert!(world.is_valid(ALICE, lock));
}

#[test]
fn a_raise_is_not_sent_as_text_behind_its_undo() {
    let (mut world, lock) = raising();
    world.flush_scripts(0);
    world.abandon(ALICE, lock);
    world.step(ALICE, 0);
    assert_eq!(world.wire(ALICE, 0), [Phase::Release]);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn stragglers_with_smaller_numbers_are_raised_behind_the_callers_back() {
    let mut world = apart(3, None, &[1_000, 1_000, 0]);
    let lock = world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    let (number, rounds) = won(&mut world, ALICE).expect("these two agree");
    assert_eq!(rounds, 1);
    world.step(ALICE, 2);
    assert!(world.fence(2) < Some(number));
    assert_eq!(world.wire(ALICE, 2), [Phase::Raise]);
    world.drive();
    assert_eq!(world.fence(2), Some(number), "the more nodes have it, the more may forget it");
    assert!(world.has(2, lock));
}

#[test]
fn no_straggler_is_raised_for_a_lock_that_was_let_go() {
    let mut world = apart(3, None, &[1_000, 1_000, 0]);
    let lock = world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    world.release(ALICE, lock);
    world.step(ALICE, 2);
    assert_eq!(world.wire(ALICE, 2), [Phase::Release]);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_renewal_counts_only_where_no_larger_number_was_given_and_makes_ours_the_fence() {
    let mut world = World::guarded(3);
    let lock = world.hold(ALICE);
    let number = world.number(ALICE, lock);
    set_fence(&mut world, 0, number - 3);
    forget_fence(&mut world, 1);
    set_fence(&mut world, 2, number + 5);
    world.sleep(ms(3_334));
    world.drive();
    assert!(world.is_valid(ALICE, lock));
    let news = world.news(ALICE);
    assert!(news.contains(&News::Confirmed(NodeSet::from_bits(0b011))), "{news:?}");
    let fences = [0, 1, 2].map(|node| world.fence(node));
    assert_eq!(fences, [Some(number), Some(number), Some(number + 5)]);
}

#[test]
fn a_lock_that_a_quorum_has_gone_past_is_lost() {
    let mut world = World::guarded(3);
    let lock = world.hold(ALICE);
    let number = world.number(ALICE, lock);
    (0..2).for_each(|node| set_fence(&mut world, node, number + 5));
    world.sleep(ms(3_334));
    world.drive();
    assert_eq!(world.loss(ALICE), Some(Loss::Taken));
    world.release(ALICE, lock);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_node_where_the_key_went_missing_is_retaken_with_our_number() {
    let mut world = World::guarded(3);
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
    let mut world = World::guarded(3);
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
        // Another two are away each time, and nobody's turn is like the one before.
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
        let mut world = World::guarded(3);
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
    let mut world = World::guarded(3);
    let first = take(&mut world, ALICE, Wish { floor: LARGEST_FLOOR, ..Wish::default() });
    assert_eq!(first, (LARGEST_FLOOR + 1, 1));
    assert_eq!(take(&mut world, BOB, Wish::default()), (LARGEST_FLOOR + 2, 1));

    (0..3).for_each(|node| set_fence(&mut world, node, LAST_NUMBER - 1));
    assert_eq!(take(&mut world, ALICE, Wish::default()), (LAST_NUMBER, 1), "the very last");
    world.acquire(BOB);
    world.drive();
    let refusal = world.refusal(BOB).expect("no number is left");
    assert_eq!(refusal.why, Why::NoQuorum);
    assert!(matches!(refusal.votes[0], Vote::Unknown(Fault::Refused(_))), "{:?}", refusal.votes);
    assert_eq!((world.keys(), world.undone(BOB)), (0, 0));
    assert!((0..3).all(|node| world.fence(node) == Some(LAST_NUMBER)));
}

#[test]
fn numbers_grow_across_clients_whose_clocks_are_an_hour_off() {
    let mut world = World::guarded(3);
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
