//! Why a lock was not extended.

use super::key::lock;
use super::{InvalidInput, NoDriver};
use crate::view::NodeReplies;
use quorlock_proto::request::Key as LockName;

/// Why a lock was not extended.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use quorlock::error::ExtendError;
///
/// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
/// match guard.extend(Duration::from_secs(20)).await {
///     Ok(deadline) => println!("valid for {:?}", deadline.remaining()),
///     Err(ExtendError::Lost { .. }) => return Err("the work is not done".into()),
///     Err(error) => eprintln!("valid for {:?} only: {error}", guard.remaining()),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtendError {
    /// The lock is lost. Stop the work that it protects.
    #[error("{}: the lock is lost", lock(key))]
    #[non_exhaustive]
    Lost {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
    },
    /// Too few nodes replied. The lock stays valid until its old deadline.
    #[error("{}: no quorum of nodes replied, so the deadline is unchanged: {replies}", lock(key))]
    #[non_exhaustive]
    NoQuorum {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reply of each node.
        replies: NodeReplies,
    },
    /// The ttl is not valid. The lock stays valid until its old deadline.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The client's driver does not reply. The lock stays valid until its old deadline, unless this is the child of a
    /// fork: the lock is the parent's.
    #[error("{}: {reason}", lock(key))]
    #[non_exhaustive]
    NoDriver {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reason.
        reason: NoDriver,
    },
    /// The driver has ended. The lock stays valid until its old deadline and cannot be extended any more.
    #[error("{}: the client is closed", lock(key))]
    #[non_exhaustive]
    Closed {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
    },
}

impl ExtendError {
    /// The lock's key on the nodes, prefix and name.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = guard.extend(std::time::Duration::from_secs(20)).await {
    ///     tracing::warn!(lock = ?error.key(), %error, "not extended");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&LockName> {
        match self {
            Self::Lost { key }
            | Self::NoQuorum { key, .. }
            | Self::NoDriver { key, .. }
            | Self::Closed { key } => Some(key),
            Self::InvalidInput(invalid) => invalid.key(),
        }
    }
}
