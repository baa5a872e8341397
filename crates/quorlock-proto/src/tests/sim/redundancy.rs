//! How long nodes and ways have been well, and whether a lock stands on all that have.

use std::time::Duration;

use super::engine::Sim;
use super::parts::Way;
use super::tally::Invariant;
use crate::coordinator::OperationId;
use crate::quorum::{NodeId, NodeSet};
use crate::request::{Request, RequestKind};
use crate::test_util::node::DataKey;
use crate::vote::Vote;

impl Sim<'_> {
    /// Something is wrong with the node until then.
    pub(super) fn note_trouble(&mut self, node: usize, until: u64) {
        let site = &mut self.sites[node];
        site.trouble_until = site.trouble_until.max(until);
    }

    /// Something is wrong between this client and the node until then.
    pub(super) fn note_trouble_between(&mut self, who: usize, node: usize, until: u64) {
        let trouble_until = &mut self.peers[who].trouble_until[node];
        *trouble_until = until.max(*trouble_until);
    }

    /// A message will be there at that time.
    pub(super) fn note_way(&mut self, place: usize, at: u64) {
        if at > self.nanos + 2 * self.plan.way {
            let (who, node) = (self.conns[place].who, self.conns[place].node);
            self.note_trouble_between(who, node, at);
        }
    }

    /// Another owner's key stands in the way of a renewal.
    pub(super) fn note_refusal(&mut self, node: usize, request: &Request, vote: &Vote) {
        if matches!(request.kind, RequestKind::Renew | RequestKind::Reacquire)
            && matches!(vote, Vote::HeldByOther { .. })
            && let Some(id) = self.oracle.of(request.token)
        {
            self.oracle.records[id as usize].marks[node].refused_at = self.nanos;
        }
    }

    /// The nodes that have been well for two ttls of a lock that renews itself, and so have the ways to them; none if it
    /// is not old enough, or if its holder was not well.
    pub(super) fn nodes_without_trouble(&self, id: OperationId) -> NodeSet {
        let record = &self.oracle.records[id as usize];
        let (who, (least, most)) = (record.who, record.ttls);
        let peer = &self.peers[who];
        // Where a renewal is over before its answers are there, nothing is heard of what is missing.
        let has_time = least.as_nanos() as u64 / 8 > 4 * self.plan.way + self.plan.timer_late;
        let two_ttls = (most * 5 / 2 + Duration::from_millis(5)).as_nanos() as u64;
        let since = self.nanos.saturating_sub(two_ttls);
        let is_awake = peer.frozen_until <= since && peer.undisturbed_since <= since;
        let is_old = record.won_at.is_some_and(|won| won <= since);
        let is_misled = self.oracle.misled_since(who, since).is_some();
        if !record.auto_renew || !has_time || !is_old || !is_awake || is_misled {
            return NodeSet::EMPTY;
        }
        let is_well = |node: &NodeId| {
            let (site, node) = (&self.sites[node.index()], node.index());
            let is_ill = site.is_down || site.is_replica || site.errors > 0 || site.node.evicts;
            let is_up = peer.wires[node].is_some_and(|place| self.conns[place].state == Way::Up);
            let was_ill = site.trouble_until.max(peer.trouble_until[node]).max(record.marks[node].refused_at);
            let is_hurt = self.oracle.hurt_since(node, since).is_some();
            is_up && peer.votes[node] && !is_ill && was_ill < since && !is_hurt
        };
        self.plan.quorum.all().iter().filter(is_well).collect()
    }

    /// A lock that renews itself comes to stand on every node that is well, and so are the ways to it: renewals find the
    /// key missing there, and take it again.
    pub(super) fn check_redundancy(&mut self, id: OperationId) {
        if !self.profile.checks_redundancy || !self.is_valid(id) {
            return;
        }
        let slot = DataKey::Lock(self.keys[self.oracle.records[id as usize].key].clone());
        // Somebody else may be there just now, in vain.
        let is_taken = |node: &NodeId| self.sites[node.index()].node.unexpired(&slot, self.nanos).is_some();
        let bare = self
            .nodes_without_trouble(id)
            .without(self.nodes_with_key(id))
            .iter()
            .filter(|node| !is_taken(node));
        let bare: NodeSet = bare.collect();
        if !bare.is_empty() {
            let words =
                format!("lock {id} does not stand on {bare:?}, though all has been well there for two ttls");
            self.violate(Invariant::Redundancy, &words);
        }
    }
}
