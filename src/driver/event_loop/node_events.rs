//! Node events: replies, opened and closed connections, and changes of a node's voting status and clock.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::link::LinkEvent;
use super::Driver;
use crate::node::{DecodedReply, DialError, IS_PROXY, Reply, ServerInfo, decode, decode_marker};
use crate::observe::Event;
use crate::view::{ClusterSettings, LeaseDeadline, NodeStatus, NodeWarning, SeatStatus};
use quorlock_proto::clock_monitor::ClockAnomaly;
use quorlock_proto::membership::VotingStatus;
use quorlock_proto::quorum::NodeId;
use quorlock_proto::request::RequestKind;
use quorlock_proto::roster::RosterView;
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::{ExclusionReason, Vote};

impl Driver {
    /// Handles an event of a node's connection or dial.
    pub(super) fn on_link_event(&mut self, node: NodeId, event: LinkEvent, now: DualTimestamp) {
        match event {
            LinkEvent::DataRead => {
                self.take_replies(node, now);
                if let Some(outcome) = self.links[node.index()].take_login_reply() {
                    self.on_login_renewal(node, outcome, now);
                }
                self.handle_notifications(node, now);
            }
            LinkEvent::CredentialsProvided(Ok(credentials)) => {
                if self.links[node.index()].log_in_again(&credentials, now) {
                    self.unsent.insert(node);
                } else {
                    // The time of the next login has changed.
                    self.is_status_dirty = true;
                }
            }
            LinkEvent::CredentialsProvided(Err(reason)) => self.on_login_renewal(node, Err(reason), now),
            LinkEvent::Disconnected(reason) | LinkEvent::DialFailed(DialError::NotReady(reason)) => {
                self.disconnect(node, reason, now);
            }
            LinkEvent::DialFailed(DialError::NoReply(step, reason)) => {
                self.disconnect(node, reason, now);
                // `disconnect` clears the step, so set it afterwards.
                self.links[node.index()].status.failed_step = Some(step);
            }
            LinkEvent::DialFailed(DialError::Excluded(exclusion)) => self.exclude(node, exclusion, now),
            LinkEvent::Dialed(info) => self.on_dialed(node, &info, now),
        }
    }

    /// Passes the replies that have been read to the coordinator. Closes the connection at a reply that
    /// cannot be read or matches no request, and at an error that makes the handshake outdated.
    fn take_replies(&mut self, node: NodeId, now: DualTimestamp) {
        let close_reason = loop {
            let link = &mut self.links[node.index()];
            let Some(connection) = link.connection() else { return };
            let reply = match connection.next_reply() {
                Ok(Some(reply)) => reply,
                Ok(None) => return,
                Err(error) => break error.to_string(),
            };
            let Some(kind) = self.coordinator.next_reply_kind(node) else {
                // An earlier reply made the coordinator give up the connection. Its queued `Redial` closes it, and
                // reports that cause.
                if self.coordinator.cause_of_disconnection(node).is_some() {
                    return;
                }
                break "a reply that matches no request".to_owned();
            };
            let redial_reason = if kind == RequestKind::ReadMarker {
                self.on_marker_reply(node, &reply, now)
            } else {
                self.on_reply(node, kind, decode(kind, &reply), now)
            };
            if let Some(text) = redial_reason {
                break format!("{ROLE_CHANGED}: {text}");
            }
        };
        self.disconnect(node, close_reason.into(), now);
    }

    /// Handles the outcome of a login on a living connection.
    fn on_login_renewal(&mut self, node: NodeId, outcome: Result<(), Arc<str>>, now: DualTimestamp) {
        let link = &mut self.links[node.index()];
        if let Some(warning) = link.on_login_renewal(outcome, now) {
            self.events.emit(&Event::NodeWarning { node: Arc::clone(&link.status.address), warning });
        }
        self.is_status_dirty = true;
    }

    /// Handles the reply to a marker reading. Returns why the node must be dialed again, if it must.
    fn on_marker_reply(&mut self, node: NodeId, reply: &Reply, now: DualTimestamp) -> Option<Arc<str>> {
        let decoded = decode_marker(reply);
        self.is_status_dirty |=
            decoded.is_command_denied && self.links[node.index()].on_permission_denied(now);
        // A connection belongs to one process, unless a proxy keeps it.
        if let Ok(reading) = &decoded.reading
            && !self.links[node.index()].is_of(&reading.incarnation)
        {
            self.exclude(node, ExclusionReason::Unsupported(IS_PROXY.into()), now);
            return None;
        }
        self.coordinator.on_marker_reading(node, decoded.reading, now);
        self.is_status_dirty |= self.note_vacating();
        if let Some(fences) = decoded.fences {
            let link = &mut self.links[node.index()];
            self.is_status_dirty |= link.status.fences != Some(fences);
            if let Some(warning) = link.record_fences(fences) {
                self.events.emit(&Event::NodeWarning { node: Arc::clone(&link.status.address), warning });
            }
        }
        decoded.redial_reason
    }

    /// Records by when the seats of absent nodes become vacant. Returns true if that is known of other nodes now.
    pub(super) fn note_vacating(&mut self) -> bool {
        let mut has_changed = false;
        for (index, link) in self.links.iter_mut().enumerate() {
            let vacant_by = self.coordinator.seat_vacated_by(NodeId(index as u8)).map(LeaseDeadline::new);
            has_changed |= vacant_by.is_some() != link.status.vacant_by.is_some();
            link.status.vacant_by = vacant_by;
        }
        has_changed
    }

    /// Handles the reply to any other request. Returns why the node must be dialed again, if it must.
    fn on_reply(
        &mut self,
        node: NodeId,
        kind: RequestKind,
        reply: DecodedReply,
        now: DualTimestamp,
    ) -> Option<Arc<str>> {
        if let Some(micros) = reply.node_micros {
            self.coordinator.on_node_time(node, micros, now);
        }
        let link = &mut self.links[node.index()];
        self.is_status_dirty |= reply.is_command_denied && link.on_permission_denied(now);
        // A rejected request alone only adds a warning, because the node passed the handshake.
        if let Vote::Excluded(exclusion) = &reply.vote
            && link.add_warning(exclusion)
        {
            self.events.emit(&Event::NodeExcluded {
                node: Arc::clone(&link.status.address),
                reason: exclusion.clone(),
            });
            self.is_status_dirty = true;
        }
        if kind == RequestKind::Enqueue {
            self.is_status_dirty |= link.on_enqueue_reply(reply.is_write_rejected, now);
        }
        // Read the key before `on_reply` removes the request from the pipeline.
        let to_report = self
            .events
            .wants_replies()
            .then(|| (reply.vote.clone(), self.coordinator.next_reply_key(node).cloned()));
        let operation = self.coordinator.on_reply(node, reply.vote, now);
        // Read the call's key before the coordinator's events are delivered, because they end the call.
        if let (true, Some((id, _))) = (reply.has_other_waiters, operation)
            && let Some(key) = self.calls.key_of(id)
        {
            self.key_queues.on_others_waiting(key);
        }
        if let (Some((vote, key)), Some((_, kind))) = (to_report, operation) {
            let node = Arc::clone(&self.links[node.index()].status.address);
            self.events.emit_reply(kind, &Event::ReplyReceived { node, key, reply: vote.into() });
        }
        reply.redial_reason
    }

    /// Handles a successful dial: records what the handshake reported, and lets the coordinator send
    /// requests.
    fn on_dialed(&mut self, node: NodeId, info: &ServerInfo, now: DualTimestamp) {
        // The node's own link is connected already, with the run id of its last connection.
        let duplicate = self.links.iter().enumerate().find(|(index, other)| {
            *index != node.index()
                && other.is_connected()
                && other.status.run_id == info.run_id
                && !info.run_id.is_empty()
        });
        if let Some((duplicate, _)) = duplicate {
            return self.exclude(node, ExclusionReason::DuplicateServer(duplicate as u8), now);
        }
        let link = &mut self.links[node.index()];
        link.on_handshake(info);
        let NodeStatus { address, warnings, .. } = &link.status;
        let name = || Arc::clone(address);
        self.events.emit(&Event::NodeUp { node: name(), server: info.server(), round_trip: info.round_trip });
        for warning in warnings {
            self.events.emit(&Event::NodeWarning { node: name(), warning: warning.clone() });
        }
        // Pass the marker first, so that the coordinator knows whether the node votes when it comes up.
        if let Some(reading) = &info.marker {
            self.coordinator.on_handshake(node, reading.clone(), info.requested_at, now);
        }
        self.coordinator.on_up(node, now);
        self.is_status_dirty = true;
    }

    /// Closes the connection of a node, or records a failed dial. The node is dialed again after a pause.
    pub(super) fn disconnect(&mut self, node: NodeId, reason: Arc<str>, now: DualTimestamp) {
        let link = &mut self.links[node.index()];
        if link.disconnect(&reason, now) {
            self.events.emit(&Event::NodeDown {
                node: Arc::clone(&link.status.address),
                reason: Arc::clone(&reason),
            });
        }
        self.coordinator.on_down(node, reason, now);
        self.key_queues.on_wait_queues_lost();
        self.is_status_dirty = true;
    }

    /// Records after a dial that the node cannot serve this client. It is dialed again after a longer pause.
    fn exclude(&mut self, node: NodeId, exclusion: ExclusionReason, now: DualTimestamp) {
        let link = &mut self.links[node.index()];
        if link.exclude(exclusion.clone(), now) {
            self.events.emit(&Event::NodeExcluded {
                node: Arc::clone(&link.status.address),
                reason: exclusion.clone(),
            });
        }
        self.coordinator.on_excluded(node, exclusion, now);
        self.key_queues.on_wait_queues_lost();
        self.is_status_dirty = true;
    }

    /// Handles a change of the node's voting status.
    pub(super) fn on_voting_status(
        &mut self,
        node: NodeId,
        voting_status: &VotingStatus,
        now: DualTimestamp,
    ) {
        let link = &mut self.links[node.index()];
        link.set_voting_status(voting_status);
        let node = Arc::clone(&link.status.address);
        match voting_status {
            VotingStatus::Excluded(exclusion) => {
                self.events.emit(&Event::NodeExcluded { node, reason: exclusion.clone() });
            }
            VotingStatus::OnProbation(until, reason) => {
                let remaining = now.until(*until);
                self.events.emit(&Event::NodeOnProbation { node, remaining, reason: *reason });
            }
            VotingStatus::Unverified(Some(fault)) => {
                self.events
                    .emit(&Event::NodeWarning { node, warning: NodeWarning::MarkerFailed(fault.clone()) });
            }
            VotingStatus::Unverified(None) | VotingStatus::AwaitsAbsent(_) | VotingStatus::Voting => {}
        }
        self.is_status_dirty = true;
    }

    /// Records the seats of a roster, and reports those that have changed hands.
    pub(super) fn on_roster_changed(&mut self, view: &RosterView) {
        let epoch: Arc<str> = view.epoch.to_string().into();
        self.quorum.set(self.coordinator.current_quorum(), view.config.max_ttl());
        self.encoder.follow_config(view.config);
        let settings = ClusterSettings::from(view.config);
        if view.config != self.config {
            let other = ClusterSettings::from(self.config);
            let warning =
                format!("the lock cluster has {settings}, which count from now on, and not {other}");
            self.events.emit(&Event::Warning { warning: warning.into() });
            self.config = view.config;
        }
        for (index, (link, seat)) in self.links.iter_mut().zip(&view.seats).enumerate() {
            let changed_at = (seat.changed_millis > 0)
                .then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(seat.changed_millis));
            let is_vacant = seat.id.is_none();
            let (epoch, same_node_list) = (Arc::clone(&epoch), view.same_list);
            if view.changed.contains(NodeId(index as u8)) {
                let (node, epoch) = (Arc::clone(&link.status.address), Arc::clone(&epoch));
                self.events.emit(&Event::SeatChanged { node, epoch, is_vacant });
            }
            link.status.seat = Some(SeatStatus { epoch, is_vacant, changed_at, same_node_list, settings });
        }
        self.is_status_dirty = true;
    }

    /// Reports a jump or an excessive drift of the node's clock.
    pub(super) fn on_clock_anomaly(&mut self, node: NodeId, anomaly: ClockAnomaly) {
        let node = Arc::clone(&self.links[node.index()].status.address);
        self.events.emit(&match anomaly {
            ClockAnomaly::Jumped { by_micros } => Event::ClockJumped { node, by_micros },
            ClockAnomaly::DriftExceeded { drift_ppm } => Event::ClockDriftExceeded { node, drift_ppm },
        });
    }
}

/// Begins the reason when a connection is closed because the handshake is outdated.
const ROLE_CHANGED: &str = "its role or this client's login changed";
