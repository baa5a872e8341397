//! The replies of nodes, for people and for programs.

use std::fmt;
use std::iter;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use quorlock_proto::vote::{ExclusionReason, KeyState, ProbationReason, ReplyFailure, Vote};

/// The reply of a node to a request, or why there is none.
///
/// # Examples
///
/// ```no_run
/// use quorlock::node::NodeReply;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// for (node, reply) in &redlock.force_release("nightly").await? {
///     match reply {
///         NodeReply::Granted { .. } => println!("{node}: the key is deleted"),
///         NodeReply::NotHeld => println!("{node}: there was no key"),
///         other => eprintln!("{node}: {other}"),
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum NodeReply {
    /// It did what was requested. To a release: this lock's key was deleted.
    #[non_exhaustive]
    Granted {
        /// The fencing number that it installed, if the request was an acquire in fenced mode.
        fence: Option<u64>,
    },
    /// Another owner has the key.
    #[non_exhaustive]
    HeldByOther {
        /// The key's remaining ttl; `None` if the reply does not contain it, or if the key never expires.
        #[cfg_attr(
            feature = "serde",
            serde(
                rename = "remaining_ms",
                serialize_with = "quorlock_proto::serialize_duration::optional_millis"
            )
        )]
        remaining: Option<Duration>,
    },
    /// The key does not exist.
    NotHeld,
    /// It has granted a larger fencing number since.
    #[non_exhaustive]
    FencedOut {
        /// That number.
        fence: u64,
    },
    /// It casts no vote, because it may have lost data or its clock jumped.
    #[non_exhaustive]
    OnProbation {
        /// For how much longer.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "remaining_ms", serialize_with = "quorlock_proto::serialize_duration::millis")
        )]
        remaining: Duration,
        /// The reason.
        reason: ProbationReason,
    },
    /// The state of the key, in the reply to an inspection.
    Inspected(KeyState),
    /// It is excluded until an operator fixes it.
    Excluded(ExclusionReason),
    /// There is no clear reply. The request may or may not have been done.
    Failed(ReplyFailure),
}

impl From<Vote> for NodeReply {
    fn from(vote: Vote) -> Self {
        match vote {
            Vote::Granted => Self::Granted { fence: None },
            Vote::Fenced(fence) => Self::Granted { fence: Some(fence) },
            Vote::HeldByOther { remaining } => Self::HeldByOther { remaining },
            Vote::NotHeld => Self::NotHeld,
            Vote::FencedOut { fence } => Self::FencedOut { fence },
            Vote::OnProbation { remaining, reason } => Self::OnProbation { remaining, reason },
            Vote::Inspected(state) => Self::Inspected(state),
            Vote::Excluded(reason) => Self::Excluded(reason),
            Vote::Unknown(failure) => Self::Failed(failure),
            _ => Self::Failed(ReplyFailure::UnexpectedReply),
        }
    }
}

impl fmt::Display for NodeReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted { fence: None } => f.write_str("granted"),
            Self::Granted { fence: Some(fence) } => write!(f, "granted with fencing number {fence}"),
            Self::HeldByOther { remaining: Some(remaining) } if remaining.as_secs() == 0 => {
                write!(f, "held by another for {} ms more", remaining.as_millis())
            }
            Self::HeldByOther { remaining: Some(remaining) } => {
                write!(f, "held by another for {:.1} s more", remaining.as_secs_f64())
            }
            Self::HeldByOther { remaining: None } => f.write_str("held by another"),
            Self::NotHeld => f.write_str("not held"),
            Self::FencedOut { fence } => write!(f, "has granted a larger fencing number since: {fence}"),
            Self::OnProbation { remaining, reason } => {
                write!(f, "casts no vote for {:.1} s more: {reason}", remaining.as_secs_f64())
            }
            Self::Inspected(state) => state.fmt(f),
            Self::Excluded(reason) => reason.fmt(f),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// The reply of each node, in the order of the client's list. Empty if no request was sent.
///
/// # Examples
///
/// ```no_run
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// for (node, reply) in &redlock.force_release("nightly").await? {
///     println!("{node}: {reply}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeReplies {
    nodes: Vec<(Arc<str>, NodeReply)>,
}

/// A list of objects with the fields `node` and `reply`.
#[cfg(feature = "serde")]
impl serde::Serialize for NodeReplies {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Entry<'a> {
            node: &'a str,
            reply: &'a NodeReply,
        }
        serializer.collect_seq(self.nodes.iter().map(|(node, reply)| Entry { node, reply }))
    }
}

impl NodeReplies {
    pub(crate) fn new(names: &[Arc<str>], votes: Vec<Vote>) -> Self {
        Self { nodes: names.iter().cloned().zip(votes.into_iter().map(NodeReply::from)).collect() }
    }

    /// The address and the reply of each node.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use quorlock::node::NodeReply;
    ///
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let replies = redlock.force_release("nightly").await?;
    /// let deleted = replies.iter().filter(|(_, reply)| matches!(reply, NodeReply::Granted { .. })).count();
    /// println!("deleted on {deleted} of {} nodes", replies.len());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn iter(&self) -> <&Self as IntoIterator>::IntoIter {
        self.into_iter()
    }

    /// The number of nodes; zero if no request was sent.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let replies = redlock.forget("order:81723").await?;
    /// println!("{} nodes: {replies}", replies.len());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no request was sent.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
    /// let outcome = guard.release().await?;
    /// if outcome.replies.is_empty() {
    ///     eprintln!("the driver of the client did not reply");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl<'a> IntoIterator for &'a NodeReplies {
    type Item = (&'a str, &'a NodeReply);
    type IntoIter = iter::Map<
        slice::Iter<'a, (Arc<str>, NodeReply)>,
        fn(&'a (Arc<str>, NodeReply)) -> (&'a str, &'a NodeReply),
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.nodes.iter().map(|(node, reply)| (&**node, reply))
    }
}

impl fmt::Display for NodeReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::grouping::grouped(self.iter().map(|(node, reply)| (node, reply.to_string()))))
    }
}
