//! Commands of callers to the driver, and its replies.

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

/// A command. A reply is sent exactly once; a dropped reply means that the driver has ended.
pub(crate) enum DriverCommand {
    Acquire {
        id: OperationId,
        spec: LockSpec,
        policy: RenewalPolicy,
        reply: oneshot::Sender<Result<Arc<SharedLease>, AttemptFailure>>,
    },
    /// The caller of this attempt is gone. Harmless if the attempt has already ended.
    Cancel(OperationId),
    Extend {
        id: OperationId,
        params: LeaseParams,
        reply: oneshot::Sender<ExtendOutcome>,
    },
    Release {
        id: OperationId,
        /// Whether the next waiter of this process acquires before other processes (local hand-off).
        hands_off_locally: bool,
        reply: Option<oneshot::Sender<Vec<Vote>>>,
    },
    Survey {
        id: OperationId,
        kind: RequestKind,
        key: Key,
        reply: oneshot::Sender<SurveyResult>,
    },
    /// Make the nodes a new lock cluster that votes at once.
    Initialize {
        id: OperationId,
        is_forced: bool,
        reply: oneshot::Sender<InitResult>,
    },
    /// Enqueue for a key, after so long a wait; on the second node if the first is unreachable. The reply is
    /// dropped where no node keeps wait queues.
    Enqueue {
        id: OperationId,
        key: Key,
        waited: Duration,
        is_on_second: bool,
        reply: oneshot::Sender<Vote>,
    },
    /// Notify the first waiter for a key that was freed, which may be this process.
    NotifyNext {
        key: Key,
    },
    /// Leave the wait queue.
    Dequeue {
        key: Key,
    },
    Shutdown {
        deadline: DualTimestamp,
        reply: oneshot::Sender<ShutdownRemainder>,
    },
}

/// A change in a wait queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueEvent<'a> {
    /// This process is the next.
    Notified { key: &'a Key, has_others: bool, is_from_waiter: bool },
    /// A release of this client found another waiting process.
    HasOtherWaiters(&'a Key),
    /// A node is disconnected, and its wait queues are lost.
    WaitQueuesLost,
}

/// Receives the events of wait queues.
pub(crate) trait QueueListener: Send {
    /// False if no task of this process wants the key any more.
    fn on_event(&self, event: QueueEvent<'_>) -> bool;

    /// Ends all waits: returns every key that may be enqueued.
    fn end_waits(&self) -> Vec<Key>;
}

/// The outcome of an extension.
pub(crate) enum ExtendOutcome {
    Renewed(DualTimestamp),
    NoQuorum(Vec<Vote>),
    Lost,
}

/// The replies to a survey, and which of the owners are this client's.
pub(crate) struct SurveyResult {
    pub(crate) votes: Vec<Vote>,
    pub(crate) is_ours_per_node: Vec<bool>,
}

/// What a shutdown did not finish.
#[derive(Default)]
pub(crate) struct ShutdownRemainder {
    /// Keys that may still be on a node.
    pub(crate) pending_releases: Vec<(NodeId, Key)>,
    /// Locks that were still held.
    pub(crate) held_keys: Vec<Key>,
}

/// The sending end of commands: cheap to clone, usable without a runtime.
#[derive(Clone)]
pub(crate) struct CommandSender {
    sender: mpsc::UnboundedSender<DriverCommand>,
    ids: OperationIds,
}

/// The receiving end of commands.
pub(crate) struct CommandReceiver {
    pub(crate) commands: mpsc::UnboundedReceiver<DriverCommand>,
    /// Ids for operations without a command.
    pub(super) ids: OperationIds,
}

/// Operation ids, each used once.
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

    /// An operation id, used once.
    pub(crate) fn id(&self) -> OperationId {
        self.ids.id()
    }

    /// Sends a command. If the driver has ended, the command is dropped, and with it its reply.
    pub(crate) fn send(&self, command: DriverCommand) {
        let _ = self.sender.send(command);
    }
}
