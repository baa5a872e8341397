//! The steps of an attempt, for its caller to carry out, and how it fails.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::quorum::NodeSet;
use crate::request::RequestKind;
use crate::vote::Vote;

/// The next step of an attempt, to be carried out by the caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttemptStep {
    /// Send a request of this kind to these nodes. The order of the steps must be kept.
    Request(RequestKind, NodeSet),
    /// q grants arrived in time: make the attempt a lease.
    Won,
    /// The attempt failed; the releases for keys that may be left come before this step.
    Failed(AttemptFailure),
}

/// A failed attempt: reason and votes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttemptFailure {
    /// The reason.
    pub reason: FailureReason,
    /// The vote of every node.
    pub votes: Vec<Vote>,
}

impl AttemptFailure {
    /// Whether the votes may be split, so that no client has the lock: some node granted it, and too many
    /// nodes have another holder. A held lock is on every voting node, except shortly after it was acquired
    /// or a node came back.
    #[must_use]
    pub fn votes_may_be_split(&self) -> bool {
        matches!(self.reason, FailureReason::Contended { .. }) && self.votes.iter().any(Vote::is_grant)
    }
}

/// Why an attempt failed.
///
/// # Examples
///
/// ```
/// # use quorlock_proto::attempt::FailureReason;
/// /// The counter for the failures of this kind.
/// fn counter(reason: FailureReason) -> &'static str {
///     match reason {
///         FailureReason::Contended { .. } => "locks_contended",
///         FailureReason::NoQuorum => "locks_without_quorum",
///         _ => "locks_failed",
///     }
/// }
/// # assert_eq!(counter(FailureReason::TooLate), "locks_failed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FailureReason {
    /// A quorum of nodes replied, but other clients hold too many of them. The lock can be acquired when the
    /// q-th of their keys has expired.
    Contended {
        /// The time until then, if the nodes reported it.
        retry_after: Option<Duration>,
    },
    /// Too few nodes replied.
    NoQuorum,
    /// Enough nodes are available, but too many of them may have lost locks, or have a clock that jumped.
    /// They vote again when that can no longer matter.
    OnProbation {
        /// The least time until then.
        retry_after: Option<Duration>,
    },
    /// Too many nodes are excluded; a retry will not help.
    NodesExcluded,
    /// The grants arrived too late to be valid.
    TooLate,
    /// The lock to be adopted is no longer held: it has ended, or another client has adopted it. Or so many
    /// nodes lost its keys, or gave out larger fencing numbers, that no quorum shows that it is held.
    NotHeld,
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Contended { .. } => "held by others",
            Self::NoQuorum => "no quorum of nodes replied",
            Self::OnProbation { .. } => "too many nodes are on probation",
            Self::NodesExcluded => "too many nodes are excluded",
            Self::TooLate => "granted too late",
            Self::NotHeld => "no longer held, so not adopted",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vote::ReplyFailure;

    #[test]
    fn votes_may_be_split_if_a_node_granted_and_others_have_another_holder() {
        let (held, timeout) = (Vote::HeldByOther { remaining: None }, Vote::Unknown(ReplyFailure::Timeout));
        let contended = FailureReason::Contended { retry_after: None };
        for (reason, votes, expected) in [
            (contended, vec![Vote::Fenced(7), held.clone(), held.clone()], true),
            (contended, vec![held.clone(), Vote::Granted, held.clone()], true),
            (contended, vec![held.clone(), held.clone(), timeout.clone()], false),
            (contended, vec![held.clone(), held.clone(), held.clone()], false),
            (FailureReason::NoQuorum, vec![Vote::Granted, timeout.clone(), timeout], false),
        ] {
            let failure = AttemptFailure { reason, votes };
            assert_eq!(failure.votes_may_be_split(), expected, "{failure:?}");
        }
    }
}
