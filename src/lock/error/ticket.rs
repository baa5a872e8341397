//! Why a lock was not made a ticket.

use super::NoDriver;
use super::key::lock;
use quorlock_proto::lease::LossReason;
use quorlock_proto::request::Key as LockName;

/// Why a lock was not made a ticket. The lock is released, unless it was lost before.
///
/// # Examples
///
/// ```no_run
/// use quorlock::error::TicketError;
///
/// # async fn example(guard: quorlock::Guard) {
/// match guard.into_ticket().await {
///     Ok(ticket) => println!("on its way until {:?}", ticket.expires_at()),
///     Err(TicketError::Lost { reason, .. }) => eprintln!("check the work, the lock was lost: {reason}"),
///     Err(error) => eprintln!("{error}"),
/// }
/// # }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// The lock had been lost before, so the work may have overlapped with that of another holder.
    #[error("{}: lost before it was handed over: {reason}", lock(key))]
    #[non_exhaustive]
    Lost {
        /// The lock's key on the nodes: prefix and name.
        key: LockName,
        /// The reason.
        reason: LossReason,
    },
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

impl TicketError {
    /// The lock's key on the nodes, prefix and name.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn report(error: &quorlock::error::TicketError) {
    /// eprintln!("not handed over: {}", error.key());
    /// # }
    /// ```
    #[must_use]
    pub const fn key(&self) -> &LockName {
        match self {
            Self::Lost { key, .. } | Self::NoDriver { key, .. } | Self::Closed { key } => key,
        }
    }
}
