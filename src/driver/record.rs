//! Who waits for what a machine has to say.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::{Span, debug_span};

use super::hold::Hold;
use super::order::{Extended, Surveyed};
use crate::protocol::attempt::Refusal;
use crate::protocol::claim::Key;
use crate::protocol::membership::Declared;
use crate::protocol::quorum::NodeId;
use crate::protocol::vote::Vote;

/// The callers of one machine.
pub(super) struct Record {
    pub(super) key: Key,
    pub(super) caller: Caller,
    /// Boxed, for most of the many locks that are held are not being renewed right now.
    renewing: Option<Box<Renewing>>,
}

/// Those who wait for a renewal that is under way.
struct Renewing {
    extending: Vec<oneshot::Sender<Extended>>,
    span: Span,
}

/// Who waits, and for what.
pub(super) enum Caller {
    /// Somebody who wants the lock.
    Acquiring(oneshot::Sender<Result<Arc<Hold>, Refusal>>),
    /// Somebody who has it.
    Holding(Arc<Hold>),
    /// Somebody who gave it up, and may want to hear how that went.
    Releasing(Option<oneshot::Sender<Vec<Vote>>>),
    /// Somebody who asked about a key.
    Surveying(oneshot::Sender<Surveyed>),
    /// Somebody who stands in line on that node.
    Standing(NodeId, oneshot::Sender<Vote>),
    /// Somebody who declares a cluster.
    Declaring(oneshot::Sender<Declared>),
}

impl Record {
    pub(super) fn new(key: Key, caller: Caller) -> Self {
        Self { key, caller, renewing: None }
    }

    /// Puts another caller in place, and gives back the one before.
    pub(super) fn replace(&mut self, caller: Caller) -> Caller {
        std::mem::replace(&mut self.caller, caller)
    }

    /// Somebody asked for an extension.
    pub(super) fn extending(&mut self, reply: oneshot::Sender<Extended>) {
        self.renewing().extending.push(reply);
    }

    /// A renewal, or an extension, has begun.
    pub(super) fn begin_renewal(&mut self) {
        let span = debug_span!("renew", key = self.key.as_str());
        if !span.is_disabled() {
            self.renewing().span = span;
        }
    }

    /// It has ended: answers everybody who asked for an extension, and gives back the span that was open meanwhile.
    pub(super) fn end_renewal(&mut self, outcome: impl Fn() -> Extended) -> Span {
        let Some(renewing) = self.renewing.take() else { return Span::none() };
        for reply in renewing.extending {
            let _ = reply.send(outcome());
        }
        renewing.span
    }

    fn renewing(&mut self) -> &mut Renewing {
        self.renewing.get_or_insert_with(|| Box::new(Renewing { extending: Vec::new(), span: Span::none() }))
    }

    fn hold(&self) -> Option<&Hold> {
        match &self.caller {
            Caller::Holding(hold) => Some(hold),
            Caller::Acquiring(_)
            | Caller::Releasing(_)
            | Caller::Surveying(_)
            | Caller::Standing(..)
            | Caller::Declaring(_) => None,
        }
    }
}

impl Drop for Record {
    /// A driver that ends, in whatever way, renews nothing any more: whoever still holds a lock is told.
    fn drop(&mut self) {
        if let Some(hold) = self.hold() {
            hold.lose();
        }
    }
}
