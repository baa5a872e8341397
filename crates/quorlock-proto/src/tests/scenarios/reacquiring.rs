//! Keys that went missing under their holder and are taken again: what such a key is worth, and until when.

use super::helpers::restart_client;
use crate::coordinator::OperationEvent;
use crate::lease::LossReason;
use crate::quorum::NodeSet;
use crate::request::RequestKind;
use crate::tests::world::{ALICE, AcquireOptions, BOB, World, ms};

/// Alice has a lock of three seconds on nodes 0 and 2, and node 1 is back; her first renewal finds no key there, and it
/// is taken again at once. The answer to that is under way.
fn reacquired_with_reply_in_flight() -> (World, u64) {
    let mut world = World::fenced(3);
    world.disconnect(ALICE, 1);
    let lock = world.acquire_with(ALICE, AcquireOptions { ttl: ms(3_000), ..AcquireOptions::default() });
    world.connect(ALICE, 1);
    world.deliver_all();
    world.run_timers_for(ms(1_000));
    for node in 0..3 {
        assert!(world.round_trip(ALICE, node));
    }
    assert_eq!(world.undelivered(ALICE, 1), [RequestKind::Reacquire]);
    assert!(
        world.deliver_request(ALICE, 1) && world.has_key_of(1, lock),
        "taken again, and the reply is under way"
    );
    // The next renewal gets through without that node, which owes an answer.
    world.run_timers_for(ms(1_000));
    assert!(world.round_trip(ALICE, 0) && world.round_trip(ALICE, 2));
    assert_eq!(world.undelivered(ALICE, 1), []);
    world.take_events(ALICE);
    (world, lock)
}

#[test]
fn a_late_reacquire_reply_does_not_count_for_a_deadline_that_moved_since() {
    let (mut world, lock) = reacquired_with_reply_in_flight();
    world.run_timers_for(ms(400));
    assert!(world.deliver_reply(ALICE, 1));
    let remaining = world.now(ALICE).until(world.deadline(ALICE, lock));
    assert!(world.remaining_ttl(1) < Some(remaining), "the key there goes before the lock does");
    let is_counted = |event: &OperationEvent| matches!(event, OperationEvent::Confirmed(nodes) if *nodes == NodeSet::from_bits(0b111));
    let event = world.take_events(ALICE);
    assert!(!event.iter().any(is_counted), "{event:?}");
    // The next renewal finds the key, and from then on it lives as long as the lock.
    world.run_timers_for(ms(600));
    world.deliver_all();
    assert!(world.take_events(ALICE).iter().any(is_counted));
}

#[test]
fn a_clock_jump_is_a_loss_although_a_late_reacquire_reply_arrived() {
    let (mut world, lock) = reacquired_with_reply_in_flight();
    world.run_timers_for(ms(400));
    assert!(world.deliver_reply(ALICE, 1));
    // A clock jumps, so that the key there runs out; and Alice loses her way to the node with the late answer, whose key
    // runs out at four seconds.
    world.shift_clock(0, 3_000);
    world.disconnect(ALICE, 1);
    world.run_timers_for(ms(600));
    assert!(world.round_trip(ALICE, 0) && world.round_trip(ALICE, 2));
    let loss = world.take_loss(ALICE);
    // Bob, who has not met node 0 before, sees nothing odd there. What Alice still asks of it is slow.
    world.run_timers_for(ms(1_100));
    restart_client(&mut world, BOB, 0..3);
    let theirs = world.start_acquire(BOB);
    (0..3).for_each(|node| assert!(world.round_trip(BOB, node)));
    assert!(world.is_valid(BOB, theirs) && world.has_key_of(2, lock));
    assert_eq!(world.overlap, None);
    assert_eq!(loss, Some(LossReason::ClockJump));
}
