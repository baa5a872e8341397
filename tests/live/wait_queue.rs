//! Wait queues: which waiting process is notified, which is dequeued, and that no queue entry is left.

use std::sync::{Arc, Mutex};

use quorlock::{AcquireError, Guard, Redlock};
use quorlock_chaos::{Fleet, LinkRules, Proxy, Setup};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::{
    Worker, builder, client, eventually, fenced, is_up, key_count, millis, nodes_with_key, plain, secs,
    with_setup,
};

pub(crate) const WAIT_QUEUE_KEY: &str = "quorlock:waiters:k";

/// A task that waits for the held lock `k` and whose client is queued for it.
pub(crate) async fn spawn_waiter(fleet: &Fleet, redlock: &Redlock) -> JoinHandle<Guard> {
    let before = queue_length(fleet);
    let redlock = redlock.clone();
    let waiter =
        tokio::spawn(async move { redlock.mutex("k").acquire().await.expect("waits without a limit") });
    eventually("the waiter is queued", || async { queue_length(fleet) > before }).await;
    waiter
}

/// The length of the wait queue of `k`, summed over all nodes. A dead node counts as zero.
pub(crate) fn queue_length(fleet: &Fleet) -> i64 {
    let request =
        |server: &quorlock_chaos::Server| server.command::<i64>(&["ZCARD", WAIT_QUEUE_KEY]).unwrap_or(0);
    fleet.servers().iter().map(request).sum()
}

/// The number of waiters for `k` without a notification, on all nodes.
pub(crate) fn unnotified_waiters(fleet: &Fleet) -> i64 {
    let request = |server: &quorlock_chaos::Server| {
        server.command::<i64>(&["ZCOUNT", WAIT_QUEUE_KEY, "0", "+inf"]).unwrap_or(0)
    };
    fleet.servers().iter().map(request).sum()
}

pub(crate) fn has_wait_queue(server: &quorlock_chaos::Server) -> bool {
    server.command(&["EXISTS", WAIT_QUEUE_KEY]).expect("a reply")
}

/// The number of notifications that the nodes have published, whether received or not.
pub(crate) fn notifications(fleet: &Fleet) -> u64 {
    let of = |server: &quorlock_chaos::Server| {
        let info: String = server.command(&["INFO", "commandstats"]).expect("a reply");
        let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_publish:calls="));
        line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().expect("a number"))
    };
    fleet.servers().iter().map(of).sum()
}

pub(crate) async fn granted(waiter: JoinHandle<Guard>) -> Guard {
    timeout(secs(20), waiter).await.expect("granted in time").expect("no panic")
}

#[tokio::test]
async fn only_the_longest_waiting_process_is_notified() {
    for fleet in [fenced(5), plain(5)] {
        let (holder, other, third) = (client(&fleet).await, client(&fleet).await, client(&fleet).await);
        let guard = holder.mutex("k").acquire().await.expect("free");
        let first = spawn_waiter(&fleet, &other).await;
        let second = spawn_waiter(&fleet, &third).await;
        let before = notifications(&fleet);
        guard.release().await.expect("released");
        let guard = granted(first).await;
        assert_eq!(notifications(&fleet), before + 1, "exactly one process is notified");
        assert!(!second.is_finished());
        guard.release().await.expect("released");
        granted(second).await.release().await.expect("released");
        for redlock in [holder, other, third] {
            redlock.shutdown(secs(10)).await.expect("no pending release");
        }
        assert_eq!(key_count(&fleet), 0, "no wait queue is left");
    }
}

#[tokio::test]
async fn a_process_that_is_gone_is_dequeued_and_the_next_is_notified() {
    let fleet = fenced(3);
    let (holder, other) = (client(&fleet).await, client(&fleet).await);
    let guard = holder.mutex("k").acquire().await.expect("free");
    let waiter = spawn_waiter(&fleet, &other).await;
    for server in fleet.servers() {
        if server.command::<i64>(&["ZCARD", WAIT_QUEUE_KEY]).expect("a reply") == 1 {
            server.command::<()>(&["ZADD", WAIT_QUEUE_KEY, "1", "gone"]).expect("added in front");
        }
    }
    assert_eq!(queue_length(&fleet), 2);
    let before = notifications(&fleet);
    guard.release().await.expect("released");
    let guard = granted(waiter).await;
    assert_eq!(notifications(&fleet), before + 2, "first the process that is gone, then the next");
    guard.release().await.expect("released");
    for redlock in [holder, other] {
        redlock.shutdown(secs(10)).await.expect("no pending release");
    }
    assert_eq!(key_count(&fleet), 0);
}

#[tokio::test]
async fn a_waiter_that_gives_up_is_dequeued() {
    let fleet = plain(3);
    let (holder, other) = (client(&fleet).await, client(&fleet).await);
    let guard = holder.mutex("k").acquire().await.expect("free");
    let waiter = spawn_waiter(&fleet, &other).await;
    waiter.abort();
    eventually("the wait queue is empty", || async { queue_length(&fleet) == 0 }).await;
    assert_eq!(nodes_with_key(&fleet, "k"), 3, "every node still has the key");
    let result = other.mutex("k").wait_timeout(millis(300)).acquire().await;
    assert!(result.is_err());
    eventually("the wait queue is empty", || async { queue_length(&fleet) == 0 }).await;
    guard.release().await.expect("released");
}

/// One waiter leaves before or after its notification; the next waiter gets the lock.
#[tokio::test]
async fn a_notification_to_a_leaving_waiter_reaches_the_next() {
    let fleet = fenced(3);
    let (holder, leaving, staying) = (client(&fleet).await, client(&fleet).await, client(&fleet).await);
    for round in 0..20 {
        let guard = holder.mutex("k").acquire().await.expect("free");
        let first = spawn_waiter(&fleet, &leaving).await;
        let second = spawn_waiter(&fleet, &staying).await;
        let before = notifications(&fleet);
        if round % 2 == 0 {
            first.abort();
            guard.release().await.expect("released");
        } else {
            let release = tokio::spawn(guard.release());
            eventually("the waiter is notified", || async { notifications(&fleet) > before }).await;
            first.abort();
            release.await.expect("no panic").expect("released");
        }
        // It may have been granted the lock already.
        drop(first.await);
        granted(second).await.release().await.expect("released");
    }
    for redlock in [holder, leaving, staying] {
        redlock.shutdown(secs(10)).await.expect("no pending release");
    }
    eventually("no pending release", || async { key_count(&fleet) == 0 }).await;
}

#[tokio::test]
async fn a_shutdown_dequeues_the_waiters_of_its_client() {
    let fleet = fenced(3);
    let (holder, other) = (client(&fleet).await, client(&fleet).await);
    let guard = holder.mutex("k").acquire().await.expect("free");
    let waiting = other.clone();
    let waiter = tokio::spawn(async move { waiting.mutex("k").acquire().await });
    eventually("the waiter is queued", || async { queue_length(&fleet) == 1 }).await;
    other.shutdown(secs(10)).await.expect("no pending release");
    assert_eq!(queue_length(&fleet), 0);
    let result = timeout(secs(20), waiter).await.expect("ends at once").expect("no panic");
    assert!(matches!(result, Err(AcquireError::Closed { .. })), "{result:?}");
    guard.release().await.expect("released");
}

#[tokio::test]
async fn a_killed_waiter_delays_no_other() {
    if let Ok(nodes) = std::env::var("QUORLOCK_TEST_NODES") {
        let redlock = Redlock::builder()
            .nodes(nodes.split(','))
            .mode(quorlock::Mode::Plain)
            .connect()
            .await
            .expect("up");
        let _guard = redlock.mutex("k").acquire().await.expect("the process is killed first");
        return;
    }
    let fleet = plain(3);
    let (holder, other) = (client(&fleet).await, client(&fleet).await);
    let guard = holder.mutex("k").acquire().await.expect("free");
    let test = "wait_queue::a_killed_waiter_delays_no_other";
    let killed = Worker::start(test, &[("QUORLOCK_TEST_NODES", fleet.urls().join(","))]);
    eventually("the waiter is queued", || async { queue_length(&fleet) == 1 }).await;
    let waiter = spawn_waiter(&fleet, &other).await;
    drop(killed);
    guard.release().await.expect("released");
    granted(waiter).await.release().await.expect("released");
    other.shutdown(secs(10)).await.expect("no pending release");
    assert_eq!(key_count(&fleet), 0);
}

#[tokio::test]
async fn a_waiter_moves_to_another_node_when_the_wait_queue_node_is_killed() {
    let mut fleet = fenced(5);
    let (holder, other) = (client(&fleet).await, client(&fleet).await);
    let guard = holder.mutex("k").acquire().await.expect("free");
    let waiter = spawn_waiter(&fleet, &other).await;
    let node = fleet.servers().iter().position(has_wait_queue).expect("one node has the wait queue");
    fleet[node].kill();
    eventually("the waiter is queued on another node", || async { queue_length(&fleet) == 1 }).await;
    guard.release().await.expect("four of five");
    granted(waiter).await.release().await.expect("released");
}

/// A waiter that a partition separates from the queue's node is queued and notified on the next node.
#[tokio::test]
async fn a_waiter_that_cannot_reach_the_wait_queue_node_is_notified_on_the_next() {
    for fleet in [fenced(3), plain(3)] {
        let holder = client(&fleet).await;
        let guard = holder.mutex("k").acquire().await.expect("free");
        let third = client(&fleet).await;
        let queued = spawn_waiter(&fleet, &third).await;
        let node = fleet.servers().iter().position(has_wait_queue).expect("one node has the wait queue");
        queued.abort();
        eventually("the wait queue is empty", || async { queue_length(&fleet) == 0 }).await;

        let proxy = Proxy::in_front_of(&fleet[node], 1).expect("a port");
        proxy.set(0, LinkRules::PARTITIONED);
        let mut urls = fleet.urls();
        urls[node] = proxy.url(0);
        let other = builder(&fleet).nodes(urls).connect().await.expect("two of three");
        assert!(!is_up(&other.node_status().await[node]));
        let waiter = spawn_waiter(&fleet, &other).await;
        assert!(!has_wait_queue(&fleet[node]), "the waiter is queued on another node");
        let before = notifications(&fleet);
        guard.release().await.expect("released");
        let guard = granted(waiter).await;
        // It may also have polled and found the key free. The notification was published before that.
        assert_eq!(notifications(&fleet), before + 1, "the waiter is notified and does not poll");
        guard.release().await.expect("two of three");
        for redlock in [holder, third, other] {
            redlock.shutdown(secs(10)).await.expect("no pending release");
        }
        assert_eq!(key_count(&fleet), 0, "no wait queue is left");
    }
}

#[tokio::test]
async fn waiting_works_with_a_warning_without_the_permission_to_publish() {
    let fleet = with_setup(3, &Setup::new(), true);
    for server in fleet.servers() {
        let rights =
            "on >pw ~* resetchannels -@all +set +get +del +pexpire +pttl +eval +evalsha +info +script";
        let args: Vec<&str> = ["ACL", "SETUSER", "locker"].into_iter().chain(rights.split(' ')).collect();
        server.command::<()>(&args).expect("ACL user created");
    }
    let locker = || builder(&fleet).username("locker").password("pw").connect();
    let (holder, other) = (locker().await.expect("connected"), locker().await.expect("connected"));
    for node in holder.node_status().await {
        assert!(
            node.warnings.iter().any(|warning| warning.to_string().contains("+publish")),
            "{:?}",
            node.warnings
        );
    }
    let guard = holder.mutex("k").acquire().await.expect("free");
    let waiter =
        tokio::spawn(async move { other.mutex("k").acquire().await.expect("waits without a limit") });
    guard.release().await.expect("released");
    granted(waiter).await.release().await.expect("released");
    assert_eq!(queue_length(&fleet), 0);
}

/// Two processes with three tasks each, which acquire without pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_with_many_tasks_are_both_served() {
    for fleet in [fenced(3), plain(3)] {
        let grants: Arc<Mutex<Vec<usize>>> = Arc::default();
        let mut tasks = Vec::new();
        for process in 0..2 {
            let redlock = client(&fleet).await;
            for _ in 0..3 {
                let (redlock, grants) = (redlock.clone(), Arc::clone(&grants));
                tasks.push(tokio::spawn(async move {
                    loop {
                        let guard = redlock.mutex("k").acquire().await.expect("waits without a limit");
                        grants.lock().expect("no panic").push(process);
                        let _ = guard.release().await;
                    }
                }));
            }
        }
        eventually("both processes were granted the lock 50 times", || async {
            let grants = grants.lock().expect("no panic");
            let of = |process| grants.iter().filter(|it| **it == process).count();
            of(0) >= 50 && of(1) >= 50
        })
        .await;
        tasks.iter().for_each(JoinHandle::abort);
        let grants = grants.lock().expect("no panic").clone();
        assert!(
            grants.len() < 1000,
            "one process was granted the lock 50 times and the other {} times",
            grants.len() - 50
        );
    }
}

/// The connection outlives a rejection of writes at the handshake; later the node keeps wait queues.
#[tokio::test]
async fn a_node_that_rejected_writes_at_first_keeps_wait_queues_once_it_accepts_them() {
    for fleet in [fenced(3), plain(3)] {
        let set = |replicas: &str| {
            for server in fleet.servers() {
                let args = ["CONFIG", "SET", "min-replicas-to-write", replicas];
                server.command::<()>(&args).expect("set");
            }
        };
        set("1");
        let other = builder(&fleet).connect().await.expect("connecting needs no write");
        let is_warned = async || {
            let nodes = other.node_status().await;
            nodes.iter().any(|node| {
                node.warnings.iter().any(|warning| warning.to_string().contains("rejects writes"))
            })
        };
        eventually("the client warns", || async { is_warned().await }).await;
        set("0");
        let holder = client(&fleet).await;
        let guard = holder.mutex("k").acquire().await.expect("free");
        let waiter = spawn_waiter(&fleet, &other).await;
        let before = (commands(&fleet), notifications(&fleet));
        tokio::time::sleep(secs(3)).await;
        let cost = commands(&fleet) - before.0;
        // A polling waiter would send about 200 commands per second.
        assert!(cost < 150, "{cost} commands in three seconds");
        guard.release().await.expect("released");
        let guard = granted(waiter).await;
        assert_eq!(notifications(&fleet), before.1 + 1, "the waiter is notified and does not poll");
        guard.release().await.expect("released");
        eventually("the warning is gone on the wait queue's node", || async {
            let nodes = other.node_status().await;
            nodes.iter().any(|node| node.warnings.is_empty())
        })
        .await;
    }
}

/// A waiter is queued on the next node when its wait queue's node rejects writes.
#[tokio::test]
async fn a_waiter_leaves_a_node_that_rejects_writes() {
    let fleet = plain(3);
    let (holder, other) = (client(&fleet).await, client(&fleet).await);
    let guard = holder.mutex("k").acquire().await.expect("free");
    let third = spawn_waiter(&fleet, &other).await;
    let node = fleet.servers().iter().position(has_wait_queue).expect("one node has the wait queue");
    third.abort();
    eventually("the wait queue is empty", || async { queue_length(&fleet) == 0 }).await;
    fleet[node].command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).expect("set");
    let waiter = spawn_waiter(&fleet, &other).await;
    assert!(!has_wait_queue(&fleet[node]), "the waiter is queued on another node");
    let _ = guard.release().await;
    fleet[node].command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]).expect("set");
    granted(waiter).await.release().await.expect("released");
}

/// The number of commands that clients have sent to all nodes.
fn commands(fleet: &Fleet) -> u64 {
    let of = |server: &quorlock_chaos::Server| {
        let info: String = server.command(&["INFO", "stats"]).expect("a reply");
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.expect("counted").trim().parse::<u64>().expect("a number")
    };
    fleet.servers().iter().map(of).sum()
}
