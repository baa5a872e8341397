//! Injects faults into the nodes of a run: real servers, each behind a proxy.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use super::injection::NO_EVICTION;
use super::reconfiguration::exchange;
use super::{Injection, Sides, stale};
use crate::redis::RedisError;
use crate::{Data, DirectionRule, Fleet, LinkRules, Proxy, Server, Setup, StartError};

/// The servers, their networks, one spare server that becomes a replica, and blank servers to which addresses
/// move.
pub(crate) struct Nodes {
    all: Vec<Node>,
    spare: Mutex<Server>,
    blank: Mutex<Vec<Server>>,
    setup: Setup,
    /// The names of the locks' keys.
    keys: Vec<String>,
}

struct Node {
    server: Mutex<Server>,
    /// The URL of the server, which bypasses the proxy.
    direct_url: watch::Sender<String>,
    /// Locked during a fault of the server process.
    fault: Mutex<()>,
    proxy: Proxy,
}

/// Why a fault could not be injected or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InjectionError {
    #[error("a server did not start: {0}")]
    Start(#[from] StartError),
    #[error("a server command failed: {0}")]
    Redis(#[from] RedisError),
    #[error("a system call failed: {0}")]
    System(#[from] io::Error),
    #[error("a node was not exchanged: {0}")]
    Reconfiguration(String),
    #[error("the clock of this server cannot be set")]
    NoClock,
}

impl Nodes {
    pub(crate) fn start(count: usize, setup: &Setup, keys: Vec<String>) -> Result<Self, InjectionError> {
        let mut servers = Fleet::start_with(count + 1, setup)?.into_servers();
        let spare = Mutex::new(servers.pop().expect("count + 1 servers were started"));
        let node = |server: Server| {
            let proxy = Proxy::in_front_of(&server, Sides::COUNT + 1)?;
            let (direct_url, _) = watch::channel(server.url());
            Ok(Node { server: Mutex::new(server), direct_url, fault: Mutex::new(()), proxy })
        };
        let all = servers.into_iter().map(node).collect::<io::Result<_>>()?;
        Ok(Self { all, spare, blank: Mutex::default(), setup: setup.clone(), keys })
    }

    /// The URLs for clients of this side.
    pub(crate) fn urls(&self, side: usize) -> Vec<String> {
        self.all.iter().map(|node| node.proxy.url(side)).collect()
    }

    /// The URLs at which faults of the network do not take place.
    fn unbroken_urls(&self) -> Vec<String> {
        self.urls(UNBROKEN_SIDE)
    }

    /// The names of the nodes, the same for all clients: the unbroken addresses, which a reconfiguration uses.
    pub(crate) fn names(&self) -> Vec<String> {
        let urls = self.unbroken_urls().into_iter();
        urls.map(|url| url.trim_start_matches("redis://").to_owned()).collect()
    }

    /// The URLs that bypass the proxies. They change when an address moves.
    pub(crate) fn direct_urls(&self) -> Vec<watch::Receiver<String>> {
        self.all.iter().map(|node| node.direct_url.subscribe()).collect()
    }

    /// Starts blank servers, so that this many addresses can move at once without a wait.
    pub(crate) fn start_blank(&self, count: usize) -> Result<(), InjectionError> {
        let servers = Fleet::start_with(count, &self.setup)?.into_servers();
        self.blank().extend(servers);
        Ok(())
    }

    fn blank(&self) -> MutexGuard<'_, Vec<Server>> {
        self.blank.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Calls a closure with a node's server, bypassing the proxy.
    pub(crate) fn with_server<T>(&self, node: usize, action: impl FnOnce(&Server) -> T) -> T {
        action(&lock(&self.all[node].server))
    }

    /// Waits until no other fault affects the server process. Restarts and replicas may take longer than
    /// planned. Faults of networks and clocks do not wait.
    pub(crate) fn reserve(&self, node: usize, injection: Injection) -> Option<MutexGuard<'_, ()>> {
        let is_of_server = matches!(
            injection,
            Injection::Kill
                | Injection::DataLoss
                | Injection::StaleData { .. }
                | Injection::Pause
                | Injection::ClientPause { .. }
                | Injection::Flush
                | Injection::ScriptFlush
                | Injection::Failover { .. }
                | Injection::AddressMove { .. }
                | Injection::Reconfiguration { .. }
                | Injection::MemoryFull { .. }
                | Injection::StaleKey { .. }
        );
        is_of_server.then(|| self.all[node].fault.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Prepares a fault before it begins.
    pub(crate) fn prepare(&self, node: usize, injection: Injection) -> Result<Prepared<'_>, InjectionError> {
        let server = lock(&self.all[node].server);
        match injection {
            Injection::StaleData { lag } => {
                let snapshot = server.snapshot()?;
                thread::sleep(lag);
                Ok(Prepared::Data(Data::Old(snapshot)))
            }
            Injection::Failover { lag } => {
                let spare = lock(&self.spare);
                spare.demote(&server)?;
                spare.promote()?;
                thread::sleep(lag);
                Ok(Prepared::Spare(spare))
            }
            Injection::AddressMove { .. } | Injection::Reconfiguration { .. } => {
                let blank = self.blank().pop();
                let blank = blank.map_or_else(|| Server::start(&self.setup), Ok)?;
                // It has the clock of the node, because the checker has one clock for each node.
                if let (Some(clock), Some(earlier)) = (blank.clock(), server.clock()) {
                    clock.follow(earlier)?;
                }
                Ok(Prepared::Blank(Box::new(blank)))
            }
            Injection::DataLoss => Ok(Prepared::Data(Data::Empty)),
            _ => Ok(Prepared::Data(Data::Kept)),
        }
    }

    /// Injects the fault, and returns when the fault is applied. Its effect lasts until [`end`](Self::end).
    pub(crate) fn begin(
        &self,
        node: usize,
        injection: Injection,
        duration: Duration,
        prepared: &mut Prepared<'_>,
    ) -> Result<(), InjectionError> {
        let Node { server, proxy, direct_url, .. } = &self.all[node];
        let set = |sides: Sides, rules| sides.indexes().for_each(|side| proxy.set(side, rules));
        match injection {
            Injection::Kill | Injection::DataLoss | Injection::StaleData { .. } => lock(server).kill(),
            Injection::Pause => lock(server).pause(),
            Injection::ClientPause { writes_only } => {
                let millis = duration.as_millis().to_string();
                let mode = if writes_only { "WRITE" } else { "ALL" };
                lock(server).command::<()>(&["CLIENT", "PAUSE", &millis, mode])?;
            }
            Injection::Flush => lock(server).wipe()?,
            Injection::ScriptFlush => lock(server).command::<()>(&["SCRIPT", "FLUSH"])?,
            Injection::Failover { .. } => {
                if let Prepared::Spare(spare) = prepared {
                    lock(server).demote(spare)?;
                }
            }
            Injection::AddressMove { reset_side } => {
                if let Prepared::Blank(other) = prepared {
                    let mut server = lock(server);
                    proxy.move_new_connections_to(other);
                    proxy.reset(reset_side);
                    std::mem::swap(&mut *server, &mut **other);
                    direct_url.send_replace(server.url());
                }
            }
            Injection::Reconfiguration { interruption } => {
                if let Prepared::Blank(other) = prepared {
                    let (before, after) = self.lists(node, other);
                    let interrupted_after = interruption.filter(|it| !it.is_return).map(|it| it.after);
                    exchange(&before, &after, interrupted_after).map_err(InjectionError::Reconfiguration)?;
                }
            }
            Injection::MemoryFull { policy } => limit_memory(&lock(server), proxy, policy, "1")?,
            Injection::Latency { sides, delay, jitter } => set(sides, LinkRules::delayed(delay, jitter)),
            Injection::Partition { sides } => set(sides, LinkRules::PARTITIONED),
            Injection::AsymmetricPartition { sides, blocks_replies: false } => {
                set(sides, LinkRules { to_server: DirectionRule::HoldBack, ..LinkRules::OPEN });
            }
            Injection::AsymmetricPartition { sides, blocks_replies: true } => {
                set(sides, LinkRules { to_client: DirectionRule::HoldBack, ..LinkRules::OPEN });
            }
            Injection::NoRead { sides } => {
                set(sides, LinkRules { to_server: DirectionRule::NoRead, ..LinkRules::OPEN });
            }
            Injection::Reset { sides } => sides.indexes().for_each(|side| proxy.reset(side)),
            Injection::HalfOpen { sides } => sides.indexes().for_each(|side| proxy.half_open(side)),
            Injection::Truncate { sides } => sides.indexes().for_each(|side| proxy.truncate(side)),
            Injection::StaleKey { ttl } => stale::set(&lock(server), &self.keys, ttl)?,
            Injection::ClockSkew { ppm } => {
                lock(server).clock().ok_or(InjectionError::NoClock)?.set_rate(ppm)?;
            }
            Injection::ClockJump { micros } | Injection::ClockOffset { micros } => {
                lock(server).clock().ok_or(InjectionError::NoClock)?.step(micros)?;
            }
            Injection::ClientStop { .. } | Injection::ClientKill { .. } | Injection::BlockRuntime { .. } => {}
        }
        Ok(())
    }

    /// Ends the fault.
    pub(crate) fn end(
        &self,
        node: usize,
        injection: Injection,
        prepared: Prepared<'_>,
    ) -> Result<(), InjectionError> {
        let Node { server, proxy, .. } = &self.all[node];
        match injection {
            Injection::Kill | Injection::DataLoss | Injection::StaleData { .. } => {
                if let Prepared::Data(data) = prepared {
                    lock(server).restart(data)?;
                }
            }
            Injection::Pause => lock(server).resume(),
            // The pause ends by itself; PING returns when it has ended.
            Injection::ClientPause { .. } => lock(server).command::<()>(&["PING"])?,
            Injection::Failover { .. } => lock(server).promote()?,
            Injection::Reconfiguration { interruption } => {
                if let Prepared::Blank(mut other) = prepared {
                    let (before, after) = self.lists(node, &other);
                    let interrupted_after = interruption.filter(|it| it.is_return).map(|it| it.after);
                    exchange(&after, &before, interrupted_after).map_err(InjectionError::Reconfiguration)?;
                    other.restart(Data::Empty)?;
                    self.blank().push(*other);
                }
            }
            Injection::AddressMove { .. } => {
                if let Prepared::Blank(mut earlier) = prepared {
                    // Its connections end. A later move may use the server.
                    earlier.restart(Data::Empty)?;
                    self.blank().push(*earlier);
                }
            }
            Injection::MemoryFull { .. } => limit_memory(&lock(server), proxy, NO_EVICTION, "0")?,
            Injection::Latency { sides, .. }
            | Injection::Partition { sides }
            | Injection::AsymmetricPartition { sides, .. }
            | Injection::NoRead { sides } => {
                sides.indexes().for_each(|side| proxy.set(side, LinkRules::OPEN));
            }
            Injection::HalfOpen { sides } => sides.indexes().for_each(|side| proxy.reset(side)),
            Injection::StaleKey { .. } => stale::remove(&lock(server), &self.keys)?,
            Injection::ClockSkew { .. } => {
                lock(server).clock().ok_or(InjectionError::NoClock)?.set_rate(0)?;
            }
            Injection::ClockJump { micros } => {
                lock(server).clock().ok_or(InjectionError::NoClock)?.step(-micros)?;
            }
            // These end at once, last to the end of the run, or affect clients.
            Injection::Flush
            | Injection::ScriptFlush
            | Injection::Reset { .. }
            | Injection::Truncate { .. }
            | Injection::ClockOffset { .. }
            | Injection::ClientStop { .. }
            | Injection::ClientKill { .. }
            | Injection::BlockRuntime { .. } => {}
        }
        Ok(())
    }
}

impl Nodes {
    /// The URLs of all nodes, and the same with another server instead of this node.
    fn lists(&self, node: usize, other: &Server) -> (Vec<String>, Vec<String>) {
        let before = self.unbroken_urls();
        let mut after = before.clone();
        after[node] = other.url();
        (before, after)
    }
}

/// What a fault needs, prepared before it begins.
pub(crate) enum Prepared<'a> {
    Data(Data),
    Spare(MutexGuard<'a, Server>),
    /// The server to which an address moves; after the move, the one from which it moved. Or the server that has
    /// the seat of a node during a reconfiguration.
    Blank(Box<Server>),
}

/// Limits the server's memory while no client is connected, so that each later client checks the new limit.
/// Changing the eviction policy under running clients breaks the lock cluster's configuration; no lock can
/// survive that.
fn limit_memory(server: &Server, proxy: &Proxy, policy: &str, bytes: &str) -> Result<(), InjectionError> {
    (0..proxy.sides()).for_each(|side| proxy.set(side, LinkRules::PARTITIONED));
    let set = |option, value| server.command::<()>(&["CONFIG", "SET", option, value]);
    let outcome = set("maxmemory-policy", policy).and_then(|()| set("maxmemory", bytes));
    for side in 0..proxy.sides() {
        proxy.reset(side);
        proxy.set(side, LinkRules::OPEN);
    }
    Ok(outcome?)
}

/// Locks the server. A panic that poisoned the mutex was reported; the server itself is unchanged.
fn lock(server: &Mutex<Server>) -> MutexGuard<'_, Server> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The side of each proxy that no fault of the network hits.
const UNBROKEN_SIDE: usize = Sides::COUNT;
