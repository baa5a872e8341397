//! Checks the rosters: each epoch of a lock cluster has one, and no two servers have one seat.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::engine::{Sim, SimEvent, log_event};
use super::oracle::Oracle;
use super::plan::Fault;
use super::reconfigurations::list_of;
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
            let id = client_host.list.iter().position(|host| *host == node);
            let marker = id.and_then(|id| client_host.coordinator.expected_marker(NodeId(id as u8)));
            if marker.is_some() {
                *since = self.nanos;
            }
        }
    }

    /// What the server at the node's address remembers.
    pub(super) fn record_of(&self, node: usize) -> Option<Record> {
        record_in(&self.nodes[node].redis)
    }

    /// The roster in the data at the node's address, whether or not the server remembers it.
    pub(super) fn roster_in_data(&self, node: usize) -> Option<Arc<Roster>> {
        let text = text_in(&self.nodes[node].redis, &DataKey::Record)?;
        Record::parse(SeatId(0), false, text)?.roster
    }

    /// What all servers remember, also those without an address.
    fn records(&self) -> impl Iterator<Item = Record> {
        self.nodes.iter().flat_map(NodeHost::servers).filter_map(record_in)
    }

    /// Checks the roster that a client has written to the node.
    pub(super) fn check_roster(
        &mut self,
        node: usize,
        client: usize,
        (write, record_before): (&NodeWrite, Option<Record>),
    ) {
        let NodeWrite::Marker(write) = write else { return };
        let Some(record) = self.record_of(node).filter(|record| *record.to_text() == *write.record) else {
            return;
        };
        // It may found a lock cluster if no server that it reaches has a roster.
        let is_right = |roster: &Arc<Roster>| roster.list == node_list(self.nodes.len()).hash();
        let client_host = &self.clients[client];
        let has_other_list = client_host.has_other_list && record.roster.as_ref().is_some_and(is_right);
        // The roster of a member before the write or after it is of the client's own list, unless it reconfigures.
        let list = list_of(&client_host.list).hash();
        let is_other = |it: &Arc<Roster>| it.list != list;
        let is_outsider = client_host.goal.is_none()
            && self.plan.reconfigures()
            && self.oracle.reinitializations == 0
            && self.oracle.roster_exemption.is_none()
            && record_before.as_ref() != Some(&record)
            && [record_before.as_ref(), Some(&record)]
                .iter()
                .flatten()
                .filter_map(|it| it.roster.as_ref())
                .all(is_other)
            && record.was_member;
        if has_other_list || is_outsider {
            self.check_other_list_writes(node, client, record_before.as_ref(), &record);
        }
        if let Some((_, proposal)) = &record.accepted {
            self.oracle.proposals.insert(proposal.clone());
        }
        let seats = self.nodes.iter().flat_map(NodeHost::servers).filter_map(marker_in);
        if seats.filter(|it| it.seat == record.seat).count() > 1 {
            self.report_violation(Invariant::Membership, &format!("node {node} and another have one seat"));
        }
        let Some(roster) = record.roster.filter(|it| record.was_member && it.has(record.seat)) else {
            return;
        };
        self.note_joined(node, record.seat, &roster);
        if self.oracle.rosters.get(&(roster.cluster, roster.epoch)) == Some(&roster) {
            return;
        }
        self.check_other_list(&roster);
        let known = self.oracle.record_roster(&roster, self.nanos);
        // A recovery does not know the epochs that no server remembers or has in its data.
        if let Some(known) = known.filter(|known| known.config.quorum().is_met(self.members_of(known))) {
            let message = format!("two rosters of one epoch: {} and {}", known.to_text(), roster.to_text());
            let moved = (self.oracle.moved_until == u64::MAX).then_some(Cause::AddressesMoved);
            let exemption = moved.or(self.oracle.roster_exemption);
            self.report_breach(Invariant::Membership, exemption, &message);
        }
        self.note_new_roster(&roster);
        if self.plan.reconfigures() {
            self.check_probation(&roster);
            self.note_moved_members();
        }
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
        let is_quorum_kept = if self.plan.reconfigures() {
            self.latest_roster().is_some_and(|it| it.config.quorum().is_met(self.kept_without(&it, node)))
        } else {
            moved + self.plan.quorum.needed() < self.plan.quorum.nodes()
        };
        let node_host = &mut self.nodes[node];
        if node_host.is_down || node_host.is_replica || node_host.ghost.is_some() || !is_quorum_kept {
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
        let is_kept = |it: &Arc<Roster>| it.config.quorum().is_met(self.kept_without(it, usize::MAX));
        if !latest.values().any(is_kept) {
            self.oracle.moved_until = u64::MAX;
        }
    }

    /// How many members of the roster have kept data and address, without this one.
    fn kept_without(&self, roster: &Roster, without: usize) -> usize {
        // A member that has not learned the roster yet has its seat there too.
        let has_seat =
            |node: &usize| *node != without && self.record_of(*node).is_some_and(|it| roster.has(it.seat));
        (0..self.nodes.len()).filter(has_seat).count()
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
