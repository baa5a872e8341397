//! A survey: one request to all nodes that acquires no lock, such as an inspection or a forced release.

use alloc::vec::Vec;

use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::request::{Key, RequestKind};
use crate::round::Round;
use crate::time::DualTimestamp;
use crate::vote::Vote;

/// One request to all nodes. It is settled when all requested nodes have replied, or at the reply timeout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Survey {
    key: Key,
    kind: RequestKind,
    settle_by: DualTimestamp,
    round: Round,
    to_request: NodeSet,
    is_settled: bool,
    is_reported: bool,
}

/// The next step of a survey, to be carried out by the caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SurveyStep {
    /// Send the request to these nodes.
    Request(RequestKind, NodeSet),
    /// The vote of every node.
    Done(Vec<Vote>),
}

impl Survey {
    /// A survey of all nodes that ends at `settle_by` at the latest. Poll next.
    #[must_use]
    pub fn new(
        kind: RequestKind,
        key: Key,
        quorum: Quorum,
        absent_vote: impl Fn(NodeId) -> Option<Vote>,
        settle_by: DualTimestamp,
    ) -> Self {
        let round = Round::new(quorum, absent_vote);
        let (to_request, is_settled) = (round.requested(), round.is_complete());
        Self { key, kind, settle_by, round, to_request, is_settled, is_reported: false }
    }

    /// The next step. Poll until `None`, then see [`wake_at`](Self::wake_at).
    pub fn poll(&mut self) -> Option<SurveyStep> {
        if !self.to_request.is_empty() {
            return Some(SurveyStep::Request(self.kind, core::mem::take(&mut self.to_request)));
        }
        if self.is_settled && !self.is_reported {
            self.is_reported = true;
            return Some(SurveyStep::Done(self.round.votes().cloned().collect()));
        }
        None
    }

    /// Records a node's reply. Poll next.
    pub fn on_reply(&mut self, node: NodeId, vote: Vote) {
        self.round.record(node, vote);
        self.is_settled |= self.round.is_complete();
    }

    /// Ends the survey at the reply timeout, if that is due. Poll next.
    pub fn on_wake(&mut self, now: DualTimestamp) {
        self.is_settled |= now.is_due(self.settle_by);
    }

    /// When to call [`on_wake`](Self::on_wake), if at all.
    #[must_use]
    pub fn wake_at(&self) -> Option<DualTimestamp> {
        (!self.is_settled).then_some(self.settle_by)
    }

    /// Whether no step will follow.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.is_reported
    }

    /// The key of the request.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }
}
