//! Machines meet nodes.
//!
//! One task owns the connections and every running machine. Callers hand it an [`DriverCommand`](order::DriverCommand) and await an
//! outcome; a caller that walks away is an order too. So each node has one ordered queue: a release can never
//! overtake its SET, all that waits for a node goes out in one write, and nothing depends on a caller's future.

mod calls;
mod command;
mod event_loop;
mod link;
mod ready;
mod record;
mod shared_lease;
mod status;
mod yield_policy;

// What a driver is made of, for those who build one.
pub(crate) use crate::host::clock::now;
pub(crate) use crate::host::entropy::jitter;
pub(crate) use crate::host::{process, timer};
pub use crate::node::DialStep;
pub(crate) use crate::node::{Address, Credentials, Settings};
#[cfg(feature = "tls-rustls")]
pub(crate) use crate::node::{Tls, TlsFiles};
#[cfg(test)]
pub(crate) use command::CommandReceiver;
pub(crate) use command::{
    CommandSender, DriverCommand, ExtendOutcome, QueueEvent, QueueListener, SurveyResult,
};
pub(crate) use event_loop::{Driver, Options};
pub(crate) use shared_lease::{AdmissionReturn, SharedLease};
pub(crate) use status::NodeStatusList;
pub use status::{NodeState, NodeStatus, Probation};
