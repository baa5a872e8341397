//! Releasing a lock: confirmed by a quorum, or reported at the reply timeout.

use std::time::Duration;

use crate::coordinator::OperationEvent;
use crate::request::RequestKind;
use crate::tests::world::{ALICE, BOB, REPLY_TIMEOUT, TTL, VALIDITY_TIME, World, ms};
use crate::vote::{ReplyFailure, Vote};

#[test]
fn a_release_is_confirmed_by_a_quorum_while_the_other_releases_continue() {
    let mut world = World::new(5);
    let lock = world.acquire(ALICE);
    assert!(world.release(ALICE, lock));
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    assert!(world.take_release_votes(ALICE).is_none());
    world.round_trip(ALICE, 2);
    let votes = world.take_release_votes(ALICE).expect("three of five nodes confirmed");
    assert_eq!(votes.iter().filter(|vote| **vote == Vote::Granted).count(), 3);
    assert_eq!(world.pending_releases(ALICE), 2);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_missing_key_and_a_key_of_another_owner_confirm_a_release() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.delete_key(0);
    world.set_foreign_key(1, Some(b"another owner"), Some(TTL));
    world.release(ALICE, lock);
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    let votes = world.take_release_votes(ALICE).expect("both replies confirm the release");
    assert_eq!(votes[..2], [Vote::NotHeld, Vote::HeldByOther { remaining: None }]);
    assert_eq!(votes[2].to_string(), "not waited for: the others had decided", "its reply is in flight");
}

#[test]
fn a_release_without_reply_is_reported_at_the_reply_timeout_and_stays_pending() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.servers.iter_mut().for_each(|server| server.hangs = true);
    world.release(ALICE, lock);
    world.run_timers_for(REPLY_TIMEOUT - Duration::from_nanos(1));
    assert!(world.take_release_votes(ALICE).is_none());
    world.run_timers_for(Duration::from_nanos(1));
    assert_eq!(world.take_release_votes(ALICE), Some(vec![Vote::Unknown(ReplyFailure::Timeout); 3]));
    assert_eq!(world.pending_releases(ALICE), 3);
    world.servers.iter_mut().for_each(|server| server.hangs = false);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_release_does_not_wait_for_disconnected_nodes() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    (0..3).for_each(|node| world.disconnect(ALICE, node));
    world.release(ALICE, lock);
    let votes = world.take_release_votes(ALICE).expect("no node can reply");
    assert_eq!(votes, vec![Vote::Unknown(ReplyFailure::Disconnected("cut".into())); 3]);
    assert_eq!(world.pending_releases(ALICE), 3);
}

#[test]
fn an_error_does_not_confirm_a_release() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    for server in &mut world.servers {
        server.canned_replies.push_back(Vote::Unknown(ReplyFailure::TransientError("BUSY".into())));
    }
    world.release(ALICE, lock);
    world.deliver_all();
    let votes = world.take_release_votes(ALICE).expect("all nodes have replied");
    assert_eq!(votes, vec![Vote::Unknown(ReplyFailure::TransientError("BUSY".into())); 3]);
    assert_eq!(world.pending_releases(ALICE), 3);
}

#[test]
fn a_lost_lock_is_released_like_any_other() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.clients[ALICE].is_paused = true;
    world.run_timers_for(VALIDITY_TIME);
    world.clients[ALICE].is_paused = false;
    world.wake(ALICE);
    world.take_events(ALICE);
    assert!((0..3).all(|node| world.has_key_of(node, lock)), "the keys live a little longer than the lease");
    assert!(world.release(ALICE, lock));
    world.deliver_all();
    assert!(world.take_release_votes(ALICE).is_some());
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_lost_lock_stays_registered_until_its_release() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.servers.iter_mut().for_each(|server| server.hangs = true);
    world.run_timers_for(VALIDITY_TIME);
    assert_eq!(world.clients[ALICE].coordinator.held_keys().count(), 1);
    world.release(ALICE, lock);
    assert_eq!(world.clients[ALICE].coordinator.held_keys().count(), 0);
}

#[test]
fn a_lock_is_released_once() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    assert!(world.release(ALICE, lock));
    assert!(world.release(ALICE, lock), "the release is in flight");
    assert!((0..3).all(|node| world.undelivered(ALICE, node) == [RequestKind::ReleaseAndNotify]));
    world.deliver_all();
    assert!(!world.release(ALICE, lock), "the release is complete");
    assert!(!world.extend(ALICE, lock, TTL));
    let reported = world.take_events(ALICE);
    assert_eq!(reported.iter().filter(|event| matches!(event, OperationEvent::Released(_))).count(), 1);
}

#[test]
fn a_release_stops_the_renewals() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.release(ALICE, lock);
    world.deliver_all();
    world.run_timers_for(TTL);
    assert!(world.is_nothing_in_flight(ALICE));
    assert!(
        !world.clients[ALICE].coordinator.is_busy() && world.clients[ALICE].coordinator.next_wake().is_none()
    );
}

#[test]
fn a_release_during_a_renewal_reports_only_the_release() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.run_timers_for(ms(3_400));
    world.release(ALICE, lock);
    world.take_events(ALICE);
    world.deliver_all();
    let reported = world.take_events(ALICE);
    assert!(matches!(reported[..], [OperationEvent::Released(_)]), "{reported:?}");
}

#[test]
fn a_lock_can_be_acquired_as_soon_as_its_release_is_confirmed() {
    let mut world = World::new(5);
    let lock = world.acquire(ALICE);
    world.release(ALICE, lock);
    for node in 0..3 {
        world.round_trip(ALICE, node);
    }
    let next = world.start_acquire(BOB);
    for node in 0..5 {
        world.round_trip(BOB, node);
    }
    assert!(world.is_valid(BOB, next));
    world.deliver_all();
    assert_eq!(world.overlap, None);
}
