//! Pending releases: bound to their attempt, and pending until known to be done.

use std::time::Duration;

use crate::request::RequestKind;
use crate::tests::world::{ALICE, BOB, REPLY_TIMEOUT, TTL, World, ms, owner_token};
use crate::vote::{ReplyFailure, Vote};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_late_release_of_an_earlier_attempt_cannot_touch_a_later_one() {
    let mut world = World::new(3);
    let first = world.acquire(ALICE);
    world.release(ALICE, first);
    // The release travels on for a while after its connection is gone; meanwhile the keys run out.
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
fn an_owed_undo_is_the_first_thing_a_node_hears_when_it_comes_back() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    for node in 0..3 {
        world.deliver_request(ALICE, node);
    }
    world.disconnect(ALICE, 0);
    world.cancel(ALICE, lock);
    assert_eq!(world.pending_releases(ALICE), 3);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (1, 1), "owed to the node that is away");
    world.start_acquire(BOB);
    world.connect(ALICE, 0);
    world.start_acquire(ALICE);
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::Release, RequestKind::Acquire]);
    assert_eq!(world.undelivered_commands(ALICE, 0).next().map(|first| first.request.token), Some(owner_token(lock)));
}

#[test]
fn an_undo_cut_off_under_way_is_owed_again() {
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
fn a_node_lost_between_the_set_and_its_answer_is_owed_the_undo() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    world.deliver_request(ALICE, 0);
    world.disconnect(ALICE, 0);
    world.disconnect(ALICE, 1);
    assert!(world.take_failure(ALICE).is_some(), "one of three is left");
    assert!(world.has_key_of(0, lock));
    world.connect(ALICE, 0);
    world.connect(ALICE, 1);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn an_owed_undo_is_forgotten_a_minute_after_its_key_can_live() {
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
fn an_owed_undo_of_a_renewed_lease_lives_as_long_as_its_keys_may() {
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
fn an_undo_answered_with_an_error_is_tried_again() {
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
fn scripts_flushed_between_a_set_and_its_undo_do_not_keep_the_key() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    world.deliver_request(ALICE, 0);
    world.flush_scripts(0);
    world.cancel(ALICE, lock);
    world.deliver_reply(ALICE, 0);
    world.round_trip(ALICE, 0);
    let resent: Vec<_> = world.undelivered_commands(ALICE, 0).map(|it| (it.request.phase, it.as_text)).collect();
    assert_eq!(
        resent,
        [(RequestKind::Release, true)],
        "the undo goes out as text, the SET does not go out again"
    );
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_silent_node_is_sent_its_undo_all_the_same() {
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
fn a_ghost_set_is_undone_by_the_undo_that_comes_after_it() {
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
