//! The driver: the task that owns all node connections and runs all operations.
//!
//! Callers send it a [`DriverCommand`] and await the outcome. A caller that drops its
//! future also sends a command. So each node has one ordered queue: a release never overtakes its SET, all
//! requests that wait for a node go out in one write, and nothing depends on a caller's future.

mod by_id;
mod calls;
mod command;
mod event_loop;
mod link;
mod local_queue;
mod login_renewal;
mod ready;
mod shared_lease;
mod shared_quorum;
mod yield_policy;

pub(crate) use command::{CommandSender, DriverCommand, ExtendOutcome, SurveyResult};
pub(crate) use event_loop::{Driver, Options};
pub(crate) use local_queue::{Admission, LocalQueue};
pub(crate) use shared_lease::SharedLease;
pub(crate) use shared_quorum::SharedQuorum;
