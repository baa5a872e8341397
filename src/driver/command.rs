//! Commands of callers to the driver, and its replies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::shared_lease::SharedLease;
use quorlock_proto::attempt::AttemptFailure;
use quorlock_proto::coordinator::HandedOverLock;
use quorlock_proto::lease::{LossReason, RenewalPolicy};
use quorlock_proto::lease_params::LeaseParams;
use quorlock_proto::membership::{InitMode, InitResult};
use quorlock_proto::quorum::NodeId;
use quorlock_proto::request::{Key, LockSpec, OperationId, RequestKind};
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::Vote;

/// A command. At most one reply is sent to each.
///
/// The driver drops the reply if it has ended or shuts down, at the release of an unknown lock, and at an
/// enqueue for which no node keeps wait queues.
pub(crate) enum DriverCommand {
    Acquire {
        id: OperationId,
        spec: LockSpec,
        policy: RenewalPolicy,
        /// Whether the ttl is at most the max ttl in force, whatever the spec says.
        is_ttl_shortened: bool,
        reply: oneshot::Sender<Result<Arc<SharedLease>, AttemptFailure>>,
    },
    /// Renew this lock no more, and leave its keys to expire.
    Abandon(OperationId),
    /// End this lock without a release, for another process that adopts it.
    HandOver {
        id: OperationId,
        reply: oneshot::Sender<Result<HandedOverLock, LossReason>>,
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
        /// Whether the next task of this process acquires before other processes (local hand-off).
        hands_off_locally: bool,
        reply: Option<oneshot::Sender<Vec<Vote>>>,
    },
    Survey {
        id: OperationId,
        kind: RequestKind,
        key: Key,
        reply: oneshot::Sender<SurveyResult>,
    },
    /// Make the nodes a new lock cluster.
    Initialize {
        id: OperationId,
        mode: InitMode,
        reply: oneshot::Sender<InitResult>,
    },
    /// Enter the wait queue of a key. This and `Dequeue` are commands, because their order among the releases
    /// decides which process is notified.
    Enqueue {
        id: OperationId,
        key: Key,
        /// For how long the caller has waited already.
        waited: Duration,
        /// Whether to enqueue on the second node of the ranking, because the first one's reports proved
        /// wrong.
        is_on_second: bool,
        reply: oneshot::Sender<Vote>,
    },
    /// Notify the first process that waits for a key that was freed. It may be this process.
    NotifyNext {
        key: Key,
    },
    /// Leave the wait queue of a key.
    Dequeue {
        key: Key,
    },
    Shutdown {
        deadline: DualTimestamp,
        reply: oneshot::Sender<ShutdownRemainder>,
    },
}

/// The outcome of an extension.
pub(crate) enum ExtendOutcome {
    Renewed(DualTimestamp),
    NoQuorum(Vec<Vote>),
    Lost,
}

/// The replies to a survey.
pub(crate) struct SurveyResult {
    pub(crate) votes: Vec<Vote>,
    /// For each node, whether the key's owner there is this client.
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
