//! Events: what happens to locks and nodes, for `tracing` and for the client's event handler.

mod event;
mod sink;
mod trace;

pub use event::Event;
pub(crate) use event::EventHandler;
pub(crate) use sink::Events;
