//! The worker for rslock, with its defaults.

use std::time::Duration;

use ::rslock::{LockGuard, LockManager};
use quorlock_bench::worker::Contender;
use quorlock_bench::{Outcome, by_hand};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

#[derive(Clone)]
pub(crate) struct Rslock(LockManager);

/// A task inside `using`, because rslock renews a lock only there.
pub(crate) struct RenewedLock {
    end: oneshot::Sender<()>,
    task: JoinHandle<Outcome<()>>,
}

impl Contender for Rslock {
    type Lock = LockGuard;
    type RenewedLock = RenewedLock;

    async fn connect(urls: &[String]) -> Outcome<Self> {
        Ok(Self(LockManager::from_clients(by_hand::clients(urls)?)))
    }

    async fn acquire(&self, key: &str, ttl: Duration) -> Outcome<LockGuard> {
        Ok(self.0.acquire(key, ttl).await?)
    }

    async fn release(lock: LockGuard) -> Outcome<()> {
        lock.release().await;
        Ok(())
    }

    async fn acquire_renewed(&self, key: &str, ttl: Duration) -> Outcome<RenewedLock> {
        let (client, key) = (self.0.clone(), key.to_owned());
        let (acquired, is_acquired) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let work = async move || {
                // Sending fails if the caller was cancelled.
                let _ = acquired.send(());
                let _ = ended.await;
            };
            Ok(client.using(key.as_bytes(), ttl, work).await?)
        });
        is_acquired.await?;
        Ok(RenewedLock { end, task })
    }

    async fn release_renewed(lock: RenewedLock) -> Outcome<()> {
        drop(lock.end);
        lock.task.await?
    }
}
