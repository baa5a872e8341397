//! Queries to the coordinator: held locks, pending releases, and the owner of a key.

use core::time::Duration;

use super::{Coordinator, Operation};
use crate::pipeline::ExpectedReply;
use crate::quorum::NodeId;
use crate::request::{Key, OperationId, OwnerHash};

impl Coordinator {
    /// Whether any lock is held, so that the clock must be read regularly.
    #[must_use]
    pub fn has_leases(&self) -> bool {
        self.lease_count > 0
    }

    /// Whether any operation runs, a held lock included.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.operations.is_empty()
    }

    /// The keys of locks that are held, or lost and not yet released.
    pub fn held_keys(&self) -> impl Iterator<Item = &Key> {
        self.operations.values().filter_map(|entry| match &entry.operation {
            Operation::Lease(lease) if lease.is_unreleased() => Some(lease.key()),
            _ => None,
        })
    }

    /// All pending releases, node by node.
    pub fn pending_releases(&self) -> impl Iterator<Item = (NodeId, &Key)> {
        self.quorum.all().iter().flat_map(|node| {
            self.pipelines[node.index()].pending_releases().map(move |release| (node, &release.key))
        })
    }

    /// Whether an attempt or a lease of this client has this key and an owner token with this hash.
    #[must_use]
    pub fn is_own_hash(&self, key: &Key, owner_hash: OwnerHash) -> bool {
        self.operations.values().any(|entry| match &entry.operation {
            Operation::Lease(lease) => lease.key() == key && lease.token().hash() == owner_hash,
            Operation::Attempt(attempt_entry) => {
                attempt_entry.attempt.spec().key == *key && attempt_entry.attempt.token().hash() == owner_hash
            }
            Operation::Survey(_) | Operation::SingleRequest(_) => false,
        })
    }

    /// The owner hash that an inspection shows for this lease.
    #[must_use]
    pub fn owner_hash(&self, id: OperationId) -> Option<OwnerHash> {
        match &self.operations.get(&id)?.operation {
            Operation::Lease(lease) => Some(lease.token().hash()),
            Operation::Attempt(_) | Operation::Survey(_) | Operation::SingleRequest(_) => None,
        }
    }

    /// The ttl with which this lease renews itself.
    #[must_use]
    pub fn lease_ttl(&self, id: OperationId) -> Option<Duration> {
        match &self.operations.get(&id)?.operation {
            Operation::Lease(lease) => Some(lease.ttl()),
            Operation::Attempt(_) | Operation::Survey(_) | Operation::SingleRequest(_) => None,
        }
    }

    /// The key that this node's next reply is about.
    #[must_use]
    pub fn next_reply_key(&self, node: NodeId) -> Option<&Key> {
        match &self.pipelines[node.index()].in_flight.front()?.expected {
            ExpectedReply::Vote { operation: id, .. } => match &self.operations.get(id)?.operation {
                Operation::Lease(lease) => Some(lease.key()),
                Operation::Attempt(attempt_entry) => Some(&attempt_entry.attempt.spec().key),
                Operation::Survey(survey) => Some(survey.key()),
                Operation::SingleRequest(single) => Some(single.key()),
            },
            ExpectedReply::PendingRelease(release) => Some(&release.key),
            ExpectedReply::Marker { .. } => None,
        }
    }
}
