//! When the driver lets its callers speak first.
//!
//! Callers who were just answered are back in a moment, with a release or the next lock. A driver that runs as soon as
//! the first of them speaks writes that one's question alone, and so each: with 64 tasks on two threads a write then
//! carries a third of what it could, and threads wake one another for little. So, where several are about, the driver
//! stands back once, behind the tasks that are ready to run, and then takes what all of them have to say. Whoever is
//! alone with it waits for nobody.

/// Who is about, and whether it is worth standing back for them.
#[derive(Default)]
pub(super) struct Courtesy {
    /// Callers who wait for the answer to an acquire or a release.
    waiting: usize,
    /// Those who got theirs since the driver ran last.
    answered: usize,
    has_stood_back: bool,
    /// Until when it hurries, by the boot clock.
    hurries_until: u64,
}

impl Courtesy {
    /// A caller waits for an answer.
    pub(super) fn on_asked(&mut self) {
        self.waiting += 1;
    }

    /// It got the answer.
    pub(super) fn on_answered(&mut self) {
        self.waiting -= 1;
        self.answered += 1;
    }

    /// It walked away.
    pub(super) fn on_left(&mut self) {
        self.waiting -= 1;
    }

    /// Whether to run only after the tasks that are ready now. Never twice in a row.
    pub(super) fn stands_back(&mut self, boot_nanos: u64, nanos_since_last_run: u64) -> bool {
        if std::mem::take(&mut self.has_stood_back) {
            // Where others keep the runtime for long, locks do not wait for them each time.
            if nanos_since_last_run >= LONG_NANOS {
                self.hurries_until = boot_nanos + HURRY_NANOS;
            }
        } else {
            self.has_stood_back = self.waiting + self.answered > 1 && boot_nanos >= self.hurries_until;
        }
        if !self.has_stood_back {
            self.answered = 0;
        }
        self.has_stood_back
    }
}

const LONG_NANOS: u64 = 1_000_000;
const HURRY_NANOS: u64 = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_back_once_where_several_are_about_and_never_for_one() {
        let mut courtesy = Courtesy::default();
        assert!(!courtesy.stands_back(0, 10));
        courtesy.on_asked();
        assert!(!courtesy.stands_back(1, 10), "whoever is alone waits for nobody");
        courtesy.on_answered();
        assert!(!courtesy.stands_back(2, 10), "one who was answered is still alone");

        courtesy.on_asked();
        courtesy.on_asked();
        assert!(courtesy.stands_back(3, 10));
        assert!(!courtesy.stands_back(4, 10), "not twice in a row");
        courtesy.on_answered();
        courtesy.on_answered();
        assert!(courtesy.stands_back(5, 10), "both may be back in a moment");
        assert!(!courtesy.stands_back(6, 10));
        assert!(!courtesy.stands_back(7, 10), "they did not come back");

        courtesy.on_asked();
        courtesy.on_asked();
        courtesy.on_left();
        assert!(!courtesy.stands_back(8, 10));
    }

    #[test]
    fn where_others_keep_the_runtime_for_long_it_hurries_for_a_while() {
        let mut courtesy = Courtesy::default();
        courtesy.on_asked();
        courtesy.on_asked();
        assert!(courtesy.stands_back(0, 10));
        assert!(!courtesy.stands_back(LONG_NANOS, LONG_NANOS));
        assert!(!courtesy.stands_back(LONG_NANOS + HURRY_NANOS - 1, 10));
        assert!(courtesy.stands_back(LONG_NANOS + HURRY_NANOS, 10));
    }
}
