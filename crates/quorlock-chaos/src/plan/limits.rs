//! The limits of planned faults: what the lock survives.

use std::time::Duration;

use super::Planner;
use crate::faults::{FaultKind, Injection};

impl Planner {
    /// When a fault of this kind may begin: at `at` or later. An address moves when fewer nodes than the quorum can
    /// spare are yet to vote again, and a reconfiguration begins when all vote. None if the quorum can spare no
    /// node. None also if the fault may lose data and a reconfiguration is under way: clients do not have the list
    /// of nodes that is in force then, so they give no server a seat.
    pub(super) fn earliest(&self, kind: FaultKind, at: Duration) -> Option<Duration> {
        if at < self.reconfigured_by && !kind.keeps_data_and_address() {
            return None;
        }
        let mut votes_from = self.votes_from.clone();
        votes_from.sort_unstable();
        let earliest = match kind {
            FaultKind::AddressMove => votes_from.get(self.input.quorum).copied(),
            FaultKind::Reconfiguration => votes_from[self.input.quorum..].last().copied(),
            _ => Some(at),
        };
        Some(earliest?.max(at))
    }

    /// Limits the nodes of a fault while an address is moved, and until its node votes again. Of the members,
    /// a quorum must keep its data and addresses then. Otherwise old connections lead to one lock cluster, and
    /// new ones to another.
    pub(super) fn limit_data_loss(&self, kind: FaultKind, at: Duration, nodes: &mut Vec<usize>) {
        let is_limited = kind == FaultKind::AddressMove || at < self.moved_until;
        if !is_limited || kind.keeps_data_and_address() {
            return;
        }
        let is_recovering = |node: usize| self.votes_from[node] > at;
        let recovering = (0..self.input.nodes).filter(|node| is_recovering(*node)).count();
        let Some(mut room) = (self.input.nodes - self.input.quorum).checked_sub(recovering) else {
            return nodes.clear();
        };
        nodes.retain(|node| {
            let is_new = !is_recovering(*node);
            let is_kept = !is_new || room > 0;
            room -= usize::from(is_new && is_kept);
            is_kept
        });
    }

    /// Changes a clock fault so that it reduces the error of wrong clocks, and never increases it. When nodes
    /// lose data, fencing numbers are ordered only if clock errors are below a bound.
    pub(super) fn clamp_clock_change(
        &mut self,
        injection: Injection,
        nodes: &[usize],
        duration: Duration,
    ) -> Injection {
        let error_micros: i64 = nodes.iter().map(|node| self.clock_gain_micros[*node]).sum();
        if let Injection::ClockJump { micros } = injection
            && error_micros.abs() >= WRONG_CLOCK_MICROS
        {
            return Injection::ClockJump { micros: -error_micros.signum() * micros.abs() };
        }
        let Injection::ClockSkew { mut ppm } = injection else { return injection };
        if error_micros.signum() == ppm.signum() {
            ppm = -ppm;
        }
        for node in nodes {
            self.clock_gain_micros[*node] += duration.as_millis() as i64 * ppm / 1_000;
        }
        Injection::ClockSkew { ppm }
    }
}

/// From this error on, a clock is only corrected. A jump is at most 0.5 s.
const WRONG_CLOCK_MICROS: i64 = 300_000;
