//! Decides when the driver yields once, so that commands of several callers share one write.
//!
//! Tasks that just got a reply usually send their next command at once, a release or the next acquire. A
//! driver that polls after the first of them writes that one request alone, and so on for each: with 64 tasks
//! on two threads, each write then carries a third of what it could, and the threads wake each other for
//! little. Therefore, with several active callers, the driver yields once to the tasks that are ready and
//! then takes all their commands. With a single caller it does not yield.

/// Counts callers that just got a reply, and decides whether to yield to them.
#[derive(Default)]
pub(super) struct YieldPolicy {
    /// Callers that got a reply since the last run of the driver.
    replied: usize,
    /// Since when the driver yields, by the boot clock.
    yielding_since: Option<u64>,
    /// Until when the driver does not yield, by the boot clock.
    no_yield_until: u64,
}

impl YieldPolicy {
    /// Records that a caller got a reply.
    pub(super) fn on_reply_sent(&mut self) {
        self.replied += 1;
    }

    /// Whether to yield to the ready tasks, given the number of callers that wait for a reply. Never twice in
    /// a row.
    pub(super) fn decide_yield(&mut self, waiting: usize, boot_nanos: u64) -> bool {
        if let Some(since) = self.yielding_since.take() {
            // If the last yield took 1 ms or more, other tasks keep the runtime busy: do not yield for the
            // next 20 ms.
            if boot_nanos.saturating_sub(since) >= SLOW_YIELD_NANOS {
                self.no_yield_until = boot_nanos + NO_YIELD_NANOS;
            }
        } else if waiting + self.replied > 1 && boot_nanos >= self.no_yield_until {
            self.yielding_since = Some(boot_nanos);
            return true;
        }
        self.replied = 0;
        false
    }
}

const SLOW_YIELD_NANOS: u64 = 1_000_000;
const NO_YIELD_NANOS: u64 = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_yields_once_with_several_callers_and_never_with_one() {
        let mut policy = YieldPolicy::default();
        assert!(!policy.decide_yield(0, 0));
        assert!(!policy.decide_yield(1, 1), "a single caller causes no yield");
        policy.on_reply_sent();
        assert!(!policy.decide_yield(0, 2), "a single caller that got a reply is still alone");

        assert!(policy.decide_yield(2, 3));
        assert!(!policy.decide_yield(2, 4), "not twice in a row");
        policy.on_reply_sent();
        policy.on_reply_sent();
        assert!(policy.decide_yield(0, 5), "both may be back in a moment");
        assert!(!policy.decide_yield(0, 6));
        assert!(!policy.decide_yield(0, 7), "they did not come back");
    }

    #[test]
    fn after_a_slow_yield_it_does_not_yield_for_a_while() {
        let mut policy = YieldPolicy::default();
        assert!(policy.decide_yield(2, 0));
        assert!(!policy.decide_yield(2, SLOW_YIELD_NANOS));
        assert!(!policy.decide_yield(2, SLOW_YIELD_NANOS + NO_YIELD_NANOS - 1));
        assert!(policy.decide_yield(2, SLOW_YIELD_NANOS + NO_YIELD_NANOS));
    }
}
