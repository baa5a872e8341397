//! The life of a lock: acquire, contend, run, inspect, release.

use std::convert::Infallible;
use std::time::Duration;

use quorlock::inspect::KeyOwner;
use quorlock::node::{NodeReplies, NodeReply};
use quorlock::{AcquireError, LockView, RunError};

use crate::support::{
    blank_servers, builder, client, eventually, fenced, initialize, key_count, millis, nodes_with_key, plain,
    secs,
};

#[tokio::test]
async fn a_lock_is_set_on_every_node_and_leaves_no_key() {
    for fleet in [1, 3, 4, 5, 9].map(fenced).into_iter().chain([plain(1), plain(5)]) {
        let nodes = fleet.len();
        let redlock = client(&fleet).await;
        let guard = redlock.mutex("orders:42").acquire().await.expect("free");
        assert!(guard.is_valid());
        assert!(guard.remaining() > secs(9) && guard.remaining() < secs(10));
        eventually("every node has the key", || async { nodes_with_key(&fleet, "orders:42") == nodes }).await;
        let best = nodes as i32 + (nodes / 2 + 1) as i32 - nodes as i32 - 1;
        eventually("spare_nodes counts every node", || async { guard.spare_nodes() == best }).await;
        let outcome = guard.release().await.expect("held until then");
        assert!(outcome.confirmed && outcome.replies.len() == nodes, "{outcome:?}");
        redlock.shutdown(secs(5)).await.expect("no pending release");
        assert_eq!(key_count(&fleet), 0);
    }
}

#[tokio::test]
async fn a_contended_acquire_reports_when_to_retry() {
    let fleet = fenced(3);
    let (first, second) = (client(&fleet).await, client(&fleet).await);
    let guard = first.mutex("k").ttl(secs(30)).acquire().await.expect("free");
    eventually("every node has the key", || async { nodes_with_key(&fleet, "k") == 3 }).await;
    let error = second.mutex("k").wait_timeout(Duration::ZERO).acquire().await.expect_err("held");
    assert!(error.is_retryable() && error.retry_after().is_some_and(|after| after <= secs(30)), "{error:?}");
    assert_eq!(error.replies().map(NodeReplies::len), Some(3));
    let AcquireError::Contended { retry_after: Some(retry_after), replies, .. } = error else {
        panic!("expected Contended with a retry time, got {error:?}");
    };
    assert!(retry_after > secs(25) && retry_after <= secs(30), "{retry_after:?}");
    assert!(replies.iter().filter(|(_, reply)| matches!(reply, NodeReply::HeldByOther { .. })).count() >= 2);
    assert!(second.mutex("k").try_acquire().await.expect("a contended lock is no error").is_none());
    assert!(first.mutex("k").try_acquire().await.expect("a contended lock is no error").is_none());
    guard.release().await.expect("released");
    assert!(second.mutex("k").try_acquire().await.expect("free").is_some());
}

#[tokio::test]
async fn waiting_ends_when_the_lock_is_free_or_the_wait_times_out() {
    let fleet = fenced(3);
    let (first, second) = (client(&fleet).await, client(&fleet).await);
    let guard = first.mutex("k").acquire().await.expect("free");
    let result = second.mutex("k").wait_timeout(millis(200)).acquire().await;
    assert!(matches!(result, Err(AcquireError::Contended { .. })), "{result:?}");
    let waiting = tokio::spawn(async move { second.mutex("k").acquire().await });
    guard.release().await.expect("released");
    let second = waiting.await.expect("no panic").expect("granted");
    assert!(second.is_valid());
}

#[tokio::test]
async fn a_dropped_guard_frees_the_lock_without_a_runtime() {
    let fleet = fenced(3);
    let redlock = builder(&fleet).dedicated_thread(true).connect().await.expect("up");
    let guard = redlock.mutex("k").acquire().await.expect("free");
    std::thread::spawn(move || drop(guard)).join().expect("no panic");
    eventually("the key is gone", || async { key_count(&fleet) == 0 }).await;
}

#[tokio::test]
async fn run_holds_the_lock_and_returns_the_value_of_the_work() {
    let fleet = fenced(3);
    let redlock = client(&fleet).await;
    let work = async |lock: LockView| Ok::<_, Infallible>(lock.is_valid().then_some(42));
    let value = redlock.mutex("k").run(work).await;
    assert_eq!(value.expect("ran"), Some(42));
    redlock.shutdown(secs(5)).await.expect("no pending release");
    assert_eq!(key_count(&fleet), 0);
}

#[tokio::test]
async fn run_passes_on_the_error_of_the_work_and_releases_the_lock() {
    for fleet in [fenced(3), plain(3)] {
        let (redlock, other) = (client(&fleet).await, client(&fleet).await);
        let outcome = redlock.mutex("k").run(async |_| Err::<(), _>("the disk is full")).await;
        match &outcome {
            Err(error @ RunError::Work("the disk is full")) => {
                assert!(error.to_string() == "the disk is full" && error.key().is_none(), "{error:?}");
            }
            other => panic!("expected the error of the work, got {other:?}"),
        }
        assert!(other.mutex("k").try_acquire().await.expect("a quorum replies").is_some(), "it is released");
        // The work is not started.
        let guard = other.mutex("held").acquire().await.expect("free");
        let mutex = redlock.mutex("held").wait_timeout(Duration::ZERO);
        let outcome = mutex.run(async |_| -> Result<(), Infallible> { panic!("the lock is held") }).await;
        assert!(
            matches!(outcome, Err(RunError::Acquire(AcquireError::Contended { local: false, .. }))),
            "{outcome:?}"
        );
        drop(guard);
    }
}

#[tokio::test]
async fn inspect_reports_ownership_and_ignores_a_key_on_a_minority() {
    let fleet = fenced(3);
    let (redlock, other) = (client(&fleet).await, client(&fleet).await);
    let seen = redlock.inspect("k").await.expect("a reply");
    assert!(seen.is_free() && !seen.is_held() && seen.holder().is_none(), "{seen:?}");
    let guard = redlock.mutex("k").ttl(secs(20)).acquire().await.expect("free");
    eventually("every node has the key", || async { nodes_with_key(&fleet, "k") == 3 }).await;
    let seen = redlock.inspect("k").await.expect("a reply");
    assert!(seen.is_held() && !seen.is_free(), "{seen:?}");
    let holder = seen.holder().expect("a quorum");
    assert!(holder.remaining.expect("it expires") > secs(15));
    assert_eq!(holder.owner, guard.owner_hash());
    assert_eq!(holder.owner, guard.view().owner_hash());
    assert!(seen.nodes.iter().all(|node| node.is_ours));
    let seen = other.inspect("k").await.expect("a reply");
    assert_eq!(seen.holder().map(|holder| holder.owner), Some(guard.owner_hash()));
    assert!(seen.nodes.iter().all(|node| !node.is_ours));
    guard.release().await.expect("released");

    fleet[0].command::<()>(&["SET", "left", "over"]).expect("set");
    let seen = redlock.inspect("left").await.expect("a reply");
    assert!(!seen.is_held() && seen.is_free(), "a key on one of three nodes is no lock");
    fleet[1].command::<()>(&["SET", "left", "over from another"]).expect("set");
    let seen = redlock.inspect("left").await.expect("a reply");
    assert!(!seen.is_held() && !seen.is_free(), "one of three nodes has no key: {seen:?}");
}

/// One node was flushed and the key was deleted on another, so two of three nodes have no key.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_have_lost_data_does_not_make_a_lock_look_free() {
    let servers = fenced(3);
    let redlock = client(&servers).await;
    let guard = redlock.mutex("k").auto_renew(false).acquire().await.expect("free");
    servers[1].command::<()>(&["FLUSHALL"]).expect("it is up");
    servers[2].command::<()>(&["DEL", "k"]).expect("it is up");
    // A reply of the flushed node shows that its marker has changed.
    drop(redlock.mutex("other").try_acquire().await);
    eventually("the node casts no vote", || async { !redlock.node_status().await[1].is_voting() }).await;
    let seen = redlock.inspect("k").await.expect("a reply");
    assert!(!seen.is_free() && guard.is_valid(), "{seen:?}");
    assert_eq!(seen.nodes.iter().map(|node| node.is_voting).collect::<Vec<_>>(), [true, false, true]);
}

#[tokio::test]
async fn a_key_of_another_type_is_contended_and_can_be_force_released() {
    let fleet = fenced(3);
    let redlock = client(&fleet).await;
    for server in fleet.servers() {
        server.command::<()>(&["HSET", "k", "field", "value"]).expect("set");
    }
    let error = redlock.mutex("k").wait_timeout(millis(150)).acquire().await.expect_err("held");
    assert!(matches!(error, AcquireError::Contended { retry_after: None, .. }), "{error:?}");
    let seen = redlock.inspect("k").await.expect("a reply");
    let other = |reply: &NodeReply| matches!(reply, NodeReply::Inspected(it) if it.holder == KeyOwner::NotALock && it.remaining.is_none());
    assert!(seen.nodes.iter().all(|node| other(&node.reply)), "{seen:?}");
    let released = redlock.force_release("k").await.expect("a reply");
    assert!(released.iter().all(|(_, reply)| matches!(reply, NodeReply::Granted { .. })));
    assert!(redlock.mutex("k").try_acquire().await.expect("free").is_some());
}

#[tokio::test]
async fn the_key_is_prefix_and_name_verbatim_in_the_database_of_the_url() {
    let fleet = blank_servers(3);
    let urls = fleet.urls().into_iter().map(|url| format!("{url}/2?protocol=resp3"));
    let builder = quorlock::Redlock::builder().nodes(urls).key_prefix("redlock:");
    initialize(builder.clone());
    let redlock = builder.connect().await.expect("up");
    let guard = redlock.mutex("a b\"é").acquire().await.expect("free");
    assert_eq!(guard.key(), "redlock:a b\"é");
    eventually("every node has it in database 2", || async {
        fleet.servers().iter().all(|server| {
            let mut connection = server.connect(secs(1)).expect("up");
            redis::cmd("SELECT").arg(2).exec(&mut connection).expect("selected");
            let found: bool =
                redis::cmd("EXISTS").arg("redlock:a b\"é").query(&mut connection).expect("a reply");
            found
        })
    })
    .await;
    assert!(redlock.inspect("a b\"é").await.expect("a reply").is_held());
    guard.release().await.expect("released");
}

#[tokio::test]
async fn tasks_of_one_client_are_served_in_order() {
    let fleet = fenced(3);
    let redlock = client(&fleet).await;
    let first = redlock.mutex("k").acquire().await.expect("free");
    let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
    for index in 0..16 {
        let (redlock, sender) = (redlock.clone(), sender.clone());
        let mut task = Box::pin(async move {
            let guard = redlock.mutex("k").acquire().await.expect("granted");
            sender.send(index).expect("receiver is open");
            guard.release().await.expect("released");
        });
        // Polled once here, so the tasks are queued in this order.
        assert!(futures::poll!(&mut task).is_pending());
        tokio::spawn(task);
    }
    first.release().await.expect("released");
    for index in 0..16 {
        assert_eq!(served.recv().await, Some(index));
    }
}
