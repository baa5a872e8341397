//! Sends events to `tracing` and to the client's event handler.

use super::event::{Event, EventHandler};
use super::trace;
use quorlock_proto::request::RequestKind;

/// Where events go: always to `tracing`, and to the client's own handler if it has one.
#[derive(Clone, Default)]
pub(crate) struct Events {
    handler: Option<EventHandler>,
}

impl Events {
    pub(crate) fn new(handler: Option<EventHandler>) -> Self {
        Self { handler }
    }

    pub(crate) fn emit(&self, event: &Event) {
        trace::record(event);
        if let Some(handler) = &self.handler {
            handler(event);
        }
    }

    /// Emits the reply to a request of this kind. The kind is for the log alone.
    pub(crate) fn emit_reply(&self, kind: RequestKind, event: &Event) {
        trace::record_reply(kind, event);
        if let Some(handler) = &self.handler {
            handler(event);
        }
    }

    /// Whether a listener wants every reply. Checked first, because each operation has N of them.
    pub(crate) fn wants_replies(&self) -> bool {
        self.handler.is_some() || trace::wants_replies()
    }
}
