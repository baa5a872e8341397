//! One small enum per operation. Variants are there to branch on; the report in them is for people. What is about one
//! lock names it first.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::report::Report;
use crate::driver::NodeStatus;
use crate::protocol::claim::Key;
use crate::protocol::quorum::BadQuorum;
use crate::protocol::terms::BadTerms;

/// Input that cannot work, in words that say what to do. Nothing was sent anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    key: Option<Arc<str>>,
    words: String,
}

impl Invalid {
    pub(super) fn new(words: impl Into<String>) -> Self {
        Self { key: None, words: words.into() }
    }

    /// The same, of the lock with this key.
    pub(super) fn about(self, key: &Key) -> Self {
        Self { key: Some(key.shared()), ..self }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{}: ", lock(key))?;
        }
        f.write_str(&self.words)
    }
}

impl std::error::Error for Invalid {}

impl From<BadTerms> for Invalid {
    fn from(bad: BadTerms) -> Self {
        Self::new(bad.to_string())
    }
}

impl From<BadQuorum> for Invalid {
    fn from(bad: BadQuorum) -> Self {
        Self::new(bad.to_string())
    }
}

/// Why the driver of a client, which does all that has to do with its nodes, does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoDriver {
    /// It did not run for as long as the call may take. It goes on as soon as it runs, and undoes what was asked of it in
    /// vain.
    #[error(
        "the client's driver did not answer in time: the runtime that the client was built in is blocked, or nobody runs \
         it; keep it running, or build the client with `dedicated_thread()`"
    )]
    Stalled,
    /// This process is the child of a fork. Connections and locks are its parent's.
    #[error("the client was built before this process was forked: build a client of its own after the fork")]
    Forked,
}

/// What a caller hears in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    Closed,
    NoDriver(NoDriver),
}

/// Why no client could be built.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An option or a URL cannot work.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Too few nodes could be reached in time.
    #[error("no quorum of nodes could be reached: {}", list(nodes))]
    NoQuorum {
        /// How each node stands.
        nodes: Vec<NodeStatus>,
    },
    /// So many nodes refuse to serve us that no quorum is left, and waiting will not help.
    #[error("too many nodes refuse to serve: {}", list(nodes))]
    Refused {
        /// How each node stands.
        nodes: Vec<NodeStatus>,
    },
    /// A node may not be in the list at all: one server under two URLs, a member of a Redis Cluster, or of another
    /// cluster of locks.
    #[error("{node} may not be in the list: {why}")]
    Misplaced {
        /// Its address.
        node: String,
        /// Why.
        why: String,
    },
    /// The driver does not run, although it was started.
    #[error("{0}")]
    NoDriver(NoDriver),
    /// The task that drives the locks could not be started, or ended at once.
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
    /// Some node cannot be reached, or answered oddly; a cluster is declared on all its nodes. Declare again when all are
    /// up: what was begun is finished then (with force, if some of it was done).
    #[error("all nodes must be up to declare a cluster: {}", list(nodes))]
    Unreachable {
        /// How each node stands.
        nodes: Vec<NodeStatus>,
    },
    /// Some node remembers another cluster, or other terms. Declaring it fresh would void the locks of its clients:
    /// stop them first, then use force.
    #[error("some node belongs to a cluster already (stop its clients, then use force): {}", list(nodes))]
    NotBlank {
        /// How each node stands.
        nodes: Vec<NodeStatus>,
    },
}

/// Why a lock was not acquired. Whatever the attempt may have left on a node is being undone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// Others have it.
    #[error("{}: held by others: {report}", lock(key))]
    Held {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// When trying again may succeed, if the nodes told: by then the keys in the way have expired, unless
        /// their holder renews or releases them.
        retry_after: Option<Duration>,
        /// What each node answered.
        report: Report,
    },
    /// Too few nodes answered.
    #[error("{}: no quorum of nodes answered: {report}", lock(key))]
    NoQuorum {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// What each node answered.
        report: Report,
    },
    /// Enough nodes are there, but too many of them may have forgotten locks, or have a clock that jumped. They vote
    /// again when it cannot matter any more. A cluster that is new can be declared so: [`Builder::init`](super::Builder::init),
    /// `quorlock init`.
    #[error("{}: too many nodes are on probation: {report}", lock(key))]
    OnProbation {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// When enough of them vote again.
        retry_after: Option<Duration>,
        /// What each node answered.
        report: Report,
    },
    /// So many nodes refuse to serve us that no quorum is left, and waiting will not help.
    #[error("{}: too many nodes refuse to serve: {report}", lock(key))]
    Refused {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// What each node answered.
        report: Report,
    },
    /// The grants came too late to be worth anything: the ttl is too short for this network.
    #[error("{}: granted too late to be of use: {report}", lock(key))]
    TooLate {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// What each node answered.
        report: Report,
    },
    /// The name or an option cannot work.
    #[error(transparent)]
    Invalid(#[from] Invalid),
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
    #[error("{}: no quorum of nodes answered, so the deadline stays: {report}", lock(key))]
    Unconfirmed {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// What each node answered.
        report: Report,
    },
    /// The ttl cannot work. The lock stands until the deadline it had.
    #[error(transparent)]
    Invalid(#[from] Invalid),
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
    #[error("{}: too few nodes confirmed the release: {report}", lock(key))]
    NoQuorum {
        /// The lock's key on the nodes: prefix and name.
        key: Arc<str>,
        /// What each node answered.
        report: Report,
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
    Invalid(#[from] Invalid),
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

impl Invalid {
    /// The lock's key on the nodes, prefix and name, if it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl AcquireError {
    /// The lock's key on the nodes, prefix and name; none where no name was given.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Held { key, .. }
            | Self::NoQuorum { key, .. }
            | Self::OnProbation { key, .. }
            | Self::Refused { key, .. }
            | Self::TooLate { key, .. }
            | Self::NoDriver { key, .. }
            | Self::Closed { key } => Some(key),
            Self::Invalid(invalid) => invalid.key(),
        }
    }
}

impl ExtendError {
    /// The lock's key on the nodes, prefix and name.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Lost { key }
            | Self::Unconfirmed { key, .. }
            | Self::NoDriver { key, .. }
            | Self::Closed { key } => Some(key),
            Self::Invalid(invalid) => invalid.key(),
        }
    }
}

impl ReleaseError {
    /// The lock's key on the nodes, prefix and name.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::NoQuorum { key, .. } | Self::NoDriver { key, .. } | Self::Closed { key } => key,
        }
    }
}

impl InspectError {
    /// The lock's key on the nodes, prefix and name; none where no name was given.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::NoDriver { key, .. } | Self::Closed { key } => Some(key),
            Self::Invalid(invalid) => invalid.key(),
        }
    }
}

impl RunError {
    /// The lock's key on the nodes, prefix and name; none where no name was given.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Acquire(error) => error.key(),
            Self::Lost { key } => Some(key),
        }
    }
}

/// Each error of an operation on a lock has the same two ways not to be answered.
macro_rules! unanswered {
    ($($error:ident),+) => {
        $(impl $error {
            pub(super) fn unanswered(why: NoAnswer, key: &Key) -> Self {
                let key = key.shared();
                match why {
                    NoAnswer::Closed => Self::Closed { key },
                    NoAnswer::NoDriver(reason) => Self::NoDriver { key, reason },
                }
            }
        })+
    };
}
unanswered!(AcquireError, ExtendError, ReleaseError, InspectError);

/// What was still open when the time for a shutdown was over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownError {
    /// Node and key of every undo not known done. Such keys stand until they expire.
    pub undone: Vec<(String, String)>,
    /// Locks whose guards were still alive. Their guards are told that they are lost.
    pub kept: Vec<String>,
    /// Why the client's driver did not answer; what is open is not known then.
    pub no_driver: Option<NoDriver>,
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.no_driver {
            Some(why) => write!(f, "not shut down: {why}"),
            None => {
                let (undone, kept) = (self.undone.len(), self.kept.len());
                write!(f, "shut down with {undone} undos owed to nodes and {kept} locks still held")
            }
        }
    }
}

impl std::error::Error for ShutdownError {}

/// A lock as messages name it: quoted, and not in full where that would be most of the message.
pub(super) fn lock(key: &str) -> String {
    let mut ends = key.char_indices().skip(LONGEST_SHOWN).map(|(end, _)| end);
    match ends.next() {
        Some(end) => format!("lock {:?}… ({} bytes)", &key[..end], key.len()),
        None => format!("lock {key:?}"),
    }
}

fn list(nodes: &[NodeStatus]) -> String {
    let words: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    words.join("; ")
}

/// In characters.
const LONGEST_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small_for_they_are_in_every_result() {
        assert!(size_of::<AcquireError>() <= 64, "{} bytes", size_of::<AcquireError>());
        assert!(size_of::<ReleaseError>() <= 56 && size_of::<ExtendError>() <= 56);
    }

    #[test]
    fn a_long_name_is_not_all_of_a_message() {
        assert_eq!(lock("nightly"), "lock \"nightly\"");
        let long = "é".repeat(30_000);
        let shown = lock(&long);
        assert!(shown.len() < 500 && shown.ends_with("é\"… (60000 bytes)"), "{shown}");
        assert_eq!(lock(&"é".repeat(200)).matches('é').count(), 200);
    }
}
