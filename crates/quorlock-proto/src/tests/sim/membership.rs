//! Checks the admission of blank nodes: enough members must confirm the lock cluster that is written to them.

use super::engine::Sim;
use super::stats::Invariant;
use crate::marker::{ClusterId, Marker};
use crate::membership::MarkerWrite;
use crate::quorum::NodeId;
use crate::test_util::node::DataKey;

impl Sim<'_> {
    /// Records the nodes that this client now knows as members.
    pub(super) fn note_known_nodes(&mut self, client: usize) {
        let client_host = &mut self.clients[client];
        for (node, since) in
            client_host.known_since.iter_mut().enumerate().filter(|(_, since)| **since == u64::MAX)
        {
            if client_host.coordinator.expected_marker(NodeId(node as u8)).is_some() {
                *since = self.nanos;
            }
        }
    }

    /// Records the id of the lock cluster that the nodes would form if all were blank.
    pub(super) fn note_possible_cluster_id(&mut self) {
        let incarnations: Vec<_> = self.nodes.iter().map(|node_host| node_host.redis.incarnation()).collect();
        self.oracle.possible_cluster_ids.push(ClusterId::of_servers(incarnations.iter()));
    }

    /// Checks a marker for a blank node. As many other nodes as a quorum needs must have the same marker; one
    /// is enough if the client knew the node. Alternatively all nodes are blank and form a new lock cluster.
    pub(super) fn check_marker_write(&mut self, client: usize, node: usize, write: &MarkerWrite) {
        let (client_host, window) = (&self.clients[client], self.plan.marker_read_window());
        let is_checked = !client_host.is_misconfigured && client_host.undisturbed_since + window < self.nanos;
        if write.replaces.is_some() || self.oracle.reinitializations > 0 || !is_checked {
            return;
        }
        let id = write.identity.split(' ').nth(1).and_then(|id| u128::from_str_radix(id, 16).ok());
        let cluster = ClusterId::new(id.expect("the lock cluster's id in the marker"));
        // A marker that the client read may have changed since.
        let changed = |other: usize| {
            let node_host = &self.nodes[other];
            let changed_at = node_host.disturbed_until.max(self.oracle.changed_at[other]);
            node_host.error_permille > 0 || node_host.is_replica || changed_at + window >= self.nanos
        };
        let is_founding = self.oracle.possible_cluster_ids.contains(&cluster);
        if is_founding || (0..self.nodes.len()).any(|other| other != node && changed(other)) {
            return;
        }
        let has_marker = |other: &usize| {
            let entry = self.nodes[*other].redis.unexpired(&DataKey::Marker, self.nanos);
            let text = entry.and_then(|entry| entry.value.as_deref());
            let marker = text.and_then(|text| Marker::parse(std::str::from_utf8(text).ok()?));
            marker.is_some_and(|marker| (marker.cluster, marker.config) == (cluster, self.plan.config()))
        };
        let count = (0..self.nodes.len()).filter(|other| *other != node).filter(has_marker).count();
        let is_known = client_host.known_since[node] < u64::MAX;
        let quorum = self.plan.quorum;
        let needed = if is_known { 1 } else { quorum.needed().min(quorum.nodes() - 1).max(1) };
        if count < needed {
            let message = format!("client {client} admits node {node} confirmed by only {count} nodes");
            self.report_violation(Invariant::Membership, &message);
        }
    }
}
