//! The state that the threads of a run share: its phases with their times, and changes at the nodes.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use quorlock::CancellationToken;
use quorlock::event::{Event, FailureReason};

use crate::reaper::boot_nanos;

/// A phase of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// One task.
    Alone,
    /// All tasks.
    Load,
    /// All tasks, while one node is dead.
    NodeDown,
    /// All tasks, while that node runs again.
    NodeBack,
}

impl Phase {
    pub(super) const ALL: [Self; 4] = [Self::Alone, Self::Load, Self::NodeDown, Self::NodeBack];

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// The shared state.
#[derive(Default)]
pub(super) struct ProgressState {
    /// When each phase began, in nanoseconds of the boot clock; 0 if it has not.
    began: [AtomicU64; 4],
    phase: AtomicUsize,
    ended: AtomicU64,
    pub(super) locks: AtomicU64,
    /// Ends the run.
    pub(super) stop: CancellationToken,
}

impl ProgressState {
    pub(super) fn enter(&self, phase: Phase) {
        self.began[phase.index()].store(boot_nanos(), Ordering::Release);
        self.phase.store(phase.index(), Ordering::Release);
    }

    /// Records the end of the run and stops its tasks. Only the first call sets the time.
    pub(super) fn end(&self) {
        let _ = self.ended.compare_exchange(0, boot_nanos(), Ordering::AcqRel, Ordering::Relaxed);
        self.stop.cancel();
    }

    pub(super) fn phase(&self) -> Phase {
        Phase::ALL[self.phase.load(Ordering::Acquire)]
    }

    /// When a phase began, if it has.
    pub(super) fn began_at(&self, phase: Phase) -> Option<u64> {
        Some(self.began[phase.index()].load(Ordering::Acquire)).filter(|at| *at > 0)
    }

    /// The beginning and end of a phase.
    pub(super) fn span(&self, phase: Phase) -> Option<(u64, u64)> {
        let from = self.began_at(phase)?;
        let later = Phase::ALL[phase.index() + 1..].iter().find_map(|later| self.began_at(*later));
        Some((from, later.unwrap_or_else(|| self.ended.load(Ordering::Acquire))))
    }
}

/// Counts the client's events.
#[derive(Default)]
pub(super) struct EventCounter {
    replies: AtomicU64,
    failed: AtomicU64,
    changes: Mutex<Vec<NodeChange>>,
}

/// A change at a node.
#[derive(Clone, Debug)]
pub(super) struct NodeChange {
    pub(super) at: u64,
    pub(super) node: String,
    pub(super) what: &'static str,
    /// The time after `at` in which it is up and casts no vote.
    pub(super) probation_nanos: u64,
}

impl EventCounter {
    /// The number of replies.
    pub(super) fn replies(&self) -> u64 {
        self.replies.load(Ordering::Relaxed)
    }

    /// The number of attempts that found no quorum, or found it too late.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn changes(&self) -> Vec<NodeChange> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn on_event(&self, event: &Event) {
        let mut probation_nanos = 0;
        let (node, what) = match event {
            Event::ReplyReceived { .. } => {
                self.replies.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Event::AcquireFailed { reason: FailureReason::Contended { .. }, .. } => return,
            Event::AcquireFailed { .. } => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Event::NodeUp { node, .. } => (node, "up"),
            Event::NodeDown { node, .. } => (node, "down"),
            Event::NodeExcluded { node, .. } => (node, "excluded"),
            Event::NodeOnProbation { node, remaining, .. } => {
                probation_nanos = remaining.as_nanos() as u64;
                (node, "on probation")
            }
            Event::ClockJumped { node, .. } => (node, "clock jumped"),
            _ => return,
        };
        let change = NodeChange { at: boot_nanos(), node: node.to_string(), what, probation_nanos };
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }
}
