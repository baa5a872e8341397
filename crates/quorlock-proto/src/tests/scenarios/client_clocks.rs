//! The two clocks of a client: a lease ends as soon as its wall clock or its boot clock passes the deadline.

use std::time::Duration;

use crate::attempt::FailureReason;
use crate::coordinator::{LeaseEvent, OperationEvent};
use crate::lease::LossReason;
use crate::tests::world::{ALICE, AcquireOptions, BOB, LOSS_LEAD_TIME, TTL, VALIDITY_TIME, World, ms};

#[test]
fn a_wall_clock_that_jumps_ahead_ends_a_lease() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.shift_wall_clock(ALICE, 9_898);
    assert!(!world.is_valid(ALICE, lock), "a check detects it at once");
    world.wake(ALICE);
    assert_eq!(world.take_loss(ALICE), Some(LossReason::Expired));
}

#[test]
fn a_small_wall_clock_jump_does_not_end_a_lease() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.shift_wall_clock(ALICE, 5_000);
    world.wake(ALICE);
    assert_eq!(world.take_loss(ALICE), None);
    assert!(world.is_valid(ALICE, lock));
    world.run_timers_for(ms(3_334));
    world.deliver_all();
    world.run_timers_for(ms(3_000));
    assert!(world.is_valid(ALICE, lock), "the renewed lease counts from the new time");
}

/// A time service that slews the wall clock moves it by less than a step between two readings.
#[test]
fn a_wall_clock_that_gains_slowly_ends_a_lease() {
    let mut world = World::new(3);
    let lock = world.acquire_with(ALICE, AcquireOptions { auto_renew: false, ..AcquireOptions::default() });
    let deadline = world.deadline(ALICE, lock);
    while !world.now(ALICE).is_past(deadline) {
        // A busy driver reads the clocks every 2 ms; the wall clock gains 10 % on the boot clock.
        world.advance_clock(ms(2));
        world.clients[ALICE].advance_wall_clock(Duration::from_micros(200));
        world.wake(ALICE);
    }
    assert_eq!(
        world.take_loss(ALICE),
        Some(LossReason::Expired),
        "the loss must not wait for the boot clock"
    );
}

#[test]
fn a_wall_clock_set_back_does_not_prolong_a_lease() {
    let mut world = World::new(3);
    let lock = world.acquire_with(ALICE, AcquireOptions { auto_renew: false, ..AcquireOptions::default() });
    world.shift_wall_clock(ALICE, -3_600_000);
    world.wake(ALICE);
    world.run_timers_for(VALIDITY_TIME - LOSS_LEAD_TIME - Duration::from_nanos(1));
    assert!(world.is_valid(ALICE, lock));
    world.run_timers_for(Duration::from_nanos(1));
    assert_eq!(world.take_loss(ALICE), Some(LossReason::Expired), "the boot clock ends the lease");
}

#[test]
fn renewals_continue_after_the_wall_clock_was_set_back() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.shift_wall_clock(ALICE, -3_600_000);
    for _ in 0..30 {
        world.run_timers_for(ms(1_000));
        world.deliver_all();
        assert!(world.is_valid(ALICE, lock));
    }
}

#[test]
fn a_wall_clock_jump_during_an_attempt_makes_it_too_late() {
    let mut world = World::new(3);
    world.start_acquire(ALICE);
    for node in 0..3 {
        world.deliver_request(ALICE, node);
    }
    world.shift_wall_clock(ALICE, 9_898);
    for node in 0..3 {
        world.deliver_reply(ALICE, node);
    }
    assert_eq!(world.take_failure(ALICE).map(|failure| failure.reason), Some(FailureReason::TooLate));
    world.deliver_all();
    assert_eq!(world.key_count(), 0);
}

#[test]
fn timeouts_ignore_the_wall_clock() {
    let mut world = World::new(3);
    world.start_acquire(ALICE);
    world.shift_wall_clock(ALICE, 3_600_000);
    world.wake(ALICE);
    assert_eq!(world.take_events(ALICE), []);
    assert!(world.clients[ALICE].redials.is_empty());
}

#[test]
fn a_holder_paused_past_its_deadline_resumes_without_the_lock() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.clients[ALICE].is_paused = true;
    world.run_timers_for(TTL + ms(1));
    let next = world.acquire(BOB);
    world.clients[ALICE].is_paused = false;
    assert!(!world.is_valid(ALICE, lock), "its own clock shows the expiry");
    world.deliver_all();
    assert_eq!(world.take_loss(ALICE), Some(LossReason::Expired));
    world.release(ALICE, lock);
    world.deliver_all();
    assert!((0..3).all(|node| world.has_key_of(node, next)), "its late release deletes nothing");
    assert!(
        !world
            .take_events(ALICE)
            .iter()
            .any(|event| matches!(event, OperationEvent::Lease(LeaseEvent::Renewed(_))))
    );
}

#[test]
fn a_lease_expired_by_its_holder_stays_lost() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    let now = world.now(ALICE);
    world.clients[ALICE].coordinator.expire(lock, now);
    world.clients[ALICE].coordinator.expire(lock, now);
    world.wake(ALICE);
    assert_eq!(world.take_events(ALICE), [OperationEvent::Lease(LeaseEvent::Lost(LossReason::Expired))]);
    assert!(!world.extend(ALICE, lock, TTL));
}
