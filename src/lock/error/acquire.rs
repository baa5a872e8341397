//! Why a lock was not acquired.

use std::time::Duration;

use super::key::lock;
use super::{InvalidInput, NoDriver};
use crate::view::NodeReplies;
use quorlock_proto::request::Key as LockName;

/// Why a lock was not acquired. The driver releases whatever the attempt may have left on a node.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use quorlock::AcquireError;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// match redlock.mutex("nightly").wait_timeout(Duration::from_secs(5)).acquire().await {
///     Ok(guard) => {
///         guard.release().await?;
///     }
///     Err(AcquireError::Contended { .. }) => println!("another process runs it"),
///     Err(error) if error.is_retryable() => eprintln!("later: {error}"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(()) }
/// ```
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
    /// probation. A new lock cluster can skip the probation: [`RedlockBuilder::initialize`](crate::RedlockBuilder::initialize),
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

impl AcquireError {
    /// The lock's key on the nodes, prefix and name; `None` if no name was given.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = redlock.mutex("nightly").try_acquire().await {
    ///     tracing::warn!(lock = ?error.key(), %error, "not acquired");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&LockName> {
        match self {
            Self::Contended { key, .. }
            | Self::NoQuorum { key, .. }
            | Self::OnProbation { key, .. }
            | Self::NodesExcluded { key, .. }
            | Self::TooLate { key, .. }
            | Self::NoDriver { key, .. }
            | Self::Closed { key } => Some(key),
            Self::InvalidInput(invalid) => invalid.key(),
        }
    }

    /// When a retry may succeed, if the nodes reported it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let mutex = redlock.mutex("nightly").wait_timeout(Duration::ZERO);
    /// if let Err(error) = mutex.acquire().await {
    ///     tokio::time::sleep(error.retry_after().unwrap_or(Duration::from_secs(1))).await;
    ///     let guard = mutex.acquire().await?;
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Contended { retry_after, .. } | Self::OnProbation { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The reply of each node, if requests were sent.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = redlock.mutex("nightly").try_acquire().await
    ///     && let Some(replies) = error.replies()
    /// {
    ///     for (node, reply) in replies {
    ///         eprintln!("{node}: {reply}");
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn replies(&self) -> Option<&NodeReplies> {
        match self {
            Self::Contended { replies, .. }
            | Self::NoQuorum { replies, .. }
            | Self::OnProbation { replies, .. }
            | Self::NodesExcluded { replies, .. }
            | Self::TooLate { replies, .. } => Some(replies).filter(|replies| !replies.is_empty()),
            Self::InvalidInput(_) | Self::NoDriver { .. } | Self::Closed { .. } => None,
        }
    }

    /// Whether the same call may succeed later without a change of the input, the client or the servers.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn put_back_in_queue() {}
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// match redlock.mutex("order:42").try_acquire().await {
    ///     Ok(Some(guard)) => {
    ///         guard.release().await?;
    ///     }
    ///     Ok(None) => put_back_in_queue(),
    ///     Err(error) if error.is_retryable() => put_back_in_queue(),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Contended { .. }
                | Self::NoQuorum { .. }
                | Self::OnProbation { .. }
                | Self::TooLate { .. }
                | Self::NoDriver { reason: NoDriver::Stalled, .. }
        )
    }
}

/// The cause of a contended attempt, as text.
fn contention(local: bool, replies: &NodeReplies) -> String {
    if local {
        "another task of this client holds it or waits for it".to_owned()
    } else {
        format!("held by others: {replies}")
    }
}
