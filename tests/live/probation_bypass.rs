//! Faults that hide a data loss: a node loses a lock together with the sign that would put it on probation.
//!
//! Each test has three nodes. The holder cannot reach node 2, so it has its lock on the nodes 0 and 1. Then
//! node 1 loses the lock and the sign of the loss. A new client reaches the nodes 1 and 2, which are a
//! quorum: first at once, and then after a client that reached all nodes has given node 1 another seat.

use std::cell::RefCell;
use std::time::Duration;

use quorlock::node::{ExclusionReason, NodeState};
use quorlock::{AcquireError, Guard, Redlock, RedlockBuilder};
use quorlock_chaos::{ClockLibrary, Data, Fleet, MovableAddress, Setup, redis};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{blank_servers, eventually, initialize, is_voting, millis, secs};

/// The max ttl and the ttl of the lock: long enough to inject the fault and to deny a new client meanwhile.
const MAX_TTL: Duration = secs(4);

struct Scenario {
    fleet: Fleet,
    /// All clients have the same list of nodes, whatever they reach.
    addresses: RefCell<Vec<MovableAddress>>,
}

impl Scenario {
    fn new(fleet: Fleet) -> Self {
        let address = |server| MovableAddress::of(server).expect("a port");
        let addresses = RefCell::new(fleet.servers().iter().map(address).collect());
        let scenario = Self { fleet, addresses };
        initialize(scenario.builder());
        scenario
    }

    fn builder(&self) -> RedlockBuilder {
        let urls = self.addresses.borrow().iter().map(MovableAddress::url).collect::<Vec<_>>();
        Redlock::builder().nodes(urls).max_ttl(MAX_TTL)
    }

    /// From now on, clients reach only these nodes.
    fn reach(&self, nodes: &[usize]) {
        for (node, address) in self.addresses.borrow_mut().iter_mut().enumerate() {
            if nodes.contains(&node) {
                address.move_to(&self.fleet[node]);
            } else {
                address.disconnect();
            }
        }
    }

    /// Acquires the lock on the nodes 0 and 1. Without renewal, because a renewal might restore the key on
    /// node 1.
    async fn acquire_first(&self) -> Guard {
        self.reach(&[0, 1]);
        let holder = self.builder().connect().await.expect("two of three");
        let mutex = holder.mutex("k").ttl(MAX_TTL).auto_renew(false);
        let guard = mutex.wait_timeout(secs(20)).acquire().await.expect("two of three");
        assert_eq!(guard.spare_nodes(), 0);
        self.reach(&[0, 1, 2]);
        guard
    }

    /// One attempt by a client without knowledge of the nodes, like each run of the command.
    async fn try_acquire_by_new_client(&self) -> Result<Option<Guard>, AcquireError> {
        self.reach(&[1, 2]);
        let redlock = self.builder().connect_lazy().expect("built");
        redlock.mutex("k").ttl(MAX_TTL).try_acquire().await
    }

    /// Lets a client that reaches every node give node 1 another seat, unless it has one.
    async fn replace_node_1(&self) {
        self.reach(&[0, 1, 2]);
        let other = self.builder().connect().await.expect("a quorum");
        eventually("the node has another seat", || async {
            other.node_status().await[1].probation.is_some()
        })
        .await;
        other.shutdown(secs(10)).await.expect("no pending release");
    }

    /// Waits until a new client is granted the lock, which must not happen while the first guard is valid.
    /// Returns whether an attempt was denied before that; otherwise the test was too slow to show anything.
    async fn is_denied_while_valid(&self, first: &Guard) -> bool {
        let began = Instant::now();
        let mut was_denied = false;
        let attempts = async {
            for count in 0.. {
                if count == 1 {
                    self.replace_node_1().await;
                }
                let outcome = self.try_acquire_by_new_client().await;
                let is_valid = first.is_valid();
                match outcome {
                    Ok(Some(_)) => {
                        let (after, left) = (began.elapsed(), first.remaining());
                        assert!(!is_valid, "two holders: {after:?} after the fault, for another {left:?}");
                        return was_denied;
                    }
                    Ok(None) | Err(_) => was_denied |= is_valid,
                }
                sleep(millis(20)).await;
            }
            was_denied
        };
        timeout(secs(20), attempts).await.expect("probation ends")
    }

    fn node_1_has(&self, key: &str) -> bool {
        self.fleet[1].command(&["EXISTS", key]).expect("up")
    }
}

/// Repeats the scenario until it is conclusive: at the first run, unless the machine is very busy.
async fn repeat_until_conclusive(mut scenario: impl AsyncFnMut() -> bool) {
    for _ in 0..5 {
        if scenario().await {
            return;
        }
    }
    panic!("inconclusive: every run took longer than the lock lasted");
}

/// A machine starts with a clock that is 120 s behind, and its time service corrects it a moment later.
#[tokio::test]
async fn probation_is_not_shortened_when_a_clock_is_corrected_after_a_restart() {
    let library = match ClockLibrary::build() {
        Ok(library) => library,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    repeat_until_conclusive(async || {
        let mut scenario =
            Scenario::new(Fleet::start_with(3, &Setup::new().clocks(&library)).expect("server starts"));
        let first = scenario.acquire_first().await;
        let restarted_at = Instant::now();
        scenario.fleet[1].kill();
        let set = |micros| {
            scenario.fleet[1].clock().expect("the server has its own clock").step(micros).expect("written");
        };
        set(-120_000_000);
        scenario.fleet[1].restart(Data::Empty).expect("restarted");
        let other = scenario.builder().connect().await.expect("a quorum");
        eventually("the node is on probation", || async { other.node_status().await[1].probation.is_some() })
            .await;
        other.shutdown(secs(10)).await.expect("no pending release");
        let attempt = scenario.try_acquire_by_new_client().await;
        assert!(matches!(attempt, Err(AcquireError::OnProbation { .. })), "{attempt:?}");
        let set = |micros| {
            scenario.fleet[1].clock().expect("the server has its own clock").step(micros).expect("written");
        };
        set(120_000_000);
        let is_conclusive = scenario.is_denied_while_valid(&first).await;
        let after = restarted_at.elapsed();
        assert!(after > MAX_TTL, "probation lasted only {after:?}");
        is_conclusive
    })
    .await;
}

#[tokio::test]
async fn a_reset_of_the_statistics_does_not_hide_an_eviction() {
    repeat_until_conclusive(async || {
        let scenario = Scenario::new(blank_servers(3));
        let other = scenario.builder().connect().await.expect("all nodes are up");
        eventually("every node votes", || async { other.node_status().await.iter().all(is_voting) }).await;
        let first = scenario.acquire_first().await;
        let marker = || scenario.fleet[1].command::<Option<String>>(&["GET", "quorlock:node"]).expect("up");
        let before = marker();
        let set = |option, value| {
            scenario.fleet[1].command::<()>(&["CONFIG", "SET", option, value]).expect("set");
        };
        set("maxmemory-policy", "volatile-random");
        set("maxmemory", "1");
        eventually("the node evicts both keys", || async {
            !scenario.node_1_has("k") && !scenario.node_1_has("quorlock:fence:k")
        })
        .await;
        eventually("the client sees it", || async {
            other.node_status().await[1].state == NodeState::Excluded(ExclusionReason::EvictionEnabled)
        })
        .await;
        // Until then, only the statistics say that it evicted.
        eventually("the client records it", || async { marker() != before }).await;
        set("maxmemory", "0");
        set("maxmemory-policy", "noeviction");
        scenario.fleet[1].command::<()>(&["CONFIG", "RESETSTAT"]).expect("reset");
        scenario.is_denied_while_valid(&first).await
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_swapped_back_casts_no_vote() {
    repeat_until_conclusive(async || {
        let scenario = Scenario::new(blank_servers(3));
        scenario.fleet[1].swap_databases().expect("swapped");
        let other = scenario.builder().connect().await.expect("a quorum");
        eventually("the blank node has a marker", || async { scenario.node_1_has("quorlock:node") }).await;
        // Afterwards this database votes.
        eventually("its probation ends", || async { other.node_status().await.iter().all(is_voting) }).await;
        other.shutdown(secs(10)).await.expect("no pending release");
        let first = scenario.acquire_first().await;
        scenario.fleet[1].swap_databases().expect("swapped back");
        scenario.is_denied_while_valid(&first).await
    })
    .await;
}

#[tokio::test]
async fn a_flushed_node_whose_marker_is_restored_casts_no_vote() {
    repeat_until_conclusive(async || {
        let scenario = Scenario::new(blank_servers(3));
        let first = scenario.acquire_first().await;
        let mut connection = scenario.fleet[1].connect(secs(5)).expect("up");
        let marker: Vec<u8> =
            redis::cmd("DUMP").arg("quorlock:node").query(&mut connection).expect("present");
        scenario.fleet[1].wipe().expect("flushed");
        let mut restore = redis::cmd("RESTORE");
        restore.arg("quorlock:node").arg(0).arg(marker).arg("REPLACE");
        restore.query::<()>(&mut connection).expect("restored");
        scenario.is_denied_while_valid(&first).await
    })
    .await;
}
