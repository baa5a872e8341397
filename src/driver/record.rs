//! Who waits for what a machine has to say.

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

/// Somebody who waits for a word of one machine.
pub(super) struct PendingCall {
    pub(super) key: Key,
    pub(super) caller: ReplyTo,
}

/// Somebody who has a lock, and waits for nothing. There may be thousands of them, so that is all there is to one.
pub(super) struct LeaseEntry(pub(super) Arc<SharedLease>);

/// Those who wait for a renewal that is under way.
pub(super) struct PendingRenewal {
    extending: Vec<oneshot::Sender<ExtendOutcome>>,
    span: Span,
}

/// Who waits, and for what.
pub(super) enum ReplyTo {
    /// Somebody who wants the lock.
    Acquiring(oneshot::Sender<Result<Arc<SharedLease>, AttemptFailure>>),
    /// Somebody who gave it up, and may want to hear how that went.
    Releasing(Option<oneshot::Sender<Vec<Vote>>>),
    /// Somebody who asked about a key.
    Surveying(oneshot::Sender<SurveyResult>),
    /// Somebody who stands in line on that node.
    Enqueuing(NodeId, oneshot::Sender<Vote>),
    /// Somebody who declares a cluster.
    Initializing(oneshot::Sender<InitResult>),
}

impl PendingCall {
    pub(super) fn new(key: Key, caller: ReplyTo) -> Self {
        Self { key, caller }
    }
}

impl Drop for LeaseEntry {
    /// A driver that ends, in whatever way, renews nothing any more: whoever still holds a lock is told.
    fn drop(&mut self) {
        self.0.mark_lost();
    }
}

impl PendingRenewal {
    /// Somebody waits for it.
    pub(super) fn extending(&mut self, reply: oneshot::Sender<ExtendOutcome>) {
        self.extending.push(reply);
    }

    /// It has begun.
    pub(super) fn begin(&mut self, span: Span) {
        self.span = span;
    }

    /// It has ended: answers everybody who asked for an extension, and gives back the span that was open meanwhile.
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
