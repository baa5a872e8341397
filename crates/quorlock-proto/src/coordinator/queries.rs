//! What the coordinator knows: locks held, releases that are pending, and who owns a key.

use super::{Coordinator, Operation, OperationId};
use crate::pipeline::ExpectedReply;
use crate::quorum::NodeId;
use crate::request::{Key, OwnerHash};

impl Coordinator {
    /// Whether any lock is held, and so the clock worth a look now and then.
    #[must_use]
    pub fn has_leases(&self) -> bool {
        self.lease_count > 0
    }

    /// Whether some attempt, release or survey still runs, or some lock is still held.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.operations.is_empty()
    }

    /// The keys of locks that are still held, or lost and not yet let go.
    pub fn held_keys(&self) -> impl Iterator<Item = &Key> {
        self.operations.values().filter_map(|entry| match &entry.operation {
            Operation::Lease(lease) if lease.is_open() => Some(lease.key()),
            _ => None,
        })
    }

    /// Every undo not known done, node by node.
    pub fn pending_releases(&self) -> impl Iterator<Item = (NodeId, &Key)> {
        self.quorum.all().iter().flat_map(|node| {
            self.pipelines[node.index()].pending_releases().map(move |release| (node, &release.key))
        })
    }

    /// Whether a machine of ours works under this key with the token of this mark.
    #[must_use]
    pub fn is_own_hash(&self, key: &Key, mark: OwnerHash) -> bool {
        self.operations.values().any(|entry| match &entry.operation {
            Operation::Lease(lease) => lease.key() == key && lease.token().hash() == mark,
            Operation::Attempt(bid) => bid.attempt.spec().key == *key && bid.attempt.token().hash() == mark,
            Operation::Survey(_) => false,
        })
    }

    /// What an inspection shows of the owner of this lease.
    #[must_use]
    pub fn owner_hash(&self, id: OperationId) -> Option<OwnerHash> {
        match &self.operations.get(&id)?.operation {
            Operation::Lease(lease) => Some(lease.token().hash()),
            Operation::Attempt(_) | Operation::Survey(_) => None,
        }
    }

    /// The key that this node's next answer is about.
    #[must_use]
    pub fn next_reply_key(&self, node: NodeId) -> Option<&Key> {
        match &self.pipelines[node.index()].in_flight.front()?.expected {
            ExpectedReply::Vote { operation: of, .. } => match &self.operations.get(of)?.operation {
                Operation::Lease(lease) => Some(lease.key()),
                Operation::Attempt(bid) => Some(&bid.attempt.spec().key),
                Operation::Survey(survey) => Some(survey.key()),
            },
            ExpectedReply::PendingRelease(release) => Some(&release.key),
            ExpectedReply::Marker { .. } => None,
        }
    }
}
