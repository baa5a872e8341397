//! Who waits for what a machine has to say.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::Span;

use super::hold::Hold;
use super::order::{Extended, Surveyed};
use crate::protocol::attempt::Refusal;
use crate::protocol::claim::Key;
use crate::protocol::membership::Declared;
use crate::protocol::vote::Vote;

/// The callers of one machine.
pub(super) struct Record {
    pub(super) key: Key,
    pub(super) caller: Caller,
    pub(super) extending: Vec<oneshot::Sender<Extended>>,
    /// Open while a renewal is under way.
    pub(super) renewing: Span,
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
    /// Somebody who declares a cluster.
    Declaring(oneshot::Sender<Declared>),
}

impl Record {
    pub(super) fn new(key: Key, caller: Caller) -> Self {
        Self { key, caller, extending: Vec::new(), renewing: Span::none() }
    }

    /// Puts another caller in place, and gives back the one before.
    pub(super) fn replace(&mut self, caller: Caller) -> Caller {
        std::mem::replace(&mut self.caller, caller)
    }

    /// Answers everybody who asked for an extension.
    pub(super) fn extended(&mut self, outcome: impl Fn() -> Extended) {
        for reply in self.extending.drain(..) {
            let _ = reply.send(outcome());
        }
    }

    fn hold(&self) -> Option<&Hold> {
        match &self.caller {
            Caller::Holding(hold) => Some(hold),
            Caller::Acquiring(_) | Caller::Releasing(_) | Caller::Surveying(_) | Caller::Declaring(_) => None,
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
