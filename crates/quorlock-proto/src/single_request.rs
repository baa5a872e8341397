//! A request to one node about a wait queue: enqueue, dequeue, notify the next process, or count the waiting ones.

use core::time::Duration;

use crate::quorum::NodeId;
use crate::request::{Key, RequestKind};
use crate::time::DualTimestamp;
use crate::vote::{ReplyFailure, Vote};

/// One request to one node. It is settled by the node's reply, or at the reply timeout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SingleRequest {
    node: NodeId,
    kind: RequestKind,
    key: Key,
    waited: Duration,
    settle_by: DualTimestamp,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    ToSend,
    Sent,
    Settled(Vote),
    Reported,
}

/// The next step of a single request, to be carried out by the caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SingleRequestStep {
    /// Send the request to the node.
    Request(RequestKind, NodeId),
    /// The node's vote.
    Done(Vote),
}

impl SingleRequest {
    /// A request that ends at `settle_by` at the latest. It is not sent if the node has an implicit vote. `waited` is
    /// how long the caller of an enqueue has waited already. Poll next.
    #[must_use]
    pub fn new(
        node: NodeId,
        (kind, key, waited): (RequestKind, Key, Duration),
        implicit_vote: Option<Vote>,
        settle_by: DualTimestamp,
    ) -> Self {
        let state = implicit_vote.map_or(State::ToSend, State::Settled);
        Self { node, kind, key, waited, settle_by, state }
    }

    /// The next step. Poll until `None`, then see [`wake_at`](Self::wake_at).
    pub fn poll(&mut self) -> Option<SingleRequestStep> {
        let (state, step) = match &self.state {
            State::ToSend => (State::Sent, SingleRequestStep::Request(self.kind, self.node)),
            State::Settled(vote) => (State::Reported, SingleRequestStep::Done(vote.clone())),
            State::Sent | State::Reported => return None,
        };
        self.state = state;
        Some(step)
    }

    /// Records the node's reply. Poll next.
    pub fn on_reply(&mut self, vote: Vote) {
        if self.state == State::Sent {
            self.state = State::Settled(vote);
        }
    }

    /// Ends the request at the reply timeout, if that is due. Poll next.
    pub fn on_wake(&mut self, now: DualTimestamp) {
        if now.is_due(self.settle_by) {
            self.on_reply(Vote::Unknown(ReplyFailure::Timeout));
        }
    }

    /// When to call [`on_wake`](Self::on_wake), if at all.
    #[must_use]
    pub fn wake_at(&self) -> Option<DualTimestamp> {
        matches!(self.state, State::ToSend | State::Sent).then_some(self.settle_by)
    }

    /// Whether no step will follow.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Reported
    }

    /// How long the caller of an enqueue has waited already.
    #[must_use]
    pub const fn waited(&self) -> Duration {
        self.waited
    }

    /// The key of the request.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }
}
