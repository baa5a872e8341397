//! An attempt: how it wins, fails, and is given up.

use crate::attempt::FailureReason;
use crate::coordinator::OperationEvent;
use crate::quorum::{NodeId, NodeSet};
use crate::request::RequestKind;
use crate::tests::world::{ALICE, BOB, REPLY_TIMEOUT, TRUSTED, TTL, Wish, World, ms};
use crate::vote::{ExclusionReason, ReplyFailure, Vote};

const OTHER: Option<&[u8]> = Some(b"another owner");
const CURIOUS: Wish = Wish { ttl: TTL, curious: true, auto_renew: true, floor: 0, max_hold: None };

#[test]
fn a_quorum_of_grants_is_a_lock_and_its_time_runs_from_before_the_first_byte() {
    let mut world = World::new(5);
    let start = world.now(ALICE);
    let lock = world.acquire(ALICE);
    world.pass(ms(20));
    world.step(ALICE, 0);
    world.step(ALICE, 4);
    assert_eq!(world.event(ALICE), [], "two of five are no lock");
    world.step(ALICE, 2);
    let (deadline, confirmed) = (start.plus(TRUSTED), NodeSet::from_bits(0b10101));
    assert_eq!(
        world.event(ALICE),
        [OperationEvent::Won { deadline, confirmed, fencing_number: None, rounds: 1 }]
    );
    assert!(world.is_valid(ALICE, lock));
}

#[test]
fn two_at_once_never_both_win() {
    let mut world = World::new(3);
    let alice = world.acquire(ALICE);
    let bob = world.acquire(BOB);
    world.step(ALICE, 0);
    world.step(BOB, 1);
    world.step(BOB, 2);
    world.drive();
    assert!(world.is_valid(BOB, bob) && !world.is_valid(ALICE, alice));
    assert!(world.servers.len() == 3 && (0..3).all(|node| !world.has(node, alice)));
    assert_eq!(world.overlap, None);
}

#[test]
fn a_tie_of_votes_ends_at_once_and_both_sides_give_back() {
    let mut world = World::new(4);
    world.acquire(ALICE);
    world.acquire(BOB);
    for node in 0..2 {
        world.step(ALICE, node);
        world.step(BOB, node + 2);
    }
    for node in 0..2 {
        world.step(BOB, node);
        world.step(ALICE, node + 2);
    }
    for who in [ALICE, BOB] {
        let refusal = world.refusal(who).expect("two refusals of four settle it without waiting");
        assert_eq!(refusal.reason, FailureReason::Contended { retry_after: None });
    }
    world.drive();
    assert_eq!(world.keys(), 0);
}

/// With an even number of nodes, or more than a majority, refusals settle the attempt before q nodes have answered.
#[test]
fn refusals_that_settle_it_are_contention_however_few_have_answered() {
    for (nodes, need) in [(2, None), (4, None), (6, None), (5, Some(4)), (5, Some(5)), (3, Some(3))] {
        let mut world = World::with(nodes, need, 2);
        world.hold(ALICE);
        world.acquire(BOB);
        let refusals_needed = nodes - world.quorum().needed() + 1;
        (0..refusals_needed).for_each(|node| assert!(world.step(BOB, node)));
        let refusal = world.refusal(BOB).expect("the quorum is out of reach");
        assert!(
            matches!(refusal.reason, FailureReason::Contended { .. }),
            "{nodes} nodes, {need:?}: {:?}",
            refusal.reason
        );
    }
}

#[test]
fn split_votes_count_as_contention() {
    let mut world = World::with(3, None, 3);
    for who in 0..3 {
        world.acquire(who);
        world.step(who, who);
    }
    world.drive();
    for who in 0..3 {
        let refusal = world.refusal(who).expect("no client has two");
        assert_eq!(refusal.reason, FailureReason::Contended { retry_after: None });
    }
    assert_eq!(world.keys(), 0);
}

#[test]
fn a_late_grant_joins_the_lease() {
    let mut world = World::new(3);
    world.servers[2].hangs = true;
    let lock = world.hold(ALICE);
    world.servers[2].hangs = false;
    world.drive();
    assert_eq!(world.event(ALICE), [OperationEvent::Confirmed(NodeSet::from_bits(0b111))]);
    assert!(world.has(2, lock), "stragglers go on until all hold the key");
}

#[test]
fn a_late_grant_is_given_back() {
    let mut world = World::new(3);
    let late = world.acquire(ALICE);
    world.step(ALICE, 0);
    world.sleep(REPLY_TIMEOUT);
    let refusal = world.refusal(ALICE).expect("the attempt timed out");
    assert_eq!(refusal.reason, FailureReason::NoQuorum);
    assert_eq!(refusal.votes[1], Vote::Unknown(ReplyFailure::Timeout));
    assert_eq!(
        world.wire(ALICE, 1),
        [RequestKind::Acquire, RequestKind::Release],
        "the release is sent right after its own SET"
    );
    world.step(ALICE, 1);
    assert!(world.has(1, late));
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
    assert_eq!(world.event(ALICE), [], "a late grant is no news");
}

#[test]
fn a_node_that_need_not_answer_any_more_is_not_called_silent() {
    // Two refuse, so the third decides nothing; and where two are away, it is not even asked.
    for is_away in [false, true] {
        let mut world = World::new(3);
        world.servers[2].hangs = true;
        for node in 0..2 {
            if is_away {
                world.cut(ALICE, node);
            } else {
                world.plant(node, Some(b"another owner"), Some(TTL));
            }
        }
        world.acquire(ALICE);
        for node in 0..2 {
            world.step(ALICE, node);
        }
        let refusal = world.refusal(ALICE).expect("two decide");
        assert_eq!(refusal.votes[2].to_string(), "not waited for: the others had decided");
    }
}

#[test]
fn a_grant_past_its_deadline_is_a_failure_and_undone() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    for node in 0..3 {
        world.deliver(ALICE, node);
    }
    world.pass(TRUSTED);
    world.answer(ALICE, 0);
    world.answer(ALICE, 1);
    assert_eq!(world.refusal(ALICE).map(|refusal| refusal.reason), Some(FailureReason::TooLate));
    assert!(!world.is_valid(ALICE, lock));
    world.drive();
    assert_eq!(world.keys(), 0, "released before the ttl");
}

#[test]
fn an_attempt_abandoned_before_any_answer_leaves_nothing() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.abandon(ALICE, lock);
    assert!((0..3).all(|node| world.wire(ALICE, node) == [RequestKind::Acquire, RequestKind::Release]));
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
    assert_eq!(world.event(ALICE), [], "no caller is left to notify");
    assert!(!world.clients[ALICE].coordinator.is_busy());
}

#[test]
fn an_attempt_abandoned_after_some_answers_spares_who_plainly_refused() {
    let mut world = World::new(5);
    world.plant(1, OTHER, Some(TTL));
    let lock = world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    world.abandon(ALICE, lock);
    assert_eq!(world.wire(ALICE, 0), [RequestKind::Release]);
    assert_eq!(world.wire(ALICE, 1), []);
    assert_eq!(world.wire(ALICE, 2), [RequestKind::Acquire, RequestKind::Release]);
    world.drive();
    assert_eq!(world.keys(), 1, "the other's key is not ours to delete");
    assert_eq!(world.event(ALICE), []);
}

#[test]
fn an_attempt_abandoned_just_as_it_won_leaves_nothing() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    assert!(world.is_valid(ALICE, lock));
    world.abandon(ALICE, lock);
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));
    assert!(!world.clients[ALICE].coordinator.is_busy());
}

#[test]
fn abandoning_a_refused_attempt_twice_changes_nothing() {
    let mut world = World::new(3);
    world.hold(ALICE);
    let lock = world.acquire_as(BOB, CURIOUS);
    world.step(BOB, 0);
    world.step(BOB, 1);
    world.abandon(BOB, lock);
    world.abandon(BOB, lock);
    world.drive();
    assert_eq!((world.keys(), world.undone(BOB)), (3, 0));
    assert!(world.refusal(BOB).is_none());
}

#[test]
fn without_a_quorum_it_is_refused_at_once_and_nothing_is_sent() {
    let mut world = World::new(3);
    world.cut(ALICE, 0);
    world.cut(ALICE, 1);
    world.acquire(ALICE);
    let refusal = world.refusal(ALICE).expect("it fails at once");
    assert_eq!(refusal.reason, FailureReason::NoQuorum);
    assert_eq!(refusal.votes[0], Vote::Unknown(ReplyFailure::Disconnected("cut".into())));
    assert!(world.is_nothing_sent(ALICE));
    assert_eq!(world.undone(ALICE), 0, "a request that was not sent needs no release");
}

#[test]
fn an_excluded_majority_is_reported() {
    let mut world = World::new(3);
    world.exclude(ALICE, 0, ExclusionReason::Replica);
    world.exclude(ALICE, 2, ExclusionReason::AuthFailed("WRONGPASS".into()));
    world.acquire(ALICE);
    let refusal = world.refusal(ALICE).expect("it fails at once");
    assert_eq!(refusal.reason, FailureReason::NodesExcluded);
    assert_eq!(refusal.votes[0], Vote::Excluded(ExclusionReason::Replica));
    assert!(world.is_nothing_sent(ALICE));
}

#[test]
fn an_error_reply_is_no_vote_and_needs_no_release() {
    let mut world = World::new(3);
    for node in 0..2 {
        world.servers[node].excuses.push_back(Vote::Unknown(ReplyFailure::TransientError("OOM".into())));
    }
    world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    assert_eq!(world.refusal(ALICE).map(|refusal| refusal.reason), Some(FailureReason::NoQuorum));
    assert_eq!((world.wire(ALICE, 0), world.wire(ALICE, 1)), (vec![], vec![]));
    assert_eq!(world.wire(ALICE, 2), [RequestKind::Acquire, RequestKind::Release]);
}

#[test]
fn an_odd_answer_is_no_grant_and_is_undone() {
    let mut world = World::new(3);
    for node in 0..2 {
        world.servers[node].excuses.push_back(Vote::Unknown(ReplyFailure::UnexpectedReply));
    }
    world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    assert_eq!(world.refusal(ALICE).map(|refusal| refusal.reason), Some(FailureReason::NoQuorum));
    assert_eq!(world.wire(ALICE, 0), [RequestKind::Release], "it may have been done");
}

#[test]
fn only_a_contender_that_wants_the_ttl_queries_it_and_gets_the_qth_smallest() {
    for curious in [true, false] {
        let mut world = World::new(5);
        for (node, life) in [(0, 900), (1, 300), (2, 700), (3, 500)] {
            world.plant(node, OTHER, Some(ms(life)));
        }
        world.servers[4].hangs = true;
        world.acquire_as(BOB, Wish { curious, ..Wish::default() });
        for node in 0..3 {
            world.step(BOB, node);
        }
        let asked = (0..3).filter(|node| world.wire(BOB, *node) == [RequestKind::QueryTtl]).count();
        assert_eq!(asked, if curious { 3 } else { 0 });
        world.drive();
        let why = world.refusal(BOB).expect("three of five are another's").reason;
        let retry_after = curious.then_some(ms(900));
        assert_eq!(
            why,
            FailureReason::Contended { retry_after },
            "0.3, 0.7 and 0.9 s reported: with the third, three are free"
        );
    }
}

#[test]
fn a_node_that_went_away_is_not_asked_for_how_long_and_owes_no_answer_when_it_is_back() {
    let mut world = World::new(3);
    world.hold(ALICE);
    world.acquire_as(BOB, CURIOUS);
    world.step(BOB, 0);
    world.cut(BOB, 0);
    world.step(BOB, 1);
    world.step(BOB, 1);
    let votes = world.refusal(BOB).expect("a disconnected node is not waited for").votes;
    assert_eq!(
        votes[..2],
        [Vote::HeldByOther { remaining: None }, Vote::HeldByOther { remaining: Some(TTL) }]
    );
    world.connect(BOB, 0);
    assert_eq!(
        world.clients[BOB].coordinator.next_reply_kind(NodeId(0)),
        None,
        "answers must fit their questions"
    );
}

#[test]
fn a_node_we_had_is_free_at_once_to_the_next_attempt() {
    let mut world = World::new(3);
    world.plant(1, OTHER, Some(ms(400)));
    world.plant(2, OTHER, Some(ms(800)));
    world.acquire_as(BOB, CURIOUS);
    world.drive();
    let why = world.refusal(BOB).expect("two of three are another's").reason;
    assert_eq!(why, FailureReason::Contended { retry_after: Some(ms(400)) });
}

#[test]
fn the_ttl_query_ends_with_the_attempt_timeout() {
    let mut world = World::new(3);
    world.hold(ALICE);
    world.acquire_as(BOB, CURIOUS);
    world.step(BOB, 0);
    world.step(BOB, 1);
    assert!(world.refusal(BOB).is_none(), "it is asking for how long");
    world.step(BOB, 0);
    world.sleep(REPLY_TIMEOUT);
    let refusal = world.refusal(BOB).expect("reported without a remaining time");
    assert_eq!(refusal.reason, FailureReason::Contended { retry_after: None });
}

#[test]
fn a_key_without_expiry_and_a_key_of_another_type_are_held() {
    let mut world = World::new(3);
    world.plant(0, None, None);
    world.plant(1, OTHER, None);
    world.acquire_as(BOB, CURIOUS);
    world.drive();
    let refusal = world.refusal(BOB).expect("both are in the way");
    assert_eq!(refusal.reason, FailureReason::Contended { retry_after: None });
    assert_eq!(
        refusal.votes[..2],
        [Vote::HeldByOther { remaining: None }, Vote::HeldByOther { remaining: None }]
    );
    assert_eq!(world.keys(), 2);
}
