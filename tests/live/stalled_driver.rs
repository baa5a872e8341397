//! Calls without a running driver: on an idle or blocked runtime and in the child of a fork, each wait ends
//! by itself. With `dedicated_thread` locks work without any runtime.

use std::convert::Infallible;
use std::process::exit;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use fork::{Fork, fork, waitpid};
use futures::executor::block_on;
use futures::future::join;
use quorlock::error::{ConnectError, ExtendError, InspectError, NoDriver, ShutdownError};
use quorlock::event::LossReason;
use quorlock::{AcquireError, Guard, Redlock, RedlockBuilder, RunError};
use quorlock_chaos::redis;
use tokio::runtime::{self, Runtime};
use tokio::time::Instant;

use crate::support::{
    LockCluster, Worker, builder, client, eventually, fenced, lock_keys, millis, nodes_with_key, plain, secs,
};

fn runtime() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Runs the work on its own thread and returns its result and duration. Panics after 40 s, which only an
/// endless wait takes, and leaves the thread behind.
#[track_caller]
fn within_40_s<T: Send + 'static>(
    description: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> (T, Duration) {
    let (sender, receiver) = mpsc::channel();
    let began = Instant::now();
    std::thread::spawn(move || sender.send(work()));
    let value = receiver.recv_timeout(secs(40)).unwrap_or_else(|_| panic!("{description} does not end"));
    (value, began.elapsed())
}

/// The context of calls: their executor and the state of its runtime.
#[derive(Clone, Copy, Debug)]
enum CallSite {
    OtherRuntime,
    NoRuntime,
    /// Inside an entered runtime that is not driven.
    IdleRuntime,
    /// In the main future of a runtime without timers.
    NoTimers,
    /// In a task of a runtime without timers.
    TaskWithoutTimers,
    /// In a task that blocks the only thread of its runtime.
    BlockedRuntime,
}

const CALL_SITES: [CallSite; 6] = [
    CallSite::OtherRuntime,
    CallSite::NoRuntime,
    CallSite::IdleRuntime,
    CallSite::NoTimers,
    CallSite::TaskWithoutTimers,
    CallSite::BlockedRuntime,
];

impl CallSite {
    fn run(self, calls: impl Future<Output = ()> + Send + 'static) {
        let without_timers =
            || runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        match self {
            Self::OtherRuntime => runtime().block_on(calls),
            Self::NoRuntime => block_on(calls),
            Self::IdleRuntime => {
                let idle = runtime();
                let _inside = idle.enter();
                block_on(calls);
            }
            Self::NoTimers => without_timers().block_on(calls),
            Self::TaskWithoutTimers => {
                without_timers().block_on(async { tokio::spawn(calls).await.expect("no panic") });
            }
            Self::BlockedRuntime => runtime().block_on(async {
                tokio::spawn(async { block_on(calls) }).await.expect("no panic");
            }),
        }
    }
}

/// A client and its held lock on a runtime that is not driven after the acquire.
fn idle_client(cluster: &LockCluster) -> (Runtime, Redlock, Guard) {
    let client_runtime = runtime();
    let (redlock, guard) = client_runtime.block_on(async {
        let redlock = builder(cluster).connect().await.expect("all nodes are up");
        let guard = redlock.mutex("held").ttl(secs(50)).acquire().await.expect("free");
        (redlock, guard)
    });
    (client_runtime, redlock, guard)
}

#[test]
fn no_call_waits_forever_for_a_stalled_driver() {
    std::thread::scope(|scope| {
        for call_site in CALL_SITES {
            scope.spawn(move || every_call_ends(call_site));
        }
    });
}

fn every_call_ends(call_site: CallSite) {
    let cluster = fenced(3);
    let (client_runtime, redlock, guard) = idle_client(&cluster);
    // Eight calls, each of which must end by itself.
    within_40_s(&format!("a call in {call_site:?}"), move || {
        let calls = async move {
            let began = Instant::now();
            let wait = redlock.mutex("k").ttl(secs(4)).wait_timeout(millis(300)).acquire().await;
            assert!(
                matches!(wait, Err(AcquireError::NoDriver { reason: NoDriver::Stalled, .. })),
                "{wait:?}"
            );
            let message = wait.expect_err("stalled").to_string();
            assert!(
                message.starts_with("lock \"k\": ") && message.contains("dedicated_thread(true)"),
                "{message}"
            );
            assert!(began.elapsed() >= millis(300), "the wait lasts as long as its limit");
            let attempt = redlock.mutex("k").ttl(secs(4)).try_acquire().await;
            assert!(matches!(attempt, Err(AcquireError::NoDriver { .. })), "{attempt:?}");
            let ran = redlock
                .mutex("k")
                .ttl(secs(4))
                .wait_timeout(Duration::ZERO)
                .run(async |_| Ok::<_, Infallible>(()))
                .await;
            assert!(matches!(ran, Err(RunError::Acquire(AcquireError::NoDriver { .. }))), "{ran:?}");
            let inspected = redlock.inspect("k").await;
            assert!(matches!(inspected, Err(InspectError::NoDriver { .. })), "{inspected:?}");
            let not_released = redlock.force_release("k").await;
            assert!(matches!(not_released, Err(InspectError::NoDriver { .. })), "{not_released:?}");
            let extended = guard.extend(secs(55)).await;
            assert!(matches!(extended, Err(ExtendError::NoDriver { .. })), "{extended:?}");
            assert!(guard.is_valid(), "valid until its deadline");
            let released = guard.release().await.expect("held until then");
            assert!(!released.confirmed && released.replies.is_empty(), "{released:?}");
            let shutdown = redlock.shutdown(millis(100)).await;
            let is_reported = |error: &ShutdownError| error.no_driver == Some(NoDriver::Stalled);
            assert!(shutdown.as_ref().is_err_and(is_reported), "{shutdown:?}");
            assert_eq!(redlock.node_status().await.len(), 3);
        };
        call_site.run(calls);
    });
    // When the runtime runs again, the driver releases the keys of the failed calls.
    client_runtime.block_on(eventually("no pending release", || async {
        lock_keys(&cluster).iter().all(|keys| !keys.iter().any(|key| key == "k" || key == "held"))
    }));
}

#[test]
fn the_loss_is_signaled_at_the_deadline_when_the_driver_is_stalled() {
    let cluster = fenced(3);
    for call_site in CALL_SITES {
        let client_runtime = runtime();
        let name = format!("k{call_site:?}");
        let (redlock, guard) = client_runtime.block_on(async {
            let redlock = builder(&cluster).connect().await.expect("all nodes are up");
            let guard = redlock.mutex(&name).ttl(secs(1)).acquire().await.expect("free");
            (redlock, guard)
        });
        let (guard, duration) = within_40_s("the loss", move || {
            let guard = Arc::new(guard);
            let held = Arc::clone(&guard);
            let token = guard.cancellation_token();
            call_site.run(async move {
                assert_eq!(held.lost().await, LossReason::Expired);
                assert_eq!(held.ended().await, Some(LossReason::Expired));
            });
            assert!(token.is_cancelled());
            guard
        });
        assert!(!guard.is_valid() && duration < secs(5), "{duration:?}");
        drop((redlock, guard, client_runtime));
    }
}

#[test]
fn connect_fails_on_a_runtime_that_is_not_driven() {
    let cluster = fenced(3);
    let builder = builder(&cluster).connect_timeout(secs(2));
    let (result, _) = within_40_s("connect", move || {
        let client_runtime = runtime();
        let _inside = client_runtime.enter();
        block_on(builder.connect())
    });
    assert!(matches!(result, Err(ConnectError::NoDriver(NoDriver::Stalled))), "{result:?}");
}

#[test]
fn a_client_with_a_dedicated_thread_works_from_every_call_site() {
    for cluster in [fenced(3), plain(3)] {
        let error = block_on(builder(&cluster).connect()).expect_err("no runtime here").to_string();
        assert!(error.contains("dedicated_thread(true)"), "{error}");
        for call_site in CALL_SITES {
            let builder = builder(&cluster).dedicated_thread(true);
            within_40_s(&format!("the life of a lock in {call_site:?}"), move || {
                call_site.run(use_lock(builder));
            });
        }
    }
}

async fn use_lock(builder: RedlockBuilder) {
    let redlock = builder.clone().connect().await.expect("all nodes are up");
    assert_eq!(redlock.node_status().await.len(), 3);
    let guard = redlock.mutex("k").ttl(secs(4)).acquire().await.expect("free");
    assert!(guard.extend(secs(10)).await.is_ok());
    let attempt = redlock.mutex("k").try_acquire().await.expect("a reply");
    assert!(attempt.is_none());
    let other = builder.connect().await.expect("all nodes are up");
    let began = Instant::now();
    let waited = other.mutex("k").wait_timeout(millis(200)).acquire().await;
    assert!(matches!(waited, Err(AcquireError::Contended { .. })), "{waited:?}");
    assert!(began.elapsed() >= millis(200));
    assert!(redlock.inspect("k").await.expect("a reply").holder().is_some());
    guard.release().await.expect("a quorum confirms");
    assert_eq!(redlock.mutex("k").run(async |_| Ok::<_, Infallible>(7)).await.expect("free"), 7);
    redlock.force_release("k").await.expect("a reply");
    redlock.shutdown(secs(2)).await.expect("no pending release");
}

/// Driver and caller share one thread, which is blocked for longer than the reply timeout.
#[test]
fn a_blocked_runtime_is_not_reported_as_a_stalled_driver() {
    let mut cluster = fenced(3);
    runtime().block_on(async {
        let redlock = client(&cluster).await;
        let guard = redlock.mutex("held").ttl(secs(50)).acquire().await.expect("free");
        cluster[0].pause();
        cluster[1].pause();
        let mutex = redlock.mutex("k").ttl(secs(4));
        let (attempt, ()) = join(mutex.try_acquire(), async { std::thread::sleep(millis(1_800)) }).await;
        assert!(matches!(attempt, Err(AcquireError::NoQuorum { .. })), "{attempt:?}");
        let (released, ()) = join(guard.release(), async { std::thread::sleep(millis(1_800)) }).await;
        let released = released.expect("held until then");
        assert!(!released.confirmed && released.replies.len() == 3, "{released:?}");
    });
}

/// Runs in another process, because a fork copies the process with only the forking thread.
#[test]
fn worker_that_forks() {
    let Ok(nodes) = std::env::var("FORK_NODES") else { return };
    let client_runtime =
        runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (redlock, guard) = client_runtime.block_on(async {
        let builder = Redlock::builder().nodes(nodes.split(',')).max_ttl(secs(60));
        let redlock = builder.connect().await.expect("all nodes are up");
        let guard = redlock.mutex("held").ttl(secs(3)).acquire().await.expect("free");
        (redlock, guard)
    });
    match fork().expect("a fork") {
        Fork::Child => {
            let result =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| in_child(&redlock, &guard)));
            // Nothing is dropped, as in a child that continues its work.
            exit(i32::from(result.is_err()));
        }
        Fork::Parent(child) => {
            let status = waitpid(child).expect("child has ended");
            assert_eq!(status, 0, "the child failed; its output is above");
            client_runtime.block_on(async {
                // The lock is renewed while the child runs and afterwards, on connections that the child had
                // too.
                tokio::time::sleep(secs(4)).await;
                assert!(guard.is_valid());
                assert_eq!(redlock.inspect("held").await.expect("a reply").reply_count(), 3);
                let outcome = guard.release().await.expect("held until then");
                assert!(outcome.confirmed, "{outcome:?}");
                redlock.shutdown(secs(2)).await.expect("no pending release");
            });
        }
    }
}

fn in_child(redlock: &Redlock, guard: &Guard) {
    assert!(!guard.is_valid() && guard.remaining().is_zero(), "the lock belongs to the parent");
    let began = Instant::now();
    let forked = |reason: NoDriver| reason == NoDriver::Forked;
    block_on(async {
        let held = redlock.mutex("k").wait_timeout(secs(5)).acquire().await;
        assert!(matches!(&held, Err(AcquireError::NoDriver { reason, .. }) if forked(*reason)), "{held:?}");
        assert!(held.expect_err("forked").to_string().contains("after the fork"));
        let held = redlock.mutex("k").acquire().await;
        assert!(matches!(&held, Err(AcquireError::NoDriver { reason, .. }) if forked(*reason)), "{held:?}");
        let held = redlock.mutex("k").try_acquire().await;
        assert!(matches!(&held, Err(AcquireError::NoDriver { reason, .. }) if forked(*reason)), "{held:?}");
        let inspected = redlock.inspect("k").await;
        assert!(
            matches!(&inspected, Err(InspectError::NoDriver { reason, .. }) if forked(*reason)),
            "{inspected:?}"
        );
        assert!(redlock.force_release("held").await.is_err());
        let extended = guard.extend(secs(5)).await;
        assert!(
            matches!(&extended, Err(ExtendError::NoDriver { reason, .. }) if forked(*reason)),
            "{extended:?}"
        );
        assert_eq!(redlock.node_status().await.len(), 3);
        let shutdown = redlock.shutdown(secs(5)).await;
        assert!(shutdown.is_err_and(|error| error.no_driver == Some(NoDriver::Forked)));
    });
    assert!(began.elapsed() < secs(1), "every call ends at once");
}

#[test]
fn calls_in_a_forked_child_fail_and_the_parent_keeps_the_lock() {
    let cluster = fenced(3);
    let nodes = cluster.urls().join(",");
    Worker::start("stalled_driver::worker_that_forks", &[("FORK_NODES", nodes)]).wait();
    assert_eq!(nodes_with_key(&cluster, "held"), 0);
}

/// The child keeps running the runtime that drives the client; it must write nothing to its parent's
/// connections.
#[test]
fn worker_that_forks_inside_its_runtime() {
    let Ok(nodes) = std::env::var("FORK_INSIDE_NODES") else { return };
    runtime().block_on(async {
        let builder = Redlock::builder().nodes(nodes.split(',')).max_ttl(secs(60));
        let redlock = builder.connect().await.expect("all nodes are up");
        let guard = redlock.mutex("held").ttl(secs(50)).acquire().await.expect("free");
        match fork().expect("a fork") {
            Fork::Child => {
                drop(guard);
                // The runtime works here, so a driver that continued would release the dropped lock.
                for _ in 0..100 {
                    tokio::time::sleep(millis(5)).await;
                }
                exit(0);
            }
            Fork::Parent(child) => assert_eq!(waitpid(child).expect("child has ended"), 0),
        }
        assert!(guard.is_valid());
        for node in nodes.split(',') {
            let mut connection =
                redis::Client::open(node).and_then(|node| node.get_connection()).expect("a node");
            assert!(redis::cmd("EXISTS").arg("held").query::<bool>(&mut connection).expect("a reply"));
        }
        exit(0);
    });
}

#[test]
fn a_driver_forked_with_its_runtime_does_not_release_the_parents_lock() {
    let cluster = fenced(3);
    let nodes = cluster.urls().join(",");
    Worker::start("stalled_driver::worker_that_forks_inside_its_runtime", &[("FORK_INSIDE_NODES", nodes)])
        .wait();
}
