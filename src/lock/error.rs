//! The error types: one small enum per operation. Programs branch on the variants; the replies in them are for people.
//! A message about one lock starts with that lock.

mod adopt;
mod forget;
mod invalid_input;
mod key;
mod no_reply;
mod ticket;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::view::{NodeReplies, NodeStatus, describe_states};
pub use adopt::AdoptError;
pub use forget::ForgetError;
pub use invalid_input::{InvalidInput, InvalidInputKind};
use key::lock;
pub use no_reply::NoDriver;
pub(super) use no_reply::NoReply;
use quorlock_proto::lease::LossReason;
use quorlock_proto::request::Key as LockName;
use quorlock_proto::vote::ExclusionReason;
pub use ticket::TicketError;

/// Why a client could not connect.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An option or a URL is not valid.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// Too few nodes were ready in time: not reached, or reached and not yet able to vote.
    #[error("no quorum of nodes is ready: {}", describe_states(nodes))]
    #[non_exhaustive]
    NoQuorum {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
    /// So many nodes are excluded that no quorum is left. Waiting does not help.
    #[error("too many nodes are excluded: {}", describe_states(nodes))]
    #[non_exhaustive]
    NodesExcluded {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
    /// A node must not be in the list: one server under two URLs, a member of a Redis Cluster, or a node of another
    /// lock cluster.
    #[error("{node} cannot be in the node list: {reason}")]
    #[non_exhaustive]
    InvalidNodeList {
        /// The node's address.
        node: Arc<str>,
        /// The reason.
        reason: ExclusionReason,
    },
    /// There is no Tokio runtime here. Build the client inside one, or with
    /// [`dedicated_thread`](crate::RedlockBuilder::dedicated_thread).
    #[error("no Tokio runtime here: build the client inside one, or with `dedicated_thread(true)`")]
    NoRuntime(#[source] Arc<tokio::runtime::TryCurrentError>),
    /// The driver was started, but does not run.
    #[error("{0}")]
    NoDriver(NoDriver),
    /// The client's dedicated thread, or the runtime on it, could not be started.
    #[error("the client's thread cannot be started: {0}")]
    Thread(#[source] Arc<io::Error>),
    /// The driver task ended at once.
    #[error("the driver has ended")]
    Closed,
}

/// Why a lock cluster could not be initialized.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The nodes cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A node cannot be reached; initialization needs all nodes. Initialize again when all nodes are up, which
    /// completes what was begun (with force, if part of it was done).
    #[error("lock cluster not initialized: all nodes must be up: {}", describe_states(nodes))]
    #[non_exhaustive]
    Unreachable {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
    /// A node did not store its marker, for example because it rejects writes, or another client wrote a different
    /// marker in the meantime. Initialize again when the node accepts writes, which completes what was begun (with
    /// force, if part of it was done).
    #[error("lock cluster not initialized: not all nodes stored their marker: {replies}")]
    #[non_exhaustive]
    Rejected {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
        /// The reply of each node: [`Granted`](crate::node::NodeReply::Granted) if it stored the marker of the new lock cluster.
        replies: NodeReplies,
    },
    /// A node belongs to another lock cluster, or its lock cluster has other settings. Initializing it again would void
    /// the locks of that lock cluster's clients: stop them first, then use force.
    #[error(
        "a node belongs to a lock cluster already (stop its clients, then use force): {}",
        describe_states(nodes)
    )]
    #[non_exhaustive]
    AlreadyInitialized {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
}

/// Why a lock was not acquired. The driver releases whatever the attempt may have left on a node.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// Another client holds the lock, or another task of this client holds it or waits for it.
    #[error("{}: {}", lock(key), contention(*local, replies))]
    #[non_exhaustive]
    Contended {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// Whether it is another task of this client. Then no request was sent, and there are no replies.
        local: bool,
        /// When a retry may succeed, if the nodes reported it: the time after which the keys in the way have expired,
        /// unless their holder renews or releases them.
        retry_after: Option<Duration>,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// Too few nodes replied.
    #[error("{}: no quorum of nodes replied: {replies}", lock(key))]
    #[non_exhaustive]
    NoQuorum {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// Enough nodes are up, but too many of them may have lost data, or had a clock jump. They vote again after their
    /// probation. A new lock cluster can skip the probation: [`RedlockBuilder::initialize`](super::RedlockBuilder::initialize),
    /// `quorlock init`.
    #[error("{}: too many nodes are on probation: {replies}", lock(key))]
    #[non_exhaustive]
    OnProbation {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The time after which enough of them vote again.
        retry_after: Option<Duration>,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// So many nodes are excluded that no quorum is left. Waiting does not help.
    #[error("{}: too many nodes are excluded: {replies}", lock(key))]
    #[non_exhaustive]
    NodesExcluded {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// The grants came too late to be valid: the ttl is too short for this network.
    #[error("{}: granted too late: {replies}; use a longer ttl", lock(key))]
    #[non_exhaustive]
    TooLate {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// The name or an option is not valid.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The client's driver does not reply. If it runs again, it cancels the attempt.
    #[error("{}: {reason}", lock(key))]
    #[non_exhaustive]
    NoDriver {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reason.
        reason: NoDriver,
    },
    /// The client was shut down, or its runtime has ended.
    #[error("{}: the client is closed", lock(key))]
    #[non_exhaustive]
    Closed {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
    },
}

/// Why a lock was not extended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtendError {
    /// The lock is lost. Stop the work that it protects.
    #[error("{}: the lock is lost", lock(key))]
    #[non_exhaustive]
    Lost {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
    },
    /// Too few nodes replied. The lock stays valid until its old deadline.
    #[error("{}: no quorum of nodes replied, so the deadline is unchanged: {replies}", lock(key))]
    #[non_exhaustive]
    NoQuorum {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// The ttl is not valid. The lock stays valid until its old deadline.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The client's driver does not reply. The lock stays valid until its old deadline, unless this is the child of a
    /// fork: the lock is the parent's.
    #[error("{}: {reason}", lock(key))]
    #[non_exhaustive]
    NoDriver {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reason.
        reason: NoDriver,
    },
    /// The driver has ended. The lock stays valid until its old deadline and cannot be extended any more.
    #[error("{}: the client is closed", lock(key))]
    #[non_exhaustive]
    Closed {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
    },
}

/// The lock had been lost before its release, so the work may have overlapped with that of another holder.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The lock was lost: its deadline had passed, or the replies show that no quorum of nodes can have had its key
    /// any more.
    #[error("{}: lost before its release: {reason}", lock(key))]
    #[non_exhaustive]
    Lost {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reason.
        reason: LossReason,
        /// The reply of each node to the release.
        replies: NodeReplies,
    },
}

/// Why a lock could not be inspected or force-released.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The name is not valid.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The client's driver does not reply.
    #[error("{}: {reason}", lock(key))]
    #[non_exhaustive]
    NoDriver {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reason.
        reason: NoDriver,
    },
    /// The client was shut down, or its runtime has ended.
    #[error("{}: the client is closed", lock(key))]
    #[non_exhaustive]
    Closed {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
    },
}

/// Why [`Mutex::run`](crate::Mutex::run) has no result. `E` is the error of the work itself.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The lock was not acquired; the work was not started.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The lock was lost while the work ran. The work was cancelled, or it ended too late to be trusted.
    #[error("{}: lost before the work was done: {reason}", lock(key))]
    #[non_exhaustive]
    Lost {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reason.
        reason: LossReason,
    },
    /// The work failed. The lock was held until then, and is released.
    #[error("{0}")]
    Work(E),
}

/// What was not finished when the time limit of a shutdown was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownError {
    /// Every pending release that is not known to be done. Such keys stay until they expire.
    pub pending_releases: Vec<PendingRelease>,
    /// Locks whose guards were still alive. Their guards report that they are lost.
    pub held_locks: Vec<LockName>,
    /// Why the client's driver did not reply. In that case it is not known what was unfinished.
    pub no_driver: Option<NoDriver>,
}

/// A release that a node has not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingRelease {
    /// The node's address.
    pub node: Arc<str>,
    /// The lock's key on the node.
    pub key: LockName,
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = self.no_driver {
            return write!(f, "not shut down: {reason}");
        }
        let (releases, locks) = (self.pending_releases.len(), self.held_locks.len());
        let [releases, locks] = [(releases, "pending release"), (locks, "lock")].map(|(count, noun)| {
            let s = if count == 1 { "" } else { "s" };
            format!("{count} {noun}{s}")
        });
        write!(f, "shut down with {releases} and {locks} still held")
    }
}

impl std::error::Error for ShutdownError {}

/// The cause of a contended attempt, as text.
fn contention(local: bool, replies: &NodeReplies) -> String {
    if local {
        "another task of this client holds it or waits for it".to_owned()
    } else {
        format!("held by others: {replies}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small() {
        assert!(size_of::<AcquireError>() <= 64, "{} bytes", size_of::<AcquireError>());
        assert!(size_of::<ReleaseError>() <= 64 && size_of::<ExtendError>() <= 56);
    }
}
