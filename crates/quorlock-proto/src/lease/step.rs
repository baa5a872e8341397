//! A lease's renewal policy, and the steps for its caller to carry out.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::quorum::NodeSet;
use crate::request::RequestKind;
use crate::time::DualTimestamp;
use crate::vote::Vote;

/// Whether a lock renews itself, and how long it may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RenewalPolicy {
    /// Whether the lease renews itself.
    pub auto_renew: bool,
    /// The longest time that the lock may be held, counted from its attempt. No deadline goes past it.
    pub max_hold_time: Option<Duration>,
}

/// The next step of a lease, to be carried out by the caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseStep {
    /// Send a request to these nodes, as part of this round.
    Request {
        /// The kind of the request.
        kind: RequestKind,
        /// The requested ttl of the keys.
        ttl: Duration,
        /// The nodes to send it to.
        nodes: NodeSet,
        /// The round that its replies belong to.
        round: u32,
        /// The number to send in place of the lease's own, to nodes with a larger fence with which no client
        /// won.
        number_override: Option<u64>,
    },
    /// The set of nodes known to have the lease's key has changed.
    Confirmed(NodeSet),
    /// The deadline moved to this time.
    Renewed(DualTimestamp),
    /// A renewal got too few replies. The deadline stays.
    Unconfirmed(Vec<Vote>),
    /// The lock is lost. The lease still awaits its release.
    Lost(LossReason),
    /// The release is over, confirmed by a quorum or not: the vote of every node.
    Released(Vec<Vote>),
}

/// Why a lock was lost.
///
/// # Examples
///
/// ```
/// # use quorlock_proto::lease::LossReason;
/// /// What to check after a loss.
/// fn advice(reason: LossReason) -> &'static str {
///     match reason {
///         LossReason::Expired => "were the nodes reachable, and did the runtime run?",
///         LossReason::TakenByOthers => "was it force-released, or did nodes lose data?",
///         LossReason::ClockJump => "which node's clock was set?",
///         _ => "nothing",
///     }
/// }
/// # assert_eq!(advice(LossReason::ClientClosed), "nothing");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum LossReason {
    /// The deadline came before a successful renewal.
    Expired,
    /// Others hold so many nodes that no quorum is left.
    TakenByOthers,
    /// The clocks of so many nodes jumped that its keys may have expired early.
    ClockJump,
    /// The task that renewed it has ended.
    ClientClosed,
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the deadline came before a successful renewal",
            Self::TakenByOthers => "others took or deleted its keys on so many nodes that no quorum is left",
            Self::ClockJump => "the clocks of too many nodes jumped",
            Self::ClientClosed => "the client was closed",
        })
    }
}
