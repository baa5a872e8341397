//! Our own clients, as workers.

use std::time::Duration;

use quorlock::{Guard, Redlock};

use crate::Outcome;
use crate::by_hand::{self, ByHand};
use crate::worker::Contender;

/// quorlock.
#[derive(Clone)]
pub struct Ours<const IS_PLAIN: bool>(Redlock);

/// As the textbook has it, which is the work that the others do.
pub type Plain = Ours<true>;

/// By default.
pub type Fenced = Ours<false>;

impl<const IS_PLAIN: bool> Contender for Ours<IS_PLAIN> {
    type Lock = Guard;
    type Held = Guard;

    async fn connect(urls: &[String]) -> Outcome<Self> {
        let builder = Redlock::builder().nodes(urls);
        let builder = if IS_PLAIN { builder.plain() } else { builder };
        Ok(Self(builder.connect().await?))
    }

    async fn acquire(&self, key: &str, ttl: Duration) -> Outcome<Guard> {
        Ok(self.0.mutex(key).ttl(ttl).acquire().await?)
    }

    async fn release(lock: Guard) -> Outcome<()> {
        lock.release().await?;
        Ok(())
    }

    async fn hold(&self, key: &str, ttl: Duration) -> Outcome<Guard> {
        self.acquire(key, ttl).await
    }

    async fn let_go(held: Guard) -> Outcome<()> {
        Self::release(held).await
    }
}

impl Contender for ByHand {
    type Lock = by_hand::Lock;
    type Held = by_hand::Lock;

    async fn connect(urls: &[String]) -> Outcome<Self> {
        Self::connect(urls).await
    }

    async fn acquire(&self, key: &str, ttl: Duration) -> Outcome<by_hand::Lock> {
        self.acquire(key, ttl).await
    }

    async fn release(lock: by_hand::Lock) -> Outcome<()> {
        lock.release().await
    }

    async fn hold(&self, key: &str, ttl: Duration) -> Outcome<by_hand::Lock> {
        self.acquire(key, ttl).await
    }

    async fn let_go(held: by_hand::Lock) -> Outcome<()> {
        held.release().await
    }
}
