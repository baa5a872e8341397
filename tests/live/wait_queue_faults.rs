//! Faults of the wait queue's node: stale and missing keys delay waiters, but no client waits forever.

use std::time::Duration;

use quorlock::Redlock;
use quorlock::event::LossReason;
use quorlock_chaos::{Fleet, LinkRules, Proxy, Server};
use tokio::time::{sleep, timeout};

use crate::support::{
    LockCluster, builder, client, eventually, fenced, is_voting, key_count, lock_keys, millis,
    nodes_with_key, plain, secs,
};
use crate::wait_queue::{
    WAIT_QUEUE_KEY, granted, has_wait_queue, notifications, queue_length, spawn_waiter, unnotified_waiters,
};

/// The node with the wait queue of `k`.
async fn wait_queue_node(fleet: &LockCluster, one: &Redlock, other: &Redlock) -> usize {
    let guard = one.mutex("k").acquire().await.expect("free");
    let waiter = spawn_waiter(fleet, other).await;
    let node = fleet.servers().iter().position(has_wait_queue).expect("one node has the wait queue");
    waiter.abort();
    guard.release().await.expect("released");
    eventually("no pending release", || async { key_count(fleet) == 0 }).await;
    node
}

fn set_stale_key(server: &Server, ttl: Option<Duration>) {
    server.command::<()>(&["SET", "k", "stale"]).expect("set");
    if let Some(ttl) = ttl {
        server.command::<()>(&["PEXPIRE", "k", &ttl.as_millis().to_string()]).expect("set");
    }
}

#[tokio::test]
async fn a_stale_key_on_the_wait_queue_node_delays_no_waiter() {
    for (fleet, ttl) in
        [(fenced(3), None), (plain(3), None), (fenced(5), Some(secs(60))), (plain(5), Some(secs(60)))]
    {
        let (one, other) = (client(&fleet).await, client(&fleet).await);
        let node = wait_queue_node(&fleet, &one, &other).await;
        set_stale_key(&fleet[node], ttl);
        for _ in 0..5 {
            let guard = one.mutex("k").acquire().await.expect("granted by the other nodes");
            let waiter = spawn_waiter(&fleet, &other).await;
            let before = notifications(&fleet);
            guard.release().await.expect("a quorum confirms");
            let guard = granted(waiter).await;
            assert_eq!(notifications(&fleet), before + 1, "the waiter is notified and does not poll");
            guard.release().await.expect("a quorum confirms");
            eventually("no pending release", || async { queue_length(&fleet) == 0 }).await;
        }
    }
}

/// No client notifies, like a lock of a client without wait queues.
#[tokio::test]
async fn a_waiter_whose_wait_queue_node_has_a_stale_key_tries_again() {
    for fleet in [fenced(3), plain(3), plain(5)] {
        let (one, other) = (client(&fleet).await, client(&fleet).await);
        let node = wait_queue_node(&fleet, &one, &other).await;
        for server in fleet.servers() {
            set_stale_key(server, None);
        }
        let waiter = spawn_waiter(&fleet, &other).await;
        for server in fleet.servers() {
            if server.port() != fleet[node].port() {
                server.command::<()>(&["DEL", "k"]).expect("deleted");
            }
        }
        let guard = timeout(secs(5), waiter).await.expect("granted in time").expect("no panic");
        assert_eq!(nodes_with_key(&fleet, "k"), fleet.servers().len(), "the stale key, and the lock's");
        guard.release().await.expect("a quorum confirms");
    }
}

/// Only the holder cannot reach the wait queue's node, so its key stays there until its ttl ends.
#[tokio::test]
async fn a_release_that_misses_the_wait_queue_node_only_delays_the_waiter() {
    for fleet in [fenced(3), plain(3)] {
        let proxies: Vec<Proxy> =
            fleet.servers().iter().map(|server| Proxy::in_front_of(server, 1).expect("a port")).collect();
        let (one, other) = (client(&fleet).await, client(&fleet).await);
        let node = wait_queue_node(&fleet, &one, &other).await;
        let holder = builder(&fleet).nodes(proxies.iter().map(|proxy| proxy.url(0)));
        let holder = holder.connect().await.expect("up");
        eventually("every node votes", || async { holder.node_status().await.iter().all(is_voting) }).await;
        let guard = holder.mutex("k").ttl(secs(30)).acquire().await.expect("free");
        eventually("every node has the key", || async { nodes_with_key(&fleet, "k") == 3 }).await;
        let waiter = spawn_waiter(&fleet, &other).await;
        proxies[node].set(0, LinkRules::PARTITIONED);
        guard.release().await.expect("two of three nodes confirm");
        let guard = timeout(secs(8), waiter).await.expect("long before the ttl").expect("no panic");
        guard.release().await.expect("two of three nodes confirm");
    }
}

/// The wait queue's node denied the lock because of a stale key, which is gone when the lock is released.
#[tokio::test]
async fn a_lock_missing_on_the_wait_queue_node_is_handed_over_there() {
    for fleet in [fenced(3), plain(3), fenced(5)] {
        let (one, other) = (client(&fleet).await, client(&fleet).await);
        let node = wait_queue_node(&fleet, &one, &other).await;
        for _ in 0..5 {
            set_stale_key(&fleet[node], None);
            let guard = one.mutex("k").acquire().await.expect("granted by the other nodes");
            let waiter = spawn_waiter(&fleet, &other).await;
            let before = notifications(&fleet);
            fleet[node].command::<()>(&["DEL", "k"]).expect("deleted");
            guard.release().await.expect("a quorum confirms");
            let guard = granted(waiter).await;
            assert_eq!(notifications(&fleet), before + 1, "the waiter is notified and does not poll");
            guard.release().await.expect("released");
            eventually("no pending release", || async { queue_length(&fleet) == 0 }).await;
        }
    }
}

/// A process with several tasks learns that others wait, although the wait queue's node never has its key.
#[tokio::test]
async fn a_cohort_does_not_keep_a_lock_missing_on_the_wait_queue_node() {
    let fleet = plain(3);
    let (one, other) = (client(&fleet).await, client(&fleet).await);
    let node = wait_queue_node(&fleet, &one, &other).await;
    set_stale_key(&fleet[node], None);
    let guard = one.mutex("k").acquire().await.expect("granted by the other nodes");
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let one = one.clone();
            tokio::spawn(async move {
                loop {
                    let guard = one.mutex("k").acquire().await.expect("waits without a limit");
                    sleep(millis(1)).await;
                    let _ = guard.release().await;
                }
            })
        })
        .collect();
    let waiter = spawn_waiter(&fleet, &other).await;
    guard.release().await.expect("a quorum confirms");
    granted(waiter).await.release().await.expect("a quorum confirms");
    for _ in 0..20 {
        let mutex = other.mutex("k").wait_timeout(secs(10));
        mutex.acquire().await.expect("granted in time").release().await.expect("a quorum confirms");
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

/// The waiters for a held lock send few commands per second in total.
#[tokio::test]
async fn waiting_for_a_held_lock_costs_few_commands_per_second() {
    const SECONDS: u64 = 8;
    let (fenced, plain) = (fenced(5), plain(5));
    // Counts scripts, and in plain mode plain commands too, some of which run inside the wait queue's
    // scripts.
    let commands = |fleet: &Fleet, is_plain: bool| {
        let of = |server: &Server| {
            let info: String = server.command(&["INFO", "commandstats"]).expect("a reply");
            let calls = |name: &str| {
                let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":calls="));
                line.and_then(|line| line.split(',').next())
                    .map_or(0, |it| it.parse::<u64>().expect("a number"))
            };
            calls("cmdstat_evalsha") + if is_plain { calls("cmdstat_set") + calls("cmdstat_pttl") } else { 0 }
        };
        fleet.servers().iter().map(of).sum::<u64>()
    };
    let mut waits = Vec::new();
    for fleet in [&fenced, &plain] {
        let (one, other) = (client(fleet).await, client(fleet).await);
        let guard = one.mutex("k").ttl(secs(50)).acquire().await.expect("free");
        let waiter = spawn_waiter(fleet, &other).await;
        waits.push((one, other, guard, waiter));
    }
    let count = || [commands(&fenced, false), commands(&plain, true)];
    let before = count();
    sleep(secs(SECONDS)).await;
    let after = count();
    for (before, after) in before.into_iter().zip(after) {
        let cost = after - before;
        assert!(cost <= 10 * SECONDS, "{cost} commands in {SECONDS} s, on five nodes together");
        assert!(cost >= 2 * SECONDS, "only {cost} commands in {SECONDS} s: waiters must also poll");
    }
    for (_, _, guard, waiter) in waits {
        assert!(!waiter.is_finished() && guard.is_valid());
        waiter.abort();
    }
}

/// Waits that time out at the moment of the release, as in loops of short waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_that_times_out_when_notified_leaves_no_key() {
    for fleet in [fenced(1), plain(3)] {
        let (one, hasty) = (client(&fleet).await, client(&fleet).await);
        for round in 0..200_u64 {
            let name = format!("{round}");
            let guard = one.mutex(&name).acquire().await.expect("free");
            let hasty_acquire = hasty.mutex(&name).wait_timeout(millis(15));
            let first = tokio::spawn(async move { drop(hasty_acquire.acquire().await) });
            sleep(Duration::from_micros(13_500 + 15 * round)).await;
            drop(guard);
            first.await.expect("no panic");
        }
        for redlock in [one, hasty] {
            redlock.shutdown(secs(10)).await.expect("no pending release");
        }
        assert_eq!(key_count(&fleet), 0, "{:?}", lock_keys(&fleet));
    }
}

/// Leases of dead holders expire while eight clients wait; the clients are served in order of arrival.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_leases_are_granted_in_order_of_arrival() {
    const TTL: Duration = millis(300);
    for fleet in [fenced(3), plain(3)] {
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(client(&fleet).await);
        }
        let holder = client(&fleet).await;
        let mut orders = Vec::new();
        for _ in 0..3 {
            let mutex = |redlock: &Redlock| redlock.mutex("k").ttl(TTL).auto_renew(false);
            let first = holder.mutex("k").ttl(millis(1_500)).auto_renew(false).acquire().await.expect("free");
            std::mem::forget(first);
            let expire_in = |millis: &str| {
                for server in fleet.servers() {
                    server.command::<u8>(&["PEXPIRE", "k", millis]).expect("the lock is held");
                }
            };
            // However slow this machine is, the lock is held until all clients are queued.
            expire_in("600000");
            let (sender, mut served_order) = tokio::sync::mpsc::unbounded_channel();
            for (index, redlock) in clients.iter().enumerate() {
                let before = queue_length(&fleet);
                let (mutex, sender) = (mutex(redlock), sender.clone());
                tokio::spawn(async move {
                    std::mem::forget(mutex.acquire().await.expect("waits without a limit"));
                    sender.send(index).expect("receiver is open");
                });
                eventually("the waiter is queued", || async { queue_length(&fleet) > before }).await;
            }
            expire_in("100");
            let mut order = Vec::new();
            for _ in 0..clients.len() {
                order.push(
                    timeout(secs(20), served_order.recv())
                        .await
                        .expect("granted in time")
                        .expect("channel is open"),
                );
            }
            sleep(TTL).await;
            for server in fleet.servers() {
                server.command::<()>(&["DEL", WAIT_QUEUE_KEY]).expect("deleted, because no holder releases");
            }
            orders.push(order);
        }
        let count_inversions = |order: &[usize]| {
            let later = |at: usize| order[at + 1..].iter().filter(move |later| **later < order[at]).count();
            (0..order.len()).map(later).sum::<usize>()
        };
        let all: usize = orders.iter().map(|order| count_inversions(order)).sum();
        assert!(
            orders.iter().filter(|order| order[0] == 0).count() >= 2,
            "the first waiter is served first: {orders:?}"
        );
        // Of 84 pairs; a random order would invert half of them.
        assert!(all <= 20, "{all} pairs are inverted: {orders:?}");
    }
}

/// A holder that lost its keys releases while another client holds the lock; the first waiter is notified
/// once, without effect.
#[tokio::test]
async fn a_release_while_another_client_holds_the_lock_notifies_without_harm() {
    for fleet in [fenced(3), plain(3)] {
        let clients = [(); 4].map(|()| client(&fleet));
        let [late, holder, first, second] = clients;
        let (late, holder, first, second) = (late.await, holder.await, first.await, second.await);
        let lost = late.mutex("k").ttl(secs(30)).acquire().await.expect("free");
        for server in fleet.servers() {
            server.command::<()>(&["DEL", "k"]).expect("deleted");
        }
        let guard = holder.mutex("k").ttl(secs(30)).acquire().await.expect("free");
        let (first, second) = (spawn_waiter(&fleet, &first).await, spawn_waiter(&fleet, &second).await);
        let before = notifications(&fleet);
        let lost = lost.release().await.expect_err("no node has its key");
        assert_eq!(lost.reason(), LossReason::TakenByOthers);
        assert_eq!(notifications(&fleet), before + 1, "only the first waiter, once");
        // Before the first waiter has tried and queued again, a release would skip it as already notified.
        eventually("both waiters are queued and not notified", || async { unnotified_waiters(&fleet) == 2 })
            .await;
        assert!(guard.is_valid() && !first.is_finished() && !second.is_finished());
        guard.release().await.expect("released");
        let guard = granted(first).await;
        assert!(!second.is_finished(), "the first waiter has kept its place");
        guard.release().await.expect("released");
        granted(second).await.release().await.expect("released");
    }
}
