//! What was done that may excuse a broken promise: by whom, to whom, and until when.

use super::oracle::Oracle;
use super::plan::Plan;
use super::tally::Cause;
use crate::fence::CLOCK_TOLERANCE_MICROS;
use crate::quorum::{NodeId, NodeSet};

/// Something that was done beyond what is promised to stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hurt {
    /// `u64::MAX` while it goes on.
    pub(super) until: u64,
    pub(super) by: Cause,
}

impl Oracle {
    /// The clock of a node, or what it does with keys, is beyond what the locks promise to stand, until then.
    pub(super) fn hurt(&mut self, node: usize, until: u64, by: Cause) {
        self.hurt[node].push(Hurt { until, by });
    }

    pub(super) fn mislead(&mut self, who: usize, until: u64, by: Cause) {
        self.misled[who].push(Hurt { until, by });
    }

    /// A clock runs as it should again.
    pub(super) fn heal_node(&mut self, node: usize, now: u64) {
        heal(&mut self.hurt[node], now);
    }

    pub(super) fn heal_client(&mut self, who: usize, now: u64) {
        heal(&mut self.misled[who], now);
    }

    pub(super) fn change(&mut self, node: usize, now: u64, forgot: bool) {
        self.changed_at[node] = now;
        if forgot {
            self.forgot_at[node] = now;
        }
    }

    /// An operator says that there is nothing to forget.
    pub(super) fn forgive(&mut self) {
        self.changed_at = [0; 5];
    }

    pub(super) fn error(&mut self, nanos: u64) {
        self.worst_error = self.worst_error.max(nanos);
    }

    /// Nobody could look at the node since then, but who looks now will see what it is.
    pub(super) fn prolong_unseen(&mut self, node: usize, since: u64, until: u64) {
        let unseen = |hurt: &&mut Hurt| hurt.by.is_unseen() && hurt.until >= since;
        for hurt in self.hurt[node].iter_mut().filter(unseen) {
            hurt.until = until;
        }
    }

    /// What may have cost a key on the node its time, or the node its memory, for everybody.
    pub(super) fn hurt_since(&self, node: usize, since: u64) -> Option<Cause> {
        let hurts = self.hurt[node].iter().rev();
        let mut hurts = hurts.filter(|hurt| hurt.until >= since && hurt.by != Cause::ClockBehindAtStart);
        hurts.next().map(|hurt| hurt.by)
    }

    /// Whether the node's clock was behind when it came up, and set right since then, and who had its vote after that did
    /// not know it before.
    pub(super) fn misled_by_clock_since(&self, node: usize, since: u64, known_since: u64) -> Option<Cause> {
        let is_behind = |hurt: &&Hurt| hurt.by == Cause::ClockBehindAtStart && hurt.until >= since;
        let hurt = self.hurt[node].iter().rfind(is_behind)?;
        (known_since > hurt.until).then_some(hurt.by)
    }

    pub(super) fn misled_since(&self, who: usize, since: u64) -> Option<Cause> {
        last_since(&self.misled[who], since)
    }

    /// Nodes where something was done since that may have cost a key, or its time.
    pub(super) fn robbed_since(&self, since: u64) -> NodeSet {
        let is_robbed = |node: &usize| {
            self.hurt_since(*node, since).is_some()
                || self.changed_at[*node] >= since && self.changed_at[*node] > 0
        };
        (0..5).filter(is_robbed).map(|node| NodeId(node as u8)).collect()
    }

    /// Why numbers given since may repeat, or fall below this one that was given then, if they may.
    pub(super) fn amnesty(&self, since: u64, number: Option<u64>, plan: &Plan) -> Option<Cause> {
        let forgot = self.forgot_since(since);
        if !can_forget(forgot.len(), plan) {
            return None;
        }
        // Without a probation there is no time in which all other numbers are overtaken.
        let is_unseen = |node: &NodeId| {
            let mut hurts = self.hurt[node.index()].iter();
            hurts.any(|hurt| hurt.by.is_unseen() && hurt.until >= since)
        };
        let tolerated = (plan.longest_nanos().saturating_sub(CLOCK_TOLERANCE_MICROS * 1000)) / 2;
        if forgot.iter().any(|node| is_unseen(&node)) {
            Some(Cause::RoleUnseen)
        } else {
            // Who begins again begins above the time at which it forgot and its probation. A number that somebody asked
            // for, ahead of that, is forgotten for good.
            let least = crate::test_util::node::EPOCH + since + plan.longest_nanos();
            let is_far = number.is_some_and(|number| number * 1000 + self.worst_error >= least);
            let by_clock = (self.worst_error >= tolerated).then_some(Cause::ForgotAndClock);
            by_clock.or(is_far.then_some(Cause::ForgotFloor))
        }
    }

    pub(super) fn forgot_since(&self, since: u64) -> NodeSet {
        let forgot = |node: &usize| self.forgot_at[*node] >= since && self.forgot_at[*node] > 0;
        (0..5).filter(forgot).map(|node| NodeId(node as u8)).collect()
    }
}

fn heal(hurts: &mut [Hurt], now: u64) {
    for hurt in hurts.iter_mut().filter(|hurt| hurt.until == u64::MAX) {
        hurt.until = now;
    }
}

fn last_since(hurts: &[Hurt], since: u64) -> Option<Cause> {
    hurts.iter().rfind(|hurt| hurt.until >= since).map(|hurt| hurt.by)
}

/// Whether so many nodes may cost the numbers their order.
pub(super) fn can_forget(nodes: usize, plan: &Plan) -> bool {
    nodes >= 2 * plan.quorum.needed() - plan.quorum.nodes()
}
