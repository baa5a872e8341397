//! `try_acquire_for`: a contended lock is no error, and other failures are.

use quorlock::AcquireError;
use tokio::time::{Instant, timeout};

use crate::support::{client, eventually, fenced, key_count, millis, plain, secs};
use crate::wait_queue::queue_length;

#[tokio::test]
async fn a_lock_that_is_held_until_the_end_of_the_wait_is_not_acquired() {
    for cluster in [fenced(3), plain(3)] {
        let (holder, other) = (client(&cluster).await, client(&cluster).await);
        let guard = holder.mutex("k").ttl(secs(60)).acquire().await.expect("free");
        // By another client, and by another task of the same one.
        for redlock in [&other, &holder] {
            let wait = millis(200);
            let began = Instant::now();
            let attempt = redlock.mutex("k").try_acquire_for(wait).await;
            assert!(attempt.expect("a contended lock is no error").is_none() && began.elapsed() >= wait);
            let attempt = redlock.mutex("k").try_acquire_for(millis(0)).await;
            assert!(attempt.expect("a contended lock is no error").is_none());
        }
        assert!(guard.is_valid());
        guard.release().await.expect("held until then");
        let guard =
            other.mutex("k").try_acquire_for(secs(20)).await.expect("a quorum replies").expect("free");
        guard.release().await.expect("held until then");
        for redlock in [holder, other] {
            redlock.shutdown(secs(10)).await.expect("no pending release");
        }
        assert_eq!(key_count(&cluster), 0, "no key and no wait queue is left");
    }
}

#[tokio::test]
async fn a_lock_that_is_released_in_the_meantime_is_acquired() {
    for cluster in [fenced(3), plain(3)] {
        let (holder, other) = (client(&cluster).await, client(&cluster).await);
        let guard = holder.mutex("k").ttl(secs(60)).acquire().await.expect("free");
        let waiter = tokio::spawn(async move { other.mutex("k").try_acquire_for(secs(20)).await });
        eventually("the waiter is queued", || async { queue_length(&cluster) == 1 }).await;
        guard.release().await.expect("held until then");
        let outcome = timeout(secs(30), waiter).await.expect("ends in time").expect("no panic");
        assert!(outcome.expect("a quorum replies").expect("free").is_valid());
    }
}

#[tokio::test]
async fn a_missing_quorum_and_a_closed_client_are_errors() {
    let mut cluster = fenced(3);
    let redlock = client(&cluster).await;
    cluster[0].kill();
    cluster[1].kill();
    let attempt = redlock.mutex("k").try_acquire_for(millis(200)).await;
    assert!(matches!(attempt, Err(AcquireError::NoQuorum { .. })), "{attempt:?}");
    // The nodes that are down may still have a release to do.
    let _ = redlock.shutdown(millis(1)).await;
    let attempt = redlock.mutex("k").try_acquire_for(secs(20)).await;
    assert!(matches!(attempt, Err(AcquireError::Closed { .. })), "{attempt:?}");
}
