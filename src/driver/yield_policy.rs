//! When the driver lets its callers speak first.
//!
//! Callers who were just answered are back in a moment, with a release or the next lock. A driver that runs as soon as
//! the first of them speaks writes that one's question alone, and so each: with 64 tasks on two threads a write then
//! carries a third of what it could, and threads wake one another for little. So, where several are about, the driver
//! stands back once, behind the tasks that are ready to run, and then takes what all of them have to say. Whoever is
//! alone with it waits for nobody.

/// Who was just answered, and whether it is worth standing back for them.
#[derive(Default)]
pub(super) struct YieldPolicy {
    /// Callers who got an answer since the driver ran last.
    answered: usize,
    /// Since when it stands back, by the boot clock.
    yielding_since: Option<u64>,
    /// Until when it hurries, by the boot clock.
    no_yield_until: u64,
}

impl YieldPolicy {
    /// A caller got an answer.
    pub(super) fn on_answered(&mut self) {
        self.answered += 1;
    }

    /// Whether to run only after the tasks that are ready now, where so many callers wait for an answer. Never twice in
    /// a row.
    pub(super) fn should_yield(&mut self, waiting: usize, boot_nanos: u64) -> bool {
        if let Some(since) = self.yielding_since.take() {
            // Where others keep the runtime for long, locks do not wait for them each time.
            if boot_nanos.saturating_sub(since) >= SLOW_YIELD_NANOS {
                self.no_yield_until = boot_nanos + NO_YIELD_NANOS;
            }
        } else if waiting + self.answered > 1 && boot_nanos >= self.no_yield_until {
            self.yielding_since = Some(boot_nanos);
            return true;
        }
        self.answered = 0;
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
        let mut courtesy = YieldPolicy::default();
        assert!(!courtesy.should_yield(0, 0));
        assert!(!courtesy.should_yield(1, 1), "whoever is alone waits for nobody");
        courtesy.on_answered();
        assert!(!courtesy.should_yield(0, 2), "one who was answered is still alone");

        assert!(courtesy.should_yield(2, 3));
        assert!(!courtesy.should_yield(2, 4), "not twice in a row");
        courtesy.on_answered();
        courtesy.on_answered();
        assert!(courtesy.should_yield(0, 5), "both may be back in a moment");
        assert!(!courtesy.should_yield(0, 6));
        assert!(!courtesy.should_yield(0, 7), "they did not come back");
    }

    #[test]
    fn after_a_slow_yield_it_does_not_yield_for_a_while() {
        let mut courtesy = YieldPolicy::default();
        assert!(courtesy.should_yield(2, 0));
        assert!(!courtesy.should_yield(2, SLOW_YIELD_NANOS));
        assert!(!courtesy.should_yield(2, SLOW_YIELD_NANOS + NO_YIELD_NANOS - 1));
        assert!(courtesy.should_yield(2, SLOW_YIELD_NANOS + NO_YIELD_NANOS));
    }
}
