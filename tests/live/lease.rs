//! Leases: renewal, extension, loss and its signal.

use std::convert::Infallible;
use std::time::Duration;

use quorlock::error::{ExtendError, ReleaseError};
use quorlock::event::LossReason;
use quorlock::{Guard, LockName, RunError};
use quorlock_chaos::Data;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{
    LockCluster, builder, client, eventually, fenced, fenced_with_max_ttl, is_voting, key_count, millis,
    nodes_with_key, plain, secs,
};

/// The lock was lost for this reason, and its release says so.
async fn check_lost(guard: Guard, expected: LossReason) {
    assert_eq!(guard.loss_reason(), Some(expected));
    match guard.release().await {
        Err(ReleaseError::Lost { key, reason, .. }) => {
            assert_eq!((key, reason), (LockName::new("k"), expected));
        }
        other => panic!("expected Lost, got {other:?}"),
    }
}

#[tokio::test]
async fn a_held_lock_outlives_its_ttl_many_times() {
    let fleet = fenced(5);
    let redlock = client(&fleet).await;
    let guard = redlock.mutex("k").ttl(millis(300)).acquire().await.expect("free");
    let end = Instant::now() + secs(2);
    while Instant::now() < end {
        assert!(guard.is_valid());
        // Polls validity; the sleep waits for no event.
        sleep(millis(5)).await;
    }
    assert_eq!(nodes_with_key(&fleet, "k"), 5);
    assert!(guard.release().await.expect("held until then").confirmed);
}

#[tokio::test]
async fn a_lock_without_renewal_expires_and_signals_its_loss() {
    let fleet = fenced(3);
    let redlock = client(&fleet).await;
    let guard = redlock.mutex("k").ttl(millis(200)).auto_renew(false).acquire().await.expect("free");
    assert!(guard.remaining() < millis(200));
    timeout(secs(5), guard.lost()).await.expect("the loss is signaled");
    assert!(!guard.is_valid() && guard.remaining().is_zero());
    check_lost(guard, LossReason::Expired).await;
}

#[tokio::test]
async fn max_hold_time_ends_a_renewed_lock() {
    let fleet = fenced(3);
    let redlock = client(&fleet).await;
    let guard = redlock.mutex("k").ttl(millis(200)).max_hold_time(millis(700)).acquire().await.expect("free");
    let first = guard.deadline();
    let began = first.boot_time().checked_sub(first.remaining()).expect("since the boot");
    timeout(secs(5), guard.lost()).await.expect("the loss is signaled");
    let held = guard.deadline().boot_time().checked_sub(began).expect("not before the start");
    assert!(held > millis(400) && held <= millis(700), "{held:?}");
}

#[tokio::test]
async fn an_extension_moves_the_deadline_and_never_shortens_it() {
    let fleet = fenced(3);
    let redlock = client(&fleet).await;
    let guard = redlock.mutex("k").ttl(secs(2)).auto_renew(false).acquire().await.expect("free");
    let far = guard.extend(secs(60)).await.expect("extended");
    assert!(guard.remaining() > secs(55) && guard.deadline() == far);
    let same = guard.extend(secs(1)).await.expect("extended");
    assert_eq!(same, far);
    let pttl: i64 = fleet[0].command(&["PTTL", "k"]).expect("a reply");
    assert!(pttl > 55_000, "{pttl}");
    assert!(matches!(guard.extend(millis(1)).await, Err(ExtendError::InvalidInput(_))));
}

#[tokio::test]
async fn the_loss_is_signaled_before_the_deadline_when_all_nodes_are_paused() {
    let mut fleet = fenced(5);
    let redlock = client(&fleet).await;
    let guard = redlock.mutex("k").ttl(millis(600)).acquire().await.expect("free");
    fleet.servers_mut().iter_mut().for_each(quorlock_chaos::Server::pause);
    timeout(secs(5), guard.lost()).await.expect("the loss is signaled");
    assert!(!guard.is_valid());
    assert!(matches!(guard.extend(secs(1)).await, Err(ExtendError::Lost { .. })));
    fleet.servers_mut().iter_mut().for_each(quorlock_chaos::Server::resume);
    check_lost(guard, LossReason::Expired).await;
}

#[tokio::test]
async fn work_is_dropped_when_its_lock_is_lost() {
    let mut fleet = fenced(3);
    let redlock = client(&fleet).await;
    fleet.servers_mut().iter_mut().for_each(|server| server.command::<()>(&["PING"]).expect("up"));
    let mutex = redlock.mutex("k").ttl(millis(400));
    let running = mutex.run(|lock| {
        fleet.servers_mut().iter_mut().for_each(quorlock_chaos::Server::kill);
        async move {
            lock.lost().await;
            std::future::pending::<Result<(), Infallible>>().await
        }
    });
    let outcome = timeout(secs(10), running).await.expect("ends in time");
    assert!(matches!(outcome, Err(RunError::Lost { reason: LossReason::Expired, .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_lock_is_lost_at_the_next_renewal_when_a_majority_is_overwritten() {
    let fleet = fenced(3);
    let redlock = client(&fleet).await;
    let guard = redlock.mutex("k").ttl(secs(6)).acquire().await.expect("free");
    for server in fleet.servers() {
        server.command::<()>(&["SET", "k", "thief"]).expect("set");
    }
    let began = Instant::now();
    timeout(secs(5), guard.lost()).await.expect("lost at the next renewal");
    assert!(began.elapsed() < secs(4));
    assert!(!guard.is_valid());
    check_lost(guard, LossReason::TakenByOthers).await;
    let thief: String = fleet[0].command(&["GET", "k"]).expect("a reply");
    assert_eq!(thief, "thief", "a release deletes only its own key");
}

#[tokio::test]
async fn a_node_that_lost_its_data_is_reacquired_while_a_quorum_holds() {
    for mut fleet in [fenced_with_max_ttl(5, secs(4)), plain(5)] {
        let redlock = client(&fleet).await;
        let guard = redlock.mutex("k").ttl(secs(4)).acquire().await.expect("free");
        eventually("every node has the key", || async { nodes_with_key(&fleet, "k") == 5 }).await;
        fleet[1].restart(Data::Empty).expect("restarted");
        fleet[3].wipe().expect("flushed");
        eventually("both nodes have the key again", || async {
            assert!(guard.is_valid(), "lost: {:?}", redlock.node_status().await);
            nodes_with_key(&fleet, "k") == 5
        })
        .await;
        assert!(guard.is_valid());
    }
}

#[tokio::test]
async fn flushed_scripts_are_loaded_again() {
    check_flushed(fenced(3), true).await;
    check_flushed(plain(3), false).await;
}

async fn check_flushed(fleet: LockCluster, is_fenced: bool) {
    let redlock = client(&fleet).await;
    let flush = || {
        for server in fleet.servers() {
            server.command::<()>(&["SCRIPT", "FLUSH"]).expect("flushed");
        }
    };
    let guard = redlock.mutex("k").ttl(millis(900)).acquire().await.expect("free");
    flush();
    let deadline = guard.extend(secs(30)).await.expect("renewed");
    assert_eq!(guard.deadline(), deadline);
    flush();
    guard.release().await.expect("released");
    flush();
    assert!(redlock.inspect("k").await.expect("a reply").is_free());
    flush();
    let guard = redlock.mutex("k").wait_timeout(Duration::ZERO).acquire().await.expect("granted");
    assert_eq!(guard.fencing_token().is_some(), is_fenced);
    drop(guard);
    redlock.shutdown(secs(5)).await.expect("no pending release");
    assert_eq!(key_count(&fleet), 0);
}

#[tokio::test]
async fn a_waiter_gets_the_lock_of_a_dead_holder_after_its_ttl() {
    let fleet = fenced(5);
    let waiter = client(&fleet).await;
    let ttl = millis(1000);
    // The runtime is dropped while the lock is held, so nothing of the client runs any more, as after
    // SIGKILL.
    let builder = builder(&fleet);
    let began = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let guard = runtime.block_on(async {
            let redlock = builder.connect().await.expect("up");
            redlock.mutex("k").ttl(ttl).acquire().await.expect("free")
        });
        let began = Instant::now();
        std::mem::forget(guard);
        drop(runtime);
        began
    })
    .join()
    .expect("no panic");
    let guard = waiter.mutex("k").wait_timeout(secs(10)).acquire().await.expect("after the ttl");
    assert!(guard.is_valid());
    // The bound is far above the usual few milliseconds, because the machine may be loaded.
    assert!(began.elapsed() < ttl + secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_dedicated_thread_renews_locks_while_the_runtime_is_blocked() {
    let fleet = fenced(3);
    let redlock = builder(&fleet).dedicated_thread(true).connect().await.expect("up");
    let guard = redlock.mutex("k").ttl(millis(400)).acquire().await.expect("free");
    std::thread::sleep(millis(1500));
    assert!(guard.is_valid());
    guard.release().await.expect("released");
}

#[tokio::test]
async fn a_blocked_runtime_does_not_make_healthy_nodes_time_out() {
    let fleet = fenced(3);
    let redlock = client(&fleet).await;
    // Milliseconds: longer than the reply timeout, and longer than a silent connection is kept.
    for block in [600, 2200] {
        let guard = redlock.mutex("k").acquire().await.expect("free");
        eventually("every node has the key", || async { nodes_with_key(&fleet, "k") == 3 }).await;
        drop(guard);
        // The driver writes the release. The replies arrive while the runtime is blocked.
        tokio::task::yield_now().await;
        std::thread::sleep(millis(block));
        let guard = redlock.mutex("k").try_acquire().await.expect("a quorum replies");
        assert!(guard.is_some(), "free again");
        assert!(redlock.node_status().await.iter().all(is_voting), "no connection was closed");
        drop(guard);
        eventually("the key is released", || async { key_count(&fleet) == 0 }).await;
    }
}

#[tokio::test]
async fn a_blocked_runtime_cannot_make_a_lost_lock_look_valid() {
    let fleet = fenced(3);
    let redlock = client(&fleet).await;
    let guard = redlock.mutex("k").ttl(millis(300)).acquire().await.expect("free");
    // The driver shares this thread, so neither renewals nor timers run meanwhile.
    std::thread::sleep(millis(500));
    assert!(!guard.is_valid(), "validity is read from the clock, not from timers");
    timeout(secs(1), guard.lost()).await.expect("the loss is signaled");
    check_lost(guard, LossReason::Expired).await;
}

#[tokio::test]
async fn guards_are_lost_when_the_driver_ends() {
    let fleet = fenced(3);
    let builder = builder(&fleet);
    let guard = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let redlock = builder.connect().await.expect("up");
            redlock.mutex("k").acquire().await.expect("free")
        })
    })
    .join()
    .expect("no panic");
    timeout(secs(1), guard.lost()).await.expect("signaled when the driver is dropped");
    assert!(!guard.is_valid());
    check_lost(guard, LossReason::ClientClosed).await;
}

#[tokio::test]
async fn a_held_lock_survives_repeated_faults_of_a_minority() {
    // In fenced mode a restarted node has the key again only after its probation, so a round takes longer.
    for (mut fleet, rounds) in [(fenced_with_max_ttl(5, millis(1500)), 2), (plain(5), 3)] {
        let redlock = client(&fleet).await;
        let guard = redlock.mutex("k").ttl(millis(1500)).acquire().await.expect("free");
        for round in 0..rounds {
            let (one, two) = (round % 5, (round + 2) % 5);
            fleet[one].kill();
            fleet[two].pause();
            let before = guard.deadline();
            eventually("the other three nodes renew it", || async {
                assert!(guard.is_valid(), "round {round}");
                guard.deadline().boot_time() > before.boot_time()
            })
            .await;
            fleet[one].restart(Data::Kept).expect("restarted");
            fleet[two].resume();
            eventually("all nodes have the key again", || async { guard.spare_nodes() == 2 }).await;
        }
        guard.release().await.expect("released");
    }
}
