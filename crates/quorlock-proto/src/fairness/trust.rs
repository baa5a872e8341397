//! Whether the node with a line is right when it calls the key free, or taken. It is one of many.

use std::time::Duration;

use super::backoff;
use crate::mutant::{Mutant, enabled};

/// How far the node with the line is believed. Every vain attempt that its word *free* leads to may keep the holder from
/// taking the key again there. Its word *taken* delays an attempt and prevents none: the key there may be nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct QueueNodeTrust {
    /// How often in a row the key was called free, and then refused by a quorum.
    false_free_reports: u8,
    /// Whether we stand in line on the next node instead.
    is_on_second_node: bool,
    /// How many attempts in a row may have split the votes.
    consecutive_splits: u8,
}

/// What to do when the key is called free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustDecision {
    /// Try at once.
    Acquire,
    /// Try after a pause. Votes that are split now and then are no matter; where they are every time, chance must help.
    AcquireAfterPause,
    /// Stand in line on the other node: this one lacks the holder's key.
    EnqueueOnOtherNode,
}

/// How an attempt was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailedAttempt {
    /// Some node may have granted it.
    pub votes_may_be_split: bool,
    /// We had been called, so that the key was free.
    pub was_notified: bool,
}

impl QueueNodeTrust {
    /// Whether we stand in line on the next node.
    #[must_use]
    pub const fn uses_second_node(self) -> bool {
        self.is_on_second_node
    }

    /// A wait has ended, because the key was called free or for another reason.
    pub fn on_wait_ended(&mut self, is_free: bool) -> TrustDecision {
        self.false_free_reports = if is_free { self.false_free_reports + 1 } else { 0 };
        if self.false_free_reports > MAX_FALSE_FREE_REPORTS {
            // The other node is not believed at once either: where votes are split, chance must go on to help.
            *self = Self {
                false_free_reports: TRUSTED_REPORTS,
                is_on_second_node: !self.is_on_second_node,
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

    /// For how long to believe that the key is taken, before the first attempt.
    #[must_use]
    pub fn initial_duration(random: u64) -> Duration {
        if enabled(Mutant::WaitQueueTrustedForever) {
            FOREVER
        } else {
            backoff::first_held_report_trust(random)
        }
    }

    /// An attempt was refused, and by some nodes perhaps granted; the keys in the way of a quorum expire after this, if the
    /// nodes told. For how long to believe that the key is taken: not for long where votes may have been split, among them
    /// those of one who was called. But where some node grants it each time, that node lacks the holder's key.
    pub fn on_attempt_failed(
        &mut self,
        refused: FailedAttempt,
        expiry: Option<Duration>,
        random: u64,
    ) -> Duration {
        let may_be_split = refused.votes_may_be_split || refused.was_notified && self.consecutive_splits == 0;
        self.consecutive_splits = if may_be_split { self.consecutive_splits.saturating_add(1) } else { 0 };
        if enabled(Mutant::WaitQueueTrustedForever) {
            FOREVER
        } else if (1..=MAX_CONSECUTIVE_SPLITS).contains(&self.consecutive_splits) {
            backoff::retry(self.consecutive_splits.into(), None, random)
        } else {
            backoff::held_report_trust(expiry, random)
        }
    }
}

/// How often in a row a node is believed at once that calls the key free, and how often at all.
const TRUSTED_REPORTS: u8 = 2;
const MAX_FALSE_FREE_REPORTS: u8 = 4;
/// As good as that.
const FOREVER: Duration = Duration::from_secs(1 << 30);
/// How many split votes in a row are taken for such.
const MAX_CONSECUTIVE_SPLITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_false_free_reports_switch_to_the_other_node() {
        let mut trust = QueueNodeTrust::default();
        assert_eq!([(); 2].map(|()| trust.on_wait_ended(true)), [TrustDecision::Acquire; 2]);
        for is_on_second in [false, true, false] {
            assert_eq!(trust.uses_second_node(), is_on_second);
            assert_eq!([(); 2].map(|()| trust.on_wait_ended(true)), [TrustDecision::AcquireAfterPause; 2]);
            assert_eq!(trust.on_wait_ended(true), TrustDecision::EnqueueOnOtherNode);
        }
        trust.on_wait_ended(false);
        trust.on_wait_ended(true);
        trust.on_wait_ended(true);
        assert_eq!(trust.on_wait_ended(false), TrustDecision::Acquire, "called, or told to wait");
        assert_eq!(trust.on_wait_ended(true), TrustDecision::Acquire);
    }

    #[test]
    fn a_held_report_is_trusted_for_a_shorter_time_after_split_votes() {
        const LONGEST: u64 = u64::MAX;
        let (reading, soon) = (backoff::recheck(None, 0), backoff::retry(8, None, LONGEST));
        let [plain, called, split] =
            [(false, false), (true, false), (false, true)].map(|(was_called, may_be_split)| FailedAttempt {
                votes_may_be_split: may_be_split,
                was_notified: was_called,
            });
        let mut trust = QueueNodeTrust::default();
        assert!(trust.on_attempt_failed(plain, None, 0) >= 2 * reading, "others are called meanwhile");
        for _ in 0..MAX_CONSECUTIVE_SPLITS {
            assert!(trust.on_attempt_failed(split, None, LONGEST) <= soon);
        }
        assert!(trust.on_attempt_failed(split, None, 0) >= 2 * reading, "a node lacks the holder's key");
        trust.on_attempt_failed(plain, None, 0);
        assert!(trust.on_attempt_failed(split, None, LONGEST) <= soon, "in a row");
        assert!(trust.on_attempt_failed(called, None, 0) >= 2 * reading, "another was sooner");
        assert!(
            trust.on_attempt_failed(called, None, LONGEST) <= soon,
            "the one called and another may have split them"
        );
    }
}
