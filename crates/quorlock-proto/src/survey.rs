//! A question that takes no lock: who holds a key, or delete it whoever does.

use std::time::Duration;

use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::request::{Key, RequestKind};
use crate::round::Round;
use crate::time::DualTimestamp;
use crate::vote::{ReplyFailure, Vote};

/// One question to every node; settled when all have answered, or at the node time-out.
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

/// What a survey wants done next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SurveyStep {
    /// Put the question to these nodes.
    Request(RequestKind, NodeSet),
    /// Every node's answer.
    Done(Vec<Vote>),
}

impl Survey {
    /// A survey that ends at `settle_by`. Poll it next.
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

    /// The same with one node alone, and a span that goes along with the question.
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

    /// The next step to take, until there is none; then see [`wake_at`](Self::wake_at).
    pub fn poll(&mut self) -> Option<SurveyStep> {
        if !self.to_request.is_empty() {
            return Some(SurveyStep::Request(self.kind, std::mem::take(&mut self.to_request)));
        }
        if self.is_settled && !self.is_reported {
            self.is_reported = true;
            return Some(SurveyStep::Done(self.round.votes().cloned().collect()));
        }
        None
    }

    /// A node's answer. Poll next.
    pub fn on_reply(&mut self, node: NodeId, vote: Vote) {
        self.round.record(node, vote);
        self.is_settled |= self.round.is_complete();
    }

    /// The time asked for has come. Poll next.
    pub fn on_wake(&mut self, now: DualTimestamp) {
        self.is_settled |= now.is_due(self.settle_by);
    }

    /// When to call [`on_wake`](Self::on_wake), if ever.
    #[must_use]
    pub fn wake_at(&self) -> Option<DualTimestamp> {
        (!self.is_settled).then_some(self.settle_by)
    }

    /// Whether it has said all it has to say.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.is_reported
    }

    /// What goes along with the question.
    #[must_use]
    pub const fn carried_duration(&self) -> Duration {
        self.span
    }

    /// The key asked about.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }
}
