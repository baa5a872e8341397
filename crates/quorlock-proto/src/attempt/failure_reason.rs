//! The reason of a failed attempt, and when to retry.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Attempt, FailureReason};
use crate::vote::{ReplyFailure, Vote};

impl Attempt {
    /// The reason of the failure, when `unavailable` nodes gave no clear reply. Available nodes that did not
    /// grant, also by split votes, mean contention. The quorum is lost only if too many nodes are
    /// unavailable.
    pub(super) fn failure_reason(&self, unavailable: usize) -> FailureReason {
        let quorum = self.round.quorum();
        let on_probation = self.round.on_probation().len();
        if self.spec.previous_owner.is_some() {
            return self.adoption_failure_reason();
        }
        if quorum.is_out_of_reach(self.round.excluded().len()) {
            FailureReason::NodesExcluded
        } else if !self.round.not_held().is_empty() {
            // Keys of this attempt vanished while their number was settled.
            FailureReason::TooLate
        } else if quorum.is_out_of_reach(unavailable) && !quorum.is_out_of_reach(unavailable - on_probation) {
            FailureReason::OnProbation { retry_after: None }
        } else if self.round.held_or_fenced_out().is_empty() || quorum.is_out_of_reach(unavailable) {
            FailureReason::NoQuorum
        } else {
            FailureReason::Contended { retry_after: None }
        }
    }

    /// The reason why an adoption failed. No node becomes adoptable by waiting, except after its probation.
    fn adoption_failure_reason(&self) -> FailureReason {
        let (round, quorum) = (&self.round, self.round.quorum());
        let gone = round.held_or_fenced_out().or(round.not_held());
        let never = quorum.all().without(round.granted()).without(round.on_probation());
        if quorum.is_out_of_reach(round.excluded().len()) {
            FailureReason::NodesExcluded
        } else if quorum.is_out_of_reach(gone.len()) {
            FailureReason::NotHeld
        } else if round.on_probation().is_empty() || quorum.is_out_of_reach(never.len()) {
            FailureReason::NoQuorum
        } else {
            FailureReason::OnProbation { retry_after: None }
        }
    }

    /// Adds the time until q nodes are free. A node with another holder is free when the holder's key
    /// expires, if the node reported that. Any other node is free at once or never.
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
                // Not requested, because so many other nodes are on probation that its vote could not matter.
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
