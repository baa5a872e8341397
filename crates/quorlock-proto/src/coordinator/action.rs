//! The coordinator's settings, its actions for the driver, and its events for callers.

use alloc::vec::Vec;
use core::time::Duration;

use crate::attempt::AttemptFailure;
use crate::clock_monitor::ClockAnomaly;
use crate::lease::LossReason;
use crate::membership::{InitResult, NodeWrite, ReconfigurationState, VotingStatus};
use crate::quorum::{NodeId, NodeSet};
use crate::request::{OperationId, Request};
use crate::roster::RosterView;
use crate::time::DualTimestamp;
use crate::vote::Vote;

/// How long a node may take to reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// After this time no operation waits for the node.
    pub reply_timeout: Duration,
    /// After this time its connection is closed and dialed again.
    pub redial_after: Duration,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Write this request to these nodes, after everything written to them before.
    Send {
        /// The request.
        request: Request,
        /// Its nodes.
        nodes: NodeSet,
        /// Whether a script is sent as text, because the node does not know its hash.
        as_text: bool,
    },
    /// Read this node's marker, after a write if there is one.
    ReadMarker {
        /// The node.
        node: NodeId,
        /// The marker to write first.
        write: Option<NodeWrite>,
        /// Whether the script is sent as text.
        as_text: bool,
    },
    /// The node's voting status changed.
    VotingStatus(NodeId, VotingStatus),
    /// The node's clock jumped or drifts.
    ClockAnomaly(NodeId, ClockAnomaly),
    /// Report: the client follows another roster, or its first.
    RosterChanged(RosterView),
    /// Report: a reconfiguration has gone on, or waits for something else.
    Reconfiguring(ReconfigurationState),
    /// Close this node's connection, and dial it again. The coordinator counts it as disconnected already, and
    /// knows the [cause](super::Coordinator::cause_of_disconnection).
    Redial(NodeId),
    /// Send this event to the operation's caller and to the observers.
    Event(OperationId, OperationEvent),
}

/// An event of an operation, for its caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OperationEvent {
    /// An event of an attempt.
    Attempt(AttemptEvent),
    /// An event of a held lock.
    Lease(LeaseEvent),
    /// The release has ended: every node's vote.
    Released(Vec<Vote>),
    /// The survey has ended: every node's vote.
    Surveyed(Vec<Vote>),
    /// The single request has ended: the node's vote.
    Replied(Vote),
    /// The lock cluster was initialized, or could not be.
    Initialized(InitResult),
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttemptEvent {
    /// The attempt acquired the lock. From now on its events are those of a lease.
    Won {
        /// The lock is held until then.
        deadline: DualTimestamp,
        /// The nodes known to have the key.
        confirmed: NodeSet,
        /// Its fencing number; none in plain mode.
        fencing_number: Option<u64>,
        /// The number of rounds that it took.
        rounds: u8,
    },
    /// The attempt failed.
    Failed(AttemptFailure),
}

/// An event of a held lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseEvent {
    /// Other nodes than before are known to have the key.
    Confirmed(NodeSet),
    /// A renewal or an extension starts.
    Renewing,
    /// The lock is held until this deadline.
    Renewed(DualTimestamp),
    /// A renewal or an extension got too few replies; the deadline stays.
    RenewalFailed(Vec<Vote>),
    /// The lock is lost.
    Lost(LossReason),
}
