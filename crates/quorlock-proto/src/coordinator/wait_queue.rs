//! The board's part in waiting: places in lines, and whom a release leaves to wait.

use std::time::Duration;

use super::{Coordinator, Operation, OperationId, voters};
use crate::quorum::{NodeId, NodeSet};
use crate::request::{Key, RequestKind};
use crate::survey::Survey;
use crate::time::DualTimestamp;

impl Coordinator {
    /// As [`release`](Self::release), right before the next in this process takes the lock: nobody else is called.
    pub fn release_to_next(&mut self, id: OperationId, now: DualTimestamp) -> bool {
        if let Some(Operation::Lease(lease)) = self.operations.get_mut(&id).map(|entry| &mut entry.operation)
        {
            lease.release_to_local();
        }
        self.release(id, now)
    }

    /// The nodes where a lock may stand that is still kept.
    #[must_use]
    pub fn possibly_set_nodes(&self, id: OperationId) -> Option<NodeSet> {
        match &self.operations.get(&id)?.operation {
            Operation::Lease(lease) if lease.is_open() => Some(lease.possibly_set()),
            _ => None,
        }
    }

    /// Asks one node to put us in line for a key, to take us out of it, or to call the next. Tells `SurveyResult`.
    pub fn enqueue(
        &mut self,
        id: OperationId,
        node: NodeId,
        asked: (RequestKind, Key, Duration),
        now: DualTimestamp,
    ) {
        let voters = voters(&self.pipelines, None, self.limits);
        let settle_by = now.plus(self.limits.reply_timeout);
        let survey =
            Survey::of_one(node, asked, self.quorum, |node| voters.implicit_vote(node, now), settle_by);
        self.start(id, Operation::Survey(Box::new(survey)), now);
    }

    /// Whether lines may be kept on the node: on one that does not vote the holder's key may be missing, and all who
    /// stand there would be told that the lock is free.
    #[must_use]
    pub fn may_host_wait_queues(&self, node: NodeId) -> bool {
        self.membership.as_ref().is_none_or(|members| members.is_voting(node))
    }

    /// Whether the node would answer.
    #[must_use]
    pub fn is_responsive(&self, node: NodeId, now: DualTimestamp) -> bool {
        voters(&self.pipelines, None, self.limits).implicit_vote(node, now).is_none()
    }
}
