//! Membership: which nodes form a lock cluster, and the errors for nodes and clients that do not belong to
//! it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorlock::error::{ConnectError, ExtendError, InitError};
use quorlock::event::Event;
use quorlock::node::{ExclusionReason, NodeReply, NodeState, ProbationReason};
use quorlock::{AcquireError, InitOutcome, Redlock, RedlockBuilder};
use quorlock_chaos::{Data, Fleet, Server, Setup};
use tokio::time::Instant;

use crate::support::{
    blank_servers, builder, client, eventually, fenced, fenced_with_max_ttl, initialize, is_up, is_voting,
    millis, secs, with_setup,
};

fn builder_for(urls: impl IntoIterator<Item = String>) -> RedlockBuilder {
    Redlock::builder().nodes(urls)
}

fn markers(fleet: &Fleet) -> Vec<Option<String>> {
    fleet.servers().iter().map(|it| it.command(&["GET", "quorlock:node"]).expect("up")).collect()
}

/// The id of each node's lock cluster, from its roster.
fn cluster_ids(fleet: &Fleet) -> Vec<Option<String>> {
    let id = |server: &Server| {
        let record: Option<String> = server.command(&["GET", "quorlock:roster"]).expect("up");
        record.and_then(|it| it.split(' ').next().filter(|id| !id.starts_with(';')).map(str::to_owned))
    };
    fleet.servers().iter().map(id).collect()
}

/// Connecting fails because a node does not fit the list; the message contains all of these texts.
async fn check_invalid_node_list(builder: RedlockBuilder, texts: &[&str]) {
    let result = builder.connect().await;
    let Err(ConnectError::InvalidNodeList { reason, .. }) = result else {
        panic!("expected InvalidNodeList, got {result:?}")
    };
    let message = reason.to_string();
    for text in texts {
        assert!(message.contains(text), "{message:?} does not contain {text:?}");
    }
}

#[tokio::test]
async fn a_lock_cluster_that_was_not_initialized_is_on_probation_once() {
    let fleet = blank_servers(3);
    let redlock = builder_for(fleet.urls()).max_ttl(secs(2)).connect().await.expect("all nodes are up");
    eventually("all nodes are up", || async { redlock.node_status().await.iter().all(is_up) }).await;
    let error =
        redlock.mutex("k").wait_timeout(Duration::ZERO).acquire().await.expect_err("no node votes yet");
    let AcquireError::OnProbation { retry_after: Some(retry_after), replies, .. } = &error else {
        panic!("expected OnProbation, got {error:?}")
    };
    assert!(*retry_after <= secs(2) + millis(100), "probation is at most one max ttl: {retry_after:?}");
    let is_new =
        |reply: &NodeReply| matches!(reply, NodeReply::OnProbation { reason: ProbationReason::NewNode, .. });
    assert!(replies.iter().all(|(_, reply)| is_new(reply)), "{replies}");
    assert!(error.to_string().contains("quorlock init"), "{error}");
    assert!(error.is_retryable() && error.retry_after() == Some(*retry_after), "{error:?}");
    assert_eq!(error.replies(), Some(replies));
    let guard = redlock.mutex("k").wait_timeout(secs(20)).acquire().await.expect("probation ends");
    guard.release().await.expect("released");
    // A later client finds an initialized lock cluster.
    let later = builder_for(fleet.urls()).max_ttl(secs(2)).connect().await.expect("all nodes are up");
    assert!(later.mutex("k").try_acquire().await.expect("all nodes vote").is_some());
}

#[tokio::test]
async fn clients_that_connect_to_blank_nodes_at_once_form_one_lock_cluster() {
    let fleet = blank_servers(5);
    let clients: Vec<_> =
        (0..8).map(|_| tokio::spawn(builder_for(fleet.urls()).max_ttl(secs(1)).connect())).collect();
    for client in clients {
        let redlock = client.await.expect("no panic").expect("all nodes are up");
        let guard = redlock.mutex("k").wait_timeout(secs(20)).acquire().await.expect("granted");
        guard.release().await.expect("released");
        eventually("every node votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
    }
    let ids = cluster_ids(&fleet);
    assert!(ids[0].is_some() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn the_settings_of_the_lock_cluster_count_and_a_client_with_others_is_warned() {
    let fleet = fenced(5);
    let urls = || fleet.urls();
    let some = urls().into_iter().take(3);
    let cases = [
        (builder_for(urls()).max_ttl(secs(30)), ["max ttl of 60s", "max ttl of 30s"]),
        (builder_for(urls()).max_ttl(secs(60)).quorum(4), ["a quorum of 3", "a quorum of 4"]),
        (builder_for(some).max_ttl(secs(60)), ["5 nodes", "3 nodes"]),
    ];
    for (builder, texts) in cases {
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&warnings);
        let record = move |event: &Event| {
            if let Event::Warning { warning, .. } = event {
                listener.lock().expect("not poisoned").push(warning.to_string());
            }
        };
        let redlock = builder.on_event(record).connect().await.expect("all nodes are up");
        assert_eq!(redlock.quorum(), 3);
        eventually("three nodes vote", || async {
            redlock.node_status().await.iter().filter(|node| is_voting(node)).count() >= 3
        })
        .await;
        let guard = redlock.mutex("k").ttl(secs(5)).acquire().await.expect("free");
        guard.release().await.expect("held until then");
        let warnings = warnings.lock().expect("not poisoned");
        assert!(warnings.len() == 1 && texts.iter().all(|text| warnings[0].contains(text)), "{warnings:?}");
    }
    let longer = builder_for(urls()).max_ttl(secs(90)).connect().await.expect("all nodes are up");
    let error = longer.mutex("k").ttl(secs(80)).acquire().await.expect_err("the ttl is too long");
    assert!(error.to_string().contains("longer than the lock cluster's max ttl of 60s"), "{error}");
}

#[tokio::test]
async fn two_node_lists_that_share_one_node_do_not_form_two_lock_clusters() {
    let fleet = blank_servers(5);
    let list = |nodes: [usize; 3]| builder_for(nodes.map(|node| fleet[node].url()));
    initialize(list([0, 1, 2]));
    // Node 0 belongs to a lock cluster with another list, which gives the two blank nodes no seat.
    let Err(ConnectError::NodesExcluded { nodes, .. }) = list([0, 3, 4]).connect().await else {
        panic!("no quorum of these nodes can vote")
    };
    assert!(nodes[1].to_string().contains("another list of nodes"), "{nodes:?}");
    let redlock = list([0, 3, 4]).connect_lazy().expect("built");
    let error = redlock.mutex("k").acquire().await.expect_err("fails without waiting");
    assert!(matches!(error, AcquireError::NodesExcluded { .. }) && !error.is_retryable(), "{error:?}");
    assert!(error.replies().is_some() && error.retry_after().is_none(), "{error:?}");
    let state = redlock.node_status().await[1].state.clone();
    assert!(matches!(state, NodeState::Excluded(ExclusionReason::OtherNodeList(_))), "{state:?}");
    // A blank node that replied before node 0 may have drawn a seat, which is in no roster.
    assert_eq!(cluster_ids(&fleet)[3..], [None, None], "a blank node was given a seat");
}

#[tokio::test]
async fn a_node_of_another_lock_cluster_with_the_same_settings_is_left_out() {
    let (ours, theirs) = (fenced(3), fenced(3));
    let urls = || [ours[0].url(), ours[1].url(), theirs[2].url()];
    let redlock = builder_for(urls()).max_ttl(secs(60)).connect().await.expect("two of three");
    let guard = redlock.mutex("k").acquire().await.expect("two of three");
    let state = redlock.node_status().await[2].state.clone();
    let NodeState::Excluded(reason @ ExclusionReason::ClusterMismatch(_)) = state else {
        panic!("{state:?}")
    };
    assert!(reason.to_string().contains("a different one"), "{reason}");
    assert!(!theirs[2].command::<bool>(&["EXISTS", "k"]).expect("a reply"), "it casts no vote");
    guard.release().await.expect("held until then");
    // With two of each, clients of one list might follow different lock clusters.
    let both = [ours[0].url(), ours[1].url(), theirs[1].url(), theirs[2].url()];
    check_invalid_node_list(builder_for(both), &["another lock cluster", "a different one"]).await;
}

#[tokio::test]
async fn a_blank_node_is_adopted_when_a_quorum_of_members_is_known() {
    let mut fleet = fenced_with_max_ttl(3, secs(2));
    fleet[1].restart(Data::Empty).expect("restarted");
    let redlock = builder(&fleet).connect().await.expect("all nodes are up");
    eventually("the node is adopted", || async { redlock.node_status().await[1].probation.is_some() }).await;
    assert_eq!(redlock.node_status().await[1].probation.map(|it| it.reason), Some(ProbationReason::NewNode));
    let guard = redlock.mutex("k").try_acquire().await.expect("two of three").expect("free");
    eventually("it votes again", || async { redlock.node_status().await.iter().all(is_voting) }).await;
    guard.release().await.expect("released");

    // Two of three nodes are blank. A new client knows their lock cluster from the third, and recovers it.
    let began = Instant::now();
    fleet[0].restart(Data::Empty).expect("restarted");
    fleet[1].restart(Data::Empty).expect("restarted");
    let ids = cluster_ids(&fleet);
    let fresh = builder(&fleet).connect_lazy().expect("built");
    let guard = fresh.mutex("k").ttl(secs(1)).wait_timeout(secs(20)).acquire().await.expect("recovered");
    assert!(began.elapsed() >= secs(2), "locks of before may still run");
    guard.release().await.expect("released");
    eventually("every node votes", || async { fresh.node_status().await.iter().all(is_voting) }).await;
    assert!(ids[2].is_some() && cluster_ids(&fleet).iter().all(|id| *id == ids[2]), "the same lock cluster");
}

#[tokio::test]
async fn a_ttl_above_the_max_ttl_is_rejected_by_acquire_and_extend() {
    let fleet = fenced_with_max_ttl(3, secs(5));
    let redlock = client(&fleet).await;
    let error = redlock.mutex("k").ttl(millis(5001)).acquire().await.expect_err("too long");
    assert!(matches!(error, AcquireError::InvalidInput(_)), "{error:?}");
    assert!(error.to_string().contains("5.001s") && error.to_string().contains("(5s)"), "{error}");
    let guard = redlock.mutex("k").ttl(secs(5)).acquire().await.expect("exactly the limit");
    let error = guard.extend(millis(5001)).await.expect_err("too long");
    assert!(matches!(error, ExtendError::InvalidInput(_)), "{error:?}");
    assert!(guard.is_valid(), "the lock is unchanged");
    guard.extend(secs(5)).await.expect("extended");
}

#[tokio::test]
async fn an_evicting_node_is_excluded_and_the_other_nodes_serve() {
    let fleet = fenced(3);
    fleet[0].command::<()>(&["CONFIG", "SET", "maxmemory", "50mb"]).expect("set");
    fleet[0].command::<()>(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]).expect("set");
    let redlock = builder(&fleet).connect().await.expect("two of three");
    eventually("the node is excluded", || async {
        redlock.node_status().await[0].state == NodeState::Excluded(ExclusionReason::EvictionEnabled)
    })
    .await;
    let guard = redlock.mutex("k").acquire().await.expect("two of three");
    assert_eq!(guard.spare_nodes(), 0);

    let evicting = Setup::new().args(["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]);
    let all = with_setup(3, &evicting, true);
    let error = builder_for(all.urls()).connect().await.expect_err("every node is excluded");
    assert!(matches!(error, ConnectError::NodesExcluded { .. }), "{error:?}");
    assert!(error.to_string().contains("noeviction"), "{error}");
}

#[tokio::test]
async fn a_node_with_an_invalid_marker_is_excluded_and_its_marker_kept() {
    let fleet = fenced(3);
    fleet[1].command::<()>(&["SET", "quorlock:node", "a poem"]).expect("set");
    fleet[2].command::<()>(&["DEL", "quorlock:node"]).expect("deleted");
    fleet[2].command::<()>(&["LPUSH", "quorlock:node", "a list"]).expect("set");
    builder(&fleet).connect_timeout(secs(2)).connect().await.expect_err("one of three nodes is no quorum");
    let nodes = builder(&fleet).connect_lazy().expect("valid options").node_status().await;
    let is_reported = |node: &quorlock::node::NodeStatus| {
        node.to_string().contains("`quorlock:node` holds a value that is not a marker")
    };
    assert!(nodes[1..].iter().all(is_reported), "{nodes:?}");
    let found: String = fleet[1].command(&["GET", "quorlock:node"]).expect("up");
    assert_eq!(found, "a poem");
}

#[tokio::test]
async fn permissions_that_fenced_mode_needs_are_named() {
    let fleet = fenced(3);
    let rights = "on >pw allkeys resetchannels -@all +set +get +del +pexpire +pttl +eval +evalsha +script|load +info \
                  +time +client|setname";
    for (change, texts) in
        [("-info", "+info"), ("resetkeys ~k", "quorlock:*"), ("-time", "+time"), ("-evalsha", "evalsha")]
    {
        for server in fleet.servers() {
            let user = ["ACL", "SETUSER", "locker"].into_iter();
            let line: Vec<&str> = user.chain(rights.split(' ')).chain(change.split(' ')).collect();
            server.command::<()>(&line).expect("ACL user created");
        }
        let redlock = builder(&fleet).username("locker").password("pw").connect_lazy().expect("built");
        let error = redlock.mutex("k").wait_timeout(secs(20)).acquire().await.expect_err(change);
        assert!(matches!(error, AcquireError::NodesExcluded { .. }), "{change}: {error:?}");
        let message = error.to_string();
        assert!(message.contains("permission missing") && message.contains(texts), "{change}: {message}");
    }
}

#[tokio::test]
async fn a_lock_cluster_is_initialized_once_and_again_only_by_force() {
    let mut fleet = blank_servers(3);
    let urls = fleet.urls();
    let with_max_ttl = |max_ttl| builder_for(urls.clone()).max_ttl(max_ttl);
    let initialize = |max_ttl| with_max_ttl(max_ttl).initialize();
    fleet[2].kill();
    assert!(matches!(initialize(secs(5)).await, Err(InitError::Unreachable { .. })));
    fleet[2].restart(Data::Empty).expect("restarted");
    assert_eq!(initialize(secs(5)).await.expect("the nodes are blank"), InitOutcome::Initialized);
    let first = markers(&fleet);
    assert_eq!(initialize(secs(5)).await.expect("the same"), InitOutcome::AlreadyInitialized);
    assert!(matches!(initialize(secs(6)).await, Err(InitError::AlreadyInitialized { .. })));
    assert_eq!(markers(&fleet), first, "the markers are unchanged");
    with_max_ttl(secs(6)).force_initialize().await.expect("forced");
    assert_ne!(markers(&fleet), first, "a new lock cluster");
    let redlock = builder_for(urls.clone()).max_ttl(secs(6)).connect().await.expect("all nodes are up");
    assert!(redlock.mutex("k").try_acquire().await.expect("all nodes vote at once").is_some());
    let settings = redlock.node_status().await[0].seat.as_ref().expect("a seat").settings;
    assert_eq!((settings.nodes, settings.quorum, settings.max_ttl), (3, 2, secs(6)));
}
