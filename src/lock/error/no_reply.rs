//! Errors of calls that get no reply because the client's driver has ended or does not run.

use super::{AcquireError, AdoptError, ExtendError, InspectError, TicketError};
use quorlock_proto::request::Key;

/// Why a client's driver does not reply. The driver does everything that involves the client's nodes.
///
/// # Examples
///
/// ```no_run
/// use quorlock::AcquireError;
/// use quorlock::error::NoDriver;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// if let Err(AcquireError::NoDriver { reason: NoDriver::Forked, .. }) = redlock.mutex("nightly").acquire().await {
///     eprintln!("this process needs a client of its own");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoDriver {
    /// The driver did not run for as long as the call may take. When it runs again, it cancels the attempts that
    /// callers have given up.
    #[error(
        "the client's driver did not reply in time: the runtime that the client was built in is blocked or not running; \
         keep it running, or build the client with `dedicated_thread(true)`"
    )]
    Stalled,
    /// This process is the child of a fork. Connections and locks belong to its parent.
    #[error("the client was built before this process was forked: build a new client after the fork")]
    Forked,
}

/// The reason why a caller gets no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum NoReply {
    Closed,
    NoDriver(NoDriver),
}

/// Every error of a lock operation has the same two variants for a missing reply.
macro_rules! no_reply {
    ($($error:ident),+) => {
        $(impl $error {
            pub(in super::super) fn no_reply(reason: NoReply, key: &Key) -> Self {
                let key = key.clone();
                match reason {
                    NoReply::Closed => Self::Closed { key },
                    NoReply::NoDriver(reason) => Self::NoDriver { key, reason },
                }
            }
        })+
    };
}
no_reply!(AcquireError, AdoptError, ExtendError, InspectError, TicketError);
