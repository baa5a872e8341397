//! One test per fault: servers are killed, paused and partitioned while locks are held. `quorlock chaos`
//! combines faults at random; `probation.rs` tests the loss of data.

use std::time::Duration;

use quorlock::event::LossReason;
use quorlock::node::{NodeState, NodeStatus};
use quorlock::{AcquireError, Redlock};
use quorlock_chaos::{Data, DirectionRule, LinkRules, Proxy, Server, Setup};
use tokio::time::{Instant, timeout};

use crate::support::{LockCluster, client, eventually, fenced_with_max_ttl, is_up, is_voting, secs};

/// Servers, each behind its own proxy, and a client that has connected to all of them.
struct Scenario {
    // Dropped in this order: the client, the proxies, the servers.
    redlock: Redlock,
    proxies: Vec<Proxy>,
    cluster: LockCluster,
}

impl Scenario {
    async fn new(nodes: usize) -> Self {
        let cluster = fenced_with_max_ttl(nodes, MAX_TTL);
        let proxy = |server: &Server| Proxy::in_front_of(server, 1).expect("a port");
        let proxies: Vec<Proxy> = cluster.servers().iter().map(proxy).collect();
        let urls = proxies.iter().map(|proxy| proxy.url(0));
        let redlock = Redlock::builder().nodes(urls).max_ttl(MAX_TTL).connect().await.expect("up");
        eventually("every node votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
        Self { redlock, proxies, cluster }
    }

    /// The number of nodes to which the client is connected.
    async fn connected_nodes(&self) -> usize {
        self.redlock.node_status().await.iter().filter(|node| is_up(node)).count()
    }
}

#[tokio::test]
async fn a_lock_is_kept_when_a_minority_is_killed() {
    let mut cluster = fenced_with_max_ttl(5, MAX_TTL);
    let redlock = client(&cluster).await;
    let guard = redlock.mutex("k").ttl(secs(1)).acquire().await.expect("free");
    let first = guard.deadline();
    cluster[0].kill();
    cluster[3].kill();
    eventually("the lock is renewed without them", || async {
        guard.deadline().boot_time() > first.boot_time()
    })
    .await;
    assert!(guard.is_valid());
    guard.release().await.expect("three nodes confirm");
    redlock
        .mutex("k")
        .wait_timeout(Duration::ZERO)
        .acquire()
        .await
        .expect("three nodes are a quorum")
        .release()
        .await
        .expect("released");
}

#[tokio::test]
async fn a_lock_is_lost_when_a_majority_is_killed_and_granted_again_after_restart() {
    let mut cluster = fenced_with_max_ttl(5, MAX_TTL);
    let redlock = client(&cluster).await;
    let guard = redlock.mutex("k").ttl(secs(1)).acquire().await.expect("free");
    for node in 0..3 {
        cluster[node].kill();
    }
    assert_eq!(guard.lost().await, LossReason::Expired);
    assert!(!guard.is_valid(), "a lost lock stays lost");
    let error = redlock
        .mutex("k")
        .wait_timeout(Duration::ZERO)
        .acquire()
        .await
        .expect_err("two of five nodes are no quorum");
    assert!(matches!(error, AcquireError::NoQuorum { .. }), "{error:?}");
    for node in 0..3 {
        cluster[node].restart(Data::Kept).expect("restarted");
    }
    // After the restart they are on probation for the max ttl.
    let again = redlock.mutex("k").wait_timeout(secs(20)).acquire().await.expect("a quorum is back");
    again.release().await.expect("released");
}

#[tokio::test]
async fn a_truncated_reply_is_no_vote_and_leaves_no_key() {
    let scenario = Scenario::new(3).await;
    scenario.proxies[0].truncate(0);
    let guard =
        scenario.redlock.mutex("k").ttl(MAX_TTL).acquire().await.expect("the two other nodes are a quorum");
    eventually("the node is reconnected and has the key", || async {
        scenario.connected_nodes().await == 3 && guard.spare_nodes() == 1
    })
    .await;
    guard.release().await.expect("released");
    eventually("no key is left", || async { crate::support::key_count(&scenario.cluster) == 0 }).await;
}

#[tokio::test]
async fn lost_replies_cost_only_a_vote() {
    let scenario = Scenario::new(3).await;
    // Requests arrive, so the node sets the key, but its replies do not.
    scenario.proxies[1]
        .set(0, LinkRules { to_server: DirectionRule::Forward, to_client: DirectionRule::HoldBack });
    let guard =
        scenario.redlock.mutex("k").ttl(MAX_TTL).acquire().await.expect("the two other nodes are a quorum");
    assert_eq!(guard.spare_nodes(), 0);
    eventually("the third node has the key too", || async {
        crate::support::nodes_with_key(&scenario.cluster, "k") == 3
    })
    .await;
    guard.release().await.expect("two nodes confirm");
    eventually("the third node has released the key", || async {
        crate::support::nodes_with_key(&scenario.cluster, "k") == 0
    })
    .await;
    scenario.proxies[1].set(0, LinkRules::OPEN);
    eventually("the third node is reconnected", || async { scenario.connected_nodes().await == 3 }).await;
}

#[tokio::test]
async fn a_quorum_does_not_wait_for_a_slow_node() {
    let scenario = Scenario::new(3).await;
    let delay = secs(2);
    scenario.proxies[2].set(0, LinkRules::delayed(delay, Duration::ZERO));
    let start = Instant::now();
    let guard =
        scenario.redlock.mutex("k").ttl(MAX_TTL).acquire().await.expect("two fast nodes are a quorum");
    // A reply takes twice the delay.
    assert!(start.elapsed() < 2 * delay, "{:?}", start.elapsed());
    guard.release().await.expect("released");
    eventually("the slow node has released the key too", || async {
        crate::support::key_count(&scenario.cluster) == 0
    })
    .await;
}

#[tokio::test]
async fn a_node_that_delays_all_commands_keeps_no_key() {
    let cluster = fenced_with_max_ttl(3, MAX_TTL);
    let redlock = client(&cluster).await;
    cluster[0].command::<()>(&["CLIENT", "PAUSE", "1500", "ALL"]).expect("paused");
    let guard = redlock.mutex("k").ttl(MAX_TTL).acquire().await.expect("the two other nodes are a quorum");
    assert_eq!(guard.spare_nodes(), 0);
    guard.release().await.expect("two nodes confirm");
    // These replies come after those of the delayed commands.
    eventually("no pending release", || async { crate::support::key_count(&cluster) == 0 }).await;
    eventually("it votes again", || async { redlock.node_status().await.iter().all(is_voting) }).await;
}

#[tokio::test]
async fn a_partitioned_node_receives_its_pending_release_when_it_is_back() {
    let scenario = Scenario::new(3).await;
    let guard = scenario.redlock.mutex("k").ttl(MAX_TTL).acquire().await.expect("free");
    eventually("every node has the key", || async { guard.spare_nodes() == 1 }).await;
    scenario.proxies[0].set(0, LinkRules::PARTITIONED);
    guard.release().await.expect("two nodes confirm");
    assert_eq!(crate::support::nodes_with_key(&scenario.cluster, "k"), 1, "the release could not reach it");
    scenario.proxies[0].set(0, LinkRules::OPEN);
    eventually("the release reaches it", || async { crate::support::key_count(&scenario.cluster) == 0 })
        .await;
}

#[tokio::test]
async fn half_open_connections_are_closed_and_dialed_again() {
    let scenario = Scenario::new(3).await;
    for proxy in &scenario.proxies {
        proxy.half_open(0);
    }
    // The server neither replies nor resets, so a client without timeouts would wait forever.
    let guard = scenario
        .redlock
        .mutex("k")
        .ttl(MAX_TTL)
        .wait_timeout(secs(20))
        .acquire()
        .await
        .expect("dialed again");
    guard.release().await.expect("released");
    eventually("all nodes are reconnected", || async { scenario.connected_nodes().await == 3 }).await;
}

/// A node that is excluded for its password is dialed only every five seconds; five rounds of that would take
/// longer.
#[tokio::test]
async fn a_promoted_replica_votes_again_soon() {
    let cluster = fenced_with_max_ttl(3, Duration::from_millis(200));
    let redlock = client(&cluster).await;
    let master = Server::start(&Setup::new()).expect("server starts");
    let rounds = async {
        for _ in 0..5 {
            cluster[0].demote(&master).expect("demoted");
            let is_excluded = |node: &NodeStatus| matches!(node.state, NodeState::Excluded(_));
            eventually("the node is excluded", || async {
                drop(redlock.mutex("k").acquire().await.expect("the two other nodes are a quorum"));
                is_excluded(&redlock.node_status().await[0])
            })
            .await;
            cluster[0].promote().expect("promoted");
            eventually("it votes again", || async { redlock.node_status().await.iter().all(is_voting) })
                .await;
        }
    };
    timeout(secs(24), rounds).await.expect("an excluded replica is dialed as often as a node that is down");
}

const MAX_TTL: Duration = secs(2);
