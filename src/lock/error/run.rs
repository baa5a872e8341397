//! Why a run under a lock has no result.

use super::AcquireError;
use super::key::lock;
use quorlock_proto::lease::LossReason;
use quorlock_proto::request::Key as LockName;

/// Why [`Mutex::run`](crate::Mutex::run) has no result. `E` is the error of the work itself.
///
/// # Examples
///
/// ```no_run
/// use quorlock::{AcquireError, RunError};
///
/// # async fn job() -> Result<(), std::io::Error> { Ok(()) }
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// match redlock.mutex("nightly").run(async |_| job().await).await {
///     Ok(()) => println!("done"),
///     Err(RunError::Acquire(AcquireError::NoQuorum { .. })) => eprintln!("too few servers are up"),
///     Err(RunError::Lost { reason, .. }) => eprintln!("the job was cancelled: {reason}"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The lock was not acquired; the work was not started.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The lock was lost while the work ran. The work was cancelled, or it ended too late to be trusted.
    #[error("{}: lost before the work was done: {reason}", lock(key))]
    #[non_exhaustive]
    Lost {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reason.
        reason: LossReason,
    },
    /// The work failed. The lock was held until then, and is released.
    #[error("{0}")]
    Work(E),
}

impl<E> RunError<E> {
    /// The lock's key on the nodes, prefix and name; `None` if no name was given, or the work failed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn job() -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = redlock.mutex("nightly").run(async |_| job().await).await {
    ///     tracing::warn!(lock = ?error.key(), %error, "not done");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&LockName> {
        match self {
            Self::Acquire(error) => error.key(),
            Self::Lost { key, .. } => Some(key),
            Self::Work(_) => None,
        }
    }
}
