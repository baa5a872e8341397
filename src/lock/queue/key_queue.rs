//! One key's queue: the tasks of this client that wait for it, and what is known of its local run.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::Delay;
use crate::driver::now;
use quorlock_proto::fairness::Cohort;
use quorlock_proto::time::BootTime;

/// Locks are held by the thousand, and nobody waits for most of them.
pub(super) enum KeyQueue {
    /// Somebody here has the key or tries to get it, and that is all.
    Uncontended(QueueHead),
    Contended(Box<ContendedQueue>),
}

/// What there is to know of every key.
#[derive(Clone, Copy)]
pub(super) struct QueueHead {
    pub(super) cohort: Cohort,
    /// Since when the key has gone from task to task in this client without a gap.
    pub(super) local_run_since: BootTime,
}

pub(super) struct ContendedQueue {
    pub(super) head: QueueHead,
    /// Whether the key was given up and nobody called, because the next task here was to take it.
    pub(super) is_notify_deferred: bool,
    pub(super) waiting: VecDeque<oneshot::Sender<Delay>>,
    /// Rings when the share has changed under whoever contends.
    pub(super) wakeup: Option<Arc<Notify>>,
    /// Since when nobody here has or wants the key. Only its share is remembered, for a while.
    pub(super) idle_since: Option<BootTime>,
}

impl KeyQueue {
    pub(super) fn head(&mut self) -> &mut QueueHead {
        match self {
            Self::Uncontended(head) => head,
            Self::Contended(contended) => &mut contended.head,
        }
    }

    /// Makes room for more than one.
    pub(super) fn contended(&mut self) -> &mut ContendedQueue {
        if let Self::Uncontended(head) = *self {
            let (waiting, owes_call) = (VecDeque::new(), false);
            *self = Self::Contended(Box::new(ContendedQueue {
                head,
                is_notify_deferred: owes_call,
                waiting,
                wakeup: None,
                idle_since: None,
            }));
        }
        match self {
            Self::Contended(contended) => contended,
            Self::Uncontended(_) => unreachable!("it was made a crowd"),
        }
    }

    /// How many tasks wait.
    pub(super) fn waiting(&self) -> usize {
        match self {
            Self::Uncontended(_) => 0,
            Self::Contended(contended) => contended.waiting.len(),
        }
    }

    pub(super) fn idle_since(&self) -> Option<BootTime> {
        match self {
            Self::Uncontended(_) => None,
            Self::Contended(contended) => contended.idle_since,
        }
    }

    pub(super) fn wake(&self) {
        if let Self::Contended(contended) = self
            && let Some(wakeup) = &contended.wakeup
        {
            wakeup.notify_one();
        }
    }
}

impl QueueHead {
    pub(super) fn new(cohort: Cohort) -> Self {
        Self { cohort, local_run_since: now().boot() }
    }
}
