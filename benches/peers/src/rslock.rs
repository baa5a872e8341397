//! rslock as a worker, with its own defaults.

use std::time::Duration;

use ::rslock::{LockGuard, LockManager};
use quorlock_bench::worker::Contender;
use quorlock_bench::{Outcome, by_hand};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

#[derive(Clone)]
pub(crate) struct Rslock(LockManager);

/// It renews only what runs inside `using`.
pub(crate) struct Held {
    end: oneshot::Sender<()>,
    task: JoinHandle<Outcome<()>>,
}

impl Contender for Rslock {
    type Lock = LockGuard;
    type RenewedLock = Held;

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

    async fn acquire_renewed(&self, key: &str, ttl: Duration) -> Outcome<Held> {
        let (client, key) = (self.0.clone(), key.to_owned());
        let (tell, has_it) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let work = async move || {
                // Who asked may be gone; then so is the other end.
                let _ = tell.send(());
                let _ = ended.await;
            };
            Ok(client.using(key.as_bytes(), ttl, work).await?)
        });
        has_it.await?;
        Ok(Held { end, task })
    }

    async fn release_renewed(held: Held) -> Outcome<()> {
        drop(held.end);
        held.task.await?
    }
}
