//! Checks the rosters: each epoch of a lock cluster has one, and no two servers have one seat.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::engine::{Sim, SimEvent, log_event};
use super::oracle::Oracle;
use super::plan::Fault;
use super::situations::Situation;
use super::state::{LinkState, NodeHost};
use super::stats::{Cause, Invariant};
use crate::marker::{ClusterId, Marker};
use crate::membership::NodeWrite;
use crate::quorum::NodeId;
use crate::roster::record::Record;
use crate::roster::{Epoch, Roster, SeatId};
use crate::test_util::founding::node_list;
use crate::test_util::node::{Data, DataKey, SimulatedNode};

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

    /// What the server at the node's address remembers.
    pub(super) fn record_of(&self, node: usize) -> Option<Record> {
        record_in(&self.nodes[node].redis)
    }

    /// What all servers remember, also those without an address.
    fn records(&self) -> impl Iterator<Item = Record> {
        self.nodes.iter().flat_map(NodeHost::servers).filter_map(record_in)
    }

    /// Checks the roster that a client has written to the node.
    pub(super) fn check_roster(&mut self, node: usize, client: usize, write: &NodeWrite) {
        let NodeWrite::Marker(write) = write else { return };
        let Some(record) = self.record_of(node).filter(|record| *record.to_text() == *write.record) else {
            return;
        };
        // It may found a lock cluster if no server that it reaches has a roster.
        let is_right = |roster: &Arc<Roster>| roster.list == node_list(self.nodes.len()).hash();
        if self.clients[client].has_other_list && record.roster.as_ref().is_some_and(is_right) {
            let message = format!("client {client}, which has another list, has changed node {node}");
            self.report_violation(Invariant::Membership, &message);
        }
        let seats = self.nodes.iter().flat_map(NodeHost::servers).filter_map(marker_in);
        if seats.filter(|it| it.seat == record.seat).count() > 1 {
            self.report_violation(Invariant::Membership, &format!("node {node} and another have one seat"));
        }
        let Some(roster) = record.roster.filter(|it| record.was_member && it.has(record.seat)) else {
            return;
        };
        let known = self.oracle.rosters.insert((roster.cluster, roster.epoch), roster.clone());
        if known.as_ref() == Some(&roster) {
            return;
        }
        // A recovery does not know the epochs that no server remembers or has in its data.
        if let Some(known) = known.filter(|known| self.plan.quorum.is_met(self.members_of(known))) {
            let message = format!("two rosters of one epoch: {} and {}", known.to_text(), roster.to_text());
            let exemption = (self.oracle.moved_until == u64::MAX).then_some(Cause::AddressesMoved);
            self.report_breach(Invariant::Membership, exemption, &message);
        }
        self.note_new_roster(&roster);
        self.check_fence_base(&roster);
    }

    /// A majority of the earlier roster's members has reported the largest number that it gave out. So the roster
    /// has a larger one than each lock so far, unless a recovery had no such majority or a clock was set back.
    fn check_fence_base(&mut self, roster: &Roster) {
        let is_clock_fault = |fault: &Fault| {
            matches!(fault, Fault::ClockSetBack | Fault::RestartClockBehind | Fault::FastNodeClock)
        };
        // After a recovery or a founding, too few servers may remember the largest number.
        let first = Epoch::default().after_recovery();
        let is_replaced = roster.cluster != ClusterId::new(0xc1)
            || self
                .oracle
                .rosters
                .values()
                .any(|it| it.epoch > roster.epoch || it.is_recovery() && it.epoch != first);
        if is_replaced
            || roster.is_recovery()
            || !self.plan.is_all_fenced()
            || self.plan.faults.iter().any(is_clock_fault)
        {
            return;
        }
        if let Some(number) = self
            .oracle
            .records
            .iter()
            .filter(|it| it.deadline.is_some())
            .filter_map(|it| it.fencing_number)
            .max()
            && roster.fence_base < number
        {
            let message =
                format!("a lock has the number {number}, which the roster {} allows again", roster.to_text());
            self.report_violation(Invariant::GrantOrder, &message);
        }
    }

    /// How many servers remember that they are members of this roster.
    pub(super) fn members_of(&self, roster: &Roster) -> usize {
        self.records().filter(|it| it.is_member_of(roster)).count()
    }

    /// Moves the address to another server.
    pub(super) fn move_address(&mut self, node: usize) -> bool {
        // A quorum keeps its addresses.
        let moved = self.nodes.iter().filter(|it| it.ghost.is_some()).count();
        let node_host = &mut self.nodes[node];
        if node_host.is_down
            || node_host.is_replica
            || node_host.ghost.is_some()
            || moved + self.plan.quorum.needed() >= self.plan.quorum.nodes()
        {
            return false;
        }
        let data = if self.rng.chance_permille(500) { Data::new() } else { node_host.redis.data().clone() };
        let (what, situation) = if data.is_empty() {
            ("a blank server", Situation::MovedToBlankServer)
        } else {
            ("a copy", Situation::MovedToCopy)
        };
        self.stats.count_situation(situation);
        node_host.ghost = Some((node_host.redis.clone(), node_host.server_run));
        node_host.redis.restart(data);
        node_host.server_run += 1;
        log_event!(self, "the address of node {node} moves to {what}");
        self.on_data_change(node, true);
        true
    }

    /// Runs a request on the server that had the address before; a second call ends that.
    pub(super) fn swap_ghost(&mut self, node: usize, is_ghost: bool) {
        let node_host = &mut self.nodes[node];
        if let Some((ghost, _)) = node_host.ghost.as_mut().filter(|_| is_ghost) {
            std::mem::swap(ghost, &mut node_host.redis);
            self.oracle.is_ghost = !self.oracle.is_ghost;
        }
    }

    /// The server without an address stops.
    pub(super) fn end_ghost(&mut self, node: usize) {
        let Some((_, run)) = self.nodes[node].ghost.take() else { return };
        for conn_id in 0..self.connections.len() {
            let conn = &self.connections[conn_id];
            if conn.node == node && conn.server_run == run && conn.state != LinkState::Cut {
                self.cut_connection(conn_id, 0);
                let delay = self.message_delay();
                self.schedule_after(delay, SimEvent::ConnectionLost(conn_id));
            }
        }
        self.mark_node_disturbed(node, self.nanos);
        if self.nodes.iter().all(|it| it.ghost.is_none()) {
            let now = self.nanos;
            let Oracle { moved_until, ghosts_until, .. } = &mut self.oracle;
            for until in [moved_until, ghosts_until].into_iter().filter(|until| **until == u64::MAX) {
                *until = now;
            }
        }
    }

    /// Notes whether there are servers without an address, and whether fewer than q members of the roster in force
    /// have kept data and address meanwhile.
    pub(super) fn note_moved_members(&mut self) {
        if self.nodes.iter().all(|it| it.ghost.is_none()) {
            return;
        }
        self.oracle.ghosts_until = u64::MAX;
        // Of lock clusters that were founded beside each other, at most one has a quorum of the addresses.
        let mut latest: BTreeMap<ClusterId, Arc<Roster>> = BTreeMap::new();
        for roster in self.records().filter_map(|it| it.roster) {
            let known = latest.entry(roster.cluster).or_insert_with(|| roster.clone());
            if known.epoch < roster.epoch {
                *known = roster;
            }
        }
        // A member that has not learned the roster yet has its seat there too.
        let at_addresses: Vec<SeatId> =
            (0..self.nodes.len()).filter_map(|node| Some(self.record_of(node)?.seat)).collect();
        let kept = |roster: &Arc<Roster>| at_addresses.iter().filter(|seat| roster.has(**seat)).count();
        if !latest.values().any(|roster| self.plan.quorum.is_met(kept(roster))) {
            self.oracle.moved_until = u64::MAX;
        }
    }
}

/// The marker of a server that remembers.
fn marker_in(server: &SimulatedNode) -> Option<Marker> {
    let marker = Marker::parse(text_in(server, &DataKey::Marker)?)?;
    (marker.incarnation == server.incarnation()).then_some(marker)
}

fn record_in(server: &SimulatedNode) -> Option<Record> {
    let marker = marker_in(server)?;
    Record::parse(marker.seat, marker.was_member, text_in(server, &DataKey::Record)?)
}

fn text_in<'a>(server: &'a SimulatedNode, key: &DataKey) -> Option<&'a str> {
    std::str::from_utf8(server.data().get(key)?.value.as_ref()?).ok()
}
