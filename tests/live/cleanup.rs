//! No key is left behind: cancelled acquires, pending releases, lost connections and shutdown.

use std::sync::{self, Arc};
use std::time::Duration;

use futures::future::try_join_all;
use quorlock::event::LossReason;
use quorlock::node::NodeState;
use quorlock::{AcquireError, Guard, Mutex, Redlock};
use quorlock_chaos::{Data, Setup};
use tokio::time::{sleep, timeout};

use crate::support::{
    LockCluster, builder, client, eventually, fenced, is_up, key_count, millis, plain, secs, with_setup,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_left_after_2000_acquires_with_every_outcome() {
    let fleet = fenced(5);
    let (redlock, other) = (client(&fleet).await, client(&fleet).await);
    let fleet = Arc::new(sync::Mutex::new(fleet));
    let blocker = redlock.mutex("taken").ttl(secs(60)).acquire().await.expect("free");

    let faults = std::thread::spawn({
        let fleet = Arc::clone(&fleet);
        move || inject_faults(&fleet)
    });
    let tasks: Vec<_> =
        (0..40_u64).map(|task| tokio::spawn(run_task(task, redlock.clone(), other.clone()))).collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    faults.join().expect("no panic");

    blocker.release().await.expect("released");
    redlock.shutdown(secs(20)).await.expect("no pending release");
    other.shutdown(secs(20)).await.expect("no pending release");
    // Every key had a ttl of a minute, so none has just expired.
    assert_eq!(key_count(&fleet.lock().expect("not poisoned")), 0);
}

/// Fifty acquires: a third dropped at a random time, a third on a contended lock, a third granted and
/// released.
async fn run_task(task: u64, redlock: Redlock, other: Redlock) {
    let mut random = task.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for attempt in 0..50 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let name = format!("own:{task}:{}", attempt % 4);
        match attempt % 3 {
            0 => {
                let mutex = redlock.mutex(&name).ttl(secs(60));
                drop(timeout(Duration::from_micros(random % 3000), mutex.acquire()).await);
            }
            1 => {
                let wait = millis(1 + random % 20);
                let result = other.mutex("taken").ttl(secs(60)).wait_timeout(wait).acquire().await;
                assert!(
                    matches!(result, Err(AcquireError::Contended { .. } | AcquireError::NoQuorum { .. })),
                    "{result:?}"
                );
            }
            _ => {
                let guard =
                    redlock.mutex(&name).ttl(secs(60)).acquire().await.expect("the name is not shared");
                assert!(guard.is_valid());
                if random.is_multiple_of(2) {
                    drop(guard);
                } else {
                    // A missing confirmation is no failure: the release continues in the background.
                    let _ = guard.release().await;
                }
            }
        }
    }
}

/// Pauses one node for longer than its connection is kept, and closes connections of two others every 200 ms.
fn inject_faults(fleet: &sync::Mutex<LockCluster>) {
    let close_connections = |node: usize| {
        let _: Result<i64, _> =
            fleet.lock().expect("not poisoned")[node].command(&["CLIENT", "KILL", "TYPE", "normal"]);
    };
    fleet.lock().expect("not poisoned")[0].pause();
    for round in 0..15 {
        close_connections(1 + round % 2);
        std::thread::sleep(millis(200));
    }
    fleet.lock().expect("not poisoned")[0].resume();
}

#[tokio::test]
async fn an_acquire_dropped_at_any_moment_leaves_no_key() {
    for fleet in [fenced(3), plain(3)] {
        let redlock = client(&fleet).await;
        for micros in (0..2000).step_by(20) {
            let mutex = redlock.mutex("k").ttl(secs(60));
            drop(timeout(Duration::from_micros(micros), mutex.acquire()).await);
        }
        redlock.shutdown(secs(5)).await.expect("no pending release");
        assert_eq!(key_count(&fleet), 0);
    }
}

#[tokio::test]
async fn pending_releases_are_sent_when_a_killed_node_is_back() {
    for mut fleet in [fenced(3), plain(3)] {
        let redlock = client(&fleet).await;
        let guard = redlock.mutex("k").ttl(secs(60)).acquire().await.expect("free");
        eventually("every node has the key", || async { key_count(&fleet) == 3 }).await;
        fleet[2].kill();
        guard.release().await.expect("a quorum confirms");
        assert_eq!(
            redlock
                .shutdown(millis(50))
                .await
                .expect_err("one node has a pending release")
                .pending_releases
                .len(),
            1
        );

        let redlock = builder(&fleet).connect().await.expect("two of three");
        let guard = redlock.mutex("other").ttl(secs(60)).acquire().await.expect("two of three");
        fleet[2].restart(Data::Empty).expect("restarted");
        eventually("node 2 is up", || async { redlock.node_status().await.iter().all(is_up) }).await;
        fleet[1].kill();
        drop(guard);
        fleet[1].restart(Data::Kept).expect("restarted");
        redlock.shutdown(secs(10)).await.expect("no pending release");
        assert_eq!(key_count(&fleet), 0);
    }
}

/// A resumed server still reads requests from a connection that was reset meanwhile, until its first reply
/// fails. It reads 16 kB at once: here the SETs, whose releases come later.
#[tokio::test]
async fn commands_still_unread_on_a_closed_connection_are_released() {
    // With I/O threads a server may serve connections in another order.
    let threads = with_setup(3, &Setup::new().args(["--io-threads", "4"]), true);
    for mut fleet in [fenced(3), plain(3), threads] {
        let redlock = client(&fleet).await;
        fleet[2].command::<()>(&["CONFIG", "RESETSTAT"]).expect("a reply");
        fleet[2].pause();
        let mutexes: Vec<_> =
            (0..300).map(|attempt| redlock.mutex(format!("own:{attempt}")).ttl(secs(60))).collect();
        let guards = try_join_all(mutexes.iter().map(Mutex::acquire)).await.expect("two of three");
        try_join_all(guards.into_iter().map(Guard::release)).await.expect("two of three");
        eventually("the connection is closed and dialing fails", || async {
            let nodes = redlock.node_status().await;
            matches!(&nodes[2].state, NodeState::Down { reason: cause, .. } if cause.contains("no reply"))
        })
        .await;
        fleet[2].resume();
        redlock.shutdown(secs(20)).await.expect("no pending release");
        eventually("no connection of the client is left there", || async {
            let clients: String = fleet[2].command(&["CLIENT", "LIST", "TYPE", "normal"]).expect("a reply");
            clients.lines().count() == 1
        })
        .await;
        let stats: String = fleet[2].command(&["INFO", "commandstats"]).expect("a reply");
        assert!(stats.contains("cmdstat_set:"), "the server ran some of the commands: {stats}");
        assert_eq!(key_count(&fleet), 0);
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_guards_and_lists_the_remaining_ones() {
    let fleet = fenced(3);
    let redlock = client(&fleet).await;
    let guard = redlock.mutex("k").acquire().await.expect("free");
    let closing = tokio::spawn({
        let redlock = redlock.clone();
        async move { redlock.shutdown(secs(20)).await }
    });
    eventually("new work is rejected", || async {
        matches!(redlock.mutex("x").try_acquire().await, Err(AcquireError::Closed { .. }))
    })
    .await;
    assert!(guard.is_valid(), "held locks stay valid meanwhile");
    drop(guard);
    closing.await.expect("no panic").expect("no pending release");

    let redlock = client(&fleet).await;
    let guard = redlock.mutex("k").acquire().await.expect("free");
    let left = redlock.shutdown(millis(50)).await.expect_err("a lock is held");
    assert_eq!(left.held_locks, ["k"]);
    let reason = timeout(secs(1), guard.lost()).await.expect("the loss is signaled");
    assert_eq!(reason, LossReason::ClientClosed);
}

#[tokio::test]
async fn no_key_is_left_when_the_last_handle_is_dropped() {
    let fleet = fenced(3);
    let redlock = client(&fleet).await;
    drop(redlock.mutex("k").ttl(secs(60)).acquire().await.expect("free"));
    drop(redlock);
    eventually("the driver has released the key", || async {
        sleep(millis(1)).await;
        key_count(&fleet) == 0
    })
    .await;
}
