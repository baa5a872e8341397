//! Sends events to `tracing` and to the client's observer.

use std::sync::Arc;

use super::event::{Event, Observer};
use super::trace;

/// Where events go: always to `tracing`, and to the client's own observer if it has one.
#[derive(Clone, Default)]
pub(crate) struct Events {
    observer: Option<Arc<dyn Observer>>,
}

impl Events {
    pub(crate) fn new(observer: Option<Arc<dyn Observer>>) -> Self {
        Self { observer }
    }

    pub(crate) fn emit(&self, event: &Event<'_>) {
        trace::record(event);
        if let Some(observer) = &self.observer {
            observer.on_event(event);
        }
    }

    /// Whether a listener wants every reply. Checked first, because each operation has N of them.
    pub(crate) fn wants_replies(&self) -> bool {
        self.observer.is_some() || trace::wants_replies()
    }
}
