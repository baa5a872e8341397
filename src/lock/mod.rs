//! The public async API: client, builder, mutex, guard and errors.

mod acquire;
mod builder;
mod client;
mod error;
mod forget;
mod grouping;
mod guard;
mod init;
mod inspect;
mod limits;
mod mutex;
mod queue;
mod replies;
mod shutdown;
mod wait_limit;

pub use builder::RedlockBuilder;
pub use client::Redlock;
pub use error::{
    AcquireError, ConnectError, ExtendError, ForgetError, InitError, InspectError, InvalidInput, NoDriver,
    ReleaseError, RunError, ShutdownError,
};
pub use guard::{Guard, LockView, LostSignal};
pub use init::InitOutcome;
pub use inspect::{Inspection, NodeInspection};
pub use mutex::Mutex;
pub use replies::{NodeReplies, NodeReplyEntry, ReleaseOutcome};
