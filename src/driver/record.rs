//! Callers that wait for the result of an operation.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::Span;

use super::command::{ExtendOutcome, SurveyResult};
use super::shared_lease::SharedLease;
use quorlock_proto::attempt::AttemptFailure;
use quorlock_proto::membership::InitResult;
use quorlock_proto::quorum::NodeId;
use quorlock_proto::request::Key;
use quorlock_proto::vote::Vote;

/// A caller that waits for one operation.
pub(super) struct PendingCall {
    pub(super) key: Key,
    pub(super) caller: ReplyTo,
}

/// A held lock. There may be thousands, so an entry is one pointer.
pub(super) struct LeaseEntry(pub(super) Arc<SharedLease>);

/// Callers that wait for a renewal under way.
pub(super) struct PendingRenewal {
    extending: Vec<oneshot::Sender<ExtendOutcome>>,
    span: Span,
}

/// What a caller waits for, and where its reply goes.
pub(super) enum ReplyTo {
    /// An attempt.
    Acquiring(oneshot::Sender<Result<Arc<SharedLease>, AttemptFailure>>),
    /// A release, whose outcome may be of no interest.
    Releasing(Option<oneshot::Sender<Vec<Vote>>>),
    /// A survey of a key.
    Surveying(oneshot::Sender<SurveyResult>),
    /// A place in the wait queue of that node.
    Enqueuing(NodeId, oneshot::Sender<Vote>),
    /// The initialization of a lock cluster.
    Initializing(oneshot::Sender<InitResult>),
}

impl PendingCall {
    pub(super) fn new(key: Key, caller: ReplyTo) -> Self {
        Self { key, caller }
    }
}

impl Drop for LeaseEntry {
    /// Because a driver that ended renews nothing, its leases are marked as lost.
    fn drop(&mut self) {
        self.0.mark_lost();
    }
}

impl PendingRenewal {
    /// Adds a caller.
    pub(super) fn extending(&mut self, reply: oneshot::Sender<ExtendOutcome>) {
        self.extending.push(reply);
    }

    /// Records its start.
    pub(super) fn begin(&mut self, span: Span) {
        self.span = span;
    }

    /// It has ended: replies to every extension, and returns the span that was open meanwhile.
    pub(super) fn end(self, outcome: impl Fn() -> ExtendOutcome) -> Span {
        for reply in self.extending {
            let _ = reply.send(outcome());
        }
        self.span
    }
}

impl Default for PendingRenewal {
    fn default() -> Self {
        Self { extending: Vec::new(), span: Span::none() }
    }
}
