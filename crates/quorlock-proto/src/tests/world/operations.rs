//! The operations a client of a world starts.

use std::time::Duration;

use super::{AcquireOptions, KEY, World, lease_params, owner_token};
use crate::coordinator::OperationEvent;
use crate::lease::RenewalPolicy;
use crate::marker::ClusterId;
use crate::membership::InitMode;
use crate::membership::InitResult;
use crate::quorum::NodeId;
use crate::request::{Key, LockSpec, OperationId, RequestKind};

impl World {
    pub(crate) fn start_acquire(&mut self, client: usize) -> OperationId {
        self.start_acquire_with(client, AcquireOptions::default())
    }

    pub(crate) fn start_acquire_with(&mut self, client: usize, options: AcquireOptions) -> OperationId {
        self.last_id += 1;
        let (id, now) = (self.last_id, self.now(client));
        let spec = LockSpec {
            key: Key::new(KEY),
            params: lease_params(options.ttl),
            want_holder_ttl: options.want_holder_ttl,
            min_fencing_number: options.min_fencing_number,
            previous_owner: None,
        };
        let policy = RenewalPolicy { auto_renew: options.auto_renew, max_hold_time: options.max_hold_time };
        self.clients[client].coordinator.acquire(id, spec, policy, owner_token(id), now);
        self.perform_actions(client);
        id
    }

    /// Acquires the lock and asserts success.
    pub(crate) fn acquire(&mut self, client: usize) -> OperationId {
        self.acquire_with(client, AcquireOptions::default())
    }

    pub(crate) fn acquire_with(&mut self, client: usize, options: AcquireOptions) -> OperationId {
        let id = self.start_acquire_with(client, options);
        self.deliver_all();
        assert!(self.is_valid(client, id), "the lock is free");
        self.take_events(client);
        id
    }

    pub(crate) fn cancel(&mut self, client: usize, id: OperationId) {
        let now = self.now(client);
        if let Some(lease) = self.clients[client].leases.get_mut(&id) {
            lease.has_ended = true;
        }
        self.clients[client].coordinator.cancel(id, now);
        self.perform_actions(client);
    }

    pub(crate) fn release(&mut self, client: usize, id: OperationId) -> bool {
        let now = self.now(client);
        if let Some(lease) = self.clients[client].leases.get_mut(&id) {
            lease.has_ended = true;
        }
        let is_known = self.clients[client].coordinator.release(id, now);
        self.perform_actions(client);
        is_known
    }

    pub(crate) fn extend(&mut self, client: usize, id: OperationId, ttl: Duration) -> bool {
        let now = self.now(client);
        let is_held = self.clients[client].coordinator.extend(id, lease_params(ttl), now);
        self.perform_actions(client);
        is_held
    }

    pub(crate) fn survey(&mut self, client: usize, kind: RequestKind) -> OperationId {
        self.last_id += 1;
        let (id, now) = (self.last_id, self.now(client));
        self.clients[client].coordinator.survey(id, kind, Key::new(KEY), now);
        self.perform_actions(client);
        id
    }

    /// Sends one node a request about the wait queue of the lock's key.
    pub(crate) fn request_one(&mut self, client: usize, node: usize, kind: RequestKind) -> OperationId {
        self.last_id += 1;
        let (id, now) = (self.last_id, self.now(client));
        let request = (kind, Key::new(KEY), Duration::ZERO);
        self.clients[client].coordinator.request_one(id, NodeId(node as u8), request, now);
        self.perform_actions(client);
        id
    }

    /// As [`initialize_as`](Self::initialize_as), without delivering its requests.
    pub(crate) fn begin_to_initialize(&mut self, client: usize, cluster_id: u128, mode: InitMode) {
        self.last_id += 1;
        let (id, now) = (self.last_id, self.now(client));
        self.clients[client].coordinator.initialize(id, ClusterId::new(cluster_id), mode, now);
        self.perform_actions(client);
    }

    /// Initializes the nodes as a new lock cluster over the client's own connections.
    pub(crate) fn initialize_as(
        &mut self,
        client: usize,
        cluster_id: u128,
        mode: InitMode,
    ) -> Option<InitResult> {
        self.begin_to_initialize(client, cluster_id, mode);
        self.deliver_all();
        self.take_events(client).into_iter().find_map(|event| match event {
            OperationEvent::Initialized(declared) => Some(declared),
            _ => None,
        })
    }
}
