//! When the keys of other holders expire, as far as nodes have reported it.

use std::time::Duration;

use quorlock_proto::time::DualTimestamp;

/// The last reported expiry of the keys in the way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KnownExpiry(Option<DualTimestamp>);

impl KnownExpiry {
    /// Records what the node with the wait queue reports of its key.
    pub(super) fn on_enqueue_reply(&mut self, remaining: Option<Duration>, now: DualTimestamp) {
        self.0 = remaining.map(|remaining| now.plus(remaining));
    }

    /// Records a failed attempt. In plain mode its replies often contain no expiry; then the known one stays. Without
    /// it, a waiter that made an attempt despite the wait queue would get a dead holder's lock up to 0.8 s late.
    pub(super) fn on_attempt_failed(&mut self, retry_after: Option<Duration>, now: DualTimestamp) {
        if retry_after.is_some() {
            self.on_enqueue_reply(retry_after, now);
        }
    }

    /// The time until then; `None` if it is not known, or has passed.
    pub(super) fn remaining(self, now: DualTimestamp) -> Option<Duration> {
        self.0.map(|expiry| expiry.since(now)).filter(|remaining| !remaining.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_attempt_without_a_report_keeps_the_known_expiry_until_it_passes() {
        let start = DualTimestamp::new(1_000_000_000, 1_000_000_000);
        let mut expiry = KnownExpiry::default();
        assert_eq!(expiry.remaining(start), None);
        expiry.on_enqueue_reply(Some(3 * SECOND), start);
        expiry.on_attempt_failed(None, start.plus(SECOND));
        assert_eq!(expiry.remaining(start.plus(SECOND)), Some(2 * SECOND));
        expiry.on_attempt_failed(Some(SECOND), start.plus(SECOND));
        assert_eq!(expiry.remaining(start.plus(SECOND)), Some(SECOND));
        assert_eq!(expiry.remaining(start.plus(2 * SECOND)), None, "it has passed");
        expiry.on_enqueue_reply(None, start);
        assert_eq!(expiry.remaining(start), None, "the key there never expires");
    }
}
