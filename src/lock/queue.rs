//! The local queue: tasks of one client wait for a key, first come, first served. One contender per key and process
//! talks to the nodes; the wait queue orders the processes.
//!
//! A task gets its admission before the first attempt and keeps it until the lock is released or lost. The admission is
//! passed on directly after the release. Thus the next attempt's SETs go out in the same write as the release, without
//! a pause. `quorlock_proto::fairness` decides how often a process may do that while others wait, and when it enqueues
//! in the wait queue.

mod key_queue;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::driver::{
    AdmissionReturn, CommandSender, DriverCommand, QueueEvent, QueueListener, SharedLease, jitter, now,
};
use key_queue::{KeyQueue, FairnessState};
use quorlock_proto::fairness::{Cohort, NextAction};
use quorlock_proto::request::Key;
use quorlock_proto::time::BootTime;

/// The queues of waiting tasks, one for each key that a task of this client holds or wants.
pub(super) struct LocalQueue {
    /// Shared with [`QueueEvents`].
    queues: Arc<Mutex<KeyQueues>>,
    commands: CommandSender,
    /// Given to leases that own an admission.
    admission_return: Arc<AdmissionReturn>,
}

type KeyQueues = HashMap<Key, KeyQueue>;

/// Passes the driver's queue events to the local queue.
pub(super) struct QueueEvents(Arc<Mutex<KeyQueues>>);

/// How long a task must wait before it uses its admission.
type Pause = Duration;

/// A task's right to contend for a key. Dropping it passes it on to the next task.
pub(super) struct Admission {
    queue: Arc<LocalQueue>,
    key: Key,
    /// False once a lease has taken the admission over.
    is_ours: bool,
    /// How long to wait before the first attempt, so that clients without a wait queue can acquire it.
    pub(super) pause: Pause,
    /// Whether nothing was known of the key when this admission was given, so that the first attempt can start at once.
    is_key_new: bool,
}

/// A task's position in the local queue. Dropping it gives the position up, even at the moment of its admission.
struct Waiter {
    queue: Arc<LocalQueue>,
    key: Key,
    receiver: oneshot::Receiver<Pause>,
}

impl LocalQueue {
    /// Creates the queue and its listener for the driver. The listener does not keep the driver from ending.
    pub(super) fn new(commands: CommandSender) -> (Arc<Self>, QueueEvents) {
        let queues = Arc::default();
        let state = (Arc::clone(&queues), commands.clone());
        let admission_return =
            Arc::new(AdmissionReturn::new(move |key| pass_admission_on(&state.0, &state.1, key)));
        (Arc::new(Self { queues: Arc::clone(&queues), commands, admission_return }), QueueEvents(queues))
    }

    /// Admits the task at once if no other task here is admitted.
    pub(super) fn try_admit(self: &Arc<Self>, key: &Key) -> Option<Admission> {
        self.admit_if_idle(&mut self.lock(), key)
    }

    /// Whether the next task here takes the key before other processes do. If so, a release now does not notify them.
    pub(super) fn decide_hand_off(&self, key: &Key) -> bool {
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(key) else { return false };
        let KeyQueue::Full(contended) = queue else { return false };
        let has_waiter = contended.waiting.iter().any(|admit| !admit.is_closed());
        contended.is_notify_deferred =
            contended.fairness.cohort.next_action() == NextAction::Acquire && has_waiter;
        contended.is_notify_deferred
    }

    /// Waits for the admission, after all tasks that came before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the position in the queue. No admission is lost.
    pub(super) async fn admit(self: &Arc<Self>, key: &Key) -> Admission {
        loop {
            let mut waiter = match self.join(key) {
                Ok(admission) => return admission,
                Err(waiter) => waiter,
            };
            if let Ok(pause) = (&mut waiter.receiver).await {
                return self.admission_of(key, pause);
            }
        }
    }

    fn admit_if_idle(self: &Arc<Self>, queues: &mut KeyQueues, key: &Key) -> Option<Admission> {
        let is_fresh = match queues.entry(key.clone()) {
            Entry::Occupied(mut queue) => {
                let KeyQueue::Full(contended) = queue.get_mut() else { return None };
                let idle_since = contended.idle_since.take()?;
                let now = now();
                if idle_since.elapsed(now) >= IDLE_RETENTION {
                    contended.fairness.cohort = Cohort::default();
                }
                contended.fairness.local_run_since = now.boot();
                false
            }
            Entry::Vacant(entry) => {
                entry.insert(KeyQueue::Bare(FairnessState::new(Cohort::default())));
                true
            }
        };
        let mut admission = self.admission_of(key, Duration::ZERO);
        admission.is_key_new = is_fresh;
        Some(admission)
    }

    fn join(self: &Arc<Self>, key: &Key) -> Result<Admission, Waiter> {
        let mut queues = self.lock();
        if let Some(admission) = self.admit_if_idle(&mut queues, key) {
            return Ok(admission);
        }
        let (admit, admitted) = oneshot::channel();
        if let Some(queue) = queues.get_mut(key) {
            let waiting = &mut queue.contended().waiting;
            if waiting.len() == waiting.capacity() {
                // Remove tasks that have left before the queue grows: while a lock is held for long, many tasks may
                // come and go.
                waiting.retain(|admit| !admit.is_closed());
                waiting.reserve(waiting.len() + 1);
            }
            waiting.push_back(admit);
        }
        Err(Waiter { queue: Arc::clone(self), key: key.clone(), receiver: admitted })
    }

    fn admission_of(self: &Arc<Self>, key: &Key, pause: Pause) -> Admission {
        Admission { queue: Arc::clone(self), key: key.clone(), is_ours: true, pause, is_key_new: false }
    }

    fn release_admission(&self, key: &Key) {
        pass_admission_on(&self.queues, &self.commands, key);
    }

    fn lock(&self) -> MutexGuard<'_, KeyQueues> {
        lock(&self.queues)
    }
}

/// Ends a task's admission and admits the next task in the queue.
fn pass_admission_on(queues: &Mutex<KeyQueues>, commands: &CommandSender, key: &Key) {
    let mut queues = lock(queues);
    let Entry::Occupied(mut entry) = queues.entry(key.clone()) else { return };
    let queue = entry.get_mut();
    let now = now();
    if let KeyQueue::Full(contended) = queue {
        let pause = if contended.fairness.local_run_since.elapsed(now) < MAX_LOCAL_RUN {
            Duration::ZERO
        } else {
            // While the key is handed on inside this client, it never looks free to clients without a wait queue. From
            // time to time, pause for a moment so that their polls find it free.
            FOREIGN_CLIENT_GAP / 2 + FOREIGN_CLIENT_GAP.mul_f64(jitter() as f64 / u64::MAX as f64)
        };
        while let Some(admit) = contended.waiting.pop_front() {
            if admit.send(pause).is_ok() {
                if !pause.is_zero() {
                    contended.fairness.local_run_since = now.boot().plus(pause);
                }
                return;
            }
        }
    }
    // The dequeue notifies the next process, if none was notified and the key is free.
    let is_notify_deferred = matches!(queue, KeyQueue::Full(contended) if contended.is_notify_deferred);
    let head = queue.head();
    if head.cohort.on_idle() || is_notify_deferred {
        commands.send(DriverCommand::Dequeue { key: key.clone() });
    }
    if !head.cohort.has_other_waiters() {
        entry.remove();
        return;
    }
    // Keep the cohort, so that a task that returns at once does not go before processes that already wait.
    *queue = KeyQueue::Bare(FairnessState::new(head.cohort));
    queue.contended().idle_since = Some(now.boot());
    if queues.len() >= PRUNE_THRESHOLD && queues.len().is_power_of_two() {
        let is_fresh = |idle_since: BootTime| idle_since.elapsed(now) < IDLE_RETENTION;
        queues.retain(|_, queue| queue.idle_since().is_none_or(is_fresh));
    }
}

fn lock(queues: &Mutex<KeyQueues>) -> MutexGuard<'_, KeyQueues> {
    // No code under this lock can panic half-way, so the queues are consistent even if a task panicked.
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

impl QueueListener for QueueEvents {
    fn on_event(&self, event: QueueEvent<'_>) -> bool {
        let mut queues = lock(&self.0);
        match event {
            QueueEvent::Notified { key, has_others, is_from_waiter: was_found_free } => match queues.get_mut(key) {
                Some(queue) if queue.idle_since().is_none() => {
                    let waiting = queue.waiting();
                    queue.head().cohort.on_notified(has_others, was_found_free, waiting);
                    queue.head().local_run_since = now().boot();
                    queue.wake();
                }
                _ => return false,
            },
            QueueEvent::HasOtherWaiters(key) => {
                if let Some(queue) = queues.get_mut(key) {
                    queue.head().cohort.on_others_waiting();
                }
            }
            QueueEvent::WaitQueuesLost => {
                for queue in queues.values_mut() {
                    queue.head().cohort.on_queue_lost();
                    queue.wake();
                }
            }
        }
        true
    }

    fn end_waits(&self) -> Vec<Key> {
        let mut queues = lock(&self.0);
        let keys = queues.iter_mut().filter_map(|(key, queue)| {
            queue.wake();
            queue.head().cohort.on_idle().then(|| key.clone())
        });
        keys.collect()
    }
}

impl Admission {
    /// Reads or updates the cohort, which records what other processes want. The second argument is the number of
    /// waiting tasks here.
    pub(super) fn cohort<T>(&self, update: impl FnOnce(&mut Cohort, usize) -> T) -> T {
        let mut queues = self.queue.lock();
        match queues.get_mut(&self.key) {
            Some(queue) => {
                let waiting = queue.waiting();
                update(&mut queue.head().cohort, waiting)
            }
            None => update(&mut Cohort::default(), 0),
        }
    }

    /// Returns the `Notify` that fires when the cohort has changed.
    pub(super) fn wakeup(&self) -> Arc<Notify> {
        let mut queues = self.queue.lock();
        match queues.get_mut(&self.key) {
            Some(queue) => Arc::clone(queue.contended().wakeup.get_or_insert_default()),
            None => Arc::default(),
        }
    }

    /// What to do before the first attempt.
    pub(super) fn next(&self) -> NextAction {
        if self.is_key_new { NextAction::Acquire } else { self.cohort(|cohort, _| cohort.next_action()) }
    }

    /// Records that the lock was acquired. If other processes wait and are next after this one, enqueue this process
    /// behind them on behalf of its own waiting tasks. That happens before the release, which notifies the next
    /// process.
    pub(super) fn on_acquired(&self) {
        let must_enqueue = {
            let mut queues = self.queue.lock();
            queues.get_mut(&self.key).is_some_and(|queue| {
                let waiting = queue.waiting();
                if let KeyQueue::Full(contended) = queue {
                    contended.is_notify_deferred = false;
                }
                queue.head().cohort.on_acquired(waiting)
            })
        };
        if must_enqueue {
            let (id, key) = (self.queue.commands.id(), self.key.clone());
            // The waiting task enqueues again, so this reply does not matter.
            let (reply, _) = oneshot::channel();
            self.queue.commands.send(DriverCommand::Enqueue {
                id,
                key,
                waited: Duration::ZERO,
                is_on_second: false,
                reply,
            });
        }
    }

    /// Attaches the admission to the lease, which passes it on when the lock ends.
    pub(super) fn attach_to(mut self, lease: &SharedLease) {
        self.is_ours = false;
        lease.attach_admission(Arc::clone(&self.queue.admission_return));
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.is_ours {
            self.queue.release_admission(&self.key);
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.receiver.close();
        // This task was admitted after its last poll, so admit the next task.
        if self.receiver.try_recv().is_ok() {
            self.queue.release_admission(&self.key);
        }
    }
}

/// How long a key may be handed on locally before clients without a wait queue can acquire it.
const MAX_LOCAL_RUN: Duration = Duration::from_secs(3);
/// About how long the key is left free then.
const FOREIGN_CLIENT_GAP: Duration = Duration::from_millis(20);
/// For how long the cohort of an idle key is kept.
const IDLE_RETENTION: Duration = Duration::from_secs(1);
/// From this number of keys on, idle keys are removed.
const PRUNE_THRESHOLD: usize = 64;

#[cfg(test)]
mod tests;
