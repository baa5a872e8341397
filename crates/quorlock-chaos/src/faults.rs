//! The kinds of faults, by name.

mod injection;
mod nodes;
mod reconfiguration;
mod stale;

use std::collections::BTreeSet;
use std::fmt;

pub(crate) use injection::{Injection, Interruption, PlannedFault, Sides};
pub(crate) use nodes::{InjectionError, Nodes, Prepared};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FaultKind {
    /// SIGKILL, and a restart with all data.
    Kill,
    /// SIGKILL, and a restart without data.
    DataLoss,
    /// SIGKILL, and a restart with an old copy of the data.
    StaleData,
    /// SIGSTOP and SIGCONT.
    Pause,
    /// `CLIENT PAUSE`.
    ClientPause,
    /// `FLUSHALL`.
    Flush,
    /// `SCRIPT FLUSH`.
    ScriptFlush,
    /// A replica that lags replaces the node.
    Failover,
    /// The node's address moves to a blank server, and connections to the earlier server live on.
    AddressMove,
    /// A node is exchanged for another server, and then that server for the node, by reconfigurations.
    Reconfiguration,
    /// The memory is full.
    MemoryFull,
    /// Traffic is delayed, with jitter.
    Latency,
    /// Nothing arrives, in either direction.
    Partition,
    /// Nothing arrives, in one direction.
    AsymmetricPartition,
    /// Connections are reset.
    Reset,
    /// Clients keep connections that the server has closed.
    HalfOpen,
    /// The network reads nothing from clients.
    NoRead,
    /// Connections end in the middle of a reply.
    Truncate,
    /// Stale keys have the names of locks' keys, on a minority of the servers.
    StaleKey,
    /// A server's clock runs 10 % too fast or too slow.
    ClockSkew,
    /// A server's clock is set ahead or back.
    ClockJump,
    /// The clocks of all servers but one are behind, from the start.
    ClockOffset,
    /// SIGSTOP of a client that holds a lock, until the lock has expired.
    ClientStop,
    /// SIGKILL of a client that holds a lock or waits for one; a new client replaces it.
    ClientKill,
    /// Futures are dropped at any point.
    Cancel,
    /// A client's runtime is blocked for seconds.
    BlockRuntime,
}

/// An unknown name of a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no fault called {name:?}; there are all, {}", names())]
pub struct UnknownFault {
    /// The given name.
    pub name: String,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 26] = [
        Self::Kill,
        Self::DataLoss,
        Self::StaleData,
        Self::Pause,
        Self::ClientPause,
        Self::Flush,
        Self::ScriptFlush,
        Self::Failover,
        Self::AddressMove,
        Self::Reconfiguration,
        Self::MemoryFull,
        Self::Latency,
        Self::Partition,
        Self::AsymmetricPartition,
        Self::Reset,
        Self::HalfOpen,
        Self::NoRead,
        Self::Truncate,
        Self::StaleKey,
        Self::ClockSkew,
        Self::ClockJump,
        Self::ClockOffset,
        Self::ClientStop,
        Self::ClientKill,
        Self::Cancel,
        Self::BlockRuntime,
    ];

    /// The kinds named in a list such as `kill,pause`. The name `all` stands for all kinds.
    ///
    /// # Errors
    ///
    /// [`UnknownFault`] for an unknown name, with the list of known names.
    pub fn list(names: &str) -> Result<BTreeSet<Self>, UnknownFault> {
        let mut kinds = BTreeSet::new();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "all" {
                kinds.extend(Self::ALL);
                continue;
            }
            let kind = Self::ALL.into_iter().find(|kind| kind.name() == name);
            kinds.insert(kind.ok_or_else(|| UnknownFault { name: name.to_owned() })?);
        }
        Ok(kinds)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name_and_explanation().0
    }

    /// What it does, in a line.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        self.name_and_explanation().1
    }

    const fn name_and_explanation(self) -> (&'static str, &'static str) {
        match self {
            Self::Kill => ("kill", "a server is killed (SIGKILL) and comes back with its data"),
            Self::DataLoss => ("data-loss", "a server is killed and comes back without data"),
            Self::StaleData => {
                ("stale-data", "a server is killed and comes back with an old copy of its data")
            }
            Self::Pause => ("pause", "a server is paused (SIGSTOP, SIGCONT)"),
            Self::ClientPause => {
                ("client-pause", "a server delays all commands, or all writes (CLIENT PAUSE)")
            }
            Self::Flush => ("flush", "a server's data is deleted (FLUSHALL)"),
            Self::ScriptFlush => ("script-flush", "a server loses its scripts (SCRIPT FLUSH)"),
            Self::Failover => ("failover", "a replica that lags replaces a server"),
            Self::AddressMove => {
                ("address-move", "a server's address moves to a blank server, and old connections live on")
            }
            Self::Reconfiguration => (
                "reconfiguration",
                "a node is exchanged for another server and back, under load, also with interruptions",
            ),
            Self::MemoryFull => ("memory-full", "a server's memory is full, under each eviction policy"),
            Self::Latency => ("latency", "all traffic is delayed, with jitter"),
            Self::Partition => ("partition", "nothing arrives, in either direction"),
            Self::AsymmetricPartition => ("asymmetric-partition", "nothing arrives, in one direction"),
            Self::Reset => ("reset", "connections are reset"),
            Self::HalfOpen => ("half-open", "clients keep connections that the server has closed"),
            Self::NoRead => {
                ("no-read", "the network reads nothing from clients, until they can send no more")
            }
            Self::Truncate => ("truncate", "connections end in the middle of a reply"),
            Self::StaleKey => {
                ("stale-key", "stale keys have the names of locks' keys, on a minority of the servers")
            }
            Self::ClockSkew => ("clock-skew", "a server's clock runs 10 % too fast or too slow"),
            Self::ClockJump => ("clock-jump", "a server's clock is set ahead or back, and corrected later"),
            Self::ClockOffset => {
                ("clock-offset", "the clocks of all servers but one are behind, from the start")
            }
            Self::ClientStop => ("client-stop", "a client that holds a lock is stopped past its ttl"),
            Self::ClientKill => ("client-kill", "a client that holds a lock, or waits for one, is killed"),
            Self::Cancel => {
                ("cancel", "clients drop the futures that acquire, extend and release, at any point")
            }
            Self::BlockRuntime => ("block-runtime", "a client's runtime is blocked for seconds"),
        }
    }

    /// The shortest run that includes this fault for certain.
    #[must_use]
    pub const fn least_seconds(self) -> u64 {
        match self {
            // Stale keys stay for up to 5 s, so that waiting clients are observed.
            Self::StaleKey => 11,
            // Two exchanges, each with a probation.
            Self::Reconfiguration => 17,
            _ => 5,
        }
    }

    /// The message that a run is too short for it.
    #[must_use]
    pub fn needs_time(self) -> String {
        let reason = match self {
            Self::StaleKey => {
                ": the keys stay for up to 5 s, so that clients are observed waiting, and then recovery follows"
            }
            Self::Reconfiguration => {
                ": there are two exchanges with a probation each, and then recovery follows"
            }
            _ => "",
        };
        format!("needs at least --duration {}s{reason}", self.least_seconds())
    }

    /// Whether it needs servers with a [`Clock`](crate::Clock) that can be set.
    #[must_use]
    pub const fn needs_virtual_clock(self) -> bool {
        matches!(self, Self::ClockSkew | Self::ClockJump | Self::ClockOffset)
    }

    /// Whether it lasts from before the first client to the end of the run.
    #[must_use]
    pub const fn is_of_whole_run(self) -> bool {
        matches!(self, Self::ClockOffset)
    }

    /// Whether its nodes keep their data, their process, their clock and their address.
    #[must_use]
    pub const fn keeps_data_and_address(self) -> bool {
        matches!(
            self,
            Self::Pause
                | Self::ClientPause
                | Self::ScriptFlush
                | Self::StaleKey
                | Self::Latency
                | Self::Partition
                | Self::AsymmetricPartition
                | Self::Reset
                | Self::HalfOpen
                | Self::NoRead
                | Self::Truncate
        )
    }

    /// Whether it affects clients, and not nodes.
    #[must_use]
    pub const fn is_of_clients(self) -> bool {
        matches!(self, Self::ClientStop | Self::ClientKill | Self::Cancel | Self::BlockRuntime)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn names() -> String {
    FaultKind::ALL.map(FaultKind::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_in_a_list_is_an_error_that_lists_the_known_names() {
        assert_eq!(FaultKind::list("kill, pause"), Ok(BTreeSet::from([FaultKind::Kill, FaultKind::Pause])));
        assert_eq!(FaultKind::list("kill,all").expect("names").len(), FaultKind::ALL.len());
        let message = FaultKind::list("kill,earthquake").expect_err("not yet").to_string();
        for part in ["\"earthquake\"", "all", "kill", "half-open", "client-stop"] {
            assert!(message.contains(part), "{part} is missing from: {message}");
        }
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = FaultKind::ALL.map(FaultKind::name).into();
        assert_eq!(names.len(), FaultKind::ALL.len());
    }
}
