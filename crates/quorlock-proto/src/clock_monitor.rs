//! Watches a node's clock against ours, by the times that come with its answers anyway.
//!
//! A jump is told only when it is *proved*: an answer that was under way for long looks like neither. Between two
//! answers the node's clock went on by its own count; ours by at least from the first's arrival to the second's
//! sending, and by at most from the first's sending to the second's arrival.

use std::time::Duration;

use crate::lease_params::Drift;
use crate::time::DualTimestamp;

/// One node's clock, as far as it was watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClockMonitor {
    /// An old reading, so that what creeps shows too.
    anchor: Option<Reading>,
    last: Option<Reading>,
    has_warned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Reading {
    sent: DualTimestamp,
    received: DualTimestamp,
    micros: u64,
}

/// What was found out about a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClockAnomaly {
    /// It jumped, or stood still, or runs so far off that nobody can tell the difference.
    Jumped {
        /// By about how much; negative if back.
        by_micros: i64,
    },
    /// It runs faster or slower than the drift allows.
    Drifts {
        /// By about how much, in millionths; negative if slow.
        drift_ppm: i64,
    },
}

impl ClockMonitor {
    /// The node's clock showed `micros` somewhen between these two moments. `span` is how far back to remember.
    pub fn record(
        &mut self,
        sent: DualTimestamp,
        received: DualTimestamp,
        micros: u64,
        drift: Drift,
        span: Duration,
    ) -> Option<ClockAnomaly> {
        let reading = Reading { sent, received, micros };
        let anomaly =
            [self.last, self.anchor].into_iter().flatten().find_map(|old| detect_jump(old, reading, drift));
        let anomaly = anomaly.or_else(|| self.detect_drift(reading, drift));
        let is_jump = matches!(anomaly, Some(ClockAnomaly::Jumped { .. }));
        if is_jump || self.anchor.is_none_or(|old| received.since(old.received) >= span) {
            self.anchor = Some(reading);
            self.has_warned = false;
        }
        self.last = Some(reading);
        anomaly
    }

    /// Told once for each anchor.
    fn detect_drift(&mut self, new: Reading, drift: Drift) -> Option<ClockAnomaly> {
        let old =
            self.anchor.filter(|old| !self.has_warned && new.sent.since(old.received) >= MIN_DRIFT_SPAN)?;
        let theirs = i128::from(new.micros) - i128::from(old.micros);
        let (least, most) = local_elapsed_bounds(old, new, drift);
        self.has_warned = theirs < least || theirs > most;
        let span = new.received.since(old.received).as_micros() as i128;
        self.has_warned
            .then(|| ClockAnomaly::Drifts { drift_ppm: ((theirs - span) * 1_000_000 / span) as i64 })
    }
}

fn detect_jump(old: Reading, new: Reading, drift: Drift) -> Option<ClockAnomaly> {
    let theirs = i128::from(new.micros) - i128::from(old.micros);
    let (least, most) = local_elapsed_bounds(old, new, drift);
    if theirs >= least - JUMP_TOLERANCE_MICROS && theirs <= most + JUMP_TOLERANCE_MICROS {
        return None;
    }
    let span = new.received.since(old.received).as_micros() as i128;
    Some(ClockAnomaly::Jumped { by_micros: (theirs - span) as i64 })
}

/// The least and the most that a sane clock may have gone on, in microseconds.
fn local_elapsed_bounds(old: Reading, new: Reading, drift: Drift) -> (i128, i128) {
    let least = new.sent.since(old.received);
    let most = new.received.since(old.sent);
    let least = least.saturating_sub(drift.of(least)).as_micros();
    let most = drift.most_of(most).as_micros();
    (least as i128, most as i128)
}

/// Below this no jump is told: time services make small corrections all the time.
const JUMP_TOLERANCE_MICROS: i128 = 20_000;
/// Over less than this a drift cannot be told from the way of an answer.
const MIN_DRIFT_SPAN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows a clock at this rate, in millionths of ours, once a second; what is found out in ten of them.
    fn at_rate(millionths: u64, drift: f64) -> Vec<ClockAnomaly> {
        let (mut sentinel, drift) =
            (ClockMonitor::default(), Drift::new(drift).expect("a drift that makes sense"));
        let readings = (0..10).map(|second| {
            let now = DualTimestamp::new(1, 1).plus(Duration::from_secs(second));
            sentinel.record(now, now, 1_000_000_000 + second * millionths, drift, Duration::from_secs(30))
        });
        readings.flatten().collect()
    }

    #[test]
    fn a_clock_that_a_deadline_allows_for_is_not_odd() {
        // The key lives for ttl / 1.25 of ours; the deadline is at ttl · 0.8.
        assert_eq!(at_rate(1_250_000, 0.2), []);
        assert_eq!(at_rate(800_000, 0.2), []);
        assert!(matches!(at_rate(1_300_000, 0.2)[..], [ClockAnomaly::Jumped { .. }, ..]));
        assert!(matches!(at_rate(750_000, 0.2)[..], [ClockAnomaly::Jumped { .. }, ..]));
    }
}
