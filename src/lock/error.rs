//! The error types: one small enum per operation. Programs branch on the variants; the replies in them are for people.
//! A message about one lock starts with that lock.

mod acquire;
mod adopt;
mod connect;
mod extend;
mod forget;
mod init;
mod inspect;
mod invalid_input;
mod key;
mod no_reply;
mod reconfigure;
mod release;
mod run;
mod shutdown;
mod ticket;

pub use acquire::AcquireError;
pub use adopt::AdoptError;
pub use connect::ConnectError;
pub use extend::ExtendError;
pub use forget::ForgetError;
pub use init::InitError;
pub use inspect::InspectError;
pub use invalid_input::{InvalidInput, InvalidInputKind};
pub use no_reply::NoDriver;
pub(super) use no_reply::NoReply;
pub use reconfigure::ReconfigureError;
pub use release::ReleaseError;
pub use run::RunError;
pub use shutdown::{PendingRelease, ShutdownError};
pub use ticket::TicketError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small() {
        assert!(size_of::<AcquireError>() <= 64, "{} bytes", size_of::<AcquireError>());
        assert!(size_of::<ReleaseError>() <= 64 && size_of::<ExtendError>() <= 56);
    }
}
