//! Votes: what a node's reply counts for, and why a node has no vote.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use crate::request::OwnerHash;

/// What one node's reply to one request counts for.
///
/// Only a well-formed grant counts as one. A reply that is clearly none of the others is *unknown*: the request may or
/// may not have been done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Vote {
    /// Done: the operation has the key on this node. To a release: it had the key, and the key is deleted.
    Granted,
    /// Granted with this fencing number, which is now the node's fence for the key.
    Fenced(u64),
    /// Another owner has the key.
    HeldByOther {
        /// The key's remaining ttl. `None` if the reply does not contain it, or if the key never expires or
        /// is of another type.
        remaining: Option<Duration>,
    },
    /// The key does not exist.
    NotHeld,
    /// The node's fence for this key is larger than the lock's fencing number (at an adoption: than the
    /// previous owner's). A renewal has still extended the lock's key, and an adoption has still taken it; a
    /// reacquire has not set it. The larger number may belong to a later holder, or to no holder: a failed
    /// attempt, or a late grant to this lock, can also leave it.
    FencedOut {
        /// The node's fence (2^53 − 1 also for a larger fence).
        fence: u64,
    },
    /// The node may have lost data, or its clock cannot be trusted: it casts no vote.
    OnProbation {
        /// For how much longer.
        remaining: Duration,
        /// The reason.
        reason: ProbationReason,
    },
    /// The reply to an inspection, and to no other request.
    Inspected(KeyState),
    /// The node is excluded; to retry soon does not help.
    Excluded(ExclusionReason),
    /// No clear reply.
    Unknown(ReplyFailure),
}

/// Why a node gave no clear reply.
///
/// # Examples
///
/// ```
/// # use quorlock_proto::vote::ReplyFailure;
/// /// Whether the node is connected, but too slow.
/// fn is_slow(failure: &ReplyFailure) -> bool {
///     matches!(failure, ReplyFailure::Timeout | ReplyFailure::Backlogged)
/// }
/// # assert!(is_slow(&ReplyFailure::Timeout) && !is_slow(&ReplyFailure::ConnectionLost));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ReplyFailure {
    /// No reply before the timeout, or no request was sent yet.
    Timeout,
    /// The other nodes decided the outcome first.
    NotWaitedFor,
    /// No request was sent, because replies to earlier requests are overdue by the reply timeout.
    Backlogged,
    /// Not connected, with the cause.
    Disconnected(Arc<str>),
    /// The connection was lost before the reply.
    ConnectionLost,
    /// The node does not know the script (it restarted, or its scripts were flushed).
    NoScript,
    /// The node's marker differs from the expected one; the marker is being read again.
    MarkerMismatch,
    /// It has no seat: it is new, or may have lost data, and too few other nodes reply to give it one.
    Unverified,
    /// It has no seat, and gets one without the nodes that do not reply, once they have been absent for the max
    /// ttl.
    AwaitsAbsent {
        /// In this time at most.
        at_most: Duration,
    },
    /// An error that may pass: `LOADING`, `READONLY`, `OOM`, `MISCONF`, `BUSY` and similar.
    TransientError(Arc<str>),
    /// A reply that does not fit the request.
    UnexpectedReply,
}

/// Why a node is excluded until an operator fixes it.
///
/// # Examples
///
/// ```
/// # use quorlock_proto::vote::ExclusionReason;
/// fn advice(reason: &ExclusionReason) -> String {
///     match reason {
///         ExclusionReason::AuthFailed(_) => "check REDIS_PASSWORD".to_owned(),
///         ExclusionReason::PermissionDenied(error) => format!("ask an operator for access: {error}"),
///         other => other.to_string(),
///     }
/// }
/// # assert_eq!(advice(&ExclusionReason::AuthFailed("WRONGPASS".into())), "check REDIS_PASSWORD");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ExclusionReason {
    /// A replica: its master may overwrite what it replied.
    Replica,
    /// A member of a Redis Cluster, which moves and fails over keys on its own.
    RedisClusterNode,
    /// The same server as another URL of the list, with that URL's index.
    DuplicateServer(u8),
    /// Wrong user, wrong password, or no password where one is needed.
    AuthFailed(Arc<str>),
    /// The user lacks a permission, in Redis' own words.
    PermissionDenied(Arc<str>),
    /// It evicts keys when its memory is full, locks among them. (A client in plain mode only warns.)
    EvictionEnabled,
    /// It belongs to another lock cluster, or its clients use other settings, with the difference.
    ClusterMismatch(Arc<str>),
    /// It has no marker, and no other node says which lock cluster it belongs to.
    Uninitialized,
    /// It is no member of its lock cluster any more: another server has its seat.
    NotInRoster,
    /// The client's list of nodes is not the lock cluster's: this node has no seat, and cannot get one from this
    /// client.
    OtherNodeList(Arc<str>),
    /// The server cannot be used for another permanent reason.
    Unsupported(Arc<str>),
}

impl ExclusionReason {
    /// Whether the server cannot be in one list with the others: its address is wrong, or leads to a wrong server.
    ///
    /// # Examples
    ///
    /// ```
    /// # use quorlock_proto::vote::ExclusionReason;
    /// assert!(ExclusionReason::RedisClusterNode.is_misplaced());
    /// assert!(!ExclusionReason::Replica.is_misplaced());
    /// ```
    #[must_use]
    pub const fn is_misplaced(&self) -> bool {
        matches!(self, Self::RedisClusterNode | Self::DuplicateServer(_) | Self::ClusterMismatch(_))
    }
}

/// Why a node is on probation.
///
/// # Examples
///
/// ```
/// # use quorlock_proto::vote::ProbationReason;
/// fn advice(reason: ProbationReason) -> &'static str {
///     match reason {
///         ProbationReason::NewNode => "initialize the servers once",
///         ProbationReason::ClockJump => "let the time service slew the clock",
///         _ => "wait",
///     }
/// }
/// # assert_eq!(advice(ProbationReason::PossibleDataLoss), "wait");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ProbationReason {
    /// It is new in its lock cluster. The cluster was not initialized explicitly, so the node may have had
    /// locks before.
    NewNode,
    /// Its server restarted or was promoted, or its data was wiped or replaced.
    PossibleDataLoss,
    /// Its clock jumped, so its keys may have expired early.
    ClockJump,
}

/// What an inspection found on one node.
///
/// # Examples
///
/// ```
/// # use quorlock_proto::vote::{KeyOwner, KeyState};
/// /// Whether the key blocks its name until an operator deletes it.
/// fn is_stuck(state: &KeyState) -> bool {
///     state.holder != KeyOwner::Unheld && state.remaining.is_none()
/// }
/// # assert!(is_stuck(&KeyState::new(KeyOwner::NotALock, None)));
/// # assert!(!is_stuck(&KeyState::new(KeyOwner::Unheld, None)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeyState {
    /// The key's owner.
    pub holder: KeyOwner,
    /// The key's remaining ttl; `None` for a key that never expires or does not exist.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "remaining_ms", serialize_with = "crate::serialize_duration::optional_millis")
    )]
    pub remaining: Option<Duration>,
}

/// The owner of a key.
///
/// # Examples
///
/// ```
/// # use quorlock_proto::vote::{KeyOwner, KeyState};
/// fn describe(state: &KeyState) -> String {
///     match state.holder {
///         KeyOwner::Owner(hash) => format!("held by #{hash}"),
///         KeyOwner::NotALock => "another program uses this name".to_owned(),
///         _ => "free".to_owned(),
///     }
/// }
/// # assert_eq!(describe(&KeyState::new(KeyOwner::Unheld, None)), "free");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum KeyOwner {
    /// The key does not exist.
    Unheld,
    /// The owner whose token has this hash.
    Owner(OwnerHash),
    /// A key of another type than string: not a lock.
    NotALock,
}

impl KeyState {
    /// The state of a key with this owner and this remaining ttl.
    ///
    /// # Examples
    ///
    /// ```
    /// # use quorlock_proto::vote::{KeyOwner, KeyState};
    /// // For tests of code that handles inspections.
    /// let free = KeyState::new(KeyOwner::Unheld, None);
    /// assert_eq!(free.to_string(), "free");
    /// ```
    #[must_use]
    pub const fn new(holder: KeyOwner, remaining: Option<Duration>) -> Self {
        Self { holder, remaining }
    }
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted => f.write_str("granted"),
            Self::HeldByOther { remaining: Some(remaining) } => {
                write!(f, "held by another for {} more", Remaining(*remaining))
            }
            Self::HeldByOther { remaining: None } => f.write_str("held by another"),
            Self::NotHeld => f.write_str("not held"),
            Self::Fenced(number) => write!(f, "granted with fencing number {number}"),
            Self::FencedOut { fence } => write!(f, "has granted a larger fencing number since: {fence}"),
            Self::OnProbation { remaining, reason } => {
                write!(f, "casts no vote for {:.1} s more: {reason}", remaining.as_secs_f64())
            }
            Self::Inspected(state) => state.fmt(f),
            Self::Excluded(exclusion) => exclusion.fmt(f),
            Self::Unknown(failure) => failure.fmt(f),
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holder {
            KeyOwner::Unheld => return f.write_str("free"),
            KeyOwner::Owner(owner_hash) => write!(f, "held by #{owner_hash}")?,
            KeyOwner::NotALock => f.write_str("a key of another type, which is no lock,")?,
        }
        match self.remaining {
            Some(remaining) => write!(f, " for {} more", Remaining(remaining)),
            None => f.write_str(" without expiry"),
        }
    }
}

/// Shows a remaining time in tenths of a second, and below one second in milliseconds.
struct Remaining(Duration);

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            return write!(f, "{} ms", self.0.as_millis());
        }
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}

impl fmt::Display for ReplyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no reply in time"),
            Self::NotWaitedFor => f.write_str("not waited for: the others had decided"),
            Self::Backlogged => f.write_str("has not replied to earlier requests, so it was sent no more"),
            Self::Disconnected(cause) => write!(f, "not connected: {cause}"),
            Self::ConnectionLost => f.write_str("connection lost before the reply"),
            Self::NoScript => f.write_str("has lost its scripts"),
            Self::Unverified => f.write_str(
                "does not vote yet: more nodes must reply to give it a seat (all of them, if the lock cluster is \
                 new, or without the others after the max ttl); see the state of the other nodes, or, if they are \
                 off, run `quorlock init --without-unreachable`",
            ),
            Self::AwaitsAbsent { at_most } => write!(
                f,
                "does not vote yet: waits for the nodes that do not reply, and gets a seat without them in at most \
                 {:.1} s; start them, or, if they are off, run `quorlock init --without-unreachable`",
                at_most.as_secs_f64(),
            ),
            Self::MarkerMismatch => f.write_str("its marker has changed and is being read again"),
            Self::TransientError(message) => write!(f, "cannot vote now: {message}"),
            Self::UnexpectedReply => f.write_str("a reply that does not fit the request"),
        }
    }
}

impl fmt::Display for ExclusionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica => f.write_str("a replica: name its master instead"),
            Self::RedisClusterNode => f.write_str("a Redis Cluster member: locks need independent masters"),
            Self::DuplicateServer(index) => {
                write!(f, "the same server as node {}: name each server once", index + 1)
            }
            Self::AuthFailed(message) => write!(f, "login failed: {message}"),
            Self::PermissionDenied(message) => write!(f, "permission missing: {message}"),
            Self::EvictionEnabled => f.write_str("evicts keys when memory is full, locks among them: set maxmemory-policy noeviction"),
            Self::ClusterMismatch(message) => write!(f, "another lock cluster: {message}"),
            Self::Uninitialized => f.write_str(
                "blank, and too few others know its lock cluster: bring them up, or initialize it (`quorlock init`)",
            ),
            Self::NotInRoster => f.write_str(
                "no member of its lock cluster any more, because another server has its seat: if its address has moved, \
                 wait until it is resolved again",
            ),
            Self::OtherNodeList(message) | Self::Unsupported(message) => f.write_str(message),
        }
    }
}

impl fmt::Display for ProbationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewNode => "new, and not initialized (`quorlock init`) before the first client",
            Self::PossibleDataLoss => "it may have lost its data",
            Self::ClockJump => "its clock jumped",
        })
    }
}

impl Vote {
    /// Whether the node did what the request says.
    #[must_use]
    pub const fn is_grant(&self) -> bool {
        matches!(self, Self::Granted | Self::Fenced(_))
    }

    /// Whether the released key is gone after this reply to a release: deleted, missing, or another owner's.
    #[must_use]
    pub const fn confirms_release(&self) -> bool {
        matches!(self, Self::Granted | Self::NotHeld | Self::HeldByOther { .. })
    }

    /// The fencing number that came with a grant.
    #[must_use]
    pub const fn number(&self) -> Option<u64> {
        match self {
            Self::Fenced(number) => Some(*number),
            _ => None,
        }
    }
}
