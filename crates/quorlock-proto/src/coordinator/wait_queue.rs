//! The coordinator's part in wait queues: enqueue, dequeue, and releases within one process.

use core::time::Duration;

use super::{Coordinator, Operation, implicit_votes};
use crate::quorum::{NodeId, NodeSet};
use crate::request::{Key, OperationId, RequestKind};
use crate::single_request::SingleRequest;
use crate::time::DualTimestamp;

impl Coordinator {
    /// Releases a lock as [`release`](Self::release) does, for the next task of this process. No process is
    /// notified.
    pub fn release_to_local_task(&mut self, id: OperationId, now: DualTimestamp) -> bool {
        if let Some(Operation::Lease(lease)) = self.operations.get_mut(&id).map(|entry| &mut entry.operation)
        {
            lease.set_local_release();
        }
        self.release(id, now)
    }

    /// The nodes that may have the key of a lock that is not released yet.
    #[must_use]
    pub fn possibly_set_nodes(&self, id: OperationId) -> Option<NodeSet> {
        match &self.operations.get(&id)?.operation {
            Operation::Lease(lease) if lease.is_unreleased() => Some(lease.possibly_set()),
            _ => None,
        }
    }

    /// Sends one node a request about a key's wait queue: enqueue, dequeue, notify the next process, or count the
    /// waiting ones. Emits `Replied`.
    pub fn request_one(
        &mut self,
        id: OperationId,
        node: NodeId,
        request: (RequestKind, Key, Duration),
        now: DualTimestamp,
    ) {
        let implicit_vote = implicit_votes(&self.pipelines, None, self.limits).of(node, now);
        let settle_by = now.plus(self.limits.reply_timeout);
        let single = SingleRequest::new(node, request, implicit_vote, settle_by);
        self.start(id, Operation::SingleRequest(single), now);
    }

    /// Whether wait queues may be kept on the node. On a node that does not vote the holder's key may be
    /// missing, so that waiters would learn that the lock is free.
    #[must_use]
    pub fn may_host_wait_queues(&self, node: NodeId) -> bool {
        self.membership.as_ref().is_none_or(|membership| membership.is_voting(node))
    }

    /// Whether a request would be sent to the node: it is connected, and no reply is overdue.
    #[must_use]
    pub fn is_responsive(&self, node: NodeId, now: DualTimestamp) -> bool {
        implicit_votes(&self.pipelines, None, self.limits).of(node, now).is_none()
    }
}
