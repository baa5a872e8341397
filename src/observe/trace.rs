//! Events as `tracing` events: trouble loud, the daily round at debug. Nothing is formatted when nobody listens.

use tracing::{Level, debug, enabled, error, info, warn};

use super::Event;

pub(super) fn record(event: &Event<'_>) {
    match event {
        Event::NodeUp { node, server, round_trip } => info!(node, server, ?round_trip, "node is up"),
        Event::NodeDown { node, reason: why } => warn!(node, why, "node is down"),
        Event::NodeExcluded { node, reason: exclusion } => error!(node, %exclusion, "node is barred"),
        Event::NodeWarning { node, warning } => warn!(node, "{warning}"),
        Event::Warning { warning } => warn!("{warning}"),
        Event::ReplyReceived { node, key, request: phase, reply: vote } => {
            debug!(node, key, ?phase, %vote, "vote")
        }
        Event::NodeOnProbation { node, remaining, reason: doubt } => {
            warn!(node, ?remaining, "node casts no vote: {doubt}");
        }
        Event::ClockJumped { node, by_micros } => {
            error!(node, by_micros, "clock jumped: let time services slew, not step, once a server runs");
        }
        Event::ClockDriftExceeded { node, drift_ppm: millionths } => {
            warn!(node, millionths, "clock drifts: limit maxslewrate in chrony.conf, or raise the drift");
        }
        Event::Acquired { key, nodes, remaining, number, rounds, owner: mark } => {
            debug!(key, nodes, ?remaining, number, rounds, %mark, "acquired");
        }
        Event::MinFencingNumberSet { key, number: floor } => {
            debug!(key, floor, "asked for a number above the floor")
        }
        Event::AcquireFailed { key, reason: why } => debug!(key, ?why, "refused"),
        Event::Renewed { key, remaining } => debug!(key, ?remaining, "renewed"),
        Event::RenewalFailed { key, remaining } => warn!(key, ?remaining, "renewal unconfirmed"),
        Event::Lost { key, reason: loss } => error!(key, ?loss, "lock lost"),
        Event::Released { key, nodes } => debug!(key, nodes, "released"),
    }
}

pub(super) fn wants_votes() -> bool {
    enabled!(Level::DEBUG)
}
