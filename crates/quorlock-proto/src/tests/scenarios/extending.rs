//! Extensions of a lease by its holder.

use std::time::Duration;

use super::renewing::THIRD_OF_TTL;
use crate::coordinator::{LeaseEvent, OperationEvent};
use crate::quorum::{NodeId, NodeSet};
use crate::request::RequestKind;
use crate::tests::world::{ALICE, TTL, World, ms};
use crate::vote::{ReplyFailure, Vote};

#[test]
fn extend_never_shortens_a_lease() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    let (deadline, key_ttl) = (world.deadline(ALICE, lock), world.remaining_ttl(0));
    assert!(world.extend(ALICE, lock, ms(1_000)));
    world.deliver_all();
    assert_eq!(world.deadline(ALICE, lock), deadline);
    assert_eq!(world.remaining_ttl(0), key_ttl, "the keys are not shortened either");
    assert!(world.take_events(ALICE).contains(&OperationEvent::Lease(LeaseEvent::Renewed(deadline))));
}

#[test]
fn an_extension_counts_from_now_and_later_renewals_keep_it() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    let one_minute = Duration::from_secs(60);
    world.run_timers_for(ms(1_000));
    let deadline = world.now(ALICE).plus(ms(59_398));
    assert!(world.extend(ALICE, lock, one_minute));
    world.deliver_all();
    assert_eq!(world.deadline(ALICE, lock), deadline);
    world.run_timers_for(ms(20_001));
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::Renew], "a third of the last ttl");
    world.deliver_all();
    assert_eq!(world.deadline(ALICE, lock), deadline);
    assert!(world.remaining_ttl(0) > Some(ms(39_000)));
}

#[test]
fn an_extension_without_a_connected_quorum_is_unconfirmed_at_once() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    let deadline = world.deadline(ALICE, lock);
    world.disconnect(ALICE, 0);
    world.disconnect(ALICE, 1);
    world.extend(ALICE, lock, TTL * 2);
    let events = world.take_events(ALICE);
    let [
        OperationEvent::Lease(LeaseEvent::Renewing),
        OperationEvent::Lease(LeaseEvent::RenewalFailed(votes)),
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(votes[2], Vote::Unknown(ReplyFailure::NotWaitedFor));
    assert_eq!(world.undelivered(ALICE, 2), [RequestKind::Renew], "its key is renewed nevertheless");
    world.deliver_all();
    assert_eq!(world.deadline(ALICE, lock), deadline);
}

/// A renewal that falls due must not replace a running extension; otherwise the extension succeeds with the
/// shorter deadline of the renewal.
#[test]
fn a_due_renewal_does_not_replace_an_extension() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.run_timers_for(THIRD_OF_TTL - ms(10));
    let extended = world.now(ALICE).plus(ms(59_398)).boot_nanos();
    world.extend(ALICE, lock, Duration::from_secs(60));
    world.run_timers_for(ms(20));
    // The wall clock is corrected by 5 ms, so every lease is checked.
    world.shift_wall_clock(ALICE, 5);
    world.wake(ALICE);
    world.deliver_all();
    assert_eq!(world.deadline(ALICE, lock).boot_nanos(), extended);
}

/// Two extensions at once, the shorter one last: the longer one must not succeed with the shorter deadline.
#[test]
fn a_shorter_extension_does_not_replace_a_longer_one() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    let extended = world.now(ALICE).plus(ms(59_398)).boot_nanos();
    world.extend(ALICE, lock, Duration::from_secs(60));
    world.extend(ALICE, lock, Duration::from_secs(20));
    world.deliver_all();
    assert_eq!(world.deadline(ALICE, lock).boot_nanos(), extended);
}

#[test]
fn a_shorter_extension_does_not_change_the_confirmed_nodes() {
    let mut world = World::new(3);
    world.disconnect(ALICE, 2);
    let lock = world.acquire(ALICE);
    world.connect(ALICE, 2);
    let mut confirmed = NodeSet::EMPTY;
    for disconnected in [2, 0] {
        // The first extension reacquires the key on node 2 for a short time; the second is confirmed there.
        world.disconnect(ALICE, disconnected);
        world.connect(ALICE, 2);
        assert!(world.extend(ALICE, lock, ms(400)));
        world.deliver_all();
        for event in world.take_events(ALICE) {
            if let OperationEvent::Lease(LeaseEvent::Confirmed(nodes)) = event {
                confirmed = nodes;
            }
        }
    }
    assert!(world.has_key_of(0, lock) && world.remaining_ttl(0) > Some(ms(9_000)));
    assert!(confirmed.contains(NodeId(0)), "the key there lives as long as the lock: {confirmed:?}");
}
