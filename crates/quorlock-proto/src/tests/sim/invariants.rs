//! The invariant checkers: they compare what clients believe with the state of the nodes and the true time.

use super::engine::{Sim, SimEvent, log_event};
use super::exemptions::covers_quorum_intersection;
use super::oracle::{AttemptRecord, intersection};
use super::stats::{Cause, Invariant};
use crate::lease::LossReason;
use crate::quorum::{NodeId, NodeSet};
use crate::request::OperationId;
use crate::time::DualTimestamp;

impl Sim<'_> {
    pub(super) fn on_acquired(
        &mut self,
        id: OperationId,
        deadline: DualTimestamp,
        confirmed: NodeSet,
        number: Option<u64>,
        rounds: u8,
    ) {
        self.stats.acquired += 1;
        self.stats.fenced += u64::from(number.is_some());
        self.stats.in_two_rounds += u64::from(rounds > 1);
        let (has_key, exempt) = (self.nodes_with_key(id), self.exempt_nodes_of(id));
        let record = &mut self.oracle.records[id as usize];
        record.acquired_at = Some(self.nanos);
        (record.deadline, record.confirmed, record.fencing_number, record.expected_nodes) =
            (Some(deadline), confirmed, number, intersection(has_key.or(exempt), confirmed));
        for (node_record, grant_order) in record.per_node.iter().zip(&mut record.grant_order) {
            *grant_order =
                (number.is_some() && node_record.fencing_number == number).then_some(node_record.grant_index);
        }
        self.oracle.largest_fencing_number = self.oracle.largest_fencing_number.max(number.unwrap_or(0));
        self.note_quorum(id, confirmed);
        self.check_fencing_numbers(id);
        self.check_adoption(id);
        self.check_membership(id);
        self.check_quorum_holds_key(id);
        self.check_confirmed_nodes(id);
        self.check_mutual_exclusion(id);
        self.note_overtaken(id);
        self.oracle.unreleased.push(id);
        self.oracle.acquired.push(id);
        self.schedule_probes(id);
    }

    pub(super) fn on_renewed(&mut self, id: OperationId, deadline: DualTimestamp) {
        self.stats.renewed += 1;
        let (has_key, exempt) = (self.nodes_with_key(id), self.exempt_nodes_of(id));
        let record = &mut self.oracle.records[id as usize];
        // A shorter extension changes neither the deadline nor the nodes that the lock depends on.
        if record.deadline != Some(deadline) {
            (record.deadline, record.expected_nodes) =
                (Some(deadline), intersection(has_key.or(exempt), record.confirmed));
        }
        // Which of them the lock depends on is reported next.
        let all = (0..self.nodes.len()).map(|node| NodeId(node as u8)).collect();
        self.note_quorum(id, all);
        let record = &self.oracle.records[id as usize];
        if let Some((at, other, exemption)) = record.overtaken_by {
            let started_at = record.started_at;
            let votes_after = record.confirmed.iter().all(|node| record.per_node[node.index()].voted_at > at);
            let is_later = self.oracle.records[other as usize].fencing_number > record.fencing_number;
            // Whatever the clocks do, a fence prevents such a vote. Earlier votes are legitimate.
            let is_fenced = self.plan.is_all_fenced() && votes_after && is_later;
            let lost = self
                .oracle
                .fence_loss_exemption(started_at, None, &self.plan)
                .or_else(|| self.fence_loss_since(started_at))
                .or_else(|| self.oracle.moved_exemption(&[id, other]));
            let exemption =
                if is_fenced { lost } else { exemption.or_else(|| self.overlap_exemption(id, other)) };
            let message = format!("lock {id} was renewed, and another client had it meanwhile");
            self.report_breach(Invariant::ExclusiveRenewal, exemption, &message);
        }
        self.check_membership(id);
        self.check_quorum_holds_key(id);
        self.check_confirmed_nodes(id);
        self.check_mutual_exclusion(id);
        self.schedule_probes(id);
    }

    pub(super) fn on_confirmed(&mut self, id: OperationId, nodes: NodeSet) {
        self.oracle.set_confirmed(id, nodes);
        self.check_confirmed_nodes(id);
    }

    pub(super) fn on_lost(&mut self, id: OperationId, loss: LossReason) {
        self.stats.count_loss(loss);
        self.oracle.records[id as usize].is_loss_reported = true;
    }

    /// The client's clocks were changed: its locks may be valid again, and its timer fires at another time.
    pub(super) fn on_clocks_changed(&mut self, client: usize) {
        self.reset_timer(client);
        for id in self.oracle.unreleased.clone() {
            if self.oracle.records[id as usize].client == client {
                self.check_mutual_exclusion(id);
                self.schedule_probes(id);
            }
        }
    }

    /// Schedules two probes of a lock: at a random time before its deadline, and just before the deadline.
    fn schedule_probes(&mut self, id: OperationId) {
        let record = &self.oracle.records[id as usize];
        let (Some(deadline), client) = (record.deadline, record.client) else { return };
        let clocks = self.clients[client].clocks;
        let boot = deadline.boot_nanos().min(clocks.boot_at_wall(deadline.wall_nanos()));
        let last = clocks.true_time_at(boot).saturating_sub(2_000).max(self.nanos);
        let deadline = deadline.boot_nanos();
        let random = self.nanos + self.rng.below(last - self.nanos + 1);
        self.schedule_at(random, SimEvent::ProbeLock { id, deadline, is_last: false });
        self.schedule_at(last, SimEvent::ProbeLock { id, deadline, is_last: true });
    }

    pub(super) fn probe_lock(&mut self, id: OperationId, deadline: u64, is_last: bool) {
        let record = &self.oracle.records[id as usize];
        if record.deadline.is_none_or(|now| now.boot_nanos() != deadline) || !self.is_valid(id) {
            return;
        }
        self.stats.probes += 1;
        let (client, started_at, since) =
            (record.client, record.started_at, record.acquired_at.unwrap_or_default());
        self.check_quorum_holds_key(id);
        self.check_confirmed_nodes(id);
        self.check_redundancy(id);
        let client_host = &self.clients[client];
        // The loss is reported 10 ms or a tenth of the TTL ahead, if the process runs.
        let has_run =
            client_host.paused_until <= self.nanos && client_host.undisturbed_since + 8_000_000 < self.nanos;
        let had_time = since + 3_000_000 < self.nanos;
        // Its clock may have been slowed since the probe was scheduled.
        let left = self.oracle.time_to_deadline(id, self.now(client));
        if is_last
            && left.is_some_and(|left| left < 100_000)
            && has_run
            && had_time
            && client_host.undisturbed_since < started_at
        {
            self.report_violation(
                Invariant::LossReported,
                &format!("lock {id} is at its deadline, and no loss was reported"),
            );
        }
    }

    fn check_quorum_holds_key(&mut self, id: OperationId) {
        if !self.is_valid(id) {
            return;
        }
        let record = &self.oracle.records[id as usize];
        let has_key = self.nodes_with_key(id);
        let at_least = has_key.or(intersection(record.expected_nodes, self.exempt_nodes_of(id)));
        if at_least.len() >= record.needed {
            return;
        }
        let exemption = self.oracle.client_exemption_active_after(record.client, record.started_at);
        self.report_breach(
            Invariant::QuorumHoldsKey,
            exemption,
            &format!("lock {id} is valid, and only {has_key:?} have its key"),
        );
    }

    /// Checks that confirmed nodes keep the key for as long as the lock. The count of spare nodes and the
    /// handling of clock jumps rely on it.
    fn check_confirmed_nodes(&mut self, id: OperationId) {
        if !self.is_valid(id) {
            return;
        }
        let record = &self.oracle.records[id as usize];
        let missing =
            record.confirmed.without(self.nodes_with_key_until_deadline(id).or(self.exempt_nodes_of(id)));
        if missing.is_empty() {
            return;
        }
        let exemption = self.oracle.client_exemption_active_after(record.client, record.started_at);
        let message = format!("lock {id} is confirmed on {missing:?}, where its key expires before the lock");
        self.report_breach(Invariant::ConfirmedNodesHoldKey, exemption, &message);
    }

    fn check_mutual_exclusion(&mut self, id: OperationId) {
        if !self.is_valid(id) {
            return;
        }
        let key = self.oracle.records[id as usize].key;
        for other in self.oracle.unreleased.clone() {
            if other != id && self.oracle.records[other as usize].key == key && self.is_valid(other) {
                let (first, second) = self.in_order(other, id);
                let exemption = self.overlap_exemption(first, second);
                self.report_breach(
                    Invariant::MutualExclusion,
                    exemption,
                    &format!("locks {first} and {second} are valid at the same time"),
                );
            }
        }
    }

    fn in_order(&self, one: OperationId, other: OperationId) -> (OperationId, OperationId) {
        let acquired_at = |id: OperationId| self.oracle.records[id as usize].acquired_at;
        if acquired_at(one) <= acquired_at(other) { (one, other) } else { (other, one) }
    }

    /// What exempts that the second lock was acquired while the first was believed valid. Either a holder's
    /// clocks were wrong, or a fault hit every node that could have voted against it.
    fn overlap_exemption(&self, first: OperationId, second: OperationId) -> Option<Cause> {
        let moved_exemption = self.oracle.moved_exemption(&[first, second]);
        let (first, second) = (&self.oracle.records[first as usize], &self.oracle.records[second as usize]);
        // Either lock may be the one that is believed valid for too long.
        let client_exemption = |record: &AttemptRecord| {
            self.oracle.client_exemption_active_after(record.client, record.started_at)
        };
        if let Some(cause) = client_exemption(first).or_else(|| client_exemption(second)) {
            return Some(cause);
        }
        if let Some(cause) = moved_exemption {
            return Some(cause);
        }
        let mut exemption = None;
        for node in intersection(first.expected_nodes, second.expected_nodes).iter() {
            let node = node.index();
            let since = first.started_at.min(second.started_at);
            let client_exemption = |by: &AttemptRecord| {
                self.oracle.clock_behind_exemption_active_after(node, since, by.per_node[node].known_since)
            };
            let client_exemption = client_exemption(first).or_else(|| client_exemption(second));
            let node_exemption = self.oracle.node_exemption_active_after(node, since).or(client_exemption);
            let lost = !self.plan.is_all_fenced() && self.oracle.changed_at[node] >= since;
            exemption = Some(node_exemption.or(lost.then_some(Cause::DataLoss))?);
        }
        exemption
    }

    /// Records at the other unreleased locks of the key that this one was acquired after them.
    fn note_overtaken(&mut self, id: OperationId) {
        let record = &self.oracle.records[id as usize];
        let (key, client) = (record.key, record.client);
        for other in self.oracle.unreleased.clone() {
            let record = &self.oracle.records[other as usize];
            if record.key == key && (record.client, other) != (client, id) && record.overtaken_by.is_none() {
                let exemption = self.overlap_exemption(other, id);
                self.oracle.records[other as usize].overtaken_by = Some((self.nanos, id, exemption));
            }
        }
    }

    /// Exempts the renewal of an overtaken lock, if too many nodes lost their fences.
    pub(super) fn fence_loss_since(&self, since: u64) -> Option<Cause> {
        let lost = self.oracle.nodes_without_fences_since(since);
        covers_quorum_intersection(lost.len(), &self.plan).then_some(Cause::DataLoss)
    }

    fn check_fencing_numbers(&mut self, id: OperationId) {
        if self.oracle.records[id as usize].fencing_number.is_none() {
            return;
        }
        (0..self.nodes.len()).for_each(|node| self.note_clock_error(node));
        let late = &self.oracle.records[id as usize];
        let Some(number) = late.fencing_number else { return };
        let mut found: Vec<(Invariant, Option<Cause>, String)> = Vec::new();
        for other in &self.oracle.acquired {
            let early = &self.oracle.records[*other as usize];
            let Some(earlier) = early.fencing_number.filter(|_| early.key == late.key) else { continue };
            // The lock that is acquired first may have been requested last.
            let (since, largest) = (early.started_at.min(late.started_at), earlier.max(number));
            let fence_loss_exemption = || {
                let exemption = self.oracle.fence_loss_exemption(since, Some(largest), &self.plan);
                exemption.or_else(|| self.oracle.moved_exemption(&[*other, id]))
            };
            if earlier == number {
                let message = format!("locks {other} and {id} have the same fencing number {number}");
                found.push((Invariant::UniqueNumbers, fence_loss_exemption(), message));
                continue;
            }
            if early.acquired_at < Some(late.started_at) && earlier > number {
                let message = format!(
                    "lock {id} was requested after lock {other} was acquired, and has the smaller number: {number} < {earlier}"
                );
                found.push((Invariant::RealTimeOrder, fence_loss_exemption(), message));
            }
            let shared = early
                .grant_order
                .iter()
                .zip(&late.grant_order)
                .filter_map(|(one, two)| Some(((*one)?, (*two)?)));
            for (one, two) in shared {
                if (one < two) != (earlier < number) {
                    let message = format!(
                        "locks {other} and {id} have fencing numbers in another order than their grants: {earlier}, {number}"
                    );
                    found.push((Invariant::GrantOrder, fence_loss_exemption(), message));
                }
            }
            // Unless clocks removed a key, the later lock holds a node that the earlier one held before.
            if earlier > number {
                let exemption = fence_loss_exemption()
                    .or_else(|| self.overlap_exemption(*other, id))
                    .or_else(|| self.overlap_exemption(id, *other));
                let message = format!(
                    "lock {id} was acquired after lock {other}, and has the smaller number: {number} < {earlier}"
                );
                found.push((Invariant::GrantOrder, exemption, message));
            }
        }
        for (invariant, exemption, message) in found {
            self.report_breach(invariant, exemption, &message);
        }
    }

    fn check_membership(&mut self, id: OperationId) {
        let record = &self.oracle.records[id as usize];
        if !record.is_fenced {
            return;
        }
        let window = self.plan.marker_read_window();
        for node in record.confirmed.iter() {
            let node_host = &self.nodes[node.index()];
            let may_evict = record.per_node[node.index()].may_evict
                && node_host.error_permille == 0
                && node_host.evicts_since.saturating_add(window) < record.started_at;
            if record.per_node[node.index()].was_on_probation || may_evict {
                let what = if may_evict { "may evict keys" } else { "is on probation" };
                let message = format!("lock {id} counts on node {}, which {what}", node.0);
                // A client with a slow clock reads the marker late.
                let exemption = self.oracle.client_exemption_active_after(
                    record.client,
                    record.started_at.saturating_sub(4 * window),
                );
                self.report_breach(Invariant::Membership, exemption, &message);
                return;
            }
        }
    }

    pub(super) fn report_breach(&mut self, invariant: Invariant, exemption: Option<Cause>, message: &str) {
        match exemption {
            Some(cause) => {
                log_event!(self, "({message}: {cause:?})");
                *self.stats.exempted.entry((invariant, cause)).or_default() += 1;
            }
            None => self.report_violation(invariant, message),
        }
    }
}
