//! Why a release reports a loss.

use super::key::lock;
use crate::view::NodeReplies;
use quorlock_proto::lease::LossReason;
use quorlock_proto::request::Key as LockName;

/// The lock had been lost before its release, so the work may have overlapped with that of another holder.
///
/// # Examples
///
/// ```no_run
/// use quorlock::error::ReleaseError;
///
/// # fn check_for_duplicates() {}
/// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
/// if let Err(ReleaseError::Lost { reason, .. }) = guard.release().await {
///     eprintln!("another process may have done the same work: {reason}");
///     check_for_duplicates();
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The lock was lost: its deadline had passed, or the replies show that no quorum of nodes can have had its key
    /// any more.
    #[error("{}: lost before its release: {reason}", lock(key))]
    #[non_exhaustive]
    Lost {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reason.
        reason: LossReason,
        /// The reply of each node to the release.
        replies: NodeReplies,
    },
}

impl ReleaseError {
    /// The lock's key on the nodes, prefix and name.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = guard.release().await {
    ///     tracing::warn!(lock = %error.key(), %error, "lost");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn key(&self) -> &LockName {
        match self {
            Self::Lost { key, .. } => key,
        }
    }

    /// Why the lock was lost.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use quorlock::event::LossReason;
    ///
    /// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = guard.release().await
    ///     && error.reason() == LossReason::TakenByOthers
    /// {
    ///     eprintln!("another process may have held it at the same time");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn reason(&self) -> LossReason {
        match self {
            Self::Lost { reason, .. } => *reason,
        }
    }
}
