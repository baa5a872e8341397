//! The release of a lock.

use super::{Lease, PendingEvent, State};
use crate::quorum::{NodeId, NodeSet};
use crate::request::RequestKind;
use crate::round::Round;
use crate::time::DualTimestamp;
use crate::vote::Vote;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// One round of release requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ReleaseRound {
    pub(super) settle_by: DualTimestamp,
    pub(super) round: Round,
    pub(super) to_release: NodeSet,
}

impl Lease {
    /// Releases the lock; confirmations are awaited until `settle_by`. Poll next.
    pub fn release(&mut self, settle_by: DualTimestamp) {
        if matches!(self.state, State::Releasing(_) | State::Ended) {
            return;
        }
        // A node that cannot have the key needs no request.
        let round =
            Round::new(self.quorum, |node| (!self.possibly_set.contains(node)).then_some(Vote::NotHeld));
        self.state =
            State::Releasing(Box::new(ReleaseRound { settle_by, round, to_release: self.possibly_set }));
        self.stop_renewing();
        self.event = None;
    }

    /// Makes the later release notify no process, because the next task of this process acquires the key.
    pub const fn set_local_release(&mut self) {
        self.release_kind = RequestKind::ReleaseLocal;
    }

    /// The kind of its release requests.
    #[must_use]
    pub const fn release_kind(&self) -> RequestKind {
        self.release_kind
    }

    pub(super) fn on_release_reply(&mut self, node: NodeId, vote: Vote) {
        if let State::Releasing(releasing) = &mut self.state {
            let round = &mut releasing.round;
            round.record(node, vote);
            if releasing.is_confirmed() || releasing.round.is_complete() {
                self.event = Some(PendingEvent::Released);
            }
        }
    }
}

impl ReleaseRound {
    /// Whether a quorum has deleted the key, or a quorum shows that it was gone, so that the lock had been
    /// lost. While neither has a quorum, the other replies are awaited, because they decide which it was.
    fn is_confirmed(&self) -> bool {
        let gone = self.round.not_held().or(self.round.held_or_fenced_out());
        [self.round.granted(), gone].into_iter().any(|nodes| self.round.quorum().is_met(nodes.len()))
    }

    /// The vote of every node. Once a quorum has confirmed, the others are not waited for.
    pub(super) fn report(&self) -> Vec<Vote> {
        self.round.report(!self.is_confirmed())
    }
}
