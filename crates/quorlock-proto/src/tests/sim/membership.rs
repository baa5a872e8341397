//! Who has known which node since when, and on whose word a blank one is taken in.

use super::engine::Sim;
use super::stats::Invariant;
use crate::marker::{ClusterId, Marker};
use crate::membership::MarkerWrite;
use crate::quorum::NodeId;
use crate::test_util::node::Slot;

impl Sim<'_> {
    /// Notes the nodes that this client takes for members by now.
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

    /// Notes the cluster that these nodes would be, if all were blank.
    pub(super) fn note_possible_cluster_id(&mut self) {
        let incarnations: Vec<_> = self.nodes.iter().map(|node_host| node_host.redis.incarnation()).collect();
        self.oracle.possible_cluster_ids.push(ClusterId::of_founders(incarnations.iter()));
    }

    /// A node that remembers nothing is told its cluster on the word of nodes that are there and remember it: of so many
    /// as a quorum needs, or of one by those client knew it. Or all are blank, and become one.
    pub(super) fn check_marker_write(&mut self, client: usize, node: usize, write: &MarkerWrite) {
        let (client_host, window) = (&self.clients[client], self.plan.marker_read_window());
        let is_sane = !client_host.is_misconfigured && client_host.undisturbed_since + window < self.nanos;
        if write.replaces.is_some() || self.oracle.reinitializations > 0 || !is_sane {
            return;
        }
        let id = write.identity.split(' ').nth(1).and_then(|id| u128::from_str_radix(id, 16).ok());
        let cluster = ClusterId::new(id.expect("a cluster's id in what a node is told to remember"));
        // What somebody was told a look ago may be so no more.
        let changed = |other: usize| {
            let node_host = &self.nodes[other];
            let changed_at = node_host.disturbed_until.max(self.oracle.changed_at[other]);
            node_host.errors > 0 || node_host.is_replica || changed_at + window >= self.nanos
        };
        let is_founding = self.oracle.possible_cluster_ids.contains(&cluster);
        if is_founding || (0..self.nodes.len()).any(|other| other != node && changed(other)) {
            return;
        }
        let carries = |other: &usize| {
            let entry = self.nodes[*other].redis.living(&Slot::Marker, self.nanos);
            let text = entry.and_then(|entry| entry.value.as_deref());
            let marker = text.and_then(|text| Marker::parse(std::str::from_utf8(text).ok()?));
            marker.is_some_and(|it| (it.cluster, it.config) == (cluster, self.plan.config()))
        };
        let count = (0..self.nodes.len()).filter(|other| *other != node).filter(carries).count();
        let is_known = client_host.known_since[node] < u64::MAX;
        let quorum = self.plan.quorum;
        let needed = if is_known { 1 } else { quorum.needed().min(quorum.nodes() - 1).max(1) };
        if count < needed {
            let message = format!("client {client} takes node {node} in on the word of {count} nodes");
            self.report_violation(Invariant::Membership, &message);
        }
    }
}
