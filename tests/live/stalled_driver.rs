//! Every wait has an end that the waiter keeps itself, also where the client's driver does not run: on a runtime that
//! nobody drives, in the child of a fork; and locks work where there is no runtime at all.

use std::process::exit;
use std::sync::mpsc;
use std::time::Duration;

use fork::{Fork, fork, waitpid};
use futures::executor::block_on;
use futures::future::join;
use quorlock::{
    AcquireError, ConnectError, ExtendError, Guard, InspectError, NoDriver, Redlock, RedlockBuilder,
    ReleaseError, ShutdownError,
};
use quorlock_chaos::redis;
use tokio::runtime::{self, Runtime};
use tokio::time::Instant;

use crate::support::{
    LockCluster, Worker, builder, client, eventually, fenced, lock_keys, millis, nodes_with_key, plain, secs,
};

fn runtime() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Does this within a time that only a wait without end takes, and says how long it took. On a thread of its own, which is
/// left behind if it does not end.
#[track_caller]
fn in_time<T: Send + 'static>(what: &str, deed: impl FnOnce() -> T + Send + 'static) -> (T, Duration) {
    let (tell, told) = mpsc::channel();
    let began = Instant::now();
    std::thread::spawn(move || tell.send(deed()));
    let done = told.recv_timeout(secs(40)).unwrap_or_else(|_| panic!("{what} does not end"));
    (done, began.elapsed())
}

/// Where calls are made: on which executor, and beside which runtime.
#[derive(Clone, Copy, Debug)]
enum Place {
    OtherRuntime,
    NoRuntime,
    /// Inside a runtime that nobody runs.
    IdleRuntime,
    /// In the main future of a runtime that has no timers.
    NoTimers,
    /// In a task of such a runtime.
    TaskWithoutTimers,
    /// In a task that blocks the one thread of its runtime meanwhile.
    BlockedRuntime,
}

const PLACES: [Place; 6] = [
    Place::OtherRuntime,
    Place::NoRuntime,
    Place::IdleRuntime,
    Place::NoTimers,
    Place::TaskWithoutTimers,
    Place::BlockedRuntime,
];

impl Place {
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

/// A client and a lock of its, built in a runtime that nobody drives from now on.
fn idle(cluster: &LockCluster) -> (Runtime, Redlock, Guard) {
    let home = runtime();
    let (redlock, guard) = home.block_on(async {
        let redlock = builder(cluster).connect().await.expect("all nodes are up");
        let guard = redlock.mutex("held").ttl(secs(50)).acquire().await.expect("free");
        (redlock, guard)
    });
    (home, redlock, guard)
}

#[test]
fn no_call_waits_forever_for_a_stalled_driver() {
    std::thread::scope(|scope| {
        for place in PLACES {
            scope.spawn(move || every_call_ends(place));
        }
    });
}

fn every_call_ends(place: Place) {
    let cluster = fenced(3);
    let (home, redlock, guard) = idle(&cluster);
    // Eight calls, each of which ends by itself.
    in_time(&format!("some call in {place:?}"), move || {
        let calls = async move {
            let begun = Instant::now();
            let wait = redlock.mutex("k").ttl(secs(4)).wait_timeout(millis(300)).acquire().await;
            assert!(
                matches!(wait, Err(AcquireError::NoDriver { reason: NoDriver::Stalled, .. })),
                "{wait:?}"
            );
            let words = wait.expect_err("stalled").to_string();
            assert!(words.starts_with("lock \"k\": ") && words.contains("dedicated_thread()"), "{words}");
            assert!(begun.elapsed() >= millis(300), "the wait lasts as long as its limit");
            let tried = redlock.mutex("k").ttl(secs(4)).try_acquire().await;
            assert!(matches!(tried, Err(AcquireError::NoDriver { .. })), "{tried:?}");
            let ran = redlock.mutex("k").ttl(secs(4)).no_wait().run(|_| async {}).await;
            assert!(ran.is_err());
            let inspected = redlock.inspect("k").await;
            assert!(matches!(inspected, Err(InspectError::NoDriver { .. })), "{inspected:?}");
            let broken = redlock.force_release("k").await;
            assert!(matches!(broken, Err(InspectError::NoDriver { .. })), "{broken:?}");
            let extended = guard.extend(secs(55)).await;
            assert!(matches!(extended, Err(ExtendError::NoDriver { .. })), "{extended:?}");
            assert!(guard.is_valid(), "valid until its deadline");
            let released = guard.release().await;
            assert!(matches!(released, Err(ReleaseError::NoDriver { .. })), "{released:?}");
            let shut = redlock.shutdown(millis(100)).await;
            let is_reported = |error: &ShutdownError| error.no_driver == Some(NoDriver::Stalled);
            assert!(shut.as_ref().is_err_and(is_reported), "{shut:?}");
            assert_eq!(redlock.node_status().await.len(), 3);
        };
        place.run(calls);
    });
    // Where it goes on one day, what was asked for in vain is undone.
    home.block_on(eventually("no pending release", || async {
        lock_keys(&cluster).iter().all(|keys| !keys.iter().any(|key| key == "k" || key == "held"))
    }));
}

#[test]
fn the_loss_is_signaled_at_the_deadline_when_the_driver_is_stalled() {
    let cluster = fenced(3);
    for place in PLACES {
        let home = runtime();
        let name = format!("k{place:?}");
        let (redlock, guard) = home.block_on(async {
            let redlock = builder(&cluster).connect().await.expect("all nodes are up");
            let guard = redlock.mutex(&name).ttl(secs(1)).acquire().await.expect("free");
            (redlock, guard)
        });
        let (guard, took) = in_time("the loss", move || {
            place.run(guard.lost());
            guard
        });
        assert!(!guard.is_valid() && took < secs(5), "{took:?}");
        drop((redlock, guard, home));
    }
}

#[test]
fn connect_fails_on_a_runtime_that_is_not_driven() {
    let cluster = fenced(3);
    let builder = builder(&cluster).connect_timeout(secs(2));
    let (refused, _) = in_time("connect", move || {
        let home = runtime();
        let _inside = home.enter();
        block_on(builder.connect())
    });
    assert!(matches!(refused, Err(ConnectError::NoDriver(NoDriver::Stalled))), "{refused:?}");
}

#[test]
fn a_client_with_a_dedicated_thread_works_from_every_call_site() {
    for cluster in [fenced(3), plain(3)] {
        let error = block_on(builder(&cluster).connect()).expect_err("no runtime here").to_string();
        assert!(error.contains("dedicated_thread()"), "{error}");
        for place in PLACES {
            let builder = builder(&cluster).dedicated_thread();
            in_time(&format!("a lock's life in {place:?}"), move || place.run(a_locks_life(builder)));
        }
    }
}

async fn a_locks_life(builder: RedlockBuilder) {
    let redlock = builder.clone().connect().await.expect("all nodes are up");
    assert_eq!(redlock.node_status().await.len(), 3);
    let guard = redlock.mutex("k").ttl(secs(4)).acquire().await.expect("free");
    assert!(guard.extend(secs(10)).await.is_ok());
    let tried = redlock.mutex("k").try_acquire().await.expect("a reply");
    assert!(tried.is_none());
    let other = builder.connect().await.expect("all nodes are up");
    let began = Instant::now();
    let waited = other.mutex("k").wait_timeout(millis(200)).acquire().await;
    assert!(matches!(waited, Err(AcquireError::Contended { .. })), "{waited:?}");
    assert!(began.elapsed() >= millis(200));
    assert!(redlock.inspect("k").await.expect("a reply").holder().is_some());
    guard.release().await.expect("a quorum confirms");
    assert_eq!(redlock.mutex("k").run(|_| async { 7 }).await.expect("free"), 7);
    redlock.force_release("k").await.expect("a reply");
    redlock.shutdown(secs(2)).await.expect("no pending release");
}

/// Driver and caller are on one thread, which stands still for longer than any answer may take.
#[test]
fn a_blocked_runtime_is_not_reported_as_a_stalled_driver() {
    let mut cluster = fenced(3);
    runtime().block_on(async {
        let redlock = client(&cluster).await;
        let guard = redlock.mutex("held").ttl(secs(50)).acquire().await.expect("free");
        cluster[0].pause();
        cluster[1].pause();
        let mutex = redlock.mutex("k").ttl(secs(4));
        let (tried, ()) = join(mutex.try_acquire(), async { std::thread::sleep(millis(1_800)) }).await;
        assert!(matches!(tried, Err(AcquireError::NoQuorum { .. })), "{tried:?}");
        let (released, ()) = join(guard.release(), async { std::thread::sleep(millis(1_800)) }).await;
        assert!(matches!(released, Err(ReleaseError::NoQuorum { .. })), "{released:?}");
    });
}

/// As another process: what is forked is this one, with all its threads but one left behind.
#[test]
fn worker_that_forks() {
    let Ok(nodes) = std::env::var("FORK_NODES") else { return };
    let home =
        runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (redlock, guard) = home.block_on(async {
        let builder = Redlock::builder().nodes(nodes.split(',')).max_ttl(secs(60));
        let redlock = builder.connect().await.expect("all nodes are up");
        let guard = redlock.mutex("held").ttl(secs(3)).acquire().await.expect("free");
        (redlock, guard)
    });
    match fork().expect("a fork") {
        Fork::Child => {
            let is_well =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| in_child(&redlock, &guard)));
            // Nothing is dropped, as in a child that goes on with its work.
            exit(i32::from(is_well.is_err()));
        }
        Fork::Parent(child) => {
            let status = waitpid(child).expect("child has ended");
            assert_eq!(status, 0, "the child failed; its output is above");
            home.block_on(async {
                // Renewed meanwhile, and afterwards, on the connections that the child had too.
                tokio::time::sleep(secs(4)).await;
                assert!(guard.is_valid());
                assert_eq!(redlock.inspect("held").await.expect("a reply").reply_count(), 3);
                let report = guard.release().await.expect("a quorum confirms");
                assert!(!report.was_lost, "{report:?}");
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
        let shut = redlock.shutdown(secs(5)).await;
        assert!(shut.is_err_and(|error| error.no_driver == Some(NoDriver::Forked)));
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

/// The child goes on with the very runtime that drives the client: it writes nothing to its parent's connections.
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
                // Everything else of the runtime works here, so a driver that went on would release what was dropped.
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
