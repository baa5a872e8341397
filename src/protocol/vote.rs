//! What a node answers, and what keeps it from answering.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::claim::Mark;

/// One node's answer to one question.
///
/// Only a well-formed grant is a vote for us. Everything that is not clearly one of the first three is
/// *unknown*: it may or may not have been done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Vote {
    /// Done as asked: the key is ours here (or, to a release, was ours and is gone).
    Granted,
    /// Somebody else has the key, for this much longer where the node told. A key that never expires, or
    /// one of another type, is held for ever: `None`.
    Held {
        /// For how much longer, if known.
        remaining: Option<Duration>,
    },
    /// The key is not there: nobody has it.
    Missing,
    /// What an inspection saw; no answer to any other question.
    Seen(Sighting),
    /// The node may not serve us, and asking again soon will not help.
    Barred(Bar),
    /// No clear answer.
    Unknown(Fault),
}

/// Why a node gave no clear answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// Not asked yet, or still silent when the round was settled.
    Silent,
    /// It owes earlier answers for longer than the node time-out, so it was not asked.
    Slow,
    /// Not connected: why, in words.
    Down(Arc<str>),
    /// The connection broke before the answer came.
    Cut,
    /// The node does not know the script (it restarted, or its scripts were flushed).
    NoScript,
    /// It answered with an error that may pass: `LOADING`, `READONLY`, `OOM`, `MISCONF`, `BUSY` and the like.
    Refused(Arc<str>),
    /// An answer that does not fit the question.
    Odd,
}

/// Why a node is out of the count until somebody mends it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bar {
    /// A replica: what it says may be undone by its master.
    Replica,
    /// A member of a Redis Cluster, which moves and fails over keys on its own.
    Cluster,
    /// The same server as another URL of the list, named by its place.
    SameServer(u8),
    /// Wrong user, wrong password, or none given where one is needed.
    Login(Arc<str>),
    /// The user lacks a right: which, in Redis' own words.
    NoPermission(Arc<str>),
    /// The server cannot be used for another reason that will not pass by itself.
    Unfit(Arc<str>),
}

/// What an inspection saw on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sighting {
    /// Who has the key.
    pub holder: Holder,
    /// For how much longer; `None` for a key that never expires (and for one that is not there).
    pub remaining: Option<Duration>,
}

/// Who has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// Whoever wrote the value with this mark.
    Owner(Mark),
    /// A key that is not a string: no lock of ours.
    OtherType,
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted => f.write_str("granted"),
            Self::Held { remaining: Some(remaining) } => write!(f, "held by another for {remaining:?} more"),
            Self::Held { remaining: None } => f.write_str("held by another"),
            Self::Missing => f.write_str("not there"),
            Self::Seen(sighting) => sighting.fmt(f),
            Self::Barred(bar) => bar.fmt(f),
            Self::Unknown(fault) => fault.fmt(f),
        }
    }
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.holder, self.remaining) {
            (Holder::Nobody, _) => return f.write_str("free"),
            (Holder::Owner(mark), _) => write!(f, "held by #{mark}")?,
            (Holder::OtherType, _) => f.write_str("held by a key that is no lock")?,
        }
        match self.remaining {
            Some(remaining) => write!(f, " for {remaining:?} more"),
            None => f.write_str(" for ever"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no answer in time"),
            Self::Slow => f.write_str("owes earlier answers, so it was not asked"),
            Self::Down(why) => write!(f, "not connected: {why}"),
            Self::Cut => f.write_str("connection lost before the answer"),
            Self::NoScript => f.write_str("has lost its scripts"),
            Self::Refused(words) => write!(f, "cannot vote now: {words}"),
            Self::Odd => f.write_str("an answer that does not fit the question"),
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica => f.write_str("a replica: name its master instead"),
            Self::Cluster => f.write_str("a Redis Cluster member: locks need independent masters"),
            Self::SameServer(place) => {
                write!(f, "the same server as node {}: name each server once", place + 1)
            }
            Self::Login(words) => write!(f, "login refused: {words}"),
            Self::NoPermission(words) => write!(f, "permission missing: {words}"),
            Self::Unfit(words) => f.write_str(words),
        }
    }
}
