//! Who may vote: nodes that remember what they should, and did not wake up a moment ago.

use std::time::Duration;

use super::memory::{LAST_MOMENT, LOOK, NO_VOTE, data, doubt, is_voting, marker, try_to_take};
use crate::attempt::FailureReason;
use crate::coordinator::OperationId;
use crate::request::RequestKind;
use crate::test_util::node::{Data, DataKey};
use crate::tests::world::{ALICE, BOB, Wish, World, ms};
use crate::vote::{ProbationReason, ReplyFailure, Vote};

/// Alice holds the lock on the first two of three nodes, and the second of them is about to forget.
fn held_by_two() -> (World, OperationId, Data) {
    let mut world = World::fenced(3);
    let before = data(&world, 1);
    world.cut(ALICE, 2);
    let lock = world.hold(ALICE);
    world.connect(ALICE, 2);
    world.drive();
    (world, lock, before)
}

/// The very fault that probation is for: with the vote of a node that forgot, two would hold the lock.
#[test]
fn a_node_that_forgot_a_lock_casts_no_vote_until_the_lock_is_over() {
    type Forget = fn(&mut World, Data);
    let ways: [(&str, Forget); 5] = [
        ("restarted empty", |world, _| world.restart(1, Data::new())),
        ("restarted with old data", |world, before| world.restart(1, before)),
        ("flushed", |world, _| world.flush(1)),
        ("promoted, empty", |world, _| world.change_role(1, Data::new())),
        ("promoted, of another cluster", |world, before| {
            let other = before.into_iter().map(|(slot, mut entry)| {
                entry.value = entry.value.map(|_| b"quorlock2 00 3 2 30000 a:b 1 1".to_vec());
                (slot, entry)
            });
            world.change_role(1, other.collect());
        }),
    ];
    for (way, forget) in ways {
        let (mut world, lock, before) = held_by_two();
        forget(&mut world, before);
        (0..2).for_each(|who| world.connect(who, 1));
        let refusal = try_to_take(&mut world, BOB);
        assert!(matches!(refusal.reason, FailureReason::Contended { .. }), "{way}: {:?}", refusal.reason);
        assert!(!refusal.votes[1].is_grant(), "{way}: {:?}", refusal.votes[1]);
        assert!(world.is_valid(ALICE, lock) && !is_voting(&world, BOB, 1), "{way}");
        assert_eq!(world.overlap, None, "{way}");
    }
}

#[test]
fn a_node_that_was_promoted_with_old_data_is_found_out_by_the_next_look() {
    let (mut world, _, before) = held_by_two();
    world.change_role(1, before);
    assert!(is_voting(&world, BOB, 1), "the marker is the same, only INFO tells");
    world.live(LOOK);
    assert_eq!(doubt(&world, BOB, 1), Some(ProbationReason::PossibleDataLoss));
}

#[test]
fn a_node_that_forgot_is_taken_back_after_the_max_ttl() {
    let (mut world, lock, _) = held_by_two();
    world.restart(1, Data::new());
    (0..2).for_each(|who| world.connect(who, 1));
    world.drive();
    let since = marker(&world, 1).expect("its marker was written again").since_micros;
    assert_eq!(marker(&world, 1).map(|it| it.cluster), marker(&world, 0).map(|it| it.cluster));
    world.release(ALICE, lock);
    world.drive();
    world.cut(BOB, 2);
    let refusal = try_to_take(&mut world, BOB);
    assert_eq!(refusal.reason, FailureReason::OnProbation { retry_after: Some(NO_VOTE) });
    world.live(LAST_MOMENT);
    assert_eq!(try_to_take(&mut world, BOB).reason, FailureReason::OnProbation { retry_after: Some(ms(1)) });
    world.live(ms(1));
    world.hold(BOB);
    assert_eq!(marker(&world, 1).map(|it| it.since_micros), Some(since));
}

#[test]
fn a_vote_that_says_changed_counts_for_nothing_and_is_followed_by_a_look_at_once() {
    let mut world = World::fenced(3);
    world.flush(1);
    world.acquire(BOB);
    world.step(BOB, 1);
    assert_eq!(world.wire(BOB, 1), [RequestKind::ReadMarker]);
    world.step(BOB, 1);
    assert_eq!(world.wire(BOB, 1), [RequestKind::ReadMarker], "blank: its marker is written back");
    world.drive();
    assert_eq!(doubt(&world, BOB, 1), Some(ProbationReason::PossibleDataLoss));
    world.acquire(BOB);
    assert_eq!(world.wire(BOB, 1), [], "no vote is requested from it");
}

#[test]
fn a_renewal_does_not_count_a_node_that_forgot() {
    let (mut world, lock, _) = held_by_two();
    world.cut(ALICE, 2);
    world.restart(1, Data::new());
    (0..2).for_each(|who| world.connect(who, 1));
    world.live(ms(9_880));
    assert!(world.is_valid(ALICE, lock));
    world.live(ms(20));
    assert!(!world.is_valid(ALICE, lock), "one node of three could not renew it");
}

#[test]
fn who_saw_a_node_change_waits_by_its_own_clock_whatever_the_nodes_clock_says() {
    let mut world = World::fenced(3);
    world.restart(1, Data::new());
    world.connect(ALICE, 1);
    world.drive();
    world.set_clock(1, 3_600_000);
    world.live(LAST_MOMENT);
    assert_eq!(
        doubt(&world, ALICE, 1),
        Some(ProbationReason::PossibleDataLoss),
        "its clock has said for long that it is over"
    );
    world.live(ms(1));
    assert!(is_voting(&world, ALICE, 1));
    // Who meets it only now has nothing but the marker to go by.
    world.connect(BOB, 1);
    assert_eq!(
        doubt(&world, BOB, 1),
        Some(ProbationReason::PossibleDataLoss),
        "Bob knew it, and saw it change just now"
    );
}

#[test]
fn a_node_on_probation_says_so_itself_to_who_does_not_know() {
    let mut world = World::fenced(3);
    // Its clock is behind by a moment, so its probation, just over, is not. So small a difference proves no clock jump.
    world.set_clock(1, -15);
    let lock = world.acquire(ALICE);
    world.step(ALICE, 1);
    assert_eq!(doubt(&world, ALICE, 1), Some(ProbationReason::PossibleDataLoss));
    world.abandon(ALICE, lock);
    world.drive();
    let lock = world.hold(BOB);
    assert!(!world.has(1, lock));
    world.live(ms(600));
    assert!(is_voting(&world, BOB, 1));
}

#[test]
fn a_clock_that_was_set_back_behind_the_marker_begins_a_probation_of_the_usual_length() {
    for asks_first in [false, true] {
        let mut world = World::fenced(3);
        let before = marker(&world, 1).expect("a marker").since_micros;
        world.set_clock(1, -3_600_000);
        if asks_first {
            world.hold(ALICE);
        }
        world.live(LOOK + ms(100));
        let since = marker(&world, 1).expect("a marker").since_micros;
        assert!(since < before && since <= world.servers[1].node.clock_micros(world.now(ALICE).boot_nanos()));
        // Whichever shows it first: the vote, beside what was seen before, or the look.
        let expected =
            if asks_first { ProbationReason::ClockJump } else { ProbationReason::PossibleDataLoss };
        assert_eq!(doubt(&world, ALICE, 1), Some(expected));
        world.live(NO_VOTE + LOOK);
        assert!(is_voting(&world, ALICE, 1), "asked for a vote first: {asks_first}");
    }
}

#[test]
fn two_clients_that_take_a_node_back_at_once_agree() {
    let mut world = World::fenced(3);
    world.restart(1, Data::new());
    (0..2).for_each(|who| world.connect(who, 1));
    assert_eq!(
        (world.wire(ALICE, 1), world.wire(BOB, 1)),
        (vec![RequestKind::ReadMarker], vec![RequestKind::ReadMarker])
    );
    world.step(ALICE, 1);
    let written = data(&world, 1)[&DataKey::Marker].value.clone();
    world.pass(ms(5));
    world.step(BOB, 1);
    assert_eq!(data(&world, 1)[&DataKey::Marker].value, written, "only the first writes");
    world.live(NO_VOTE);
    world.hold(ALICE);
    assert!((0..2).all(|who| is_voting(&world, who, 1)));
}

#[test]
fn nodes_are_looked_at_every_quarter_of_the_max_ttl() {
    let mut world = World::fenced(3);
    for _ in 0..4 {
        world.sleep(LOOK - Duration::from_nanos(1));
        assert!(world.is_nothing_sent(ALICE));
        world.sleep(Duration::from_nanos(1));
        assert!((0..3).all(|node| world.wire(ALICE, node) == [RequestKind::ReadMarker]));
        world.drive();
    }
}

#[test]
fn a_look_that_is_not_known_goes_out_as_text() {
    let mut world = World::fenced(3);
    world.flush_scripts(1);
    world.sleep(LOOK);
    world.step(ALICE, 1);
    assert!(
        world
            .commands(ALICE, 1)
            .all(|command| command.as_text && command.request.kind == RequestKind::ReadMarker)
    );
    assert!(world.step(ALICE, 1) && is_voting(&world, ALICE, 1));

    // Also if it is to write.
    world.restart(1, Data::new());
    world.connect(ALICE, 1);
    world.flush_scripts(1);
    world.drive();
    assert!(marker(&world, 1).is_some());
}

#[test]
fn a_look_that_gets_no_answer_of_use_is_asked_again_and_changes_nothing() {
    let mut world = World::fenced(3);
    world.sleep(LOOK);
    world.servers[1].excuses.push_back(Vote::Unknown(ReplyFailure::TransientError("BUSY".into())));
    world.drive();
    assert!(is_voting(&world, ALICE, 1) && world.is_up(ALICE, 1));
    world.sleep(ms(1_000));
    assert_eq!(world.wire(ALICE, 1), [RequestKind::ReadMarker]);
}

#[test]
fn a_refusal_for_probation_tells_when_a_quorum_may_be_had() {
    let mut world = World::fenced_with(5, None, 2);
    for (node, pause) in [(0, 4_000), (1, 5_000), (2, 0)] {
        world.restart(node, Data::new());
        (0..2).for_each(|who| world.connect(who, node));
        world.drive();
        world.live(ms(pause));
    }
    let refusal = try_to_take(&mut world, BOB);
    // Two vote at once, and with the first of the three to end its probation they are a quorum.
    assert_eq!(refusal.reason, FailureReason::OnProbation { retry_after: Some(ms(21_500)) });
    assert!(world.keys() == 0 && world.is_nothing_sent(BOB));
    world.live(ms(21_500));
    world.hold(BOB);
}

#[test]
fn after_a_flush_of_scripts_a_fenced_grant_goes_out_as_text() {
    let mut world = World::fenced(3);
    (0..3).for_each(|node| world.flush_scripts(node));
    let lock = world.acquire(ALICE);
    world.step(ALICE, 0);
    assert!(
        world
            .commands(ALICE, 0)
            .all(|command| command.as_text && command.request.kind == RequestKind::Acquire)
    );
    world.drive();
    assert!(world.is_valid(ALICE, lock));
}

#[test]
fn a_grant_is_never_sent_as_text_behind_its_undo() {
    let mut world = World::fenced(3);
    (0..3).for_each(|node| world.flush_scripts(node));
    let lock = world.acquire(ALICE);
    world.abandon(ALICE, lock);
    for node in 0..3 {
        assert_eq!(world.wire(ALICE, node), [RequestKind::Acquire, RequestKind::Release]);
        world.step(ALICE, node);
        assert_eq!(world.wire(ALICE, node), [RequestKind::Release], "nothing is sent behind it");
    }
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));

    // A straggler of a lock that was won does without: the next renewal takes that node.
    let mut world = World::fenced(3);
    world.flush_scripts(2);
    world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    world.step(ALICE, 2);
    assert_eq!(world.wire(ALICE, 2), []);
    world.live(ms(3_500));
    assert_eq!(world.keys(), 3);
}

#[test]
fn a_vote_that_was_under_way_when_its_node_was_found_out_does_not_count() {
    let mut world = World::fenced(3);
    world.hold_as(ALICE, Wish { ttl: ms(1_000), auto_renew: false, ..Wish::default() });
    world.live(LOOK - ms(1_000));
    world.sleep(ms(1_000));
    world.acquire(BOB);
    // The look is ahead of the grant on the wire, and tells of another server.
    assert_eq!(world.wire(BOB, 1), [RequestKind::ReadMarker, RequestKind::Acquire]);
    let before = data(&world, 1);
    world.change_role(1, before);
    world.deliver(BOB, 1);
    world.deliver(BOB, 1);
    world.answer(BOB, 1);
    world.answer(BOB, 1);
    world.drive();
    assert!(!is_voting(&world, BOB, 1));
    assert_eq!(world.overlap, None);
}

/// Out of memory, or unable to save: such a server answers a look, and refuses every write.
#[test]
fn a_node_that_refuses_to_be_told_is_not_told_again_and_again() {
    let mut world = World::fenced(3);
    world.restart(1, Data::new());
    let refusal = || Vote::Unknown(ReplyFailure::TransientError("OOM command not allowed".into()));
    world.servers[1].excuses.extend((0..50).map(|_| refusal()));
    world.connect(ALICE, 1);
    world.drive();
    assert_eq!(world.servers[1].excuses.len(), 49, "it was written once");
    assert_eq!(try_to_take_two(&mut world), refusal(), "and a report says what the server said");
    world.live(LOOK);
    assert!((30..49).contains(&world.servers[1].excuses.len()), "and now and then since");
    world.servers[1].excuses.clear();
    world.live(ms(2_000));
    assert!(marker(&world, 1).is_some(), "and soon after it takes writes again");
}

/// What the second of three nodes is said to have answered, when the first is another's and the third not there.
fn try_to_take_two(world: &mut World) -> Vote {
    world.plant(0, Some(b"another owner"), Some(ms(1_000)));
    world.cut(ALICE, 2);
    let vote = try_to_take(world, ALICE).votes.swap_remove(1);
    world.connect(ALICE, 2);
    world.wipe(0);
    vote
}
