//! Why a lock could not be inspected or force-released.

use super::key::lock;
use super::{InvalidInput, NoDriver};
use quorlock_proto::request::Key as LockName;

/// Why a lock could not be inspected or force-released.
///
/// # Examples
///
/// ```no_run
/// use quorlock::error::InspectError;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// match redlock.inspect("nightly").await {
///     Ok(seen) => println!("held: {}", seen.is_held()),
///     Err(InspectError::InvalidInput(invalid)) => eprintln!("{invalid}"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The name is not valid.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The client's driver does not reply.
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

impl InspectError {
    /// The lock's key on the nodes, prefix and name; `None` if no name was given.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = redlock.inspect("nightly").await {
    ///     tracing::warn!(lock = ?error.key(), %error, "not inspected");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&LockName> {
        match self {
            Self::NoDriver { key, .. } | Self::Closed { key } => Some(key),
            Self::InvalidInput(invalid) => invalid.key(),
        }
    }
}
