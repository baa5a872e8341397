//! The public status of the nodes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::host::clock;
use crate::node::{DialStep, Fences};
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::{ExclusionReason, ProbationReason, ReplyFailure};

/// The status of one node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeStatus {
    /// The node's address, without user or password.
    pub address: String,
    /// Whether the node votes.
    pub state: NodeState,
    /// The server's name and version, such as `Redis 7.0.15`; empty until it was reached once.
    pub server: String,
    /// The run id of its process; empty until it was reached once.
    pub run_id: String,
    /// The round trip of a request and its reply in the last handshake.
    pub round_trip: Option<Duration>,
    /// How far its clock was ahead of this client's clock in the last handshake, in microseconds; negative if
    /// behind. Exact to half a round trip.
    pub clock_ahead_micros: Option<i64>,
    /// Whether an append-only file keeps its data through a restart, as text; empty until it was reached
    /// once.
    pub persistence: String,
    /// Problems that endanger locks on it, as text that says what to do.
    pub warnings: Vec<String>,
    /// The cost of the fencing numbers on it; `None` until it was reached once, and in plain mode.
    pub fences: Option<Fences>,
    /// The step in which the last dial failed, if there was no usable reply. `None` while the node is
    /// connected, and if the server itself reported why it does not serve.
    pub failed_step: Option<DialStep>,
    /// Why it casts no vote for a while, although it is up. Always `None` in plain mode.
    pub probation: Option<Probation>,
    /// Whether its connection has broken and the first dial since then has not ended.
    pub(crate) is_returning: bool,
}

/// The time in which a node casts no vote, because it may have lost data or its clock jumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probation {
    /// The end of the probation.
    pub until: DualTimestamp,
    /// The reason.
    pub reason: ProbationReason,
}

impl Probation {
    /// The rest of the probation from now; zero once it is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        Duration::from_nanos(self.until.boot_nanos().saturating_sub(clock::now().boot_nanos()))
    }
}

/// Whether a node votes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeState {
    /// The first dial is running.
    Connecting,
    /// Connected, but too few nodes are, to verify its lock cluster; or, with a failure, it did not report
    /// its marker or did not accept one. It is queried again automatically. Never in plain mode.
    Unverified(Option<ReplyFailure>),
    /// Connected: it votes, unless it is on [probation](NodeStatus::probation).
    Up,
    /// Not connected, for this reason; it is dialed again automatically.
    Down(String),
    /// It cannot serve this client until an operator fixes it.
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

    /// Whether its first dial has ended, in success or failure, and it is known whether it votes.
    pub(crate) fn is_known(&self) -> bool {
        !matches!(self.state, NodeState::Connecting | NodeState::Unverified(None))
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == NodeState::Up
    }
}

/// The status of all nodes, in the order of the client's list.
pub(crate) type NodeStatusList = Arc<[NodeStatus]>;

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.address)?;
        match &self.state {
            NodeState::Connecting => f.write_str("no reply yet"),
            NodeState::Unverified(failure) => failure.as_ref().unwrap_or(&ReplyFailure::Unverified).fmt(f),
            NodeState::Up => match self.probation.filter(|probation| !probation.remaining().is_zero()) {
                Some(probation) => {
                    let seconds = probation.remaining().as_secs_f64();
                    write!(f, "up, and casts no vote for {seconds:.1} s more: {}", probation.reason)
                }
                None => f.write_str("up"),
            },
            NodeState::Down(reason) => f.write_str(reason),
            NodeState::Excluded(exclusion) => exclusion.fmt(f),
        }
    }
}
