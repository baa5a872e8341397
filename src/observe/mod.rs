//! Events: what happens to locks and nodes, for `tracing` and for the client's observer.

mod event;
mod sink;
mod trace;

pub use event::{Event, Observer};
pub(crate) use sink::Events;
