//! A survey: one request that acquires no lock, such as an inspection, a forced release or an enqueue.

use alloc::vec::Vec;
use core::time::Duration;

use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::request::{Key, RequestKind};
use crate::round::Round;
use crate::time::DualTimestamp;
use crate::vote::{ReplyFailure, Vote};

/// One request to all nodes, or to one. It is settled when all requested nodes have replied, or at the reply
/// timeout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Survey {
    key: Key,
    kind: RequestKind,
    span: Duration,
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
        Self { key, kind, span: Duration::ZERO, settle_by, round, to_request, is_settled, is_reported: false }
    }

    /// A survey of one node, whose request carries a duration.
    #[must_use]
    pub fn of_one_node(
        node: NodeId,
        (kind, key, span): (RequestKind, Key, Duration),
        quorum: Quorum,
        absent_vote: impl Fn(NodeId) -> Option<Vote>,
        settle_by: DualTimestamp,
    ) -> Self {
        let others = |other| {
            if other == node { absent_vote(node) } else { Some(Vote::Unknown(ReplyFailure::Backlogged)) }
        };
        Self { span, ..Self::new(kind, key, quorum, others, settle_by) }
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

    /// The duration that the request carries.
    #[must_use]
    pub const fn carried_duration(&self) -> Duration {
        self.span
    }

    /// The key of the request.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }
}
