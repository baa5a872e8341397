//! Faults, described by their effects. The checker knows only the effects, not the kinds of faults.

use serde::{Deserialize, Serialize};

use crate::faults::Sides;

/// A fault that the run injected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its number, as in [`EventKind::FaultEnded`](super::EventKind::FaultEnded).
    pub id: u64,
    /// The name of its kind, such as `kill`.
    pub kind: String,
    /// The nodes that it hits.
    #[serde(default)]
    pub nodes: Vec<usize>,
    /// The side of those nodes' network that it hits; both if `None`. See [`affects`](Self::affects).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<u32>,
    /// The client processes that it hits.
    #[serde(default)]
    pub processes: Vec<u32>,
    /// Its effects on each of them, until it ends.
    pub effects: Vec<Effect>,
    /// Details for people, such as `200 ms more in each direction`.
    #[serde(default)]
    pub detail: String,
}

impl Fault {
    /// Whether it affects this client process when it talks to a node that was hit. Even and odd processes
    /// use different sides of the network.
    #[must_use]
    pub fn affects(&self, process: u32) -> bool {
        self.side.is_none_or(|side| process % Sides::COUNT as u32 == side)
    }
}

/// What a fault does to each node or process that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The process is dead. A node restarts as a new process, and so on probation; a client does not restart.
    Down,
    /// The process is paused (`SIGSTOP`, `CLIENT PAUSE`, a blocked runtime) and continues when the fault
    /// ends.
    Paused,
    /// The node is unreachable for some or all clients, in one direction or both.
    Unreachable,
    /// Replies are delayed.
    Slow {
        /// The delay of both directions together.
        ms: u64,
    },
    /// The node rejects writes (memory full, a replica).
    RejectsWrites,
    /// The node loses data, at once: a restart without its data or with old data, a flush, a failover to a
    /// replica that lags, keys deleted or evicted.
    DataLoss {
        /// Whether keys of held locks are lost.
        locks: bool,
        /// Whether fences are lost.
        fences: bool,
    },
    /// The node's address moves to a server without data. The connections that exist then stay with the earlier
    /// server, which has the data, until the fault ends.
    AddressMoved,
    /// The node has no seat in the roster for a while, because another server has it. At the end it is a new member.
    LeavesRoster,
    /// Stale keys have the names of locks' keys, so the node grants no lock.
    StaleKey,
    /// The node's clock is set; the end of the fault sets it back.
    ClockStep {
        /// Microseconds ahead; negative if back.
        micros: i64,
    },
    /// The node's clock has this constant offset from before the first client. The offset stays when the
    /// fault ends.
    ClockOffset {
        /// Microseconds ahead; negative if behind.
        micros: i64,
    },
    /// The node's clock runs too fast or too slow.
    ClockRate {
        /// The rate error in parts per million; negative if slow.
        ppm: i64,
    },
}
