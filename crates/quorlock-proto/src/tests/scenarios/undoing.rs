//! Pending releases: bound to their attempt, and pending until known to be done.

use std::time::Duration;

use crate::request::RequestKind;
use crate::tests::world::{ALICE, BOB, REPLY_TIMEOUT, TTL, World, ms, token};
use crate::vote::{ReplyFailure, Vote};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_late_release_of_an_earlier_attempt_cannot_touch_a_later_one() {
    let mut world = World::new(3);
    let first = world.hold(ALICE);
    world.release(ALICE, first);
    // The release travels on for a while after its connection is gone; meanwhile the keys run out.
    (0..3).for_each(|node| world.cut_after(ALICE, node, 1));
    world.sleep(TTL + ms(1));
    (0..3).for_each(|node| world.connect(ALICE, node));
    world.drive();
    let second = world.hold(ALICE);
    (0..3).for_each(|node| assert!(world.ghost(node)));
    assert!((0..3).all(|node| world.has(node, second)));
    assert!(world.is_valid(ALICE, second));
}

#[test]
fn an_owed_undo_is_the_first_thing_a_node_hears_when_it_comes_back() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    for node in 0..3 {
        world.deliver(ALICE, node);
    }
    world.cut(ALICE, 0);
    world.abandon(ALICE, lock);
    assert_eq!(world.undone(ALICE), 3);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (1, 1), "owed to the node that is away");
    world.acquire(BOB);
    world.connect(ALICE, 0);
    world.acquire(ALICE);
    assert_eq!(world.wire(ALICE, 0), [RequestKind::Release, RequestKind::Acquire]);
    assert_eq!(world.commands(ALICE, 0).next().map(|first| first.request.token), Some(token(lock)));
}

#[test]
fn an_undo_cut_off_under_way_is_owed_again() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.deliver(ALICE, 0);
    world.abandon(ALICE, lock);
    for _ in 0..3 {
        world.cut(ALICE, 0);
        assert_eq!(world.undone(ALICE), 3);
        world.connect(ALICE, 0);
        assert_eq!(world.wire(ALICE, 0), [RequestKind::Release]);
    }
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_node_lost_between_the_set_and_its_answer_is_owed_the_undo() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.deliver(ALICE, 0);
    world.cut(ALICE, 0);
    world.cut(ALICE, 1);
    assert!(world.refusal(ALICE).is_some(), "one of three is left");
    assert!(world.has(0, lock));
    world.connect(ALICE, 0);
    world.connect(ALICE, 1);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn an_owed_undo_is_forgotten_a_minute_after_its_key_can_live() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.cut(ALICE, 0);
    world.abandon(ALICE, lock);
    world.drive();
    world.sleep(TTL + MINUTE - ms(1));
    assert_eq!(world.undone(ALICE), 1);
    world.sleep(ms(1));
    assert_eq!(world.undone(ALICE), 0);
    world.connect(ALICE, 0);
    assert_eq!(world.wire(ALICE, 0), []);
}

#[test]
fn an_owed_undo_of_a_renewed_lease_lives_as_long_as_its_keys_may() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    world.sleep(ms(3_334));
    world.drive();
    world.cut(ALICE, 0);
    world.release(ALICE, lock);
    world.drive();
    world.sleep(TTL + MINUTE - ms(2));
    assert_eq!(world.undone(ALICE), 1);
    world.sleep(ms(2));
    assert_eq!(world.undone(ALICE), 0);
}

#[test]
fn an_undo_answered_with_an_error_is_tried_again() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    world.servers[0].excuses.push_back(Vote::Unknown(ReplyFailure::TransientError("BUSY".into())));
    world.release(ALICE, lock);
    world.drive();
    assert!(world.has(0, lock));
    assert_eq!(world.undone(ALICE), 1);
    world.sleep(ms(250));
    assert_eq!(world.wire(ALICE, 0), [RequestKind::ReleaseAndNotify]);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn scripts_flushed_between_a_set_and_its_undo_do_not_keep_the_key() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.deliver(ALICE, 0);
    world.flush_scripts(0);
    world.abandon(ALICE, lock);
    world.answer(ALICE, 0);
    world.step(ALICE, 0);
    let resent: Vec<_> = world.commands(ALICE, 0).map(|it| (it.request.kind, it.as_text)).collect();
    assert_eq!(
        resent,
        [(RequestKind::Release, true)],
        "the undo goes out as text, the SET does not go out again"
    );
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_silent_node_is_sent_its_undo_all_the_same() {
    let mut world = World::new(3);
    world.servers[0].hangs = true;
    let lock = world.hold(ALICE);
    world.pass(REPLY_TIMEOUT);
    world.release(ALICE, lock);
    assert_eq!(world.wire(ALICE, 0), [RequestKind::Acquire, RequestKind::ReleaseAndNotify]);
    world.servers[0].hangs = false;
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_ghost_set_is_undone_by_the_undo_that_comes_after_it() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.cut_after(ALICE, 0, 1);
    world.abandon(ALICE, lock);
    world.drive();
    assert!(world.ghost(0) && world.has(0, lock));
    world.connect(ALICE, 0);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}
