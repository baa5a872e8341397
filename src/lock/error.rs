//! The error types: one small enum per operation. Programs branch on the variants; the replies in them are for people.
//! A message about one lock starts with that lock.

mod forget;
mod key;
mod no_reply;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::grouping::describe_states;
use super::replies::NodeReplies;
use crate::driver::NodeStatus;
pub use forget::ForgetError;
use key::lock;
pub use no_reply::NoDriver;
pub(super) use no_reply::NoReply;
use quorlock_proto::lease_params::InvalidLeaseParams;
use quorlock_proto::quorum::InvalidQuorum;
use quorlock_proto::request::Key;

/// An option or a name that is not valid. The message says what to do. No request was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidInput {
    key: Option<Arc<str>>,
    option: Option<&'static str>,
    message: String,
}

impl InvalidInput {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { key: None, option: None, message: message.into() }
    }

    /// Adds the builder option that the error is about.
    pub(super) fn of(self, option: &'static str) -> Self {
        Self { option: Some(option), ..self }
    }

    /// The option whose value is not valid, such as `quorum` or `ttl`: a method of
    /// [`RedlockBuilder`](crate::RedlockBuilder) or [`Mutex`](crate::Mutex). It is `name` for the name of a lock, and
    /// `tls_client_key` for the key that was given to `tls_client_certificate`. `None` if the error is not about one
    /// option.
    #[must_use]
    pub fn option(&self) -> Option<&'static str> {
        self.option
    }

    /// Adds the key of the lock that the error is about.
    pub(super) fn about(self, key: &Key) -> Self {
        Self { key: Some(key.shared()), ..self }
    }
}

impl fmt::Display for InvalidInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{}: ", lock(key))?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidInput {}

impl From<InvalidLeaseParams> for InvalidInput {
    fn from(invalid: InvalidLeaseParams) -> Self {
        Self::new(invalid.to_string())
    }
}

impl From<InvalidQuorum> for InvalidInput {
    fn from(invalid: InvalidQuorum) -> Self {
        Self::new(invalid.to_string())
    }
}

/// Why a client could not connect.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An option or a URL is not valid.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// Too few nodes were ready in time: not reached, or reached and not yet able to vote.
    #[error("no quorum of nodes is ready: {}", describe_states(nodes))]
    NoQuorum {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
    /// So many nodes are excluded that no quorum is left. Waiting does not help.
    #[error("too many nodes are excluded: {}", describe_states(nodes))]
    NodesExcluded {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
    /// A node must not be in the list: one server under two URLs, a member of a Redis Cluster, or a node of another
    /// lock cluster.
    #[error("{node} cannot be in the node list: {reason}")]
    InvalidNodeList {
        /// The node's address.
        node: String,
        /// The reason.
        reason: String,
    },
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
    Unreachable {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
    /// A node did not store its marker, for example because it rejects writes, or another client wrote a different
    /// marker in the meantime. Initialize again when the node accepts writes, which completes what was begun (with
    /// force, if part of it was done).
    #[error("lock cluster not initialized: not all nodes stored their marker: {replies}")]
    Rejected {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
        /// The reply of each node: [`Granted`](crate::Vote::Granted) if it stored the marker of the new lock cluster.
        replies: NodeReplies,
    },
    /// A node belongs to another lock cluster, or its lock cluster has other settings. Initializing it again would void
    /// the locks of that lock cluster's clients: stop them first, then use force.
    #[error(
        "a node belongs to a lock cluster already (stop its clients, then use force): {}",
        describe_states(nodes)
    )]
    AlreadyInitialized {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
}

/// Why a lock was not acquired. The driver releases whatever the attempt may have left on a node.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// Other clients hold the lock.
    #[error("{}: held by others: {replies}", lock(key))]
    Contended {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// When a retry may succeed, if the nodes reported it: the time after which the keys in the way have expired,
        /// unless their holder renews or releases them.
        retry_after: Option<Duration>,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// Too few nodes replied.
    #[error("{}: no quorum of nodes replied: {replies}", lock(key))]
    NoQuorum {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// Enough nodes are up, but too many of them may have lost data, or had a clock jump. They vote again after their
    /// probation. A new lock cluster can skip the probation: [`RedlockBuilder::init`](super::RedlockBuilder::init),
    /// `quorlock init`.
    #[error("{}: too many nodes are on probation: {replies}", lock(key))]
    OnProbation {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// The time after which enough of them vote again.
        retry_after: Option<Duration>,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// So many nodes are excluded that no quorum is left. Waiting does not help.
    #[error("{}: too many nodes are excluded: {replies}", lock(key))]
    NodesExcluded {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// The grants came too late to be valid: the ttl is too short for this network.
    #[error("{}: granted too late: {replies}; use a longer ttl", lock(key))]
    TooLate {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// The name or an option is not valid.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The client's driver does not reply. If it runs again, it cancels the attempt.
    #[error("{}: {reason}", lock(key))]
    NoDriver {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// The reason.
        reason: NoDriver,
    },
    /// The client was shut down, or its runtime has ended.
    #[error("{}: the client is closed", lock(key))]
    Closed {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
    },
}

/// Why a lock was not extended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtendError {
    /// The lock is lost. Stop the work that it protects.
    #[error("{}: the lock is lost", lock(key))]
    Lost {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
    },
    /// Too few nodes replied. The lock stays valid until its old deadline.
    #[error("{}: no quorum of nodes replied, so the deadline is unchanged: {replies}", lock(key))]
    NoQuorum {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// The ttl is not valid. The lock stays valid until its old deadline.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The client's driver does not reply. The lock stays valid until its old deadline, unless this is the child of a
    /// fork: the lock is the parent's.
    #[error("{}: {reason}", lock(key))]
    NoDriver {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// The reason.
        reason: NoDriver,
    },
    /// The driver has ended. The lock stays valid until its old deadline and cannot be extended any more.
    #[error("{}: the client is closed", lock(key))]
    Closed {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
    },
}

/// Why a release is not confirmed. In any case, this client must not rely on the lock any more.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Fewer than a quorum confirmed in time. The remaining nodes have a pending release, which the driver retries in
    /// the background. At worst the keys stay until they expire.
    #[error("{}: too few nodes confirmed the release: {replies}", lock(key))]
    NoQuorum {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// The reply of each node.
        replies: NodeReplies,
        /// Whether the lock was lost before the release.
        was_lost: bool,
    },
    /// The client's driver does not reply. If it runs again, it releases the lock; otherwise the keys stay until they
    /// expire.
    #[error("{}: {reason}", lock(key))]
    NoDriver {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// The reason.
        reason: NoDriver,
    },
    /// The driver has ended. The keys stay until they expire.
    #[error("{}: the client is closed", lock(key))]
    Closed {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
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
    NoDriver {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// The reason.
        reason: NoDriver,
    },
    /// The client was shut down, or its runtime has ended.
    #[error("{}: the client is closed", lock(key))]
    Closed {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
    },
}

/// Why [`Mutex::run`](crate::Mutex::run) has no result.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The lock was not acquired; the work was not started.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The lock was lost while the work ran. The work was cancelled, or it ended too late to be trusted.
    #[error("{}: lost before the work was done", lock(key))]
    Lost {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
    },
}

/// What was not finished when the time limit of a shutdown was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownError {
    /// Node and key of every pending release that is not known to be done. Such keys stay until they expire.
    pub pending_releases: Vec<(String, String)>,
    /// Locks whose guards were still alive. Their guards report that they are lost.
    pub held_locks: Vec<String>,
    /// Why the client's driver did not reply. In that case it is not known what was unfinished.
    pub no_driver: Option<NoDriver>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small() {
        assert!(size_of::<AcquireError>() <= 64, "{} bytes", size_of::<AcquireError>());
        assert!(size_of::<ReleaseError>() <= 56 && size_of::<ExtendError>() <= 56);
    }
}
