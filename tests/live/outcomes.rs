//! Outcomes that callers see: loss reports of overwritten, deleted and force-released locks, short waits
//! during reconnects, and errors that name their lock. It runs past 400 lines because each outcome is one test.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorlock::error::{ExtendError, ReleaseError};
use quorlock::event::{Event, LossReason};
use quorlock::node::NodeReply;
use quorlock::{AcquireError, Guard, LockName, Redlock, RunError};
use quorlock_chaos::redis::FromRedisValue;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{LockCluster, builder, client, eventually, fenced, millis, nodes_with_key, plain, secs};

fn command_on_all<T>(cluster: &LockCluster, args: &[&str], nodes: usize) -> Vec<T>
where
    T: FromRedisValue,
{
    command_on(cluster, args, (1 << nodes) - 1)
}

/// Sends a command to the nodes in this bit set.
fn command_on<T>(cluster: &LockCluster, args: &[&str], nodes: u32) -> Vec<T>
where
    T: FromRedisValue,
{
    let servers = cluster.servers().iter().enumerate().filter(|(index, _)| nodes >> index & 1 == 1);
    servers.map(|(_, server)| server.command(args).expect("a reply")).collect()
}

fn spawn_acquire(redlock: &Redlock, name: &str) -> JoinHandle<Result<Guard, AcquireError>> {
    let mutex = redlock.mutex(name).ttl(secs(30));
    tokio::spawn(async move { mutex.acquire().await })
}

/// Tries every set of nodes, and minimal majorities more often, because the order of replies is random.
#[tokio::test]
async fn a_release_reports_that_the_lock_was_overwritten_or_deleted() {
    for cluster in [fenced(3), plain(3), fenced(5), plain(5)] {
        let (redlock, count) = (client(&cluster).await, cluster.servers().len());
        let majority = count as u32 / 2 + 1;
        for nodes in 0..1_u32 << count {
            let rounds = if nodes.count_ones() == majority { 6 } else { 2 };
            for round in 0..rounds {
                let guard = redlock.mutex("k").ttl(secs(30)).acquire().await.expect("free");
                eventually("every node has the key", || async { nodes_with_key(&cluster, "k") == count })
                    .await;
                let is_overwritten = round % 2 == 0;
                if is_overwritten {
                    command_on::<()>(&cluster, &["SET", "k", "a thief's", "PX", "60000"], nodes);
                } else {
                    command_on::<()>(&cluster, &["DEL", "k"], nodes);
                }
                assert!(guard.is_valid(), "the loss is not known before the release");
                let outcome = guard.release().await;
                let is_lost = nodes.count_ones() >= majority;
                assert_eq!(outcome.is_err(), is_lost, "nodes {nodes:05b} of {count}: {outcome:?}");
                if let Err(ReleaseError::Lost { reason, replies, .. }) = &outcome {
                    assert_eq!(*reason, LossReason::TakenByOthers);
                    let is_expected = |reply: &NodeReply| match reply {
                        NodeReply::HeldByOther { remaining: None, .. } => is_overwritten,
                        NodeReply::NotHeld => !is_overwritten,
                        _ => false,
                    };
                    assert!(replies.iter().any(|(_, reply)| is_expected(reply)), "{outcome:?}");
                }
                command_on_all::<()>(&cluster, &["DEL", "k"], count);
            }
        }
    }
}

#[tokio::test]
async fn a_release_of_a_lock_missing_on_a_minority_reports_no_loss() {
    for mut cluster in [fenced(3), plain(3)] {
        cluster[0].pause();
        let redlock = builder(&cluster).connect().await.expect("two of three");
        let guard = redlock.mutex("k").ttl(secs(30)).acquire().await.expect("two of three");
        let outcome = guard.release().await.expect("held until then");
        assert!(outcome.confirmed, "{outcome:?}");
        cluster[0].resume();
    }
}

#[tokio::test]
async fn run_fails_when_its_lock_was_overwritten() {
    let cluster = fenced(3);
    let redlock = client(&cluster).await;
    let overwrite = async |_| {
        command_on_all::<()>(&cluster, &["SET", "k", "a thief's", "PX", "60000"], 3);
        Ok::<_, Infallible>(())
    };
    let outcome = redlock.mutex("k").ttl(secs(30)).run(overwrite).await;
    match outcome {
        Err(RunError::Lost { key, reason, .. }) => {
            assert_eq!((key, reason), (LockName::new("k"), LossReason::TakenByOthers));
        }
        other => panic!("expected Lost, got {other:?}"),
    }
}

#[tokio::test]
async fn a_force_released_lock_is_lost_by_its_holder_and_stays_free() {
    for nodes in [1, 3, 5] {
        let cluster = fenced(nodes);
        let losses: Arc<Mutex<Vec<LossReason>>> = Arc::default();
        let listener = Arc::clone(&losses);
        let record = move |event: &Event| {
            if let Event::Lost { reason, .. } = event {
                listener.lock().expect("not poisoned").push(*reason);
            }
        };
        let holder = builder(&cluster).on_event(record).connect().await.expect("all nodes are up");
        let operator = client(&cluster).await;
        let ttl = millis(900);
        let guard = holder.mutex("k").ttl(ttl).acquire().await.expect("free");
        eventually("every node has the key", || async { nodes_with_key(&cluster, "k") == nodes }).await;
        let outcome = operator.force_release("k").await.expect("a reply");
        assert!(outcome.iter().all(|(_, reply)| matches!(reply, NodeReply::Granted { .. })), "{outcome:?}");
        timeout(ttl, guard.lost()).await.expect("lost at the next renewal, before the deadline");
        assert!(!guard.is_valid());
        sleep(ttl * 2).await;
        assert_eq!(losses.lock().expect("not poisoned")[..], [LossReason::TakenByOthers]);
        assert_eq!(nodes_with_key(&cluster, "k"), 0, "the holder did not reacquire it");
        let next = operator.mutex("k").try_acquire().await.expect("a reply").expect("free");
        assert!(next.fencing_token().expect("fenced").number > guard.fencing_token().expect("fenced").number);
    }
}

/// No renewal is due before the release.
#[tokio::test]
async fn the_release_of_a_force_released_lock_reports_the_loss() {
    for cluster in [fenced(3), plain(3)] {
        let (holder, operator) = (client(&cluster).await, client(&cluster).await);
        let guard = holder.mutex("k").ttl(secs(60)).acquire().await.expect("free");
        eventually("every node has the key", || async { nodes_with_key(&cluster, "k") == 3 }).await;
        operator.force_release("k").await.expect("a reply");
        let ReleaseError::Lost { key, reason, replies, .. } = guard.release().await.expect_err("lost") else {
            unreachable!("the enum has one variant")
        };
        assert_eq!((key, reason), (LockName::new("k"), LossReason::TakenByOthers));
        assert!(replies.iter().filter(|(_, reply)| **reply == NodeReply::NotHeld).count() >= 2, "{replies}");
    }
}

#[tokio::test]
async fn a_force_release_on_a_minority_leaves_the_holder_its_lock() {
    let cluster = fenced(5);
    let holder = client(&cluster).await;
    let guard = holder.mutex("k").ttl(millis(900)).acquire().await.expect("free");
    eventually("every node has the key", || async { nodes_with_key(&cluster, "k") == 5 }).await;
    // The effect of a force release on a node.
    for server in cluster.servers().iter().take(2) {
        server.command::<()>(&["DEL", "k"]).expect("deleted");
        server.command::<()>(&["INCR", "quorlock:fence:k"]).expect("raised");
    }
    eventually("every node has the key again", || async { nodes_with_key(&cluster, "k") == 5 }).await;
    sleep(millis(1_800)).await;
    assert!(guard.is_valid() && guard.spare_nodes() == 2);
    assert!(guard.release().await.expect("held until then").confirmed);
}

#[tokio::test]
async fn a_force_released_plain_lock_is_reacquired_by_its_living_holder() {
    let cluster = plain(3);
    let (holder, operator) = (client(&cluster).await, client(&cluster).await);
    let guard = holder.mutex("k").ttl(millis(900)).acquire().await.expect("free");
    operator.force_release("k").await.expect("a reply");
    eventually("every node has the key again", || async { nodes_with_key(&cluster, "k") == 3 }).await;
    assert!(guard.is_valid());
}

#[tokio::test]
async fn only_the_inspected_holder_is_force_released() {
    for cluster in [fenced(5), plain(5)] {
        let (holder, operator) = (client(&cluster).await, client(&cluster).await);
        let first = holder.mutex("k").ttl(secs(9)).acquire().await.expect("free");
        let owner = operator.inspect("k").await.expect("a reply").holder().expect("held").owner;
        first.release().await.expect("a quorum confirms");
        eventually("no node has the key", || async { nodes_with_key(&cluster, "k") == 0 }).await;
        let missing = operator.force_release_of("k", owner).await.expect("a reply");
        assert!(missing.iter().all(|(_, reply)| *reply == NodeReply::NotHeld), "{missing:?}");
        // Another owner holds the lock when the force release arrives.
        let second = holder.mutex("k").ttl(secs(9)).acquire().await.expect("free");
        eventually("every node has the key", || async { nodes_with_key(&cluster, "k") == 5 }).await;
        let not_released = operator.force_release_of("k", owner).await.expect("a reply");
        assert!(
            not_released.iter().all(|(_, reply)| matches!(reply, NodeReply::HeldByOther { .. })),
            "{not_released:?}"
        );
        assert!(nodes_with_key(&cluster, "k") == 5 && second.extend(secs(9)).await.is_ok());
        let owner = operator.inspect("k").await.expect("a reply").holder().expect("held").owner;
        let released = operator.force_release_of("k", owner).await.expect("a reply");
        assert!(released.iter().all(|(_, reply)| matches!(reply, NodeReply::Granted { .. })), "{released:?}");
        assert_eq!(nodes_with_key(&cluster, "k"), 0);
    }
}

#[tokio::test]
async fn a_waiter_gets_a_force_released_lock_at_once() {
    for cluster in [fenced(3), plain(3)] {
        let (holder, waiter, operator) =
            (client(&cluster).await, client(&cluster).await, client(&cluster).await);
        let mut quickest = secs(3600);
        for round in 0..5 {
            let name = format!("k{round}");
            let guard = holder.mutex(&name).ttl(secs(30)).acquire().await.expect("free");
            let waiting = spawn_acquire(&waiter, &name);
            let wait_queue = format!("quorlock:waiters:{name}");
            eventually("the waiter is queued", || async { nodes_with_key(&cluster, &wait_queue) > 0 }).await;
            let began = Instant::now();
            operator.force_release(&name).await.expect("a reply");
            let next = waiting.await.expect("no panic").expect("granted");
            quickest = quickest.min(began.elapsed());
            assert!(next.is_valid());
            drop(guard);
        }
        // A waiter without a notification polls about twice per second.
        assert!(quickest < millis(50), "{quickest:?}");
    }
}

#[tokio::test]
async fn a_lock_that_another_client_held_meanwhile_is_lost_at_the_next_renewal() {
    let cluster = fenced(3);
    let (holder, other) = (client(&cluster).await, client(&cluster).await);
    let guard = holder.mutex("k").ttl(secs(6)).acquire().await.expect("free");
    command_on_all::<()>(&cluster, &["DEL", "k"], 3);
    other
        .mutex("k")
        .try_acquire()
        .await
        .expect("a reply")
        .expect("free")
        .release()
        .await
        .expect("a quorum confirms");
    // The renewal is due after 2 s, the deadline after 6 s.
    timeout(secs(4), guard.lost()).await.expect("lost at the next renewal");
}

#[tokio::test]
async fn an_acquire_without_waiting_still_waits_for_reconnects() {
    for cluster in [fenced(3), plain(3)] {
        let redlock = client(&cluster).await;
        for round in 0..40 {
            // Like a server that closes idle connections.
            command_on_all::<i64>(&cluster, &["CLIENT", "KILL", "TYPE", "normal"], 3);
            command_on_all::<i64>(&cluster, &["CLIENT", "KILL", "TYPE", "pubsub"], 3);
            // At once, or when the client has noticed the disconnect.
            sleep(millis(round % 4 * 3)).await;
            let mutex = redlock.mutex("k").ttl(secs(40)).attempt_timeout(secs(5));
            let result = if round % 2 == 0 {
                mutex.try_acquire().await.map(|guard| guard.expect("free"))
            } else {
                mutex.wait_timeout(Duration::ZERO).acquire().await
            };
            let guard = result.unwrap_or_else(|error| panic!("round {round}: {error}"));
            guard.release().await.expect("a quorum confirms");
        }
    }
}

#[tokio::test]
async fn an_acquire_without_waiting_does_not_wait_for_dead_nodes() {
    let mut cluster = fenced(3);
    let redlock = client(&cluster).await;
    cluster[0].kill();
    cluster[1].kill();
    eventually("the client sees both nodes down", || async {
        redlock.node_status().await.iter().filter(|node| node.is_voting()).count() == 1
    })
    .await;
    sleep(millis(300)).await;
    let began = Instant::now();
    for _ in 0..20 {
        let result = redlock.mutex("k").ttl(secs(4)).try_acquire().await;
        assert!(matches!(result, Err(AcquireError::NoQuorum { .. })), "{result:?}");
    }
    // Waiting would take twenty attempt timeouts of 500 ms.
    assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_shortest_wait_has_time_for_one_dial() {
    let cluster = fenced(3);
    for wait in [millis(0), millis(1), Duration::from_nanos(1)] {
        let lazy_client = || builder(&cluster).connect_lazy().expect("a client");
        let guard = lazy_client()
            .mutex("k")
            .wait_timeout(wait)
            .acquire()
            .await
            .expect("all nodes are up, and it is free");
        let result = lazy_client().mutex("k").wait_timeout(wait).acquire().await;
        assert!(matches!(result, Err(AcquireError::Contended { .. })), "{result:?}");
        guard.release().await.expect("a quorum confirms");
    }
}

#[tokio::test]
async fn every_error_names_its_lock() {
    let mut cluster = fenced(3);
    let redlock = builder(&cluster).key_prefix("app:").connect().await.expect("all nodes are up");
    let check = |message: String, key: Option<&LockName>| {
        assert!(message.starts_with("lock \"app:nightly\": "), "{message}");
        assert_eq!(message.matches("nightly").count(), 1, "{message}");
        assert_eq!(key, Some(&LockName::new("app:nightly")));
    };
    let mutex = || redlock.mutex("nightly").ttl(secs(4));
    let guard = mutex().acquire().await.expect("free");
    let held = mutex().wait_timeout(Duration::ZERO).acquire().await.expect_err("held");
    check(held.to_string(), held.key());
    let other = builder(&cluster).key_prefix("app:").connect().await.expect("all nodes are up");
    let held = other.mutex("nightly").wait_timeout(Duration::ZERO).acquire().await.expect_err("held");
    check(held.to_string(), held.key());
    let invalid = mutex().ttl(millis(1)).try_acquire().await.expect_err("too short");
    check(invalid.to_string(), invalid.key());
    let invalid = guard.extend(millis(1)).await.expect_err("too short");
    check(invalid.to_string(), invalid.key());
    let lost = mutex().ttl(millis(100)).auto_renew(false);
    guard.release().await.expect("a quorum confirms");
    let work = async |_| {
        sleep(millis(200)).await;
        Ok::<_, Infallible>(())
    };
    let lost = lost.run(work).await.expect_err("lost");
    check(lost.to_string(), lost.key());
    let guard = mutex().auto_renew(false).ttl(millis(200)).acquire().await.expect("free");
    sleep(millis(250)).await;
    let lost = guard.extend(millis(200)).await.expect_err("lost");
    assert!(matches!(lost, ExtendError::Lost { .. }));
    check(lost.to_string(), lost.key());
    let lost = guard.release().await.expect_err("lost");
    check(lost.to_string(), Some(lost.key()));
    let guard = mutex().ttl(secs(20)).acquire().await.expect("free");
    for server in cluster.servers_mut() {
        server.pause();
    }
    let unconfirmed = guard.extend(secs(20)).await.expect_err("no node replies");
    check(unconfirmed.to_string(), unconfirmed.key());
    let unconfirmed = guard.release().await.expect("held until then");
    assert!(!unconfirmed.confirmed && unconfirmed.replies.len() == 3, "{unconfirmed:?}");
    let no_quorum = mutex().wait_timeout(Duration::ZERO).acquire().await.expect_err("no node replies");
    check(no_quorum.to_string(), no_quorum.key());
    let _ = redlock.shutdown(millis(1)).await;
    let closed = mutex().acquire().await.expect_err("closed");
    check(closed.to_string(), closed.key());
    let closed = redlock.inspect("nightly").await.expect_err("closed");
    check(closed.to_string(), closed.key());
}

#[tokio::test]
async fn a_name_may_take_64_kib_and_not_a_byte_more() {
    let cluster = fenced(1);
    let redlock = builder(&cluster).key_prefix("app:").connect().await.expect("the node is up");
    let longest = "n".repeat((1 << 16) - 4);
    let guard = redlock.mutex(&longest).acquire().await.expect("free");
    assert!(redlock.inspect(&longest).await.expect("a reply").holder().is_some());
    guard.release().await.expect("a quorum confirms");
    let before: String = cluster[0].command(&["INFO", "commandstats"]).expect("a reply");
    let longer = format!("{longest}n");
    let check = |message: String| {
        assert!(
            message.contains("65536 bytes") && message.contains("too long") && message.len() < 1_000,
            "{message}"
        );
    };
    check(redlock.mutex(&longer).acquire().await.expect_err("too long").to_string());
    check(redlock.mutex(&longer).try_acquire().await.expect_err("too long").to_string());
    check(redlock.inspect(&longer).await.expect_err("too long").to_string());
    check(redlock.force_release(&longer).await.expect_err("too long").to_string());
    let after: String = cluster[0].command(&["INFO", "commandstats"]).expect("a reply");
    let scripts = |stats: &str| {
        stats.lines().filter(|line| line.starts_with("cmdstat_eval")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(scripts(&before), scripts(&after), "no request reached the node");
}

/// A waiting client force-releases the lock. Only notified waiters are quick; others poll about twice per
/// second.
#[tokio::test]
async fn a_client_that_force_releases_a_lock_keeps_its_place_in_the_wait_queue() {
    for cluster in [fenced(3), plain(3)] {
        let (holder, breaker, other) =
            (client(&cluster).await, client(&cluster).await, client(&cluster).await);
        let mut durations_alone = Vec::new();
        let mut durations_before_another = Vec::new();
        for round in 0..10 {
            let name = format!("k{round}");
            let wait_queue = format!("quorlock:waiters:{name}");
            let queue_length = || {
                let count =
                    |server: &quorlock_chaos::Server| server.command::<usize>(&["ZCARD", &wait_queue]);
                cluster.servers().iter().map(|server| count(server).expect("a reply")).sum::<usize>()
            };
            let guard = holder.mutex(&name).ttl(secs(30)).acquire().await.expect("free");
            let first = spawn_acquire(&breaker, &name);
            eventually("the waiter is queued", || async { queue_length() == 1 }).await;
            let second = (round % 2 == 1).then(|| spawn_acquire(&other, &name));
            let waiting = 1 + usize::from(second.is_some());
            eventually("all waiters are queued", || async { queue_length() == waiting }).await;
            let began = Instant::now();
            breaker.force_release(&name).await.expect("a reply");
            let next =
                timeout(secs(20), first).await.expect("granted in time").expect("no panic").expect("granted");
            let duration = began.elapsed();
            assert!(next.is_valid());
            match second {
                None => durations_alone.push(duration),
                Some(second) => {
                    durations_before_another.push(duration);
                    assert!(!second.is_finished(), "the first waiter is served first");
                    second.abort();
                    drop(second.await);
                }
            }
            next.release().await.expect("a quorum confirms");
            drop(guard);
        }
        for mut durations in [durations_alone, durations_before_another] {
            durations.sort_unstable();
            assert!(durations[durations.len() / 2] < millis(50), "{durations:?}");
        }
    }
}
