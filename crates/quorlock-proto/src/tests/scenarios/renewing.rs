//! Leases: renewal, renewals without reply, loss and extension.

use std::time::Duration;

use crate::coordinator::{LeaseEvent, OperationEvent};
use crate::lease::LossReason;
use crate::quorum::NodeSet;
use crate::request::RequestKind;
use crate::tests::world::{
    ALICE, AcquireOptions, BOB, LOSS_LEAD_TIME, REPLY_TIMEOUT, TTL, VALIDITY_TIME, World, ms,
};
use crate::vote::{ReplyFailure, Vote};

/// A little more than a third of the ttl: the first renewal has been sent.
pub(super) const THIRD_OF_TTL: Duration = Duration::from_nanos(3_333_333_334);
const OTHER_OWNER: Option<&[u8]> = Some(b"another owner");

fn has_renewed(events: &[OperationEvent]) -> bool {
    events.iter().any(|event| matches!(event, OperationEvent::Lease(LeaseEvent::Renewed(_))))
}

fn hang_all(world: &mut World) {
    world.servers.iter_mut().for_each(|server| server.hangs = true);
}

#[test]
fn a_renewal_counts_its_deadline_from_when_it_was_sent() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.run_timers_for(THIRD_OF_TTL);
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::Renew]);
    let sent = world.now(ALICE);
    world.advance_clock(ms(100));
    world.round_trip(ALICE, 0);
    assert_eq!(world.take_events(ALICE), [OperationEvent::Lease(LeaseEvent::Renewing)]);
    world.round_trip(ALICE, 1);
    let deadline = world.deadline(ALICE, lock);
    assert!(
        deadline.until(sent.plus(VALIDITY_TIME)) <= Duration::from_nanos(1),
        "not from the time of the reply"
    );
    let confirmed = OperationEvent::Lease(LeaseEvent::Confirmed(NodeSet::from_bits(0b011)));
    assert_eq!(world.take_events(ALICE), [confirmed, OperationEvent::Lease(LeaseEvent::Renewed(deadline))]);
    world.round_trip(ALICE, 2);
    assert_eq!(
        world.take_events(ALICE),
        [OperationEvent::Lease(LeaseEvent::Confirmed(NodeSet::from_bits(0b111)))]
    );
}

#[test]
fn renewals_keep_a_lock_valid() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    for _ in 0..400 {
        world.run_timers_for(ms(100));
        world.deliver_all();
        assert!(world.is_valid(ALICE, lock));
    }
    assert_eq!(world.key_count(), 3);
}

#[test]
fn renewals_without_reply_end_in_a_loss_reported_10_ms_before_the_deadline() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    let deadline = world.deadline(ALICE, lock);
    hang_all(&mut world);
    world.run_timers_for(VALIDITY_TIME - LOSS_LEAD_TIME - Duration::from_nanos(1));
    let events = world.take_events(ALICE);
    let unconfirmed = events
        .iter()
        .filter(|event| matches!(event, OperationEvent::Lease(LeaseEvent::RenewalFailed(_))))
        .count();
    assert!(unconfirmed >= 3, "renewed repeatedly: {events:?}");
    assert!(!has_renewed(&events) && world.is_valid(ALICE, lock));
    assert_eq!(world.deadline(ALICE, lock), deadline, "a renewal without reply does not move the deadline");
    world.run_timers_for(Duration::from_nanos(1));
    assert_eq!(
        world.take_loss(ALICE),
        Some(LossReason::Expired),
        "10 ms early, so that the holder can stop in time"
    );
    assert!(!world.now(ALICE).is_past(deadline));
}

#[test]
fn the_loss_of_a_short_lock_is_reported_a_tenth_of_its_ttl_early() {
    let mut world = World::new(1);
    let lock = world.acquire_with(ALICE, AcquireOptions { ttl: ms(20), ..AcquireOptions::default() });
    let reported_at = world.deadline(ALICE, lock).minus(ms(2));
    hang_all(&mut world);
    world.run_timers_for(world.now(ALICE).until(reported_at) - Duration::from_nanos(1));
    assert_eq!(world.take_loss(ALICE), None);
    world.run_timers_for(Duration::from_nanos(1));
    assert_eq!(world.take_loss(ALICE), Some(LossReason::Expired));
}

#[test]
fn a_renewal_after_the_deadline_does_not_count() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.run_timers_for(THIRD_OF_TTL);
    for node in 0..3 {
        world.deliver_request(ALICE, node);
    }
    world.round_trip(ALICE, 0);
    world.take_events(ALICE);
    // The process is paused past its deadline. Its keys are still there, but the replies do not count.
    world.advance_clock(VALIDITY_TIME - THIRD_OF_TTL);
    assert!((0..3).all(|node| world.has_key_of(node, lock)));
    for node in 0..3 {
        world.deliver_reply(ALICE, node);
    }
    assert_eq!(world.take_events(ALICE), [OperationEvent::Lease(LeaseEvent::Lost(LossReason::Expired))]);
    world.run_timers_for(ms(100));
    assert_eq!(world.take_events(ALICE), [], "the loss is final");
}

#[test]
fn a_lost_lock_stays_lost() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    hang_all(&mut world);
    world.run_timers_for(VALIDITY_TIME);
    assert_eq!(world.take_loss(ALICE), Some(LossReason::Expired));
    world.servers.iter_mut().for_each(|server| server.hangs = false);
    world.deliver_all();
    assert!(!world.extend(ALICE, lock, TTL));
    world.run_timers_for(ms(1_000));
    assert_eq!(world.take_events(ALICE), []);
    assert!(!world.is_valid(ALICE, lock));
}

#[test]
fn renewal_replies_after_the_reply_timeout_count_before_the_deadline() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    let before = world.deadline(ALICE, lock);
    hang_all(&mut world);
    world.run_timers_for(THIRD_OF_TTL);
    world.run_timers_for(REPLY_TIMEOUT);
    let events = world.take_events(ALICE);
    let [
        OperationEvent::Lease(LeaseEvent::Renewing),
        OperationEvent::Lease(LeaseEvent::RenewalFailed(votes)),
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(votes[..], vec![Vote::Unknown(ReplyFailure::Timeout); 3], "the reply timeout has passed");
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    assert!(has_renewed(&world.take_events(ALICE)));
    assert!(before.boot_nanos() < world.deadline(ALICE, lock).boot_nanos());
}

#[test]
fn replies_to_an_earlier_round_do_not_count_in_a_later_one() {
    let mut world = World::new(3);
    let lock = world.acquire_with(ALICE, AcquireOptions { ttl: ms(1_000), ..AcquireOptions::default() });
    let deadline = world.deadline(ALICE, lock);
    hang_all(&mut world);
    world.run_timers_for(ms(334));
    for node in 0..3 {
        assert!(world.deliver_request(ALICE, node));
    }
    // The round timeout, ttl/8, and the pause, ttl/10, have passed: the second round has been sent.
    world.run_timers_for(ms(125 + 100));
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::Renew]);
    world.take_events(ALICE);
    for node in 0..3 {
        assert!(world.deliver_reply(ALICE, node));
    }
    assert_eq!(
        world.take_events(ALICE),
        [],
        "the replies would set the deadline of the second round with keys of the first"
    );
    assert_eq!(world.deadline(ALICE, lock), deadline);
    world.servers.iter_mut().for_each(|server| server.hangs = false);
    world.deliver_all();
    assert!(has_renewed(&world.take_events(ALICE)));
}

#[test]
fn a_lock_without_auto_renew_expires() {
    let mut world = World::new(3);
    let lock = world.acquire_with(ALICE, AcquireOptions { auto_renew: false, ..AcquireOptions::default() });
    world.run_timers_for(VALIDITY_TIME - LOSS_LEAD_TIME - ms(1));
    assert!(world.is_nothing_in_flight(ALICE) && world.is_valid(ALICE, lock));
    world.run_timers_for(ms(1));
    assert_eq!(world.take_loss(ALICE), Some(LossReason::Expired));
}

#[test]
fn no_deadline_exceeds_the_max_hold_time() {
    let mut world = World::new(3);
    let max_hold_time = Duration::from_secs(15);
    let end = world.now(ALICE).plus(max_hold_time);
    let lock = world.acquire_with(
        ALICE,
        AcquireOptions { max_hold_time: Some(max_hold_time), ..AcquireOptions::default() },
    );
    world.extend(ALICE, lock, Duration::from_secs(60));
    world.deliver_all();
    assert_eq!(world.deadline(ALICE, lock), end);
    world.take_events(ALICE);
    for _ in 0..15 {
        world.run_timers_for(ms(1_000));
        world.deliver_all();
    }
    assert_eq!(world.take_loss(ALICE), Some(LossReason::Expired));
    assert_eq!(world.deadline(ALICE, lock), end);
}

#[test]
fn a_missing_key_is_reacquired_and_counts_from_the_next_round() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.servers[2].hangs = true;
    world.delete_key(1);
    world.run_timers_for(THIRD_OF_TTL);
    world.deliver_all();
    assert!(world.has_key_of(1, lock), "the key is reacquired");
    assert!(!has_renewed(&world.take_events(ALICE)), "q nodes must have had the key without interruption");
    world.servers[2].hangs = false;
    world.disconnect(ALICE, 2);
    let unconfirmed = world.take_events(ALICE);
    assert!(
        matches!(unconfirmed[..], [OperationEvent::Lease(LeaseEvent::RenewalFailed(_))]),
        "{unconfirmed:?}"
    );
    world.run_timers_for(TTL / 10);
    world.deliver_all();
    assert!(has_renewed(&world.take_events(ALICE)), "the two nodes that have the key now are a quorum");
}

#[test]
fn a_reacquired_key_is_released_like_the_others() {
    let mut world = World::new(3);
    world.servers[2].canned_replies.push_back(Vote::Unknown(ReplyFailure::TransientError("LOADING".into())));
    let lock = world.acquire(ALICE);
    assert!(!world.has_key_of(2, lock));
    world.run_timers_for(THIRD_OF_TTL);
    world.deliver_all();
    assert!(world.has_key_of(2, lock), "a node that rejected the SET joins at the first renewal");
    world.release(ALICE, lock);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_release_right_behind_a_reacquire_leaves_nothing() {
    let mut world = World::new(3);
    world.servers[1].canned_replies.push_back(Vote::Unknown(ReplyFailure::TransientError("LOADING".into())));
    let lock = world.acquire(ALICE);
    world.run_timers_for(THIRD_OF_TTL);
    world.round_trip(ALICE, 1);
    assert_eq!(world.undelivered(ALICE, 1), [RequestKind::Reacquire]);
    world.release(ALICE, lock);
    assert_eq!(world.undelivered(ALICE, 1), [RequestKind::Reacquire, RequestKind::ReleaseAndNotify]);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_majority_taken_by_others_is_a_loss_and_own_keys_stay_until_the_release() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.set_foreign_key(0, OTHER_OWNER, Some(TTL));
    world.set_foreign_key(1, OTHER_OWNER, Some(TTL));
    world.run_timers_for(THIRD_OF_TTL);
    world.round_trip(ALICE, 0);
    assert_eq!(world.take_loss(ALICE), None);
    world.round_trip(ALICE, 1);
    assert_eq!(
        world.take_loss(ALICE),
        Some(LossReason::TakenByOthers),
        "reported at once, long before the deadline"
    );
    world.deliver_all();
    assert!(world.has_key_of(2, lock), "a renewal deletes nothing");
    world.release(ALICE, lock);
    world.deliver_all();
    assert_eq!(world.key_count(), 2, "the keys of the other owner stay");
}

#[test]
fn a_minority_taken_by_others_is_no_loss() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.set_foreign_key(0, OTHER_OWNER, Some(TTL));
    world.run_timers_for(THIRD_OF_TTL);
    world.deliver_all();
    assert!(has_renewed(&world.take_events(ALICE)) && world.is_valid(ALICE, lock));
}

#[test]
fn a_renewal_is_sent_again_as_text_if_the_script_is_not_loaded() {
    let mut world = World::new(3);
    world.acquire(ALICE);
    (0..3).for_each(|node| world.flush_scripts(node));
    world.run_timers_for(THIRD_OF_TTL);
    for node in 0..3 {
        world.round_trip(ALICE, node);
    }
    assert!((0..3).all(|node| {
        world.undelivered_commands(ALICE, node).all(|it| it.request.kind == RequestKind::Renew && it.as_text)
    }));
    world.deliver_all();
    assert!(has_renewed(&world.take_events(ALICE)));
}

#[test]
fn a_renewal_is_never_sent_again_as_text_behind_its_release() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.flush_scripts(0);
    world.run_timers_for(THIRD_OF_TTL);
    world.deliver_request(ALICE, 0);
    world.release(ALICE, lock);
    world.deliver_reply(ALICE, 0);
    assert_eq!(
        world.undelivered(ALICE, 0),
        [RequestKind::ReleaseAndNotify],
        "behind its release it would bring the key back"
    );
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_lock_of_a_dead_holder_can_be_acquired_after_its_ttl() {
    let mut world = World::new(3);
    world.acquire(ALICE);
    world.clients[ALICE].is_paused = true;
    world.start_acquire(BOB);
    world.deliver_all();
    assert!(world.take_failure(BOB).is_some());
    world.run_timers_for(TTL);
    world.acquire(BOB);
    assert_eq!(world.overlap, None);
}
