//! Attempts to acquire a lock: success, failure and cancellation.

use crate::attempt::FailureReason;
use crate::coordinator::{AttemptEvent, LeaseEvent, OperationEvent};
use crate::quorum::{NodeId, NodeSet};
use crate::request::RequestKind;
use crate::tests::world::{ALICE, AcquireOptions, BOB, REPLY_TIMEOUT, TTL, VALIDITY_TIME, World, ms};
use crate::vote::{ExclusionReason, ReplyFailure, Vote};

const OTHER_OWNER: Option<&[u8]> = Some(b"another owner");
const WANT_HOLDER_TTL: AcquireOptions = AcquireOptions {
    ttl: TTL,
    want_holder_ttl: true,
    auto_renew: true,
    min_fencing_number: 0,
    max_hold_time: None,
};

#[test]
fn the_validity_of_a_won_lock_counts_from_before_the_first_request() {
    let mut world = World::new(5);
    let start = world.now(ALICE);
    let lock = world.start_acquire(ALICE);
    world.advance_clock(ms(20));
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 4);
    assert_eq!(world.take_events(ALICE), [], "two of five nodes are no quorum");
    world.round_trip(ALICE, 2);
    let (deadline, confirmed) = (start.plus(VALIDITY_TIME), NodeSet::from_bits(0b10101));
    assert_eq!(
        world.take_events(ALICE),
        [OperationEvent::Attempt(AttemptEvent::Won { deadline, confirmed, fencing_number: None, rounds: 1 })]
    );
    assert!(world.is_valid(ALICE, lock));
}

#[test]
fn two_concurrent_attempts_never_both_win() {
    let mut world = World::new(3);
    let alice = world.start_acquire(ALICE);
    let bob = world.start_acquire(BOB);
    world.round_trip(ALICE, 0);
    world.round_trip(BOB, 1);
    world.round_trip(BOB, 2);
    world.deliver_all();
    assert!(world.is_valid(BOB, bob) && !world.is_valid(ALICE, alice));
    assert!(world.servers.len() == 3 && (0..3).all(|node| !world.has_key_of(node, alice)));
    assert_eq!(world.overlap, None);
}

#[test]
fn a_tie_fails_both_attempts_at_once_and_releases_their_keys() {
    let mut world = World::new(4);
    world.start_acquire(ALICE);
    world.start_acquire(BOB);
    for node in 0..2 {
        world.round_trip(ALICE, node);
        world.round_trip(BOB, node + 2);
    }
    for node in 0..2 {
        world.round_trip(BOB, node);
        world.round_trip(ALICE, node + 2);
    }
    for client in [ALICE, BOB] {
        let failure = world.take_failure(client).expect("two denials of four decide the attempt");
        assert_eq!(failure.reason, FailureReason::Contended { retry_after: None });
    }
    world.deliver_all();
    assert_eq!(world.key_count(), 0);
}

/// With an even number of nodes, or a quorum above the majority, fewer than q denials decide the attempt.
#[test]
fn an_unreachable_quorum_is_contention_before_q_nodes_have_replied() {
    for (nodes, quorum_size) in [(2, None), (4, None), (6, None), (5, Some(4)), (5, Some(5)), (3, Some(3))] {
        let mut world = World::with_quorum(nodes, quorum_size, 2);
        world.acquire(ALICE);
        world.start_acquire(BOB);
        let denials_needed = nodes - world.quorum().needed() + 1;
        (0..denials_needed).for_each(|node| assert!(world.round_trip(BOB, node)));
        let failure = world.take_failure(BOB).expect("the quorum is out of reach");
        assert!(
            matches!(failure.reason, FailureReason::Contended { .. }),
            "{nodes} nodes, {quorum_size:?}: {:?}",
            failure.reason
        );
    }
}

#[test]
fn split_votes_count_as_contention() {
    let mut world = World::with_quorum(3, None, 3);
    for client in 0..3 {
        world.start_acquire(client);
        world.round_trip(client, client);
    }
    world.deliver_all();
    for client in 0..3 {
        let failure = world.take_failure(client).expect("no client has two grants");
        assert_eq!(failure.reason, FailureReason::Contended { retry_after: None });
    }
    assert_eq!(world.key_count(), 0);
}

#[test]
fn a_late_grant_joins_the_lease() {
    let mut world = World::new(3);
    world.servers[2].hangs = true;
    let lock = world.acquire(ALICE);
    world.servers[2].hangs = false;
    world.deliver_all();
    assert_eq!(
        world.take_events(ALICE),
        [OperationEvent::Lease(LeaseEvent::Confirmed(NodeSet::from_bits(0b111)))]
    );
    assert!(world.has_key_of(2, lock), "late requests continue until all nodes hold the key");
}

#[test]
fn a_grant_after_the_attempt_timeout_is_released() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.run_timers_for(REPLY_TIMEOUT);
    let failure = world.take_failure(ALICE).expect("the attempt timed out");
    assert_eq!(failure.reason, FailureReason::NoQuorum);
    assert_eq!(failure.votes[1], Vote::Unknown(ReplyFailure::Timeout));
    assert_eq!(
        world.undelivered(ALICE, 1),
        [RequestKind::Acquire, RequestKind::Release],
        "the release is sent right after its own SET"
    );
    world.round_trip(ALICE, 1);
    assert!(world.has_key_of(1, lock));
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
    assert_eq!(world.take_events(ALICE), [], "a late grant causes no event");
}

#[test]
fn a_node_whose_reply_is_not_needed_is_not_reported_as_timed_out() {
    // Two nodes deny, so the third decides nothing. If two are disconnected, the third is sent no request.
    for disconnects in [false, true] {
        let mut world = World::new(3);
        world.servers[2].hangs = true;
        for node in 0..2 {
            if disconnects {
                world.disconnect(ALICE, node);
            } else {
                world.set_foreign_key(node, Some(b"another owner"), Some(TTL));
            }
        }
        world.start_acquire(ALICE);
        for node in 0..2 {
            world.round_trip(ALICE, node);
        }
        let failure = world.take_failure(ALICE).expect("two nodes decide");
        assert_eq!(failure.votes[2].to_string(), "not waited for: the others had decided");
    }
}

#[test]
fn grants_that_arrive_past_the_deadline_fail_and_are_released() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    for node in 0..3 {
        world.deliver_request(ALICE, node);
    }
    world.advance_clock(VALIDITY_TIME);
    world.deliver_reply(ALICE, 0);
    world.deliver_reply(ALICE, 1);
    assert_eq!(world.take_failure(ALICE).map(|failure| failure.reason), Some(FailureReason::TooLate));
    assert!(!world.is_valid(ALICE, lock));
    world.deliver_all();
    assert_eq!(world.key_count(), 0, "the grants are released");
}

#[test]
fn an_attempt_cancelled_before_any_reply_leaves_nothing() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    world.cancel(ALICE, lock);
    assert!(
        (0..3).all(|node| world.undelivered(ALICE, node) == [RequestKind::Acquire, RequestKind::Release])
    );
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
    assert_eq!(world.take_events(ALICE), [], "no caller is left to notify");
    assert!(!world.clients[ALICE].coordinator.is_busy());
}

#[test]
fn a_cancelled_attempt_sends_no_release_to_a_node_that_denied_it() {
    let mut world = World::new(5);
    world.set_foreign_key(1, OTHER_OWNER, Some(TTL));
    let lock = world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    world.cancel(ALICE, lock);
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::Release]);
    assert_eq!(world.undelivered(ALICE, 1), []);
    assert_eq!(world.undelivered(ALICE, 2), [RequestKind::Acquire, RequestKind::Release]);
    world.deliver_all();
    assert_eq!(world.key_count(), 1, "the key of the other owner stays");
    assert_eq!(world.take_events(ALICE), []);
}

#[test]
fn an_attempt_cancelled_just_after_it_won_leaves_nothing() {
    let mut world = World::new(3);
    let lock = world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    assert!(world.is_valid(ALICE, lock));
    world.cancel(ALICE, lock);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
    assert!(!world.clients[ALICE].coordinator.is_busy());
}

#[test]
fn cancelling_a_contended_attempt_twice_changes_nothing() {
    let mut world = World::new(3);
    world.acquire(ALICE);
    let lock = world.start_acquire_with(BOB, WANT_HOLDER_TTL);
    world.round_trip(BOB, 0);
    world.round_trip(BOB, 1);
    world.cancel(BOB, lock);
    world.cancel(BOB, lock);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(BOB)), (3, 0));
    assert!(world.take_failure(BOB).is_none());
}

#[test]
fn without_a_connected_quorum_an_attempt_fails_at_once_and_sends_nothing() {
    let mut world = World::new(3);
    world.disconnect(ALICE, 0);
    world.disconnect(ALICE, 1);
    world.start_acquire(ALICE);
    let failure = world.take_failure(ALICE).expect("it fails at once");
    assert_eq!(failure.reason, FailureReason::NoQuorum);
    assert_eq!(failure.votes[0], Vote::Unknown(ReplyFailure::Disconnected("cut".into())));
    assert!(world.is_nothing_in_flight(ALICE));
    assert_eq!(world.pending_releases(ALICE), 0, "a request that was not sent needs no release");
}

#[test]
fn an_excluded_majority_is_reported() {
    let mut world = World::new(3);
    world.exclude(ALICE, 0, ExclusionReason::Replica);
    world.exclude(ALICE, 2, ExclusionReason::AuthFailed("WRONGPASS".into()));
    world.start_acquire(ALICE);
    let failure = world.take_failure(ALICE).expect("it fails at once");
    assert_eq!(failure.reason, FailureReason::NodesExcluded);
    assert_eq!(failure.votes[0], Vote::Excluded(ExclusionReason::Replica));
    assert!(world.is_nothing_in_flight(ALICE));
}

#[test]
fn an_error_reply_is_no_vote_and_needs_no_release() {
    let mut world = World::new(3);
    for node in 0..2 {
        world.servers[node]
            .canned_replies
            .push_back(Vote::Unknown(ReplyFailure::TransientError("OOM".into())));
    }
    world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    assert_eq!(world.take_failure(ALICE).map(|failure| failure.reason), Some(FailureReason::NoQuorum));
    assert_eq!((world.undelivered(ALICE, 0), world.undelivered(ALICE, 1)), (vec![], vec![]));
    assert_eq!(world.undelivered(ALICE, 2), [RequestKind::Acquire, RequestKind::Release]);
}

#[test]
fn an_unexpected_reply_is_no_grant_and_is_released() {
    let mut world = World::new(3);
    for node in 0..2 {
        world.servers[node].canned_replies.push_back(Vote::Unknown(ReplyFailure::UnexpectedReply));
    }
    world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    assert_eq!(world.take_failure(ALICE).map(|failure| failure.reason), Some(FailureReason::NoQuorum));
    assert_eq!(world.undelivered(ALICE, 0), [RequestKind::Release], "the SET may have been applied");
}

#[test]
fn the_holder_ttl_is_queried_only_on_request_and_is_the_qth_smallest() {
    for want_holder_ttl in [true, false] {
        let mut world = World::new(5);
        for (node, ttl) in [(0, 900), (1, 300), (2, 700), (3, 500)] {
            world.set_foreign_key(node, OTHER_OWNER, Some(ms(ttl)));
        }
        world.servers[4].hangs = true;
        world.start_acquire_with(BOB, AcquireOptions { want_holder_ttl, ..AcquireOptions::default() });
        for node in 0..3 {
            world.round_trip(BOB, node);
        }
        let query_count =
            (0..3).filter(|node| world.undelivered(BOB, *node) == [RequestKind::QueryTtl]).count();
        assert_eq!(query_count, if want_holder_ttl { 3 } else { 0 });
        world.deliver_all();
        let reason = world.take_failure(BOB).expect("three of five nodes have another owner").reason;
        let retry_after = want_holder_ttl.then_some(ms(900));
        assert_eq!(
            reason,
            FailureReason::Contended { retry_after },
            "0.3, 0.7 and 0.9 s were reported: three nodes are free after the third"
        );
    }
}

#[test]
fn a_disconnected_node_is_not_queried_for_the_holder_ttl() {
    let mut world = World::new(3);
    world.acquire(ALICE);
    world.start_acquire_with(BOB, WANT_HOLDER_TTL);
    world.round_trip(BOB, 0);
    world.disconnect(BOB, 0);
    world.round_trip(BOB, 1);
    world.round_trip(BOB, 1);
    let votes = world.take_failure(BOB).expect("a disconnected node is not waited for").votes;
    assert_eq!(
        votes[..2],
        [Vote::HeldByOther { remaining: None }, Vote::HeldByOther { remaining: Some(TTL) }]
    );
    world.connect(BOB, 0);
    assert_eq!(
        world.clients[BOB].coordinator.next_reply_kind(NodeId(0)),
        None,
        "replies must match their requests"
    );
}

#[test]
fn a_node_that_granted_counts_as_free_at_once_for_the_retry() {
    let mut world = World::new(3);
    world.set_foreign_key(1, OTHER_OWNER, Some(ms(400)));
    world.set_foreign_key(2, OTHER_OWNER, Some(ms(800)));
    world.start_acquire_with(BOB, WANT_HOLDER_TTL);
    world.deliver_all();
    let reason = world.take_failure(BOB).expect("two of three nodes have another owner").reason;
    assert_eq!(reason, FailureReason::Contended { retry_after: Some(ms(400)) });
}

#[test]
fn the_ttl_query_ends_with_the_attempt_timeout() {
    let mut world = World::new(3);
    world.acquire(ALICE);
    world.start_acquire_with(BOB, WANT_HOLDER_TTL);
    world.round_trip(BOB, 0);
    world.round_trip(BOB, 1);
    assert!(world.take_failure(BOB).is_none(), "the TTL query is in flight");
    world.round_trip(BOB, 0);
    world.run_timers_for(REPLY_TIMEOUT);
    let failure = world.take_failure(BOB).expect("reported without a remaining time");
    assert_eq!(failure.reason, FailureReason::Contended { retry_after: None });
}

#[test]
fn a_key_without_expiry_and_a_key_of_another_type_are_held() {
    let mut world = World::new(3);
    world.set_foreign_key(0, None, None);
    world.set_foreign_key(1, OTHER_OWNER, None);
    world.start_acquire_with(BOB, WANT_HOLDER_TTL);
    world.deliver_all();
    let failure = world.take_failure(BOB).expect("both keys count as held");
    assert_eq!(failure.reason, FailureReason::Contended { retry_after: None });
    assert_eq!(
        failure.votes[..2],
        [Vote::HeldByOther { remaining: None }, Vote::HeldByOther { remaining: None }]
    );
    assert_eq!(world.key_count(), 2);
}
