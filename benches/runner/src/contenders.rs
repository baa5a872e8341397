//! The workers for quorlock and for the redis crate by hand.

use std::time::Duration;

use quorlock::{Guard, Redlock};

use crate::Outcome;
use crate::by_hand::{self, ByHand};
use crate::worker::Contender;

/// quorlock in plain or in fenced mode.
#[derive(Clone)]
pub struct Quorlock<const IS_PLAIN: bool>(Redlock);

/// `SET NX PX` without fencing, as the other clients work.
pub type Plain = Quorlock<true>;

/// The default mode.
pub type Fenced = Quorlock<false>;

impl<const IS_PLAIN: bool> Contender for Quorlock<IS_PLAIN> {
    type Lock = Guard;
    type RenewedLock = Guard;

    async fn connect(urls: &[String]) -> Outcome<Self> {
        let builder = Redlock::builder().nodes(urls);
        let builder = if IS_PLAIN { builder.mode(quorlock::Mode::Plain) } else { builder };
        Ok(Self(builder.connect().await?))
    }

    async fn acquire(&self, key: &str, ttl: Duration) -> Outcome<Guard> {
        Ok(self.0.mutex(key).ttl(ttl).acquire().await?)
    }

    async fn release(lock: Guard) -> Outcome<()> {
        lock.release().await?;
        Ok(())
    }

    async fn acquire_renewed(&self, key: &str, ttl: Duration) -> Outcome<Guard> {
        self.acquire(key, ttl).await
    }

    async fn release_renewed(lock: Guard) -> Outcome<()> {
        Self::release(lock).await
    }
}

impl Contender for ByHand {
    type Lock = by_hand::Lock;
    type RenewedLock = by_hand::Lock;

    async fn connect(urls: &[String]) -> Outcome<Self> {
        Self::connect(urls).await
    }

    async fn acquire(&self, key: &str, ttl: Duration) -> Outcome<by_hand::Lock> {
        self.acquire(key, ttl).await
    }

    async fn release(lock: by_hand::Lock) -> Outcome<()> {
        lock.release().await
    }

    async fn acquire_renewed(&self, key: &str, ttl: Duration) -> Outcome<by_hand::Lock> {
        self.acquire(key, ttl).await
    }

    async fn release_renewed(lock: by_hand::Lock) -> Outcome<()> {
        lock.release().await
    }
}
