//! The clients under one interface, each with its strategy of waiting.

use std::time::Duration;

use peers::{Outcome, by_hand};
use quorlock::{Guard, Redlock};
use rslock::{LockGuard, LockManager};

/// A client, and how it waits for a contended lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strategy {
    Plain,
    Fenced,
    /// rslock with this maximum retry delay in milliseconds.
    Rslock(u64),
}

pub(crate) enum Client {
    Quorlock(Redlock),
    Rslock(LockManager),
}

pub(crate) enum Lock {
    Quorlock(Box<Guard>),
    Rslock(LockGuard),
}

impl Strategy {
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Fenced, Self::Rslock(2), Self::Rslock(20)];

    pub(crate) fn name(self) -> String {
        match self {
            Self::Plain => "quorlock, plain".to_owned(),
            Self::Fenced => "quorlock, fenced".to_owned(),
            Self::Rslock(delay) => format!("rslock, {delay} ms"),
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name)
    }

    pub(crate) fn is_quorlock(self) -> bool {
        matches!(self, Self::Plain | Self::Fenced)
    }

    pub(crate) async fn connect(self, urls: &[String]) -> Outcome<Client> {
        Ok(match self {
            Self::Plain => Client::Quorlock(Redlock::builder().nodes(urls).mode(quorlock::Mode::Plain).connect().await?),
            Self::Fenced => Client::Quorlock(Redlock::builder().nodes(urls).connect().await?),
            Self::Rslock(delay) => {
                let mut manager = LockManager::from_clients(by_hand::clients(urls)?);
                manager.set_retry(u32::MAX, Duration::from_millis(delay));
                Client::Rslock(manager)
            }
        })
    }
}

impl Client {
    pub(crate) async fn acquire(&self, key: &str) -> Outcome<Lock> {
        Ok(match self {
            Self::Quorlock(client) => Lock::Quorlock(Box::new(client.mutex(key).ttl(TTL).acquire().await?)),
            Self::Rslock(client) => Lock::Rslock(client.acquire(key, TTL).await?),
        })
    }
}

impl Lock {
    pub(crate) async fn release(self) -> Outcome<()> {
        match self {
            Self::Quorlock(guard) => drop(guard.release().await?),
            Self::Rslock(guard) => guard.release().await,
        }
        Ok(())
    }
}

const TTL: Duration = Duration::from_secs(10);
