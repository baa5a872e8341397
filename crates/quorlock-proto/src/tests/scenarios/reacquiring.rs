//! Reacquired keys: from when, and until which deadline, a key counts that its holder has set again.

use super::helpers::restart_client;
use crate::coordinator::{LeaseEvent, OperationEvent};
use crate::lease::LossReason;
use crate::quorum::NodeSet;
use crate::request::RequestKind;
use crate::tests::world::{ALICE, AcquireOptions, BOB, World, ms};

/// Alice acquires a lock with a ttl of 3 s on nodes 0 and 2, and then connects to node 1 again. The first
/// renewal, after 1 s, finds no key on node 1. Node 1 executes the `Reacquire`, and its reply is in flight.
/// The second renewal, after 2 s, moves the deadline. Returns the world at that time, and the lock.
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
        "reacquired, and the reply is in flight"
    );
    // The next renewal succeeds without node 1: it owes a reply, so it is backlogged and gets no request.
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
    assert!(world.remaining_ttl(1) < Some(remaining), "the key on node 1 expires before the lock");
    let all_nodes = OperationEvent::Lease(LeaseEvent::Confirmed(NodeSet::from_bits(0b111)));
    let events = world.take_events(ALICE);
    assert!(!events.contains(&all_nodes), "{events:?}");
    // The next renewal finds the key on node 1 and extends its ttl beyond the new deadline.
    world.run_timers_for(ms(600));
    world.deliver_all();
    assert!(world.take_events(ALICE).contains(&all_nodes));
}

#[test]
fn a_clock_jump_is_a_loss_although_a_late_reacquire_reply_arrived() {
    let (mut world, lock) = reacquired_with_reply_in_flight();
    world.run_timers_for(ms(400));
    assert!(world.deliver_reply(ALICE, 1));
    // The clock of node 0 jumps by 3 s, so its key expires. Alice loses the connection to node 1, whose key
    // expires 4 s after the acquisition.
    world.shift_clock(0, 3_000);
    world.disconnect(ALICE, 1);
    world.run_timers_for(ms(600));
    assert!(world.round_trip(ALICE, 0) && world.round_trip(ALICE, 2));
    let loss = world.take_loss(ALICE);
    // If Alice still believed in her lock, her deadline would lie beyond 4 s. By then, the keys on nodes 0
    // and 1 have expired, so Bob acquires the lock there. He has just restarted, so he cannot notice the
    // clock jump.
    world.run_timers_for(ms(1_100));
    restart_client(&mut world, BOB, 0..3);
    let bobs_lock = world.start_acquire(BOB);
    (0..3).for_each(|node| assert!(world.round_trip(BOB, node)));
    assert!(world.is_valid(BOB, bobs_lock) && world.has_key_of(2, lock));
    assert_eq!(world.overlap, None, "no two locks are valid at once");
    assert_eq!(loss, Some(LossReason::ClockJump));
}
