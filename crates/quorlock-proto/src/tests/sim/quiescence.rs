//! The end of a history: all faults end, one client acquires every lock, and nothing may be left over.

use std::sync::Arc;

use super::engine::{Repair, Sim, SimEvent, SimPhase, log_event};
use super::plan::Fault;
use super::state::LinkState;
use super::stats::Invariant;
use crate::marker::ClusterId;
use crate::membership::InitMode;
use crate::roster::Roster;
use crate::test_util::founding::node_list;
use crate::test_util::node::DataKey;

impl Sim<'_> {
    pub(super) fn repair(&mut self, repair: Repair) {
        if let Repair::NodeUp(node)
        | Repair::Promote(node)
        | Repair::EndErrors(node)
        | Repair::EndEviction(node) = repair
        {
            self.mark_node_disturbed(node, self.nanos);
        }
        match repair {
            Repair::NodeUp(node) => {
                if std::mem::take(&mut self.nodes[node].is_down) {
                    log_event!(self, "node {node} is up");
                }
            }
            Repair::Promote(node) => {
                if std::mem::take(&mut self.nodes[node].is_replica) {
                    log_event!(self, "node {node} is a master again");
                    self.change_role(node);
                }
            }
            Repair::EndErrors(node) => {
                if std::mem::take(&mut self.nodes[node].error_permille) > 0 {
                    self.on_marker_unreadable(node, self.nodes[node].errors_since);
                }
            }
            Repair::EndEviction(node) => {
                self.nodes[node].redis.evicts = false;
                self.nodes[node].evicts_since = u64::MAX;
            }
            Repair::SwapBack(node) => self.swap_back(node),
            Repair::CorrectClock(node) => self.correct_clock(node),
            Repair::NodeClockRate(node) => {
                let drift_ppm = self.nodes[node].drift_ppm;
                self.set_node_drift(node, drift_ppm);
                self.oracle.end_node_exemptions(node, self.nanos);
            }
            Repair::ClientClockRate(client) => {
                let drift_ppm = self.clients[client].drift_ppm;
                self.clients[client].clocks.set_drift(drift_ppm, self.nanos);
                self.oracle.end_client_exemptions(client, self.nanos);
                self.on_clocks_changed(client);
            }
            Repair::ClientUp(client) => {
                let is_needed = client < self.plan.client_count || self.phase == SimPhase::Faults;
                if self.clients[client].is_dead && is_needed {
                    log_event!(self, "client {client} restarts");
                    self.start_client(client);
                }
            }
        }
    }

    pub(super) fn check_phase_end(&mut self) {
        match self.phase {
            SimPhase::Faults => self.start_recovery(),
            SimPhase::Recovery
                if self.oracle.acquired_keys.len() == self.keys.len() && self.is_reconfigured() =>
            {
                log_event!(self, "every lock was acquired");
                self.start_drain();
            }
            SimPhase::Recovery if self.nanos >= self.phase_until => {
                let message = if self.is_reconfigured() {
                    "no fault for a long time, and a lock could not be acquired"
                } else {
                    "no fault for a long time, and the reconfiguration has not ended"
                };
                self.report_violation(Invariant::Liveness, message);
            }
            SimPhase::Recovery => {
                self.continue_reconfiguration();
                self.reinitialize_lost_cluster();
                self.schedule_after(PHASE_CHECK_INTERVAL, SimEvent::CheckPhase);
            }
            SimPhase::Drain if self.is_quiescent() => self.check_leftovers(),
            SimPhase::Drain if self.nanos >= self.phase_until => {
                let pending: usize = self
                    .clients
                    .iter()
                    .map(|client_host| client_host.coordinator.pending_releases().count())
                    .sum();
                let message =
                    format!("no task wants a lock, and clients are still busy ({pending} pending releases)");
                self.report_violation(Invariant::Cleanup, &message);
            }
            SimPhase::Drain => self.schedule_after(PHASE_CHECK_INTERVAL, SimEvent::CheckPhase),
            SimPhase::Done => {}
        }
    }

    /// Ends all faults, locks and attempts, and picks the client that must acquire every lock.
    fn start_recovery(&mut self) {
        log_event!(self, "all faults end");
        self.phase = SimPhase::Recovery;
        self.remove_orphan_keys();
        for node in 0..self.nodes.len() {
            let repairs = [
                Repair::NodeUp,
                Repair::Promote,
                Repair::EndErrors,
                Repair::EndEviction,
                Repair::SwapBack,
                Repair::CorrectClock,
            ];
            for repair in repairs {
                self.repair(repair(node));
            }
            self.nodes[node].paused_until = 0;
            self.end_ghost(node);
            self.note_clock_error(node);
            if self.plan.faults.contains(&Fault::FastNodeClock) {
                self.repair(Repair::NodeClockRate(node));
            }
        }
        self.end_reconfigurations();
        self.oracle.recovery_client = self.rng.index(self.plan.client_count);
        let client_host = &self.clients[self.oracle.recovery_client];
        if client_host.is_misconfigured || client_host.has_other_list {
            self.oracle.recovery_client = 0;
        }
        for client in 0..self.clients.len() {
            let client_host = &mut self.clients[client];
            client_host.to_node_blocked_until.fill(0);
            client_host.from_node_blocked_until.fill(0);
            if client_host.paused_until > self.nanos {
                client_host.paused_until = self.nanos;
                self.resume_client(client, true);
            }
            if self.plan.faults.contains(&Fault::SlowClientClock) {
                self.repair(Repair::ClientClockRate(client));
            }
            if self.clients[client].is_dead && client < self.plan.client_count {
                self.repair(Repair::ClientUp(client));
            }
            self.stop_all_tasks(client);
        }
        self.recovery_started_at = self.nanos;
        self.phase_until = self.nanos + self.recovery_bound();
        self.schedule_after(PHASE_CHECK_INTERVAL, SimEvent::CheckPhase);
    }

    /// The longest duration of recovery: messages in flight, the max TTL, marker reads, and a probation. A
    /// clock jump that is found late adds a second probation.
    fn recovery_bound(&self) -> u64 {
        let max_ttl = self.plan.longest_ttl_nanos();
        let steps = if self.plan.reconfigures() { MAX_STEPS } else { 0 };
        let without_clock_errors = 8 * max_ttl
            + self.plan.marker_read_window() * 2
            + 2_000_000_000
            + steps * (2 * max_ttl + 2_000_000_000);
        // Keys copied from a node whose clock was ahead expire later.
        without_clock_errors + 2 * self.oracle.max_clock_error_nanos
    }

    /// Initializes the lock cluster again if too many nodes lost its marker at once, after all locks have
    /// expired.
    fn reinitialize_lost_cluster(&mut self) {
        let are_locks_expired = self.nanos >= self.recovery_started_at + 3 * self.plan.longest_ttl_nanos();
        if self.plan.fenced == 0 || self.stats.reinitialized > 0 || !are_locks_expired {
            return;
        }
        // The operator repeats what some nodes rejected: the others have the new lock cluster.
        if !self.is_cluster_lost() && !self.oracle.init_was_rejected {
            if self.oracle.reinitializations > 0 {
                // A node executed the request, but its reply was lost.
                self.on_reinitialized();
            }
            return;
        }
        let clients = if self.plan.reconfigures() {
            self.oracle.recovery_client..self.plan.client_count
        } else {
            0..self.clients.len()
        };
        let client = clients
            .into_iter()
            .find(|client| self.clients[*client].is_fenced && !self.clients[*client].is_misconfigured)
            .filter(|client| !self.clients[*client].has_other_list);
        let Some(client) = client else { return };
        log_event!(self, "too few nodes know the lock cluster: client {client} initializes a new one");
        self.oracle.reinitializations += 1;
        self.oracle.init_was_rejected = false;
        let now = self.now(client);
        self.clients[client].coordinator.initialize(u64::MAX, ClusterId::new(0xc2), InitMode::Forced, now);
        self.run_actions(client);
    }

    /// Whether the nodes are a lock cluster with other settings, or of another list, which a misconfigured
    /// client has founded; or the remains of two. Clients found a second one if all servers that they reach
    /// lost their data, which is not covered.
    fn is_cluster_lost(&self) -> bool {
        if self.plan.reconfigures() {
            return self.is_reconfigured_cluster_lost();
        }
        let rosters: Vec<_> = (0..self.nodes.len()).filter_map(|node| self.record_of(node)?.roster).collect();
        let list = node_list(self.nodes.len()).hash();
        let is_foreign = |it: &Arc<Roster>| it.config != self.plan.config() || it.list != list;
        let is_other = |it: &Arc<Roster>| it.cluster != rosters[0].cluster;
        let has_majority = |it: &Arc<Roster>| !is_foreign(it) && self.members_of(it) >= it.majority();
        !rosters.is_empty() && rosters.iter().all(is_foreign)
            || rosters.iter().any(is_other) && !rosters.iter().any(has_majority)
    }

    /// The nodes form a new lock cluster. The operator has confirmed that no earlier lock matters.
    pub(super) fn on_reinitialized(&mut self) {
        self.stats.reinitialized += 1;
        self.end_reconfigurations();
        self.oracle.clear_data_changes();
        self.phase_until = self.nanos + self.recovery_bound();
    }

    fn start_drain(&mut self) {
        self.phase = SimPhase::Drain;
        (0..self.clients.len()).for_each(|client| self.stop_all_tasks(client));
        self.phase_until = self.nanos + self.recovery_bound() + 10_000_000_000;
        self.schedule_after(PHASE_CHECK_INTERVAL, SimEvent::CheckPhase);
    }

    /// Whether no operation runs, no release is pending, and no request of a broken connection is in flight.
    fn is_quiescent(&self) -> bool {
        let are_clients_idle = self.clients.iter().all(|client_host| {
            let coordinator = &client_host.coordinator;
            !coordinator.is_busy() && coordinator.pending_releases().next().is_none()
        });
        are_clients_idle
            && self.connections.iter().all(|conn| conn.state != LinkState::Cut || conn.to_node.is_empty())
    }

    /// Checks that no lock keys are left, after the max TTL and the largest clock error have passed.
    fn check_leftovers(&mut self) {
        self.nanos += self.plan.longest_ttl_nanos() * 5 / 2 + 2 * self.oracle.max_clock_error_nanos;
        for node in 0..self.nodes.len() {
            let left = self.keys.iter().map(|key| DataKey::Lock(key.clone()));
            let left =
                left.filter(|slot| self.nodes[node].redis.unexpired(slot, self.nanos).is_some()).count();
            if left > 0 {
                self.report_violation(Invariant::Cleanup, &format!("{left} keys are left on node {node}"));
            }
            // Without faults, every waiting process has been notified or has left the queue.
            let waits = self.keys.iter().any(|key| !self.wait_queue(node, key).is_empty());
            if self.profile.faults.is_empty() && self.profile.beyond_limits == 0 && waits {
                self.report_violation(
                    Invariant::Cleanup,
                    &format!("processes are left in a wait queue on node {node}"),
                );
            }
        }
        self.phase = SimPhase::Done;
    }
}

/// The most steps of a reconfiguration: nodes, then the settings.
const MAX_STEPS: u64 = 8;
const PHASE_CHECK_INTERVAL: u64 = 20_000_000;
