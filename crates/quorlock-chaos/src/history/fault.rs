//! Faults, described by their effects. The checker knows only the effects, not the kinds of faults.

use serde::{Deserialize, Serialize};

use crate::faults::Sides;

/// Something that the run broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its number, for [`EventKind::FaultEnded`](super::EventKind::FaultEnded).
    pub id: u64,
    /// What it is called, such as `kill`.
    pub kind: String,
    /// The nodes that it hit.
    #[serde(default)]
    pub nodes: Vec<usize>,
    /// Which of the networks before those nodes it hit; all, if none is named. See [`is_met_by`](Self::is_met_by).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<u32>,
    /// The client processes that it hit.
    #[serde(default)]
    pub processes: Vec<u32>,
    /// What it does to them, until it is healed.
    pub effects: Vec<Effect>,
    /// More of it in words, such as `200 ms more in each direction`.
    #[serde(default)]
    pub detail: String,
}

impl Fault {
    /// Whether it affects that client process when it talks to a node that was hit: every second process is behind the
    /// other network.
    #[must_use]
    pub fn affects(&self, process: u32) -> bool {
        self.side.is_none_or(|side| process % Sides::COUNT as u32 == side)
    }
}

/// What a fault does to each node or process that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The process is gone. A node comes back as another process, and so on probation; a client does not come back.
    Down,
    /// The process stands still (`SIGSTOP`, `CLIENT PAUSE`, a blocked runtime) and continues when the fault ends.
    Paused,
    /// The node is unreachable for some or all clients, in one direction or both.
    Unreachable,
    /// Replies come that much later.
    Slow {
        /// By how much, both directions together.
        ms: u64,
    },
    /// The node rejects writes (memory full, a replica).
    RejectsWrites,
    /// The node loses data, at once: a restart without its data or with old data, a flush, a failover to a replica that
    /// lags, keys deleted or evicted.
    DataLoss {
        /// Locks that still run.
        locks: bool,
        /// Fencing numbers given out.
        fences: bool,
    },
    /// Stale keys take the place of locks' keys there, so the node grants no lock.
    StaleKey,
    /// The node's clock is set by that much; the end of the fault sets it back.
    ClockStep {
        /// Microseconds; negative if back.
        micros: i64,
    },
    /// The node's clock has this constant offset from before the first client. It stays off when the fault ends.
    ClockOffset {
        /// Microseconds; negative if behind.
        micros: i64,
    },
    /// The node's clock runs at another speed.
    ClockRate {
        /// By how much, in millionths; negative if slower.
        ppm: i64,
    },
}
