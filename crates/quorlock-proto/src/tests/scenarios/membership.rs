//! Membership of lock clusters: founding, initialization, restored markers and excluded nodes.
//!
//! A client that may found a lock cluster writes the first markers itself, and the nodes start on probation.
//! Initialization (`quorlock init`) writes markers whose probation is already over.

use super::helpers::cluster;
use super::helpers::set_foreign_roster;
use super::helpers::{
    MARKER_READ_INTERVAL, PROBATION, PROBATION_MINUS_1_MS, acquire_expecting_failure, connect_to_all, data,
    exclusion_reason, is_voting, marker, probation_reason, reconfigure, set_marker, uninitialized_world,
    voting_status,
};
use crate::attempt::FailureReason;
use crate::marker::{ClusterId, LockClusterConfig, Marker};
use crate::membership::InitMode;
use crate::membership::{InitResult, VotingStatus};
use crate::quorum::Quorum;
use crate::request::RequestKind;
use crate::test_util::node::{Data, DataKey, SimulatedNode};
use crate::tests::world::{ALICE, BOB, MAX_TTL, World, ms};
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
    let clusters: Vec<_> = (0..3).map(|node| cluster(&world, node)).collect();
    assert!(clusters[0].is_some() && clusters.iter().all(|id| *id == clusters[0]), "{clusters:?}");
    for client in [ALICE, BOB] {
        assert!(
            (0..3).all(|node| probation_reason(&world, client, node) == Some(ProbationReason::NewNode)),
            "client {client}"
        );
        let failure = acquire_expecting_failure(&mut world, client);
        assert_eq!(failure.reason, FailureReason::OnProbation { retry_after: Some(PROBATION) });
        assert_eq!(
            failure.votes[0],
            Vote::OnProbation { remaining: PROBATION, reason: ProbationReason::NewNode }
        );
        assert!(world.is_nothing_in_flight(client));
    }
    world.run_for(PROBATION_MINUS_1_MS);
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
    let founded = marker(&world, 0);
    world.run_for(ms(10_000));
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
fn founding_waits_for_a_connection_to_every_node() {
    let mut world = uninitialized_world(3, 1);
    (0..2).for_each(|node| world.connect(ALICE, node));
    world.deliver_all();
    assert!((0..3).all(|node| marker(&world, node).is_none()), "the disconnected node may have a marker");
    let failure = acquire_expecting_failure(&mut world, ALICE);
    assert_eq!(failure.votes[0], Vote::Unknown(ReplyFailure::Unverified));
    world.connect(ALICE, 2);
    world.deliver_all();
    assert!((0..3).all(|node| marker(&world, node).is_some()));
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
        "the markers are written at last"
    );
}

#[test]
fn one_node_alone_is_a_lock_cluster() {
    let mut world = uninitialized_world(1, 1);
    connect_to_all(&mut world, ALICE);
    world.run_for(PROBATION);
    world.acquire(ALICE);
    world.restart(0, Data::new());
    connect_to_all(&mut world, ALICE);
    assert_eq!(
        acquire_expecting_failure(&mut world, ALICE).reason,
        FailureReason::OnProbation { retry_after: Some(PROBATION) }
    );
}

#[test]
fn a_lost_marker_is_restored_only_if_enough_other_nodes_show_it() {
    let mut world = World::fenced(3);
    let connect_bob = |world: &mut World, up: &[usize]| {
        for node in up {
            world.connect(BOB, *node);
        }
        world.deliver_all();
    };
    (0..3).for_each(|node| world.disconnect(BOB, node));
    let quorum = world.quorum();
    reconfigure(&mut world, BOB, quorum, MAX_TTL, true);
    (0..3).for_each(|node| world.disconnect(ALICE, node));
    world.flush(1);
    connect_bob(&mut world, &[0, 1]);
    assert!(marker(&world, 1).is_none(), "one node shows the lock cluster; it could be {{a, d, e}}");
    assert_eq!(acquire_expecting_failure(&mut world, BOB).votes[1], Vote::Unknown(ReplyFailure::Unverified));
    connect_bob(&mut world, &[2]);
    assert!(marker(&world, 1).is_some(), "two of three nodes show it");

    // If the quorum is all nodes, all other nodes are enough.
    let mut world = World::fenced(2);
    world.flush(1);
    reconfigure(&mut world, BOB, Quorum::new(2, None).expect("two"), MAX_TTL, true);
    (0..2).for_each(|node| world.disconnect(BOB, node));
    (0..2).for_each(|node| world.disconnect(ALICE, node));
    connect_to_all(&mut world, BOB);
    assert_eq!(cluster(&world, 1), cluster(&world, 0));
}

#[test]
fn after_data_loss_on_a_quorum_only_a_client_that_knew_the_nodes_restores_their_markers() {
    let mut world = World::fenced(3);
    (0..3).for_each(|node| world.disconnect(BOB, node));
    let quorum = world.quorum();
    reconfigure(&mut world, BOB, quorum, MAX_TTL, true);
    world.restart(0, Data::new());
    world.restart(1, Data::new());
    connect_to_all(&mut world, BOB);
    assert_eq!(
        (exclusion_reason(&world, BOB, 0), exclusion_reason(&world, BOB, 1)),
        (Some(ExclusionReason::Uninitialized), Some(ExclusionReason::Uninitialized))
    );
    assert!(matches!(exclusion_reason(&world, BOB, 2), Some(ExclusionReason::ClusterMismatch(_))));
    assert_eq!(acquire_expecting_failure(&mut world, BOB).reason, FailureReason::NodesExcluded);
    connect_to_all(&mut world, ALICE);
    assert!(
        (0..2).all(|node| probation_reason(&world, ALICE, node) == Some(ProbationReason::PossibleDataLoss))
    );
    world.run_for(MARKER_READ_INTERVAL);
    assert!(
        (0..2).all(|node| probation_reason(&world, BOB, node).is_some()),
        "so the new client finds the restored markers"
    );
}

/// Two node lists that share one node: quorum intersection does not hold between them.
#[test]
fn two_lock_clusters_never_share_a_node() {
    let mut other_world = World::fenced(3);
    let lock = other_world.acquire(ALICE);
    let mut world = uninitialized_world(3, 1);
    world.servers[0].node = other_world.servers[0].node.clone();
    let config = LockClusterConfig::new(world.quorum(), MAX_TTL);
    (1..3).for_each(|node| world.servers[node].node = SimulatedNode::new(node + 2, config));
    connect_to_all(&mut world, ALICE);
    assert!(matches!(exclusion_reason(&world, ALICE, 0), Some(ExclusionReason::ClusterMismatch(_))));
    assert_eq!(
        (exclusion_reason(&world, ALICE, 1), exclusion_reason(&world, ALICE, 2)),
        (Some(ExclusionReason::Uninitialized), Some(ExclusionReason::Uninitialized))
    );
    assert_eq!(acquire_expecting_failure(&mut world, ALICE).reason, FailureReason::NodesExcluded);
    assert_eq!(world.initialize_as(ALICE, 7, InitMode::Blank), Some(InitResult::InOtherLockCluster));
    assert!((1..3).all(|node| marker(&world, node).is_none()) && world.has_key_of(0, lock));

    // The other two nodes are a lock cluster of their own. The shared node affects neither lock cluster.
    let mut world = World::fenced(3);
    world.servers[0].node = other_world.servers[0].node.clone();
    let text = set_foreign_roster(&mut world, 0, ClusterId::new(9), "a:b");
    (0..2).for_each(|client| world.disconnect(client, 0));
    connect_to_all(&mut world, ALICE);
    assert!(matches!(exclusion_reason(&world, ALICE, 0), Some(ExclusionReason::ClusterMismatch(_))));
    assert!(is_voting(&world, ALICE, 1) && is_voting(&world, ALICE, 2));
    assert_eq!(data(&world, 0).get(&DataKey::Marker).and_then(|it| it.value.clone()), Some(text.into()));
}

#[test]
fn a_client_with_other_settings_is_excluded_and_changes_nothing() {
    let five = Quorum::new(5, None).expect("a quorum");
    let four = Quorum::new(5, Some(4)).expect("a quorum");
    for (quorum, max_ttl) in [(four, MAX_TTL), (five, MAX_TTL * 2)] {
        let mut world = World::fenced(5);
        let before = marker(&world, 0);
        (0..5).for_each(|node| world.disconnect(BOB, node));
        reconfigure(&mut world, BOB, quorum, max_ttl, true);
        connect_to_all(&mut world, BOB);
        let Some(ExclusionReason::ClusterMismatch(reason)) = exclusion_reason(&world, BOB, 0) else {
            panic!("not excluded")
        };
        assert!(reason.contains("a quorum of 3, a max ttl of 30s"), "{reason}");
        assert_eq!(acquire_expecting_failure(&mut world, BOB).reason, FailureReason::NodesExcluded);
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
    world.run_for(MARKER_READ_INTERVAL);
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
fn nodes_that_were_never_connected_all_at_once_are_not_founded() {
    let mut world = uninitialized_world(3, 1);
    world.connect(ALICE, 0);
    world.disconnect(ALICE, 0);
    (1..3).for_each(|node| world.connect(ALICE, node));
    world.deliver_all();
    assert!((0..3).all(|node| marker(&world, node).is_none()));
    assert!(exclusion_reason(&world, ALICE, 1).is_some());
}

/// Knowing a lock cluster proves nothing about a node that the client never saw in it.
#[test]
fn a_client_restores_from_memory_only_the_markers_of_nodes_that_it_knew() {
    let mut world = uninitialized_world(5, 1);
    world.initialize_nodes();
    (0..3).for_each(|node| world.connect(ALICE, node));
    world.deliver_all();
    (0..2).for_each(|node| world.restart(node, Data::new()));
    world.servers[4].node.restart(Data::new());
    (0..2).chain([4]).for_each(|node| world.connect(ALICE, node));
    assert!(
        (0..2).all(|node| world.undelivered(ALICE, node) == [RequestKind::ReadMarker]),
        "their markers are restored"
    );
    assert_eq!(world.undelivered(ALICE, 4), [], "not until enough other nodes show the lock cluster");
}

/// Alice knows one lock cluster; another client has begun to restore a different one on the same nodes.
#[test]
fn a_client_restores_no_marker_from_memory_if_a_node_shows_another_lock_cluster() {
    let mut world = World::fenced(3);
    (0..3).for_each(|node| world.restart(node, Data::new()));
    let incarnation = world.servers[0].node.incarnation();
    set_foreign_roster(&mut world, 0, ClusterId::new(9), incarnation.as_str());
    world.disconnect(BOB, 0);
    world.connect(ALICE, 0);
    world.connect(ALICE, 2);
    world.connect(ALICE, 1);
    world.deliver_all();
    let clusters: Vec<_> = (0..3).map(|node| cluster(&world, node)).collect();
    assert_eq!(clusters, [Some(ClusterId::new(9)), None, None]);
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
    world.deliver_all();
    let clusters: Vec<_> = (0..3).map(|node| cluster(&world, node)).collect();
    assert!(clusters[0].is_some() && clusters.iter().all(|it| *it == clusters[0]), "{clusters:?}");
    world.run_for(PROBATION + ms(1));
    for client in [ALICE, BOB] {
        let statuses: Vec<_> = (0..3).map(|node| voting_status(&world, client, node)).collect();
        assert_eq!(statuses, vec![VotingStatus::Voting; 3], "client {client}");
    }
}
