//! Faults of nodes: their server process, their data and their clock.

use super::engine::{Repair, Sim, SimEvent, log_event};
use super::plan::Fault;
use super::situations::Situation;
use super::state::{ClientHost, LinkState};
use super::stats::Cause;
use crate::marker::Marker;
use crate::test_util::node::{Data, DataKey, EPOCH};

impl Sim<'_> {
    pub(super) fn restart_node(&mut self, fault: Fault, node: usize) -> bool {
        if self.nodes[node].is_down {
            return false;
        }
        self.end_ghost(node);
        let node_host = &mut self.nodes[node];
        let data = match fault {
            Fault::Restart => node_host.redis.data().clone(),
            Fault::RestartStaleData | Fault::RestartClockBehind => {
                node_host.saved_copy.clone().unwrap_or_default()
            }
            _ => Data::new(),
        };
        node_host.redis.restart(data);
        node_host.server_run += 1;
        node_host.is_down = true;
        node_host.is_replica = false;
        node_host.paused_until = 0;
        (node_host.swapped_out, node_host.marker_at_reset) = (None, None);
        log_event!(self, "node {node}: {fault:?}");
        self.on_data_change(node, fault != Fault::Restart);
        for conn_id in 0..self.connections.len() {
            if self.connections[conn_id].node == node && self.connections[conn_id].state != LinkState::Cut {
                self.cut_connection(conn_id, 0);
                let delay = self.message_delay();
                self.schedule_after(delay, SimEvent::ConnectionLost(conn_id));
            }
        }
        let downtime = self.random_nanos();
        self.schedule_after(downtime, SimEvent::Repair(Repair::NodeUp(node)));
        if fault == Fault::RestartClockBehind && self.nodes[node].clock_behind_by == 0 {
            self.set_clock_behind(node, downtime);
        }
        true
    }

    /// Sets the node's clock behind until after its restart. The correction comes before any client that knew
    /// the node may count its votes.
    fn set_clock_behind(&mut self, node: usize, downtime: u64) {
        let max_ttl = self.plan.max_ttl_nanos();
        let by = self.rng.log_uniform(max_ttl / 4, 4 * max_ttl);
        (self.nodes[node].clock_behind_by, self.nodes[node].clock_behind_since) = (by as i64, self.nanos);
        self.shift_node_clock(node, -(by as i64));
        let delay = downtime + self.rng.log_uniform(1_000_000, max_ttl);
        self.schedule_after(delay, SimEvent::Repair(Repair::CorrectClock(node)));
    }

    pub(super) fn correct_clock(&mut self, node: usize) {
        let by = std::mem::take(&mut self.nodes[node].clock_behind_by);
        if by == 0 {
            return;
        }
        self.shift_node_clock(node, by);
        let since = self.nodes[node].clock_behind_since;
        let is_early = self.nanos < since + self.plan.min_probation_nanos();
        if self.plan.is_all_fenced()
            && is_early
            && self.oracle.node_exemption_active_after(node, since).is_none()
        {
            // The node has granted no lock since. Only new clients, which rely on its clock alone, take its
            // probation as over. That needs a wrong wall clock: theirs, or that of the client that wrote the
            // marker.
            if !self.are_wall_clocks_right() {
                self.oracle.exempt_node(node, self.nanos, Cause::ClockBehindAtStart);
            }
        } else {
            self.oracle.exempt_node(node, self.nanos, Cause::NodeClock);
        }
    }

    /// Whether all wall clocks stay right, within half of the difference that two clients may have.
    fn are_wall_clocks_right(&self) -> bool {
        let is_wrong = |client_host: &ClientHost| {
            let wall = client_host.clocks.read(self.nanos).wall_nanos();
            wall.abs_diff(EPOCH + self.nanos) > self.plan.max_ttl_nanos() / 50
        };
        let wall_clock_faults =
            [Fault::WallClockSet, Fault::VmStopUndetected, Fault::SlowClientClock, Fault::ClientSuspend];
        !self.plan.faults.iter().any(|fault| wall_clock_faults.contains(fault))
            && !self.clients.iter().any(is_wrong)
    }

    /// Evicts random keys, as a node with full memory does.
    pub(super) fn evict(&mut self, node: usize) {
        // Keys without an expiry stay: the marker and what lies beside it.
        let data = self.nodes[node].redis.data().iter();
        let slots: Vec<DataKey> =
            data.filter(|(_, value)| value.expires.is_some()).map(|(slot, _)| slot.clone()).collect();
        let (mut evicted, mut lost_fences) = (Vec::new(), false);
        for slot in slots {
            if self.rng.chance_permille(600) {
                lost_fences |= matches!(slot, DataKey::Fence(_));
                evicted.push(slot);
            }
        }
        if evicted.is_empty() {
            return;
        }
        log_event!(self, "node {node} evicts {evicted:?}");
        self.nodes[node].redis.evict(&evicted);
        self.on_data_change(node, lost_fences);
        let window = self.plan.marker_read_window();
        if self.nodes[node].evicts_since.saturating_add(window) >= self.nanos {
            // Clients that have not read the marker since still count the node's votes.
            self.oracle.exempt_node(node, self.nanos + window, Cause::EvictionUndetected);
        }
    }

    /// Resets the node's statistics, which may be the only trace of its evictions.
    pub(super) fn reset_statistics(&mut self, node: usize) -> bool {
        let was_loss_visible = !self.marker_matches_incarnation(node);
        self.nodes[node].redis.reset_stats();
        // The swapped-out data return later, with their own marker.
        let swapped_out_marker =
            self.nodes[node].swapped_out.as_ref().map(|data| data.get(&DataKey::Marker)?.value.clone());
        self.nodes[node].marker_at_reset = swapped_out_marker.unwrap_or_else(|| self.marker_bytes(node));
        log_event!(self, "node {node}'s statistics are reset");
        if was_loss_visible && !self.nodes[node].eviction_was_recorded {
            self.exempt_statistics_reset(node);
        }
        true
    }

    /// Exempts the node if a data loss is no longer visible: the marker matches the node's incarnation, with
    /// counters as at its writing. No client has written the marker since the reset.
    fn exempt_statistics_reset(&mut self, node: usize) {
        let marker = self.marker_bytes(node);
        if marker.is_some()
            && marker == self.nodes[node].marker_at_reset
            && self.marker_matches_incarnation(node)
        {
            log_event!(self, "the data loss of node {node} is no longer visible");
            self.oracle.exempt_node(node, self.nanos, Cause::StatisticsReset);
        }
    }

    /// Whether its marker names its present incarnation, or the one after the eviction policy ends.
    fn marker_matches_incarnation(&self, node: usize) -> bool {
        let text = self.marker_bytes(node);
        let marker = text.and_then(|text| Marker::parse(std::str::from_utf8(&text).ok()?));
        let mut node = self.nodes[node].redis.clone();
        node.evicts = false;
        marker.is_some_and(|marker| marker.incarnation == node.incarnation())
    }

    fn marker_bytes(&self, node: usize) -> Option<Vec<u8>> {
        self.nodes[node].redis.data().get(&DataKey::Marker)?.value.clone()
    }

    /// Swaps the earlier data back.
    pub(super) fn swap_back(&mut self, node: usize) {
        let Some(data) = self.nodes[node].swapped_out.take() else { return };
        log_event!(self, "node {node}'s databases are swapped back");
        self.nodes[node].redis.swap(data);
        self.on_data_change(node, true);
        self.exempt_statistics_reset(node);
        // Clients that have not read the marker since find the marker that they know.
        let until = self.nanos + self.plan.marker_read_window();
        self.oracle.exempt_node(node, until, Cause::RoleChangeUndetected);
    }

    pub(super) fn lose_data(&mut self, fault: Fault, node: usize) -> bool {
        if self.nodes[node].is_down {
            return false;
        }
        match fault {
            Fault::Flush => {
                log_event!(self, "node {node} is flushed");
                let node_host = &mut self.nodes[node];
                node_host.redis.flush();
                node_host.swapped_out = node_host.swapped_out.take().map(|_| Data::new());
                self.on_data_change(node, true);
            }
            Fault::DatabaseSwap => {
                if self.nodes[node].swapped_out.is_some() {
                    return false;
                }
                log_event!(self, "node {node}'s databases are swapped: it has no data");
                self.nodes[node].swapped_out = Some(self.nodes[node].redis.swap(Data::new()));
                self.on_data_change(node, true);
                return self.schedule_repair(Repair::SwapBack(node));
            }
            Fault::KeyDeleted => {
                let key = self.keys[self.rng.index(self.keys.len())].clone();
                let slot = DataKey::Lock(key.clone());
                if !self.nodes[node].redis.data().contains_key(&slot) {
                    return false;
                }
                // Every second time by a forced release, which also raises the fence to a number that no
                // client got.
                let is_forced = self.nanos % 2 == 1;
                self.nodes[node].redis.force_release(&key, is_forced, self.nanos);
                log_event!(self, "an operator deletes {slot:?} on node {node}; forced release: {is_forced}");
                self.oracle.exempt_node(node, self.nanos, Cause::KeyDeleted);
            }
            Fault::DemotedToReplica => {
                let node_host = &mut self.nodes[node];
                if node_host.is_replica {
                    return false;
                }
                node_host.is_replica = true;
                log_event!(self, "node {node} becomes a replica");
                return self.schedule_repair(Repair::Promote(node));
            }
            _ => {
                log_event!(self, "node {node} becomes a replica and at once a master again");
                self.change_role(node);
            }
        }
        true
    }

    /// Gives the node no data, the data of another node, or earlier data of its own.
    pub(super) fn change_role(&mut self, node: usize) {
        let other = self.rng.index(self.nodes.len());
        let kind = self.rng.below(3);
        let is_other = kind == 1 && other != node;
        let data = match kind {
            0 => Data::new(),
            1 => self.nodes[other].redis.data().clone(),
            _ => self.nodes[node].saved_copy.clone().unwrap_or_default(),
        };
        if is_other && data.contains_key(&DataKey::Record) {
            self.stats.count_situation(Situation::DataOfAnotherServer);
        }
        // A client that has not read the marker since may take the node for the one that it knew.
        let marker = data.get(&DataKey::Marker).and_then(|entry| entry.value.as_deref());
        let marker = marker.and_then(|text| Marker::parse(std::str::from_utf8(text).ok()?));
        let is_own =
            marker.is_some_and(|marker| marker.incarnation.as_str().starts_with(&format!("n{node}r")));
        self.nodes[node].redis.change_role(data);
        self.on_data_change(node, true);
        if is_own {
            let until = self.nanos + self.plan.marker_read_window();
            self.oracle.exempt_node(node, until, Cause::RoleChangeUndetected);
        }
    }

    pub(super) fn on_data_change(&mut self, node: usize, lost_fences: bool) {
        let now = self.nanos;
        self.oracle.note_data_change(node, now, lost_fences);
        self.note_moved_members();
        self.exempt_statistics_reset(node);
        self.mark_node_disturbed(node, now);
    }

    pub(super) fn disturb_clock(&mut self, fault: Fault, node: usize) -> bool {
        let max_ttl = self.plan.max_ttl_nanos();
        let node_host = &mut self.nodes[node];
        match fault {
            Fault::SmallClockJump => {
                // The jump may use half of the drift, once per key lifetime.
                if node_host.jumped_at.is_some_and(|at| at + max_ttl * 3 / 2 > self.nanos) {
                    return false;
                }
                let min_ttl = self.plan.min_ttl.as_nanos() as i64;
                let by = min_ttl / 1_000_000 * self.plan.max_drift_ppm / 2;
                node_host.jumped_at = Some(self.nanos);
                self.shift_node_clock(node, by);
            }
            Fault::ClockSetBack => {
                if node_host.was_clock_set_back {
                    return false;
                }
                node_host.was_clock_set_back = true;
                let by = self.rng.log_uniform(1_000_000, max_ttl / 2) as i64;
                self.shift_node_clock(node, -by);
            }
            Fault::ClockSetForward => {
                let by = self.rng.log_uniform(20_000_000, 4 * max_ttl) as i64;
                self.shift_node_clock(node, by);
                self.oracle.exempt_node(node, self.nanos, Cause::NodeClock);
            }
            _ => {
                let drift_ppm = self.plan.max_drift_ppm * self.rng.between(3, 10) as i64;
                self.set_node_drift(node, drift_ppm);
                self.oracle.exempt_node(node, u64::MAX, Cause::NodeClock);
                self.schedule_repair(Repair::NodeClockRate(node));
            }
        }
        true
    }

    fn shift_node_clock(&mut self, node: usize, by: i64) {
        log_event!(self, "node {node}'s clock is set by {} ms", by as f64 / 1e6);
        let now = self.nanos;
        self.nodes[node].servers_mut().for_each(|server| server.jump_clock(now, by));
        self.mark_node_disturbed(node, self.nanos);
        self.note_clock_error(node);
    }

    pub(super) fn set_node_drift(&mut self, node: usize, drift_ppm: i64) {
        log_event!(self, "node {node}'s clock drifts by {drift_ppm} ppm");
        self.note_clock_error(node);
        let now = self.nanos;
        self.nodes[node].servers_mut().for_each(|server| server.set_drift(drift_ppm, now));
    }

    pub(super) fn note_clock_error(&mut self, node: usize) {
        let error = self.nodes[node].clock_error(self.nanos);
        self.oracle.note_clock_error(error);
    }
}
