//! How far a waiting process trusts the reports of the wait queue's node, which is one node of many.

use core::time::Duration;

use super::backoff;
use crate::mutant::{Mutant, enabled};

/// The trust in the reports *free* and *held* of the wait queue's node.
///
/// A report *free* leads to an attempt. Each failed attempt may keep the holder's key from being set again on
/// that node. A report *held* delays an attempt and prevents none, because the key there may belong to no
/// holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct QueueNodeTrust {
    /// How many times in a row the node reported *free* and a quorum then reported *held*.
    false_free_reports: u8,
    /// Whether the process enqueues on the second node of the ranking instead.
    uses_second_node: bool,
    /// How many attempts in a row may have split the votes.
    consecutive_splits: u8,
}

/// What to do when a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustDecision {
    /// Make an attempt at once.
    Acquire,
    /// Make an attempt after a pause. Occasional split votes need no pause; if votes split every time, random
    /// pauses help.
    AcquireAfterPause,
    /// Enqueue on the other node, because this node lacks the holder's key.
    EnqueueOnOtherNode,
}

/// What is known of a failed attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailedAttempt {
    /// Whether some node may have granted it.
    pub votes_may_be_split: bool,
    /// Whether the process was at the head of the wait queue, so that the wait queue's node reported the key
    /// free.
    pub was_at_head: bool,
}

impl QueueNodeTrust {
    /// Whether to enqueue on the second node of the ranking.
    #[must_use]
    pub const fn uses_second_node(self) -> bool {
        self.uses_second_node
    }

    /// Records the end of a wait: the key was reported free (`is_free`), or another reason.
    pub fn on_wait_ended(&mut self, is_free: bool) -> TrustDecision {
        self.false_free_reports = if is_free { self.false_free_reports + 1 } else { 0 };
        if self.false_free_reports > MAX_FALSE_FREE_REPORTS {
            // The other node is not fully trusted either, because random pauses must go on if votes keep
            // splitting.
            *self = Self {
                false_free_reports: TRUSTED_REPORTS,
                uses_second_node: !self.uses_second_node,
                ..*self
            };
            return TrustDecision::EnqueueOnOtherNode;
        }
        if self.false_free_reports > TRUSTED_REPORTS {
            TrustDecision::AcquireAfterPause
        } else {
            TrustDecision::Acquire
        }
    }

    /// How long to trust a report *held* before the first attempt.
    #[must_use]
    pub fn initial_held_report_trust(random: u64) -> Duration {
        if enabled(Mutant::WaitQueueTrustedForever) {
            FOREVER
        } else {
            backoff::first_held_report_trust(random)
        }
    }

    /// Records a failed attempt. Returns how long to trust a report *held*. `expiry` is when the keys that
    /// prevent a quorum expire, if the nodes reported it.
    ///
    /// The time is short if the votes may be split, or if the process was at the head of the wait queue. But
    /// a node that grants every time lacks the holder's key, so after a few attempts the time is long again.
    pub fn on_attempt_failed(
        &mut self,
        failed: FailedAttempt,
        expiry: Option<Duration>,
        random: u64,
    ) -> Duration {
        let counts_as_split = failed.votes_may_be_split || failed.was_at_head && self.consecutive_splits == 0;
        self.consecutive_splits = if counts_as_split { self.consecutive_splits.saturating_add(1) } else { 0 };
        if enabled(Mutant::WaitQueueTrustedForever) {
            FOREVER
        } else if (1..=MAX_CONSECUTIVE_SPLITS).contains(&self.consecutive_splits) {
            backoff::retry(self.consecutive_splits.into(), None, random)
        } else {
            backoff::held_report_trust(expiry, random)
        }
    }
}

/// After how many false reports *free* in a row attempts pause first.
const TRUSTED_REPORTS: u8 = 2;
/// After how many of them the process changes to the other node.
const MAX_FALSE_FREE_REPORTS: u8 = 4;
/// Longer than any test.
const FOREVER: Duration = Duration::from_secs(1 << 30);
/// How many attempts in a row count as split votes.
const MAX_CONSECUTIVE_SPLITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_false_free_reports_switch_to_the_other_node() {
        let mut trust = QueueNodeTrust::default();
        assert_eq!([(); 2].map(|()| trust.on_wait_ended(true)), [TrustDecision::Acquire; 2]);
        for uses_second in [false, true, false] {
            assert_eq!(trust.uses_second_node(), uses_second);
            assert_eq!([(); 2].map(|()| trust.on_wait_ended(true)), [TrustDecision::AcquireAfterPause; 2]);
            assert_eq!(trust.on_wait_ended(true), TrustDecision::EnqueueOnOtherNode);
        }
        trust.on_wait_ended(false);
        trust.on_wait_ended(true);
        trust.on_wait_ended(true);
        assert_eq!(trust.on_wait_ended(false), TrustDecision::Acquire, "the wait ended for another reason");
        assert_eq!(trust.on_wait_ended(true), TrustDecision::Acquire);
    }

    #[test]
    fn a_held_report_is_trusted_for_a_shorter_time_after_split_votes() {
        const LONGEST: u64 = u64::MAX;
        let (recheck, soon) = (backoff::recheck(None, 0), backoff::retry(8, None, LONGEST));
        let [contended, after_notification, split] =
            [(false, false), (true, false), (false, true)].map(|(was_notified, votes_may_be_split)| {
                FailedAttempt { votes_may_be_split, was_at_head: was_notified }
            });
        let mut trust = QueueNodeTrust::default();
        assert!(
            trust.on_attempt_failed(contended, None, 0) >= 2 * recheck,
            "other processes are notified first"
        );
        for _ in 0..MAX_CONSECUTIVE_SPLITS {
            assert!(trust.on_attempt_failed(split, None, LONGEST) <= soon);
        }
        assert!(trust.on_attempt_failed(split, None, 0) >= 2 * recheck, "one node lacks the holder's key");
        trust.on_attempt_failed(contended, None, 0);
        assert!(trust.on_attempt_failed(split, None, LONGEST) <= soon, "only splits in a row count");
        assert!(
            trust.on_attempt_failed(after_notification, None, 0) >= 2 * recheck,
            "another client was faster"
        );
        assert!(
            trust.on_attempt_failed(after_notification, None, LONGEST) <= soon,
            "the notified client and another may have split the votes"
        );
    }
}
