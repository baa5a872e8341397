//! Exemptions: faults beyond the guarantees, which may break an invariant, and for how long.
//!
//! The invariant checkers ask here whether a broken invariant has a cause. Without a cause it is a violation.

use super::oracle::Oracle;
use super::plan::Plan;
use super::stats::Cause;
use crate::fence::CLOCK_TOLERANCE_MICROS;
use crate::quorum::{NodeId, NodeSet};

/// A fault beyond the guarantees, on one node or one client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exemption {
    /// `u64::MAX` while the fault goes on.
    pub(super) until: u64,
    pub(super) cause: Cause,
}

impl Oracle {
    /// Records that the node's clock, or its treatment of keys, is beyond the guarantees until then.
    pub(super) fn exempt_node(&mut self, node: usize, until: u64, cause: Cause) {
        self.node_exemptions[node].push(Exemption { until, cause });
    }

    pub(super) fn exempt_client(&mut self, client: usize, until: u64, cause: Cause) {
        self.client_exemptions[client].push(Exemption { until, cause });
    }

    /// Ends the open exemptions of a node whose clock runs at its normal rate again.
    pub(super) fn end_node_exemptions(&mut self, node: usize, now: u64) {
        end_ongoing(&mut self.node_exemptions[node], now);
    }

    pub(super) fn end_client_exemptions(&mut self, client: usize, now: u64) {
        end_ongoing(&mut self.client_exemptions[client], now);
    }

    pub(super) fn note_data_change(&mut self, node: usize, now: u64, lost_fences: bool) {
        self.changed_at[node] = now;
        if lost_fences {
            self.fences_lost_at[node] = now;
        }
    }

    /// An operator initialized the lock cluster again, which confirms that no earlier lock counts.
    pub(super) fn clear_data_changes(&mut self) {
        self.changed_at = [0; 5];
    }

    pub(super) fn note_clock_error(&mut self, nanos: u64) {
        self.max_clock_error_nanos = self.max_clock_error_nanos.max(nanos);
    }

    /// Extends undetected exemptions: no client could read the node's marker since then, and the next read
    /// detects them.
    pub(super) fn prolong_undetected(&mut self, node: usize, since: u64, until: u64) {
        let is_open =
            |exemption: &&mut Exemption| exemption.cause.is_undetected() && exemption.until >= since;
        for exemption in self.node_exemptions[node].iter_mut().filter(is_open) {
            exemption.until = until;
        }
    }

    /// What may have expired a key early on the node or erased the node's data, for all clients.
    pub(super) fn node_exemption_active_after(&self, node: usize, since: u64) -> Option<Cause> {
        let exemptions = self.node_exemptions[node].iter().rev();
        let mut matching = exemptions
            .filter(|exemption| exemption.until >= since && exemption.cause != Cause::ClockBehindAtStart);
        matching.next().map(|exemption| exemption.cause)
    }

    /// Whether the node started with its clock behind, which was corrected since, and the client that got its
    /// vote first met the node after that.
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

    pub(super) fn client_exemption_active_after(&self, client: usize, since: u64) -> Option<Cause> {
        let mut exemptions = self.client_exemptions[client].iter();
        exemptions.rfind(|exemption| exemption.until >= since).map(|exemption| exemption.cause)
    }

    /// The nodes where a key may have been lost or shortened since then.
    pub(super) fn nodes_exempt_after(&self, since: u64) -> NodeSet {
        let is_exempt = |node: &usize| {
            self.node_exemption_active_after(*node, since).is_some()
                || self.changed_at[*node] >= since && self.changed_at[*node] > 0
        };
        (0..5).filter(is_exempt).map(|node| NodeId(node as u8)).collect()
    }

    /// What exempts that fencing numbers given since then repeat, or fall below `number`, which was given
    /// then.
    pub(super) fn fence_loss_exemption(&self, since: u64, number: Option<u64>, plan: &Plan) -> Option<Cause> {
        let lost = self.nodes_without_fences_since(since);
        if !covers_quorum_intersection(lost.len(), plan) {
            return None;
        }
        // Without a probation, the clocks have no time to overtake all other numbers.
        let is_undetected = |node: &NodeId| {
            let mut exemptions = self.node_exemptions[node.index()].iter();
            exemptions.any(|exemption| exemption.cause.is_undetected() && exemption.until >= since)
        };
        let tolerated = (plan.max_ttl_nanos().saturating_sub(CLOCK_TOLERANCE_MICROS * 1000)) / 2;
        if lost.iter().any(|node| is_undetected(&node)) {
            Some(Cause::RoleChangeUndetected)
        } else {
            // A new fence starts above the time of the loss plus the probation. A larger minimum number,
            // which a client requested, is lost forever.
            let min = crate::test_util::node::EPOCH + since + plan.max_ttl_nanos();
            let is_far = number.is_some_and(|number| number * 1000 + self.max_clock_error_nanos >= min);
            let by_clock = (self.max_clock_error_nanos >= tolerated).then_some(Cause::DataLossAndClockError);
            by_clock.or(is_far.then_some(Cause::MinFencingNumberLost))
        }
    }

    pub(super) fn nodes_without_fences_since(&self, since: u64) -> NodeSet {
        let lost = |node: &usize| self.fences_lost_at[*node] >= since && self.fences_lost_at[*node] > 0;
        (0..5).filter(lost).map(|node| NodeId(node as u8)).collect()
    }
}

fn end_ongoing(exemptions: &mut [Exemption], now: u64) {
    for exemption in exemptions.iter_mut().filter(|exemption| exemption.until == u64::MAX) {
        exemption.until = now;
    }
}

/// Whether this many nodes can contain an intersection of two quorums (2q − N nodes). Then their loss of
/// fences may break the order of the fencing numbers.
pub(super) fn covers_quorum_intersection(nodes: usize, plan: &Plan) -> bool {
    nodes >= 2 * plan.quorum.needed() - plan.quorum.nodes()
}
