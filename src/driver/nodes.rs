//! The nodes as a user may see them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::vote::Bar;

/// What is known of one node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeStatus {
    /// Its address, without user or password.
    pub address: String,
    /// Whether it votes.
    pub state: NodeState,
    /// What it calls itself, such as `Redis 7.0.15`; empty until it was reached once.
    pub server: String,
    /// The identity of its process; empty until it was reached once.
    pub run_id: String,
    /// How long a question and its answer took in the last handshake.
    pub round_trip: Option<Duration>,
    /// How far its clock was ahead of ours in the last handshake, in microseconds; negative if behind. As exact as
    /// half a round trip.
    pub clock_ahead_micros: Option<i64>,
    /// Whether it keeps its data through a restart by an append-only file, in words; empty until it was reached once.
    pub persistence: String,
    /// What endangers locks on it, in words that say what to do.
    pub warnings: Vec<String>,
}

/// Whether a node votes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeState {
    /// The first dial is under way.
    Connecting,
    /// Connected: it votes.
    Up,
    /// Not connected, for this reason; it is dialed again by itself.
    Down(String),
    /// It may not serve us until somebody mends it.
    Barred(Bar),
}

impl NodeStatus {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            state: NodeState::Connecting,
            server: String::new(),
            run_id: String::new(),
            round_trip: None,
            clock_ahead_micros: None,
            persistence: String::new(),
            warnings: Vec::new(),
        }
    }

    /// Whether its first dial has ended, one way or the other.
    pub(crate) fn is_known(&self) -> bool {
        self.state != NodeState::Connecting
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == NodeState::Up
    }
}

/// All nodes, in the order of the client's list.
pub(crate) type View = Arc<[NodeStatus]>;

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.address)?;
        match &self.state {
            NodeState::Connecting => f.write_str("no answer yet"),
            NodeState::Up => f.write_str("up"),
            NodeState::Down(why) => f.write_str(why),
            NodeState::Barred(bar) => bar.fmt(f),
        }
    }
}
