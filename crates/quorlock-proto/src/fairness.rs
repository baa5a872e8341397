//! Fairness between waiting processes: the wait queue and cohorts.
//!
//! The wait queue only advises: the nodes' votes alone decide which client gets the lock. So a mistake in
//! here cannot give a lock to two clients; at worst a process waits longer than necessary.

mod trust;

use core::time::Duration;

pub use trust::{FailedAttempt, QueueNodeTrust, TrustDecision};

use crate::backoff;
use crate::quorum::NodeId;

/// The state of one process and one key in the wait queue: lock cohorting (Dice, Marathe, Shavit, *Lock
/// Cohorting*, 2012).
///
/// A cohort begins when the process is notified or finds the key free. It serves the tasks that wait in this
/// process at that time, up to [`MAX_LOCAL_HANDOFFS`]. They hand the lock to each other without a pause. Then
/// other waiting processes go first. So tasks are served roughly in order of arrival, whichever process they
/// are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cohort {
    queue_position: QueuePosition,
    /// Whether other processes wait for the key, by the last report.
    has_other_waiters: bool,
    /// How often this cohort has acquired the lock.
    acquisitions: u8,
    /// How often it may acquire the lock.
    max_acquisitions: u8,
    /// Whether the key was last found free without a notification. So its last holder does not notify.
    holder_does_not_notify: bool,
    /// Whether the last notification came from a process that found the key free, not from its holder.
    was_notified_by_waiter: bool,
}

/// The position of this process in the wait queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum QueuePosition {
    #[default]
    NotQueued,
    /// In the wait queue.
    Queued,
    /// At its head, and notified.
    AtHead,
    /// No longer waiting, although its entry may still be in the queue: after a notification or a lost
    /// connection.
    PossiblyQueued,
}

/// What a contending task does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextAction {
    /// Make an attempt.
    Acquire,
    /// Enter the wait queue first.
    Enqueue,
    /// Wait: the process is in the wait queue.
    Wait,
}

impl Cohort {
    /// The next action before the first attempt.
    #[must_use]
    pub const fn next_action(self) -> NextAction {
        match self.queue_position {
            _ if !self.is_used_up() => NextAction::Acquire,
            QueuePosition::AtHead => NextAction::Acquire,
            QueuePosition::Queued => NextAction::Wait,
            QueuePosition::NotQueued | QueuePosition::PossiblyQueued => NextAction::Enqueue,
        }
    }

    /// The next action while another client holds the lock.
    #[must_use]
    pub const fn next_action_while_contended(self) -> NextAction {
        match self.queue_position {
            QueuePosition::AtHead => NextAction::Acquire,
            QueuePosition::Queued => NextAction::Wait,
            QueuePosition::NotQueued | QueuePosition::PossiblyQueued => NextAction::Enqueue,
        }
    }

    /// Records an acquisition, with `waiting` more tasks in this process. Returns whether to enqueue for them
    /// now, so that the release of this lock notifies the processes ahead.
    pub fn on_acquired(&mut self, waiting: usize) -> bool {
        if self.queue_position == QueuePosition::AtHead {
            self.queue_position = QueuePosition::NotQueued;
        }
        if self.max_acquisitions == 0 {
            self.set_max_acquisitions(waiting);
        }
        self.acquisitions = self.acquisitions.saturating_add(1);
        let must_enqueue = self.queue_position != QueuePosition::Queued && waiting > 0 && self.is_used_up();
        if must_enqueue {
            self.queue_position = QueuePosition::Queued;
        }
        must_enqueue
    }

    /// Records that an enqueue request is being sent.
    pub fn on_enqueued(&mut self) {
        self.queue_position = QueuePosition::Queued;
    }

    /// Records a notification, because the key was released or was found free. Besides the contending task,
    /// `waiting` more tasks wait in this process.
    pub fn on_notified(&mut self, has_others: bool, is_from_waiter: bool, waiting: usize) {
        self.queue_position = QueuePosition::AtHead;
        self.has_other_waiters = has_others;
        self.holder_does_not_notify &= is_from_waiter;
        self.was_notified_by_waiter = is_from_waiter;
        self.start(waiting);
    }

    /// Whether the last notification came from a process that found the key free.
    #[must_use]
    pub const fn was_notified_by_waiter(self) -> bool {
        self.was_notified_by_waiter
    }

    /// Records that the key was found free: by the enqueue, or by a later check if it `was_queued` before.
    pub fn on_found_free(&mut self, was_queued: bool, waiting: usize) {
        // It waited and was not notified, so the holder died or does not use wait queues.
        self.holder_does_not_notify = was_queued;
        self.queue_position = QueuePosition::AtHead;
        self.has_other_waiters = false;
        self.start(waiting);
    }

    /// Records a failed attempt. Returns whether a notification was wasted by it. The next process must then
    /// get it, unless this process enqueues again.
    pub fn on_attempt_failed(&mut self) -> bool {
        let was_at_head = self.queue_position == QueuePosition::AtHead;
        if was_at_head {
            self.queue_position = QueuePosition::PossiblyQueued;
        }
        was_at_head
    }

    /// Records that the node repeatedly reported the key free by mistake, so the holder may notify after all.
    pub fn on_free_reports_distrusted(&mut self) {
        self.holder_does_not_notify = false;
    }

    /// Records that this client's release notified another process.
    pub fn on_others_waiting(&mut self) {
        self.has_other_waiters = true;
    }

    /// Records that the wait queue's node is gone or did not reply.
    pub fn on_queue_lost(&mut self) {
        if self.queue_position == QueuePosition::Queued {
            self.queue_position = QueuePosition::PossiblyQueued;
        }
    }

    /// Records that no task waits any more. Returns whether the process must be dequeued.
    pub fn on_idle(&mut self) -> bool {
        core::mem::take(&mut self.queue_position) != QueuePosition::NotQueued
    }

    /// Whether other processes wait, so that this state is worth keeping while no task waits.
    #[must_use]
    pub const fn has_other_waiters(self) -> bool {
        self.has_other_waiters
    }

    /// How long to wait before the next check whether the key is free, after `checks` checks. `expiry` is
    /// when the keys that prevent a quorum expire. A process that is notified rarely needs to check.
    #[must_use]
    pub fn recheck_delay(self, checks: u32, expiry: Option<Duration>, random: u64) -> Duration {
        if self.holder_does_not_notify {
            backoff::retry(checks, expiry, random)
        } else {
            backoff::recheck(expiry, random)
        }
    }

    const fn is_used_up(self) -> bool {
        self.has_other_waiters && self.acquisitions >= self.max_acquisitions
    }

    fn start(&mut self, waiting: usize) {
        self.acquisitions = 0;
        self.set_max_acquisitions(waiting + 1);
    }

    fn set_max_acquisitions(&mut self, tasks: usize) {
        self.max_acquisitions = tasks.clamp(1, usize::from(MAX_COHORT_ACQUISITIONS)) as u8;
    }
}

/// The node with the wait queue for a key, and the next one for processes that cannot reach the first.
///
/// This is rendezvous hashing (Thaler, Ravishankar, *Using Name-Based Mappings to Increase Hit Rates*, 1998).
/// All clients that see the same nodes choose the same nodes, whatever their order and addresses, and keys
/// spread over the nodes. Each node comes with its [`node_weight_seed`].
#[must_use]
pub fn rendezvous_nodes(key: &str, nodes: impl Iterator<Item = (NodeId, u64)>) -> [Option<NodeId>; 2] {
    let key = fnv1a(key);
    let mut best = [None; 2];
    for (node, seed) in nodes {
        let ranked = Some((mix_bits(key ^ seed), node));
        if ranked > best[0] {
            best = [ranked, best[0]];
        } else if ranked > best[1] {
            best[1] = ranked;
        }
    }
    best.map(|ranked| ranked.map(|(_, node)| node))
}

/// The seed of a server in rendezvous hashing, from its run id.
#[must_use]
pub fn node_weight_seed(run_id: &str) -> u64 {
    fnv1a(run_id)
}

/// The FNV-1a hash.
fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Spreads each input bit over all output bits.
fn mix_bits(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// How often a cohort acquires the lock at most, while other processes wait.
pub const MAX_COHORT_ACQUISITIONS: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn notified(waiting: usize) -> Cohort {
        let mut cohort = Cohort::default();
        cohort.on_enqueued();
        cohort.on_notified(true, false, waiting);
        cohort
    }

    #[test]
    fn a_cohort_serves_the_tasks_that_waited_at_its_start_before_another_process() {
        for (waiting, served) in [(0, 1), (2, 3), (100, MAX_COHORT_ACQUISITIONS)] {
            let mut cohort = notified(waiting);
            for left in (0..served).rev() {
                assert_eq!(cohort.next_action(), NextAction::Acquire, "{left} left");
                assert_eq!(
                    cohort.on_acquired(5),
                    left == 0,
                    "the last acquisition enqueues for the remaining tasks"
                );
            }
            assert_eq!(cohort.next_action(), NextAction::Wait);
        }
    }

    #[test]
    fn without_other_waiters_a_cohort_has_no_end() {
        let mut cohort = Cohort::default();
        for _ in 0..100 {
            assert_eq!(cohort.next_action(), NextAction::Acquire);
            assert!(!cohort.on_acquired(3));
        }
        cohort.on_others_waiting();
        assert_eq!(cohort.next_action(), NextAction::Enqueue, "the first task lets other processes go first");
        cohort.on_found_free(false, 0);
        assert_eq!(cohort.next_action(), NextAction::Acquire, "no other process waits");
    }

    #[test]
    fn a_client_without_waiting_tasks_is_not_enqueued() {
        let mut cohort = notified(0);
        assert!(!cohort.on_acquired(0));
        assert!(!cohort.on_idle());
        assert_eq!(cohort.next_action(), NextAction::Enqueue);
    }

    #[test]
    fn an_attempt_uses_up_a_notification_but_not_a_queue_position() {
        let mut cohort = notified(3);
        assert_eq!(cohort.next_action_while_contended(), NextAction::Acquire);
        cohort.on_attempt_failed();
        assert_eq!(cohort.next_action_while_contended(), NextAction::Enqueue);
        cohort.on_enqueued();
        cohort.on_attempt_failed();
        assert_eq!(cohort.next_action_while_contended(), NextAction::Wait);
        cohort.on_queue_lost();
        assert_eq!(cohort.next_action_while_contended(), NextAction::Enqueue);
    }

    #[test]
    fn an_unneeded_queue_position_or_notification_is_returned_once() {
        let mut waiting = Cohort::default();
        waiting.on_enqueued();
        let (mut failed, mut queue_lost) = (notified(2), waiting);
        failed.on_attempt_failed();
        queue_lost.on_queue_lost();
        for mut cohort in [waiting, notified(2), failed, queue_lost] {
            assert!(cohort.on_idle());
            assert!(!cohort.on_idle());
        }
    }

    #[test]
    fn a_holder_that_does_not_notify_is_polled() {
        let mut cohort = Cohort::default();
        let slow = cohort.recheck_delay(1, None, 0);
        for slow_down in [
            |cohort: &mut Cohort| cohort.on_notified(true, false, 0),
            |cohort: &mut Cohort| cohort.on_free_reports_distrusted(),
        ] {
            cohort.on_found_free(true, 0);
            assert!(cohort.recheck_delay(1, None, u64::MAX) < slow);
            cohort.on_notified(true, true, 0);
            assert!(
                cohort.was_notified_by_waiter() && cohort.recheck_delay(1, None, u64::MAX) < slow,
                "found free again"
            );
            slow_down(&mut cohort);
            assert_eq!(cohort.recheck_delay(1, None, 0), slow);
        }
        let expiry = Duration::from_millis(3);
        assert!(
            cohort.recheck_delay(1, Some(expiry), u64::MAX) < expiry * 4,
            "a key that its dead holder left expires"
        );
    }

    #[test]
    fn clients_with_the_same_nodes_choose_the_same_node_per_key() {
        let [a, b, c] = ["a", "b", "c"].map(node_weight_seed);
        let nodes = [(NodeId(0), a), (NodeId(1), b), (NodeId(2), c)];
        let reordered = [(NodeId(2), a), (NodeId(0), b), (NodeId(1), c)];
        let mut used = [0; 3];
        for number in 0..300 {
            let key = format!("orders:{number}");
            let [Some(node), Some(next)] = rendezvous_nodes(&key, nodes.into_iter()) else {
                panic!("there are nodes")
            };
            let [same, _] = rendezvous_nodes(&key, reordered.into_iter());
            let without = nodes.into_iter().filter(|(other, _)| *other != node);
            assert_eq!(
                rendezvous_nodes(&key, without)[0],
                Some(next),
                "a client that cannot reach the first node finds the next"
            );
            assert_eq!(
                nodes[node.index()].1,
                reordered.iter().find(|(it, _)| Some(*it) == same).expect("a listed node").1
            );
            used[node.index()] += 1;
        }
        assert!(used.iter().all(|count| *count > 60), "{used:?}");
        assert_eq!(rendezvous_nodes("k", core::iter::empty()), [None; 2]);
    }
}
