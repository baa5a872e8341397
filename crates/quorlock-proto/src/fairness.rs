//! Fairness between waiting processes: the wait queue and cohorts.
//!
//! The wait queue only advises: the nodes' votes alone decide which client gets the lock. So a mistake in
//! this module cannot give a lock to two clients; at worst a process waits longer than necessary.

mod trust;

use core::time::Duration;

pub use trust::{FailedAttempt, QueueNodeTrust, TrustDecision};

use crate::backoff;
use crate::quorum::NodeId;

/// The state of one process for one key: its position in the wait queue, and its current cohort.
///
/// This is lock cohorting (Dice, Marathe, Shavit, *Lock Cohorting*, 2012). A cohort is the tasks of one
/// process that are served in a row. The state outlives it: the next cohort starts in the same value.
///
/// A cohort begins when the process is notified or finds the key free. It serves the tasks that wait in this
/// process at that time, up to [`MAX_COHORT_ACQUISITIONS`]. They hand the lock to each other without a pause. Then
/// other waiting processes go first. So tasks are served roughly in order of arrival, whichever process they
/// are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cohort {
    queue_position: QueuePosition,
    /// Whether other processes wait for the key, by the last report.
    has_other_waiters: bool,
    /// How many times the current cohort has acquired the lock.
    acquisitions: u8,
    /// How many times the current cohort may acquire the lock; 0 before the first cohort.
    max_acquisitions: u8,
    /// Whether this process polls, because holders do not notify it. It was enqueued and found the key free
    /// without a notification; since then, no release has notified it.
    holder_does_not_notify: bool,
    /// Whether a waiter that found the key free caused the last notification, not a release.
    was_notified_by_waiter: bool,
}

/// The position of this process in the wait queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum QueuePosition {
    #[default]
    NotQueued,
    /// Enqueued, or about to be.
    Queued,
    /// At the head of the wait queue: this process was notified, or found the key free itself.
    AtHead,
    /// Not to be relied on, although the entry may still be in the wait queue: after a failed attempt at its
    /// head, or after the loss of its node.
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
    /// The next action of a task before its first attempt.
    #[must_use]
    pub const fn next_action(self) -> NextAction {
        if self.is_used_up() { self.next_action_while_contended() } else { NextAction::Acquire }
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

    /// Records an acquisition, while `waiting` other tasks wait in this process. Returns whether to enqueue
    /// for them now, because this was the cohort's last acquisition. Then the release notifies the processes
    /// ahead, and this process is behind them.
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

    /// Records a notification, and starts a cohort. `is_from_waiter`: a waiter that found the key free caused
    /// it, not a release. Besides the contending task, `waiting` other tasks wait in this process.
    pub fn on_notified(&mut self, has_others: bool, is_from_waiter: bool, waiting: usize) {
        self.queue_position = QueuePosition::AtHead;
        self.has_other_waiters = has_others;
        self.holder_does_not_notify &= is_from_waiter;
        self.was_notified_by_waiter = is_from_waiter;
        self.start(waiting);
    }

    /// Whether a waiter that found the key free caused the last notification, not a release.
    #[must_use]
    pub const fn was_notified_by_waiter(self) -> bool {
        self.was_notified_by_waiter
    }

    /// Records that this process found the key free, and starts a cohort. The enqueue found it; if the process
    /// `was_queued` already, it was a later check.
    pub fn on_found_free(&mut self, was_queued: bool, waiting: usize) {
        // A process that was enqueued and not notified waits for a holder that died or uses no wait queue.
        self.holder_does_not_notify = was_queued;
        self.queue_position = QueuePosition::AtHead;
        self.has_other_waiters = false;
        self.start(waiting);
    }

    /// Records a failed attempt. Returns whether the process was at the head of the wait queue. Then it must
    /// enqueue again or dequeue, so that the next process can be notified.
    pub fn on_attempt_failed(&mut self) -> bool {
        let was_at_head = self.queue_position == QueuePosition::AtHead;
        if was_at_head {
            self.queue_position = QueuePosition::PossiblyQueued;
        }
        was_at_head
    }

    /// Records that the wait queue's node repeatedly reported the key free while a quorum reported it held. So
    /// these reports prove nothing about the holder, which may notify.
    pub fn on_free_reports_distrusted(&mut self) {
        self.holder_does_not_notify = false;
    }

    /// Records that the reply to a release of this client reported another waiting process.
    pub fn on_others_waiting(&mut self) {
        self.has_other_waiters = true;
    }

    /// Records that a node is gone that may have had the wait queue, or that an enqueue failed.
    pub fn on_queue_lost(&mut self) {
        if self.queue_position == QueuePosition::Queued {
            self.queue_position = QueuePosition::PossiblyQueued;
        }
    }

    /// Records that no task of this process wants the key any more. Returns whether the process must be
    /// dequeued.
    pub fn on_idle(&mut self) -> bool {
        core::mem::take(&mut self.queue_position) != QueuePosition::NotQueued
    }

    /// Whether other processes wait for the key, by the last report. If so, keep this state while no task here
    /// wants the key.
    #[must_use]
    pub const fn has_other_waiters(self) -> bool {
        self.has_other_waiters
    }

    /// The delay before the next check whether the key is free, after `checks` checks. `expiry` is when the
    /// keys that prevent a quorum expire. If a release will notify this process, it checks only rarely.
    #[must_use]
    pub fn recheck_delay(self, checks: u32, expiry: Option<Duration>, random: u64) -> Duration {
        if self.holder_does_not_notify {
            backoff::retry(checks, expiry, random)
        } else {
            backoff::recheck(expiry, random)
        }
    }

    /// Whether the cohort has had its acquisitions, and other processes wait.
    const fn is_used_up(self) -> bool {
        self.has_other_waiters && self.acquisitions >= self.max_acquisitions
    }

    /// Starts a cohort of the contending task and the `waiting` tasks behind it.
    fn start(&mut self, waiting: usize) {
        self.acquisitions = 0;
        self.set_max_acquisitions(waiting + 1);
    }

    fn set_max_acquisitions(&mut self, tasks: usize) {
        self.max_acquisitions = tasks.clamp(1, usize::from(MAX_COHORT_ACQUISITIONS)) as u8;
    }
}

/// The node with a key's wait queue, and the second node, for processes that cannot use the first.
///
/// This is rendezvous hashing (Thaler, Ravishankar, *Using Name-Based Mappings to Increase Hit Rates*, 1998).
/// Clients with the same set of nodes choose the same two, whatever the nodes' order and addresses. The keys
/// spread evenly over the nodes. Each node comes with its [`node_weight_seed`].
#[must_use]
pub fn rendezvous_nodes(
    key: impl AsRef<[u8]>,
    nodes: impl Iterator<Item = (NodeId, u64)>,
) -> [Option<NodeId>; 2] {
    let key = fnv1a(key.as_ref());
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
    fnv1a(run_id.as_bytes())
}

/// The FNV-1a hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Spreads each input bit over all output bits.
fn mix_bits(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// How many times in a row a cohort may acquire the lock while other processes wait.
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
    fn a_process_that_is_or_was_enqueued_must_be_dequeued_once() {
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
    fn a_process_polls_after_a_holder_that_did_not_notify() {
        let mut cohort = Cohort::default();
        let recheck = cohort.recheck_delay(1, None, 0);
        for stop_polling in [
            |cohort: &mut Cohort| cohort.on_notified(true, false, 0),
            |cohort: &mut Cohort| cohort.on_free_reports_distrusted(),
        ] {
            cohort.on_found_free(true, 0);
            assert!(cohort.recheck_delay(1, None, u64::MAX) < recheck);
            cohort.on_notified(true, true, 0);
            assert!(
                cohort.was_notified_by_waiter() && cohort.recheck_delay(1, None, u64::MAX) < recheck,
                "found free again"
            );
            stop_polling(&mut cohort);
            assert_eq!(cohort.recheck_delay(1, None, 0), recheck);
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
