//! One node as the coordinator sees it: its connection, its requests in flight, and its pending releases.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::time::Duration;

use crate::membership::NodeWrite;
use crate::request::{Key, OperationId, OwnerToken, RequestKind};
use crate::time::{BootTime, DualTimestamp};
use crate::vote::{ExclusionReason, ReplyFailure, Vote};

/// One node's ordered queue of requests.
///
/// Replies come in the order of the requests, so each reply belongs to the front of `in_flight`. A release
/// without a reply is *pending*: it is sent first on the node's next connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodePipeline {
    /// Whether requests can be sent.
    pub link: LinkState,
    /// Requests without a reply yet, oldest first.
    pub in_flight: VecDeque<InFlight>,
    /// Pending releases to be sent, oldest first.
    pub queued_releases: VecDeque<PendingRelease>,
    /// When to send releases again that failed with an error.
    pub retry_at: Option<DualTimestamp>,
}

/// The state of the connection to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LinkState {
    /// Connected.
    Up,
    /// Not connected, with the cause.
    Down(Arc<str>),
    /// Excluded, with the reason.
    Excluded(ExclusionReason),
}

/// A request without a reply yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InFlight {
    /// When it was sent.
    pub sent: DualTimestamp,
    /// What its reply will be.
    pub expected: ExpectedReply,
}

/// What a reply is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExpectedReply {
    /// A vote in a round of an operation.
    Vote {
        /// The operation.
        operation: OperationId,
        /// The kind of its request.
        kind: RequestKind,
        /// The operation's round.
        round: u32,
    },
    /// A marker reading.
    Marker {
        /// The marker that was written first.
        write: Option<NodeWrite>,
        /// Whether the script was sent as text, as in the second try.
        as_text: bool,
    },
    /// The reply to a release.
    PendingRelease(PendingRelease),
}

/// A release that is not known to be done on a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PendingRelease {
    /// The operation that gets the vote, while it runs.
    pub operation: OperationId,
    /// The key to delete.
    pub key: Key,
    /// The owner token that the key must have.
    pub token: OwnerToken,
    /// The kind of release. Waiters are notified after a held lock, but not after a failed attempt: each
    /// would pass the notification on while another client holds the lock.
    pub kind: RequestKind,
    /// No key of this operation lives longer than this, so the release is dropped then.
    pub useful_until: BootTime,
}

impl NodePipeline {
    /// The pipeline of a node that was not connected yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            link: LinkState::Down("still connecting".into()),
            in_flight: VecDeque::new(),
            queued_releases: VecDeque::new(),
            retry_at: None,
        }
    }

    /// The vote of a node to which no request is sent. A node that is down, or whose reply is overdue by the
    /// reply timeout, votes unknown at once: no operation waits for it, and its queue does not grow.
    #[must_use]
    pub fn implicit_vote(&self, now: DualTimestamp, reply_timeout: Duration) -> Option<Vote> {
        match &self.link {
            LinkState::Down(cause) => Some(Vote::Unknown(ReplyFailure::Disconnected(cause.clone()))),
            LinkState::Excluded(exclusion) => Some(Vote::Excluded(exclusion.clone())),
            LinkState::Up if self.has_not_replied_for(now, reply_timeout) => {
                Some(Vote::Unknown(ReplyFailure::Backlogged))
            }
            LinkState::Up => None,
        }
    }

    /// Whether the oldest request in flight was sent `span` ago or earlier.
    #[must_use]
    pub fn has_not_replied_for(&self, now: DualTimestamp, span: Duration) -> bool {
        self.in_flight.front().is_some_and(|oldest| now.since(oldest.sent) >= span)
    }

    /// All pending releases, sent or not.
    pub fn pending_releases(&self) -> impl Iterator<Item = &PendingRelease> {
        let sent = self.in_flight.iter().filter_map(|in_flight| match &in_flight.expected {
            ExpectedReply::PendingRelease(release) => Some(release),
            ExpectedReply::Vote { .. } | ExpectedReply::Marker { .. } => None,
        });
        sent.chain(&self.queued_releases)
    }
}

/// Frees the memory of an empty queue after a burst, such as thousands of renewals at once.
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
