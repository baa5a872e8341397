//! Reconfigurations: the nodes, the quorum and the max ttl change while locks are held and acquired.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quorlock::error::{ConnectError, ReconfigureError};
use quorlock::node::NodeState;
use quorlock::reconfiguration::{ReconfigurationObstacle, ReconfigurationProgress, ReconfigurationStep};
use quorlock::{Redlock, RedlockBuilder};
use quorlock_chaos::{Data, Fleet, MovableAddress, Server};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{blank_servers, eventually, initialize, is_voting, millis, secs};

const MAX_TTL: Duration = secs(1);

/// A client whose list are these servers.
fn builder(fleet: &Fleet, nodes: &[usize]) -> RedlockBuilder {
    Redlock::builder().nodes(urls(fleet, nodes)).max_ttl(MAX_TTL)
}

fn urls(fleet: &Fleet, nodes: &[usize]) -> Vec<String> {
    nodes.iter().map(|node| fleet[*node].url()).collect()
}

async fn reconfigure(fleet: &Fleet, from: &[usize], to: &[usize]) -> ReconfigurationProgress {
    let reconfiguration =
        builder(fleet, from).reconfigure(urls(fleet, to)).on_progress(|progress| println!("{progress}"));
    timeout(secs(60), reconfiguration.run()).await.expect("it ends").expect("all nodes are up")
}

/// The lock's keys on these servers.
fn keys(fleet: &Fleet, nodes: &[usize]) -> usize {
    let has_key = |server: &Server| server.command::<bool>(&["EXISTS", "k"]).expect("a reply");
    nodes.iter().filter(|node| has_key(&fleet[**node])).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_become_five_and_three_others_while_clients_lock() {
    let fleet = blank_servers(5);
    initialize(builder(&fleet, &[0, 1, 2]));
    let (counter, stops) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = JoinSet::new();
    // Clients with every list, all of which share members at each step.
    for list in [[0, 1, 2], [0, 1, 2], [1, 2, 3], [2, 3, 4]] {
        let (builder, counter, stops) = (builder(&fleet, &list), counter.clone(), stops.clone());
        tasks.spawn(async move {
            let redlock = builder.connect_lazy().expect("built");
            let mut held = 0;
            while !stops.load(Ordering::Relaxed) {
                let mutex = redlock.mutex("k").ttl(millis(900)).wait_timeout(secs(1));
                let Ok(guard) = mutex.acquire().await else { continue };
                let before = counter.load(Ordering::Relaxed);
                tokio::time::sleep(millis(5)).await;
                if guard.is_valid() {
                    counter.store(before + 1, Ordering::Relaxed);
                    held += 1;
                }
                let _ = guard.release().await;
            }
            held
        });
    }
    let after = reconfigure(&fleet, &[0, 1, 2], &[0, 1, 2, 3, 4]).await;
    assert_eq!((after.nodes.len(), after.quorum, &after.next), (5, 3, &ReconfigurationStep::Done));
    let before = counter.load(Ordering::Relaxed);
    assert!(before > 10, "locks are acquired meanwhile: {before}");
    let after = reconfigure(&fleet, &[0, 1, 2, 3, 4], &[2, 3, 4]).await;
    assert_eq!((after.nodes.len(), after.quorum), (3, 2));
    assert!(counter.load(Ordering::Relaxed) > before + 10, "locks are acquired meanwhile");
    stops.store(true, Ordering::Relaxed);
    let held: u64 = tasks.join_all().await.into_iter().sum();
    assert_eq!(held, counter.load(Ordering::Relaxed), "no two clients held the lock at once");
    let redlock = builder(&fleet, &[2, 3, 4]).connect().await.expect("all nodes are up");
    eventually("every node votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
}

#[tokio::test]
async fn a_held_lock_survives_the_exchange_of_every_node() {
    let fleet = blank_servers(6);
    initialize(builder(&fleet, &[0, 1, 2]));
    // The holder knows all of them, as it would if its list were changed meanwhile.
    let redlock = builder(&fleet, &[0, 1, 2, 3, 4, 5]).connect().await.expect("three nodes vote");
    let guard = redlock.mutex("k").ttl(millis(900)).acquire().await.expect("free");
    let first = guard.fencing_token().expect("fenced").number;
    reconfigure(&fleet, &[0, 1, 2], &[3, 4, 5]).await;
    assert!(guard.is_valid());
    eventually("the new nodes have the key", || async { keys(&fleet, &[3, 4, 5]) == 3 }).await;
    assert!(guard.release().await.expect("held until then").confirmed);
    let next = builder(&fleet, &[3, 4, 5]).connect().await.expect("all nodes are up");
    let guard = next.mutex("k").acquire().await.expect("free");
    assert!(guard.fencing_token().expect("fenced").number > first);
}

#[tokio::test]
async fn an_interrupted_reconfiguration_is_run_again() {
    let fleet = blank_servers(5);
    initialize(builder(&fleet, &[0, 1, 2]));
    let (from, to) = (&[0, 1, 2][..], &[0, 1, 2, 3, 4][..]);
    for millis_until_stop in [0, 50, 200, 700, 1_500, 2_200] {
        let reconfiguration = builder(&fleet, from).reconfigure(urls(&fleet, to));
        // Dropped, as if its process had been killed.
        let _ = timeout(millis(millis_until_stop), reconfiguration.run()).await;
        let redlock = builder(&fleet, from).connect().await.expect("all nodes are up");
        let guard = redlock.mutex("k").wait_timeout(secs(10)).acquire().await.expect("free");
        guard.release().await.expect("held until then");
    }
    let after = reconfigure(&fleet, from, to).await;
    assert_eq!((after.nodes.len(), after.to_add.len()), (5, 0));
    let again = reconfigure(&fleet, from, to).await;
    assert_eq!(again.epoch, after.epoch, "nothing is left to do");
}

#[tokio::test]
async fn the_quorum_and_the_max_ttl_change_under_a_held_lock() {
    let fleet = blank_servers(3);
    let nodes = [0, 1, 2];
    initialize(builder(&fleet, &nodes));
    let redlock = builder(&fleet, &nodes).connect().await.expect("all nodes are up");
    let guard = redlock.mutex("k").ttl(millis(900)).acquire().await.expect("free");
    assert_eq!(guard.ttl(), millis(900));
    let reconfiguration =
        builder(&fleet, &nodes).reconfigure(urls(&fleet, &nodes)).quorum(3).max_ttl(millis(500));
    let after = timeout(secs(60), reconfiguration.run()).await.expect("it ends").expect("all are up");
    assert_eq!((after.quorum, after.max_ttl), (3, millis(500)));
    eventually("the client follows", || async { redlock.quorum() == 3 }).await;
    eventually("the client follows", || async { redlock.max_ttl() == Some(millis(500)) }).await;
    assert!(guard.is_valid() && guard.remaining() < millis(500));
    assert_eq!((guard.ttl(), guard.view().ttl()), (millis(500), millis(500)));
    guard.release().await.expect("held until then");
    let error = redlock.mutex("k").ttl(millis(900)).acquire().await.expect_err("the ttl is too long");
    assert!(error.to_string().contains("longer than the lock cluster's max ttl of 500ms"), "{error}");
    let guard = redlock.mutex("k").ttl(millis(400)).acquire().await.expect("free");
    guard.release().await.expect("held until then");
    for mutex in [redlock.mutex("k"), redlock.mutex("k").ttl_at_most(secs(60))] {
        let guard = mutex.acquire().await.expect("the ttl is shortened");
        assert_eq!(guard.ttl(), millis(500));
        guard.release().await.expect("held until then");
    }
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let fleet = blank_servers(4);
    initialize(builder(&fleet, &[0, 1, 2]));
    let plan = builder(&fleet, &[0, 1, 2]).reconfigure(urls(&fleet, &[0, 1, 3])).inspect().await;
    let plan = plan.expect("all nodes are up");
    let name = |node: usize| format!("127.0.0.1:{}", fleet[node].port());
    assert_eq!((plan.to_add.len(), plan.to_remove.len(), plan.nodes.len()), (1, 1, 3));
    assert_eq!((&*plan.to_add[0], &*plan.to_remove[0]), (&*name(3), &*name(2)));
    assert!(!fleet[3].command::<bool>(&["EXISTS", "quorlock:node"]).expect("a reply"));
}

#[tokio::test]
async fn another_list_and_a_node_of_another_lock_cluster_are_rejected() {
    let fleet = blank_servers(6);
    initialize(builder(&fleet, &[0, 1, 2]));
    initialize(builder(&fleet, &[3, 4, 5]));
    let wrong = builder(&fleet, &[0, 1]).reconfigure(urls(&fleet, &[0, 1])).run().await;
    assert!(matches!(wrong, Err(ReconfigureError::OtherNodeList { .. })), "{wrong:?}");
    let foreign = builder(&fleet, &[0, 1, 2]).reconfigure(urls(&fleet, &[0, 1, 3])).run().await;
    assert!(matches!(foreign, Err(ReconfigureError::NewNodeExcluded { .. })), "{foreign:?}");
}

/// The node that replies first is of another lock cluster, whose list is none between the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_in_force_is_judged_when_every_node_was_dialed() {
    let mut fleet = blank_servers(6);
    initialize(builder(&fleet, &[0, 1, 2]));
    initialize(builder(&fleet, &[3, 4, 5]));
    (0..3).for_each(|node| fleet[node].pause());
    let builder = builder(&fleet, &[0, 1, 2]).dial_timeout(secs(20));
    let running = tokio::spawn(builder.reconfigure(urls(&fleet, &[0, 1, 3])).run());
    eventually("the foreign node has replied", || async {
        let clients: String = fleet[3].command(&["CLIENT", "LIST"]).expect("a reply");
        clients.contains("name=quorlock ") && clients.contains("sub=1")
    })
    .await;
    (0..3).for_each(|node| fleet[node].resume());
    let outcome = running.await.expect("no panic");
    assert!(matches!(outcome, Err(ReconfigureError::NewNodeExcluded { .. })), "{outcome:?}");
}

/// The only node that replies is of another lock cluster. Its list is not the reason.
#[tokio::test]
async fn where_no_node_of_the_list_before_replies_the_error_says_so() {
    let mut fleet = blank_servers(6);
    initialize(builder(&fleet, &[0, 1, 2]));
    initialize(builder(&fleet, &[3, 4, 5]));
    (0..3).for_each(|node| fleet[node].kill());
    let reconfiguration = |fleet: &Fleet| {
        builder(fleet, &[0, 1, 2]).connect_timeout(millis(500)).reconfigure(urls(fleet, &[0, 1, 3]))
    };
    for outcome in [reconfiguration(&fleet).run().await, reconfiguration(&fleet).inspect().await] {
        let Err(ReconfigureError::Connect(ConnectError::NoQuorum { nodes, .. })) = outcome else {
            panic!("expected NoQuorum: {outcome:?}")
        };
        let down = nodes.iter().filter(|node| matches!(node.state, NodeState::Down { .. })).count();
        assert_eq!(down, 3, "{nodes:?}");
    }
    // One node of the list before is enough to know which lock cluster it is about.
    fleet[0].restart(Data::Kept).expect("restarted");
    let progress = reconfiguration(&fleet).inspect().await.expect("a member replies");
    let is_excluded =
        |it: &ReconfigurationObstacle| matches!(it, ReconfigurationObstacle::NewNodeExcluded { .. });
    assert!(progress.obstacles.iter().any(is_excluded), "{:?}", progress.obstacles);
}

/// The names of the nodes stay, and their URLs change.
#[tokio::test]
async fn nodes_with_names_are_exchanged_and_followed_under_other_urls() {
    let fleet = blank_servers(4);
    let before = || builder(&fleet, &[0, 1, 2]).node_names(["a", "b", "c"]);
    initialize(before());
    let tunnel = MovableAddress::of(&fleet[0]).expect("a port");
    let mut to = urls(&fleet, &[0, 1, 3]);
    to[0] = tunnel.url();
    let running = before().reconfigure(to.clone()).to_names(["a", "b", "d"]).run();
    let done = timeout(secs(60), running).await.expect("it ends").expect("all nodes are up");
    assert_eq!((&*done.epoch, done.nodes.len()), ("1.1", 3));
    let after = Redlock::builder().nodes(to).node_names(["a", "b", "d"]).max_ttl(MAX_TTL);
    let redlock = after.connect().await.expect("all nodes are up");
    let nodes = redlock.node_status().await;
    assert!(nodes.iter().all(|node| node.seat.as_ref().is_some_and(|seat| seat.same_node_list)), "{nodes:?}");
}
