//! Checks the rosters: each epoch of a lock cluster has one, and no two servers have one seat.

use super::engine::Sim;
use super::stats::Invariant;
use crate::marker::Marker;
use crate::membership::NodeWrite;
use crate::quorum::NodeId;
use crate::roster::Roster;
use crate::roster::record::Record;
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

    /// What the node remembers.
    pub(super) fn record_of(&self, node: usize) -> Option<Record> {
        let node = &self.nodes[node].redis;
        let text = |key| String::from_utf8(node.data().get(&key)?.value.clone()?).ok();
        let marker = Marker::parse(&text(DataKey::Marker)?)?;
        Record::parse(&marker, &text(DataKey::Record)?).filter(|_| marker.incarnation == node.incarnation())
    }

    /// How many servers remember that they are members of this roster.
    fn members_of(&self, roster: &Roster) -> usize {
        let is_member = |node: &usize| self.record_of(*node).is_some_and(|it| it.is_member_of(roster));
        (0..self.nodes.len()).filter(is_member).count()
    }

    /// Checks the roster that a client has written to the node.
    pub(super) fn check_roster(&mut self, node: usize, write: &NodeWrite) {
        let NodeWrite::Marker(write) = write else { return };
        let Some(record) = self.record_of(node).filter(|record| *record.to_text() == *write.record) else {
            return;
        };
        let Some(roster) = record.roster.filter(|_| record.was_member) else { return };
        let known = self.oracle.rosters.insert((roster.cluster, roster.epoch), roster.clone());
        // A recovery does not know the epochs that no server remembers or has in its data.
        if let Some(known) = known.filter(|known| *known != roster && roster.has(record.seat))
            && self.plan.quorum.is_met(self.members_of(&known))
        {
            let message = format!("two rosters of one epoch: {} and {}", known.to_text(), roster.to_text());
            self.report_violation(Invariant::Membership, &message);
        }
        let has_seat =
            |other: &usize| *other != node && self.record_of(*other).is_some_and(|it| it.seat == record.seat);
        if let Some(other) = (0..self.nodes.len()).find(has_seat) {
            self.report_violation(Invariant::Membership, &format!("nodes {node} and {other} have one seat"));
        }
    }
}
