//! The three clients behind one face.

use std::time::Duration;

use peers::Outcome;
use peers::by_hand::{self, ByHand};
use quorlock::{Guard, Redlock};
use rslock::{LockGuard, LockManager};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Quorlock,
    ByHand,
    Rslock,
}

#[derive(Clone)]
pub(crate) enum Client {
    Quorlock(Redlock),
    ByHand(ByHand),
    Rslock(LockManager),
}

pub(crate) enum Lock {
    Quorlock(Box<Guard>),
    ByHand(by_hand::Lock),
    Rslock(LockGuard),
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Quorlock, Self::ByHand, Self::Rslock];

    /// All peers, in another order every round: each comes first, second and last equally often.
    pub(crate) fn order(round: usize) -> [Self; 3] {
        let mut order = Self::ALL;
        order.rotate_left(round % 3);
        if round / 3 % 2 == 1 {
            order.reverse();
        }
        order
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quorlock => "quorlock",
            Self::ByHand => "redis crate by hand",
            Self::Rslock => "rslock",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }

    /// Everybody with their own defaults, and without Nagle's algorithm; quorlock in plain mode, for that is the work
    /// that the others do.
    pub(crate) async fn connect(self, urls: &[String]) -> Outcome<Client> {
        Ok(match self {
            Self::Quorlock => Client::Quorlock(Redlock::builder().nodes(urls).plain().connect().await?),
            Self::ByHand => Client::ByHand(ByHand::connect(urls).await?),
            Self::Rslock => Client::Rslock(LockManager::from_clients(by_hand::clients(urls)?)),
        })
    }
}

impl Client {
    pub(crate) async fn acquire(&self, key: &str, ttl: Duration) -> Outcome<Lock> {
        Ok(match self {
            Self::Quorlock(client) => Lock::Quorlock(Box::new(client.mutex(key).ttl(ttl).acquire().await?)),
            Self::ByHand(client) => Lock::ByHand(client.acquire(key, ttl).await?),
            Self::Rslock(client) => Lock::Rslock(client.acquire(key, ttl).await?),
        })
    }
}

impl Lock {
    pub(crate) async fn release(self) -> Outcome<()> {
        match self {
            Self::Quorlock(guard) => drop(guard.release().await?),
            Self::ByHand(lock) => lock.release().await?,
            Self::Rslock(guard) => guard.release().await,
        }
        Ok(())
    }
}
