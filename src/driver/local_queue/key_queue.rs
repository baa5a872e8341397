//! One key's local queue: the tasks of this client that wait for the key, and its state towards other
//! processes.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::Pause;
use crate::host::clock::now;
use quorlock_proto::fairness::Cohort;
use quorlock_proto::time::BootTime;

/// One key's local queue. A client may hold thousands of locks, and most have no waiting tasks.
pub(super) enum KeyQueue {
    /// Without room for waiting tasks: one task of this client holds the key or contends for it, and no other
    /// waits.
    Bare(FairnessState),
    /// With room for waiting tasks, also if none waits now.
    Full(Box<FullQueue>),
}

/// The state towards other processes, which every key has.
#[derive(Clone, Copy)]
pub(super) struct FairnessState {
    pub(super) cohort: Cohort,
    /// Since when the key has been handed from task to task in this client without a gap.
    pub(super) local_run_since: BootTime,
}

/// A key's local queue with room for waiting tasks.
pub(super) struct FullQueue {
    pub(super) fairness: FairnessState,
    /// Whether the last release notified no other process, because the next task here was to take the key.
    pub(super) is_notify_deferred: bool,
    /// The waiting tasks in order of arrival. Sending a task its pause admits it.
    pub(super) waiting: VecDeque<oneshot::Sender<Pause>>,
    /// Wakes the contending task when the cohort has changed.
    pub(super) wakeup: Option<Arc<Notify>>,
    /// Since when no task here holds or wants the key. Then only the cohort matters, for
    /// [`IDLE_RETENTION`](super::IDLE_RETENTION).
    pub(super) idle_since: Option<BootTime>,
}

impl KeyQueue {
    pub(super) fn fairness(&mut self) -> &mut FairnessState {
        match self {
            Self::Bare(fairness) => fairness,
            Self::Full(full) => &mut full.fairness,
        }
    }

    /// Makes room for waiting tasks.
    pub(super) fn make_full(&mut self) -> &mut FullQueue {
        if let Self::Bare(fairness) = *self {
            *self = Self::Full(Box::new(FullQueue {
                fairness,
                is_notify_deferred: false,
                waiting: VecDeque::new(),
                wakeup: None,
                idle_since: None,
            }));
        }
        match self {
            Self::Full(full) => full,
            Self::Bare(_) => unreachable!("just made full"),
        }
    }

    /// The number of waiting tasks.
    pub(super) fn waiting_count(&self) -> usize {
        match self {
            Self::Bare(_) => 0,
            Self::Full(full) => full.waiting.len(),
        }
    }

    /// Since when no task here holds or wants the key; `None` while a task does.
    pub(super) fn idle_since(&self) -> Option<BootTime> {
        match self {
            Self::Bare(_) => None,
            Self::Full(full) => full.idle_since,
        }
    }

    /// The `Notify` of the contending task, if it waits. Notify it when the cohort has changed.
    pub(super) fn wakeup(&self) -> Option<Arc<Notify>> {
        match self {
            Self::Bare(_) => None,
            Self::Full(full) => full.wakeup.clone(),
        }
    }
}

impl FairnessState {
    pub(super) fn new(cohort: Cohort) -> Self {
        Self { cohort, local_run_since: now().boot() }
    }
}
