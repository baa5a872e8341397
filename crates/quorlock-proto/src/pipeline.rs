//! One node as the board sees it: its link, the answers it owes us, and the undos we owe it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::coordinator::OperationId;
use crate::membership::MarkerWrite;
use crate::request::{Key, OwnerToken, RequestKind};
use crate::time::{BootTime, DualTimestamp};
use crate::vote::{ExclusionReason, ReplyFailure, Vote};

/// One node's ordered queue.
///
/// Answers come in the order of the questions, so `awaiting` is matched from its front. An undo whose answer never
/// came is *owed*: it is the first thing sent on the node's next connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodePipeline {
    /// Whether questions can be sent.
    pub link: LinkState,
    /// What was sent and not yet answered, oldest first.
    pub in_flight: VecDeque<InFlight>,
    /// Undos not known done, oldest first.
    pub queued_releases: VecDeque<PendingRelease>,
    /// When to send owed undos again that the node answered with an error.
    pub retry_at: Option<DualTimestamp>,
}

/// The state of the connection to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LinkState {
    /// Ready for questions.
    Up,
    /// Not connected: why.
    Down(Arc<str>),
    /// It may not serve us: why.
    Excluded(ExclusionReason),
}

/// A question that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InFlight {
    /// When it was sent.
    pub sent: DualTimestamp,
    /// What its answer is for.
    pub expected: ExpectedReply,
}

/// What an answer is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExpectedReply {
    /// A vote in some round of some machine.
    Vote {
        /// Which machine.
        operation: OperationId,
        /// To which question.
        kind: RequestKind,
        /// In which of its rounds.
        round: u32,
    },
    /// What the node remembers; in the second try, as text.
    Marker {
        /// What it was told to remember.
        write: Option<MarkerWrite>,
        /// Whether the question went out in full.
        as_text: bool,
    },
    /// An undo.
    PendingRelease(PendingRelease),
}

/// A release that may still be needed on a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PendingRelease {
    /// The machine that wants to hear of it, while it runs.
    pub operation: OperationId,
    /// The key to free.
    pub key: Key,
    /// If it still has this token.
    pub token: OwnerToken,
    /// With which question: those who wait are called after a lock that was held, and not after a vain attempt, which
    /// would pass a call on from one to the next while somebody else has the lock.
    pub kind: RequestKind,
    /// Until when it may matter: no key of ours can outlive this.
    pub useful_until: BootTime,
}

impl NodePipeline {
    /// The lane of a node that has not been reached yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            link: LinkState::Down("still connecting".into()),
            in_flight: VecDeque::new(),
            queued_releases: VecDeque::new(),
            retry_at: None,
        }
    }

    /// The vote of a node that need not be asked: "down" and "owes an answer for longer than the node time-out"
    /// count as unknown at once, so that nobody waits for it and no queue grows for it.
    #[must_use]
    pub fn implicit_vote(&self, now: DualTimestamp, reply_timeout: Duration) -> Option<Vote> {
        match &self.link {
            LinkState::Down(why) => Some(Vote::Unknown(ReplyFailure::Disconnected(why.clone()))),
            LinkState::Excluded(exclusion) => Some(Vote::Excluded(exclusion.clone())),
            LinkState::Up if self.has_not_replied_for(now, reply_timeout) => {
                Some(Vote::Unknown(ReplyFailure::Backlogged))
            }
            LinkState::Up => None,
        }
    }

    /// Whether the node has owed an answer for `span` or longer.
    #[must_use]
    pub fn has_not_replied_for(&self, now: DualTimestamp, span: Duration) -> bool {
        self.in_flight.front().is_some_and(|oldest| now.since(oldest.sent) >= span)
    }

    /// Every undo not known done, sent or not.
    pub fn pending_releases(&self) -> impl Iterator<Item = &PendingRelease> {
        let sent = self.in_flight.iter().filter_map(|awaiting| match &awaiting.expected {
            ExpectedReply::PendingRelease(release) => Some(release),
            ExpectedReply::Vote { .. } | ExpectedReply::Marker { .. } => None,
        });
        sent.chain(&self.queued_releases)
    }
}

/// Gives back the room that a burst has taken, such as thousands of renewals at once, when it is over.
pub fn shrink_if_empty<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > RETAINED_CAPACITY {
        queue.shrink_to(RETAINED_CAPACITY);
    }
}

const RETAINED_CAPACITY: usize = 256;

impl Default for NodePipeline {
    fn default() -> Self {
        Self::new()
    }
}
