//! One small enum per operation. Variants are there to branch on; the report in them is for people. What is about one
//! lock names it first.

mod forget;
mod key;
mod unanswered;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::grouping::describe_states;
use super::replies::NodeReplies;
use crate::driver::NodeStatus;
pub use forget::ForgetError;
use key::lock;
use quorlock_proto::lease_params::InvalidLeaseParams;
use quorlock_proto::quorum::InvalidQuorum;
use quorlock_proto::request::Key;
pub(super) use unanswered::NoAnswer;
pub use unanswered::NoDriver;

/// Input that cannot work, in words that say what to do. Nothing was sent anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidInput {
    key: Option<Arc<str>>,
    option: Option<&'static str>,
    message: String,
}

impl InvalidInput {
    pub(super) fn new(words: impl Into<String>) -> Self {
        Self { key: None, option: None, message: words.into() }
    }

    /// The same, of this option of the builder.
    pub(super) fn of(self, option: &'static str) -> Self {
        Self { option: Some(option), ..self }
    }

    /// The method of [`RedlockBuilder`](crate::RedlockBuilder) or [`Mutex`](crate::Mutex) whose value cannot work, such as `quorum` or `ttl`,
    /// if it is about one. It is `name` for the name of a lock, and `tls_client_key` for the key that was given to
    /// `tls_client_certificate`.
    #[must_use]
    pub fn option(&self) -> Option<&'static str> {
        self.option
    }

    /// The same, of the lock with this key.
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
    fn from(bad: InvalidLeaseParams) -> Self {
        Self::new(bad.to_string())
    }
}

impl From<InvalidQuorum> for InvalidInput {
    fn from(bad: InvalidQuorum) -> Self {
        Self::new(bad.to_string())
    }
}

/// Why no client could be built.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An option or a URL cannot work.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// Too few nodes were ready in time: not reached, or reached and not able to vote yet.
    #[error("no quorum of nodes is ready: {}", describe_states(nodes))]
    NoQuorum {
        /// How each node stands.
        nodes: Vec<NodeStatus>,
    },
    /// So many nodes refuse to serve us that no quorum is left, and waiting will not help.
    #[error("too many nodes refuse to serve: {}", describe_states(nodes))]
    NodesExcluded {
        /// How each node stands.
        nodes: Vec<NodeStatus>,
    },
    /// A node may not be in the list at all: one server under two URLs, a member of a Redis Cluster, or of another
    /// cluster of locks.
    #[error("{node} may not be in the list: {reason}")]
    InvalidNodeList {
        /// Its address.
        node: String,
        /// Why.
        reason: String,
    },
    /// The driver does not run, although it was started.
    #[error("{0}")]
    NoDriver(NoDriver),
    /// The client's own thread, or the runtime on it, could not be started.
    #[error("the client's thread cannot be started: {0}")]
    Thread(#[source] Arc<io::Error>),
    /// The task that drives the locks ended at once.
    #[error("the driver has ended")]
    Closed,
}

/// Why a cluster could not be declared fresh.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The nodes cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Some node cannot be reached; a cluster is declared on all its nodes. Declare again when all are up: what was begun
    /// is finished then (with force, if some of it was done).
    #[error("all nodes must be up to declare a cluster: {}", describe_states(nodes))]
    Unreachable {
        /// How each node stands.
        nodes: Vec<NodeStatus>,
    },
    /// Some node would not be told of its cluster, as one that refuses writes; or others told it something else meanwhile.
    /// Declare again when it takes writes: what was begun is finished then (with force, if some of it was done).
    #[error("a cluster is declared on all its nodes, and not all would be told: {replies}")]
    Rejected {
        /// How each node stands.
        nodes: Vec<NodeStatus>,
        /// What each node answered: [`Granted`](crate::Vote::Granted) where it remembers the new cluster.
        replies: NodeReplies,
    },
    /// Some node remembers another cluster, or other terms. Declaring it fresh would void the locks of its clients:
    /// stop them first, then use force.
    #[error(
        "some node belongs to a cluster already (stop its clients, then use force): {}",
        describe_states(nodes)
    )]
    AlreadyInitialized {
        /// How each node stands.
        nodes: Vec<NodeStatus>,
    },
}

/// Why a lock was not acquired. Whatever the attempt may have left on a node is being undone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// Others have it.
    #[error("{}: held by others: {replies}", lock(key))]
    Contended {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// When trying again may succeed, if the nodes told: by then the keys in the way have expired, unless
        /// their holder renews or releases them.
        retry_after: Option<Duration>,
        /// What each node answered.
        replies: NodeReplies,
    },
    /// Too few nodes answered.
    #[error("{}: no quorum of nodes answered: {replies}", lock(key))]
    NoQuorum {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// What each node answered.
        replies: NodeReplies,
    },
    /// Enough nodes are there, but too many of them may have forgotten locks, or have a clock that jumped. They vote
    /// again when it cannot matter any more. A cluster that is new can be declared so: [`RedlockBuilder::init`](super::RedlockBuilder::init),
    /// `quorlock init`.
    #[error("{}: too many nodes are on probation: {replies}", lock(key))]
    OnProbation {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// When enough of them vote again.
        retry_after: Option<Duration>,
        /// What each node answered.
        replies: NodeReplies,
    },
    /// So many nodes refuse to serve us that no quorum is left, and waiting will not help.
    #[error("{}: too many nodes refuse to serve: {replies}", lock(key))]
    NodesExcluded {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// What each node answered.
        replies: NodeReplies,
    },
    /// The grants came too late to be worth anything: the ttl is too short for this network.
    #[error("{}: granted too late to be of use: {replies}", lock(key))]
    TooLate {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// What each node answered.
        replies: NodeReplies,
    },
    /// The name or an option cannot work.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The client's driver does not answer. If it goes on, it undoes the attempt.
    #[error("{}: {reason}", lock(key))]
    NoDriver {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// Why not.
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
    /// The lock is lost. Stop what it protects.
    #[error("{}: the lock is lost", lock(key))]
    Lost {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
    },
    /// Too few nodes answered. The lock stands until the deadline it had.
    #[error("{}: no quorum of nodes answered, so the deadline stays: {replies}", lock(key))]
    NoQuorum {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// What each node answered.
        replies: NodeReplies,
    },
    /// The ttl cannot work. The lock stands until the deadline it had.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The client's driver does not answer. The lock stands until the deadline it had, unless this is the child of a fork,
    /// whose parent has it.
    #[error("{}: {reason}", lock(key))]
    NoDriver {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// Why not.
        reason: NoDriver,
    },
    /// The driver has ended. The lock stands until the deadline it had, and cannot be extended any more.
    #[error("{}: the client is closed", lock(key))]
    Closed {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
    },
}

/// Why a release is not confirmed. The lock is no longer ours to use in any case.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Fewer than a quorum confirmed in time. The rest is still owed to the nodes and goes on in the background;
    /// at worst the keys stand until they expire.
    #[error("{}: too few nodes confirmed the release: {replies}", lock(key))]
    NoQuorum {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// What each node answered.
        replies: NodeReplies,
        /// Whether the lock was lost before this.
        was_lost: bool,
    },
    /// The client's driver does not answer. The lock is released if it goes on; else the keys stand until they expire.
    #[error("{}: {reason}", lock(key))]
    NoDriver {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// Why not.
        reason: NoDriver,
    },
    /// The driver has ended. The keys stand until they expire.
    #[error("{}: the client is closed", lock(key))]
    Closed {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
    },
}

/// Why a key could not be looked at, or broken.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The name cannot work.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The client's driver does not answer.
    #[error("{}: {reason}", lock(key))]
    NoDriver {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// Why not.
        reason: NoDriver,
    },
    /// The client was shut down, or its runtime has ended.
    #[error("{}: the client is closed", lock(key))]
    Closed {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
    },
}

/// Why work under a lock has no result.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The lock was not acquired; the work was not begun.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The lock was lost while the work ran. The work was cancelled, or ended too late to be trusted.
    #[error("{}: lost before the work was done", lock(key))]
    Lost {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
    },
}

/// What was still open when the time for a shutdown was over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownError {
    /// Node and key of every undo not known done. Such keys stand until they expire.
    pub pending_releases: Vec<(String, String)>,
    /// Locks whose guards were still alive. Their guards are told that they are lost.
    pub held_locks: Vec<String>,
    /// Why the client's driver did not answer; what is open is not known then.
    pub no_driver: Option<NoDriver>,
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = self.no_driver {
            return write!(f, "not shut down: {why}");
        }
        let (undone, kept) = (self.pending_releases.len(), self.held_locks.len());
        let [undos, locks] = [(undone, "undo"), (kept, "lock")].map(|(count, noun)| {
            let s = if count == 1 { "" } else { "s" };
            format!("{count} {noun}{s}")
        });
        write!(f, "shut down with {undos} owed to nodes and {locks} still held")
    }
}

impl std::error::Error for ShutdownError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small_for_they_are_in_every_result() {
        assert!(size_of::<AcquireError>() <= 64, "{} bytes", size_of::<AcquireError>());
        assert!(size_of::<ReleaseError>() <= 56 && size_of::<ExtendError>() <= 56);
    }
}
