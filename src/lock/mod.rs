//! The public async API: client, builder, mutex, guard, tickets, inspection and errors.

mod acquire;
mod adopt;
mod attempt;
mod builder;
mod client;
pub(crate) mod error;
mod forget;
mod guard;
mod init;
pub(crate) mod inspect;
mod known_expiry;
mod limits;
mod lock_view;
mod mutex;
pub(crate) mod reconfigure;
mod release_outcome;
mod shutdown;
mod ticket;
mod wait_limit;

pub use builder::{Mode, RedlockBuilder};
pub use client::Redlock;
pub use guard::Guard;
pub use init::InitOutcome;
pub use lock_view::LockView;
pub use mutex::Mutex;
pub use release_outcome::ReleaseOutcome;
pub use ticket::LockTicket;
