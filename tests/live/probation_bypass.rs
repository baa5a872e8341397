//! Ways round probation: what makes a node that forgot a lock look as if it had not.
//!
//! One story each, of three nodes. The holder cannot reach node 2, so it has its lock on the nodes 0 and 1. Then node 1
//! loses the lock, and the trace of that is wiped too. Somebody who never knew the nodes reaches 1 and 2, a quorum.

use std::time::Duration;

use quorlock::{AcquireError, ExclusionReason, Guard, NodeState, Redlock, RedlockBuilder};
use quorlock_chaos::{ClockLibrary, Data, Fleet, Setup, redis};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{blank_servers, eventually, initialize, is_voting, millis, secs};

/// Of the cluster, and the ttl of the lock: long enough for the fault to be done and the rival refused meanwhile.
const MAX_TTL: Duration = secs(4);
/// Nobody listens at port 1.
const NOWHERE: &str = "redis://127.0.0.1:1";

struct World {
    fleet: Fleet,
}

impl World {
    fn of(fleet: Fleet) -> Self {
        let world = Self { fleet };
        initialize(world.clients([0, 1, 2]));
        world
    }

    /// Clients that reach these nodes.
    fn clients<const N: usize>(&self, reached: [usize; N]) -> RedlockBuilder {
        let url = |node| if reached.contains(&node) { self.fleet[node].url() } else { NOWHERE.to_owned() };
        Redlock::builder().nodes((0..3).map(url)).max_ttl(MAX_TTL)
    }

    /// The lock on the nodes 0 and 1. It is not renewed: that might put its key back before the rival comes.
    async fn hold(&self) -> Guard {
        let holder = self.clients([0, 1]).connect().await.expect("two of three");
        let mutex = holder.mutex("k").ttl(MAX_TTL).auto_renew(false);
        let guard = mutex.wait_timeout(secs(20)).acquire().await.expect("two of three");
        assert_eq!(guard.spare_nodes(), 0);
        guard
    }

    /// Somebody who knew nothing of these nodes, as each run of a command.
    async fn try_fresh(&self) -> Result<Option<Guard>, AcquireError> {
        let fresh = self.clients([1, 2]).connect().await.expect("two of three");
        fresh.mutex("k").ttl(MAX_TTL).try_acquire().await
    }

    /// Waits until one who comes fresh is granted the lock, which must not be while it has its first holder. True if
    /// it was refused before that; otherwise all came too late, and nothing was shown.
    async fn is_refused_while(&self, first: &Guard) -> bool {
        let began = Instant::now();
        let mut was_refused = false;
        let trying = async {
            loop {
                let outcome = self.try_fresh().await;
                let is_valid = first.is_valid();
                match outcome {
                    Ok(Some(_)) => {
                        let (after, left) = (began.elapsed(), first.remaining());
                        assert!(!is_valid, "two holders: {after:?} after the fault, for another {left:?}");
                        return was_refused;
                    }
                    Ok(None) | Err(_) => was_refused |= is_valid,
                }
                sleep(millis(20)).await;
            }
        };
        timeout(secs(20), trying).await.expect("probation ends")
    }

    fn is_there(&self, key: &str) -> bool {
        self.fleet[1].command(&["EXISTS", key]).expect("up")
    }
}

/// Tells the story until it showed something, which it does at once unless the machine is very busy.
async fn until_shown(mut story: impl AsyncFnMut() -> bool) {
    for _ in 0..5 {
        if story().await {
            return;
        }
    }
    panic!("it always took longer than the lock lasted, so nothing was shown");
}

/// A machine that comes up with a clock that is behind, and has it set by its time service a moment later.
#[tokio::test]
async fn probation_is_not_shortened_when_a_clock_is_corrected_after_a_restart() {
    let library = match ClockLibrary::build() {
        Ok(library) => library,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    until_shown(async || {
        let mut world = World::of(Fleet::start_with(3, &Setup::new().clocks(&library)).expect("started"));
        let first = world.hold().await;
        let restarted_at = Instant::now();
        world.fleet[1].kill();
        let set = |micros| world.fleet[1].clock().expect("its own").step(micros).expect("written");
        set(-120_000_000);
        world.fleet[1].restart(Data::Empty).expect("back");
        let other = world.clients([0, 1, 2]).connect().await.expect("a quorum");
        eventually("it is met", || async { other.node_status().await[1].probation.is_some() }).await;
        other.shutdown(secs(10)).await.expect("nothing is owed");
        let control = world.try_fresh().await;
        assert!(matches!(control, Err(AcquireError::OnProbation { .. })), "{control:?}");
        let set = |micros| world.fleet[1].clock().expect("its own").step(micros).expect("written");
        set(120_000_000);
        let is_shown = world.is_refused_while(&first).await;
        let after = restarted_at.elapsed();
        assert!(after > MAX_TTL, "its probation lasted {after:?}, by a clock that is right");
        is_shown
    })
    .await;
}

#[tokio::test]
async fn a_reset_of_the_statistics_does_not_hide_an_eviction() {
    until_shown(async || {
        let world = World::of(blank_servers(3));
        let other = world.clients([0, 1, 2]).connect().await.expect("all are up");
        eventually("all vote", || async { other.node_status().await.iter().all(is_voting) }).await;
        let first = world.hold().await;
        let set = |option, value| {
            world.fleet[1].command::<()>(&["CONFIG", "SET", option, value]).expect("set");
        };
        set("maxmemory-policy", "volatile-random");
        set("maxmemory", "1");
        eventually("it evicts", || async { !world.is_there("k") && !world.is_there("quorlock:fence:k") })
            .await;
        eventually("that is seen", || async {
            other.node_status().await[1].state == NodeState::Excluded(ExclusionReason::EvictionEnabled)
        })
        .await;
        set("maxmemory", "0");
        set("maxmemory-policy", "noeviction");
        world.fleet[1].command::<()>(&["CONFIG", "RESETSTAT"]).expect("reset");
        world.is_refused_while(&first).await
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_swapped_back_casts_no_vote() {
    until_shown(async || {
        let world = World::of(blank_servers(3));
        world.fleet[1].swap().expect("swapped");
        let other = world.clients([0, 1, 2]).connect().await.expect("a quorum");
        eventually("the blank one is taken in", || async { world.is_there("quorlock:node") }).await;
        // From now on it votes.
        eventually("its probation ends", || async { other.node_status().await.iter().all(is_voting) }).await;
        other.shutdown(secs(10)).await.expect("nothing is owed");
        let first = world.hold().await;
        world.fleet[1].swap().expect("swapped back");
        world.is_refused_while(&first).await
    })
    .await;
}

#[tokio::test]
async fn a_flushed_node_whose_marker_is_restored_casts_no_vote() {
    until_shown(async || {
        let world = World::of(blank_servers(3));
        let first = world.hold().await;
        let mut connection = world.fleet[1].connect(secs(5)).expect("up");
        let marker: Vec<u8> =
            redis::cmd("DUMP").arg("quorlock:node").query(&mut connection).expect("it has one");
        world.fleet[1].wipe().expect("flushed");
        let mut restore = redis::cmd("RESTORE");
        restore.arg("quorlock:node").arg(0).arg(marker).arg("REPLACE");
        restore.query::<()>(&mut connection).expect("restored");
        world.is_refused_while(&first).await
    })
    .await;
}
