//! The local queue: tasks of one client wait for a key, first come, first served.
//!
//! Only one task per client and key contends for the lock. The wait queue on the nodes orders the clients;
//! there each client is one *process*.
//!
//! A task gets its admission before its first attempt and keeps it until its lock is released or lost. The
//! admission goes to the next task directly after the release. So the next attempt's SETs go out in the same
//! write as the release. `quorlock_proto::fairness` decides how many times in a row a process may do so while
//! other processes wait, and when the process enters the wait queue.

mod key_queue;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::command::{CommandSender, DriverCommand};
use super::shared_lease::SharedLease;
use crate::host::clock::now;
use crate::host::entropy::jitter;
use crate::node::Notification;
use key_queue::{FairnessState, KeyQueue};
use quorlock_proto::fairness::{Cohort, NextAction};
use quorlock_proto::request::Key;
use quorlock_proto::time::BootTime;

/// The local queues of a client: one for each key that a task of this client holds or wants, or wanted a
/// moment ago.
pub(crate) struct LocalQueue {
    queues: Arc<KeyQueues>,
    commands: CommandSender,
}

/// The queue of each key. The client's tasks share it with the driver, which records here what the nodes report
/// of other processes. It does not keep the driver running.
#[derive(Default)]
pub(crate) struct KeyQueues(Mutex<HashMap<Key, KeyQueue>>);

/// How long an admitted task pauses before its first attempt.
type Pause = Duration;

/// A task's right to contend for a key. Dropping the admission passes it on to the next task.
pub(crate) struct Admission {
    queue: Arc<LocalQueue>,
    key: Key,
    /// Whether dropping this value passes the admission on; false once a lease owns the admission.
    is_ours: bool,
    /// The pause before the first attempt, in which clients without a wait queue can acquire the lock.
    pub(crate) pause: Pause,
    /// Whether this client had no queue for the key before this admission. Then the first attempt starts at
    /// once.
    is_key_new: bool,
}

/// A task's position in the local queue. Dropping the waiter gives the position up, even at the moment of its
/// admission.
struct Waiter {
    queue: Arc<LocalQueue>,
    key: Key,
    receiver: oneshot::Receiver<Pause>,
}

impl LocalQueue {
    pub(crate) fn new(commands: CommandSender) -> Arc<Self> {
        Arc::new(Self { queues: Arc::default(), commands })
    }

    /// The part that the driver shares.
    pub(crate) fn key_queues(&self) -> Arc<KeyQueues> {
        Arc::clone(&self.queues)
    }

    /// Admits the task at once if no other task here is admitted.
    pub(crate) fn try_admit(self: &Arc<Self>, key: &Key) -> Option<Admission> {
        self.admit_if_idle(&mut self.queues.lock(), key)
    }

    /// Decides, right before a release, whether the next task here acquires the lock before other processes
    /// (local hand-off). If so, the release notifies no process, which is recorded for the case that the next
    /// task leaves.
    pub(crate) fn decide_hand_off(&self, key: &Key) -> bool {
        let mut queues = self.queues.lock();
        let Some(queue) = queues.get_mut(key) else { return false };
        let KeyQueue::Full(full) = queue else { return false };
        let has_waiter = full.waiting.iter().any(|sender| !sender.is_closed());
        full.is_notify_deferred = full.fairness.cohort.next_action() == NextAction::Acquire && has_waiter;
        full.is_notify_deferred
    }

    /// Waits for an admission, behind all tasks that came earlier.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the position in the queue. No admission is lost.
    pub(crate) async fn admit(self: &Arc<Self>, key: &Key) -> Admission {
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

    /// Admits the task if no other task here holds or wants the key.
    fn admit_if_idle(self: &Arc<Self>, queues: &mut HashMap<Key, KeyQueue>, key: &Key) -> Option<Admission> {
        let is_key_new = match queues.entry(key.clone()) {
            Entry::Occupied(mut queue) => {
                let KeyQueue::Full(full) = queue.get_mut() else { return None };
                let idle_since = full.idle_since.take()?;
                let now = now();
                if now.boot().since(idle_since) >= IDLE_RETENTION {
                    full.fairness.cohort = Cohort::default();
                }
                full.fairness.local_run_since = now.boot();
                false
            }
            Entry::Vacant(entry) => {
                entry.insert(KeyQueue::Bare(FairnessState::new(Cohort::default())));
                true
            }
        };
        let mut admission = self.admission_of(key, Duration::ZERO);
        admission.is_key_new = is_key_new;
        Some(admission)
    }

    /// Joins the local queue, or returns an admission if no other task here holds or wants the key.
    fn join(self: &Arc<Self>, key: &Key) -> Result<Admission, Waiter> {
        let mut queues = self.queues.lock();
        if let Some(admission) = self.admit_if_idle(&mut queues, key) {
            return Ok(admission);
        }
        let (sender, receiver) = oneshot::channel();
        if let Some(queue) = queues.get_mut(key) {
            let waiting = &mut queue.make_full().waiting;
            if waiting.len() == waiting.capacity() {
                // Remove tasks that have left before the queue grows: while a lock is held for long, many
                // tasks may come and go.
                waiting.retain(|sender| !sender.is_closed());
                waiting.reserve(waiting.len() + 1);
            }
            waiting.push_back(sender);
        }
        Err(Waiter { queue: Arc::clone(self), key: key.clone(), receiver })
    }

    fn admission_of(self: &Arc<Self>, key: &Key, pause: Pause) -> Admission {
        Admission { queue: Arc::clone(self), key: key.clone(), is_ours: true, pause, is_key_new: false }
    }

    /// Ends a task's admission and admits the next task in the queue.
    pub(super) fn pass_admission_on(&self, key: &Key) {
        // Send without the lock: some executors run a woken task at once, and the task uses these queues.
        while let Some((sender, pause)) = self.next_waiter(key) {
            if sender.send(pause).is_ok() {
                return;
            }
        }
    }

    /// Takes the next waiting task out of the queue, and the pause before its first attempt. If no task waits, this
    /// process leaves the wait queue.
    fn next_waiter(&self, key: &Key) -> Option<(oneshot::Sender<Pause>, Pause)> {
        let mut queues = self.queues.lock();
        let Entry::Occupied(mut entry) = queues.entry(key.clone()) else { return None };
        let queue = entry.get_mut();
        let now = now();
        if let KeyQueue::Full(full) = queue {
            let pause = if now.boot().since(full.fairness.local_run_since) < MAX_LOCAL_RUN {
                Duration::ZERO
            } else {
                // While tasks here hand the key on, the polls of clients without a wait queue never find it free.
                // After MAX_LOCAL_RUN, pause before the next attempt so that one of their polls can.
                FOREIGN_CLIENT_GAP / 2 + FOREIGN_CLIENT_GAP.mul_f64(jitter() as f64 / u64::MAX as f64)
            };
            while let Some(sender) = full.waiting.pop_front() {
                if !sender.is_closed() {
                    if !pause.is_zero() {
                        full.fairness.local_run_since = now.boot().plus(pause);
                    }
                    return Some((sender, pause));
                }
            }
        }
        // No task here waits, so this process leaves the wait queue. If the last release notified no process, the
        // dequeue notifies the next one, provided that the key is free.
        let is_notify_deferred = matches!(queue, KeyQueue::Full(full) if full.is_notify_deferred);
        let fairness = queue.fairness();
        if fairness.cohort.on_idle() || is_notify_deferred {
            self.commands.send(DriverCommand::Dequeue { key: key.clone() });
        }
        if !fairness.cohort.has_other_waiters() {
            entry.remove();
            return None;
        }
        // Other processes wait. Keep the cohort, so that a task that comes back soon does not acquire before
        // them.
        *queue = KeyQueue::Bare(FairnessState::new(fairness.cohort));
        queue.make_full().idle_since = Some(now.boot());
        if queues.len() >= PRUNE_THRESHOLD && queues.len().is_power_of_two() {
            let is_recent = |idle_since: BootTime| now.boot().since(idle_since) < IDLE_RETENTION;
            queues.retain(|_, queue| queue.idle_since().is_none_or(is_recent));
        }
        None
    }
}

impl KeyQueues {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, KeyQueue>> {
        // No code under this mutex panics between two changes, so the queues are consistent even if a task
        // panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This process was notified: it is the first that waits for the key. Returns false if no task here wants
    /// the key any more.
    pub(super) fn on_notified(&self, notification: &Notification) -> bool {
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(&notification.key).filter(|queue| queue.idle_since().is_none())
        else {
            return false;
        };
        let waiting = queue.waiting_count();
        let Notification { has_others, is_from_waiter, .. } = *notification;
        queue.fairness().cohort.on_notified(has_others, is_from_waiter, waiting);
        queue.fairness().local_run_since = now().boot();
        let wakeup = queue.wakeup();
        drop(queues);
        notify(wakeup);
        true
    }

    /// The reply to a release of this client reported another waiting process.
    pub(super) fn on_others_waiting(&self, key: &Key) {
        if let Some(queue) = self.lock().get_mut(key) {
            queue.fairness().cohort.on_others_waiting();
        }
    }

    /// A node is disconnected or excluded. This process can no longer rely on the wait queues there.
    pub(super) fn on_wait_queues_lost(&self) {
        let mut queues = self.lock();
        let wakeups: Vec<_> = (queues.values_mut())
            .filter_map(|queue| {
                queue.fairness().cohort.on_queue_lost();
                queue.wakeup()
            })
            .collect();
        drop(queues);
        notify(wakeups);
    }

    /// Ends all waits. Returns the keys for which this process may be enqueued.
    pub(super) fn end_waits(&self) -> Vec<Key> {
        let mut queues = self.lock();
        let wakeups: Vec<_> = queues.values().filter_map(KeyQueue::wakeup).collect();
        let keys = (queues.iter_mut())
            .filter_map(|(key, queue)| queue.fairness().cohort.on_idle().then(|| key.clone()))
            .collect();
        drop(queues);
        notify(wakeups);
        keys
    }
}

/// Wakes contending tasks. Called without the lock: some executors run a woken task at once.
fn notify(wakeups: impl IntoIterator<Item = Arc<Notify>>) {
    wakeups.into_iter().for_each(|wakeup| wakeup.notify_one());
}

impl Admission {
    /// Reads or updates the key's cohort. The second argument of `update` is the number of tasks that wait
    /// here.
    pub(crate) fn cohort<T>(&self, update: impl FnOnce(&mut Cohort, usize) -> T) -> T {
        let mut queues = self.queue.queues.lock();
        match queues.get_mut(&self.key) {
            Some(queue) => {
                let waiting = queue.waiting_count();
                update(&mut queue.fairness().cohort, waiting)
            }
            None => update(&mut Cohort::default(), 0),
        }
    }

    /// The `Notify` that wakes the contending task when the cohort has changed.
    pub(crate) fn wakeup(&self) -> Arc<Notify> {
        let mut queues = self.queue.queues.lock();
        match queues.get_mut(&self.key) {
            Some(queue) => Arc::clone(queue.make_full().wakeup.get_or_insert_default()),
            None => Arc::default(),
        }
    }

    /// The next action before the first attempt.
    pub(crate) fn next(&self) -> NextAction {
        if self.is_key_new { NextAction::Acquire } else { self.cohort(|cohort, _| cohort.next_action()) }
    }

    /// Records that the lock was acquired. If this is the cohort's last acquisition and tasks wait here, also
    /// enqueues this process behind the other processes. The enqueue comes before the release, which then
    /// notifies the first of them.
    pub(crate) fn on_acquired(&self) {
        let must_enqueue = {
            let mut queues = self.queue.queues.lock();
            queues.get_mut(&self.key).is_some_and(|queue| {
                let waiting = queue.waiting_count();
                if let KeyQueue::Full(full) = queue {
                    full.is_notify_deferred = false;
                }
                queue.fairness().cohort.on_acquired(waiting)
            })
        };
        if must_enqueue {
            let (id, key) = (self.queue.commands.id(), self.key.clone());
            // No task needs the reply: the next task waits for a notification, and rechecks the key by its
            // own timer.
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

    /// Gives the admission to the lease, which passes it on when the lock is released or lost.
    pub(crate) fn attach_to(mut self, lease: &SharedLease) {
        self.is_ours = false;
        lease.attach_admission(Arc::clone(&self.queue));
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.is_ours {
            self.queue.pass_admission_on(&self.key);
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.receiver.close();
        // If this task was admitted after its last poll, admit the next task instead.
        if self.receiver.try_recv().is_ok() {
            self.queue.pass_admission_on(&self.key);
        }
    }
}

/// For how long tasks here hand a key on before they leave it free for clients without a wait queue.
const MAX_LOCAL_RUN: Duration = Duration::from_secs(3);
/// The mean time for which the key is then left free.
const FOREIGN_CLIENT_GAP: Duration = Duration::from_millis(20);
/// For how long the cohort of an idle key is used again by the next task.
const IDLE_RETENTION: Duration = Duration::from_secs(1);
/// At this number of keys, and at each power of two above, queues that have been idle for [`IDLE_RETENTION`]
/// are removed.
const PRUNE_THRESHOLD: usize = 64;

#[cfg(test)]
mod tests;
