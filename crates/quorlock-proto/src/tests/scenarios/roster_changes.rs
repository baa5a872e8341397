//! Changes of the roster: a server without memory takes the seat at its address, the seat of an absent one
//! becomes vacant, and what that does to locks.

use std::time::Duration;

use super::helpers::{
    HEAD_START, MARKER_READ_INTERVAL, SETTLING, absences, acquire_expecting_failure, assert_votes_after,
    change_list, connect_to_all, disconnect_from_all, epoch, is_member, is_voting, marker, probation_left,
    probation_reason, record, restart_and_settle, restart_client, roster, status_text,
};
use crate::mutant::{Mutant, with};
use crate::request::RequestKind;
use crate::test_util::node::Data;
use crate::tests::world::{ALICE, BOB, MAX_TTL, REPLY_TIMEOUT, TTL, VALIDITY_TIME, World, ms};
use crate::vote::{ProbationReason, ReplyFailure, Vote};

#[test]
fn a_restarted_node_takes_its_seat_by_a_change_while_others_go_on_locking() {
    let mut world = World::fenced(3);
    let held = world.acquire(ALICE);
    let before: Vec<_> = (0..3).map(|node| marker(&world, node).expect("a marker")).collect();
    restart_and_settle(&mut world, 1, Data::new());
    let after: Vec<_> = (0..3).map(|node| marker(&world, node).expect("a marker")).collect();
    assert!((0..3).all(|node| epoch(&world, node) == "1.1"));
    assert_ne!(after[1].seat, before[1].seat, "a seat belongs to one incarnation");
    for node in [0, 2] {
        assert_eq!(
            (after[node].seat, after[node].time_micros),
            (before[node].seat, before[node].time_micros)
        );
        assert!(
            is_voting(&world, ALICE, node) && is_voting(&world, BOB, node),
            "a member that remembers votes on"
        );
    }
    assert_eq!(probation_reason(&world, BOB, 1), Some(ProbationReason::PossibleDataLoss));
    assert!(world.is_valid(ALICE, held));
    world.run_for(TTL * 2);
    assert!(world.is_valid(ALICE, held) && !world.has_key_of(1, held), "renewed by the others");
    world.release(ALICE, held);
    world.deliver_all();
    let lock = world.acquire(BOB);
    assert!(!world.has_key_of(1, lock));
    world.release(BOB, lock);
    world.deliver_all();
    let left = probation_left(&world, 1);
    assert!(left > MAX_TTL - TTL * 2 - SETTLING, "the max ttl from the write of the roster: {left:?}");
    restart_client(&mut world, BOB, 0..3);
    assert_votes_after(&mut world, BOB, 1, left + HEAD_START);
    world.disconnect(BOB, 0);
    world.acquire(BOB);
}

/// Node 1 restarts while only a client with another name for one node is connected. Returns whether that client
/// changed something.
fn is_changed_by_another_list() -> bool {
    let mut world = World::fenced(3);
    disconnect_from_all(&mut world, ALICE);
    change_list(&mut world, BOB);
    connect_to_all(&mut world, BOB);
    assert!((0..3).all(|node| is_voting(&world, BOB, node)), "it locks with the members");
    world.restart(1, Data::new());
    world.connect(BOB, 1);
    world.run_for(MAX_TTL * 2);
    if !world.servers[1].node.data().is_empty() || epoch(&world, 0) != "1.0" {
        return true;
    }
    let text = status_text(&world, BOB, 1);
    assert!(text.contains("another list of nodes"), "{text}");
    let lock = world.acquire(BOB);
    assert!(world.has_key_of(0, lock) && world.has_key_of(2, lock));
    world.release(BOB, lock);
    world.disconnect(BOB, 1);
    world.run_for(MAX_TTL);
    assert_eq!(absences(&world, 0), None, "no absence is reported");
    connect_to_all(&mut world, ALICE);
    world.run_for(SETTLING);
    assert!(is_member(&world, 1), "a client with the roster's list gives it its seat");
    false
}

#[test]
fn a_client_with_another_list_of_nodes_changes_nothing_and_locks_with_the_members() {
    assert!(!is_changed_by_another_list());
}

#[test]
fn mutant_any_list_adopts() {
    assert!(with(Some(Mutant::AnyListAdopts), is_changed_by_another_list));
}

/// Bob changes the roster of five nodes while nothing of Alice is delivered. It takes him less than her reply timeout.
fn change_roster_as_bob(world: &mut World) {
    let start = world.now(BOB);
    world.clients[ALICE].is_paused = true;
    world.restart(4, Data::new());
    world.connect(BOB, 4);
    while (0..5).any(|node| epoch(world, node) != "1.1") {
        for node in 0..5 {
            while world.round_trip(BOB, node) {}
        }
        world.run_timers_for(ms(10));
    }
    assert!(world.now(BOB).since(start) < REPLY_TIMEOUT);
    world.clients[ALICE].is_paused = false;
}

/// Alice has two grants of the three that she needs when the roster changes. Returns what becomes of
/// the first of them; `None` if the attempt does not fail at once.
fn vote_after_a_change() -> Option<Vote> {
    let mut world = World::fenced(5);
    let attempt = world.start_acquire(ALICE);
    (0..2).for_each(|node| assert!(world.round_trip(ALICE, node)));
    change_roster_as_bob(&mut world);
    // Node 2 tells her of another marker, and then which.
    assert!(world.round_trip(ALICE, 2));
    assert_eq!(world.undelivered(ALICE, 2), [RequestKind::ReadMarker]);
    assert!(world.round_trip(ALICE, 2));
    assert_eq!(world.clients[ALICE].rosters.last().map(|it| it.epoch.to_string()), Some("1.1".into()));
    let failure = world.take_failure(ALICE);
    world.connect(ALICE, 4);
    world.deliver_all();
    assert!(!world.is_valid(ALICE, attempt));
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0), "it was compensated");
    world.acquire(ALICE);
    failure.map(|mut it| it.votes.swap_remove(0))
}

#[test]
fn an_attempt_fails_when_the_roster_changes_and_the_next_one_succeeds() {
    assert_eq!(vote_after_a_change(), Some(Vote::Unknown(ReplyFailure::MarkerMismatch)));
}

/// Alice's renewal has two votes of three when the roster changes. Returns whether it is made again at once.
fn is_renewed_after_a_change() -> bool {
    let mut world = World::fenced(5);
    let lock = world.acquire(ALICE);
    world.run_timers_for(TTL / 3 + ms(1));
    (0..2).for_each(|node| assert!(world.round_trip(ALICE, node), "a renewal is in flight"));
    let before = world.deadline(ALICE, lock);
    change_roster_as_bob(&mut world);
    // Node 2 tells her of another marker, and then which.
    (0..2).for_each(|_| assert!(world.round_trip(ALICE, 2)));
    assert_eq!(world.deadline(ALICE, lock), before, "two votes of three do not renew it");
    if world.undelivered(ALICE, 2) != [RequestKind::Renew] {
        return false;
    }
    let asked_at = world.now(ALICE);
    world.run_for(ms(1_000));
    let renewed = world.deadline(ALICE, lock);
    assert!(renewed.since(asked_at) >= VALIDITY_TIME && world.is_valid(ALICE, lock), "by votes cast since");
    true
}

#[test]
fn a_renewal_asks_again_when_the_roster_changes_and_the_lease_lives() {
    assert!(is_renewed_after_a_change());
}

#[test]
fn mutant_round_of_two_rosters() {
    let mutant = Some(Mutant::RoundOfTwoRosters);
    assert_ne!(with(mutant, vote_after_a_change), Some(Vote::Unknown(ReplyFailure::MarkerMismatch)));
    assert!(!with(mutant, is_renewed_after_a_change));
}

/// Restarts the node again and returns after which time its seat changes hands.
fn time_until_seated(world: &mut World, node: usize) -> Duration {
    world.restart(node, Data::new());
    (0..2).for_each(|client| world.connect(client, node));
    let start = world.now(ALICE);
    while !is_member(world, node) {
        world.run_for(ms(100));
        assert!(world.now(ALICE).since(start) < MAX_TTL * 5, "the seat does not change hands");
    }
    world.now(ALICE).since(start)
}

#[test]
fn a_seat_changes_hands_again_only_after_the_max_ttl_which_doubles() {
    let mut world = World::fenced(3);
    for pause in [Duration::ZERO, MAX_TTL, MAX_TTL * 2] {
        let wait = time_until_seated(&mut world, 1);
        // A reading sees that the time has come, and then the seat changes hands.
        let range = pause.saturating_sub(SETTLING)..=pause + MARKER_READ_INTERVAL + SETTLING;
        assert!(range.contains(&wait), "{wait:?} is not in {range:?}");
    }
    assert_eq!(epoch(&world, 0), "1.3");
}

#[test]
fn a_seat_changes_hands_again_at_once_if_the_quorum_needs_it() {
    let mut world = World::fenced_with_quorum(5, Some(4), 2);
    restart_and_settle(&mut world, 4, Data::new());
    world.restart(4, Data::new());
    (0..2).for_each(|client| world.connect(client, 4));
    world.run_for(SETTLING);
    assert!(!is_member(&world, 4) && epoch(&world, 0) == "1.1", "the other four are a quorum");
    world.restart(3, Data::new());
    (0..2).for_each(|client| world.connect(client, 3));
    world.run_for(SETTLING * 2);
    assert!(is_member(&world, 3) && is_member(&world, 4) && epoch(&world, 0) == "1.3");
}

#[test]
fn a_server_absent_for_ten_max_ttls_loses_its_seat_and_takes_one_again_when_it_returns() {
    let mut world = World::fenced(3);
    (0..2).for_each(|client| world.disconnect(client, 2));
    let seat = marker(&world, 2).expect("a marker").seat;
    world.run_for(MAX_TTL * 10);
    assert_eq!(epoch(&world, 0), "1.0", "it was reported after a second");
    world.run_for(SETTLING * 2 + MARKER_READ_INTERVAL);
    let current = roster(&world, 0).expect("a roster");
    assert_eq!((current.epoch.to_string(), current.seats[2].id), ("1.1".into(), None));
    let lock = world.acquire(ALICE);
    world.run_for(MAX_TTL);
    (0..2).for_each(|client| world.connect(client, 2));
    world.run_for(SETTLING);
    assert!(
        (0..2).all(|client| world.clients[client].redials == [2]),
        "each client finds that it has no seat"
    );
    (0..2).for_each(|client| world.connect(client, 2));
    world.run_for(SETTLING);
    assert!(is_member(&world, 2) && epoch(&world, 0) == "1.2");
    assert_ne!(marker(&world, 2).expect("a marker").seat, seat, "a seat that was lost never returns");
    assert!((0..2).all(|client| !is_voting(&world, client, 2)), "others may have had its locks");
    world.run_for(MAX_TTL + HEAD_START);
    assert!(world.has_key_of(2, lock));
    // A client that learned of the change from a later reading waits from then on.
    world.run_for(MARKER_READ_INTERVAL);
    assert!((0..2).all(|client| is_voting(&world, client, 2)));
}

#[test]
fn numbers_after_a_change_are_above_all_before_it_although_the_new_clocks_are_behind() {
    const AHEAD_MILLIS: i64 = 3_600_000;
    let mut world = World::unconnected(3, None, 2, Some(MAX_TTL));
    (0..2).for_each(|node| world.shift_clock(node, AHEAD_MILLIS));
    world.initialize_nodes();
    world.connect_all();
    world.deliver_all();
    let lock = world.acquire(ALICE);
    let before = world.fencing_number(ALICE, lock);
    world.release(ALICE, lock);
    world.deliver_all();
    // Both servers whose clocks are ahead are replaced, one after the other.
    for node in 0..2 {
        world.shift_clock(node, -AHEAD_MILLIS);
        restart_and_settle(&mut world, node, Data::new());
        world.run_for(MAX_TTL * 2);
    }
    world.restart(2, Data::new());
    restart_client(&mut world, BOB, 0..2);
    let lock = world.acquire(BOB);
    let after = world.fencing_number(BOB, lock);
    let clock = world.servers[0].node.clock_micros(world.now(BOB).boot_nanos());
    assert!(after > before && before > clock, "{before}, then {after}, at {clock}");
    assert!(roster(&world, 0).is_some_and(|it| it.fence_base >= before));
}

#[test]
fn a_sealed_member_casts_no_vote() {
    let mut world = World::fenced(3);
    disconnect_from_all(&mut world, ALICE);
    world.restart(1, Data::new());
    world.connect(BOB, 1);
    world.deliver_all();
    world.run_timers_for(ms(200));
    assert!(world.round_trip(BOB, 0) && record(&world, 0).is_some_and(|it| it.is_sealed()));
    world.deliver_request(BOB, 2);
    disconnect_from_all(&mut world, BOB);
    restart_client(&mut world, ALICE, 0..3);
    let votes = acquire_expecting_failure(&mut world, ALICE).votes;
    assert!(votes.iter().all(|vote| !vote.is_grant()) && world.key_count() == 0, "{votes:?}");
    world.run_for(SETTLING);
    world.acquire(ALICE);
}
