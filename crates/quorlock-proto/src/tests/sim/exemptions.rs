//! Exemptions: which faults beyond the guarantees may break an invariant, and for how long.
//!
//! The checkers query them for the cause of a broken invariant. A broken invariant without a cause is a
//! violation.
//!
//! All times are true times in nanoseconds since the start of the history.

use super::oracle::Oracle;
use super::plan::Plan;
use super::stats::Cause;
use crate::fence::CLOCK_TOLERANCE_MICROS;
use crate::quorum::{NodeId, NodeSet};
use crate::request::OperationId;

/// A fault beyond the guarantees, on one node or one client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exemption {
    /// When the fault ended or was bound to be detected; `u64::MAX` while it goes on.
    pub(super) until: u64,
    pub(super) cause: Cause,
}

impl Oracle {
    /// Records a fault of a node beyond the guarantees: its clock, lost keys or undetected data loss.
    pub(super) fn exempt_node(&mut self, node: usize, until: u64, cause: Cause) {
        self.node_exemptions[node].push(Exemption { until, cause });
    }

    /// Records a fault of a client's clocks beyond the guarantees.
    pub(super) fn exempt_client(&mut self, client: usize, until: u64, cause: Cause) {
        self.client_exemptions[client].push(Exemption { until, cause });
    }

    /// Ends the ongoing exemptions of a node, because its clock runs at the normal rate again.
    pub(super) fn end_node_exemptions(&mut self, node: usize, now: u64) {
        end_ongoing(&mut self.node_exemptions[node], now);
    }

    /// Ends the ongoing exemptions of a client, because its clocks run at the normal rate again.
    pub(super) fn end_client_exemptions(&mut self, client: usize, now: u64) {
        end_ongoing(&mut self.client_exemptions[client], now);
    }

    /// Records that the node's data was lost or replaced, or its server restarted.
    pub(super) fn note_data_change(&mut self, node: usize, now: u64, lost_fences: bool) {
        self.changed_at[node] = now;
        if lost_fences {
            self.fences_lost_at[node] = now;
        }
    }

    /// Forgets all data changes, because an operator initialized the lock cluster again and so confirmed that
    /// no earlier lock counts.
    pub(super) fn clear_data_changes(&mut self) {
        self.changed_at.fill(0);
        self.joined_at.fill(0);
    }

    /// Records the current error of a node's clock.
    pub(super) fn note_clock_error(&mut self, nanos: u64) {
        self.max_clock_error_nanos = self.max_clock_error_nanos.max(nanos);
    }

    /// Extends the exemptions for undetected faults that were active at or after `since`. Since then, a
    /// client could not read the node's marker, so it detects the fault only by `until`.
    pub(super) fn prolong_undetected(&mut self, node: usize, since: u64, until: u64) {
        let is_undetected =
            |exemption: &&mut Exemption| exemption.cause.is_undetected() && exemption.until >= since;
        for exemption in self.node_exemptions[node].iter_mut().filter(is_undetected) {
            exemption.until = until;
        }
    }

    /// The cause, active at or after `since`, that may have removed keys early on the node. It counts for all
    /// clients.
    pub(super) fn node_exemption_active_after(&self, node: usize, since: u64) -> Option<Cause> {
        let exemptions = self.node_exemptions[node].iter().rev();
        let mut matching = exemptions
            .filter(|exemption| exemption.until >= since && exemption.cause != Cause::ClockBehindAtStart);
        matching.next().map(|exemption| exemption.cause)
    }

    /// The cause `ClockBehindAtStart`, if the node's clock was behind at or after `since`, and the client met
    /// the node first (`known_since`) after the correction. Then the client relied on the node's clock alone.
    pub(super) fn clock_behind_exemption_active_after(
        &self,
        node: usize,
        since: u64,
        known_since: u64,
    ) -> Option<Cause> {
        let was_behind =
            |exemption: &&Exemption| exemption.cause == Cause::ClockBehindAtStart && exemption.until >= since;
        let exemption = self.node_exemptions[node].iter().rfind(was_behind)?;
        (known_since > exemption.until).then_some(exemption.cause)
    }

    /// The cause, active at or after `since`, that made the client's clocks wrong.
    pub(super) fn client_exemption_active_after(&self, client: usize, since: u64) -> Option<Cause> {
        let mut exemptions = self.client_exemptions[client].iter();
        exemptions.rfind(|exemption| exemption.until >= since).map(|exemption| exemption.cause)
    }

    /// The nodes where a key may have been lost, or its TTL shortened, at or after `since`.
    pub(super) fn nodes_exempt_after(&self, since: u64) -> NodeSet {
        let is_exempt = |node: &usize| {
            self.node_exemption_active_after(*node, since).is_some()
                || self.changed_at[*node] >= since && self.changed_at[*node] > 0
        };
        (0..self.changed_at.len()).filter(is_exempt).map(|node| NodeId(node as u8)).collect()
    }

    /// The cause for repeated or decreasing fencing numbers at or after `since`. `number` is the largest of
    /// the compared numbers.
    pub(super) fn fence_loss_exemption(&self, since: u64, number: Option<u64>, plan: &Plan) -> Option<Cause> {
        let lost = self.nodes_without_fences_since(since);
        if !covers_quorum_intersection(lost.len(), plan) {
            return None;
        }
        // After an undetected data loss there is no probation, in which the clock would pass all earlier
        // numbers.
        let is_undetected = |node: &NodeId| {
            let mut exemptions = self.node_exemptions[node.index()].iter();
            exemptions.any(|exemption| exemption.cause.is_undetected() && exemption.until >= since)
        };
        let tolerated_clock_error_nanos =
            (plan.shortest_max_ttl_nanos().saturating_sub(CLOCK_TOLERANCE_MICROS * NANOS_PER_MICRO)) / 2;
        if lost.iter().any(|node| is_undetected(&node)) {
            Some(Cause::RoleChangeUndetected)
        } else {
            // After the loss and the probation, new fences start above the node's clock. A larger number came
            // from a requested minimum fencing number, and is lost forever.
            let lowest_new_fence_nanos =
                crate::test_util::node::EPOCH + since + plan.shortest_max_ttl_nanos();
            let may_exceed_new_fences = number.is_some_and(|number| {
                number * NANOS_PER_MICRO + self.max_clock_error_nanos >= lowest_new_fence_nanos
            });
            let by_clock = (self.max_clock_error_nanos >= tolerated_clock_error_nanos)
                .then_some(Cause::DataLossAndClockError);
            by_clock.or(may_exceed_new_fences.then_some(Cause::MinFencingNumberLost))
        }
    }

    /// What exempts from the order of rosters. `AddressesMoved`, if a server without an address voted for one of these locks, and such servers may form a
    /// quorum. Then no later roster has heard of the votes.
    pub(super) fn moved_exemption(&self, locks: &[OperationId]) -> Option<Cause> {
        if self.roster_exemption.is_some() {
            return self.roster_exemption;
        }
        let records = || locks.iter().map(|id| &self.records[*id as usize]);
        let is_fenced = records().all(|it| it.is_fenced);
        let until = if is_fenced { self.moved_until } else { self.ghosts_until };
        let is_exempt = records().any(|it| it.per_node.iter().any(|node_record| node_record.was_ghost))
            && records().any(|it| it.started_at <= until);
        is_exempt.then_some(Cause::AddressesMoved)
    }

    /// The nodes that lost fences at or after `since`.
    pub(super) fn nodes_without_fences_since(&self, since: u64) -> NodeSet {
        let lost = |node: &usize| self.fences_lost_at[*node] >= since && self.fences_lost_at[*node] > 0;
        (0..self.fences_lost_at.len()).filter(lost).map(|node| NodeId(node as u8)).collect()
    }
}

/// Ends the exemptions whose fault goes on.
fn end_ongoing(exemptions: &mut [Exemption], now: u64) {
    for exemption in exemptions.iter_mut().filter(|exemption| exemption.until == u64::MAX) {
        exemption.until = now;
    }
}

/// Whether this many nodes can cover the intersection of two quorums, which has at least 2q − N nodes. If all
/// of an intersection loses its fences, the order of the fencing numbers may break.
pub(super) fn covers_quorum_intersection(nodes: usize, plan: &Plan) -> bool {
    let fewest = 2 * plan.quorum.needed() - plan.quorum.nodes();
    // Quorums of lists that follow each other may share one node.
    nodes >= if plan.reconfigures() { 1 } else { fewest }
}

const NANOS_PER_MICRO: u64 = 1000;
