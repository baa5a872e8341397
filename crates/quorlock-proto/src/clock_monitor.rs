//! The clock monitor compares a node's clock with the client's, by the times in the node's replies.
//!
//! It reports a jump only when it is *proved*, so a slow reply is never one. Between two replies the node's
//! clock advanced by the difference of their times. The client's clock advanced at least from the first's
//! arrival to the second's sending, and at most from the first's sending to the second's arrival.

use core::time::Duration;

use crate::lease_params::Drift;
use crate::time::DualTimestamp;

/// The readings of one node's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClockMonitor {
    /// An old reading, which shows slow drift.
    reference: Option<Reading>,
    last: Option<Reading>,
    drift_reported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Reading {
    sent: DualTimestamp,
    received: DualTimestamp,
    micros: u64,
}

/// What is wrong with a node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClockAnomaly {
    /// It jumped or stopped, or its rate is so wrong that it looks the same.
    Jumped {
        /// By about how many microseconds; negative if backwards.
        by_micros: i64,
    },
    /// It runs faster or slower than the allowed drift.
    DriftExceeded {
        /// By about how much, in parts per million; negative if slow.
        drift_ppm: i64,
    },
}

impl ClockMonitor {
    /// Records that the node's clock showed `micros` at some time between `sent` and `received`. A reference
    /// reading is kept for `span`.
    pub fn record(
        &mut self,
        sent: DualTimestamp,
        received: DualTimestamp,
        micros: u64,
        drift: Drift,
        span: Duration,
    ) -> Option<ClockAnomaly> {
        let reading = Reading { sent, received, micros };
        let anomaly = [self.last, self.reference]
            .into_iter()
            .flatten()
            .find_map(|old| detect_jump(old, reading, drift));
        let anomaly = anomaly.or_else(|| self.detect_drift(reading, drift));
        let is_jump = matches!(anomaly, Some(ClockAnomaly::Jumped { .. }));
        if is_jump || self.reference.is_none_or(|old| received.since(old.received) >= span) {
            self.reference = Some(reading);
            self.drift_reported = false;
        }
        self.last = Some(reading);
        anomaly
    }

    /// Reports a drift once for each reference reading.
    fn detect_drift(&mut self, new: Reading, drift: Drift) -> Option<ClockAnomaly> {
        let old = self
            .reference
            .filter(|old| !self.drift_reported && new.sent.since(old.received) >= MIN_DRIFT_SPAN)?;
        let node_elapsed = i128::from(new.micros) - i128::from(old.micros);
        let (min, max) = local_elapsed_bounds(old, new, drift);
        self.drift_reported = node_elapsed < min || node_elapsed > max;
        let span = new.received.since(old.received).as_micros() as i128;
        self.drift_reported.then(|| ClockAnomaly::DriftExceeded {
            drift_ppm: ((node_elapsed - span) * 1_000_000 / span) as i64,
        })
    }
}

fn detect_jump(old: Reading, new: Reading, drift: Drift) -> Option<ClockAnomaly> {
    let node_elapsed = i128::from(new.micros) - i128::from(old.micros);
    let (min, max) = local_elapsed_bounds(old, new, drift);
    if node_elapsed >= min - JUMP_TOLERANCE_MICROS && node_elapsed <= max + JUMP_TOLERANCE_MICROS {
        return None;
    }
    let span = new.received.since(old.received).as_micros() as i128;
    Some(ClockAnomaly::Jumped { by_micros: (node_elapsed - span) as i64 })
}

/// How far a correct node clock may have advanced between the readings, in microseconds: minimum and maximum.
fn local_elapsed_bounds(old: Reading, new: Reading, drift: Drift) -> (i128, i128) {
    let min = new.sent.since(old.received);
    let max = new.received.since(old.sent);
    let min = min.saturating_sub(drift.of(min)).as_micros();
    let max = drift.max_elapsed_on_node(max).as_micros();
    (min as i128, max as i128)
}

/// Smaller jumps are not reported, because time services make small corrections all the time.
const JUMP_TOLERANCE_MICROS: i128 = 20_000;
/// Over a shorter time a drift looks the same as a change of network delay.
const MIN_DRIFT_SPAN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// The anomalies of a clock at this rate, in millionths of the client's, in ten readings a second apart.
    fn at_rate(millionths: u64, drift: f64) -> Vec<ClockAnomaly> {
        let (mut monitor, drift) =
            (ClockMonitor::default(), Drift::new(drift).expect("a drift that makes sense"));
        let readings = (0..10).map(|second| {
            let now = DualTimestamp::new(1, 1).plus(Duration::from_secs(second));
            monitor.record(now, now, 1_000_000_000 + second * millionths, drift, Duration::from_secs(30))
        });
        readings.flatten().collect()
    }

    #[test]
    fn a_clock_within_the_allowed_drift_is_no_anomaly() {
        // On the client's clock the key lives for ttl / 1.25; the deadline is at ttl · 0.8.
        assert_eq!(at_rate(1_250_000, 0.2), []);
        assert_eq!(at_rate(800_000, 0.2), []);
        assert!(matches!(at_rate(1_300_000, 0.2)[..], [ClockAnomaly::Jumped { .. }, ..]));
        assert!(matches!(at_rate(750_000, 0.2)[..], [ClockAnomaly::Jumped { .. }, ..]));
    }
}
