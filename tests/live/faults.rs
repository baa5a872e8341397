//! One story for each fault: servers are killed, stopped and cut off while locks are held, and what was promised holds.
//! All of them at once, by chance, is what `quorlock chaos` does. What restarts without data do, `probation.rs` tells.

use std::time::Duration;

use quorlock::{AcquireError, NodeState, NodeStatus, Redlock};
use quorlock_chaos::{Data, DirectionRule, LinkRules, Proxy, Server, Setup};
use tokio::time::{Instant, timeout};

use crate::support::{LockCluster, client, eventually, fenced_with_max_ttl, is_up, is_voting, secs};

/// Servers, each behind a network of its own, and a client that has met all of them.
struct World {
    // The client goes first, then its network, then the servers.
    redlock: Redlock,
    networks: Vec<Proxy>,
    cluster: LockCluster,
}

impl World {
    async fn of(nodes: usize) -> Self {
        let cluster = fenced_with_max_ttl(nodes, MAX_TTL);
        let network = |server: &Server| Proxy::before(server, 1).expect("a port");
        let networks: Vec<Proxy> = cluster.servers().iter().map(network).collect();
        let urls = networks.iter().map(|network| network.url(0));
        let redlock = Redlock::builder().nodes(urls).max_ttl(MAX_TTL).connect().await.expect("up");
        eventually("every node votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
        Self { redlock, networks, cluster }
    }

    /// How many nodes the client is connected to.
    async fn up(&self) -> usize {
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
    eventually("it was renewed without them", || async {
        guard.deadline().boot_nanos() > first.boot_nanos()
    })
    .await;
    assert!(guard.is_valid());
    guard.release().await.expect("three confirm");
    redlock
        .mutex("k")
        .no_wait()
        .acquire()
        .await
        .expect("three are a quorum")
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
    guard.lost().await;
    assert!(!guard.is_valid(), "lost is lost");
    let refused = redlock.mutex("k").no_wait().acquire().await.expect_err("two are no quorum");
    assert!(matches!(refused, AcquireError::NoQuorum { .. }), "{refused:?}");
    for node in 0..3 {
        cluster[node].restart(Data::Kept).expect("back");
    }
    // They may have forgotten, and vote again after the max ttl.
    let again = redlock.mutex("k").wait_timeout(secs(20)).acquire().await.expect("a quorum is back");
    again.release().await.expect("released");
}

#[tokio::test]
async fn a_truncated_reply_is_no_vote_and_leaves_no_key() {
    let world = World::of(3).await;
    world.networks[0].tear(0);
    let guard = world.redlock.mutex("k").ttl(MAX_TTL).acquire().await.expect("two others are a quorum");
    eventually("the node is taken again", || async { world.up().await == 3 && guard.spare_nodes() == 1 })
        .await;
    guard.release().await.expect("released");
    eventually("no key is left", || async { crate::support::key_count(&world.cluster) == 0 }).await;
}

#[tokio::test]
async fn lost_replies_cost_only_a_vote() {
    let world = World::of(3).await;
    // Commands arrive, so the node takes the lock, and nobody hears of it.
    world.networks[1]
        .set(0, LinkRules { to_server: DirectionRule::Forward, to_client: DirectionRule::HoldBack });
    let guard = world.redlock.mutex("k").ttl(MAX_TTL).acquire().await.expect("two others are a quorum");
    assert_eq!(guard.spare_nodes(), 0);
    eventually("the deaf one has it too", || async {
        crate::support::nodes_with_key(&world.cluster, "k") == 3
    })
    .await;
    guard.release().await.expect("two confirm");
    eventually("and gives it back", || async { crate::support::nodes_with_key(&world.cluster, "k") == 0 })
        .await;
    world.networks[1].set(0, LinkRules::OPEN);
    eventually("it is heard again", || async { world.up().await == 3 }).await;
}

#[tokio::test]
async fn a_quorum_does_not_wait_for_a_slow_node() {
    let world = World::of(3).await;
    let delay = secs(2);
    world.networks[2].set(0, LinkRules::slow(delay, Duration::ZERO));
    let start = Instant::now();
    let guard = world.redlock.mutex("k").ttl(MAX_TTL).acquire().await.expect("two are fast");
    // There and back again is twice the delay.
    assert!(start.elapsed() < 2 * delay, "{:?}", start.elapsed());
    guard.release().await.expect("released");
    eventually("the slow one is told too", || async { crate::support::key_count(&world.cluster) == 0 }).await;
}

#[tokio::test]
async fn a_node_that_delays_all_commands_keeps_no_key() {
    let cluster = fenced_with_max_ttl(3, MAX_TTL);
    let redlock = client(&cluster).await;
    cluster[0].command::<()>(&["CLIENT", "PAUSE", "1500", "ALL"]).expect("paused");
    let guard = redlock.mutex("k").ttl(MAX_TTL).acquire().await.expect("two others are a quorum");
    assert_eq!(guard.spare_nodes(), 0);
    guard.release().await.expect("two confirm");
    // Asked behind what was put off, so answered when that is done.
    eventually("nothing is left", || async { crate::support::key_count(&cluster) == 0 }).await;
    eventually("it votes again", || async { redlock.node_status().await.iter().all(is_voting) }).await;
}

#[tokio::test]
async fn a_partitioned_node_receives_its_pending_release_when_it_is_back() {
    let world = World::of(3).await;
    let guard = world.redlock.mutex("k").ttl(MAX_TTL).acquire().await.expect("free");
    eventually("all have it", || async { guard.spare_nodes() == 1 }).await;
    world.networks[0].set(0, LinkRules::CUT);
    guard.release().await.expect("two others confirm");
    assert_eq!(crate::support::nodes_with_key(&world.cluster, "k"), 1, "it could not be told");
    world.networks[0].set(0, LinkRules::OPEN);
    eventually("it is told now", || async { crate::support::key_count(&world.cluster) == 0 }).await;
}

#[tokio::test]
async fn half_open_connections_are_closed_and_dialed_again() {
    let world = World::of(3).await;
    for network in &world.networks {
        network.orphan(0);
    }
    // Nobody refuses, nobody answers; a client that only waited would wait for ever.
    let guard =
        world.redlock.mutex("k").ttl(MAX_TTL).wait_timeout(secs(20)).acquire().await.expect("dialed anew");
    guard.release().await.expect("released");
    eventually("all are dialed anew", || async { world.up().await == 3 }).await;
}

/// Who is barred for its password is dialed every five seconds at most; five rounds of that would take longer.
#[tokio::test]
async fn a_promoted_replica_votes_again_soon() {
    let cluster = fenced_with_max_ttl(3, Duration::from_millis(200));
    let redlock = client(&cluster).await;
    let master = Server::start(&Setup::new()).expect("started");
    let rounds = async {
        for _ in 0..5 {
            cluster[0].demote(&master).expect("a replica");
            let is_barred = |node: &NodeStatus| matches!(node.state, NodeState::Excluded(_));
            eventually("it is barred", || async {
                drop(redlock.mutex("k").acquire().await.expect("two others are a quorum"));
                is_barred(&redlock.node_status().await[0])
            })
            .await;
            cluster[0].promote().expect("a master");
            eventually("it votes again", || async { redlock.node_status().await.iter().all(is_voting) })
                .await;
        }
    };
    timeout(secs(24), rounds).await.expect("it is dialed as often as one that is down");
}

const MAX_TTL: Duration = secs(2);
