//! Checks that a lock's key spreads to every undisturbed node.
//!
//! For that it records until when faults affect nodes and links.

use std::time::Duration;

use super::engine::Sim;
use super::state::LinkState;
use super::stats::Invariant;
use crate::quorum::{NodeId, NodeSet};
use crate::request::{OperationId, Request, RequestKind};
use crate::test_util::node::DataKey;
use crate::vote::Vote;

impl Sim<'_> {
    /// A fault affects the node until then.
    pub(super) fn mark_node_disturbed(&mut self, node: usize, until: u64) {
        let node_host = &mut self.nodes[node];
        node_host.disturbed_until = node_host.disturbed_until.max(until);
    }

    /// A fault affects the link between this client and the node until then.
    pub(super) fn mark_link_disturbed(&mut self, client: usize, node: usize, until: u64) {
        let disturbed_until = &mut self.clients[client].disturbed_until[node];
        *disturbed_until = until.max(*disturbed_until);
    }

    /// Counts a message with a long delay as a fault of the link.
    pub(super) fn note_slow_message(&mut self, conn_id: usize, at: u64) {
        if at > self.nanos + 2 * self.plan.latency {
            let (client, node) = (self.connections[conn_id].client, self.connections[conn_id].node);
            self.mark_link_disturbed(client, node, at);
        }
    }

    /// Records that another owner's key blocks a renewal.
    pub(super) fn note_blocked_renewal(&mut self, node: usize, request: &Request, vote: &Vote) {
        if matches!(request.kind, RequestKind::Renew | RequestKind::Reacquire)
            && matches!(vote, Vote::HeldByOther { .. })
            && let Some(id) = self.oracle.attempt_with_token(request.token)
        {
            self.oracle.records[id as usize].per_node[node].renewal_blocked_at = self.nanos;
        }
    }

    /// The nodes that, like the links to them, no fault affected for two TTLs of a lock with automatic
    /// renewal. None if the lock is younger or a fault affected its holder.
    pub(super) fn undisturbed_nodes(&self, id: OperationId) -> NodeSet {
        let record = &self.oracle.records[id as usize];
        let (client, (min_ttl, max_ttl)) = (record.client, record.ttl_range);
        let client_host = &self.clients[client];
        // If a renewal ends before its replies arrive, the holder does not learn which keys are missing.
        let has_time = min_ttl.as_nanos() as u64 / 8 > 4 * self.plan.latency + self.plan.timer_delay;
        let two_ttls = (max_ttl * 5 / 2 + Duration::from_millis(5)).as_nanos() as u64;
        let since = self.nanos.saturating_sub(two_ttls);
        let is_awake = client_host.paused_until <= since && client_host.undisturbed_since <= since;
        let is_old = record.acquired_at.is_some_and(|won| won <= since);
        let is_client_exempt = self.oracle.client_exemption_active_after(client, since).is_some();
        if !record.auto_renew || !has_time || !is_old || !is_awake || is_client_exempt {
            return NodeSet::EMPTY;
        }
        let is_undisturbed = |node: &NodeId| {
            let (node_host, node) = (&self.nodes[node.index()], node.index());
            let has_fault = node_host.is_down
                || node_host.is_replica
                || node_host.error_permille > 0
                || node_host.redis.evicts;
            let is_up = client_host.conn_ids[node]
                .is_some_and(|conn_id| self.connections[conn_id].state == LinkState::Up);
            let last_fault = node_host
                .disturbed_until
                .max(client_host.disturbed_until[node])
                .max(record.per_node[node].renewal_blocked_at);
            let is_exempt = self.oracle.node_exemption_active_after(node, since).is_some();
            is_up && client_host.is_voting[node] && !has_fault && last_fault < since && !is_exempt
        };
        client_host.list.iter().map(|node| NodeId(*node as u8)).filter(is_undisturbed).collect()
    }

    /// With automatic renewal, a lock's key spreads to every undisturbed node: renewals find it missing there
    /// and set it again.
    pub(super) fn check_redundancy(&mut self, id: OperationId) {
        if !self.profile.checks_redundancy || !self.is_valid(id) {
            return;
        }
        let slot = DataKey::Lock(self.keys[self.oracle.records[id as usize].key].clone());
        // Another client may hold the key there for the moment, without a quorum.
        let is_taken = |node: &NodeId| self.nodes[node.index()].redis.unexpired(&slot, self.nanos).is_some();
        let missing =
            self.undisturbed_nodes(id).without(self.nodes_with_key(id)).iter().filter(|node| !is_taken(node));
        let missing: NodeSet = missing.collect();
        if !missing.is_empty() {
            let message = format!(
                "lock {id} has no key on {missing:?}, though no fault affected these nodes for two TTLs"
            );
            self.report_violation(Invariant::Redundancy, &message);
        }
    }
}
