//! Probation: a node that may have lost data casts no vote until the locks that it may have lost expire.

use std::time::Duration;

use super::helpers::{
    HEAD_START, MARKER_READ_INTERVAL, PROBATION, SETTLING, acquire_expecting_failure, assert_votes_after,
    cluster, data, is_member, is_voting, marker, probation_left, probation_reason, restart_and_settle,
    votes_in,
};
use crate::attempt::FailureReason;
use crate::request::{OperationId, RequestKind};
use crate::test_util::node::{Data, DataKey};
use crate::tests::world::{ALICE, AcquireOptions, BOB, MAX_TTL, World, ms};
use crate::vote::{ProbationReason, ReplyFailure, Vote};

/// Alice holds the lock on nodes 0 and 1 of three. Returns the data of node 1 from before the lock.
fn held_by_two() -> (World, OperationId, Data) {
    let mut world = World::fenced(3);
    let before = data(&world, 1);
    world.disconnect(ALICE, 2);
    let lock = world.acquire(ALICE);
    world.connect(ALICE, 2);
    world.deliver_all();
    (world, lock, before)
}

/// The fault that probation prevents: if a node that lost its data votes, two clients hold the lock.
#[test]
fn a_node_that_lost_a_lock_casts_no_vote_until_the_lock_has_expired() {
    type LoseData = fn(&mut World, Data);
    let cases: [(&str, LoseData); 5] = [
        ("restarted empty", |world, _| world.restart(1, Data::new())),
        ("restarted with old data", |world, before| world.restart(1, before)),
        ("flushed", |world, _| world.flush(1)),
        ("promoted, empty", |world, _| world.change_role(1, Data::new())),
        ("promoted, of another lock cluster", |world, before| {
            let other = before.into_iter().map(|(slot, mut entry)| {
                entry.value = entry.value.map(|_| b"quorlock2 00 3 2 30000 a:b 1 1".to_vec());
                (slot, entry)
            });
            world.change_role(1, other.collect());
        }),
    ];
    for (case, lose_data) in cases {
        let (mut world, lock, before) = held_by_two();
        lose_data(&mut world, before);
        (0..2).for_each(|client| world.connect(client, 1));
        let failure = acquire_expecting_failure(&mut world, BOB);
        assert!(matches!(failure.reason, FailureReason::Contended { .. }), "{case}: {:?}", failure.reason);
        assert!(!failure.votes[1].is_grant(), "{case}: {:?}", failure.votes[1]);
        world.run_for(SETTLING);
        assert!(world.is_valid(ALICE, lock) && !is_voting(&world, BOB, 1), "{case}");
        assert!(!acquire_expecting_failure(&mut world, BOB).votes[1].is_grant(), "{case}");
        assert_eq!(world.overlap, None, "{case}");
    }
}

#[test]
fn a_node_promoted_with_old_data_is_detected_by_the_next_marker_reading() {
    let (mut world, _, before) = held_by_two();
    world.change_role(1, before);
    assert!(is_voting(&world, BOB, 1), "the marker is the same, only INFO shows the change");
    world.run_for(MARKER_READ_INTERVAL);
    assert!(!is_voting(&world, BOB, 1));
    world.run_for(SETTLING);
    assert_eq!(probation_reason(&world, BOB, 1), Some(ProbationReason::PossibleDataLoss));
}

#[test]
fn a_node_that_lost_its_data_votes_again_after_the_max_ttl() {
    let (mut world, lock, _) = held_by_two();
    restart_and_settle(&mut world, 1, Data::new());
    let votes_from = marker(&world, 1).expect("a marker").time_micros;
    assert_eq!(cluster(&world, 1), cluster(&world, 0));
    world.release(ALICE, lock);
    world.deliver_all();
    world.disconnect(BOB, 2);
    // Bob saw the seat change hands, so he waits by his own clock too.
    let wait = votes_in(&world, BOB, 1);
    assert!(wait >= probation_left(&world, 1) + HEAD_START && wait <= PROBATION, "{wait:?}");
    let failure = acquire_expecting_failure(&mut world, BOB);
    assert_eq!(failure.reason, FailureReason::OnProbation { retry_after: Some(wait) });
    world.run_for(wait - ms(1));
    assert_eq!(
        acquire_expecting_failure(&mut world, BOB).reason,
        FailureReason::OnProbation { retry_after: Some(ms(1)) }
    );
    world.run_for(ms(1));
    world.acquire(BOB);
    assert_eq!(marker(&world, 1).map(|it| it.time_micros), Some(votes_from));
}

#[test]
fn a_marker_mismatch_in_a_vote_triggers_a_marker_reading_at_once() {
    let mut world = World::fenced(3);
    world.flush(1);
    world.start_acquire(BOB);
    world.round_trip(BOB, 1);
    assert_eq!(world.undelivered(BOB, 1), [RequestKind::ReadMarker]);
    world.round_trip(BOB, 1);
    assert_eq!(world.undelivered(BOB, 1), [RequestKind::ReadMarker], "the server draws a seat");
    world.deliver_all();
    world.start_acquire(BOB);
    assert_eq!(world.undelivered(BOB, 1), [], "no vote is requested from it");
    world.run_for(SETTLING);
    assert_eq!(probation_reason(&world, BOB, 1), Some(ProbationReason::PossibleDataLoss));
    world.start_acquire(BOB);
    assert_eq!(world.undelivered(BOB, 1), [], "no vote is requested from it");
}

#[test]
fn a_renewal_does_not_count_a_node_that_lost_its_data() {
    let (mut world, lock, _) = held_by_two();
    world.disconnect(ALICE, 2);
    world.restart(1, Data::new());
    (0..2).for_each(|client| world.connect(client, 1));
    world.run_for(ms(9_880));
    assert!(world.is_valid(ALICE, lock));
    world.run_for(ms(20));
    assert!(!world.is_valid(ALICE, lock), "one node of three could not renew it");
}

#[test]
fn a_client_that_saw_the_data_loss_times_the_probation_by_its_own_clock() {
    let mut world = World::fenced(3);
    world.restart(1, Data::new());
    world.connect(ALICE, 1);
    world.run_for(SETTLING);
    let left = probation_left(&world, 1);
    // By the node's clock it ends now.
    world.shift_clock(1, 3_600_000);
    assert_votes_after(&mut world, ALICE, 1, left + HEAD_START);
    world.connect(BOB, 1);
    assert_eq!(
        probation_reason(&world, BOB, 1),
        Some(ProbationReason::PossibleDataLoss),
        "Bob knew the old data and detects the loss only now"
    );
}

#[test]
fn a_node_on_probation_denies_votes_to_a_client_that_expects_one() {
    let mut world = World::fenced(3);
    // Its clock is set back 15 ms, so its probation is not yet over. So little proves no clock jump.
    world.shift_clock(1, -15);
    let lock = world.start_acquire(ALICE);
    world.round_trip(ALICE, 1);
    assert_eq!(probation_reason(&world, ALICE, 1), Some(ProbationReason::PossibleDataLoss));
    world.cancel(ALICE, lock);
    world.deliver_all();
    let lock = world.acquire(BOB);
    assert!(!world.has_key_of(1, lock));
    world.run_for(ms(600));
    assert!(is_voting(&world, BOB, 1));
}

#[test]
fn a_clock_set_back_behind_the_marker_starts_a_probation_of_the_usual_length() {
    for acquires_first in [false, true] {
        let mut world = World::fenced(3);
        let before = marker(&world, 1).expect("a marker").time_micros;
        world.shift_clock(1, -3_600_000);
        if acquires_first {
            world.acquire(ALICE);
        }
        world.run_for(MARKER_READ_INTERVAL + SETTLING);
        let votes_from = marker(&world, 1).expect("a marker").time_micros;
        assert!(votes_from < before && is_member(&world, 1) && probation_left(&world, 1) <= MAX_TTL);
        assert_eq!(probation_reason(&world, ALICE, 1), Some(ProbationReason::PossibleDataLoss));
        world.run_for(PROBATION + MARKER_READ_INTERVAL);
        assert!(is_voting(&world, ALICE, 1), "acquired first: {acquires_first}");
    }
}

#[test]
fn two_clients_that_draw_a_seat_for_a_server_at_once_agree() {
    let mut world = World::fenced(3);
    world.restart(1, Data::new());
    (0..2).for_each(|client| world.connect(client, 1));
    assert_eq!(
        (world.undelivered(ALICE, 1), world.undelivered(BOB, 1)),
        (vec![RequestKind::ReadMarker], vec![RequestKind::ReadMarker])
    );
    world.round_trip(ALICE, 1);
    let written = data(&world, 1)[&DataKey::Marker].value.clone();
    world.advance_clock(ms(5));
    world.round_trip(BOB, 1);
    assert_eq!(data(&world, 1)[&DataKey::Marker].value, written, "only the first request writes");
    let seat = marker(&world, 1).map(|it| it.seat);
    world.run_for(SETTLING + PROBATION);
    assert!(is_member(&world, 1) && marker(&world, 1).map(|it| it.seat) == seat);
    world.acquire(ALICE);
    assert!((0..2).all(|client| is_voting(&world, client, 1)));
}

#[test]
fn markers_are_read_every_quarter_of_the_max_ttl() {
    let mut world = World::fenced(3);
    for _ in 0..4 {
        world.run_timers_for(MARKER_READ_INTERVAL - Duration::from_nanos(1));
        assert!(world.is_nothing_in_flight(ALICE));
        world.run_timers_for(Duration::from_nanos(1));
        assert!((0..3).all(|node| world.undelivered(ALICE, node) == [RequestKind::ReadMarker]));
        world.deliver_all();
    }
}

#[test]
fn a_marker_reading_is_sent_again_as_text_if_the_script_is_not_loaded() {
    let mut world = World::fenced(3);
    world.flush_scripts(1);
    world.run_timers_for(MARKER_READ_INTERVAL);
    world.round_trip(ALICE, 1);
    assert!(
        world
            .undelivered_commands(ALICE, 1)
            .all(|command| command.as_text && command.request.kind == RequestKind::ReadMarker)
    );
    assert!(world.round_trip(ALICE, 1) && is_voting(&world, ALICE, 1));

    // The same for a marker reading that writes.
    world.restart(1, Data::new());
    world.connect(ALICE, 1);
    world.flush_scripts(1);
    world.deliver_all();
    assert!(marker(&world, 1).is_some());
}

#[test]
fn a_failed_marker_reading_is_retried_and_changes_nothing() {
    let mut world = World::fenced(3);
    world.run_timers_for(MARKER_READ_INTERVAL);
    world.servers[1].canned_replies.push_back(Vote::Unknown(ReplyFailure::TransientError("BUSY".into())));
    world.deliver_all();
    assert!(is_voting(&world, ALICE, 1) && world.is_connected(ALICE, 1));
    world.run_timers_for(ms(1_000));
    assert_eq!(world.undelivered(ALICE, 1), [RequestKind::ReadMarker]);
}

#[test]
fn a_failure_for_probation_reports_when_a_quorum_can_vote_again() {
    let mut world = World::fenced_with_quorum(5, None, 2);
    for (node, pause_millis) in [(0, 4_000), (1, 5_000), (2, 0)] {
        restart_and_settle(&mut world, node, Data::new());
        world.run_for(ms(pause_millis));
    }
    let failure = acquire_expecting_failure(&mut world, BOB);
    // Two nodes vote. They are a quorum with the first of the three nodes to end its probation.
    let wait = votes_in(&world, BOB, 0);
    assert!(wait < votes_in(&world, BOB, 1) && wait < votes_in(&world, BOB, 2));
    assert_eq!(failure.reason, FailureReason::OnProbation { retry_after: Some(wait) });
    assert!(world.key_count() == 0 && world.is_nothing_in_flight(BOB));
    world.run_for(wait);
    world.acquire(BOB);
}

#[test]
fn after_a_script_flush_a_fenced_acquire_is_sent_again_as_text() {
    let mut world = World::fenced(3);
    (0..3).for_each(|node| world.flush_scripts(node));
    let lock = world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    assert!(
        world
            .undelivered_commands(ALICE, 0)
            .all(|command| command.as_text && command.request.kind == RequestKind::Acquire)
    );
    world.deliver_all();
    assert!(world.is_valid(ALICE, lock));
}

#[test]
fn an_acquire_is_never_sent_again_as_text_behind_its_release() {
    let mut world = World::fenced(3);
    (0..3).for_each(|node| world.flush_scripts(node));
    let lock = world.start_acquire(ALICE);
    world.cancel(ALICE, lock);
    for node in 0..3 {
        assert_eq!(world.undelivered(ALICE, node), [RequestKind::Acquire, RequestKind::Release]);
        world.round_trip(ALICE, node);
        assert_eq!(
            world.undelivered(ALICE, node),
            [RequestKind::Release],
            "no acquire is sent behind the release"
        );
    }
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));

    // A late acquire of a lock that was won is not sent again: the next renewal reacquires that node.
    let mut world = World::fenced(3);
    world.flush_scripts(2);
    world.start_acquire(ALICE);
    world.round_trip(ALICE, 0);
    world.round_trip(ALICE, 1);
    world.round_trip(ALICE, 2);
    assert_eq!(world.undelivered(ALICE, 2), []);
    world.run_for(ms(3_500));
    assert_eq!(world.key_count(), 3);
}

#[test]
fn a_vote_in_flight_does_not_count_once_its_nodes_data_loss_is_detected() {
    let mut world = World::fenced(3);
    world.acquire_with(
        ALICE,
        AcquireOptions { ttl: ms(1_000), auto_renew: false, ..AcquireOptions::default() },
    );
    world.run_for(MARKER_READ_INTERVAL - ms(1_000));
    world.run_timers_for(ms(1_000));
    world.start_acquire(BOB);
    // The marker reading precedes the acquire on the connection and reveals another server.
    assert_eq!(world.undelivered(BOB, 1), [RequestKind::ReadMarker, RequestKind::Acquire]);
    let before = data(&world, 1);
    world.change_role(1, before);
    world.deliver_request(BOB, 1);
    world.deliver_request(BOB, 1);
    world.deliver_reply(BOB, 1);
    world.deliver_reply(BOB, 1);
    world.deliver_all();
    assert!(!is_voting(&world, BOB, 1));
    assert_eq!(world.overlap, None);
}

/// A server that is out of memory, or cannot save, replies to marker readings and rejects every write.
#[test]
fn a_node_that_rejects_its_marker_is_retried_only_periodically() {
    let mut world = World::fenced(3);
    world.restart(1, Data::new());
    let rejection = || Vote::Unknown(ReplyFailure::TransientError("OOM command not allowed".into()));
    world.servers[1].canned_replies.extend((0..50).map(|_| rejection()));
    world.connect(ALICE, 1);
    world.deliver_all();
    assert_eq!(world.servers[1].canned_replies.len(), 49, "one write was tried");
    assert_eq!(
        reported_vote_of_node_1(&mut world),
        rejection(),
        "the failure reports the reply of the server"
    );
    world.run_for(MARKER_READ_INTERVAL);
    assert!((30..49).contains(&world.servers[1].canned_replies.len()), "the write was retried periodically");
    world.servers[1].canned_replies.clear();
    world.run_for(ms(2_000));
    assert!(marker(&world, 1).is_some(), "the write succeeds soon after the server accepts writes");
}

/// The reported vote of node 1 if node 0 has another owner and node 2 is disconnected.
fn reported_vote_of_node_1(world: &mut World) -> Vote {
    world.set_foreign_key(0, Some(b"another owner"), Some(ms(1_000)));
    world.disconnect(ALICE, 2);
    let vote = acquire_expecting_failure(world, ALICE).votes.swap_remove(1);
    world.connect(ALICE, 2);
    world.delete_key(0);
    vote
}
