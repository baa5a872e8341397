//! What callers ask of the driver, and what it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::hold::Hold;
use crate::protocol::attempt::Refusal;
use crate::protocol::board::Id;
use crate::protocol::claim::{Claim, Key, Phase};
use crate::protocol::lease::Tenure;
use crate::protocol::membership::Declared;
use crate::protocol::quorum::NodeId;
use crate::protocol::terms::Terms;
use crate::protocol::time::Moment;
use crate::protocol::vote::Vote;

/// An order. Those with a reply answer exactly once; a reply that is dropped means the driver has ended.
pub(crate) enum Order {
    Acquire {
        id: Id,
        claim: Claim,
        tenure: Tenure,
        reply: oneshot::Sender<Result<Arc<Hold>, Refusal>>,
    },
    /// The caller of this attempt is gone. Harmless when the attempt is long over.
    Abandon(Id),
    Extend {
        id: Id,
        terms: Terms,
        reply: oneshot::Sender<Extended>,
    },
    Release {
        id: Id,
        reply: Option<oneshot::Sender<Vec<Vote>>>,
    },
    Survey {
        id: Id,
        phase: Phase,
        key: Key,
        reply: oneshot::Sender<Surveyed>,
    },
    /// Make the nodes a new cluster that votes at once.
    Declare {
        id: Id,
        is_forced: bool,
        reply: oneshot::Sender<Declared>,
    },
    Shutdown {
        deadline: Moment,
        reply: oneshot::Sender<Leftover>,
    },
}

/// How an extension ended.
pub(crate) enum Extended {
    Renewed(Moment),
    Unconfirmed(Vec<Vote>),
    Lost,
}

/// What the nodes answered to a survey, and which of the owners seen are this client's.
pub(crate) struct Surveyed {
    pub(crate) votes: Vec<Vote>,
    pub(crate) ours: Vec<bool>,
}

/// What a shutdown left undone.
#[derive(Default)]
pub(crate) struct Leftover {
    /// Keys that may still stand on a node.
    pub(crate) undone: Vec<(NodeId, Key)>,
    /// Locks that were still held.
    pub(crate) kept: Vec<Key>,
}

/// Where orders are handed in: cheap to clone, usable without a runtime.
#[derive(Clone)]
pub(crate) struct Orders {
    sender: mpsc::UnboundedSender<Order>,
    ids: Arc<AtomicU64>,
}

impl Orders {
    pub(crate) fn channel() -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, ids: Arc::default() }, receiver)
    }

    /// A name for a machine, used once.
    pub(crate) fn id(&self) -> Id {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands in an order. If the driver has ended, the order is dropped, and with it its reply.
    pub(crate) fn send(&self, order: Order) {
        let _ = self.sender.send(order);
    }
}
