//! Why an attempt failed, and when to try again.

use std::time::Duration;

use super::{Attempt, FailureReason};
use crate::vote::{ReplyFailure, Vote};

impl Attempt {
    /// Why it failed, when `absent` nodes have no clear answer. Nodes that are there and merely not all ours, split
    /// votes among them, are contention: the quorum is lost only if the absent are too many for one.
    pub(super) fn failure_reason(&self, unavailable: usize) -> FailureReason {
        let quorum = self.round.quorum();
        let on_probation = self.round.on_probation().len();
        if quorum.is_out_of_reach(self.round.excluded().len()) {
            FailureReason::NodesExcluded
        } else if !self.round.not_held().is_empty() {
            // Keys of ours went while their number was settled.
            FailureReason::TooLate
        } else if quorum.is_out_of_reach(unavailable) && !quorum.is_out_of_reach(unavailable - on_probation) {
            FailureReason::OnProbation { retry_after: None }
        } else if self.round.held_by_others().is_empty() || quorum.is_out_of_reach(unavailable) {
            FailureReason::NoQuorum
        } else {
            FailureReason::Contended { retry_after: None }
        }
    }

    /// When the q-th of the nodes is free: those in the way by the expiry they told, the rest at once or never.
    pub(super) fn with_retry_after(&self, reason: FailureReason) -> FailureReason {
        let is_probation = matches!(reason, FailureReason::OnProbation { .. });
        if !matches!(reason, FailureReason::Contended { .. } | FailureReason::OnProbation { .. }) {
            return reason;
        }
        let mut free_after: Vec<Duration> = self
            .round
            .votes()
            .filter_map(|vote| match vote {
                Vote::Granted | Vote::Fenced(_) | Vote::FencedOut { .. } | Vote::NotHeld => {
                    Some(Duration::ZERO)
                }
                Vote::HeldByOther { remaining } => *remaining,
                Vote::OnProbation { remaining, .. } => Some(*remaining),
                // Not asked, since so many others are in doubt that it could not matter.
                Vote::Unknown(ReplyFailure::Timeout) if is_probation => Some(Duration::ZERO),
                Vote::Inspected(_) | Vote::Excluded(_) | Vote::Unknown(_) => None,
            })
            .collect();
        free_after.sort_unstable();
        let retry_after = free_after.get(self.round.quorum().needed() - 1).copied();
        if is_probation {
            FailureReason::OnProbation { retry_after }
        } else {
            FailureReason::Contended { retry_after }
        }
    }
}
