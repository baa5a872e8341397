//! Writes each event to `tracing`: lost locks and unusable nodes as errors, degraded states as warnings, routine at debug.
//! Arguments are formatted only when a subscriber is interested.

use tracing::{Level, debug, enabled, error, info, warn};

use super::Event;

/// Acquiring, renewing, losing and releasing locks.
const LOCK: &str = "quorlock::lock";
/// Connections, exclusion, probation and replies of single nodes.
const NODE: &str = "quorlock::node";
/// Clocks that jump or drift.
const CLOCK: &str = "quorlock::clock";
/// What concerns the lock cluster as a whole.
const CLUSTER: &str = "quorlock::cluster";

pub(super) fn record(event: &Event<'_>) {
    match event {
        Event::NodeUp { node, server, round_trip } => {
            info!(target: NODE, node, server, ?round_trip, "node is up");
        }
        Event::NodeDown { node, reason } => warn!(target: NODE, node, reason, "node is down"),
        Event::NodeExcluded { node, reason } => error!(target: NODE, node, %reason, "node is excluded"),
        Event::NodeWarning { node, warning } => warn!(target: NODE, node, "{warning}"),
        Event::Warning { warning } => warn!(target: CLUSTER, "{warning}"),
        Event::ReplyReceived { node, key, request, reply } => {
            debug!(target: NODE, node, key, ?request, %reply, "reply received");
        }
        Event::NodeOnProbation { node, remaining, reason } => {
            warn!(target: NODE, node, ?remaining, "node casts no vote: {reason}");
        }
        Event::ClockJumped { node, by_micros } => {
            error!(target: CLOCK, node, by_micros, "clock jumped: let time services slew, not step, once a server runs");
        }
        Event::ClockDriftExceeded { node, drift_ppm } => {
            warn!(
                target: CLOCK, node, drift_ppm,
                "clock drift exceeded: limit maxslewrate in chrony.conf, or raise max_clock_drift (--clock-drift)"
            );
        }
        Event::Acquired { key, nodes, remaining, number, rounds, owner } => {
            debug!(target: LOCK, key, nodes, ?remaining, number, rounds, %owner, "acquired");
        }
        Event::MinFencingNumberSet { key, number } => {
            debug!(target: LOCK, key, number, "minimum fencing number set");
        }
        Event::AcquireFailed { key, reason } => debug!(target: LOCK, key, ?reason, "acquire failed"),
        Event::Renewed { key, remaining } => debug!(target: LOCK, key, ?remaining, "renewed"),
        Event::RenewalFailed { key, remaining } => warn!(target: LOCK, key, ?remaining, "renewal failed"),
        Event::Lost { key, reason } => error!(target: LOCK, key, ?reason, "lock lost"),
        Event::Released { key, nodes } => debug!(target: LOCK, key, nodes, "released"),
    }
}

/// Whether a subscriber wants every reply.
pub(super) fn wants_replies() -> bool {
    enabled!(target: NODE, Level::DEBUG)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use quorlock_proto::lease::LossReason;
    use quorlock_proto::vote::ProbationReason;
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::with_default;
    use tracing::{Metadata, Subscriber};

    use super::*;

    /// Keeps the target of every event.
    #[derive(Clone, Default)]
    struct Targets(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Targets {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            self.0.lock().expect("no panic").push(event.metadata().target().to_owned());
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn each_event_has_the_target_of_its_subject() {
        let (node, key, remaining) = ("127.0.0.1:6379", "k", Duration::from_secs(1));
        let events = [
            (Event::NodeUp { node, server: "Redis 7.0.15", round_trip: remaining }, "quorlock::node"),
            (Event::NodeDown { node, reason: "refused" }, "quorlock::node"),
            (Event::NodeWarning { node, warning: "w" }, "quorlock::node"),
            (
                Event::NodeOnProbation { node, remaining, reason: ProbationReason::ClockJump },
                "quorlock::node",
            ),
            (Event::ClockJumped { node, by_micros: 1 }, "quorlock::clock"),
            (Event::ClockDriftExceeded { node, drift_ppm: 1 }, "quorlock::clock"),
            (Event::Warning { warning: "w" }, "quorlock::cluster"),
            (Event::MinFencingNumberSet { key, number: 1 }, "quorlock::lock"),
            (Event::Renewed { key, remaining }, "quorlock::lock"),
            (Event::RenewalFailed { key, remaining }, "quorlock::lock"),
            (Event::Lost { key, reason: LossReason::Expired }, "quorlock::lock"),
            (Event::Released { key, nodes: 3 }, "quorlock::lock"),
        ];
        let targets = Targets::default();
        with_default(targets.clone(), || events.iter().for_each(|(event, _)| record(event)));
        let seen = targets.0.lock().expect("no panic");
        let expected: Vec<&str> = events.iter().map(|(_, target)| *target).collect();
        assert_eq!(*seen, expected);
    }
}
