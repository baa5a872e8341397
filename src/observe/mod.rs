//! What happened, in one vocabulary for every listener.

mod event;
mod sink;
mod trace;

pub use event::{Event, Observer};
pub(crate) use sink::Events;
