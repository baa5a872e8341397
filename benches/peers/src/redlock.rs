//! The worker for redlock 2.0.0. Its calls block, so they run on blocking threads.

use std::sync::Arc;
use std::time::Duration;

use ::redlock::{Lock, RedLock};
use quorlock_bench::Outcome;
use quorlock_bench::worker::Contender;
use tokio::task::spawn_blocking;

#[derive(Clone)]
pub(crate) struct Redlock(Arc<RedLock>);

/// A lock without the borrowed reference to its manager.
pub(crate) struct OwnedLock {
    manager: Arc<RedLock>,
    resource: Vec<u8>,
    value: Vec<u8>,
}

impl Contender for Redlock {
    type Lock = OwnedLock;
    type RenewedLock = OwnedLock;

    async fn connect(urls: &[String]) -> Outcome<Self> {
        let mut manager = RedLock::new(urls.to_vec());
        manager.set_retry(u32::MAX, RETRY_MILLIS);
        Ok(Self(Arc::new(manager)))
    }

    async fn acquire(&self, key: &str, ttl: Duration) -> Outcome<OwnedLock> {
        let (manager, key, ttl) = (Arc::clone(&self.0), key.to_owned(), usize::try_from(ttl.as_millis())?);
        spawn_blocking(move || {
            let lock = manager.lock(key.as_bytes(), ttl)?.ok_or("not acquired")?;
            let (resource, value) = (lock.resource, lock.val);
            Ok(OwnedLock { manager: Arc::clone(&manager), resource, value })
        })
        .await?
    }

    async fn release(lock: OwnedLock) -> Outcome<()> {
        spawn_blocking(move || {
            let OwnedLock { manager, resource, value } = lock;
            manager.unlock(&Lock { resource, val: value, validity_time: 0, lock_manager: &manager });
        })
        .await?;
        Ok(())
    }

    async fn acquire_renewed(&self, key: &str, ttl: Duration) -> Outcome<OwnedLock> {
        self.acquire(key, ttl).await
    }

    async fn release_renewed(lock: OwnedLock) -> Outcome<()> {
        Self::release(lock).await
    }
}

const RETRY_MILLIS: u32 = 2;
