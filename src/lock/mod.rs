//! The public async API: client, builder, mutex, guard and errors.

mod acquire;
mod adopt;
mod builder;
mod client;
pub(crate) mod error;
mod forget;
mod guard;
mod init;
pub(crate) mod inspect;
mod limits;
mod mutex;
mod queue;
mod release_outcome;
mod shutdown;
mod ticket;
mod wait_limit;

pub use builder::{Mode, RedlockBuilder};
pub use client::Redlock;
pub use guard::{Guard, LockView};
pub use init::InitOutcome;
pub use mutex::Mutex;
pub use release_outcome::ReleaseOutcome;
pub use ticket::LockTicket;
