//! Pending releases: each affects only its own attempt and stays pending until it is confirmed.

use std::time::Duration;

use crate::request::RequestKind;
use crate::tests::world::{ALICE, BOB, REPLY_TIMEOUT, TTL, World, ms, owner_token};
use crate::vote::{ReplyFailure, Vote};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_late_release_of_an_earlier_lock_does_not_affect_a_later_one() {
    let mut world = World::new(3);
    let first = world.acquire(ALICE);
    world.release(ALICE, first);
    // The release is still in flight when its connection is lost. Meanwhile the keys expire.
    (0..3).for_each(|node| world.disconnect_leaving(ALICE, node, 1));
    world.run_timers_for(TTL + ms(1));
    (0..3).for_each(|node| world.connect(ALICE, node));
    world.deliver_all();
    let second = world.acquire(ALICE);
    (0..3).for_each(|node| assert!(world.deliver_orphan(node)));
    assert!((0..3).all(|node| world.has_key_of(node, second)));
    assert!(world.is_valid(ALICE, second));
}

#[test]
fn a_pending_release_is_the_first_request_after_a_reconnect() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    for node in 0..3 {
        world.deliver_request(ALICE, node);
    }
    world.disconnect(ALICE, 0);
    world.cancel(ALICE, lock);
    assert_eq!(world.pending_releases(ALICE), 3);
    world.deliver_all();
    assert_eq!(
        (world.key_count(), world.pending_releases(ALICE)),
        (1, 1),
        "the release on the disconnected node is pending"
    );
    world.start_acquire(BOB);
    world.connect(ALICE, 0);
    world.start_acquire(ALICE);
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::Release, RequestKind::Acquire]);
    assert_eq!(
        world.undelivered_commands(ALICE, 0).next().map(|first| first.request.token),
        Some(owner_token(lock))
    );
}

#[test]
fn a_release_on_a_lost_connection_becomes_pending_again() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    world.deliver_request(ALICE, 0);
    world.cancel(ALICE, lock);
    for _ in 0..3 {
        world.disconnect(ALICE, 0);
        assert_eq!(world.pending_releases(ALICE), 3);
        world.connect(ALICE, 0);
        assert_eq!(world.undelivered(ALICE, 0), [RequestKind::Release]);
    }
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_connection_lost_between_set_and_reply_leaves_a_pending_release() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    world.deliver_request(ALICE, 0);
    world.disconnect(ALICE, 0);
    world.disconnect(ALICE, 1);
    assert!(world.take_failure(ALICE).is_some(), "one node of three is left");
    assert!(world.has_key_of(0, lock));
    world.connect(ALICE, 0);
    world.connect(ALICE, 1);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_pending_release_is_dropped_a_minute_after_its_key_has_expired() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    world.disconnect(ALICE, 0);
    world.cancel(ALICE, lock);
    world.deliver_all();
    world.run_timers_for(TTL + MINUTE - ms(1));
    assert_eq!(world.pending_releases(ALICE), 1);
    world.run_timers_for(ms(1));
    assert_eq!(world.pending_releases(ALICE), 0);
    world.connect(ALICE, 0);
    assert_eq!(world.undelivered(ALICE, 0), []);
}

#[test]
fn a_pending_release_of_a_renewed_lease_is_kept_as_long_as_its_keys_can_live() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.run_timers_for(ms(3_334));
    world.deliver_all();
    world.disconnect(ALICE, 0);
    world.release(ALICE, lock);
    world.deliver_all();
    world.run_timers_for(TTL + MINUTE - ms(2));
    assert_eq!(world.pending_releases(ALICE), 1);
    world.run_timers_for(ms(2));
    assert_eq!(world.pending_releases(ALICE), 0);
}

#[test]
fn a_release_with_an_error_reply_is_retried() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.servers[0].canned_replies.push_back(Vote::Unknown(ReplyFailure::TransientError("BUSY".into())));
    world.release(ALICE, lock);
    world.deliver_all();
    assert!(world.has_key_of(0, lock));
    assert_eq!(world.pending_releases(ALICE), 1);
    world.run_timers_for(ms(250));
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::ReleaseAndNotify]);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_script_flush_between_set_and_release_does_not_leave_the_key() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    world.deliver_request(ALICE, 0);
    world.flush_scripts(0);
    world.cancel(ALICE, lock);
    world.deliver_reply(ALICE, 0);
    world.round_trip(ALICE, 0);
    let resent: Vec<_> =
        world.undelivered_commands(ALICE, 0).map(|it| (it.request.kind, it.as_text)).collect();
    assert_eq!(resent, [(RequestKind::Release, true)], "the release is sent again as text, the SET is not");
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_node_with_an_overdue_reply_is_sent_its_release() {
    let mut world = World::new(3);
    world.servers[0].hangs = true;
    let lock = world.acquire(ALICE);
    world.advance_clock(REPLY_TIMEOUT);
    world.release(ALICE, lock);
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::Acquire, RequestKind::ReleaseAndNotify]);
    world.servers[0].hangs = false;
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_set_that_arrives_after_the_disconnect_is_released_after_the_reconnect() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    world.disconnect_leaving(ALICE, 0, 1);
    world.cancel(ALICE, lock);
    world.deliver_all();
    assert!(world.deliver_orphan(0) && world.has_key_of(0, lock));
    world.connect(ALICE, 0);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}
