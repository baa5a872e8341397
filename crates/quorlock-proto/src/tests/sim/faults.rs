//! Fault injection: picks faults, and applies those of connections and clients.

use super::engine::{Repair, Sim, SimEvent, SimPhase, log_event};
use super::plan::Fault;
use super::state::LinkState;
use super::stats::Cause;

impl Sim<'_> {
    pub(super) fn next_fault_delay(&mut self) -> u64 {
        self.rng.below(self.plan.fault_interval.saturating_mul(2)) + 1
    }

    pub(super) fn inject_random_fault(&mut self) {
        if self.phase != SimPhase::Faults {
            return;
        }
        let delay = self.next_fault_delay();
        self.schedule_after(delay, SimEvent::InjectFault);
        if self.plan.faults.is_empty() {
            return;
        }
        let (node, client) = (self.rng.index(self.nodes.len()), self.rng.index(self.clients.len()));
        if self.rng.chance_permille(250) {
            self.nodes[node].saved_copy = Some(self.nodes[node].redis.data().clone());
        }
        self.inject_fault_at(node, client);
    }

    /// Injects a random fault at this node or this client now.
    pub(super) fn inject_fault_at(&mut self, node: usize, client: usize) {
        if self.plan.faults.is_empty() || self.phase != SimPhase::Faults {
            return;
        }
        let fault = self.plan.faults[self.rng.index(self.plan.faults.len())];
        if self.apply_fault(fault, node, client) {
            *self.stats.faults.entry(fault).or_default() += 1;
        }
    }

    /// False if the fault is impossible now.
    fn apply_fault(&mut self, fault: Fault, node: usize, client: usize) -> bool {
        match fault {
            Fault::ConnectionReset | Fault::Partition => self.disturb_connection(fault, node, client),
            Fault::ClientPause
            | Fault::ClientSuspend
            | Fault::VmStop
            | Fault::VmStopUndetected
            | Fault::ClientCrash
            | Fault::WallClockSet
            | Fault::SlowClientClock => self.disturb_client(fault, client),
            Fault::Restart | Fault::RestartDataLoss | Fault::RestartStaleData | Fault::RestartClockBehind => {
                self.restart_node(fault, node)
            }
            Fault::Flush
            | Fault::RoleChange
            | Fault::DemotedToReplica
            | Fault::DatabaseSwap
            | Fault::KeyDeleted => self.lose_data(fault, node),
            Fault::AddressMoved => self.move_address(node),
            Fault::StatisticsReset => self.reset_statistics(node),
            Fault::SmallClockJump | Fault::ClockSetBack | Fault::ClockSetForward | Fault::FastNodeClock => {
                self.disturb_clock(fault, node)
            }
            Fault::NodePause => {
                let duration = self.random_nanos();
                self.nodes[node].paused_until = self.nanos + duration;
                self.mark_node_disturbed(node, self.nanos + duration);
                log_event!(self, "node {node} is paused for {} ms", duration / 1_000_000);
                true
            }
            Fault::ScriptFlush => {
                log_event!(self, "node {node} loses its scripts");
                self.nodes[node].redis.flush_scripts();
                true
            }
            Fault::ErrorReplies => {
                if self.nodes[node].error_permille == 0 {
                    self.nodes[node].errors_since = self.nanos;
                }
                self.nodes[node].error_permille = self.rng.pick(&[100, 500, 1000]);
                log_event!(
                    self,
                    "node {node} replies to {} of 1000 commands with an error",
                    self.nodes[node].error_permille
                );
                self.schedule_repair(Repair::EndErrors(node))
            }
            Fault::Eviction => {
                let node_host = &mut self.nodes[node];
                node_host.eviction_was_recorded &= node_host.redis.evicts;
                node_host.redis.evicts = true;
                node_host.evicts_since = node_host.evicts_since.min(self.nanos);
                log_event!(self, "node {node} is configured to evict keys");
                self.mark_node_disturbed(node, self.nanos);
                if self.rng.chance_permille(700) {
                    self.evict(node);
                }
                self.schedule_repair(Repair::EndEviction(node))
            }
        }
    }

    fn disturb_connection(&mut self, fault: Fault, node: usize, client: usize) -> bool {
        if fault == Fault::Partition {
            let until = self.nanos + self.random_nanos();
            let side = self.rng.below(3);
            let client_host = &mut self.clients[client];
            if side != 1 {
                client_host.to_node_blocked_until[node] = until;
            }
            if side != 2 {
                client_host.from_node_blocked_until[node] = until;
            }
            self.mark_link_disturbed(client, node, until);
            log_event!(
                self,
                "no messages {} client {client} and node {node} until {} ms",
                ["in either direction between", "from the node between", "to the node between"]
                    [side as usize],
                (until - super::engine::START) / 1_000_000
            );
            return true;
        }
        let Some(conn_id) = self.clients[client].conn_ids[node] else { return false };
        let in_flight = self.connections[conn_id].to_node.len();
        let late_count = self.rng.index(in_flight + 1);
        log_event!(
            self,
            "the connection of client {client} to node {node} breaks; {late_count} of {in_flight} commands in flight still arrive"
        );
        self.mark_link_disturbed(client, node, self.nanos);
        self.cut_connection(conn_id, late_count);
        let delay = self.message_delay();
        self.schedule_after(delay, SimEvent::ConnectionLost(conn_id));
        true
    }

    fn disturb_client(&mut self, fault: Fault, client: usize) -> bool {
        let client_host = &self.clients[client];
        if client_host.is_dead || client_host.paused_until > self.nanos {
            return false;
        }
        let duration = self.random_nanos();
        let duration_millis = duration / 1_000_000;
        match fault {
            Fault::ClientPause | Fault::ClientSuspend | Fault::VmStop | Fault::VmStopUndetected => {
                let has_clock_mistake =
                    self.profile.client_mistake == Some(super::plan::ClientMistake::ClocksStopInSuspend);
                let stops_clocks = match fault {
                    Fault::ClientPause => false,
                    Fault::ClientSuspend => has_clock_mistake,
                    _ => true,
                };
                if stops_clocks {
                    self.clients[client].clocks.stop(self.nanos);
                }
                self.clients[client].is_stopped = fault != Fault::ClientPause;
                self.clients[client].paused_since = self.nanos;
                self.clients[client].paused_until = self.nanos + duration;
                log_event!(self, "client {client}: {fault:?} for {duration_millis} ms");
                self.schedule_after(
                    duration,
                    SimEvent::ResumeClient { client, corrects_wall: fault != Fault::VmStopUndetected },
                );
            }
            Fault::ClientCrash => {
                log_event!(self, "client {client} crashes, and restarts after {duration_millis} ms");
                self.crash_client(client);
                self.schedule_after(duration, SimEvent::Repair(Repair::ClientUp(client)));
            }
            Fault::WallClockSet => {
                let by = self.rng.log_uniform(1_000_000, 10_000_000_000) as i64;
                let by = if self.rng.chance_permille(500) { -by } else { by };
                log_event!(self, "client {client}'s wall clock is set by {} ms", by / 1_000_000);
                let client_host = &mut self.clients[client];
                client_host.clocks.shift_wall(by);
                client_host.was_wall_set_back |= by < 0;
                client_host.undisturbed_since = self.nanos;
                if by < 0 && client_host.was_clock_stopped {
                    // The wall clock no longer shows that the machine was stopped.
                    self.oracle.exempt_client(client, self.nanos, Cause::VmStop);
                }
                self.on_clocks_changed(client);
            }
            Fault::SlowClientClock => {
                let drift_ppm = -(self.plan.max_drift_ppm * self.rng.between(2, 4) as i64).min(700_000);
                log_event!(self, "client {client}'s clocks drift by {drift_ppm} ppm");
                self.clients[client].clocks.set_drift(drift_ppm, self.nanos);
                self.oracle.exempt_client(client, u64::MAX, Cause::ClientClock);
                self.on_clocks_changed(client);
                self.schedule_repair(Repair::ClientClockRate(client));
            }
            _ => return false,
        }
        true
    }

    pub(super) fn crash_client(&mut self, client: usize) {
        self.note_interruption(client);
        self.oracle.end_all_of_client(client);
        for conn_id in 0..self.connections.len() {
            if self.connections[conn_id].client == client && self.connections[conn_id].state != LinkState::Cut
            {
                let late_count = self.rng.index(self.connections[conn_id].to_node.len() + 1);
                self.cut_connection(conn_id, late_count);
            }
        }
        self.clients[client].incarnation += 1;
        self.clients[client].is_dead = true;
        self.clients[client].reset_process(&self.plan);
    }

    /// Resumes a paused client process or machine.
    pub(super) fn resume_client(&mut self, client: usize, corrects_wall: bool) {
        let client_host = &mut self.clients[client];
        if client_host.paused_until > self.nanos {
            // It was paused again, and resumes later.
            return;
        }
        let has_clock_mistake =
            self.profile.client_mistake == Some(super::plan::ClientMistake::ClocksStopInSuspend);
        let stopped_for = client_host.clocks.start(self.nanos);
        client_host.undisturbed_since = self.nanos;
        client_host.is_stopped = false;
        if stopped_for > 0 && !has_clock_mistake {
            if corrects_wall {
                client_host.clocks.shift_wall(stopped_for as i64);
            }
            client_host.was_clock_stopped = true;
            if !corrects_wall || client_host.was_wall_set_back {
                self.oracle.exempt_client(client, self.nanos, Cause::VmStop);
            }
        }
        log_event!(self, "client {client} resumes");
        let since = self.clients[client].paused_since;
        (0..self.nodes.len()).for_each(|node| self.on_marker_unreadable(node, since));
        self.on_clocks_changed(client);
    }

    /// No marker could be read: the node replied with errors, or a client that should have read it was
    /// paused.
    pub(super) fn on_marker_unreadable(&mut self, node: usize, since: u64) {
        self.oracle.prolong_undetected(node, since, self.nanos + self.plan.marker_read_window());
        let node_host = &mut self.nodes[node];
        if node_host.evicts_since < u64::MAX {
            node_host.evicts_since = self.nanos;
        }
    }

    /// A random duration, from 1 ms to twice the max TTL, in nanoseconds.
    pub(super) fn random_nanos(&mut self) -> u64 {
        self.rng.log_uniform(1_000_000, self.plan.max_ttl_nanos() * 2)
    }

    pub(super) fn schedule_repair(&mut self, repair: Repair) -> bool {
        let duration = self.random_nanos();
        self.schedule_after(duration, SimEvent::Repair(repair));
        true
    }
}
