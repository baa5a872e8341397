//! The end of a lock: the signals of a release and of a loss, the reasons of losses, and `abandon`.

use std::pin::pin;
use std::sync::mpsc;
use std::time::Duration;

use futures::poll;
use quorlock::error::ReleaseError;
use quorlock::event::{Event, LossReason};
use quorlock::{CancellationToken, Guard, LockView};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::{builder, client, eventually, fenced, key_count, millis, nodes_with_key, plain, secs};

/// Longer than every test: no lock expires and no renewal is due.
const LONG: Duration = secs(60);

/// A task that waits for the end of the lock.
fn spawn_ended(view: &LockView) -> JoinHandle<Option<LossReason>> {
    let view = view.clone();
    tokio::spawn(async move { view.ended().await })
}

async fn end_of(ended: JoinHandle<Option<LossReason>>) -> Option<LossReason> {
    timeout(secs(20), ended).await.expect("completes when the lock ends").expect("no panic")
}

/// The lock was released: no reason, no lost signal, not even from now on.
async fn check_released(view: &LockView, token: &CancellationToken) {
    assert!(!view.is_valid() && view.remaining().is_zero());
    assert_eq!((view.ended().await, view.loss_reason()), (None, None));
    assert!(poll!(pin!(view.lost())).is_pending(), "a released lock is not lost");
    assert!(!token.is_cancelled() && !view.cancellation_token().is_cancelled());
}

/// The lock was lost for this reason: every signal says so, also to listeners that come late.
async fn check_lost(view: &LockView, token: &CancellationToken, reason: LossReason) {
    assert!(!view.is_valid() && view.remaining().is_zero());
    assert_eq!(view.loss_reason(), Some(reason));
    assert_eq!((view.lost().await, view.ended().await), (reason, Some(reason)));
    assert!(token.is_cancelled() && view.cancellation_token().is_cancelled());
}

#[tokio::test]
async fn a_release_ends_a_lock_without_a_loss() {
    for cluster in [fenced(3), plain(3)] {
        let redlock = client(&cluster).await;
        let ends: [fn(Guard); 3] = [
            drop,
            |guard| {
                guard.abandon();
            },
            |guard| {
                // The release starts with the first poll and is not cancelled with its future.
                let _ = futures::FutureExt::now_or_never(guard.release());
            },
        ];
        for (index, end) in ends.into_iter().enumerate() {
            let guard = redlock.mutex(format!("k{index}")).ttl(LONG).acquire().await.expect("free");
            let (view, token) = (guard.view(), guard.cancellation_token());
            let ended = spawn_ended(&view);
            assert!(poll!(pin!(guard.ended())).is_pending() && poll!(pin!(view.lost())).is_pending());
            assert_eq!((guard.loss_reason(), token.is_cancelled()), (None, false));
            end(guard);
            assert_eq!(end_of(ended).await, None);
            check_released(&view, &token).await;
        }
        let guard = redlock.mutex("k").ttl(LONG).acquire().await.expect("free");
        let (view, token) = (guard.view(), guard.cancellation_token());
        let ended = spawn_ended(&view);
        assert!(guard.release().await.expect("held until then").confirmed);
        assert_eq!(end_of(ended).await, None);
        check_released(&view, &token).await;
    }
}

#[tokio::test]
async fn a_lock_that_is_not_renewed_ends_as_expired() {
    for cluster in [fenced(3), plain(3)] {
        let redlock = client(&cluster).await;
        let guard = redlock.mutex("k").ttl(millis(300)).auto_renew(false).acquire().await.expect("free");
        let (view, token) = (guard.view(), guard.cancellation_token());
        let ended = spawn_ended(&view);
        timeout(secs(20), token.cancelled()).await.expect("fires at the loss");
        assert_eq!(end_of(ended).await, Some(LossReason::Expired));
        check_lost(&view, &token, LossReason::Expired).await;
        let error = guard.release().await.expect_err("lost");
        assert!(matches!(error, ReleaseError::Lost { reason: LossReason::Expired, .. }), "{error:?}");
        // The release of a lost lock does not change how it ended.
        check_lost(&view, &token, LossReason::Expired).await;
    }
}

#[tokio::test]
async fn a_force_released_lock_ends_as_taken_by_others() {
    let cluster = fenced(3);
    let (holder, operator) = (client(&cluster).await, client(&cluster).await);
    let guard = holder.mutex("k").ttl(secs(9)).acquire().await.expect("free");
    let (view, token) = (guard.view(), guard.cancellation_token());
    let ended = spawn_ended(&view);
    operator.force_release("k").await.expect("a reply");
    // The next renewal is due after 3 s.
    timeout(secs(20), token.cancelled()).await.expect("fires at the loss");
    assert_eq!(end_of(ended).await, Some(LossReason::TakenByOthers));
    check_lost(&view, &token, LossReason::TakenByOthers).await;
    assert_eq!(guard.lost().await, LossReason::TakenByOthers);
    drop(guard);
    check_lost(&view, &token, LossReason::TakenByOthers).await;
}

#[tokio::test]
async fn a_lock_that_outlives_its_client_ends_as_client_closed() {
    for cluster in [fenced(3), plain(3)] {
        let redlock = client(&cluster).await;
        let guard = redlock.mutex("k").ttl(LONG).acquire().await.expect("free");
        let (view, token) = (guard.view(), guard.cancellation_token());
        let ended = spawn_ended(&view);
        let left = redlock.shutdown(Duration::ZERO).await.expect_err("a lock is held");
        assert_eq!(left.held_locks, ["k"]);
        assert_eq!(end_of(ended).await, Some(LossReason::ClientClosed));
        check_lost(&view, &token, LossReason::ClientClosed).await;
        let error = guard.release().await.expect_err("lost");
        assert!(matches!(error, ReleaseError::Lost { reason: LossReason::ClientClosed, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_cancelled_cancellation_token_does_not_affect_the_lock() {
    let cluster = fenced(3);
    let redlock = client(&cluster).await;
    let guard = redlock.mutex("k").ttl(LONG).acquire().await.expect("free");
    let (first, second) = (guard.cancellation_token(), guard.view().cancellation_token());
    first.cancel();
    assert!(guard.is_valid() && !second.is_cancelled() && !guard.cancellation_token().is_cancelled());
    assert!(guard.release().await.expect("held until then").confirmed);
}

#[tokio::test]
async fn an_abandoned_lock_is_not_renewed_and_its_keys_expire() {
    for cluster in [fenced(3), plain(3)] {
        let (sender, events) = mpsc::channel();
        let record = move |event: &Event| drop(sender.send(event.clone()));
        let redlock = builder(&cluster).on_event(record).connect().await.expect("all nodes are up");
        let other = client(&cluster).await;
        let ttl = secs(6);
        let guard = redlock.mutex("k").ttl(ttl).acquire().await.expect("free");
        eventually("every node has the key", || async { nodes_with_key(&cluster, "k") == 3 }).await;
        let (view, owner) = (guard.view(), guard.owner_hash());
        let deadline = guard.abandon();
        assert!(!deadline.has_passed() && deadline.remaining() <= ttl && !view.is_valid());
        let seen = other.inspect("k").await.expect("a reply");
        assert_eq!(seen.holder().map(|holder| holder.owner), Some(owner), "{seen:?}");
        assert!(other.mutex("k").try_acquire().await.expect("a quorum replies").is_none());
        assert!(redlock.mutex("k").try_acquire().await.expect("a quorum replies").is_none());
        // A lock that is renewed would never be free.
        let mutex = redlock.mutex("k").ttl(LONG).wait_timeout(secs(20));
        let again = mutex.acquire().await.expect("free when the keys have expired");
        assert!(deadline.has_passed() && again.is_valid() && !view.is_valid());
        assert_eq!(view.loss_reason(), None, "an abandoned lock is not lost");
        let is_end = |event: &Event| matches!(event, Event::Lost { .. } | Event::Released { .. });
        let ends: Vec<Event> = events.try_iter().filter(is_end).collect();
        assert!(ends.is_empty(), "{ends:?}");
        again.release().await.expect("held until then");
    }
}

#[tokio::test]
async fn the_keys_of_an_abandoned_lock_stay_after_a_shutdown() {
    for cluster in [fenced(3), plain(3)] {
        let redlock = client(&cluster).await;
        let guard = redlock.mutex("k").ttl(LONG).acquire().await.expect("free");
        eventually("every node has the key", || async { nodes_with_key(&cluster, "k") == 3 }).await;
        let deadline = guard.abandon();
        redlock.shutdown(secs(10)).await.expect("no pending release and no held lock");
        assert!(nodes_with_key(&cluster, "k") == 3 && !deadline.has_passed());
        assert_eq!(key_count(&cluster), 3);
    }
}

#[tokio::test]
async fn a_lost_lock_can_be_abandoned() {
    let cluster = fenced(3);
    let redlock = client(&cluster).await;
    let guard = redlock.mutex("k").ttl(millis(200)).auto_renew(false).acquire().await.expect("free");
    let (view, token) = (guard.view(), guard.cancellation_token());
    timeout(secs(20), guard.lost()).await.expect("the loss is signaled");
    guard.abandon();
    check_lost(&view, &token, LossReason::Expired).await;
    let mutex = redlock.mutex("k").wait_timeout(secs(20));
    assert!(mutex.acquire().await.expect("free when the keys have expired").is_valid());
}
