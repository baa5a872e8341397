//! Waiting for a lock that others have: where this process stands, and when it must let others go first.
//!
//! A line only advises. Whoever gets the key is decided by the nodes' votes, so nothing in here can be wrong in a way
//! that gives a lock to two; at worst somebody waits for longer than they need.

mod trust;

use std::time::Duration;

pub use trust::{FailedAttempt, QueueNodeTrust, TrustDecision};

use crate::backoff;
use crate::quorum::NodeId;

/// One process and one key: what is known of others who want it, and how often we took it since our turn began.
///
/// A turn begins when we are called, or find the key free. It serves the tasks of this process that wait at that time,
/// up to [`MAX_LOCAL_HANDOFFS`], which hand the key on to each other without a pause; then others go first, if there are
/// any. So tasks are served in about the order they came, whichever process they are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cohort {
    queue_position: QueuePosition,
    /// Whether other processes want the key, as far as we were told.
    has_other_waiters: bool,
    /// How often we had the key in this turn.
    acquisitions: u8,
    /// How often we may.
    max_acquisitions: u8,
    /// Whether we last found the key free without a call: whoever had it does not call.
    holder_does_not_notify: bool,
    /// Whether we were last called by one who found the key free, and not by who had it.
    was_found_free: bool,
}

/// Where we stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum QueuePosition {
    #[default]
    NotQueued,
    /// In line.
    Queued,
    /// At its head, called.
    Notified,
    /// Nowhere any more, and our name may stand in the line all the same, as one that was called or behind a connection
    /// that broke.
    PossiblyQueued,
}

/// What whoever contends for us does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextAction {
    /// Try to take the key.
    Acquire,
    /// Stand in line first.
    Enqueue,
    /// Wait: we stand in line.
    Wait,
}

impl Cohort {
    /// What to do before the first attempt.
    #[must_use]
    pub const fn next_action(self) -> NextAction {
        match self.queue_position {
            _ if !self.is_used_up() => NextAction::Acquire,
            QueuePosition::Notified => NextAction::Acquire,
            QueuePosition::Queued => NextAction::Wait,
            QueuePosition::NotQueued | QueuePosition::PossiblyQueued => NextAction::Enqueue,
        }
    }

    /// What to do while another has the key.
    #[must_use]
    pub const fn next_action_while_contended(self) -> NextAction {
        match self.queue_position {
            QueuePosition::Notified => NextAction::Acquire,
            QueuePosition::Queued => NextAction::Wait,
            QueuePosition::NotQueued | QueuePosition::PossiblyQueued => NextAction::Enqueue,
        }
    }

    /// The key is ours, and so many tasks here wait for it. True if it is time to stand in line for them, so that the
    /// release of this very lock calls whoever is before us.
    pub fn on_acquired(&mut self, waiting: usize) -> bool {
        if self.queue_position == QueuePosition::Notified {
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

    /// We ask to stand in line.
    pub fn on_enqueued(&mut self) {
        self.queue_position = QueuePosition::Queued;
    }

    /// We were called: because the key was given up, or because it was found free. Besides whoever contends so many
    /// tasks here wait.
    pub fn on_notified(&mut self, has_others: bool, is_found_free: bool, waiting: usize) {
        self.queue_position = QueuePosition::Notified;
        self.has_other_waiters = has_others;
        self.holder_does_not_notify &= is_found_free;
        self.was_found_free = is_found_free;
        self.start(waiting);
    }

    /// Whether the last call came from one who found the key free.
    #[must_use]
    pub const fn was_found_free(self) -> bool {
        self.was_found_free
    }

    /// The key was found free when we came to stand in line, or to look after we had stood there for long.
    pub fn on_found_free(&mut self, has_stood: bool, waiting: usize) {
        // One who waited and was not called: who had the key is gone, or knows nothing of lines.
        self.holder_does_not_notify = has_stood;
        self.queue_position = QueuePosition::Notified;
        self.has_other_waiters = false;
        self.start(waiting);
    }

    /// An attempt failed. True if there was a call, which came to nothing: unless we stand in line again, it is the next
    /// one's.
    pub fn on_attempt_failed(&mut self) -> bool {
        let was_called = self.queue_position == QueuePosition::Notified;
        if was_called {
            self.queue_position = QueuePosition::PossiblyQueued;
        }
        was_called
    }

    /// The node that called the key free was wrong time and again: whoever has the key may well call when it is done.
    pub fn on_false_notification(&mut self) {
        self.holder_does_not_notify = false;
    }

    /// Our release called another process.
    pub fn on_other_waiters(&mut self) {
        self.has_other_waiters = true;
    }

    /// The node with the line is gone, or did not answer.
    pub fn on_queue_lost(&mut self) {
        if self.queue_position == QueuePosition::Queued {
            self.queue_position = QueuePosition::PossiblyQueued;
        }
    }

    /// Nobody here wants the key any more. True if somebody has to take us out of the line.
    pub fn on_idle(&mut self) -> bool {
        std::mem::take(&mut self.queue_position) != QueuePosition::NotQueued
    }

    /// Whether it is worth remembering while nobody here wants the key.
    #[must_use]
    pub const fn has_other_waiters(self) -> bool {
        self.has_other_waiters
    }

    /// How long to wait before looking again whether the key is free: from how often we have looked, when the keys in
    /// our way expire, and a random number. Those who are called need not look, so they do it seldom.
    #[must_use]
    pub fn wait_limit(self, looks: u32, expiry: Option<Duration>, random: u64) -> Duration {
        if self.holder_does_not_notify {
            backoff::retry(looks, expiry, random)
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
        self.max_acquisitions = tasks.clamp(1, usize::from(MAX_LOCAL_HANDOFFS)) as u8;
    }
}

/// The node with the line for a key, and the one that has it for those who cannot reach the first: the same for all who
/// see the same nodes, in whatever order they name them and by whatever addresses they reach them. Keys spread over the
/// nodes. Each node comes with its [`node_weight_seed`].
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

/// What a server is known by in the choice of the node with a line.
#[must_use]
pub fn node_weight_seed(run_id: &str) -> u64 {
    fnv1a(run_id)
}

/// FNV-1a.
fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Mixes all bits into all bits.
fn mix_bits(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// How many tasks of a process have a key in one turn at most, while other processes wait.
pub const MAX_LOCAL_HANDOFFS: u8 = 8;

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
    fn a_cohort_serves_the_tasks_that_wait_at_its_start_and_then_another_process_goes_first() {
        for (waiting, served) in [(0, 1), (2, 3), (100, MAX_LOCAL_HANDOFFS)] {
            let mut cohort = notified(waiting);
            for left in (0..served).rev() {
                assert_eq!(cohort.next_action(), NextAction::Acquire, "{left} to go");
                assert_eq!(
                    cohort.on_acquired(5),
                    left == 0,
                    "the last of a turn stands in line for the rest"
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
        cohort.on_other_waiters();
        assert_eq!(
            cohort.next_action(),
            NextAction::Enqueue,
            "whoever comes first among us lets others go first"
        );
        cohort.on_found_free(false, 0);
        assert_eq!(cohort.next_action(), NextAction::Acquire, "nobody is there");
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
    fn an_unneeded_queue_position_or_notification_is_given_back_once() {
        let mut waiting = Cohort::default();
        waiting.on_enqueued();
        let (mut in_vain, mut displaced) = (notified(2), waiting);
        in_vain.on_attempt_failed();
        displaced.on_queue_lost();
        for mut cohort in [waiting, notified(2), in_vain, displaced] {
            assert!(cohort.on_idle());
            assert!(!cohort.on_idle());
        }
    }

    #[test]
    fn a_holder_that_does_not_notify_is_polled() {
        let mut cohort = Cohort::default();
        let calm = cohort.wait_limit(1, None, 0);
        for calms in [
            |cohort: &mut Cohort| cohort.on_notified(true, false, 0),
            |cohort: &mut Cohort| cohort.on_false_notification(),
        ] {
            cohort.on_found_free(true, 0);
            assert!(cohort.wait_limit(1, None, u64::MAX) < calm);
            cohort.on_notified(true, true, 0);
            assert!(
                cohort.was_found_free() && cohort.wait_limit(1, None, u64::MAX) < calm,
                "found free once more"
            );
            calms(&mut cohort);
            assert_eq!(cohort.wait_limit(1, None, 0), calm);
        }
        let expiry = Duration::from_millis(3);
        assert!(
            cohort.wait_limit(1, Some(expiry), u64::MAX) < expiry * 4,
            "a holder who dies leaves a key that expires"
        );
    }

    #[test]
    fn clients_with_the_same_nodes_choose_the_same_node_and_keys_spread() {
        let [a, b, c] = ["a", "b", "c"].map(node_weight_seed);
        let nodes = [(NodeId(0), a), (NodeId(1), b), (NodeId(2), c)];
        let elsewhere = [(NodeId(2), a), (NodeId(0), b), (NodeId(1), c)];
        let mut used = [0; 3];
        for number in 0..300 {
            let key = format!("orders:{number}");
            let [Some(node), Some(next)] = rendezvous_nodes(&key, nodes.into_iter()) else {
                panic!("there are nodes")
            };
            let [theirs, _] = rendezvous_nodes(&key, elsewhere.into_iter());
            let without = nodes.into_iter().filter(|(other, _)| *other != node);
            assert_eq!(
                rendezvous_nodes(&key, without)[0],
                Some(next),
                "who cannot reach the first finds the next"
            );
            assert_eq!(
                nodes[node.index()].1,
                elsewhere.iter().find(|(it, _)| Some(*it) == theirs).expect("one of them").1
            );
            used[node.index()] += 1;
        }
        assert!(used.iter().all(|count| *count > 60), "{used:?}");
        assert_eq!(rendezvous_nodes("k", std::iter::empty()), [None; 2]);
    }
}
