//! What a node answers, and what keeps it from answering.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::request::OwnerHash;

/// One node's answer to one question.
///
/// Only a well-formed grant is a vote for us. Everything that is not clearly one of the first three is
/// *unknown*: it may or may not have been done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Vote {
    /// Done as asked: the key is ours here (or, to a release, was ours and is gone).
    Granted,
    /// Granted with a fencing number, which is the node's fence for this key now.
    Fenced(u64),
    /// Somebody else has the key, for this much longer where the node told. A key that never expires, or
    /// one of another type, is held for ever: `None`.
    HeldByOther {
        /// For how much longer, if known.
        remaining: Option<Duration>,
    },
    /// The key is not there: nobody has it.
    NotHeld,
    /// The node's fence for this key is past our number. To a renewal, the key is ours there, and lives on; to a key
    /// that was to be taken again, it is not there. A later holder was given that number, or no holder at all: an attempt
    /// that came to nothing has left it, or a late grant of our own.
    FencedOut {
        /// Where it stands (2^53 − 1 also for what is larger).
        fence: u64,
    },
    /// The node may have forgotten, or its clock cannot be trusted: it casts no vote for this much longer.
    OnProbation {
        /// For how much longer.
        remaining: Duration,
        /// What happened to it.
        reason: ProbationReason,
    },
    /// What an inspection saw; no answer to any other question.
    Inspected(KeyState),
    /// The node may not serve us, and asking again soon will not help.
    Excluded(ExclusionReason),
    /// No clear answer.
    Unknown(ReplyFailure),
}

/// Why a node gave no clear answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplyFailure {
    /// Not asked yet, or still silent when the time for an answer was over.
    Timeout,
    /// The others had decided before it answered, or before it was asked.
    NotWaitedFor,
    /// It owes earlier answers for longer than the node time-out, so it was not asked.
    Backlogged,
    /// Not connected: why, in words.
    Disconnected(Arc<str>),
    /// The connection broke before the answer came.
    ConnectionLost,
    /// The node does not know the script (it restarted, or its scripts were flushed).
    NoScript,
    /// What it remembers of its cluster is not what we know of it; it is being asked.
    MarkerMismatch,
    /// Too few nodes have told which cluster they are for this one to vote in it.
    Unverified,
    /// It answered with an error that may pass: `LOADING`, `READONLY`, `OOM`, `MISCONF`, `BUSY` and the like.
    TransientError(Arc<str>),
    /// An answer that does not fit the question.
    UnexpectedReply,
}

/// Why a node is out of the count until somebody mends it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExclusionReason {
    /// A replica: what it says may be undone by its master.
    Replica,
    /// A member of a Redis Cluster, which moves and fails over keys on its own.
    RedisClusterNode,
    /// The same server as another URL of the list, named by its place.
    DuplicateServer(u8),
    /// Wrong user, wrong password, or none given where one is needed.
    AuthFailed(Arc<str>),
    /// The user lacks a right: which, in Redis' own words.
    PermissionDenied(Arc<str>),
    /// It evicts keys when its memory is full, locks among them. (A plain client only warns.)
    EvictionEnabled,
    /// It belongs to another cluster, or its clients agreed on something else: what, in words.
    ClusterMismatch(Arc<str>),
    /// It remembers nothing, and too few others are there to say which cluster it belongs to.
    Uninitialized,
    /// The server cannot be used for another reason that will not pass by itself.
    Unsupported(Arc<str>),
}

/// Why a node's memory, or its clock, is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ProbationReason {
    /// It is new in its cluster. Nobody declared the cluster fresh, so it might have been something before.
    NewNode,
    /// Its data were restarted, wiped, replaced or promoted.
    PossibleDataLoss,
    /// Its clock jumped, so keys on it may have expired early.
    ClockJump,
}

/// What an inspection saw on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyState {
    /// Who has the key.
    pub holder: KeyOwner,
    /// For how much longer; `None` for a key that never expires (and for one that is not there).
    pub remaining: Option<Duration>,
}

/// Who has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyOwner {
    /// Nobody.
    Unheld,
    /// Whoever wrote the value with this mark.
    Owner(OwnerHash),
    /// A key that is not a string: no lock of ours.
    NotALock,
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted => f.write_str("granted"),
            Self::HeldByOther { remaining: Some(remaining) } => {
                write!(f, "held by another for {} more", Remaining(*remaining))
            }
            Self::HeldByOther { remaining: None } => f.write_str("held by another"),
            Self::NotHeld => f.write_str("not there"),
            Self::Fenced(number) => write!(f, "granted as number {number}"),
            Self::FencedOut { fence } => write!(f, "has given a larger number since: {fence}"),
            Self::OnProbation { remaining, reason: doubt } => {
                write!(f, "casts no vote for {:.1} s more: {doubt}", remaining.as_secs_f64())
            }
            Self::Inspected(sighting) => sighting.fmt(f),
            Self::Excluded(exclusion) => exclusion.fmt(f),
            Self::Unknown(fault) => fault.fmt(f),
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holder {
            KeyOwner::Unheld => return f.write_str("free"),
            KeyOwner::Owner(mark) => write!(f, "held by #{mark}")?,
            KeyOwner::NotALock => f.write_str("a key of another type, which is no lock,")?,
        }
        match self.remaining {
            Some(remaining) => write!(f, " for {} more", Remaining(remaining)),
            None => f.write_str(" without expiry"),
        }
    }
}

/// A span that is left, as people read it: to a tenth of a second, and below that in milliseconds.
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
            Self::Timeout => f.write_str("no answer in time"),
            Self::NotWaitedFor => f.write_str("not waited for: the others had decided"),
            Self::Backlogged => f.write_str("owes earlier answers, so it was not asked"),
            Self::Disconnected(why) => write!(f, "not connected: {why}"),
            Self::ConnectionLost => f.write_str("connection lost before the answer"),
            Self::NoScript => f.write_str("has lost its scripts"),
            Self::Unverified => f.write_str(
                "does not vote yet: more nodes must answer to tell which lock cluster it belongs to (all of them, if \
                 the cluster is new); see what keeps the others",
            ),
            Self::MarkerMismatch => f.write_str("is not what we know; being asked again"),
            Self::TransientError(words) => write!(f, "cannot vote now: {words}"),
            Self::UnexpectedReply => f.write_str("an answer that does not fit the question"),
        }
    }
}

impl fmt::Display for ExclusionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica => f.write_str("a replica: name its master instead"),
            Self::RedisClusterNode => f.write_str("a Redis Cluster member: locks need independent masters"),
            Self::DuplicateServer(place) => {
                write!(f, "the same server as node {}: name each server once", place + 1)
            }
            Self::AuthFailed(words) => write!(f, "login refused: {words}"),
            Self::PermissionDenied(words) => write!(f, "permission missing: {words}"),
            Self::EvictionEnabled => f.write_str("evicts keys when memory is full, locks among them: set maxmemory-policy noeviction"),
            Self::ClusterMismatch(words) => write!(f, "another cluster: {words}"),
            Self::Uninitialized => f.write_str(
                "blank, and too few others say which cluster it belongs to: bring them up, or declare the cluster (`quorlock init`)",
            ),
            Self::Unsupported(words) => f.write_str(words),
        }
    }
}

impl fmt::Display for ProbationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewNode => "new, and not declared fresh (`quorlock init`) before a client met it",
            Self::PossibleDataLoss => "on probation, for it may have forgotten locks",
            Self::ClockJump => "its clock jumped",
        })
    }
}

impl Vote {
    /// Whether the node gave what was asked for.
    #[must_use]
    pub const fn is_grant(&self) -> bool {
        matches!(self, Self::Granted | Self::Fenced(_))
    }

    /// Whether nothing of ours stands there after this answer to a release: it was deleted, was not there, or another's
    /// key is.
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
