//! A lease: renewed, unknown, lost, extended.
//!
//! It is past 400 lines because all scenarios of one subject share its worlds and helpers.

use std::time::Duration;

use crate::coordinator::OperationEvent;
use crate::lease::LossReason;
use crate::quorum::{NodeId, NodeSet};
use crate::request::RequestKind;
use crate::tests::world::{ALICE, BOB, LEAD, REPLY_TIMEOUT, TRUSTED, TTL, Wish, World, ms};
use crate::vote::{ReplyFailure, Vote};

/// A little more than a third of the ttl: the first renewal is on the wires.
const THIRD: Duration = Duration::from_nanos(3_333_333_334);
const OTHER: Option<&[u8]> = Some(b"another owner");

fn has_renewed(event: &[OperationEvent]) -> bool {
    event.iter().any(|event| matches!(event, OperationEvent::Renewed(_)))
}

fn hang_all(world: &mut World) {
    world.servers.iter_mut().for_each(|server| server.hangs = true);
}

#[test]
fn a_renewal_answered_in_time_moves_the_deadline_from_when_it_was_sent() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    world.sleep(THIRD);
    assert_eq!(world.wire(ALICE, 0), [RequestKind::Renew]);
    let sent = world.now(ALICE);
    world.pass(ms(100));
    world.step(ALICE, 0);
    assert_eq!(world.event(ALICE), [OperationEvent::Renewing]);
    world.step(ALICE, 1);
    let deadline = world.deadline(ALICE, lock);
    assert!(deadline.until(sent.plus(TRUSTED)) <= Duration::from_nanos(1), "not from when it was answered");
    let confirmed = OperationEvent::Confirmed(NodeSet::from_bits(0b011));
    assert_eq!(world.event(ALICE), [confirmed, OperationEvent::Renewed(deadline)]);
    world.step(ALICE, 2);
    assert_eq!(world.event(ALICE), [OperationEvent::Confirmed(NodeSet::from_bits(0b111))]);
}

#[test]
fn a_living_holder_keeps_the_lock_through_many_renewals() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    for _ in 0..400 {
        world.sleep(ms(100));
        world.drive();
        assert!(world.is_valid(ALICE, lock));
    }
    assert_eq!(world.keys(), 3);
}

#[test]
fn unknown_renewals_end_in_a_loss_told_just_before_the_deadline() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    let deadline = world.deadline(ALICE, lock);
    hang_all(&mut world);
    world.sleep(TRUSTED - LEAD - Duration::from_nanos(1));
    let event = world.event(ALICE);
    let unconfirmed = event.iter().filter(|event| matches!(event, OperationEvent::RenewalFailed(_))).count();
    assert!(unconfirmed >= 3, "asked again and again: {event:?}");
    assert!(!has_renewed(&event) && world.is_valid(ALICE, lock));
    assert_eq!(world.deadline(ALICE, lock), deadline, "unknown moves nothing");
    world.sleep(Duration::from_nanos(1));
    assert_eq!(world.loss(ALICE), Some(LossReason::Expired), "10 ms early, for the holder to stop in time");
    assert!(!world.now(ALICE).is_past(deadline));
}

#[test]
fn a_short_lock_tells_its_loss_a_tenth_of_its_ttl_early() {
    let mut world = World::new(1);
    let lock = world.hold_as(ALICE, Wish { ttl: ms(20), ..Wish::default() });
    let told_at = world.deadline(ALICE, lock).minus(ms(2));
    hang_all(&mut world);
    world.sleep(world.now(ALICE).until(told_at) - Duration::from_nanos(1));
    assert_eq!(world.loss(ALICE), None);
    world.sleep(Duration::from_nanos(1));
    assert_eq!(world.loss(ALICE), Some(LossReason::Expired));
}

#[test]
fn a_renewal_that_completes_after_the_old_deadline_does_not_count() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    world.sleep(THIRD);
    for node in 0..3 {
        world.deliver(ALICE, node);
    }
    world.step(ALICE, 0);
    world.event(ALICE);
    // The process is stopped past its deadline. Every key still says "yours", and it counts for nothing.
    world.pass(TRUSTED - THIRD);
    assert!((0..3).all(|node| world.has(node, lock)));
    for node in 0..3 {
        world.answer(ALICE, node);
    }
    assert_eq!(world.event(ALICE), [OperationEvent::Lost(LossReason::Expired)]);
    world.sleep(ms(100));
    assert_eq!(world.event(ALICE), [], "lost once and for all");
}

#[test]
fn nothing_brings_a_lost_lock_back() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    hang_all(&mut world);
    world.sleep(TRUSTED);
    assert_eq!(world.loss(ALICE), Some(LossReason::Expired));
    world.servers.iter_mut().for_each(|server| server.hangs = false);
    world.drive();
    assert!(!world.extend(ALICE, lock, TTL));
    world.sleep(ms(1_000));
    assert_eq!(world.event(ALICE), []);
    assert!(!world.is_valid(ALICE, lock));
}

#[test]
fn a_late_quorum_still_renews_before_the_deadline() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    let before = world.deadline(ALICE, lock);
    hang_all(&mut world);
    world.sleep(THIRD);
    world.sleep(REPLY_TIMEOUT);
    let event = world.event(ALICE);
    let [OperationEvent::Renewing, OperationEvent::RenewalFailed(votes)] = &event[..] else {
        panic!("{event:?}")
    };
    assert_eq!(votes[..], vec![Vote::Unknown(ReplyFailure::Timeout); 3], "the time was over");
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    assert!(has_renewed(&world.event(ALICE)));
    assert!(before.boot_nanos() < world.deadline(ALICE, lock).boot_nanos());
}

#[test]
fn answers_to_an_earlier_round_do_not_count_in_a_later_one() {
    let mut world = World::new(3);
    let lock = world.hold_as(ALICE, Wish { ttl: ms(1_000), ..Wish::default() });
    let deadline = world.deadline(ALICE, lock);
    hang_all(&mut world);
    world.sleep(ms(334));
    for node in 0..3 {
        assert!(world.deliver(ALICE, node));
    }
    // The patience of an eighth is over, the pause of a tenth too: the second round is on the wires.
    world.sleep(ms(125 + 100));
    assert_eq!(world.wire(ALICE, 0), [RequestKind::Renew]);
    world.event(ALICE);
    for node in 0..3 {
        assert!(world.answer(ALICE, node));
    }
    assert_eq!(
        world.event(ALICE),
        [],
        "the keys live from the first round, the deadline would be of the second"
    );
    assert_eq!(world.deadline(ALICE, lock), deadline);
    world.servers.iter_mut().for_each(|server| server.hangs = false);
    world.drive();
    assert!(has_renewed(&world.event(ALICE)));
}

#[test]
fn extend_never_shortens() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    let (deadline, life) = (world.deadline(ALICE, lock), world.life(0));
    assert!(world.extend(ALICE, lock, ms(1_000)));
    world.drive();
    assert_eq!(world.deadline(ALICE, lock), deadline);
    assert_eq!(world.life(0), life, "nor do the keys");
    assert!(world.event(ALICE).contains(&OperationEvent::Renewed(deadline)));
}

#[test]
fn extend_lengthens_from_now_and_later_renewals_do_not_take_it_back() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    let minute = Duration::from_secs(60);
    world.sleep(ms(1_000));
    let deadline = world.now(ALICE).plus(ms(59_398));
    assert!(world.extend(ALICE, lock, minute));
    world.drive();
    assert_eq!(world.deadline(ALICE, lock), deadline);
    world.sleep(ms(20_001));
    assert_eq!(world.wire(ALICE, 0), [RequestKind::Renew], "a third of what was asked for last");
    world.drive();
    assert_eq!(world.deadline(ALICE, lock), deadline);
    assert!(world.life(0) > Some(ms(39_000)));
}

#[test]
fn a_hopeless_extension_is_unconfirmed_at_once_and_changes_nothing() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    let deadline = world.deadline(ALICE, lock);
    world.cut(ALICE, 0);
    world.cut(ALICE, 1);
    world.extend(ALICE, lock, TTL * 2);
    let event = world.event(ALICE);
    let [OperationEvent::Renewing, OperationEvent::RenewalFailed(votes)] = &event[..] else {
        panic!("{event:?}")
    };
    assert_eq!(votes[2], Vote::Unknown(ReplyFailure::NotWaitedFor));
    assert_eq!(world.wire(ALICE, 2), [RequestKind::Renew], "its key lives on all the same");
    world.drive();
    assert_eq!(world.deadline(ALICE, lock), deadline);
}

#[test]
fn a_lock_that_does_not_renew_itself_ends_by_itself() {
    let mut world = World::new(3);
    let lock = world.hold_as(ALICE, Wish { auto_renew: false, ..Wish::default() });
    world.sleep(TRUSTED - LEAD - ms(1));
    assert!(world.is_nothing_sent(ALICE) && world.is_valid(ALICE, lock));
    world.sleep(ms(1));
    assert_eq!(world.loss(ALICE), Some(LossReason::Expired));
}

#[test]
fn no_deadline_goes_past_max_hold() {
    let mut world = World::new(3);
    let longest = Duration::from_secs(15);
    let end = world.now(ALICE).plus(longest);
    let lock = world.hold_as(ALICE, Wish { max_hold: Some(longest), ..Wish::default() });
    world.extend(ALICE, lock, Duration::from_secs(60));
    world.drive();
    assert_eq!(world.deadline(ALICE, lock), end);
    world.event(ALICE);
    for _ in 0..15 {
        world.sleep(ms(1_000));
        world.drive();
    }
    assert_eq!(world.loss(ALICE), Some(LossReason::Expired));
    assert_eq!(world.deadline(ALICE, lock), end);
}

#[test]
fn a_missing_key_is_taken_again_and_counts_from_the_next_round_on() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    world.servers[2].hangs = true;
    world.wipe(1);
    world.sleep(THIRD);
    world.drive();
    assert!(world.has(1, lock), "taken again");
    assert!(!has_renewed(&world.event(ALICE)), "but q nodes must have had it all the time");
    world.servers[2].hangs = false;
    world.cut(ALICE, 2);
    let unconfirmed = world.event(ALICE);
    assert!(matches!(unconfirmed[..], [OperationEvent::RenewalFailed(_)]), "{unconfirmed:?}");
    world.sleep(TTL / 10);
    world.drive();
    assert!(has_renewed(&world.event(ALICE)), "the two that have it now make a quorum");
}

#[test]
fn a_retaken_node_is_released_like_the_others() {
    let mut world = World::new(3);
    world.servers[2].excuses.push_back(Vote::Unknown(ReplyFailure::TransientError("LOADING".into())));
    let lock = world.hold(ALICE);
    assert!(!world.has(2, lock));
    world.sleep(THIRD);
    world.drive();
    assert!(world.has(2, lock), "a node that refused the SET joins at the first renewal");
    world.release(ALICE, lock);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_release_right_behind_a_retake_leaves_nothing() {
    let mut world = World::new(3);
    world.servers[1].excuses.push_back(Vote::Unknown(ReplyFailure::TransientError("LOADING".into())));
    let lock = world.hold(ALICE);
    world.sleep(THIRD);
    world.step(ALICE, 1);
    assert_eq!(world.wire(ALICE, 1), [RequestKind::Reacquire]);
    world.release(ALICE, lock);
    assert_eq!(world.wire(ALICE, 1), [RequestKind::Reacquire, RequestKind::ReleaseAndNotify]);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

#[test]
fn a_majority_taken_by_others_is_a_loss_and_our_own_keys_stand_until_the_release() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    world.plant(0, OTHER, Some(TTL));
    world.plant(1, OTHER, Some(TTL));
    world.sleep(THIRD);
    world.step(ALICE, 0);
    assert_eq!(world.loss(ALICE), None);
    world.step(ALICE, 1);
    assert_eq!(
        world.loss(ALICE),
        Some(LossReason::TakenByOthers),
        "reported at once, long before the deadline"
    );
    world.drive();
    assert!(world.has(2, lock), "a renewal deletes nothing");
    world.release(ALICE, lock);
    world.drive();
    assert_eq!(world.keys(), 2, "the others' keys are theirs");
}

#[test]
fn a_minority_taken_by_others_is_survived() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    world.plant(0, OTHER, Some(TTL));
    world.sleep(THIRD);
    world.drive();
    assert!(has_renewed(&world.event(ALICE)) && world.is_valid(ALICE, lock));
}

#[test]
fn a_renewal_goes_out_as_text_where_the_script_is_not_known() {
    let mut world = World::new(3);
    world.hold(ALICE);
    (0..3).for_each(|node| world.flush_scripts(node));
    world.sleep(THIRD);
    for node in 0..3 {
        world.step(ALICE, node);
    }
    assert!((0..3).all(|node| {
        world.commands(ALICE, node).all(|it| it.request.kind == RequestKind::Renew && it.as_text)
    }));
    world.drive();
    assert!(has_renewed(&world.event(ALICE)));
}

#[test]
fn a_renewal_does_not_go_out_as_text_behind_its_release() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    world.flush_scripts(0);
    world.sleep(THIRD);
    world.deliver(ALICE, 0);
    world.release(ALICE, lock);
    world.answer(ALICE, 0);
    assert_eq!(
        world.wire(ALICE, 0),
        [RequestKind::ReleaseAndNotify],
        "behind an undo it would bring back what was undone"
    );
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
}

/// An extension under way must not be pushed aside by a background renewal that falls due meanwhile: the caller that waits
/// for it would get a success with the shorter deadline of the renewal.
#[test]
fn a_renewal_that_falls_due_does_not_push_an_extension_aside() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    world.sleep(THIRD - ms(10));
    let extended = world.now(ALICE).plus(ms(59_398)).boot_nanos();
    world.extend(ALICE, lock, Duration::from_secs(60));
    world.sleep(ms(20));
    // The wall clock is corrected by a little, so every lease is checked.
    world.set_wall(ALICE, 5);
    world.wake(ALICE);
    world.drive();
    assert_eq!(world.deadline(ALICE, lock).boot_nanos(), extended);
}

/// Two extensions at once, the shorter last: the longer one was asked for and must not come back as done with less.
#[test]
fn a_shorter_extension_does_not_push_a_longer_one_aside() {
    let mut world = World::new(3);
    let lock = world.hold(ALICE);
    let extended = world.now(ALICE).plus(ms(59_398)).boot_nanos();
    world.extend(ALICE, lock, Duration::from_secs(60));
    world.extend(ALICE, lock, Duration::from_secs(20));
    world.drive();
    assert_eq!(world.deadline(ALICE, lock).boot_nanos(), extended);
}

#[test]
fn the_next_holder_gets_it_when_a_holder_dies() {
    let mut world = World::new(3);
    world.hold(ALICE);
    world.clients[ALICE].is_paused = true;
    world.acquire(BOB);
    world.drive();
    assert!(world.refusal(BOB).is_some());
    world.sleep(TTL);
    world.hold(BOB);
    assert_eq!(world.overlap, None);
}

#[test]
fn a_shorter_extension_does_not_change_what_the_lock_stands_on() {
    let mut world = World::new(3);
    world.cut(ALICE, 2);
    let lock = world.hold(ALICE);
    world.connect(ALICE, 2);
    let mut stands_on = NodeSet::EMPTY;
    for away in [2, 0] {
        // The first takes the key again on the third node, for a short time; the second is confirmed there.
        world.cut(ALICE, away);
        world.connect(ALICE, 2);
        assert!(world.extend(ALICE, lock, ms(400)));
        world.drive();
        for event in world.event(ALICE) {
            if let OperationEvent::Confirmed(nodes) = event {
                stands_on = nodes;
            }
        }
    }
    assert!(world.has(0, lock) && world.life(0) > Some(ms(9_000)));
    assert!(stands_on.contains(NodeId(0)), "the key there lives as long as the lock: {stands_on:?}");
}
