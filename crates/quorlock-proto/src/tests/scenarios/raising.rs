//! The second round of an acquisition: making the largest number that of a quorum.

use super::fencing::{AHEAD, apart, take, won};
use crate::attempt::FailureReason;
use crate::coordinator::OperationEvent;
use crate::quorum::{NodeId, NodeSet};
use crate::request::RequestKind;
use crate::tests::world::{ALICE, BOB, REPLY_TIMEOUT, TRUSTED, Wish, World, ms};
use crate::vote::{ReplyFailure, Vote};

/// Three nodes, of which the second is ahead by a second: two grants are in, and the first must be raised.
fn raising() -> (World, u64) {
    let mut world = apart(3, None, &AHEAD);
    let lock = world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    assert_eq!(world.wire(ALICE, 0), [RequestKind::RaiseFence]);
    assert_eq!(world.wire(ALICE, 1), []);
    assert_eq!(world.event(ALICE), [], "q nodes must have the number first");
    (world, lock)
}

#[test]
fn grants_that_come_during_the_raise_are_raised_or_outranked() {
    let mut world = apart(5, None, &AHEAD);
    let lock = world.acquire(ALICE);
    (0..3).for_each(|node| assert!(world.step(ALICE, node)));
    assert_eq!(
        (world.wire(ALICE, 0), world.wire(ALICE, 2)),
        (vec![RequestKind::RaiseFence], vec![RequestKind::RaiseFence])
    );
    world.step(ALICE, 3);
    assert_eq!(world.wire(ALICE, 3), [RequestKind::RaiseFence], "a smaller one is raised with the others");
    world.step(ALICE, 4);
    assert_eq!(world.wire(ALICE, 4), [], "a larger one is not, and does not count");
    world.step(ALICE, 0);
    assert_eq!(world.event(ALICE), [], "two of five have the number");
    world.step(ALICE, 3);
    let number = world.fence(1);
    assert!(world.fence(4) > number, "it outranks us");
    let confirmed = NodeSet::from_bits(0b01111);
    let event = world.event(ALICE);
    let [OperationEvent::Won { confirmed: by, fencing_number: given, rounds: 2, .. }] = event[..] else {
        panic!("{event:?}")
    };
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
    assert_eq!(world.event(ALICE), [], "it granted, and yet does not count");
    world.wipe(0);
    world.step(ALICE, 0);
    assert_eq!(world.refusal(ALICE).map(|refusal| refusal.reason), Some(FailureReason::TooLate));
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
    let refusal = world.refusal(ALICE).expect("no other node can complete the quorum");
    assert_eq!(refusal.reason, FailureReason::TooLate);
    assert_eq!(refusal.votes[0], Vote::NotHeld);
    assert_eq!((world.wire(ALICE, 0), world.wire(ALICE, 1)), (vec![], vec![RequestKind::Release]));
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_raise_that_another_client_overtook_is_too_little() {
    let (mut world, _) = raising();
    world.plant(0, Some(b"another owner"), Some(ms(4_000)));
    world.plant(2, Some(b"another owner"), Some(ms(3_000)));
    world.step(ALICE, 0);
    world.step(ALICE, 2);
    let why = world.refusal(ALICE).expect("two of three are another's").reason;
    assert_eq!(
        why,
        FailureReason::Contended { retry_after: Some(ms(3_000)) },
        "and their remaining times are reported unasked"
    );
    world.drive();
    assert_eq!(world.keys(), 2, "ours is gone, theirs are theirs");
}

#[test]
fn a_late_grant_takes_the_place_of_a_raise_that_failed() {
    let (mut world, lock) = raising();
    world.wipe(0);
    world.step(ALICE, 0);
    assert_eq!(world.event(ALICE), []);
    world.step(ALICE, 2);
    assert_eq!(world.wire(ALICE, 2), [RequestKind::RaiseFence]);
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
    assert_eq!(world.refusal(ALICE).map(|refusal| refusal.reason), Some(FailureReason::TooLate));
    assert!(!world.is_valid(ALICE, lock));
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn patience_covers_both_rounds() {
    let (mut world, _) = raising();
    world.sleep(REPLY_TIMEOUT);
    assert_eq!(world.refusal(ALICE).map(|refusal| refusal.reason), Some(FailureReason::NoQuorum));
    assert_eq!(world.wire(ALICE, 0), [RequestKind::RaiseFence, RequestKind::Release]);
    assert_eq!(
        (world.wire(ALICE, 1), world.wire(ALICE, 2)),
        (vec![RequestKind::Release], vec![RequestKind::Acquire, RequestKind::Release])
    );
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn an_attempt_abandoned_in_its_second_round_leaves_nothing_but_numbers() {
    let (mut world, lock) = raising();
    world.abandon(ALICE, lock);
    assert_eq!(world.wire(ALICE, 0), [RequestKind::RaiseFence, RequestKind::Release]);
    assert_eq!(world.wire(ALICE, 1), [RequestKind::Release]);
    assert_eq!(world.wire(ALICE, 2), [RequestKind::Acquire, RequestKind::Release]);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE), world.event(ALICE)), (0, 0, vec![]));
    let largest = (0..3).filter_map(|node| world.fence(node)).max().expect("numbers were given");
    assert!(take(&mut world, BOB, Wish::default()).0 > largest, "and none of them is issued again");
}

#[test]
fn the_undo_goes_also_where_a_raise_failed() {
    for failure in [ReplyFailure::TransientError("OOM".into()), ReplyFailure::UnexpectedReply] {
        let mut world = apart(3, None, &AHEAD);
        world.cut(ALICE, 2);
        let lock = world.acquire(ALICE);
        world.step(ALICE, 0);
        world.step(ALICE, 1);
        world.servers[0].excuses.push_back(Vote::Unknown(failure));
        world.step(ALICE, 0);
        assert_eq!(world.refusal(ALICE).map(|refusal| refusal.reason), Some(FailureReason::NoQuorum));
        assert!(world.has(0, lock), "the grant is still there");
        assert_eq!(
            (world.wire(ALICE, 0), world.wire(ALICE, 1)),
            (vec![RequestKind::Release], vec![RequestKind::Release])
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
    assert_eq!(
        world.clients[ALICE].coordinator.next_reply_kind(NodeId(0)),
        None,
        "answers must fit their questions"
    );
    assert_eq!(world.event(ALICE), []);
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
    world.event(ALICE);
    world.live(ms(3_334));
    let confirmed = world.event(ALICE).into_iter().filter_map(|event| match event {
        OperationEvent::Confirmed(nodes) => Some(nodes),
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
    assert!(
        world
            .commands(ALICE, 0)
            .all(|command| command.as_text && command.request.kind == RequestKind::RaiseFence)
    );
    world.step(ALICE, 0);
    assert!(world.is_valid(ALICE, lock));
}

#[test]
fn a_raise_is_not_sent_as_text_behind_its_undo() {
    let (mut world, lock) = raising();
    world.flush_scripts(0);
    world.abandon(ALICE, lock);
    world.step(ALICE, 0);
    assert_eq!(world.wire(ALICE, 0), [RequestKind::Release]);
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
    assert_eq!(world.wire(ALICE, 2), [RequestKind::RaiseFence]);
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
    assert_eq!(world.wire(ALICE, 2), [RequestKind::ReleaseAndNotify]);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_raise_that_finds_the_key_gone_takes_its_node_from_the_lock() {
    let mut world = apart(3, None, &AHEAD);
    let lock = world.acquire(ALICE);
    (0..2).for_each(|node| assert!(world.step(ALICE, node)));
    // The number stands on two when the third, which has it not, is asked to raise.
    world.step(ALICE, 0);
    world.step(ALICE, 2);
    assert!(world.is_valid(ALICE, lock) && world.wire(ALICE, 2) == [RequestKind::RaiseFence]);
    world.wipe(2);
    world.event(ALICE);
    world.step(ALICE, 2);
    let two: NodeSet = (0..2).map(NodeId).collect();
    assert_eq!(world.event(ALICE), [OperationEvent::Confirmed(two)]);
}

/// Her clock is behind, so her wish would be too small, but for the number she was given last.
#[test]
fn the_next_wish_is_above_the_last_number_whatever_our_clock_says() {
    let mut world = World::fenced(3);
    world.set_wall(ALICE, -10_000);
    world.cut(ALICE, 2);
    let lock = world.hold(ALICE);
    world.release(ALICE, lock);
    world.drive();
    world.connect(ALICE, 2);
    let next = world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 2);
    assert!(world.is_valid(ALICE, next), "in one round, though the third knew nothing of the last number");
    assert_eq!(world.number(ALICE, next), world.number(ALICE, lock) + 1);
}
