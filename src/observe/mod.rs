//! What happened, in one vocabulary for every listener.

mod event;
mod events;
mod trace;

pub use event::{Event, Observer};
pub(crate) use events::Events;
