//! Events as `tracing` events: errors and warnings at their levels, routine at debug. Disabled events are not formatted.
//!
//! A target says what the event is about, so that filters can choose: `quorlock::lock`, `quorlock::node`,
//! `quorlock::clock`, `quorlock::cluster`.

use tracing::{Level, debug, enabled, error, info, warn};

use super::Event;

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
            warn!(target: NODE, node, ?remaining, "node is on probation: {reason}");
        }
        Event::ClockJumped { node, by_micros } => {
            error!(target: CLOCK, node, by_micros, "clock jumped: let time services slew, not step, once a server runs");
        }
        Event::ClockDriftExceeded { node, drift_ppm } => {
            warn!(
                target: CLOCK, node, drift_ppm,
                "clock drift exceeded: limit maxslewrate in chrony.conf, or raise the allowed drift"
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

pub(super) fn wants_replies() -> bool {
    enabled!(target: NODE, Level::DEBUG)
}

const LOCK: &str = "quorlock::lock";
const NODE: &str = "quorlock::node";
const CLOCK: &str = "quorlock::clock";
const CLUSTER: &str = "quorlock::cluster";

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use quorlock_proto::lease::LossReason;
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::with_default;
    use tracing::{Metadata, Subscriber};

    use super::*;

    /// Records the target of each event.
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
            self.0.lock().expect("whole").push(event.metadata().target().to_owned());
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn each_event_has_the_target_of_its_subject() {
        let targets = Arc::default();
        with_default(Targets(Arc::clone(&targets)), || {
            record(&Event::Released { key: "k", nodes: 3 });
            record(&Event::Lost { key: "k", reason: LossReason::Expired });
            record(&Event::NodeUp { node: "n", server: "redis 7", round_trip: Duration::ZERO });
            record(&Event::ClockJumped { node: "n", by_micros: 1 });
            record(&Event::Warning { warning: "w" });
        });
        assert_eq!(*targets.lock().expect("whole"), [LOCK, LOCK, NODE, CLOCK, CLUSTER]);
    }
}
