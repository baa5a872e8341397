//! Our own clients, as workers.

use std::time::Duration;

use quorlock::{Guard, Redlock};

use crate::Outcome;
use crate::by_hand::{self, ByHand};
use crate::worker::Contender;

/// quorlock as the textbook has it, which is the work that the others do.
#[derive(Clone)]
pub struct Plain(Redlock);

/// quorlock by default.
#[derive(Clone)]
pub struct Guarded(Redlock);

impl Contender for Plain {
    type Lock = Guard;
    type Held = Guard;

    async fn connect(urls: &[String]) -> Outcome<Self> {
        Ok(Self(Redlock::builder().nodes(urls).plain().connect().await?))
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

impl Contender for Guarded {
    type Lock = Guard;
    type Held = Guard;

    async fn connect(urls: &[String]) -> Outcome<Self> {
        Ok(Self(Redlock::builder().nodes(urls).connect().await?))
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
