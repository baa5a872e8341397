//! Who has known which node since when, and on whose word a blank one is taken in.

use super::engine::Sim;
use super::tally::Invariant;
use crate::marker::{ClusterId, Marker};
use crate::membership::MarkerWrite;
use crate::quorum::NodeId;
use crate::test_util::node::DataKey;

impl Sim<'_> {
    /// Notes the nodes that this client takes for members by now.
    pub(super) fn note_known_nodes(&mut self, who: usize) {
        let peer = &mut self.peers[who];
        for (node, since) in peer.known_since.iter_mut().enumerate().filter(|(_, since)| **since == u64::MAX)
        {
            if peer.coordinator.expected_marker(NodeId(node as u8)).is_some() {
                *since = self.nanos;
            }
        }
    }

    /// Notes the cluster that these nodes would be, if all were blank.
    pub(super) fn note_founders(&mut self) {
        let incarnations: Vec<_> = self.sites.iter().map(|site| site.node.incarnation()).collect();
        self.oracle.founder_ids.push(ClusterId::of_servers(incarnations.iter()));
    }

    /// A node that remembers nothing is told its cluster on the word of nodes that are there and remember it: of so many
    /// as a quorum needs, or of one by those who knew it. Or all are blank, and become one.
    pub(super) fn check_write(&mut self, who: usize, node: usize, write: &MarkerWrite) {
        let (peer, window) = (&self.peers[who], self.plan.look_window());
        let is_sane = !peer.is_stranger && peer.undisturbed_since + window < self.nanos;
        if write.replaces.is_some() || self.oracle.declarations > 0 || !is_sane {
            return;
        }
        let id = write.identity.split(' ').nth(1).and_then(|id| u128::from_str_radix(id, 16).ok());
        let cluster = ClusterId::new(id.expect("a cluster's id in what a node is told to remember"));
        // What somebody was told a look ago may be so no more.
        let changed = |other: usize| {
            let site = &self.sites[other];
            let changed_at = site.trouble_until.max(self.oracle.changed_at[other]);
            site.errors > 0 || site.is_replica || changed_at + window >= self.nanos
        };
        let is_founding = self.oracle.founder_ids.contains(&cluster);
        if is_founding || (0..self.sites.len()).any(|other| other != node && changed(other)) {
            return;
        }
        let carries = |other: &usize| {
            let entry = self.sites[*other].node.unexpired(&DataKey::Marker, self.nanos);
            let text = entry.and_then(|entry| entry.value.as_deref());
            let marker = text.and_then(|text| Marker::parse(std::str::from_utf8(text).ok()?));
            marker.is_some_and(|it| (it.cluster, it.config) == (cluster, self.plan.config()))
        };
        let count = (0..self.sites.len()).filter(|other| *other != node).filter(carries).count();
        let is_known = peer.known_since[node] < u64::MAX;
        let quorum = self.plan.quorum;
        let needed = if is_known { 1 } else { quorum.needed().min(quorum.nodes() - 1).max(1) };
        if count < needed {
            let words = format!("client {who} takes node {node} in on the word of {count} nodes");
            self.violate(Invariant::Membership, &words);
        }
    }
}
