//! Why a lock was not adopted.

use std::time::Duration;

use super::key::lock;
use super::{InvalidInput, NoDriver};
use crate::view::NodeReplies;
use quorlock_proto::request::Key as LockName;

/// Why a lock was not adopted. The driver releases what the adoption took, so that the lock may end with it.
///
/// # Examples
///
/// ```no_run
/// use quorlock::error::AdoptError;
///
/// # async fn example(redlock: quorlock::Redlock, ticket: quorlock::LockTicket) -> Result<(), Box<dyn std::error::Error>> {
/// let guard = match redlock.adopt(&ticket).await {
///     Ok(guard) => guard,
///     // The work was interrupted: begin it again under a lock of its own.
///     Err(AdoptError::NotHeld { .. }) => redlock.mutex("reindex").acquire().await?,
///     Err(error) => return Err(error.into()),
/// };
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// No quorum of nodes shows that the ticket's lock is held without interruption. It has expired, or was adopted,
    /// force-released or acquired by another client in the meantime. Or the client has other nodes than that of the
    /// ticket.
    #[error("{}: not adopted because it is no longer held: {replies}", lock(key))]
    #[non_exhaustive]
    NotHeld {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// Too few nodes replied.
    #[error("{}: not adopted because no quorum of nodes replied: {replies}", lock(key))]
    #[non_exhaustive]
    NoQuorum {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// Too many nodes may have lost data, or had a clock jump.
    #[error("{}: not adopted because too many nodes are on probation: {replies}", lock(key))]
    #[non_exhaustive]
    OnProbation {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The time after which enough of them vote again. The lock may expire before.
        retry_after: Option<Duration>,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// So many nodes are excluded that no quorum is left. Waiting does not help.
    #[error("{}: not adopted because too many nodes are excluded: {replies}", lock(key))]
    #[non_exhaustive]
    NodesExcluded {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// The grants came too late to be valid: the ttl is too short for this network.
    #[error("{}: adopted too late: {replies}; use a longer ttl", lock(key))]
    #[non_exhaustive]
    TooLate {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// The ticket is not for this client: it has another mode, key prefix or name. Or an option is not valid. No
    /// request was sent, so another client can still adopt the lock.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The client's driver does not reply. If it runs again, it cancels the adoption.
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

impl AdoptError {
    /// The lock's key on the nodes, prefix and name; `None` if the name in the ticket is not valid.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn report(error: &quorlock::error::AdoptError) {
    /// if let Some(key) = error.key() {
    ///     eprintln!("not adopted: {key}");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&LockName> {
        match self {
            Self::NotHeld { key, .. }
            | Self::NoQuorum { key, .. }
            | Self::OnProbation { key, .. }
            | Self::NodesExcluded { key, .. }
            | Self::TooLate { key, .. }
            | Self::NoDriver { key, .. }
            | Self::Closed { key } => Some(key),
            Self::InvalidInput(invalid) => invalid.key(),
        }
    }

    /// The reply of each node, if requests were sent.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn report(error: &quorlock::error::AdoptError) {
    /// for (node, reply) in error.replies().into_iter().flatten() {
    ///     eprintln!("{node}: {reply}");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn replies(&self) -> Option<&NodeReplies> {
        match self {
            Self::NotHeld { replies, .. }
            | Self::NoQuorum { replies, .. }
            | Self::OnProbation { replies, .. }
            | Self::NodesExcluded { replies, .. }
            | Self::TooLate { replies, .. } => Some(replies).filter(|replies| !replies.is_empty()),
            Self::InvalidInput(_) | Self::NoDriver { .. } | Self::Closed { .. } => None,
        }
    }

    /// When another adoption may succeed, if the nodes reported it and the lock lasts that long.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn wait(error: &quorlock::error::AdoptError) {
    /// if let Some(pause) = error.retry_after() {
    ///     tokio::time::sleep(pause).await; // then adopt again
    /// }
    /// # }
    /// ```
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::OnProbation { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether another adoption with the same ticket may succeed later, as long as a quorum of nodes still has the
    /// lock's keys.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock, ticket: quorlock::LockTicket) -> Result<(), quorlock::error::AdoptError> {
    /// let mut outcome = redlock.adopt(&ticket).await;
    /// if outcome.as_ref().is_err_and(|error| error.is_retryable()) {
    ///     outcome = redlock.adopt(&ticket).await;
    /// }
    /// let guard = outcome?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NoQuorum { .. }
                | Self::OnProbation { .. }
                | Self::NoDriver { reason: NoDriver::Stalled, .. }
        )
    }
}
