//! The errors of the public API: one enum per operation.
//!
//! Programs branch on the variants, or use [`AcquireError::is_retryable`] and its like; the texts and the replies
//! in them are for people.

pub use crate::lock::error::{
    AcquireError, AdoptError, ConnectError, ExtendError, ForgetError, InitError, InspectError, InvalidInput,
    InvalidInputKind, NoDriver, PendingRelease, ReconfigureError, ReleaseError, RunError, ShutdownError,
    TicketError,
};
pub use quorlock_proto::fence::ParseFencingTokenError;
pub use quorlock_proto::request::ParseOwnerHashError;
