//! Reconfigurations: what a client that makes one does step by step, and what other clients notice.

use std::time::Duration;

use super::helpers::{
    HEAD_START, SETTLING, acquire_expecting_failure, epoch, exclusion_reason, is_member, is_voting, record,
    set_foreign_roster,
};
use crate::attempt::FailureReason;
use crate::membership::{NewNodeProblem, NextStep};
use crate::quorum::{NodeId, NodeSet};
use crate::roster::NodeList;
use crate::test_util::node::Data;
use crate::tests::world::{ALICE, AcquireOptions, BOB, MAX_TTL, TTL, World, ms};
use crate::vote::{ExclusionReason, Vote};

/// Three nodes, whose clients have no other in their list, and spare servers.
fn with_spares(spares: usize) -> World {
    let mut world = World::fenced(3);
    world.add_spares(spares);
    world
}

fn next_step(world: &World, client: usize) -> Option<NextStep> {
    world.clients[client].progress.as_ref().map(|progress| progress.next.clone())
}

/// The number of nodes, the quorum and the max ttl in force, as the client knows them.
fn in_force(world: &World, client: usize) -> (usize, usize, Duration) {
    let roster = &world.clients[client].progress.as_ref().expect("a roster").roster;
    (roster.seats.len(), roster.config.quorum().needed(), roster.config.max_ttl())
}

#[test]
fn a_held_lock_survives_an_exchange_and_the_new_node_votes_after_its_probation() {
    let mut world = with_spares(1);
    let held = world.acquire(ALICE);
    let carol = world.reconfigure(&[0, 1, 3], (None, None), false);
    world.run_for(SETTLING);
    assert_eq!(next_step(&world, carol), Some(NextStep::AfterProbation([NodeId(3)].into_iter().collect())));
    assert!(is_member(&world, 3) && !is_member(&world, 2) && epoch(&world, 2) == "1.1");
    world.run_for(TTL * 2);
    assert!(world.is_valid(ALICE, held) && world.clients[ALICE].redials.is_empty());
    let left = exclusion_reason(&world, ALICE, 2);
    assert!(matches!(left, Some(ExclusionReason::OtherNodeList(_))), "{left:?}");
    assert_ne!(next_step(&world, carol), Some(NextStep::Done), "the new node is on probation");
    world.run_for(MAX_TTL - TTL * 2 + HEAD_START * 2);
    assert!(is_voting(&world, carol, 3));
    assert_eq!(next_step(&world, carol), Some(NextStep::Done));
    let roster = record(&world, 0).and_then(|it| it.roster).expect("a roster");
    assert!(roster.seats.iter().all(|seat| seat.changed_millis == 0), "no seat has changed hands");
    // The client of the earlier list has two of the three members.
    world.release(ALICE, held);
    world.deliver_all();
    let lock = world.acquire(BOB);
    assert!(world.has_key_of(0, lock) && world.has_key_of(1, lock) && !world.has_key_of(3, lock));
}

/// It has read only one node since the step. It must not wait for its regular readings of the others: renewals would fail
/// meanwhile.
#[test]
fn a_client_with_the_earlier_list_that_learns_of_a_step_reads_the_other_members_at_once() {
    let mut world = with_spares(1);
    world.reconfigure(&[0, 1, 3], (None, None), false);
    world.run_for(SETTLING);
    world.disconnect(ALICE, 1);
    world.connect(ALICE, 1);
    world.deliver_all();
    assert!(is_voting(&world, ALICE, 0) && is_voting(&world, ALICE, 1));
}

#[test]
fn each_step_waits_until_the_locks_before_it_have_ended() {
    let mut world = with_spares(2);
    let carol = world.reconfigure(&[0, 1, 2, 3, 4], (None, None), false);
    world.run_for(SETTLING);
    assert_eq!(in_force(&world, carol), (4, 3, MAX_TTL), "the founding roster has none before it");
    world.run_for(MAX_TTL - SETTLING);
    assert_eq!(in_force(&world, carol), (4, 3, MAX_TTL));
    world.run_for(MAX_TTL / 50 + SETTLING * 2);
    assert_eq!(in_force(&world, carol), (5, 3, MAX_TTL));
    let epoch_after = epoch(&world, 0);
    world.run_for(MAX_TTL * 3);
    assert_eq!((next_step(&world, carol), epoch(&world, 0)), (Some(NextStep::Done), epoch_after));
}

#[test]
fn a_client_with_too_few_of_the_members_in_its_list_is_excluded() {
    let mut world = with_spares(3);
    let carol = world.reconfigure(&[2, 3, 4], (None, None), false);
    world.run_for(MAX_TTL * 3);
    assert_eq!(next_step(&world, carol), Some(NextStep::Done));
    let failure = acquire_expecting_failure(&mut world, ALICE);
    assert_eq!(failure.reason, FailureReason::NodesExcluded);
    let reason = exclusion_reason(&world, ALICE, 2).expect("excluded").to_string();
    assert!(reason.contains("this client's list names 1 of these nodes"), "{reason}");
}

#[test]
fn clients_follow_a_larger_quorum() {
    let mut world = World::fenced(3);
    let carol = world.reconfigure(&[0, 1, 2], (Some(3), None), false);
    world.run_for(MAX_TTL * 2);
    assert_eq!((next_step(&world, carol), in_force(&world, carol)), (Some(NextStep::Done), (3, 3, MAX_TTL)));
    world.disconnect(ALICE, 1);
    let failure = acquire_expecting_failure(&mut world, ALICE);
    assert_eq!(failure.reason, FailureReason::NoQuorum, "two grants are no quorum any more");
}

#[test]
fn a_shorter_max_ttl_shortens_held_locks_and_rejects_longer_ones() {
    let mut world = World::fenced(3);
    let held = world.acquire(ALICE);
    let shorter = TTL / 2;
    let carol = world.reconfigure(&[0, 1, 2], (None, Some(shorter)), false);
    world.run_for(SETTLING);
    assert_eq!(in_force(&world, carol), (3, 2, shorter));
    let roster = record(&world, 0).and_then(|it| it.roster).expect("a roster");
    assert_eq!(roster.probation, MAX_TTL, "longer locks may run");
    world.run_for(TTL);
    assert!(world.is_valid(ALICE, held));
    let left = world.deadline(ALICE, held).since(world.now(ALICE));
    assert!(left < shorter, "{left:?}");
    let failure = acquire_expecting_failure(&mut world, BOB);
    assert_eq!(failure.reason, FailureReason::NodesExcluded, "a ttl of {TTL:?} is too long");
    world.release(ALICE, held);
    world.deliver_all();
    world.acquire_with(BOB, AcquireOptions { ttl: shorter, ..AcquireOptions::default() });
    world.run_for(MAX_TTL * 2);
    let roster = record(&world, 0).and_then(|it| it.roster).expect("a roster");
    assert_eq!((roster.probation, next_step(&world, carol)), (shorter, Some(NextStep::Done)));
}

/// Nothing follows the reading that shows it, so it must be known with it.
#[test]
fn a_dry_run_knows_of_a_foreign_new_node_that_is_read_last() {
    let mut world = with_spares(1);
    let incarnation = world.servers[3].node.incarnation();
    set_foreign_roster(&mut world, 3, &NodeList::new(&["node 7", "node 8", "node 9"]), incarnation.as_str());
    let carol = world.reconfigure(&[0, 1, 3], (None, None), true);
    let unready = world.clients[carol].progress.as_ref().map(|it| it.unready.clone()).expect("progress");
    let is_foreign = |it: &(NodeId, NewNodeProblem)| {
        matches!(it, (NodeId(3), NewNodeProblem::Excluded(ExclusionReason::ClusterMismatch(_))))
    };
    assert!(unready.iter().any(is_foreign), "{unready:?}");
}

#[test]
fn a_dry_run_writes_nothing() {
    let mut world = with_spares(1);
    let carol = world.reconfigure(&[0, 1, 3], (None, None), true);
    world.run_for(MAX_TTL * 2);
    assert_eq!(in_force(&world, carol), (3, 2, MAX_TTL));
    assert_eq!(world.clients[carol].progress.as_ref().map(|it| it.nodes), Some(nodes(0..3)));
    assert!(epoch(&world, 0) == "1.0" && world.servers[3].node.data().is_empty());
}

#[test]
fn a_member_that_forgets_during_a_reconfiguration_gets_its_seat_back() {
    let mut world = with_spares(1);
    let carol = world.reconfigure(&[0, 1, 3], (None, None), false);
    world.run_for(SETTLING);
    // No client but the one that reconfigures has the list in force.
    world.restart(1, Data::new());
    (0..3).for_each(|client| world.connect(client, 1));
    world.run_for(SETTLING + ms(1_000));
    assert!(is_member(&world, 1), "{:?}", next_step(&world, carol));
    world.run_for(MAX_TTL * 2);
    assert_eq!(next_step(&world, carol), Some(NextStep::Done));
}

#[test]
fn a_client_that_reconfigures_rests_while_no_server_has_a_roster() {
    let mut world = with_spares(1);
    let carol = world.reconfigure(&[0, 1, 3], (None, None), false);
    world.run_for(SETTLING);
    (0..4).for_each(|node| world.restart(node, Data::new()));
    (0..4).for_each(|node| world.connect(carol, node));
    // The locks of the roster that it knew end meanwhile. It would wake for them again and again.
    world.run_for(MAX_TTL * 2);
    assert!(record(&world, 0).is_none_or(|it| it.roster.is_none()));
}

/// What keeps each new node from a seat: it is named at once, whatever else is waited for.
#[test]
fn the_reason_why_a_new_node_gets_no_seat_is_known() {
    let unready = |world: &World, client: usize| {
        world.clients[client].progress.as_ref().map(|it| it.unready.clone()).expect("progress")
    };
    for is_dry_run in [false, true] {
        let mut world = with_spares(2);
        world.servers[3].node.evicts = true;
        let carol = world.reconfigure(&[0, 1, 3], (None, None), is_dry_run);
        world.run_for(SETTLING);
        let reason = NewNodeProblem::Excluded(ExclusionReason::EvictionEnabled);
        assert_eq!(unready(&world, carol), [(NodeId(3), reason)]);
        assert_eq!(next_step(&world, carol), Some(NextStep::AfterNewNode(NodeId(3))));
        world.disconnect(carol, 3);
        world.servers[3].node.evicts = false;
        world.run_for(SETTLING);
        assert_eq!(unready(&world, carol), [(NodeId(3), NewNodeProblem::NotConnected)]);
        world.connect(carol, 3);
        world.run_for(SETTLING);
        assert_eq!(unready(&world, carol), []);
    }
    // A server that rejects its record at each attempt.
    let mut world = with_spares(1);
    let denied = Vote::Excluded(ExclusionReason::PermissionDenied("NOPERM".into()));
    world.servers[3].canned_replies.extend(vec![denied.clone(); 100]);
    let carol = world.reconfigure(&[0, 1, 3], (None, None), false);
    world.run_for(MAX_TTL);
    assert!(!world.servers[3].canned_replies.is_empty());
    assert_eq!(unready(&world, carol), [(NodeId(3), NewNodeProblem::RejectsRecord(denied))]);
    assert_eq!(next_step(&world, carol), Some(NextStep::AfterNewNode(NodeId(3))));
}

/// A member that does not reply is named as long as it has not learned the roster.
#[test]
fn members_that_have_not_learned_the_roster_are_named() {
    let mut world = World::fenced(5);
    world.add_spares(1);
    let carol = world.reconfigure(&[1, 2, 3, 4, 5], (None, None), false);
    world.disconnect(carol, 1);
    world.run_for(MAX_TTL * 2);
    assert_eq!(next_step(&world, carol), Some(NextStep::Done));
    let unreached = |world: &World| world.clients[carol].progress.as_ref().map(|it| it.unreached);
    assert_eq!(unreached(&world), Some(nodes([1])));
    world.connect(carol, 1);
    world.run_for(SETTLING);
    assert_eq!(unreached(&world), Some(NodeSet::EMPTY));
}

fn nodes(indices: impl IntoIterator<Item = u8>) -> NodeSet {
    indices.into_iter().map(NodeId).collect()
}
