//! Handing a lock over to another client of a world.

use super::{AcquireOptions, KEY, World, lease_params, owner_token};
use crate::coordinator::HandedOverLock;
use crate::lease::RenewalPolicy;
use crate::request::{Key, LockSpec, OperationId, PreviousOwner};

impl World {
    /// Ends the client's lock for an adoption; `None` if it is not held.
    pub(crate) fn hand_over(&mut self, client: usize, id: OperationId) -> Option<HandedOverLock> {
        let now = self.now(client);
        let handed_over = self.clients[client].coordinator.hand_over(id, now);
        if handed_over.is_some()
            && let Some(lease) = self.clients[client].leases.get_mut(&id)
        {
            lease.has_ended = true;
        }
        self.perform_actions(client);
        handed_over
    }

    pub(crate) fn start_adoption(&mut self, client: usize, previous_owner: PreviousOwner) -> OperationId {
        self.last_id += 1;
        let (id, now) = (self.last_id, self.now(client));
        let options = AcquireOptions::default();
        let spec = LockSpec {
            key: Key::new(KEY),
            params: lease_params(options.ttl),
            want_holder_ttl: options.want_holder_ttl,
            min_fencing_number: options.min_fencing_number,
            previous_owner: Some(Box::new(previous_owner)),
        };
        let policy = RenewalPolicy { auto_renew: options.auto_renew, max_hold_time: options.max_hold_time };
        self.clients[client].coordinator.acquire(id, spec, policy, owner_token(id), now);
        self.perform_actions(client);
        id
    }
}
