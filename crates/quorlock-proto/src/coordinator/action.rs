//! What a board is told once, and what it says.

use std::time::Duration;

use super::OperationId;
use crate::attempt::AttemptFailure;
use crate::clock_monitor::ClockAnomaly;
use crate::lease::LossReason;
use crate::membership::{InitResult, MarkerWrite, VotingStatus};
use crate::quorum::{NodeId, NodeSet};
use crate::request::Request;
use crate::time::DualTimestamp;
use crate::vote::Vote;

/// How long a node may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// After this, nobody waits for the node.
    pub reply_timeout: Duration,
    /// After this, its connection is given up.
    pub redial_after: Duration,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Write this question to these nodes, behind everything written to them before.
    Send {
        /// The question.
        request: Request,
        /// To whom.
        nodes: NodeSet,
        /// Whether scripts are sent as text, because the node does not know their hash.
        as_text: bool,
    },
    /// Ask this node what it remembers of its cluster, after it was told what to remember.
    ReadMarker {
        /// Which node.
        node: NodeId,
        /// What it is told.
        write: Option<MarkerWrite>,
        /// Whether the script is sent as text.
        as_text: bool,
    },
    /// The node stands otherwise than before.
    VotingStatus(NodeId, VotingStatus),
    /// The node's clock is odd.
    ClockAnomaly(NodeId, ClockAnomaly),
    /// Give up this node's connection, and dial it anew.
    Redial(NodeId),
    /// Tell the caller, or whoever listens.
    Event(OperationId, OperationEvent),
}

/// What a machine has to say to its caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OperationEvent {
    /// The attempt won: the lock is held until the deadline, on these nodes.
    Won {
        /// Until when it may be trusted.
        deadline: DualTimestamp,
        /// Where it stands so far.
        confirmed: NodeSet,
        /// Its fencing number; none in plain mode.
        fencing_number: Option<u64>,
        /// In how many rounds.
        rounds: u8,
    },
    /// The attempt failed.
    Failed(AttemptFailure),
    /// More, or other, nodes have the key.
    Confirmed(NodeSet),
    /// A renewal or an extension begins.
    Renewing,
    /// The lock is held until this deadline.
    Renewed(DualTimestamp),
    /// A renewal or an extension got too few answers; the deadline stays.
    RenewalFailed(Vec<Vote>),
    /// The lock is lost.
    Lost(LossReason),
    /// The release is done on these terms: every node's answer.
    Released(Vec<Vote>),
    /// What the nodes answered to a survey.
    Surveyed(Vec<Vote>),
    /// A cluster was declared, or could not be.
    Initialized(InitResult),
}
