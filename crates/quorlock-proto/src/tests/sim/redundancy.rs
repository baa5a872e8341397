//! How long nodes and ways have been well, and whether a lock stands on all that have.

use std::time::Duration;

use super::engine::Sim;
use super::state::LinkState;
use super::stats::Invariant;
use crate::coordinator::OperationId;
use crate::quorum::{NodeId, NodeSet};
use crate::request::{Request, RequestKind};
use crate::test_util::node::Slot;
use crate::vote::Vote;

impl Sim<'_> {
    /// Something is wrong with the node until then.
    pub(super) fn mark_node_disturbed(&mut self, node: usize, until: u64) {
        let node_host = &mut self.nodes[node];
        node_host.disturbed_until = node_host.disturbed_until.max(until);
    }

    /// Something is wrong between this client and the node until then.
    pub(super) fn mark_link_disturbed(&mut self, client: usize, node: usize, until: u64) {
        let disturbed_until = &mut self.clients[client].disturbed_until[node];
        *disturbed_until = until.max(*disturbed_until);
    }

    /// A message will be there at that time.
    pub(super) fn note_slow_message(&mut self, conn_id: usize, at: u64) {
        if at > self.nanos + 2 * self.plan.latency {
            let (client, node) = (self.connections[conn_id].client, self.connections[conn_id].node);
            self.mark_link_disturbed(client, node, at);
        }
    }

    /// Another owner's key stands in the way of a renewal.
    pub(super) fn note_blocked_renewal(&mut self, node: usize, request: &Request, vote: &Vote) {
        if matches!(request.phase, RequestKind::Renew | RequestKind::Reacquire)
            && matches!(vote, Vote::HeldByOther { .. })
            && let Some(id) = self.oracle.attempt_with_token(request.token)
        {
            self.oracle.records[id as usize].per_node[node].renewal_blocked_at = self.nanos;
        }
    }

    /// The nodes that have been well for two ttls of a lock that renews itself, and so have the ways to them; none if it
    /// is not old enough, or if its holder was not well.
    pub(super) fn undisturbed_nodes(&self, id: OperationId) -> NodeSet {
        let record = &self.oracle.records[id as usize];
        let (client, (least, most)) = (record.client, record.ttls);
        let client_host = &self.clients[client];
        // Where a renewal is over before its answers are there, nothing is heard of what is missing.
        let has_time = least.as_nanos() as u64 / 8 > 4 * self.plan.latency + self.plan.timer_delay;
        let two_ttls = (most * 5 / 2 + Duration::from_millis(5)).as_nanos() as u64;
        let since = self.nanos.saturating_sub(two_ttls);
        let is_awake = client_host.frozen_until <= since && client_host.undisturbed_since <= since;
        let is_old = record.won_at.is_some_and(|won| won <= since);
        let is_client_exempt = self.oracle.client_exemption_since(client, since).is_some();
        if !record.auto_renew || !has_time || !is_old || !is_awake || is_client_exempt {
            return NodeSet::EMPTY;
        }
        let is_well = |node: &NodeId| {
            let (node_host, node) = (&self.nodes[node.index()], node.index());
            let is_ill =
                node_host.is_down || node_host.is_replica || node_host.errors > 0 || node_host.redis.evicts;
            let is_up = client_host.conn_ids[node]
                .is_some_and(|conn_id| self.connections[conn_id].state == LinkState::Up);
            let was_ill = node_host
                .disturbed_until
                .max(client_host.disturbed_until[node])
                .max(record.per_node[node].renewal_blocked_at);
            let is_exempt = self.oracle.node_exemption_since(node, since).is_some();
            is_up && client_host.votes[node] && !is_ill && was_ill < since && !is_exempt
        };
        self.plan.quorum.all().iter().filter(is_well).collect()
    }

    /// A lock that renews itself comes to stand on every node that is well, and so are the ways to it: renewals find the
    /// key missing there, and take it again.
    pub(super) fn check_redundancy(&mut self, id: OperationId) {
        if !self.profile.checks_redundancy || !self.is_valid(id) {
            return;
        }
        let slot = Slot::Lock(self.keys[self.oracle.records[id as usize].key].clone());
        // Somebody else may be there just now, in vain.
        let is_taken = |node: &NodeId| self.nodes[node.index()].redis.living(&slot, self.nanos).is_some();
        let missing =
            self.undisturbed_nodes(id).without(self.nodes_with_key(id)).iter().filter(|node| !is_taken(node));
        let missing: NodeSet = missing.collect();
        if !missing.is_empty() {
            let message = format!(
                "lock {id} does not stand on {missing:?}, though all has been well there for two ttls"
            );
            self.report_violation(Invariant::Redundancy, &message);
        }
    }
}
