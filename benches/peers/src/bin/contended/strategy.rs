//! The clients behind one face, each a way to wait.

use std::time::Duration;

use peers::{Outcome, by_hand};
use quorlock::{Guard, Redlock};
use rslock::{LockGuard, LockManager};

/// Who waits, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Plain,
    Fenced,
    /// rslock with a retry delay of so many milliseconds at most.
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

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Fenced, Self::Rslock(2), Self::Rslock(20)];

    pub(crate) fn name(self) -> String {
        match self {
            Self::Plain => "quorlock, plain".to_owned(),
            Self::Fenced => "quorlock, fenced".to_owned(),
            Self::Rslock(delay) => format!("rslock, {delay} ms"),
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Plain | Self::Fenced)
    }

    pub(crate) async fn connect(self, urls: &[String]) -> Outcome<Client> {
        Ok(match self {
            Self::Plain => Client::Quorlock(Redlock::builder().nodes(urls).plain().connect().await?),
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
