//! Membership of lock clusters: founding with all nodes, and nodes that are excluded.
//!
//! A client that may found a lock cluster does so itself, and the nodes start on probation. Initialization
//! (`quorlock init`) writes markers whose probation is already over.

use super::helpers::{
    MARKER_READ_INTERVAL, PROBATION, SETTLING, acquire_expecting_failure, change_list, connect_to_all, data,
    disconnect_from_all, exclusion_reason, is_member, is_voting, marker, probation_reason, reconfigure,
    restart_and_settle, roster, set_foreign_roster, set_marker, uninitialized_world, votes_in, voting_status,
};
use crate::attempt::FailureReason;
use crate::marker::LockClusterConfig;
use crate::membership::InitMode;
use crate::membership::{InitResult, VotingStatus};
use crate::quorum::Quorum;
use crate::request::RequestKind;
use crate::roster::NodeList;
use crate::test_util::founding::node_list;
use crate::test_util::node::{Data, DataKey, SimulatedNode};
use crate::tests::world::{ALICE, AcquireOptions, BOB, MAX_TTL, World, ms};
use crate::vote::{ExclusionReason, ProbationReason, ReplyFailure, Vote};

#[test]
fn the_first_client_founds_a_lock_cluster_on_probation() {
    let mut world = uninitialized_world(3, 2);
    world.connect_all();
    // Both clients read missing markers, so both write them.
    assert!(
        (0..2).all(|client| (0..3).all(|node| world.undelivered(client, node) == [RequestKind::ReadMarker]))
    );
    world.deliver_all();
    assert!((0..3).all(|node| marker(&world, node).is_some() && roster(&world, node).is_none()));
    world.run_for(SETTLING);
    let rosters: Vec<_> = (0..3).map(|node| roster(&world, node)).collect();
    assert!(rosters[0].is_some() && rosters.iter().all(|it| *it == rosters[0]), "{rosters:?}");
    // It counts from when the seats were drawn.
    let wait = PROBATION - SETTLING;
    for client in [ALICE, BOB] {
        assert!(
            (0..3).all(|node| probation_reason(&world, client, node) == Some(ProbationReason::NewNode)),
            "client {client}"
        );
        let failure = acquire_expecting_failure(&mut world, client);
        assert_eq!(failure.reason, FailureReason::OnProbation { retry_after: Some(wait) });
        assert_eq!(failure.votes[0], Vote::OnProbation { remaining: wait, reason: ProbationReason::NewNode });
        assert!(world.is_nothing_in_flight(client));
    }
    world.run_for(wait - ms(1));
    let failure = acquire_expecting_failure(&mut world, ALICE);
    assert_eq!(failure.reason, FailureReason::OnProbation { retry_after: Some(ms(1)) });
    world.run_for(ms(1));
    assert!((0..3).all(|node| is_voting(&world, ALICE, node) && is_voting(&world, BOB, node)));
    world.acquire(ALICE);
}

#[test]
fn a_later_client_finds_the_founded_lock_cluster() {
    let mut world = uninitialized_world(3, 2);
    connect_to_all(&mut world, ALICE);
    world.run_for(SETTLING);
    let founded = marker(&world, 0);
    world.run_for(ms(10_000) - SETTLING);
    connect_to_all(&mut world, BOB);
    assert_eq!(marker(&world, 0), founded, "no marker is written again");
    let failure = acquire_expecting_failure(&mut world, BOB);
    assert_eq!(
        failure.reason,
        FailureReason::OnProbation { retry_after: Some(ms(20_500)) },
        "the remaining probation by the markers"
    );
}

#[test]
fn a_node_that_rejects_its_marker_has_the_status_of_its_reply() {
    let mut world = uninitialized_world(3, 1);
    let out_of_memory = ReplyFailure::TransientError("OOM command not allowed".into());
    let denied = ExclusionReason::PermissionDenied("NOPERM".into());
    world.connect_all();
    for (node, reply) in
        [Vote::Unknown(out_of_memory.clone()), Vote::Excluded(denied.clone())].into_iter().enumerate()
    {
        world.servers[node].canned_replies.extend((0..20).map(|_| reply.clone()));
    }
    world.deliver_all();
    // Retries do not change the status in between.
    for _ in 0..3 {
        assert_eq!(voting_status(&world, ALICE, 0), VotingStatus::Unverified(Some(out_of_memory.clone())));
        assert_eq!(voting_status(&world, ALICE, 1), VotingStatus::Excluded(denied.clone()));
        let votes = acquire_expecting_failure(&mut world, ALICE).votes;
        assert_eq!(votes[..2], [Vote::Unknown(out_of_memory.clone()), Vote::Excluded(denied.clone())]);
        world.run_for(ms(700));
    }
    let changes = world.clients[ALICE].status_changes;
    world.run_for(ms(3_000));
    assert_eq!(world.clients[ALICE].status_changes, changes, "an unchanged status is not reported again");
    world.servers.iter_mut().for_each(|server| server.canned_replies.clear());
    world.run_for(ms(2_000));
    assert!(
        (0..3).all(|node| probation_reason(&world, ALICE, node) == Some(ProbationReason::NewNode)),
        "the lock cluster is founded at last"
    );
}

#[test]
fn one_node_alone_is_a_lock_cluster() {
    let mut world = uninitialized_world(1, 1);
    connect_to_all(&mut world, ALICE);
    world.run_for(SETTLING + PROBATION);
    world.acquire(ALICE);
    restart_and_settle(&mut world, 0, Data::new());
    let wait = votes_in(&world, ALICE, 0);
    assert!(wait > PROBATION - SETTLING && wait <= PROBATION, "{wait:?}");
    assert_eq!(
        acquire_expecting_failure(&mut world, ALICE).reason,
        FailureReason::OnProbation { retry_after: Some(wait) }
    );
    world.run_for(wait);
    world.acquire(ALICE);
}

/// The address of node 0 leads to a lock cluster of one node, which is its own quorum.
#[test]
fn a_client_does_not_follow_another_lock_cluster_while_its_own_is_down() {
    let mut world = World::fenced(3);
    disconnect_from_all(&mut world, ALICE);
    let incarnation = world.servers[0].node.incarnation();
    set_foreign_roster(&mut world, 0, &NodeList::new(&["node 7"]), incarnation.as_str());
    let quorum = world.quorum();
    reconfigure(&mut world, ALICE, quorum, MAX_TTL, true);
    world.connect(ALICE, 0);
    world.run_for(MAX_TTL * 2);
    assert_eq!(acquire_expecting_failure(&mut world, ALICE).reason, FailureReason::NoQuorum);
    world.connect(ALICE, 1);
    world.connect(ALICE, 2);
    world.run_for(SETTLING);
    assert!(is_voting(&world, ALICE, 1) && is_voting(&world, ALICE, 2));
    let reason = exclusion_reason(&world, ALICE, 0);
    assert!(matches!(reason, Some(ExclusionReason::ClusterMismatch(_))), "{reason:?}");
}

/// Two node lists that share one node: quorum intersection does not hold between them.
#[test]
fn two_lock_clusters_never_share_a_node() {
    let mut other_world = World::fenced(3);
    other_world.acquire(ALICE);
    let mut world = uninitialized_world(3, 1);
    world.servers[0].node = other_world.servers[0].node.clone();
    let config = LockClusterConfig::new(world.quorum(), MAX_TTL);
    (1..3).for_each(|node| world.servers[node].node = SimulatedNode::new(node + 2, config));
    change_list(&mut world, ALICE);
    connect_to_all(&mut world, ALICE);
    world.run_for(MAX_TTL * 2);
    for node in 1..3 {
        let reason = exclusion_reason(&world, ALICE, node);
        assert!(matches!(reason, Some(ExclusionReason::OtherNodeList(_))), "{reason:?}");
    }
    assert_eq!(acquire_expecting_failure(&mut world, ALICE).reason, FailureReason::NodesExcluded);
    assert_eq!(world.initialize_as(ALICE, 7, InitMode::Blank), Some(InitResult::InOtherLockCluster));
    assert!((1..3).all(|node| marker(&world, node).is_none()));

    // The other two nodes are a lock cluster of their own. The shared node affects neither lock cluster, also after
    // a restart.
    let (ours, theirs) = (node_list(3), NodeList::new(&["node 0", "node 7", "node 8"]));
    for (list, remembers) in [(&theirs, true), (&theirs, false), (&ours, true)] {
        let mut world = World::fenced(3);
        let incarnation = world.servers[0].node.incarnation();
        let incarnation = if remembers { incarnation.as_str() } else { "a:b" };
        let text = set_foreign_roster(&mut world, 0, list, incarnation);
        (0..2).for_each(|client| world.disconnect(client, 0));
        connect_to_all(&mut world, ALICE);
        world.run_for(MAX_TTL * 2);
        let reason = exclusion_reason(&world, ALICE, 0);
        assert!(
            matches!(reason, Some(ExclusionReason::ClusterMismatch(_))),
            "{list:?}, {remembers}: {reason:?}"
        );
        assert!(is_voting(&world, ALICE, 1) && is_voting(&world, ALICE, 2));
        assert_eq!(data(&world, 0)[&DataKey::Marker].value.as_deref(), Some(text.as_bytes()));
    }
}

/// What it carries is of an earlier lock cluster at these addresses, and it has no vote there.
#[test]
fn a_server_that_has_lost_its_memory_of_another_lock_cluster_with_our_list_takes_the_seat() {
    let mut world = World::fenced(3);
    set_foreign_roster(&mut world, 0, &node_list(3), "a:b");
    (0..2).for_each(|client| world.disconnect(client, 0));
    connect_to_all(&mut world, ALICE);
    world.run_for(SETTLING);
    assert!(is_member(&world, 0) && roster(&world, 0) == roster(&world, 1));
    assert!(probation_reason(&world, ALICE, 0).is_some());
}

#[test]
fn a_client_with_other_settings_follows_those_of_the_lock_cluster() {
    let five = Quorum::new(5, None).expect("a quorum");
    let four = Quorum::new(5, Some(4)).expect("a quorum");
    for (quorum, max_ttl) in [(four, MAX_TTL), (five, MAX_TTL * 2)] {
        let mut world = World::fenced(5);
        let before = marker(&world, 0);
        (0..5).for_each(|node| world.disconnect(BOB, node));
        reconfigure(&mut world, BOB, quorum, max_ttl, true);
        connect_to_all(&mut world, BOB);
        let coordinator = &world.clients[BOB].coordinator;
        assert_eq!((coordinator.current_quorum(), coordinator.max_ttl()), (world.quorum(), MAX_TTL));
        let options = AcquireOptions { ttl: MAX_TTL + ms(1), ..AcquireOptions::default() };
        world.start_acquire_with(BOB, options);
        let failure = world.take_failure(BOB).expect("a longer ttl is an error");
        assert_eq!(failure.reason, FailureReason::NodesExcluded);
        let lock = world.acquire(BOB);
        world.release(BOB, lock);
        world.deliver_all();
        assert_eq!(world.initialize_as(BOB, 7, InitMode::Blank), Some(InitResult::InOtherLockCluster));
        assert_eq!(marker(&world, 0), before);
    }
}

#[test]
fn an_unreadable_marker_excludes_its_node_and_is_not_overwritten() {
    for text in ["hello", "quorlock2", "quorlock1 00 3 2 30000 a:b 1", "quorlock3 00 3 2 30000 a:b 1 1"] {
        let mut world = World::fenced(3);
        set_marker(&mut world, 1, text);
        world.run_for(MARKER_READ_INTERVAL);
        assert!(
            matches!(exclusion_reason(&world, ALICE, 1), Some(ExclusionReason::Unsupported(_))),
            "{text:?}"
        );
        let lock = world.acquire(ALICE);
        assert!(world.has_key_of(0, lock) && !world.has_key_of(1, lock) && world.has_key_of(2, lock));
        assert_eq!(data(&world, 1)[&DataKey::Marker].value.as_deref(), Some(text.as_bytes()));
    }
}

#[test]
fn a_node_with_eviction_enabled_does_not_vote_until_it_is_disabled() {
    let mut world = World::fenced(3);
    world.servers[1].node.evicts = true;
    world.run_for(MARKER_READ_INTERVAL);
    assert_eq!(exclusion_reason(&world, ALICE, 1), Some(ExclusionReason::EvictionEnabled));
    let lock = world.acquire(ALICE);
    assert!(!world.has_key_of(1, lock));
    world.servers[1].node.evicts = false;
    world.run_for(MARKER_READ_INTERVAL + SETTLING);
    assert_eq!(
        probation_reason(&world, ALICE, 1),
        Some(ProbationReason::PossibleDataLoss),
        "it may have evicted data meanwhile"
    );
    world.connect(BOB, 1);
    world.deliver_all();
    assert!(!is_voting(&world, BOB, 1), "for a later client too");
    world.run_for(PROBATION);
    assert!(is_voting(&world, ALICE, 1) && is_voting(&world, BOB, 1));
}

#[test]
fn after_data_loss_on_all_nodes_old_and_new_clients_found_the_same_lock_cluster() {
    let mut world = uninitialized_world(3, 2);
    world.initialize_nodes();
    (0..3).for_each(|node| world.connect(ALICE, node));
    world.deliver_all();
    (0..3).for_each(|node| world.restart(node, Data::new()));
    // Both clients connect to the nodes one by one, in different orders. Their writes arrive at once.
    for (client, node) in [(BOB, 0), (ALICE, 0), (ALICE, 1), (BOB, 1), (BOB, 2), (ALICE, 2)] {
        world.connect(client, node);
        world.deliver_all();
    }
    world.run_for(SETTLING);
    let rosters: Vec<_> = (0..3).map(|node| roster(&world, node)).collect();
    assert!(rosters[0].is_some() && rosters.iter().all(|it| *it == rosters[0]), "{rosters:?}");
    world.run_for(PROBATION + ms(1));
    for client in [ALICE, BOB] {
        let statuses: Vec<_> = (0..3).map(|node| voting_status(&world, client, node)).collect();
        assert_eq!(statuses, vec![VotingStatus::Voting; 3], "client {client}");
    }
}
