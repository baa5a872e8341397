//! Why a name was not forgotten.

use super::key::lock;
use super::{InspectError, InvalidInput, NoDriver};
use crate::view::{NodeReplies, NodeReply};
use quorlock_proto::request::Key as LockName;

/// Why a name was not forgotten.
///
/// # Examples
///
/// ```no_run
/// use quorlock::error::ForgetError;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// match redlock.forget("order:81723").await {
///     Ok(_) => {}
///     Err(ForgetError::HeldByOthers { key, .. }) => println!("{key} is still in use"),
///     Err(ForgetError::NoQuorum { key, .. }) => println!("{key}: try again later"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// The name is not valid for a lock, or the client is in plain mode, which has no fencing numbers.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// A node has a key of this name: the lock is held, or a minority key is left of it.
    #[error("{}: not forgotten because it is held: {replies}; {}", lock(.key), free_hint(.replies))]
    #[non_exhaustive]
    HeldByOthers {
        /// The lock's key on the nodes.
        key: LockName,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// Fewer than a quorum of nodes forgot it: the others did not reply, or are excluded. The nodes that did reply have
    /// forgotten it. Call `forget` again later.
    #[error("{}: not forgotten on a quorum of nodes: {replies}{}", lock(.key), retry_hint(.replies))]
    #[non_exhaustive]
    NoQuorum {
        /// The lock's key on the nodes.
        key: LockName,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// The client's driver does not run, or not in this process.
    #[error("{}: {reason}", lock(.key))]
    #[non_exhaustive]
    NoDriver {
        /// The lock's key on the nodes.
        key: LockName,
        /// The reason.
        reason: NoDriver,
    },
    /// The client was shut down.
    #[error("{}: the client is closed", lock(.key))]
    #[non_exhaustive]
    Closed {
        /// The lock's key on the nodes.
        key: LockName,
    },
}

fn free_hint(replies: &NodeReplies) -> &'static str {
    if replies.iter().any(|(_, reply)| *reply == NodeReply::HeldByOther { remaining: None }) {
        "it never expires: free it with `quorlock force-release` (`Redlock::force_release`)"
    } else {
        "release it first, or wait until it expires"
    }
}

/// A retry does not help if nodes are excluded.
fn retry_hint(replies: &NodeReplies) -> &'static str {
    if replies.iter().any(|(_, reply)| matches!(reply, NodeReply::Excluded(_))) { "" } else { "; try again" }
}

impl From<InspectError> for ForgetError {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::InvalidInput(invalid) => Self::InvalidInput(invalid),
            InspectError::NoDriver { key, reason } => Self::NoDriver { key, reason },
            InspectError::Closed { key } => Self::Closed { key },
        }
    }
}

impl ForgetError {
    /// The lock's key on the nodes, prefix and name; `None` if no name was given.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = redlock.forget("order:81723").await {
    ///     tracing::warn!(lock = ?error.key(), %error, "not forgotten");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&LockName> {
        match self {
            Self::HeldByOthers { key, .. }
            | Self::NoQuorum { key, .. }
            | Self::NoDriver { key, .. }
            | Self::Closed { key } => Some(key),
            Self::InvalidInput(invalid) => invalid.key(),
        }
    }
}
