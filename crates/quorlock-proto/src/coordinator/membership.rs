//! How the coordinator follows the membership: markers, node clocks, and which votes count.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Action, Coordinator, Operation, OperationEntry, OperationEvent, implicit_votes};
use crate::clock_monitor::ClockAnomaly;
use crate::marker::{ClusterId, MarkerReading};
use crate::membership::{ExpectedMarker, InitMode, MemberStep, NodeWrite, VotingStatus};
use crate::mutant::{Mutant, enabled};
use crate::pipeline::{ExpectedReply, InFlight, LinkState};
use crate::quorum::{NodeId, Quorum};
use crate::request::{OperationId, RequestKind};
use crate::span::Span;
use crate::time::DualTimestamp;
use crate::vote::{ExclusionReason, ReplyFailure, Vote};

impl Coordinator {
    /// Takes the marker reading of a handshake whose request was sent at `sent`. Call it before
    /// [`on_up`](Self::on_up). It does nothing in plain mode.
    pub fn on_handshake(
        &mut self,
        node: NodeId,
        reading: MarkerReading,
        sent: DualTimestamp,
        now: DualTimestamp,
    ) {
        if let Some(membership) = &mut self.membership {
            membership.on_first_node_time(node, sent, reading.micros, now);
            membership.on_up(node, reading, now);
            self.apply_member_steps(now);
        }
    }

    /// The node's reply to `ReadMarker`: its marker reading, or the vote of a node that sent none.
    pub fn on_marker_reading(
        &mut self,
        node: NodeId,
        reading: Result<MarkerReading, Vote>,
        now: DualTimestamp,
    ) {
        let Some(in_flight) = self.pipelines[node.index()].in_flight.pop_front() else { return };
        match (in_flight.expected, reading) {
            (ExpectedReply::Marker { write, as_text: false }, Err(Vote::Unknown(ReplyFailure::NoScript))) => {
                self.read_marker(node, write, true, now);
            }
            (ExpectedReply::Marker { .. }, reading) => self.apply_marker_reading(node, reading, now),
            // Replies are out of order: no later reply can be matched to its request.
            (ExpectedReply::Vote { .. } | ExpectedReply::PendingRelease(_), _) => {
                self.actions.push_back(Action::Redial(node));
                self.disconnect(node, LinkState::Down(Arc::from("replies out of order")), now);
            }
        }
    }

    /// The node's time in its next reply. Call it before the method that takes that reply.
    pub fn on_node_time(&mut self, node: NodeId, micros: u64, now: DualTimestamp) {
        let Some(sent) = self.pipelines[node.index()].in_flight.front().map(|in_flight| in_flight.sent)
        else {
            return;
        };
        let membership = self.membership.as_mut();
        let Some(anomaly) =
            membership.and_then(|membership| membership.on_node_time(node, sent, micros, now))
        else {
            return;
        };
        self.actions.push_back(Action::ClockAnomaly(node, anomaly));
        let vote = self.membership.as_ref().and_then(|membership| membership.implicit_vote(node, now));
        if let (ClockAnomaly::Jumped { .. }, Some(vote)) = (anomaly, vote) {
            let ids: Vec<OperationId> = self.operations.keys().copied().collect();
            for id in ids {
                match self.operations.get_mut(&id).map(|entry| &mut entry.operation) {
                    Some(Operation::Attempt(attempt_entry)) => {
                        attempt_entry.attempt.revoke_votes_of(node, vote.clone(), now);
                    }
                    Some(Operation::Lease(lease)) => lease.revoke_votes_of(node, vote.clone()),
                    Some(Operation::Survey(_) | Operation::SingleRequest(_)) | None => continue,
                }
                self.advance(id, now);
            }
        }
        self.apply_member_steps(now);
    }

    /// The marker that the node's scripts must compare; `None` while it may not vote, and in plain mode.
    #[must_use]
    pub fn expected_marker(&self, node: NodeId) -> Option<&ExpectedMarker> {
        self.membership.as_ref()?.expected_marker(node)
    }

    /// By when the seat of a node that does not reply becomes vacant, if that is known.
    #[must_use]
    pub fn seat_vacated_by(&self, node: NodeId) -> Option<DualTimestamp> {
        self.membership.as_ref()?.seat_vacated_by(node)
    }

    /// Makes the nodes a new lock cluster. Emits `Initialized`.
    pub fn initialize(&mut self, id: OperationId, cluster: ClusterId, mode: InitMode, now: DualTimestamp) {
        if let Some(membership) = &mut self.membership {
            membership.initialize(id, cluster, mode, now);
            self.apply_member_steps(now);
        }
    }

    pub(super) fn apply_marker_reading(
        &mut self,
        node: NodeId,
        reading: Result<MarkerReading, Vote>,
        now: DualTimestamp,
    ) {
        if let Some(membership) = &mut self.membership {
            membership.on_marker_reading(node, reading, now);
            self.apply_member_steps(now);
        }
    }

    pub(super) fn apply_member_steps(&mut self, now: DualTimestamp) {
        while let Some(step) = self.membership.as_mut().and_then(|membership| membership.poll(now)) {
            match step {
                MemberStep::ReadMarker(node, write) => self.read_marker(node, write, false, now),
                MemberStep::RosterChanged(view) => {
                    self.actions.push_back(Action::RosterChanged(view));
                    self.void_rounds(now);
                }
                MemberStep::Redial(node) => {
                    self.actions.push_back(Action::Redial(node));
                    self.disconnect(node, LinkState::Down(Arc::from("another server has its seat")), now);
                }
                MemberStep::OpenToHolders(node) => self.renew_leases_missing_on(node, Duration::ZERO, now),
                MemberStep::StatusChanged(node, voting_status) => {
                    let is_voting = voting_status == VotingStatus::Voting;
                    self.actions.push_back(Action::VotingStatus(node, voting_status));
                    if is_voting {
                        self.renew_leases_missing_on(node, RENEWAL_PAUSE_AFTER_RECONNECT, now);
                    }
                }
                MemberStep::Reconfiguring(progress) => {
                    self.actions.push_back(Action::Reconfiguring(progress));
                }
                MemberStep::InitDone(id, result) => {
                    self.actions.push_back(Action::Event(id, OperationEvent::Initialized(result)));
                }
            }
        }
    }

    /// Another roster is in force. All votes of a round must be cast under one, so those that were counted
    /// under the earlier one are void: attempts fail and are made again, renewals ask again.
    fn void_rounds(&mut self, now: DualTimestamp) {
        if enabled(Mutant::RoundOfTwoRosters) {
            return;
        }
        let ids: Vec<OperationId> = self.operations.keys().copied().collect();
        let settings = (self.current_quorum(), self.max_ttl());
        for id in ids {
            let implicit_votes = implicit_votes(&self.pipelines, self.membership.as_deref(), self.limits);
            match self.operations.get_mut(&id).map(|entry| &mut entry.operation) {
                Some(Operation::Attempt(attempt_entry)) => {
                    for node in self.quorum.all().iter() {
                        let changed = Vote::Unknown(ReplyFailure::MarkerMismatch);
                        attempt_entry.attempt.revoke_votes_of(node, changed, now);
                    }
                }
                Some(Operation::Lease(lease)) => {
                    lease.follow_roster(settings, |node| implicit_votes.for_holders(node, now), now);
                }
                Some(Operation::Survey(_) | Operation::SingleRequest(_)) | None => continue,
            }
            self.advance(id, now);
        }
    }

    /// Schedules early renewals of the leases whose keys are missing on a node that votes again, at least for
    /// holders. Until their next regular renewal contenders could take these keys. The `pause` keeps a node
    /// that reconnects often from loading the others.
    fn renew_leases_missing_on(&mut self, node: NodeId, pause: Duration, now: DualTimestamp) {
        if self.lease_count == 0 {
            return;
        }
        let is_missing = |entry: &OperationEntry| matches!(&entry.operation, Operation::Lease(lease) if lease.is_unconfirmed_on(node));
        let missing: Vec<OperationId> =
            self.operations.iter().filter(|(_, entry)| is_missing(entry)).map(|(id, _)| *id).collect();
        for (index, id) in missing.into_iter().enumerate() {
            if let Some(Operation::Lease(lease)) =
                self.operations.get_mut(&id).map(|entry| &mut entry.operation)
            {
                lease.renew_by(now.boot().plus(pause + LEASE_RENEWAL_SPACING.saturating_mul(index as u32)));
                self.advance(id, now);
            }
        }
    }

    /// The vote that counts for a node's reply. A grant by a node that may not vote now does not count, but
    /// may have been applied.
    pub(super) fn validate_vote(
        &mut self,
        node: NodeId,
        kind: RequestKind,
        vote: Vote,
        now: DualTimestamp,
    ) -> Vote {
        let Some(membership) = &mut self.membership else { return vote };
        match vote {
            Vote::Unknown(ReplyFailure::MarkerMismatch) => membership.on_marker_mismatch(node, now),
            Vote::OnProbation { remaining, .. } => membership.on_probation(node, remaining, now),
            Vote::Granted | Vote::Fenced(_) | Vote::FencedOut { .. } if is_fenced_script(kind) => {
                let implicit_vote = match kind {
                    RequestKind::Renew | RequestKind::Reacquire => {
                        membership.implicit_vote_for_holders(node, now)
                    }
                    _ => membership.implicit_vote(node, now),
                };
                return match implicit_vote {
                    None => vote,
                    Some(on_probation @ Vote::OnProbation { .. }) => on_probation,
                    Some(
                        unverified @ Vote::Unknown(
                            ReplyFailure::Unverified | ReplyFailure::AwaitsAbsent { .. },
                        ),
                    ) => unverified,
                    // The node lost its vote while this grant was in flight.
                    Some(_) => Vote::Unknown(ReplyFailure::MarkerMismatch),
                };
            }
            _ => return vote,
        }
        self.apply_member_steps(now);
        vote
    }

    /// The quorum of the lock cluster. (One mutant changes it.)
    #[must_use]
    pub fn current_quorum(&self) -> Quorum {
        if enabled(Mutant::QuorumOfConnected) {
            return self.quorum.majority_of_connected(
                self.pipelines.iter().filter(|pipeline| pipeline.link == LinkState::Up).count(),
            );
        }
        self.membership.as_ref().map_or(self.quorum, |membership| membership.quorum())
    }

    /// The longest ttl of the lock cluster's locks.
    #[must_use]
    pub fn max_ttl(&self) -> Duration {
        self.membership.as_ref().map_or(Duration::MAX, |membership| membership.max_ttl())
    }

    fn read_marker(&mut self, node: NodeId, write: Option<NodeWrite>, as_text: bool, now: DualTimestamp) {
        let pending = ExpectedReply::Marker { write: write.clone(), as_text };
        self.pipelines[node.index()].in_flight.push_back(InFlight { sent: now, expected: pending });
        self.actions.push_back(Action::ReadMarker { node, write, as_text });
    }
}

pub(super) fn ttl_too_long(ttl: Duration, max_ttl: Duration) -> ExclusionReason {
    let (ttl, max_ttl) = (Span(ttl), Span(max_ttl));
    let message = format!("a ttl of {ttl} is longer than the lock cluster's max ttl of {max_ttl}");
    ExclusionReason::Unsupported(message.into())
}

/// How long a new connection must last before leases are renewed because of it.
const RENEWAL_PAUSE_AFTER_RECONNECT: Duration = Duration::from_secs(1);
/// The time between two early renewals, so that thousands of leases do not load a node at once. No lease is
/// renewed later than at its regular time.
const LEASE_RENEWAL_SPACING: Duration = Duration::from_micros(100);

const fn is_fenced_script(kind: RequestKind) -> bool {
    matches!(
        kind,
        RequestKind::Acquire
            | RequestKind::Adopt
            | RequestKind::RaiseFence
            | RequestKind::Renew
            | RequestKind::Reacquire
    )
}
