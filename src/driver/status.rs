//! The nodes as a user may see them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::host::clock;
use crate::node::{DialStep, Fences};
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::{ExclusionReason, ProbationReason, ReplyFailure};

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
    /// What the fencing numbers on it cost; nothing until it was reached once, and in plain mode.
    pub fences: Option<Fences>,
    /// In which step the last dial failed, where nothing of use came back: `None` while the node is connected, and where
    /// the server said itself why it does not serve.
    pub failed_step: Option<DialStep>,
    /// Why it casts no vote for a while, although it is up. Never in plain mode.
    pub probation: Option<Probation>,
    /// Whether its connection has broken, and the first dial since has not ended.
    pub(crate) is_returning: bool,
}

/// The time in which a node casts no vote, because it may have forgotten locks, or because its clock jumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probation {
    /// Until when.
    pub until: DualTimestamp,
    /// Why.
    pub reason: ProbationReason,
}

impl Probation {
    /// How long it lasts from now; zero once it is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        Duration::from_nanos(self.until.boot_nanos().saturating_sub(clock::now().boot_nanos()))
    }
}

/// Whether a node votes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeState {
    /// The first dial is under way.
    Connecting,
    /// Connected, and too few nodes are, to tell which cluster it votes in; or, with a fault, it did not tell what it
    /// remembers, or would not be told. It is asked again by itself. Never in plain mode.
    Unverified(Option<ReplyFailure>),
    /// Connected: it votes, unless it is on [probation](NodeStatus::probation).
    Up,
    /// Not connected, for this reason; it is dialed again by itself.
    Down(String),
    /// It may not serve us until somebody mends it.
    Excluded(ExclusionReason),
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
            fences: None,
            failed_step: None,
            probation: None,
            is_returning: false,
        }
    }

    /// Whether it votes right now, as far as is known.
    #[must_use]
    pub fn is_voting(&self) -> bool {
        self.is_up() && self.probation.is_none_or(|probation| probation.remaining().is_zero())
    }

    /// Whether its first dial has ended, one way or the other, and it is known whether it votes.
    pub(crate) fn is_known(&self) -> bool {
        !matches!(self.state, NodeState::Connecting | NodeState::Unverified(None))
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == NodeState::Up
    }
}

/// All nodes, in the order of the client's list.
pub(crate) type NodeStatusList = Arc<[NodeStatus]>;

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.address)?;
        match &self.state {
            NodeState::Connecting => f.write_str("no answer yet"),
            NodeState::Unverified(fault) => fault.as_ref().unwrap_or(&ReplyFailure::Unverified).fmt(f),
            NodeState::Up => match self.probation.filter(|probation| !probation.remaining().is_zero()) {
                Some(probation) => {
                    let seconds = probation.remaining().as_secs_f64();
                    write!(f, "up, and casts no vote for {seconds:.1} s more: {}", probation.reason)
                }
                None => f.write_str("up"),
            },
            NodeState::Down(why) => f.write_str(why),
            NodeState::Excluded(exclusion) => exclusion.fmt(f),
        }
    }
}
