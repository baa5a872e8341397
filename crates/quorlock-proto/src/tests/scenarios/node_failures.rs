//! Slow, unresponsive and disconnected nodes; surveys.

use std::time::Duration;

use crate::coordinator::OperationEvent;
use crate::request::RequestKind;
use crate::tests::world::{
    ALICE, AcquireOptions, BOB, REDIAL_AFTER, REPLY_TIMEOUT, TTL, World, ms, owner_token,
};
use crate::vote::{KeyOwner, ReplyFailure, Vote};

fn take_survey_votes(world: &mut World, client: usize) -> Option<Vec<Vote>> {
    world.take_events(client).into_iter().find_map(|event| match event {
        OperationEvent::Surveyed(votes) => Some(votes),
        _ => None,
    })
}

#[test]
fn a_backlogged_node_is_sent_no_request_and_counts_as_unknown_at_once() {
    let mut world = World::new(3);
    world.servers[0].hangs = true;
    let first = world.acquire(ALICE);
    world.release(ALICE, first);
    world.deliver_all();
    world.run_timers_for(REPLY_TIMEOUT);
    world.take_events(ALICE);
    world.start_acquire(ALICE);
    assert_eq!(
        world.undelivered(ALICE, 0),
        [RequestKind::Acquire, RequestKind::ReleaseAndNotify],
        "no further SET is sent to it"
    );
    world.set_foreign_key(1, Some(b"another owner"), Some(TTL));
    world.round_trip(ALICE, 1);
    let failure =
        world.take_failure(ALICE).expect("a backlogged and a denying node of three decide the attempt");
    assert_eq!(failure.votes[0], Vote::Unknown(ReplyFailure::Backlogged));
}

#[test]
fn a_node_whose_reply_is_overdue_is_dialed_again() {
    let mut world = World::new(3);
    world.servers[0].hangs = true;
    let lock = world.acquire_with(ALICE, AcquireOptions { auto_renew: false, ..AcquireOptions::default() });
    world.run_timers_for(REDIAL_AFTER - Duration::from_nanos(1));
    assert!(world.clients[ALICE].redials.is_empty());
    world.run_timers_for(Duration::from_nanos(1));
    assert_eq!(world.clients[ALICE].redials, [0]);
    assert!(!world.is_connected(ALICE, 0) && world.is_connected(ALICE, 1));
    assert!(world.is_valid(ALICE, lock));
    world.run_timers_for(ms(5_000));
    assert_eq!(world.clients[ALICE].redials, [0], "it is dialed once");
}

#[test]
fn a_reconnected_node_joins_at_the_next_renewal() {
    let mut world = World::new(3);
    world.disconnect(ALICE, 2);
    let lock = world.acquire(ALICE);
    assert_eq!(world.key_count(), 2);
    world.connect(ALICE, 2);
    world.run_timers_for(ms(3_334));
    world.deliver_all();
    assert!(world.has_key_of(2, lock));
}

#[test]
fn a_lost_connection_ends_the_wait_for_its_replies() {
    let mut world = World::new(3);
    world.start_acquire(ALICE);
    world.disconnect(ALICE, 0);
    assert!(world.take_failure(ALICE).is_none());
    world.disconnect(ALICE, 1);
    let failure = world.take_failure(ALICE).expect("one node of three is left");
    assert_eq!(
        failure.votes[..2],
        [Vote::Unknown(ReplyFailure::ConnectionLost), Vote::Unknown(ReplyFailure::ConnectionLost)]
    );
}

#[test]
fn a_survey_reports_the_state_of_every_node_once_all_have_replied() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.set_foreign_key(1, None, None);
    world.delete_key(2);
    world.survey(BOB, RequestKind::Inspect);
    world.deliver_all();
    let votes = take_survey_votes(&mut world, BOB).expect("all nodes have replied");
    let holders: Vec<_> = votes
        .iter()
        .map(|vote| match vote {
            Vote::Inspected(inspection) => Some((inspection.holder, inspection.remaining)),
            _ => None,
        })
        .collect();
    let own = KeyOwner::Owner(owner_token(lock).hash());
    assert_eq!(holders[0], Some((own, Some(TTL))));
    assert_eq!(holders[1..], [Some((KeyOwner::NotALock, None)), Some((KeyOwner::Unheld, None))]);
    let key = crate::request::Key::new(crate::tests::world::KEY);
    assert!(world.clients[ALICE].coordinator.is_own_hash(&key, owner_token(lock).hash()));
    assert!(!world.clients[BOB].coordinator.is_own_hash(&key, owner_token(lock).hash()));
    assert!(!world.clients[BOB].coordinator.is_busy());
}

#[test]
fn a_survey_settles_at_the_reply_timeout() {
    let mut world = World::new(3);
    world.servers[1].hangs = true;
    world.survey(BOB, RequestKind::Inspect);
    world.deliver_all();
    world.run_timers_for(REPLY_TIMEOUT - Duration::from_nanos(1));
    assert_eq!(take_survey_votes(&mut world, BOB), None);
    world.run_timers_for(Duration::from_nanos(1));
    let votes = take_survey_votes(&mut world, BOB).expect("the reply timeout has passed");
    assert_eq!(votes[1], Vote::Unknown(ReplyFailure::Timeout));
    assert!(!world.clients[BOB].coordinator.is_busy());
}

#[test]
fn a_survey_without_connected_nodes_is_reported_at_once() {
    let mut world = World::new(3);
    (0..3).for_each(|node| world.disconnect(BOB, node));
    world.survey(BOB, RequestKind::Inspect);
    assert_eq!(
        take_survey_votes(&mut world, BOB),
        Some(vec![Vote::Unknown(ReplyFailure::Disconnected("cut".into())); 3])
    );
}

#[test]
fn a_survey_is_sent_again_as_text_if_the_script_is_not_loaded() {
    let mut world = World::new(3);
    world.flush_scripts(0);
    world.survey(BOB, RequestKind::Inspect);
    world.deliver_all();
    let votes = take_survey_votes(&mut world, BOB).expect("all nodes have replied");
    assert!(votes.iter().all(|vote| matches!(vote, Vote::Inspected(_))), "{votes:?}");
}

#[test]
fn force_release_deletes_the_key_of_any_owner() {
    let mut world = World::new(3);
    let lock = world.acquire(ALICE);
    world.set_foreign_key(1, None, None);
    world.delete_key(2);
    world.survey(BOB, RequestKind::ForceRelease);
    world.deliver_all();
    assert_eq!(take_survey_votes(&mut world, BOB), Some(vec![Vote::Granted, Vote::Granted, Vote::NotHeld]));
    assert!(world.key_count() == 0 && !world.has_key_of(0, lock));
}
