//! One key's queue: the tasks of this client that wait for the key, and the state of its local run.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::Pause;
use crate::driver::now;
use quorlock_proto::fairness::Cohort;
use quorlock_proto::time::BootTime;

/// The waiting tasks of one key. A client may hold thousands of locks, and most have no waiting tasks.
pub(super) enum KeyQueue {
    /// One task of this client holds the key or tries to acquire it; no other task waits.
    Bare(FairnessState),
    Full(Box<FullQueue>),
}

/// The state that every key has.
#[derive(Clone, Copy)]
pub(super) struct FairnessState {
    pub(super) cohort: Cohort,
    /// Since when the key has been handed from task to task in this client without a gap.
    pub(super) local_run_since: BootTime,
}

pub(super) struct FullQueue {
    pub(super) fairness: FairnessState,
    /// Whether the last release notified no other process, because the next task here was to take the key.
    pub(super) is_notify_deferred: bool,
    pub(super) waiting: VecDeque<oneshot::Sender<Pause>>,
    /// Notified when the cohort has changed while a task contends.
    pub(super) wakeup: Option<Arc<Notify>>,
    /// Since when no task here holds or wants the key. Only the cohort is kept then, for a second.
    pub(super) idle_since: Option<BootTime>,
}

impl KeyQueue {
    pub(super) fn head(&mut self) -> &mut FairnessState {
        match self {
            Self::Bare(head) => head,
            Self::Full(contended) => &mut contended.fairness,
        }
    }

    /// Makes room for more than one task.
    pub(super) fn contended(&mut self) -> &mut FullQueue {
        if let Self::Bare(head) = *self {
            *self = Self::Full(Box::new(FullQueue {
                fairness: head,
                is_notify_deferred: false,
                waiting: VecDeque::new(),
                wakeup: None,
                idle_since: None,
            }));
        }
        match self {
            Self::Full(contended) => contended,
            Self::Bare(_) => unreachable!("it was made contended"),
        }
    }

    /// The number of waiting tasks.
    pub(super) fn waiting(&self) -> usize {
        match self {
            Self::Bare(_) => 0,
            Self::Full(contended) => contended.waiting.len(),
        }
    }

    pub(super) fn idle_since(&self) -> Option<BootTime> {
        match self {
            Self::Bare(_) => None,
            Self::Full(contended) => contended.idle_since,
        }
    }

    pub(super) fn wake(&self) {
        if let Self::Full(contended) = self
            && let Some(wakeup) = &contended.wakeup
        {
            wakeup.notify_one();
        }
    }
}

impl FairnessState {
    pub(super) fn new(cohort: Cohort) -> Self {
        Self { cohort, local_run_since: now().boot() }
    }
}
