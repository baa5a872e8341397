//! Raising fences: the second round of an attempt writes the largest fencing number to a quorum.
//!
//! It is the write-back phase of ABD registers (Attiya, Bar-Noy, Dolev, *Sharing Memory Robustly*, 1995).

use super::fencing::{
    CLOCKS_AHEAD_MILLIS, acquire_and_release, take_fencing_number_and_rounds, world_with_clocks_ahead,
};
use crate::attempt::FailureReason;
use crate::coordinator::{AttemptEvent, LeaseEvent, OperationEvent};
use crate::quorum::{NodeId, NodeSet};
use crate::request::RequestKind;
use crate::tests::world::{ALICE, AcquireOptions, BOB, REPLY_TIMEOUT, VALIDITY_TIME, World, ms};
use crate::vote::{ReplyFailure, Vote};

/// Three nodes, the clock of node 1 ahead by 1 s. Nodes 0 and 1 have granted, and node 0 must be raised.
fn world_during_raise() -> (World, u64) {
    let mut world = world_with_clocks_ahead(3, None, &CLOCKS_AHEAD_MILLIS);
    let lock = world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::RaiseFence]);
    assert_eq!(world.undelivered(ALICE, 1), []);
    assert_eq!(world.take_events(ALICE), [], "q nodes must have the number first");
    (world, lock)
}

#[test]
fn grants_during_a_raise_are_raised_unless_their_number_is_larger() {
    let mut world = world_with_clocks_ahead(5, None, &CLOCKS_AHEAD_MILLIS);
    let lock = world.start_acquire(ALICE);
    (0..3).for_each(|node| assert!(world.round_trip(ALICE, node)));
    assert_eq!(
        (world.undelivered(ALICE, 0), world.undelivered(ALICE, 2)),
        (vec![RequestKind::RaiseFence], vec![RequestKind::RaiseFence])
    );
    world.round_trip(ALICE, 3);
    assert_eq!(
        world.undelivered(ALICE, 3),
        [RequestKind::RaiseFence],
        "a grant with a smaller number is raised too"
    );
    world.round_trip(ALICE, 4);
    assert_eq!(
        world.undelivered(ALICE, 4),
        [],
        "a grant with a larger number is not raised and does not count"
    );
    world.round_trip(ALICE, 0);
    assert_eq!(world.take_events(ALICE), [], "two of five nodes have the number");
    world.round_trip(ALICE, 3);
    let number = world.fence(1);
    assert!(world.fence(4) > number, "its fence is larger");
    let confirmed = NodeSet::from_bits(0b01111);
    let events = world.take_events(ALICE);
    let [OperationEvent::Attempt(AttemptEvent::Won { confirmed: nodes, fencing_number, rounds: 2, .. })] =
        events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((nodes, fencing_number), (confirmed, number));
    world.deliver_all();
    assert!(world.has_key_of(4, lock), "the key is there nevertheless");
    world.release(ALICE, lock);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0), "it is released with the others");
}

#[test]
fn a_late_grant_with_a_larger_number_does_not_complete_the_quorum() {
    let mut world = world_with_clocks_ahead(3, None, &[0, 1_000, 2_000]);
    world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    world.round_trip(ALICE, 2);
    assert_eq!(world.take_events(ALICE), [], "its grant does not count");
    world.delete_key(0);
    world.round_trip(ALICE, 0);
    assert_eq!(world.take_failure(ALICE).map(|failure| failure.reason), Some(FailureReason::TooLate));
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_key_that_expired_before_its_raise_fails_the_attempt_as_too_late() {
    let mut world = world_with_clocks_ahead(3, None, &CLOCKS_AHEAD_MILLIS);
    world.disconnect(ALICE, 2);
    world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    world.delete_key(0);
    world.round_trip(ALICE, 0);
    let failure = world.take_failure(ALICE).expect("no other node can complete the quorum");
    assert_eq!(failure.reason, FailureReason::TooLate);
    assert_eq!(failure.votes[0], Vote::NotHeld);
    assert_eq!(
        (world.undelivered(ALICE, 0), world.undelivered(ALICE, 1)),
        (vec![], vec![RequestKind::Release])
    );
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_raise_that_finds_keys_of_another_owner_is_contention() {
    let (mut world, _) = world_during_raise();
    world.set_foreign_key(0, Some(b"another owner"), Some(ms(4_000)));
    world.set_foreign_key(2, Some(b"another owner"), Some(ms(3_000)));
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 2);
    let reason = world.take_failure(ALICE).expect("two of three nodes have another owner").reason;
    assert_eq!(
        reason,
        FailureReason::Contended { retry_after: Some(ms(3_000)) },
        "the replies include the remaining times"
    );
    world.deliver_all();
    assert_eq!(world.key_count(), 2, "only the keys of the other owner are left");
}

#[test]
fn a_late_grant_replaces_a_failed_raise() {
    let (mut world, lock) = world_during_raise();
    world.delete_key(0);
    world.round_trip(ALICE, 0);
    assert_eq!(world.take_events(ALICE), []);
    world.round_trip(ALICE, 2);
    assert_eq!(world.undelivered(ALICE, 2), [RequestKind::RaiseFence]);
    world.round_trip(ALICE, 2);
    assert_eq!(take_fencing_number_and_rounds(&mut world, ALICE).map(|(_, rounds)| rounds), Some(2));
    assert!(world.is_valid(ALICE, lock));
    assert_eq!((world.fence(1), world.fence(2)), (Some(world.fencing_number(ALICE, lock)), world.fence(1)));
}

#[test]
fn a_raise_that_completes_past_the_deadline_is_too_late() {
    let (mut world, lock) = world_during_raise();
    world.deliver_request(ALICE, 0);
    world.advance_clock(VALIDITY_TIME);
    world.deliver_reply(ALICE, 0);
    assert_eq!(world.take_failure(ALICE).map(|failure| failure.reason), Some(FailureReason::TooLate));
    assert!(!world.is_valid(ALICE, lock));
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn the_attempt_timeout_covers_both_rounds() {
    let (mut world, _) = world_during_raise();
    world.run_timers_for(REPLY_TIMEOUT);
    assert_eq!(world.take_failure(ALICE).map(|failure| failure.reason), Some(FailureReason::NoQuorum));
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::RaiseFence, RequestKind::Release]);
    assert_eq!(
        (world.undelivered(ALICE, 1), world.undelivered(ALICE, 2)),
        (vec![RequestKind::Release], vec![RequestKind::Acquire, RequestKind::Release])
    );
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn an_attempt_cancelled_in_its_second_round_leaves_only_fences() {
    let (mut world, lock) = world_during_raise();
    world.cancel(ALICE, lock);
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::RaiseFence, RequestKind::Release]);
    assert_eq!(world.undelivered(ALICE, 1), [RequestKind::Release]);
    assert_eq!(world.undelivered(ALICE, 2), [RequestKind::Acquire, RequestKind::Release]);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE), world.take_events(ALICE)), (0, 0, vec![]));
    let largest = (0..3).filter_map(|node| world.fence(node)).max().expect("numbers were issued");
    assert!(
        acquire_and_release(&mut world, BOB, AcquireOptions::default()).0 > largest,
        "none of them is issued again"
    );
}

#[test]
fn a_failed_raise_is_released_too() {
    for failure in [ReplyFailure::TransientError("OOM".into()), ReplyFailure::UnexpectedReply] {
        let mut world = world_with_clocks_ahead(3, None, &CLOCKS_AHEAD_MILLIS);
        world.disconnect(ALICE, 2);
        let lock = world.start_acquire(ALICE);
        world.round_trip(ALICE, 0);
        world.round_trip(ALICE, 1);
        world.servers[0].canned_replies.push_back(Vote::Unknown(failure));
        world.round_trip(ALICE, 0);
        assert_eq!(world.take_failure(ALICE).map(|failure| failure.reason), Some(FailureReason::NoQuorum));
        assert!(world.has_key_of(0, lock), "the grant is still there");
        assert_eq!(
            (world.undelivered(ALICE, 0), world.undelivered(ALICE, 1)),
            (vec![RequestKind::Release], vec![RequestKind::Release])
        );
        world.deliver_all();
        assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
    }
}

#[test]
fn a_raise_on_a_lost_connection_leaves_a_pending_release() {
    let (mut world, lock) = world_during_raise();
    world.deliver_request(ALICE, 0);
    world.disconnect(ALICE, 0);
    world.round_trip(ALICE, 2);
    world.round_trip(ALICE, 2);
    assert_eq!(
        take_fencing_number_and_rounds(&mut world, ALICE).map(|(_, rounds)| rounds),
        Some(2),
        "confirmed by the other two"
    );
    world.release(ALICE, lock);
    world.deliver_all();
    assert!(world.has_key_of(0, lock));
    world.connect(ALICE, 0);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_node_that_disconnected_after_its_grant_is_sent_no_raise() {
    let mut world = world_with_clocks_ahead(3, None, &CLOCKS_AHEAD_MILLIS);
    let lock = world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.disconnect(ALICE, 0);
    world.round_trip(ALICE, 1);
    world.connect(ALICE, 0);
    assert_eq!(
        world.clients[ALICE].coordinator.next_reply_kind(NodeId(0)),
        None,
        "replies must match their requests"
    );
    assert_eq!(world.take_events(ALICE), []);
    world.deliver_all();
    assert!(world.is_valid(ALICE, lock), "with the grant of node 2");
    world.release(ALICE, lock);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_raise_whose_reply_was_lost_is_confirmed_by_the_next_renewal() {
    let (mut world, lock) = world_during_raise();
    world.deliver_request(ALICE, 0);
    world.disconnect(ALICE, 0);
    world.deliver_all();
    world.connect(ALICE, 0);
    world.take_events(ALICE);
    world.run_for(ms(3_334));
    let confirmed = world.take_events(ALICE).into_iter().filter_map(|event| match event {
        OperationEvent::Lease(LeaseEvent::Confirmed(nodes)) => Some(nodes),
        _ => None,
    });
    assert_eq!(confirmed.last(), Some(NodeSet::from_bits(0b111)));
    assert_eq!(world.fence(0), Some(world.fencing_number(ALICE, lock)));
}

#[test]
fn a_raise_is_sent_again_as_text_if_the_script_is_not_loaded() {
    let (mut world, lock) = world_during_raise();
    world.flush_scripts(0);
    world.round_trip(ALICE, 0);
    assert!(
        world
            .undelivered_commands(ALICE, 0)
            .all(|command| command.as_text && command.request.kind == RequestKind::RaiseFence)
    );
    world.round_trip(ALICE, 0);
    assert!(world.is_valid(ALICE, lock));
}

#[test]
fn a_raise_is_never_sent_again_as_text_behind_its_release() {
    let (mut world, lock) = world_during_raise();
    world.flush_scripts(0);
    world.cancel(ALICE, lock);
    world.round_trip(ALICE, 0);
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::Release]);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn late_grants_with_smaller_numbers_are_raised_after_the_lock_is_won() {
    let mut world = world_with_clocks_ahead(3, None, &[1_000, 1_000, 0]);
    let lock = world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    let (number, rounds) = take_fencing_number_and_rounds(&mut world, ALICE).expect("their clocks agree");
    assert_eq!(rounds, 1);
    world.round_trip(ALICE, 2);
    assert!(world.fence(2) < Some(number));
    assert_eq!(world.undelivered(ALICE, 2), [RequestKind::RaiseFence]);
    world.deliver_all();
    assert_eq!(world.fence(2), Some(number), "each node with the number tolerates the data loss of another");
    assert!(world.has_key_of(2, lock));
}

#[test]
fn late_grants_are_not_raised_after_the_release() {
    let mut world = world_with_clocks_ahead(3, None, &[1_000, 1_000, 0]);
    let lock = world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    world.release(ALICE, lock);
    world.round_trip(ALICE, 2);
    assert_eq!(world.undelivered(ALICE, 2), [RequestKind::ReleaseAndNotify]);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_raise_that_finds_no_key_removes_its_node_from_the_lock() {
    let mut world = world_with_clocks_ahead(3, None, &CLOCKS_AHEAD_MILLIS);
    let lock = world.start_acquire(ALICE);
    (0..2).for_each(|node| assert!(world.round_trip(ALICE, node)));
    // Nodes 0 and 1 have the number; node 2 is sent a raise.
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 2);
    assert!(world.is_valid(ALICE, lock) && world.undelivered(ALICE, 2) == [RequestKind::RaiseFence]);
    world.delete_key(2);
    world.take_events(ALICE);
    world.round_trip(ALICE, 2);
    let quorum: NodeSet = (0..2).map(NodeId).collect();
    assert_eq!(world.take_events(ALICE), [OperationEvent::Lease(LeaseEvent::Confirmed(quorum))]);
}

/// Alice's clock is slow, so only her last fencing number makes the requested number large enough.
#[test]
fn the_next_attempt_requests_more_than_the_last_number_despite_a_slow_clock() {
    let mut world = World::fenced(3);
    world.shift_wall_clock(ALICE, -10_000);
    world.disconnect(ALICE, 2);
    let lock = world.acquire(ALICE);
    world.release(ALICE, lock);
    world.deliver_all();
    world.connect(ALICE, 2);
    let next = world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 2);
    assert!(world.is_valid(ALICE, next), "in one round, although node 2 did not have the last number");
    assert_eq!(world.fencing_number(ALICE, next), world.fencing_number(ALICE, lock) + 1);
}
