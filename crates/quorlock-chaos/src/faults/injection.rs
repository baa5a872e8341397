//! Planned faults: what is injected, when, and on which nodes or client.

use std::fmt;
use std::time::Duration;

use super::FaultKind;
use crate::history::Effect;

/// A planned fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedFault {
    /// Since the start of the run.
    pub(crate) at: Duration,
    pub(crate) duration: Duration,
    /// The nodes, all at once; none for a fault of a client.
    pub(crate) nodes: Vec<usize>,
    pub(crate) injection: Injection,
}

/// What is injected, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Injection {
    Kill,
    DataLoss,
    /// The age of the copy.
    StaleData {
        lag: Duration,
    },
    Pause,
    ClientPause {
        writes_only: bool,
    },
    Flush,
    ScriptFlush,
    /// The replica has received nothing for this long.
    Failover {
        lag: Duration,
    },
    AddressMove {
        /// The side whose connections are reset, so that its clients reach the blank server at once; the
        /// connections of the other side live on until the fault ends.
        reset_side: usize,
    },
    Reconfiguration {
        interruption: Option<Interruption>,
    },
    MemoryFull {
        policy: &'static str,
    },
    Latency {
        sides: Sides,
        delay: Duration,
        jitter: Duration,
    },
    Partition {
        sides: Sides,
    },
    AsymmetricPartition {
        sides: Sides,
        /// Whether replies are blocked, and not requests.
        blocks_replies: bool,
    },
    Reset {
        sides: Sides,
    },
    HalfOpen {
        sides: Sides,
    },
    NoRead {
        sides: Sides,
    },
    Truncate {
        sides: Sides,
    },
    /// Set under the names of free locks, with this ttl or without one.
    StaleKey {
        ttl: Option<Duration>,
    },
    ClockSkew {
        ppm: i64,
    },
    ClockJump {
        micros: i64,
    },
    ClockOffset {
        micros: i64,
    },
    /// `draw` selects one of the eligible clients.
    ClientStop {
        draw: u64,
    },
    ClientKill {
        draw: u64,
        is_holder: bool,
    },
    BlockRuntime {
        draw: u64,
    },
}

/// When one of the two reconfigurations is interrupted. It is run again at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interruption {
    pub(crate) after: Duration,
    /// Whether it is the second of the two, which gives the node its seat back.
    pub(crate) is_return: bool,
}

/// The sides of the network that are affected. Even and odd client processes use different sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sides {
    One(usize),
    Both,
}

impl Sides {
    pub(crate) const COUNT: usize = 2;

    pub(crate) fn indexes(self) -> std::ops::Range<usize> {
        match self {
            Self::One(side) => side..side + 1,
            Self::Both => 0..Self::COUNT,
        }
    }
}

impl Injection {
    pub(crate) const fn kind(self) -> FaultKind {
        match self {
            Self::Kill => FaultKind::Kill,
            Self::DataLoss => FaultKind::DataLoss,
            Self::StaleData { .. } => FaultKind::StaleData,
            Self::Pause => FaultKind::Pause,
            Self::ClientPause { .. } => FaultKind::ClientPause,
            Self::Flush => FaultKind::Flush,
            Self::ScriptFlush => FaultKind::ScriptFlush,
            Self::Failover { .. } => FaultKind::Failover,
            Self::AddressMove { .. } => FaultKind::AddressMove,
            Self::Reconfiguration { .. } => FaultKind::Reconfiguration,
            Self::MemoryFull { .. } => FaultKind::MemoryFull,
            Self::Latency { .. } => FaultKind::Latency,
            Self::Partition { .. } => FaultKind::Partition,
            Self::AsymmetricPartition { .. } => FaultKind::AsymmetricPartition,
            Self::Reset { .. } => FaultKind::Reset,
            Self::HalfOpen { .. } => FaultKind::HalfOpen,
            Self::NoRead { .. } => FaultKind::NoRead,
            Self::Truncate { .. } => FaultKind::Truncate,
            Self::StaleKey { .. } => FaultKind::StaleKey,
            Self::ClockSkew { .. } => FaultKind::ClockSkew,
            Self::ClockJump { .. } => FaultKind::ClockJump,
            Self::ClockOffset { .. } => FaultKind::ClockOffset,
            Self::ClientStop { .. } => FaultKind::ClientStop,
            Self::ClientKill { .. } => FaultKind::ClientKill,
            Self::BlockRuntime { .. } => FaultKind::BlockRuntime,
        }
    }

    /// The side of the network that it hits, if it hits only one.
    pub(crate) const fn side(self) -> Option<u32> {
        match self {
            Self::Latency { sides, .. }
            | Self::Partition { sides }
            | Self::AsymmetricPartition { sides, .. }
            | Self::Reset { sides }
            | Self::HalfOpen { sides }
            | Self::NoRead { sides }
            | Self::Truncate { sides } => match sides {
                Sides::One(side) => Some(side as u32),
                Sides::Both => None,
            },
            _ => None,
        }
    }

    /// Its effects, as the checker needs them.
    pub(crate) fn effects(self) -> Vec<Effect> {
        let data_loss = Effect::DataLoss { locks: true, fences: true };
        match self {
            Self::Kill | Self::ClientKill { .. } => vec![Effect::Down],
            Self::DataLoss | Self::StaleData { .. } => vec![Effect::Down, data_loss],
            Self::Pause | Self::ClientPause { .. } | Self::ClientStop { .. } | Self::BlockRuntime { .. } => {
                vec![Effect::Paused]
            }
            Self::Flush => vec![data_loss],
            Self::ScriptFlush => Vec::new(),
            Self::MemoryFull { policy: NO_EVICTION } => vec![Effect::RejectsWrites],
            Self::Failover { .. } | Self::MemoryFull { .. } => vec![Effect::RejectsWrites, data_loss],
            Self::Reconfiguration { .. } => vec![Effect::LeavesRoster],
            Self::AddressMove { .. } => vec![Effect::AddressMoved],
            Self::Latency { delay, jitter, .. } => {
                vec![Effect::Slow { ms: 2 * (delay + jitter).as_millis() as u64 }]
            }
            Self::Partition { .. }
            | Self::AsymmetricPartition { .. }
            | Self::Reset { .. }
            | Self::HalfOpen { .. }
            | Self::NoRead { .. }
            | Self::Truncate { .. } => vec![Effect::Unreachable],
            Self::StaleKey { .. } => vec![Effect::StaleKey],
            Self::ClockSkew { ppm } => vec![Effect::ClockRate { ppm }],
            Self::ClockJump { micros } => vec![Effect::ClockStep { micros }],
            Self::ClockOffset { micros } => vec![Effect::ClockOffset { micros }],
        }
    }
}

/// Details for people; often empty.
impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaleData { lag } => write!(f, "data from {} ms before", lag.as_millis()),
            Self::ClientPause { writes_only: true } => f.write_str("writes only"),
            Self::Failover { lag } => write!(f, "to a replica {} ms behind", lag.as_millis()),
            Self::AddressMove { reset_side } => {
                write!(f, "connections of every second client ({}) live on", SIDE_NAMES[1 - reset_side])
            }
            Self::Reconfiguration { interruption: Some(Interruption { after, is_return }) } => {
                let which = if *is_return { "second" } else { "first" };
                write!(f, "the {which} of two is interrupted after {} ms, and run again", after.as_millis())
            }
            Self::MemoryFull { policy } => f.write_str(policy),
            Self::Latency { sides, delay, jitter } => {
                let (delay, jitter) = (delay.as_millis(), jitter.as_millis());
                write!(f, "{delay} to {} ms more in each direction{sides}", delay + jitter)
            }
            Self::AsymmetricPartition { sides, blocks_replies: true } => {
                write!(f, "replies do not arrive{sides}")
            }
            Self::AsymmetricPartition { sides, blocks_replies: false } => {
                write!(f, "commands do not arrive{sides}")
            }
            Self::Partition { sides }
            | Self::Reset { sides }
            | Self::HalfOpen { sides }
            | Self::NoRead { sides }
            | Self::Truncate { sides } => write!(f, "{}", sides.to_string().trim_start_matches(", ")),
            Self::StaleKey { ttl: Some(ttl) } => write!(f, "for {} ms", ttl.as_millis()),
            Self::StaleKey { ttl: None } => f.write_str("without a ttl"),
            Self::ClockSkew { ppm } => write!(f, "{:+} %", ppm / 10_000),
            Self::ClockJump { micros } | Self::ClockOffset { micros } => write!(f, "{:+} ms", micros / 1_000),
            Self::ClientKill { is_holder: true, .. } => f.write_str("a holder"),
            Self::ClientKill { is_holder: false, .. } => f.write_str("a waiter"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(side) => write!(f, ", for every second client ({})", SIDE_NAMES[*side]),
            Self::Both => Ok(()),
        }
    }
}

const SIDE_NAMES: [&str; Sides::COUNT] = ["even", "odd"];
/// The policy with which writes fail when memory is full; no data is lost.
pub(crate) const NO_EVICTION: &str = "noeviction";
