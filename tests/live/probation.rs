//! Data loss on a node: in fenced mode it casts no vote until lost locks have expired; in plain mode it
//! admits a second holder.
//!
//! One scenario, repeated for each kind of data loss. The holder cannot reach node 2 of three, so it has its
//! lock on the nodes 0 and 1. Then node 1 loses its data. All other clients reach the nodes 1 and 2, which
//! are a quorum.

use std::time::Duration;

use quorlock::{Guard, Redlock, RedlockBuilder};
use quorlock_chaos::{Data, Fleet, MovableAddress, Server, Setup, Snapshot};
use tokio::time::timeout;

use crate::support::{blank_servers, eventually, initialize, secs};

/// Longer than the slowest fault takes, and short enough to wait for.
const MAX_TTL: Duration = secs(3);

/// The servers of one scenario.
struct Scenario {
    fleet: Fleet,
    /// The address of node 1.
    address: MovableAddress,
    /// A server without data, up all the time.
    blank: Server,
    /// A replica of node 1 until just before the acquire.
    lagging: Server,
    /// The data of node 1 before the acquire.
    old_data: Snapshot,
    is_plain: bool,
}

impl Scenario {
    fn new(is_plain: bool) -> Self {
        let fleet = blank_servers(3);
        let (blank, lagging) = (server(), server());
        // First, because a server takes a new replication id when it gets its first replica.
        lagging.demote(&fleet[1]).expect("demoted");
        let address = MovableAddress::of(&fleet[1]).expect("a port");
        let mut scenario =
            Self { old_data: fleet[1].snapshot().expect("read"), fleet, address, blank, lagging, is_plain };
        if !is_plain {
            initialize(scenario.builder());
            let has_marker = || scenario.lagging.command::<bool>(&["EXISTS", "quorlock:node"]).expect("up");
            while !has_marker() {
                std::thread::yield_now();
            }
        }
        scenario.lagging.promote().expect("promoted");
        scenario.old_data = scenario.fleet[1].snapshot().expect("read");
        scenario
    }

    /// For clients that reach every node.
    fn builder(&self) -> RedlockBuilder {
        self.with_third(self.fleet[2].url())
    }

    /// For the holder, which does not reach node 2.
    fn holder_builder(&self) -> RedlockBuilder {
        // No server listens at port 1.
        self.with_third("redis://127.0.0.1:1".to_owned())
    }

    fn with_third(&self, third: String) -> RedlockBuilder {
        let builder = Redlock::builder().nodes([self.fleet[0].url(), self.address.url(), third]);
        if self.is_plain { builder.mode(quorlock::Mode::Plain) } else { builder.max_ttl(MAX_TTL) }
    }

    async fn acquire_first(&self) -> (Redlock, Guard) {
        let holder = self.holder_builder().connect().await.expect("two of three");
        // In plain mode without renewal, which might restore the key on node 1 before the rival tries.
        let mutex = holder.mutex("k").auto_renew(!self.is_plain);
        let mutex = if self.is_plain { mutex.ttl(secs(600)) } else { mutex.ttl(MAX_TTL) };
        let guard = mutex.acquire().await.expect("two of three");
        assert_eq!(guard.spare_nodes(), 0);
        (holder, guard)
    }
}

fn server() -> Server {
    Server::start(&Setup::new()).expect("server starts")
}

/// Makes node 1 lose its data.
type Fault = fn(&mut Scenario);

const FAULTS: [(&str, Fault); 8] = [
    ("restarted without data", |scenario| scenario.fleet[1].restart(Data::Empty).expect("restarted")),
    ("restarted with a stale copy", |scenario| {
        scenario.fleet[1].restart(Data::Old(scenario.old_data.clone())).expect("restarted");
    }),
    ("flushed", |scenario| scenario.fleet[1].wipe().expect("flushed")),
    ("limited in memory for a while", |scenario| {
        // No client is connected to node 1 meanwhile, so none sees that it evicts.
        scenario.lagging.kill();
        scenario.address.move_to(&scenario.lagging);
        evict(&scenario.fleet[1]);
        scenario.address.move_to(&scenario.fleet[1]);
    }),
    ("swapped", |scenario| scenario.fleet[1].swap_databases().expect("swapped")),
    ("demoted and promoted", |scenario| {
        scenario.fleet[1].demote(&scenario.blank).expect("demoted");
        scenario.fleet[1].promote().expect("promoted");
    }),
    ("replaced by a blank server", |scenario| scenario.address.move_to(&scenario.blank)),
    ("replaced by a replica that lags", |scenario| scenario.address.move_to(&scenario.lagging)),
];

/// Makes the server evict keys with a ttl until the lock is gone.
fn evict(server: &Server) {
    let set = |option, value| server.command::<()>(&["CONFIG", "SET", option, value]).expect("set");
    set("maxmemory-policy", "volatile-random");
    set("maxmemory", "1");
    while server.command::<bool>(&["EXISTS", "k"]).expect("up") {
        std::thread::yield_now();
    }
    set("maxmemory", "0");
    set("maxmemory-policy", "noeviction");
}

/// Runs the scenario for each fault, on its own thread and runtime, because waiting for its servers blocks.
fn for_each_fault<F: Future<Output = ()>>(scenario: impl Fn(&'static str, Fault) -> F + Sync) {
    std::thread::scope(|scope| {
        for (name, fault) in FAULTS {
            let scenario = &scenario;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(scenario(name, fault));
            });
        }
    });
}

#[test]
fn a_plain_lock_has_two_holders_when_a_node_loses_data() {
    for_each_fault(async |name, fault| {
        let mut scenario = Scenario::new(true);
        let rival = scenario.builder().connect().await.expect("all nodes are up");
        let (_holder, guard) = scenario.acquire_first().await;
        assert!(rival.mutex("k").try_acquire().await.expect("a quorum replies").is_none(), "{name}");
        fault(&mut scenario);
        let second =
            rival.mutex("k").wait_timeout(secs(20)).acquire().await.expect("the node has lost the key");
        assert!(guard.is_valid() && second.is_valid(), "{name}: the fault has no effect");
    });
}

#[test]
fn a_fenced_lock_has_one_holder_when_a_node_loses_data() {
    for_each_fault(async |name, fault| {
        for _ in 0..5 {
            if has_one_holder(name, fault).await {
                return;
            }
        }
        panic!("{name}: inconclusive: every run took longer than the lock lasted");
    });
}

/// Returns whether the lock was still valid when the rivals saw the node on probation; otherwise the run is
/// inconclusive.
async fn has_one_holder(name: &str, fault: Fault) -> bool {
    let mut scenario = Scenario::new(false);
    let connected = scenario.builder().connect().await.expect("all nodes are up");
    let (holder, guard) = scenario.acquire_first().await;
    fault(&mut scenario);
    // Like a new run of the command: it never saw the node, so it relies on its marker.
    let lazy = scenario.builder().connect_lazy().expect("built");
    let rivals = [connected, lazy];
    let waiting = rivals.clone().map(|rival| {
        let first = guard.view();
        tokio::spawn(async move {
            let second = rival.mutex("k").ttl(MAX_TTL).acquire().await.expect("after the probation");
            assert!(!first.is_valid(), "two holders");
            second.release().await.expect("released");
        })
    });
    for rival in &rivals {
        eventually("node 1 is on probation", || async { rival.node_status().await[1].probation.is_some() })
            .await;
    }
    let is_conclusive = guard.is_valid();
    for second in waiting {
        timeout(secs(20), second).await.expect("probation ends").expect(name);
    }
    drop(holder);
    is_conclusive
}
