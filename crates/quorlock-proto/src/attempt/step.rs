//! What an attempt says.

use std::time::Duration;

use crate::quorum::NodeSet;
use crate::request::RequestKind;
use crate::vote::Vote;

/// What an attempt wants done next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttemptStep {
    /// Put this question to these nodes, in this order of steps.
    Request(RequestKind, NodeSet),
    /// q grants are in, in time: make it a lease.
    Won,
    /// It failed, and everything that may be left is being undone.
    Failed(AttemptFailure),
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttemptFailure {
    /// The reason to act upon.
    pub reason: FailureReason,
    /// Every node's answer.
    pub votes: Vec<Vote>,
}

impl AttemptFailure {
    /// Whether the votes may have been split, so that none has the lock: some node granted it, and others have too many. A
    /// lock that is held stands on every node that votes, but for a while after it was taken or a node came back.
    #[must_use]
    pub fn votes_may_be_split(&self) -> bool {
        matches!(self.reason, FailureReason::Contended { .. }) && self.votes.iter().any(Vote::is_grant)
    }
}

/// The reason an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// A quorum of nodes answered, and others have too many of them. The lock may be had when the q-th of the
    /// keys in the way has expired, if the nodes told.
    Contended {
        /// How long that is from now.
        retry_after: Option<Duration>,
    },
    /// Too few nodes answered.
    NoQuorum,
    /// Enough nodes are there, but too many of them may have forgotten locks, or have a clock that jumped. They vote
    /// again when that cannot matter any more.
    OnProbation {
        /// How long that is from now, at the least.
        retry_after: Option<Duration>,
    },
    /// Too many nodes may not serve us; trying again will not help.
    NodesExcluded,
    /// The grants came, but too late to be worth anything.
    TooLate,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vote::ReplyFailure;

    #[test]
    fn votes_may_be_split_if_a_node_granted_and_others_have_another_holder() {
        let (held, silent) = (Vote::HeldByOther { remaining: None }, Vote::Unknown(ReplyFailure::Timeout));
        let contended = FailureReason::Contended { retry_after: None };
        for (why, votes, may_be) in [
            (contended, vec![Vote::Fenced(7), held.clone(), held.clone()], true),
            (contended, vec![held.clone(), Vote::Granted, held.clone()], true),
            (contended, vec![held.clone(), held.clone(), silent.clone()], false),
            (contended, vec![held.clone(), held.clone(), held.clone()], false),
            (FailureReason::NoQuorum, vec![Vote::Granted, silent.clone(), silent], false),
        ] {
            let refusal = AttemptFailure { reason: why, votes };
            assert_eq!(refusal.votes_may_be_split(), may_be, "{refusal:?}");
        }
    }
}
