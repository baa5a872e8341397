//! Events: what happens to locks and nodes.
//!
//! They go to `tracing`, with the targets `quorlock::lock`, `quorlock::node`, `quorlock::clock` and
//! `quorlock::cluster`, and to the closure of [`on_event`](crate::RedlockBuilder::on_event).

pub use crate::observe::Event;
pub use quorlock_proto::attempt::FailureReason;
pub use quorlock_proto::lease::LossReason;
