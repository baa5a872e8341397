//! What a test reads from a world: events, locks and keys.

use std::time::Duration;

use super::{KEY, World, lock_slot, owner_token};
use crate::attempt::AttemptFailure;
use crate::coordinator::{AttemptEvent, LeaseEvent, OperationEvent};
use crate::lease::LossReason;
use crate::request::{Key, OperationId};
use crate::test_util::node::{DataKey, EPOCH};
use crate::time::DualTimestamp;
use crate::vote::Vote;

impl World {
    pub(crate) fn now(&self, client: usize) -> DualTimestamp {
        let wall =
            EPOCH.saturating_add(self.nanos).saturating_add_signed(self.clients[client].wall_offset_nanos);
        DualTimestamp::new(self.nanos, wall)
    }

    /// The events of this client since the last call.
    pub(crate) fn take_events(&mut self, client: usize) -> Vec<OperationEvent> {
        std::mem::take(&mut self.clients[client].events).into_iter().map(|(_, event)| event).collect()
    }

    pub(crate) fn take_failure(&mut self, client: usize) -> Option<AttemptFailure> {
        self.take_events(client).into_iter().find_map(|event| match event {
            OperationEvent::Attempt(AttemptEvent::Failed(failure)) => Some(failure),
            _ => None,
        })
    }

    pub(crate) fn take_loss(&mut self, client: usize) -> Option<LossReason> {
        self.take_events(client).into_iter().find_map(|event| match event {
            OperationEvent::Lease(LeaseEvent::Lost(loss)) => Some(loss),
            _ => None,
        })
    }

    pub(crate) fn take_release_votes(&mut self, client: usize) -> Option<Vec<Vote>> {
        self.take_events(client).into_iter().find_map(|event| match event {
            OperationEvent::Released(votes) => Some(votes),
            _ => None,
        })
    }

    pub(crate) fn is_valid(&self, client: usize, id: OperationId) -> bool {
        let now = self.now(client);
        self.clients[client]
            .leases
            .get(&id)
            .is_some_and(|lease| !lease.has_ended && !now.is_past(lease.deadline))
    }

    /// The fencing number of a lock that was acquired.
    pub(crate) fn fencing_number(&self, client: usize, id: OperationId) -> u64 {
        self.clients[client].leases[&id].fencing_number.expect("a fenced lock")
    }

    /// The fence of the key on this node, if there is one.
    pub(crate) fn fence(&self, node: usize) -> Option<u64> {
        let entry = self.servers[node].node.unexpired(&DataKey::Fence(Key::new(KEY)), self.nanos)?;
        std::str::from_utf8(entry.value.as_deref()?).ok()?.parse().ok()
    }

    pub(crate) fn deadline(&self, client: usize, id: OperationId) -> DualTimestamp {
        self.clients[client].leases[&id].deadline
    }

    /// How many nodes hold the key.
    pub(crate) fn key_count(&self) -> usize {
        self.servers.iter().filter(|server| server.node.unexpired(&lock_slot(), self.nanos).is_some()).count()
    }

    /// Whether the key on this node holds this attempt's owner token.
    pub(crate) fn has_key_of(&self, node: usize, id: OperationId) -> bool {
        let living = self.servers[node].node.unexpired(&lock_slot(), self.nanos);
        living.is_some_and(|entry| entry.value.as_deref() == Some(&owner_token(id).digits()))
    }

    /// The remaining ttl of the key on this node.
    pub(crate) fn remaining_ttl(&self, node: usize) -> Option<Duration> {
        self.servers[node].node.remaining_ttl(&lock_slot(), self.nanos)
    }

    /// The number of unconfirmed releases, over all nodes.
    pub(crate) fn pending_releases(&self, client: usize) -> usize {
        self.clients[client].coordinator.pending_releases().count()
    }
}
