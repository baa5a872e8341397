//! What a lease is told once, and what it says.

use std::time::Duration;

use crate::quorum::NodeSet;
use crate::request::RequestKind;
use crate::time::DualTimestamp;
use crate::vote::Vote;

/// For how long a lock is to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RenewalPolicy {
    /// Whether it renews itself.
    pub auto_renew: bool,
    /// The longest it may be held, counted from its attempt; no deadline goes past it.
    pub max_hold_time: Option<Duration>,
}

/// What a lease wants done next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseStep {
    /// Put this question to these nodes, as part of this round.
    Request {
        /// The question.
        kind: RequestKind,
        /// For how long the keys are asked to live.
        ttl: Duration,
        /// To whom.
        nodes: NodeSet,
        /// The round its answers belong to.
        round: u32,
        /// The number to show in place of our own, where a node has a larger one that nobody was given.
        number_override: Option<u64>,
    },
    /// More, or other, nodes are known to have our key.
    Confirmed(NodeSet),
    /// The deadline moved: from now on it is this.
    Renewed(DualTimestamp),
    /// A renewal got too few answers. The deadline stays.
    Unconfirmed(Vec<Vote>),
    /// The lock is lost. It still waits for its release.
    Lost(LossReason),
    /// The release is confirmed on a quorum, or will be no more: every node's answer.
    Released(Vec<Vote>),
}

/// How a lock was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossReason {
    /// The deadline came before a renewal did.
    Expired,
    /// Others have so many of the nodes that no quorum is left for us.
    TakenByOthers,
    /// The clocks of so many nodes jumped that its keys may have run out before their time.
    ClockJump,
    /// The task that kept it alive has ended.
    ClientClosed,
}
