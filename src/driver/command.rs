//! What callers ask of the driver, and what it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::shared_lease::SharedLease;
use quorlock_proto::attempt::AttemptFailure;
use quorlock_proto::coordinator::OperationId;
use quorlock_proto::lease::RenewalPolicy;
use quorlock_proto::lease_params::LeaseParams;
use quorlock_proto::membership::InitResult;
use quorlock_proto::quorum::NodeId;
use quorlock_proto::request::{Key, LockSpec, RequestKind};
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::Vote;

/// An order. Those with a reply answer exactly once; a reply that is dropped means the driver has ended.
pub(crate) enum DriverCommand {
    Acquire {
        id: OperationId,
        spec: LockSpec,
        policy: RenewalPolicy,
        reply: oneshot::Sender<Result<Arc<SharedLease>, AttemptFailure>>,
    },
    /// The caller of this attempt is gone. Harmless when the attempt is long over.
    Cancel(OperationId),
    Extend {
        id: OperationId,
        params: LeaseParams,
        reply: oneshot::Sender<ExtendOutcome>,
    },
    Release {
        id: OperationId,
        /// Whether the next in this process takes the lock before those who wait in others.
        hands_off_locally: bool,
        reply: Option<oneshot::Sender<Vec<Vote>>>,
    },
    Survey {
        id: OperationId,
        phase: RequestKind,
        key: Key,
        reply: oneshot::Sender<SurveyResult>,
    },
    /// Make the nodes a new cluster that votes at once.
    Initialize {
        id: OperationId,
        is_forced: bool,
        reply: oneshot::Sender<InitResult>,
    },
    /// Stand in line for a key, after so long a wait; aside on the node where those stand who cannot reach the first. The
    /// answer is dropped where no node keeps lines.
    Enqueue {
        id: OperationId,
        key: Key,
        waited: Duration,
        is_on_second: bool,
        reply: oneshot::Sender<Vote>,
    },
    /// Call who has waited longest for a key that was made free. We may be that one.
    NotifyNext {
        key: Key,
    },
    /// Leave the line again.
    Dequeue {
        key: Key,
    },
    Shutdown {
        deadline: DualTimestamp,
        reply: oneshot::Sender<ShutdownRemainder>,
    },
}

/// What the driver hears of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueEvent<'a> {
    /// It is our turn.
    Notified { key: &'a Key, has_others: bool, is_found: bool },
    /// A release of ours met another process that waits.
    HasOtherWaiters(&'a Key),
    /// A node is gone, and the lines on it.
    QueueLost,
}

/// Who is told of lines.
pub(crate) trait QueueListener: Send {
    /// False if nobody here wants the key that we were called for.
    fn on_event(&self, heard: QueueEvent<'_>) -> bool;

    /// Nobody waits any more: every key for which we may stand in line.
    fn drain(&self) -> Vec<Key>;
}

/// How an extension ended.
pub(crate) enum ExtendOutcome {
    Renewed(DualTimestamp),
    NoQuorum(Vec<Vote>),
    Lost,
}

/// What the nodes answered to a survey, and which of the owners seen are this client's.
pub(crate) struct SurveyResult {
    pub(crate) votes: Vec<Vote>,
    pub(crate) ours: Vec<bool>,
}

/// What a shutdown left undone.
#[derive(Default)]
pub(crate) struct ShutdownRemainder {
    /// Keys that may still stand on a node.
    pub(crate) pending_releases: Vec<(NodeId, Key)>,
    /// Locks that were still held.
    pub(crate) held_keys: Vec<Key>,
}

/// Where orders are handed in: cheap to clone, usable without a runtime.
#[derive(Clone)]
pub(crate) struct CommandSender {
    sender: mpsc::UnboundedSender<DriverCommand>,
    ids: OperationIds,
}

/// Where orders come out.
pub(crate) struct CommandReceiver {
    pub(crate) commands: mpsc::UnboundedReceiver<DriverCommand>,
    /// Names for what nobody ordered.
    pub(super) ids: OperationIds,
}

/// Names for machines, each used once.
#[derive(Clone, Default)]
pub(crate) struct OperationIds(Arc<AtomicU64>);

impl OperationIds {
    pub(crate) fn id(&self) -> OperationId {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl CommandSender {
    pub(crate) fn channel() -> (Self, CommandReceiver) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let ids = OperationIds::default();
        (Self { sender, ids: ids.clone() }, CommandReceiver { commands: receiver, ids })
    }

    /// A name for a machine, used once.
    pub(crate) fn id(&self) -> OperationId {
        self.ids.id()
    }

    /// Hands in an order. If the driver has ended, the order is dropped, and with it its reply.
    pub(crate) fn send(&self, command: DriverCommand) {
        let _ = self.sender.send(command);
    }
}
