//! Keeps faults within what a roster survives, also if they take longer or begin later than planned.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::stop_signal::StopSignal;
use super::timing::{MAX_DELAY, MAX_TTL, PROBATION_SLACK};
use crate::faults::FaultKind;
use crate::history;

/// The limits: while an address is moved, and for the max TTL afterwards, a quorum of the nodes keeps its data and
/// addresses. During a reconfiguration, all nodes but one do.
pub(super) struct RosterLimits {
    /// How many nodes may lose data or their address at once; unlimited for plain locks, which have no roster.
    spare_count: usize,
    losses: Mutex<Losses>,
}

#[derive(Default)]
struct Losses {
    next_id: u64,
    all: Vec<Loss>,
}

/// A fault whose nodes lose data, their process, their clock, their address or their seat.
struct Loss {
    id: u64,
    kind: FaultKind,
    nodes: Vec<usize>,
    /// When its nodes have passed their probation; none while it is under way.
    until: Option<u64>,
}

/// A fault within the limits. It ends when this value is dropped.
pub(super) struct Reservation<'a> {
    limits: &'a RosterLimits,
    id: Option<u64>,
}

impl RosterLimits {
    pub(super) fn new(nodes: usize, is_fenced: bool) -> Self {
        let spare_count = if is_fenced { nodes - (nodes / 2 + 1) } else { usize::MAX };
        Self { spare_count, losses: Mutex::default() }
    }

    /// Waits until the fault is within the limits. None if that takes too long.
    pub(super) fn reserve(
        &self,
        kind: FaultKind,
        nodes: &[usize],
        stop: &StopSignal,
    ) -> Option<Reservation<'_>> {
        let give_up_at = history::now() + MAX_DELAY.as_nanos() as u64;
        loop {
            let now = history::now();
            if let Some(reservation) = self.try_reserve(kind, nodes, now) {
                return Some(reservation);
            }
            if stop.is_set() || now >= give_up_at {
                return None;
            }
            stop.sleep(RETRY_INTERVAL);
        }
    }

    fn try_reserve(&self, kind: FaultKind, nodes: &[usize], now: u64) -> Option<Reservation<'_>> {
        if kind.keeps_data_and_address() {
            return Some(Reservation { limits: self, id: None });
        }
        let mut losses = self.losses();
        losses.all.retain(|loss| loss.until.is_none_or(|until| now < until));
        if !losses.admit(kind, nodes, self.spare_count) {
            return None;
        }
        let id = losses.next_id;
        losses.next_id += 1;
        losses.all.push(Loss { id, kind, nodes: nodes.to_vec(), until: None });
        Some(Reservation { limits: self, id: Some(id) })
    }

    fn losses(&self) -> MutexGuard<'_, Losses> {
        // No code panics while it holds this mutex.
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Losses {
    fn admit(&self, kind: FaultKind, nodes: &[usize], spare_count: usize) -> bool {
        let mut under_way = self.all.iter().filter(|loss| loss.until.is_none());
        if kind == FaultKind::Reconfiguration {
            return under_way.next().is_none();
        }
        let is_move = |kind| kind == FaultKind::AddressMove;
        if under_way.any(|loss| loss.kind == FaultKind::Reconfiguration) {
            return false;
        }
        let all = self.all.iter().flat_map(|loss| &loss.nodes).chain(nodes).copied();
        let all: BTreeSet<usize> = all.collect();
        let moves = is_move(kind) || self.all.iter().any(|loss| is_move(loss.kind));
        !moves || all.len() <= spare_count
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let until = history::now() + (MAX_TTL + PROBATION_SLACK).as_nanos() as u64;
        let mut losses = self.limits.losses();
        if let Some(loss) = losses.all.iter_mut().find(|loss| loss.id == id) {
            loss.until = Some(until);
        }
    }
}

const RETRY_INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn is_admitted(limits: &RosterLimits, kind: FaultKind, nodes: &[usize], later: u64) -> bool {
        limits.try_reserve(kind, nodes, history::now() + later).is_some()
    }

    #[test]
    fn a_quorum_keeps_its_data_and_addresses_until_the_probation_after_a_move() {
        let limits = RosterLimits::new(5, true);
        let moved = limits.try_reserve(FaultKind::AddressMove, &[0], history::now()).expect("the first");
        for later in [0, SECOND, 60 * SECOND] {
            assert!(!is_admitted(&limits, FaultKind::Flush, &[1, 2], later), "three of five would lose data");
            assert!(!is_admitted(&limits, FaultKind::AddressMove, &[1, 2], later));
        }
        assert!(is_admitted(&limits, FaultKind::Partition, &[0, 1, 2, 3, 4], 0), "they keep their data");
        drop(moved);
        assert!(!is_admitted(&limits, FaultKind::Kill, &[1, 2], SECOND));
        assert!(is_admitted(&limits, FaultKind::Kill, &[1, 2], 3 * SECOND));
    }

    #[test]
    fn nodes_that_lost_data_before_a_move_count() {
        let limits = RosterLimits::new(5, true);
        drop(limits.try_reserve(FaultKind::Flush, &[0, 1, 2], history::now()).expect("no address has moved"));
        assert!(!is_admitted(&limits, FaultKind::AddressMove, &[0], SECOND));
        assert!(is_admitted(&limits, FaultKind::AddressMove, &[0], 3 * SECOND));
    }

    #[test]
    fn no_node_loses_data_during_a_reconfiguration() {
        let limits = RosterLimits::new(5, true);
        let flush = limits.try_reserve(FaultKind::Flush, &[0], history::now()).expect("the first");
        assert!(!is_admitted(&limits, FaultKind::Reconfiguration, &[1], 0));
        drop(flush);
        let reconfiguration = limits.try_reserve(FaultKind::Reconfiguration, &[1], history::now());
        assert!(reconfiguration.is_some(), "it waits itself until all nodes vote");
        assert!(!is_admitted(&limits, FaultKind::Flush, &[0], 60 * SECOND));
        assert!(is_admitted(&limits, FaultKind::Pause, &[0, 2], 0));
        drop(reconfiguration);
        assert!(is_admitted(&limits, FaultKind::Flush, &[0, 1, 2, 3, 4], 0));
    }

    #[test]
    fn plain_locks_have_no_limit() {
        let limits = RosterLimits::new(5, false);
        assert!(is_admitted(&limits, FaultKind::AddressMove, &[0, 1, 2], 0));
    }
}
