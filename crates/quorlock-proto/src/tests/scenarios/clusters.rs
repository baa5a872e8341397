//! Which nodes are a cluster: founding, declaring, and who is not taken in.
//!
//! It is past 400 lines because all scenarios of one subject share its worlds and helpers.

use super::memory::{
    LAST_MOMENT, LOOK, NO_VOTE, blank, connect, data, doubt, exclusion, is_on_terms, is_voting, marker,
    set_marker, try_to_take, voting_status,
};
use crate::attempt::FailureReason;
use crate::coordinator::OperationEvent;
use crate::marker::{ClusterId, LockClusterConfig, Marker};
use crate::membership::{InitResult, VotingStatus};
use crate::quorum::Quorum;
use crate::request::RequestKind;
use crate::test_util::node::{Data, DataKey, SimulatedNode};
use crate::tests::world::{ALICE, BOB, MAX_TTL, World, ms};
use crate::vote::{ExclusionReason, ProbationReason, ReplyFailure, Vote};

#[test]
fn blank_nodes_become_a_cluster_on_probation_with_any_first_client() {
    let mut world = blank(3, 2);
    world.connect_all();
    // Both have seen them blank, and both write.
    assert!((0..2).all(|who| (0..3).all(|node| world.wire(who, node) == [RequestKind::ReadMarker])));
    world.drive();
    let ids: Vec<_> = (0..3).map(|node| marker(&world, node).map(|marker| marker.cluster)).collect();
    assert!(ids[0].is_some() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    for who in [ALICE, BOB] {
        assert!(
            (0..3).all(|node| doubt(&world, who, node) == Some(ProbationReason::NewNode)),
            "client {who}"
        );
        let refusal = try_to_take(&mut world, who);
        assert_eq!(refusal.reason, FailureReason::OnProbation { retry_after: Some(NO_VOTE) });
        assert_eq!(
            refusal.votes[0],
            Vote::OnProbation { remaining: NO_VOTE, reason: ProbationReason::NewNode }
        );
        assert!(world.is_nothing_sent(who));
    }
    world.live(LAST_MOMENT);
    let refusal = try_to_take(&mut world, ALICE);
    assert_eq!(refusal.reason, FailureReason::OnProbation { retry_after: Some(ms(1)) });
    world.live(ms(1));
    assert!((0..3).all(|node| is_voting(&world, ALICE, node) && is_voting(&world, BOB, node)));
    world.hold(ALICE);
}

#[test]
fn who_comes_later_finds_the_cluster_that_was_founded() {
    let mut world = blank(3, 2);
    connect(&mut world, ALICE);
    let founded = marker(&world, 0);
    world.live(ms(10_000));
    connect(&mut world, BOB);
    assert_eq!(marker(&world, 0), founded, "nothing is written again");
    let refusal = try_to_take(&mut world, BOB);
    assert_eq!(
        refusal.reason,
        FailureReason::OnProbation { retry_after: Some(ms(20_500)) },
        "by the markers"
    );
}

#[test]
fn founding_waits_until_every_node_was_met() {
    let mut world = blank(3, 1);
    (0..2).for_each(|node| world.connect(ALICE, node));
    world.drive();
    assert!((0..3).all(|node| marker(&world, node).is_none()), "who is away may know better");
    let refusal = try_to_take(&mut world, ALICE);
    assert_eq!(refusal.votes[0], Vote::Unknown(ReplyFailure::Unverified));
    world.connect(ALICE, 2);
    world.drive();
    assert!((0..3).all(|node| marker(&world, node).is_some()));
}

#[test]
fn what_a_node_says_while_it_is_told_its_cluster_is_how_it_stands() {
    let mut world = blank(3, 1);
    let full = ReplyFailure::TransientError("OOM command not allowed".into());
    let denied = ExclusionReason::PermissionDenied("NOPERM".into());
    world.connect_all();
    for (node, excuse) in
        [Vote::Unknown(full.clone()), Vote::Excluded(denied.clone())].into_iter().enumerate()
    {
        world.servers[node].excuses.extend((0..20).map(|_| excuse.clone()));
    }
    world.drive();
    // Asked again and again, it stands no other way in between.
    for _ in 0..3 {
        assert_eq!(voting_status(&world, ALICE, 0), VotingStatus::Unverified(Some(full.clone())));
        assert_eq!(voting_status(&world, ALICE, 1), VotingStatus::Excluded(denied.clone()));
        let votes = try_to_take(&mut world, ALICE).votes;
        assert_eq!(votes[..2], [Vote::Unknown(full.clone()), Vote::Excluded(denied.clone())]);
        world.live(ms(700));
    }
    let changes = world.clients[ALICE].changes;
    world.live(ms(3_000));
    assert_eq!(world.clients[ALICE].changes, changes, "the same again is no news");
    world.servers.iter_mut().for_each(|server| server.excuses.clear());
    world.live(ms(2_000));
    assert!(
        (0..3).all(|node| doubt(&world, ALICE, node) == Some(ProbationReason::NewNode)),
        "recorded at last"
    );
}

#[test]
fn one_node_alone_is_a_cluster_too() {
    let mut world = blank(1, 1);
    connect(&mut world, ALICE);
    world.live(NO_VOTE);
    world.hold(ALICE);
    world.restart(0, Data::new());
    connect(&mut world, ALICE);
    assert_eq!(
        try_to_take(&mut world, ALICE).reason,
        FailureReason::OnProbation { retry_after: Some(NO_VOTE) }
    );
}

#[test]
fn declared_nodes_vote_at_once() {
    for founds in [false, true] {
        let mut world = blank(3, 2);
        let quorum = world.quorum();
        is_on_terms(&mut world, ALICE, quorum, MAX_TTL, founds);
        connect(&mut world, ALICE);
        let expected = (!founds).then_some(ExclusionReason::Uninitialized);
        assert_eq!(exclusion(&world, ALICE, 0), expected, "who only looks founds nothing by the way");
        assert_eq!(world.declare_as(ALICE, 7, founds), Some(InitResult::Initialized));
        let id = Some(ClusterId::new(7));
        assert!((0..3).all(|node| marker(&world, node).map(|it| it.cluster) == id));
        connect(&mut world, BOB);
        assert!((0..3).all(|node| is_voting(&world, BOB, node)), "with any first client");
        world.hold(BOB);
    }
}

#[test]
fn who_had_another_marker_before_a_declaration_was_forced_waits_by_its_own_clock() {
    let mut world = World::fenced(3);
    assert_eq!(world.declare_as(ALICE, 7, true), Some(InitResult::Initialized));
    world.live(LOOK);
    // They may have held locks under the old one.
    assert!((0..3).all(|node| doubt(&world, BOB, node) == Some(ProbationReason::PossibleDataLoss)));
    world.live(NO_VOTE);
    world.hold(BOB);
}

#[test]
fn nodes_that_are_a_cluster_are_declared_only_by_force() {
    let mut world = World::fenced(3);
    let before = marker(&world, 0);
    assert_eq!(world.declare_as(ALICE, 7, false), Some(InitResult::AlreadyInitialized));
    assert_eq!(marker(&world, 0), before);

    let mut world = blank(3, 1);
    set_marker(&mut world, 1, "something");
    connect(&mut world, ALICE);
    assert_eq!(world.declare_as(ALICE, 7, false), Some(InitResult::NotBlank));
    assert!(marker(&world, 0).is_none() && marker(&world, 2).is_none(), "nothing was changed");
    assert_eq!(world.declare_as(ALICE, 7, true), Some(InitResult::Initialized));
    world.hold(ALICE);
}

#[test]
fn all_nodes_must_be_there_to_be_declared() {
    let mut world = blank(3, 1);
    (0..2).for_each(|node| world.connect(ALICE, node));
    for is_forced in [false, true] {
        assert_eq!(world.declare_as(ALICE, 7, is_forced), Some(InitResult::Unreachable));
    }
    assert!((0..3).all(|node| marker(&world, node).is_none()));
}

#[test]
fn a_node_that_goes_away_while_it_is_declared_ends_the_declaration() {
    let mut world = blank(3, 1);
    let quorum = world.quorum();
    is_on_terms(&mut world, ALICE, quorum, MAX_TTL, false);
    connect(&mut world, ALICE);
    world.servers[1].hangs = true;
    assert_eq!(world.declare_as(ALICE, 7, false), None, "two have it, one is silent");
    world.cut(ALICE, 1);
    let reported = world.event(ALICE);
    assert_eq!(reported, [OperationEvent::Initialized(InitResult::Unreachable)]);
    world.servers[1].hangs = false;
    connect(&mut world, ALICE);
    assert_eq!(
        world.declare_as(ALICE, 7, false),
        Some(InitResult::AlreadyInitialized),
        "two say what the third is"
    );
    assert_eq!(world.declare_as(ALICE, 7, true), Some(InitResult::Initialized));
}

#[test]
fn a_declaration_that_nodes_reject_tells_what_each_said() {
    for is_forced in [false, true] {
        let mut world = if is_forced { World::fenced(3) } else { blank(3, 1) };
        if !is_forced {
            let quorum = world.quorum();
            is_on_terms(&mut world, ALICE, quorum, MAX_TTL, false);
            connect(&mut world, ALICE);
        }
        let full = Vote::Unknown(ReplyFailure::TransientError("OOM command not allowed".into()));
        let denied = Vote::Excluded(ExclusionReason::PermissionDenied("NOPERM".into()));
        world.servers[0].excuses.push_back(full.clone());
        world.servers[2].excuses.push_back(denied.clone());
        let reported = world.declare_as(ALICE, 7, is_forced);
        assert_eq!(reported, Some(InitResult::Rejected(vec![full, Vote::Granted, denied])), "all are heard");
        assert_eq!(
            world.declare_as(ALICE, 7, true),
            Some(InitResult::Initialized),
            "and it is finished later"
        );
    }
}

#[test]
fn a_declaration_waits_for_what_nodes_are_being_asked() {
    let mut world = World::fenced(3);
    world.restart(1, Data::new());
    world.connect(ALICE, 1);
    assert_eq!(world.wire(ALICE, 1), [RequestKind::ReadMarker], "it is being taken back");
    assert_eq!(world.declare_as(ALICE, 7, true), Some(InitResult::Initialized));
    let ids: Vec<_> = (0..3).filter_map(|node| marker(&world, node)).map(|marker| marker.cluster).collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    let mut world = World::fenced(3);
    world.sleep(LOOK);
    assert_eq!(world.wire(ALICE, 0), [RequestKind::ReadMarker], "just asked, as now and then");
    assert_eq!(world.declare_as(ALICE, 7, true), Some(InitResult::Initialized));
}

#[test]
fn a_node_is_taken_back_only_if_enough_others_say_where_it_belongs() {
    let mut world = World::fenced(3);
    let client = |world: &mut World, up: &[usize]| {
        for node in up {
            world.connect(BOB, *node);
        }
        world.drive();
    };
    (0..3).for_each(|node| world.cut(BOB, node));
    let quorum = world.quorum();
    is_on_terms(&mut world, BOB, quorum, MAX_TTL, true);
    (0..3).for_each(|node| world.cut(ALICE, node));
    world.flush(1);
    client(&mut world, &[0, 1]);
    assert!(marker(&world, 1).is_none(), "one says so; it could be {{a, d, e}}");
    assert_eq!(try_to_take(&mut world, BOB).votes[1], Vote::Unknown(ReplyFailure::Unverified));
    client(&mut world, &[2]);
    assert!(marker(&world, 1).is_some(), "two of three say so");

    // Where a quorum is all nodes, all others are enough.
    let mut world = World::fenced(2);
    world.flush(1);
    is_on_terms(&mut world, BOB, Quorum::new(2, None).expect("two"), MAX_TTL, true);
    (0..2).for_each(|node| world.cut(BOB, node));
    (0..2).for_each(|node| world.cut(ALICE, node));
    connect(&mut world, BOB);
    assert_eq!(marker(&world, 1).map(|it| it.cluster), marker(&world, 0).map(|it| it.cluster));
}

#[test]
fn after_data_loss_on_most_nodes_only_a_client_that_knew_them_takes_them_back() {
    let mut world = World::fenced(3);
    (0..3).for_each(|node| world.cut(BOB, node));
    let quorum = world.quorum();
    is_on_terms(&mut world, BOB, quorum, MAX_TTL, true);
    world.restart(0, Data::new());
    world.restart(1, Data::new());
    connect(&mut world, BOB);
    assert_eq!(
        (exclusion(&world, BOB, 0), exclusion(&world, BOB, 1)),
        (Some(ExclusionReason::Uninitialized), Some(ExclusionReason::Uninitialized))
    );
    assert!(matches!(exclusion(&world, BOB, 2), Some(ExclusionReason::ClusterMismatch(_))));
    assert_eq!(try_to_take(&mut world, BOB).reason, FailureReason::NodesExcluded);
    connect(&mut world, ALICE);
    assert!((0..2).all(|node| doubt(&world, ALICE, node) == Some(ProbationReason::PossibleDataLoss)));
    world.live(LOOK);
    assert!((0..2).all(|node| doubt(&world, BOB, node).is_some()), "and so the stranger learns it");
}

/// Two lists that share one node: there, two quorums need not meet.
#[test]
fn two_clusters_never_share_a_node() {
    let mut theirs = World::fenced(3);
    let lock = theirs.hold(ALICE);
    let mut ours = blank(3, 1);
    ours.servers[0].node = theirs.servers[0].node.clone();
    let config = LockClusterConfig::new(ours.quorum(), MAX_TTL);
    (1..3).for_each(|node| ours.servers[node].node = SimulatedNode::new(node + 2, config));
    connect(&mut ours, ALICE);
    assert!(matches!(exclusion(&ours, ALICE, 0), Some(ExclusionReason::ClusterMismatch(_))));
    assert_eq!(
        (exclusion(&ours, ALICE, 1), exclusion(&ours, ALICE, 2)),
        (Some(ExclusionReason::Uninitialized), Some(ExclusionReason::Uninitialized))
    );
    assert_eq!(try_to_take(&mut ours, ALICE).reason, FailureReason::NodesExcluded);
    assert_eq!(ours.declare_as(ALICE, 7, false), Some(InitResult::NotBlank));
    assert!((1..3).all(|node| marker(&ours, node).is_none()) && ours.has(0, lock));

    // The other two are a cluster of their own, and the shared node affects neither.
    let mut ours = World::fenced(3);
    ours.servers[0].node = theirs.servers[0].node.clone();
    let text = format!(
        "{} a:b 1 1 0",
        Marker::identity(ClusterId::new(9), LockClusterConfig::new(ours.quorum(), MAX_TTL))
    );
    set_marker(&mut ours, 0, &text);
    (0..2).for_each(|who| ours.cut(who, 0));
    connect(&mut ours, ALICE);
    assert!(matches!(exclusion(&ours, ALICE, 0), Some(ExclusionReason::ClusterMismatch(_))));
    assert!(is_voting(&ours, ALICE, 1) && is_voting(&ours, ALICE, 2));
    assert_eq!(data(&ours, 0).get(&DataKey::Marker).and_then(|it| it.value.clone()), Some(text.into()));
}

#[test]
fn clients_on_other_terms_are_told_so_and_change_nothing() {
    let five = Quorum::new(5, None).expect("a quorum");
    let four = Quorum::new(5, Some(4)).expect("a quorum");
    for (quorum, max_ttl) in [(four, MAX_TTL), (five, MAX_TTL * 2)] {
        let mut world = World::fenced(5);
        let before = marker(&world, 0);
        (0..5).for_each(|node| world.cut(BOB, node));
        is_on_terms(&mut world, BOB, quorum, max_ttl, true);
        connect(&mut world, BOB);
        let Some(ExclusionReason::ClusterMismatch(words)) = exclusion(&world, BOB, 0) else {
            panic!("no bar")
        };
        assert!(words.contains("a quorum of 3, a max ttl of 30s"), "{words}");
        assert_eq!(try_to_take(&mut world, BOB).reason, FailureReason::NodesExcluded);
        assert_eq!(world.declare_as(BOB, 7, false), Some(InitResult::NotBlank));
        assert_eq!(marker(&world, 0), before);
    }
}

#[test]
fn a_marker_that_cannot_be_read_bars_its_node_and_is_left_alone() {
    for text in ["hello", "quorlock2", "quorlock1 00 3 2 30000 a:b 1", "quorlock3 00 3 2 30000 a:b 1 1"] {
        let mut world = World::fenced(3);
        set_marker(&mut world, 1, text);
        world.live(LOOK);
        assert!(matches!(exclusion(&world, ALICE, 1), Some(ExclusionReason::Unsupported(_))), "{text:?}");
        let lock = world.hold(ALICE);
        assert!(world.has(0, lock) && !world.has(1, lock) && world.has(2, lock));
        assert_eq!(data(&world, 1)[&DataKey::Marker].value.as_deref(), Some(text.as_bytes()));
    }
}

#[test]
fn a_node_that_evicts_does_not_vote_until_it_stops() {
    let mut world = World::fenced(3);
    world.servers[1].node.evicts = true;
    world.live(LOOK);
    assert_eq!(exclusion(&world, ALICE, 1), Some(ExclusionReason::EvictionEnabled));
    let lock = world.hold(ALICE);
    assert!(!world.has(1, lock));
    world.servers[1].node.evicts = false;
    world.live(LOOK);
    assert_eq!(
        doubt(&world, ALICE, 1),
        Some(ProbationReason::PossibleDataLoss),
        "what it lost meanwhile is unknown"
    );
    world.connect(BOB, 1);
    world.drive();
    assert!(!is_voting(&world, BOB, 1), "unknown to a later client too");
    world.live(NO_VOTE);
    assert!(is_voting(&world, ALICE, 1) && is_voting(&world, BOB, 1));
}

#[test]
fn a_cluster_is_not_declared_while_a_node_is_away() {
    let mut world = World::fenced(3);
    let before: Vec<_> = (0..3).map(|node| marker(&world, node)).collect();
    world.cut(ALICE, 2);
    assert_eq!(world.declare_as(ALICE, 7, true), Some(InitResult::Unreachable));
    assert!((0..3).all(|node| marker(&world, node) == before[node]));
}

#[test]
fn nodes_that_were_never_there_all_at_once_found_no_cluster() {
    let mut world = blank(3, 1);
    world.connect(ALICE, 0);
    world.cut(ALICE, 0);
    (1..3).for_each(|node| world.connect(ALICE, node));
    world.drive();
    assert!((0..3).all(|node| marker(&world, node).is_none()));
    assert!(exclusion(&world, ALICE, 1).is_some());
}

/// What we remember of a cluster says nothing of a node that we never saw in it.
#[test]
fn by_memory_alone_only_those_are_taken_back_who_were_known() {
    let mut world = blank(5, 1);
    world.declare();
    (0..3).for_each(|node| world.connect(ALICE, node));
    world.drive();
    (0..2).for_each(|node| world.restart(node, Data::new()));
    world.servers[4].node.restart(Data::new());
    (0..2).chain([4]).for_each(|node| world.connect(ALICE, node));
    assert!(
        (0..2).all(|node| world.wire(ALICE, node) == [RequestKind::ReadMarker]),
        "their markers are written back"
    );
    assert_eq!(world.wire(ALICE, 4), [], "not before enough others say so");
}

/// Two memories of one set of nodes: neither writes where the other has begun.
#[test]
fn memory_gives_way_to_a_node_that_says_otherwise() {
    let mut world = World::fenced(3);
    (0..3).for_each(|node| world.restart(node, Data::new()));
    let identity = Marker::identity(ClusterId::new(9), LockClusterConfig::new(world.quorum(), MAX_TTL));
    let other = format!("{identity} {} 1 1 0", world.servers[0].node.incarnation().as_str());
    set_marker(&mut world, 0, &other);
    world.cut(BOB, 0);
    world.connect(ALICE, 0);
    world.connect(ALICE, 2);
    world.connect(ALICE, 1);
    world.drive();
    let clusters: Vec<_> = (0..3).map(|node| marker(&world, node).map(|it| it.cluster)).collect();
    assert_eq!(clusters, [Some(ClusterId::new(9)), None, None]);
}

#[test]
fn after_all_have_forgotten_those_who_knew_the_cluster_and_those_who_did_not_found_the_same() {
    let mut world = blank(3, 2);
    world.declare();
    (0..3).for_each(|node| world.connect(ALICE, node));
    world.drive();
    (0..3).for_each(|node| world.restart(node, Data::new()));
    // Both meet the nodes one by one, each in an order of its own, and what they write arrives at once.
    for (who, node) in [(BOB, 0), (ALICE, 0), (ALICE, 1), (BOB, 1), (BOB, 2), (ALICE, 2)] {
        world.connect(who, node);
        world.drive();
    }
    world.drive();
    let clusters: Vec<_> = (0..3).map(|node| marker(&world, node).map(|it| it.cluster)).collect();
    assert!(clusters[0].is_some() && clusters.iter().all(|it| *it == clusters[0]), "{clusters:?}");
    world.live(NO_VOTE + ms(1));
    for who in [ALICE, BOB] {
        let statuses: Vec<_> = (0..3).map(|node| voting_status(&world, who, node)).collect();
        assert_eq!(statuses, vec![VotingStatus::Voting; 3], "client {who}");
    }
}
