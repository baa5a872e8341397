//! Single requests: each gets exactly one vote, whatever happens to its node.

use crate::coordinator::OperationEvent;
use crate::request::RequestKind;
use crate::tests::world::{ALICE, REPLY_TIMEOUT, World};
use crate::vote::{ReplyFailure, Vote};

/// The votes of the single requests that have ended since the last call.
fn take_votes(world: &mut World) -> Vec<Vote> {
    let vote = |event| match event {
        OperationEvent::Replied(vote) => Some(vote),
        _ => None,
    };
    world.take_events(ALICE).into_iter().filter_map(vote).collect()
}

#[test]
fn the_nodes_reply_is_its_vote_and_no_other_node_is_asked() {
    let mut world = World::new(3);
    world.servers[1].canned_replies.push_back(Vote::NotHeld);
    world.request_one(ALICE, 1, RequestKind::Enqueue);
    assert_eq!(world.undelivered(ALICE, 1), [RequestKind::Enqueue]);
    assert!(world.undelivered(ALICE, 0).is_empty() && world.undelivered(ALICE, 2).is_empty());
    world.round_trip(ALICE, 1);
    assert_eq!(take_votes(&mut world), [Vote::NotHeld], "the key is free");
    assert!(!world.clients[ALICE].coordinator.is_busy());
}

#[test]
fn without_a_reply_it_times_out_and_a_late_reply_changes_nothing() {
    let mut world = World::new(3);
    world.request_one(ALICE, 1, RequestKind::Enqueue);
    world.run_timers_for(REPLY_TIMEOUT);
    assert_eq!(take_votes(&mut world), [Vote::Unknown(ReplyFailure::Timeout)]);
    world.round_trip(ALICE, 1);
    assert!(take_votes(&mut world).is_empty());
    assert!(world.is_connected(ALICE, 1) && !world.clients[ALICE].coordinator.is_busy());
}

#[test]
fn a_script_that_the_node_lost_is_sent_again_as_text() {
    let mut world = World::new(3);
    world.servers[1].canned_replies.extend([Vote::Unknown(ReplyFailure::NoScript), Vote::NotHeld]);
    world.request_one(ALICE, 1, RequestKind::Enqueue);
    world.round_trip(ALICE, 1);
    assert_eq!(world.undelivered(ALICE, 1), [RequestKind::Enqueue]);
    world.round_trip(ALICE, 1);
    assert_eq!(take_votes(&mut world), [Vote::NotHeld]);
}

#[test]
fn a_lost_connection_is_its_vote_and_a_disconnected_node_gets_no_request() {
    let mut world = World::new(3);
    world.request_one(ALICE, 1, RequestKind::Enqueue);
    world.disconnect(ALICE, 1);
    assert_eq!(take_votes(&mut world), [Vote::Unknown(ReplyFailure::ConnectionLost)]);
    world.request_one(ALICE, 1, RequestKind::Dequeue);
    assert!(matches!(take_votes(&mut world)[..], [Vote::Unknown(ReplyFailure::Disconnected(_))]));
    assert!(!world.clients[ALICE].coordinator.is_busy());
}

#[test]
fn a_backlogged_node_gets_no_request() {
    let mut world = World::new(3);
    world.servers[1].hangs = true;
    world.request_one(ALICE, 1, RequestKind::Enqueue);
    world.run_timers_for(REPLY_TIMEOUT);
    assert_eq!(take_votes(&mut world), [Vote::Unknown(ReplyFailure::Timeout)]);
    world.request_one(ALICE, 1, RequestKind::Enqueue);
    assert_eq!(take_votes(&mut world), [Vote::Unknown(ReplyFailure::Backlogged)]);
}
