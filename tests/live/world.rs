//! What the stories have in common.

use std::time::Duration;

use quorlock::{Builder, Redlock};
use quorlock_chaos::{Fleet, Server};
use tokio::time::{Instant, sleep};

pub(crate) fn fleet(nodes: usize) -> Fleet {
    Fleet::start(nodes).expect("a redis-server is installed (scripts/setup)")
}

pub(crate) fn builder(fleet: &Fleet) -> Builder {
    Redlock::builder().nodes(fleet.urls())
}

/// A client that has met every node, so that a story knows where it begins.
pub(crate) async fn client(fleet: &Fleet) -> Redlock {
    let redlock = builder(fleet).connect().await.expect("all nodes are up");
    eventually("every node is up", || async { redlock.nodes().await.iter().all(is_up) }).await;
    redlock
}

pub(crate) fn is_up(node: &quorlock::NodeStatus) -> bool {
    node.state == quorlock::NodeState::Up
}

/// Every key on every node.
pub(crate) fn keys(fleet: &Fleet) -> Vec<Vec<String>> {
    fleet.servers().iter().map(|server| server.command(&["KEYS", "*"]).expect("the node answers")).collect()
}

pub(crate) fn count(fleet: &Fleet) -> usize {
    keys(fleet).iter().map(Vec::len).sum()
}

/// On how many nodes this key stands.
pub(crate) fn standing(fleet: &Fleet, key: &str) -> usize {
    let has = |server: &&Server| server.command::<bool>(&["EXISTS", key]).expect("the node answers");
    fleet.servers().iter().filter(has).count()
}

/// Waits for something that must come, and says what did not.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < end, "in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}
