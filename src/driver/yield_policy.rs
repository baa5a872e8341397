//! Decides when the driver yields once, so that commands of several callers share one write.
//!
//! Tasks that just got a reply usually send their next command at once, a release or the next acquire. A
//! driver that polls after the first of them writes that one request alone, and so on for each: with 64 tasks
//! on two threads, each write then carries a third of what it could, and the threads wake each other for
//! little. Therefore, with several active callers, the driver yields once to the tasks that are ready and
//! then takes all their commands. With a single caller it does not yield.

use std::time::Duration;

use quorlock_proto::time::BootTime;

/// Counts callers that just got a reply, and decides whether to yield to them.
#[derive(Default)]
pub(super) struct YieldPolicy {
    /// Callers that got a reply since the last run of the driver.
    replied: usize,
    /// Since when the driver yields.
    yielding_since: Option<BootTime>,
    /// Until when the driver does not yield; `None` if it may.
    no_yield_until: Option<BootTime>,
}

impl YieldPolicy {
    /// Records that a caller got a reply.
    pub(super) fn on_reply_sent(&mut self) {
        self.replied += 1;
    }

    /// Whether to yield to the ready tasks, given the number of callers that wait for a reply. Never twice in
    /// a row.
    pub(super) fn decide_yield(&mut self, waiting: usize, now: BootTime) -> bool {
        if let Some(since) = self.yielding_since.take() {
            // If the last yield took 1 ms or more, other tasks keep the runtime busy: do not yield for the
            // next 20 ms.
            if now.since(since) >= SLOW_YIELD {
                self.no_yield_until = Some(now.plus(NO_YIELD));
            }
        } else if waiting + self.replied > 1 && self.no_yield_until.is_none_or(|until| now >= until) {
            self.yielding_since = Some(now);
            return true;
        }
        self.replied = 0;
        false
    }
}

const SLOW_YIELD: Duration = Duration::from_millis(1);
const NO_YIELD: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> BootTime {
        BootTime::new(nanos)
    }

    #[test]
    fn it_yields_once_with_several_callers_and_never_with_one() {
        let mut policy = YieldPolicy::default();
        assert!(!policy.decide_yield(0, at(0)));
        assert!(!policy.decide_yield(1, at(1)), "a single caller causes no yield");
        policy.on_reply_sent();
        assert!(!policy.decide_yield(0, at(2)), "a single caller that got a reply is still alone");

        assert!(policy.decide_yield(2, at(3)));
        assert!(!policy.decide_yield(2, at(4)), "not twice in a row");
        policy.on_reply_sent();
        policy.on_reply_sent();
        assert!(policy.decide_yield(0, at(5)), "both may be back in a moment");
        assert!(!policy.decide_yield(0, at(6)));
        assert!(!policy.decide_yield(0, at(7)), "they did not come back");
    }

    #[test]
    fn after_a_slow_yield_it_does_not_yield_for_a_while() {
        let mut policy = YieldPolicy::default();
        assert!(policy.decide_yield(2, at(0)));
        assert!(!policy.decide_yield(2, at(0).plus(SLOW_YIELD)));
        assert!(!policy.decide_yield(2, at(1).plus(NO_YIELD)));
        assert!(policy.decide_yield(2, at(0).plus(SLOW_YIELD + NO_YIELD)));
    }
}
