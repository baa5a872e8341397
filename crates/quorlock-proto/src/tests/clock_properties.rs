//! Properties of clock watching, for all clocks and delays.

use std::time::Duration;

use proptest::prelude::*;

use crate::clock_monitor::{ClockAnomaly, ClockMonitor};
use crate::lease_params::Drift;
use crate::time::DualTimestamp;

proptest! {
    #[test]
    fn a_clock_within_the_drift_is_no_anomaly_under_any_delays(
        replies in prop::collection::vec((0_u64..20_000, 0_u64..5_000, 0_u64..5_000), 2..40),
        // Slightly less than ρ, because clocks are read in whole microseconds.
        millionths in -9_990_i64..=9_990,
        clock_start in 1_000_000_000_u64..1 << 50,
    ) {
        let (mut monitor, mut nanos) = (ClockMonitor::default(), 0_u64);
        for (pause, request_delay, reply_delay) in replies {
            let sent = nanos + pause * 1_000_000;
            let read = sent + request_delay * 1_000_000;
            nanos = read + reply_delay * 1_000_000;
            let elapsed = i128::from(read) * i128::from(1_000_000 + millionths) / 1_000_000_000;
            let anomaly = watch(&mut monitor, sent, nanos, (i128::from(clock_start) + elapsed) as u64);
            prop_assert_eq!(anomaly, None);
        }
    }

    #[test]
    fn a_jump_beyond_the_uncertainty_is_always_reported(
        before in prop::collection::vec((0_u64..20_000, 0_u64..500, 0_u64..500), 1..10),
        last in (0_u64..20_000, 0_u64..500, 0_u64..500),
        more in 1_i64..100_000_000,
        is_forward in any::<bool>(),
    ) {
        let clock_start = 1_u64 << 50;
        let (mut monitor, mut nanos) = (ClockMonitor::default(), 0_u64);
        let mut previous = (0, 0);
        for (pause, request_delay, reply_delay) in before {
            let sent = nanos + pause * 1_000;
            previous = (sent, sent + (request_delay + reply_delay) * 1_000);
            nanos = previous.1;
            let anomaly = watch(&mut monitor, sent * 1_000, nanos * 1_000, clock_start + sent + request_delay * 1_000);
            prop_assert_eq!(anomaly, None);
        }
        let (pause, request_delay, reply_delay) = last;
        let sent = nanos + pause * 1_000;
        let received = sent + (request_delay + reply_delay) * 1_000;
        // The largest change without a jump: the clock drifts, and one way takes all of the round trip.
        let (longest, shortest) = (received - previous.0, sent - previous.1);
        let uncertainty = (longest - shortest) + longest / 100 + 20_000;
        let by = if is_forward { uncertainty as i64 + more } else { -(uncertainty as i64 + more) };
        let micros = (clock_start + sent + request_delay * 1_000).saturating_add_signed(by);
        match watch(&mut monitor, sent * 1_000, received * 1_000, micros) {
            Some(ClockAnomaly::Jumped { by_micros }) => {
                prop_assert!((by_micros - by).unsigned_abs() <= longest - shortest, "{} for {}", by_micros, by);
            }
            other => prop_assert!(false, "{:?} for a jump by {} µs", other, by),
        }
    }
}

fn watch(monitor: &mut ClockMonitor, sent: u64, received: u64, micros: u64) -> Option<ClockAnomaly> {
    let timestamp = |nanos| DualTimestamp::new(nanos, nanos);
    let drift = Drift::new(0.01).expect("a valid drift");
    monitor.record(timestamp(sent), timestamp(received), micros, drift, Duration::from_secs(30))
}
