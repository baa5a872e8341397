//! Founding and recovery without all nodes, by clients that live long and by many that live for seconds, and
//! proposers that die.

use super::helpers::{
    HEAD_START, MARKER_READ_INTERVAL, PROBATION, SETTLING, acquire_expecting_failure, assert_votes_after,
    disconnect_from_all, epoch, is_member, is_voting, marker, probation_left, restart_client, roster,
    run_short_clients, status_text, uninitialized_world,
};
use crate::attempt::FailureReason;
use crate::coordinator::OperationEvent;
use crate::membership::{InitMode, InitResult};
use crate::mutant::{Mutant, with};

use crate::test_util::node::Data;
use crate::tests::world::{ALICE, BOB, MAX_TTL, World, ms};
use crate::vote::{ReplyFailure, Vote};

/// How long a node must be disconnected before a client reports it.
pub(super) const REPORT_DELAY_MILLIS: u64 = 1_000;

#[test]
fn with_one_of_five_blank_nodes_dead_the_others_found_after_the_max_ttl_of_its_absence() {
    let mut world = uninitialized_world(5, 1);
    (0..4).for_each(|node| world.connect(ALICE, node));
    world.deliver_all();
    let drawn = marker(&world, 0).expect("a seat was drawn").time_micros;
    world.run_for(MAX_TTL + ms(REPORT_DELAY_MILLIS) - ms(100));
    assert!((0..4).all(|node| roster(&world, node).is_none() && !is_voting(&world, ALICE, node)));
    let text = status_text(&world, ALICE, 0);
    let failure = acquire_expecting_failure(&mut world, ALICE);
    assert_eq!(failure.reason, FailureReason::NoQuorum);
    let Vote::Unknown(waiting @ ReplyFailure::AwaitsAbsent { at_most }) = &failure.votes[0] else {
        panic!("{failure:?}")
    };
    assert!(*at_most <= MARKER_READ_INTERVAL + ms(200), "the max ttl is nearly over: {at_most:?}");
    assert_eq!(text, waiting.to_string(), "its status and its vote agree");
    assert!(text.contains("--without-unreachable"), "{text}");
    assert!(text.contains("waits for the nodes that do not reply") && text.contains("in at most"), "{text}");
    world.run_for(MARKER_READ_INTERVAL + SETTLING);
    let founded = roster(&world, 0).expect("it is founded");
    assert!((0..4).all(|node| is_member(&world, node) && roster(&world, node).as_ref() == Some(&founded)));
    assert_eq!(
        founded.seats.iter().filter(|seat| seat.id.is_none()).count(),
        1,
        "the absent node has no seat"
    );
    let votes_from = marker(&world, 0).expect("a marker").time_micros;
    assert_eq!(votes_from, drawn + MAX_TTL.as_micros() as u64, "absence and probation run together");
    world.acquire(ALICE);
    // The dead node takes its seat when it returns.
    world.run_for(MAX_TTL);
    world.connect(ALICE, 4);
    world.run_for(SETTLING);
    assert!(is_member(&world, 4) && !is_voting(&world, ALICE, 4));
    world.run_for(MAX_TTL + HEAD_START);
    assert!(is_voting(&world, ALICE, 4));
}

#[test]
fn clients_that_live_for_seconds_found_a_lock_cluster_without_a_dead_node() {
    let mut world = uninitialized_world(5, 1);
    let up = [0, 1, 2, 3];
    let founding = run_short_clients(&mut world, &up, 10, |world| roster(world, 0).is_some());
    let founding = founding.expect("the last of them founds it");
    // The next client reads at its start that the time has come.
    let range = MAX_TTL + ms(REPORT_DELAY_MILLIS)..=MAX_TTL + ms(REPORT_DELAY_MILLIS + 6_000) + SETTLING;
    assert!(range.contains(&founding), "{founding:?}");
    let locking = run_short_clients(&mut world, &up, 1, |world| {
        let attempt = world.start_acquire(ALICE);
        world.deliver_all();
        world.is_valid(ALICE, attempt)
    });
    assert!(locking.is_some(), "its seats were drawn more than the max ttl ago");
}

/// Whether an attempt of Alice's gets the lock at once.
fn has_acquired(world: &mut World) -> bool {
    let attempt = world.start_acquire(ALICE);
    world.deliver_all();
    let is_held = world.is_valid(ALICE, attempt);
    if !is_held {
        world.cancel(ALICE, attempt);
        world.deliver_all();
    }
    is_held
}

#[test]
fn clients_that_live_for_seconds_cast_no_vote_before_the_probation_of_a_founding_with_all_nodes() {
    let mut world = uninitialized_world(5, 1);
    let up = [0, 1, 2, 3, 4];
    let locking = run_short_clients(&mut world, &up, 10, has_acquired);
    let locking = locking.expect("a lock");
    assert!(locking >= PROBATION && locking <= PROBATION + ms(200), "{locking:?}");
}

#[test]
fn clients_that_live_for_seconds_recover_three_of_four_nodes_that_restarted_empty() {
    let mut world = World::fenced(4);
    world.acquire(ALICE);
    disconnect_from_all(&mut world, BOB);
    let before = marker(&world, 3).expect("a marker");
    (0..3).for_each(|node| world.restart(node, Data::new()));
    let up = [0, 1, 2, 3];
    let recovery = run_short_clients(&mut world, &up, 1, |world| (0..4).all(|node| is_member(world, node)));
    assert!(recovery.is_some_and(|it| it <= SETTLING), "{recovery:?}");
    assert!((0..4).all(|node| epoch(&world, node) == "2.0"));
    let after = marker(&world, 3).expect("a marker");
    assert_eq!((after.seat, after.time_micros), (before.seat, before.time_micros), "it remembers");
    let left = (0..3).map(|node| probation_left(&world, node)).min().expect("three nodes");
    assert!(left > MAX_TTL - SETTLING);
    let locking = run_short_clients(&mut world, &up, 10, has_acquired);
    let locking = locking.expect("a lock");
    assert!(
        locking >= left + HEAD_START && locking <= left + HEAD_START + ms(1_000),
        "{locking:?}, {left:?}"
    );
    assert_eq!(world.overlap, None);
}

/// Of three nodes, node 2 is dead and node 1 restarted empty.
fn with_one_dead_and_one_restarted() -> World {
    let mut world = World::fenced(3);
    (0..2).for_each(|client| world.disconnect(client, 2));
    world.restart(1, Data::new());
    (0..2).for_each(|client| world.connect(client, 1));
    world.run_for(SETTLING);
    world
}

#[test]
fn with_one_node_dead_and_one_restarted_of_three_nothing_happens_until_the_dead_one_returns() {
    let mut world = with_one_dead_and_one_restarted();
    world.run_for(MAX_TTL * 4);
    assert!(epoch(&world, 0) == "1.0" && is_voting(&world, ALICE, 0) && !is_member(&world, 1));
    let text = status_text(&world, ALICE, 1);
    let expected = [
        "more nodes must reply to give it a seat",
        "the state of the other nodes",
        "init --without-unreachable",
    ];
    assert!(expected.iter().all(|part| text.contains(part)), "{text}");
    let failure = acquire_expecting_failure(&mut world, BOB);
    assert_eq!(failure.reason, FailureReason::NoQuorum);
    assert_eq!(failure.votes[1], Vote::Unknown(ReplyFailure::Unverified), "no time is known");
    world.connect(ALICE, 2);
    world.run_for(SETTLING);
    assert!(is_member(&world, 1) && epoch(&world, 2) == "1.1");
    world.acquire(ALICE);
}

#[test]
fn a_blank_server_at_the_address_of_the_dead_one_ends_the_wait() {
    let mut world = with_one_dead_and_one_restarted();
    let server = world.move_address(2);
    world.connect(ALICE, 2);
    world.run_for(SETTLING);
    assert!(is_member(&world, 1) && is_member(&world, server) && epoch(&world, 0) == "2.0");
    assert!(is_voting(&world, ALICE, 0) && !is_voting(&world, ALICE, 1) && !is_voting(&world, ALICE, 2));
    world.run_for(PROBATION);
    let lock = world.acquire(ALICE);
    // The dead one comes back at another host: no client counts it.
    world.point_address(2, 2);
    world.connect(BOB, 2);
    world.run_for(SETTLING);
    assert!(!is_voting(&world, BOB, 2) && !is_member(&world, 2));
    assert!(world.has_key_of(server, lock) && !world.has_key_of(2, lock));
}

#[test]
fn once_the_seat_of_a_dead_node_is_vacant_a_restart_of_another_needs_no_wait() {
    let mut world = World::fenced(3);
    (0..2).for_each(|client| world.disconnect(client, 2));
    world.run_for(MAX_TTL * 11);
    assert!(roster(&world, 0).is_some_and(|it| it.seats[2].id.is_none()));
    world.restart(1, Data::new());
    (0..2).for_each(|client| world.connect(client, 1));
    world.run_for(SETTLING);
    assert!(is_member(&world, 1) && epoch(&world, 0) == "2.0" && !is_voting(&world, ALICE, 1));
    world.run_for(PROBATION);
    world.acquire(ALICE);
}

#[test]
fn init_without_unreachable_ends_the_wait_and_not_the_probation() {
    let mut world = with_one_dead_and_one_restarted();
    assert_eq!(world.initialize_as(ALICE, 7, InitMode::WithoutUnreachable), None, "it is under way");
    world.run_for(SETTLING);
    let result = world.take_events(ALICE);
    assert_eq!(result, [OperationEvent::Initialized(InitResult::Initialized)]);
    let recovered = roster(&world, 0).expect("a roster");
    assert_eq!((recovered.epoch.to_string(), recovered.seats[2].id), ("2.0".into(), None));
    assert!(is_member(&world, 1) && is_voting(&world, ALICE, 0));
    let left = probation_left(&world, 1);
    assert!(left > MAX_TTL - SETTLING * 3, "since its seat was drawn: {left:?}");
    restart_client(&mut world, BOB, 0..2);
    let reason = acquire_expecting_failure(&mut world, BOB).reason;
    assert_eq!(reason, FailureReason::OnProbation { retry_after: Some(left + HEAD_START) });
    assert_votes_after(&mut world, BOB, 1, left + HEAD_START);
    world.acquire(BOB);
}

#[test]
fn init_without_unreachable_goes_on_when_the_unreachable_node_is_dialed_again() {
    let mut world = with_one_dead_and_one_restarted();
    assert_eq!(world.initialize_as(ALICE, 7, InitMode::WithoutUnreachable), None, "it is under way");
    world.disconnect(ALICE, 2);
    world.run_for(SETTLING);
    assert_eq!(world.take_events(ALICE), [OperationEvent::Initialized(InitResult::Initialized)]);
}

/// A client draws their seats and ends before it founds the lock cluster.
#[test]
fn servers_that_only_drew_a_seat_are_new_servers_for_init() {
    let mut world = uninitialized_world(3, 2);
    (0..3).for_each(|node| world.connect(ALICE, node));
    while (0..3).any(|node| world.round_trip(ALICE, node)) {}
    assert!((0..3).all(|node| marker(&world, node).is_some_and(|it| !it.was_member)));
    disconnect_from_all(&mut world, ALICE);
    (0..3).for_each(|node| world.connect(BOB, node));
    while (0..3).any(|node| world.round_trip(BOB, node)) {}
    assert_eq!(world.initialize_as(BOB, 7, InitMode::Blank), Some(InitResult::Initialized));
    assert!((0..3).all(|node| is_member(&world, node) && is_voting(&world, BOB, node)));
}

/// Bob reads members that take part in Alice's ballot. Its own ballot is 100 ms away at least.
#[test]
fn a_client_reads_a_sealed_member_again_soon() {
    let mut world = World::fenced(5);
    disconnect_from_all(&mut world, BOB);
    world.restart(4, Data::new());
    world.connect(ALICE, 4);
    world.deliver_all();
    world.run_timers_for(ms(200));
    assert!((0..3).all(|node| world.round_trip(ALICE, node)), "promises are under way");
    restart_client(&mut world, BOB, 0..4);
    assert_eq!(epoch(&world, 0), "1.0");
    world.deliver_all();
    assert_eq!(epoch(&world, 0), "1.1", "Alice has finished");
    let follows = |world: &World| world.clients[BOB].rosters.last().map(|it| it.epoch.to_string());
    assert_eq!(follows(&world).as_deref(), Some("1.0"));
    world.run_for(ms(50));
    assert_eq!(follows(&world).as_deref(), Some("1.1"));
}

#[test]
fn of_two_nodes_the_one_that_restarted_is_recovered_with_the_other() {
    let mut world = World::fenced(2);
    world.restart(1, Data::new());
    (0..2).for_each(|client| world.connect(client, 1));
    world.run_for(SETTLING);
    assert!(is_member(&world, 1) && epoch(&world, 0) == "2.0" && is_voting(&world, ALICE, 0));
    assert!(matches!(acquire_expecting_failure(&mut world, BOB).reason, FailureReason::OnProbation { .. }));
    world.run_for(PROBATION);
    world.acquire(BOB);
}

/// How far a proposer comes: how many of its promises, acceptances and writes of the roster are carried out.
#[derive(Clone, Copy, Debug)]
struct Progress(usize, usize, usize);

/// Alice proposes the roster in which the restarted node 4 of five has a seat, and dies. Bob, who cannot reach node
/// 0, finishes. Returns whether all carry one roster at last.
fn is_finished_by_another_client(Progress(promises, acceptances, informed): Progress) -> bool {
    let mut world = World::fenced(5);
    disconnect_from_all(&mut world, BOB);
    world.restart(4, Data::new());
    world.connect(ALICE, 4);
    world.deliver_all();
    world.run_timers_for(ms(200));
    for count in [promises, acceptances, informed] {
        for node in 0..count {
            assert!(world.round_trip(ALICE, node), "a write is under way to node {node}");
        }
    }
    let proposed = roster(&world, 0);
    disconnect_from_all(&mut world, ALICE);
    // Another time, so another roster if it is proposed again.
    world.run_for(ms(500));
    restart_client(&mut world, BOB, 1..5);
    world.run_for(SETTLING * 2);
    assert!(
        (1..5).all(|node| epoch(&world, node) == "1.1" && is_member(&world, node)),
        "Bob has finished it"
    );
    assert!((1..4).all(|node| is_voting(&world, BOB, node)), "and the members vote");
    world.acquire(BOB);
    let chosen = roster(&world, 1);
    let is_one = informed == 0 || proposed == chosen;
    world.connect(BOB, 0);
    world.run_for(SETTLING);
    is_one && roster(&world, 0) == chosen && is_voting(&world, BOB, 0)
}

/// The roster was chosen, and one member was informed.
const CHOSEN: Progress = Progress(3, 3, 1);

#[test]
fn another_client_finishes_what_a_dead_proposer_began() {
    for progress in [Progress(1, 0, 0), Progress(3, 0, 0), Progress(3, 1, 0), Progress(3, 3, 0), CHOSEN] {
        assert!(is_finished_by_another_client(progress), "{progress:?}");
    }
}

#[test]
fn mutant_no_promise() {
    assert!(!with(Some(Mutant::NoPromise), || is_finished_by_another_client(CHOSEN)));
}
