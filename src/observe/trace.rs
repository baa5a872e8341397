//! Writes each event to `tracing`: lost locks and unusable nodes as errors, degraded states as warnings, routine at debug.
//! Arguments are formatted only when a subscriber is interested.

use quorlock_proto::request::RequestKind;
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

pub(super) fn record(event: &Event) {
    match event {
        Event::NodeUp { node, server, round_trip } => {
            info!(target: NODE, node = &**node, %server, ?round_trip, "node is up");
        }
        Event::NodeDown { node, reason } => {
            warn!(target: NODE, node = &**node, reason = &**reason, "node is down");
        }
        Event::NodeExcluded { node, reason } => {
            error!(target: NODE, node = &**node, %reason, "node is excluded");
        }
        Event::NodeWarning { node, warning } => warn!(target: NODE, node = &**node, "{warning}"),
        Event::Warning { warning } => warn!(target: CLUSTER, "{warning}"),
        // Recorded with its request, by `record_reply`.
        Event::ReplyReceived { .. } => {}
        Event::NodeOnProbation { node, remaining, reason } => {
            warn!(target: NODE, node = &**node, ?remaining, "node casts no vote: {reason}");
        }
        Event::SeatChanged { node, epoch, is_vacant } => {
            warn!(target: CLUSTER, node = &**node, epoch = &**epoch, is_vacant, "seat changed hands");
        }
        Event::ClockJumped { node, by_micros } => {
            error!(target: CLOCK, node = &**node, by_micros, "clock jumped: let time services slew, not step, once a server runs");
        }
        Event::ClockDriftExceeded { node, drift_ppm } => {
            warn!(
                target: CLOCK, node = &**node, drift_ppm,
                "clock drift exceeded: limit maxslewrate in chrony.conf, or raise the drift"
            );
        }
        Event::Acquired { key, nodes, remaining, fencing_number, rounds, owner } => {
            debug!(target: LOCK, ?key, nodes, ?remaining, fencing_number, rounds, %owner, "acquired");
        }
        Event::MinFencingNumberSet { key, number } => {
            debug!(target: LOCK, ?key, number, "minimum fencing number set");
        }
        Event::AcquireFailed { key, reason } => debug!(target: LOCK, ?key, %reason, "acquire failed"),
        Event::Renewed { key, remaining } => debug!(target: LOCK, ?key, ?remaining, "renewed"),
        Event::RenewalFailed { key, remaining } => warn!(target: LOCK, ?key, ?remaining, "renewal failed"),
        Event::Lost { key, reason } => error!(target: LOCK, ?key, %reason, "lock lost"),
        Event::Released { key, nodes } => debug!(target: LOCK, ?key, nodes, "released"),
    }
}

pub(super) fn record_reply(request: RequestKind, event: &Event) {
    if let Event::ReplyReceived { node, key, reply } = event {
        debug!(target: NODE, node = &**node, key = key.as_ref().map(debug), ?request, %reply, "reply received");
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

    use crate::view::{NodeWarning, ServerVersion};
    use quorlock_proto::lease::LossReason;
    use quorlock_proto::request::Key;
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
        let (node, key, remaining) =
            (Arc::<str>::from("127.0.0.1:6379"), Key::new("k"), Duration::from_secs(1));
        let (node, key) = (|| Arc::clone(&node), || key.clone());
        let events = [
            (
                Event::NodeUp {
                    node: node(),
                    server: ServerVersion { name: "Redis", version: "7".into(), service: None },
                    round_trip: remaining,
                },
                "quorlock::node",
            ),
            (Event::NodeDown { node: node(), reason: "closed".into() }, "quorlock::node"),
            (
                Event::NodeWarning { node: node(), warning: NodeWarning::WriteRejected("w".into()) },
                "quorlock::node",
            ),
            (
                Event::NodeOnProbation { node: node(), remaining, reason: ProbationReason::ClockJump },
                "quorlock::node",
            ),
            (Event::ClockJumped { node: node(), by_micros: 1 }, "quorlock::clock"),
            (Event::ClockDriftExceeded { node: node(), drift_ppm: 1 }, "quorlock::clock"),
            (Event::Warning { warning: "w".into() }, "quorlock::cluster"),
            (Event::MinFencingNumberSet { key: key(), number: 1 }, "quorlock::lock"),
            (Event::Renewed { key: key(), remaining }, "quorlock::lock"),
            (Event::RenewalFailed { key: key(), remaining }, "quorlock::lock"),
            (Event::Lost { key: key(), reason: LossReason::Expired }, "quorlock::lock"),
            (Event::Released { key: key(), nodes: 3 }, "quorlock::lock"),
        ];
        let targets = Targets::default();
        with_default(targets.clone(), || events.iter().for_each(|(event, _)| record(event)));
        let seen = targets.0.lock().expect("no panic");
        let expected: Vec<&str> = events.iter().map(|(_, target)| *target).collect();
        assert_eq!(*seen, expected);
    }
}
