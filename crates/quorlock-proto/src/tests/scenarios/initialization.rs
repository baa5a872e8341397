//! Initialization of lock clusters (`quorlock init`), which writes markers whose probation is already over.

use super::helpers::{
    MARKER_READ_INTERVAL, PROBATION, change_list, cluster, connect_to_all, data, disconnect_from_all,
    exclusion_reason, is_voting, marker, probation_reason, reconfigure, roster, set_foreign_roster,
    set_marker, uninitialized_world,
};
use crate::coordinator::OperationEvent;
use crate::marker::ClusterId;
use crate::membership::InitMode;
use crate::membership::InitResult;
use crate::request::RequestKind;
use crate::test_util::founding::node_list;
use crate::test_util::node::{Data, DataKey};
use crate::tests::world::{ALICE, BOB, MAX_TTL, World};
use crate::vote::{ExclusionReason, ProbationReason, ReplyFailure, Vote};

#[test]
fn initialized_nodes_vote_at_once() {
    for may_found in [false, true] {
        let mut world = uninitialized_world(3, 2);
        let quorum = world.quorum();
        reconfigure(&mut world, ALICE, quorum, MAX_TTL, may_found);
        connect_to_all(&mut world, ALICE);
        let expected = (!may_found).then_some(ExclusionReason::Uninitialized);
        assert_eq!(
            exclusion_reason(&world, ALICE, 0),
            expected,
            "a client that may not found writes no marker"
        );
        assert_eq!(
            world.initialize_as(ALICE, 7, if may_found { InitMode::Forced } else { InitMode::Blank }),
            Some(InitResult::Initialized)
        );
        let id = Some(ClusterId::new(7));
        assert!((0..3).all(|node| cluster(&world, node) == id));
        connect_to_all(&mut world, BOB);
        assert!((0..3).all(|node| is_voting(&world, BOB, node)), "for any first client");
        world.acquire(BOB);
    }
}

#[test]
fn a_forced_initialization_starts_probation_at_clients_that_knew_the_old_marker() {
    let mut world = World::fenced(3);
    assert_eq!(world.initialize_as(ALICE, 7, InitMode::Forced), Some(InitResult::Initialized));
    world.run_for(MARKER_READ_INTERVAL);
    // The nodes may have held locks under the old marker.
    assert!(
        (0..3).all(|node| probation_reason(&world, BOB, node) == Some(ProbationReason::PossibleDataLoss))
    );
    world.run_for(PROBATION);
    world.acquire(BOB);
}

#[test]
fn nodes_with_markers_are_initialized_only_by_force() {
    let mut world = World::fenced(3);
    let before = marker(&world, 0);
    assert_eq!(world.initialize_as(ALICE, 7, InitMode::Blank), Some(InitResult::AlreadyInitialized));
    assert_eq!(marker(&world, 0), before);

    let mut world = uninitialized_world(3, 1);
    set_marker(&mut world, 1, "something");
    connect_to_all(&mut world, ALICE);
    assert_eq!(world.initialize_as(ALICE, 7, InitMode::Blank), Some(InitResult::InOtherLockCluster));
    assert!((0..3).all(|node| roster(&world, node).is_none()), "nothing was founded");
    assert_eq!(data(&world, 1)[&DataKey::Marker].value.as_deref(), Some(b"something" as &[u8]));
    assert_eq!(world.initialize_as(ALICE, 7, InitMode::Forced), Some(InitResult::Initialized));
    world.acquire(ALICE);
}

/// The ways in which a lock cluster is not the one that the client would make. Nothing is changed, and nothing is
/// waited for.
#[test]
fn no_mode_but_force_accepts_another_list_or_other_settings() {
    for mode in [InitMode::Blank, InitMode::WithoutUnreachable] {
        let mut world = World::fenced(3);
        assert_eq!(world.initialize_as(ALICE, 7, mode), Some(InitResult::AlreadyInitialized), "{mode:?}");
        let quorum = world.quorum();
        disconnect_from_all(&mut world, BOB);
        reconfigure(&mut world, BOB, quorum, MAX_TTL * 2, false);
        connect_to_all(&mut world, BOB);
        assert_eq!(world.initialize_as(BOB, 7, mode), Some(InitResult::InOtherLockCluster), "{mode:?}");
        change_list(&mut world, BOB);
        connect_to_all(&mut world, BOB);
        assert_eq!(world.initialize_as(BOB, 7, mode), Some(InitResult::InOtherLockCluster), "{mode:?}");
        // Their data name the list in force, which is not this client's.
        for node in 0..3 {
            let data = data(&world, node);
            world.restart(node, data);
        }
        change_list(&mut world, BOB);
        connect_to_all(&mut world, BOB);
        assert_eq!(world.initialize_as(BOB, 7, mode), Some(InitResult::InOtherLockCluster), "{mode:?}");
        assert_eq!(world.initialize_as(BOB, 7, InitMode::Forced), Some(InitResult::Initialized));
    }
}

#[test]
fn init_without_unreachable_ends_when_too_few_nodes_can_have_a_seat() {
    let mut world = uninitialized_world(3, 1);
    (0..2).for_each(|node| world.servers[node].node.evicts = true);
    connect_to_all(&mut world, ALICE);
    let mode = InitMode::WithoutUnreachable;
    assert_eq!(world.initialize_as(ALICE, 7, mode), Some(InitResult::Unreachable));

    // One is of another lock cluster, and one is blank: no majority remembers, and not all can agree.
    let mut world = World::fenced(3);
    world.restart(1, Data::new());
    let incarnation = world.servers[2].node.incarnation();
    set_foreign_roster(&mut world, 2, &node_list(3), incarnation.as_str());
    let quorum = world.quorum();
    disconnect_from_all(&mut world, ALICE);
    reconfigure(&mut world, ALICE, quorum, MAX_TTL, false);
    connect_to_all(&mut world, ALICE);
    assert_eq!(world.initialize_as(ALICE, 7, mode), Some(InitResult::Unreachable));
}

#[test]
fn init_without_unreachable_reports_a_node_that_rejects_its_record() {
    let mut world = uninitialized_world(3, 1);
    let quorum = world.quorum();
    reconfigure(&mut world, ALICE, quorum, MAX_TTL, false);
    (0..2).for_each(|node| world.connect(ALICE, node));
    let out_of_memory = Vote::Unknown(ReplyFailure::TransientError("OOM command not allowed".into()));
    world.servers[1].canned_replies.push_back(out_of_memory.clone());
    let other = Vote::Unknown(ReplyFailure::NotWaitedFor);
    let expected = vec![other.clone(), out_of_memory, other];
    let result = world.initialize_as(ALICE, 7, InitMode::WithoutUnreachable);
    assert_eq!(result, Some(InitResult::Rejected(expected)));
}

/// Each is the first at some nodes, also where none is at a quorum.
#[test]
fn initializations_at_once_make_one_lock_cluster() {
    for (nodes, firsts, winner) in [
        (3, &[ALICE, BOB, ALICE] as &[usize], ALICE),
        (3, &[BOB, BOB, ALICE], BOB),
        (4, &[ALICE, BOB, ALICE, BOB], BOB),
    ] {
        let mut world = uninitialized_world(nodes, 2);
        let quorum = world.quorum();
        for client in [ALICE, BOB] {
            reconfigure(&mut world, client, quorum, MAX_TTL, false);
            connect_to_all(&mut world, client);
        }
        for (client, cluster_id) in [(ALICE, 7), (BOB, 8)] {
            world.begin_to_initialize(client, cluster_id, InitMode::Blank);
        }
        for (node, client) in firsts.iter().enumerate() {
            assert!(world.round_trip(*client, node));
        }
        world.deliver_all();
        for client in [ALICE, BOB] {
            let expected =
                if client == winner { InitResult::Initialized } else { InitResult::AlreadyInitialized };
            assert_eq!(world.take_events(client), [OperationEvent::Initialized(expected)], "{firsts:?}");
        }
        let id = cluster(&world, 0);
        assert!((0..nodes).all(|node| cluster(&world, node) == id), "{firsts:?}");
        assert!((0..nodes).all(|node| is_voting(&world, winner, node)), "{firsts:?}");
        world.acquire(winner);
    }
}

#[test]
fn initialization_needs_a_connection_to_every_node() {
    let mut world = uninitialized_world(3, 1);
    (0..2).for_each(|node| world.connect(ALICE, node));
    for mode in [InitMode::Blank, InitMode::Forced] {
        assert_eq!(world.initialize_as(ALICE, 7, mode), Some(InitResult::Unreachable));
    }
    assert!((0..3).all(|node| roster(&world, node).is_none()));
}

#[test]
fn a_node_that_disconnects_during_initialization_ends_it() {
    let mut world = uninitialized_world(3, 1);
    let quorum = world.quorum();
    reconfigure(&mut world, ALICE, quorum, MAX_TTL, false);
    connect_to_all(&mut world, ALICE);
    world.servers[1].hangs = true;
    assert_eq!(
        world.initialize_as(ALICE, 7, InitMode::Blank),
        None,
        "two nodes have the marker, one does not reply"
    );
    world.disconnect(ALICE, 1);
    let reported = world.take_events(ALICE);
    assert_eq!(reported, [OperationEvent::Initialized(InitResult::Unreachable)]);
    world.servers[1].hangs = false;
    connect_to_all(&mut world, ALICE);
    assert_eq!(
        world.initialize_as(ALICE, 7, InitMode::Blank),
        Some(InitResult::AlreadyInitialized),
        "two nodes show the marker of the third"
    );
    assert_eq!(world.initialize_as(ALICE, 7, InitMode::Forced), Some(InitResult::Initialized));
}

#[test]
fn a_rejected_initialization_reports_the_reply_of_each_node() {
    for is_forced in [false, true] {
        let mut world = if is_forced { World::fenced(3) } else { uninitialized_world(3, 1) };
        if !is_forced {
            let quorum = world.quorum();
            reconfigure(&mut world, ALICE, quorum, MAX_TTL, false);
            connect_to_all(&mut world, ALICE);
        }
        let out_of_memory = Vote::Unknown(ReplyFailure::TransientError("OOM command not allowed".into()));
        let denied = Vote::Excluded(ExclusionReason::PermissionDenied("NOPERM".into()));
        world.servers[0].canned_replies.push_back(out_of_memory.clone());
        world.servers[2].canned_replies.push_back(denied.clone());
        let reported =
            world.initialize_as(ALICE, 7, if is_forced { InitMode::Forced } else { InitMode::Blank });
        assert_eq!(
            reported,
            Some(InitResult::Rejected(vec![out_of_memory, Vote::Granted, denied])),
            "the replies of all nodes"
        );
        assert_eq!(
            world.initialize_as(ALICE, 7, InitMode::Forced),
            Some(InitResult::Initialized),
            "a later initialization succeeds"
        );
    }
}

#[test]
fn initialization_waits_for_marker_readings_in_flight() {
    let mut world = World::fenced(3);
    world.restart(1, Data::new());
    world.connect(ALICE, 1);
    assert_eq!(world.undelivered(ALICE, 1), [RequestKind::ReadMarker], "its marker is being restored");
    assert_eq!(world.initialize_as(ALICE, 7, InitMode::Forced), Some(InitResult::Initialized));
    let clusters: Vec<_> = (0..3).filter_map(|node| cluster(&world, node)).collect();
    assert!(clusters.len() == 3 && clusters.iter().all(|id| *id == clusters[0]), "{clusters:?}");

    let mut world = World::fenced(3);
    world.run_timers_for(MARKER_READ_INTERVAL);
    assert_eq!(
        world.undelivered(ALICE, 0),
        [RequestKind::ReadMarker],
        "a periodic marker reading is in flight"
    );
    assert_eq!(world.initialize_as(ALICE, 7, InitMode::Forced), Some(InitResult::Initialized));
}

#[test]
fn forced_initialization_is_rejected_while_a_node_is_disconnected() {
    let mut world = World::fenced(3);
    let before: Vec<_> = (0..3).map(|node| marker(&world, node)).collect();
    world.disconnect(ALICE, 2);
    assert_eq!(world.initialize_as(ALICE, 7, InitMode::Forced), Some(InitResult::Unreachable));
    assert!((0..3).all(|node| marker(&world, node) == before[node]));
}
