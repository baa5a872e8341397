//! The board's way to the membership: what nodes remember, what their clocks show, and what their votes are worth.

use std::sync::Arc;
use std::time::Duration;

use super::{Action, Coordinator, Operation, OperationEntry, OperationEvent, OperationId};
use crate::clock_monitor::ClockAnomaly;
use crate::marker::{ClusterId, MarkerReading};
use crate::membership::{ExpectedMarker, MarkerWrite, MemberStep, VotingStatus};
use crate::mutant::{Mutant, enabled};
use crate::pipeline::{ExpectedReply, InFlight, LinkState};
use crate::quorum::{NodeId, Quorum};
use crate::request::RequestKind;
use crate::time::DualTimestamp;
use crate::vote::{ReplyFailure, Vote};

impl Coordinator {
    /// A node that was just reached tells what it remembers; it was asked then. To be called before
    /// [`on_up`](Self::on_up); of no effect in plain mode.
    pub fn on_handshake(
        &mut self,
        node: NodeId,
        reading: MarkerReading,
        asked: DualTimestamp,
        now: DualTimestamp,
    ) {
        if let Some(members) = &mut self.membership {
            members.on_first_node_time(node, asked, reading.micros, now);
            members.on_up(node, reading, now);
            self.apply_member_steps(now);
        }
    }

    /// The node's answer to `ReadMarker`: what it remembers, or why it does not tell.
    pub fn on_marker_reading(
        &mut self,
        node: NodeId,
        reading: Result<MarkerReading, Vote>,
        now: DualTimestamp,
    ) {
        let Some(awaiting) = self.pipelines[node.index()].in_flight.pop_front() else { return };
        match (awaiting.expected, reading) {
            (ExpectedReply::Marker { write, as_text: false }, Err(Vote::Unknown(ReplyFailure::NoScript))) => {
                self.read_marker(node, write, true, now);
            }
            (ExpectedReply::Marker { .. }, reading) => self.apply_marker_reading(node, reading, now),
            // Not what it should be an answer to: nobody can tell any more which answer is whose.
            (ExpectedReply::Vote { .. } | ExpectedReply::PendingRelease(_), _) => {
                self.actions.push_back(Action::Redial(node));
                self.disconnect(node, LinkState::Down(Arc::from("answers out of order")), now);
            }
        }
    }

    /// The node's clock, as the answer that is due next told it. To be called before that answer is handed in.
    pub fn on_node_time(&mut self, node: NodeId, micros: u64, now: DualTimestamp) {
        let Some(sent) = self.pipelines[node.index()].in_flight.front().map(|awaiting| awaiting.sent) else {
            return;
        };
        let members = self.membership.as_mut();
        let Some(anomaly) = members.and_then(|members| members.on_node_time(node, sent, micros, now)) else {
            return;
        };
        self.actions.push_back(Action::ClockAnomaly(node, anomaly));
        let worth = self.membership.as_ref().and_then(|members| members.implicit_vote(node, now));
        if let (ClockAnomaly::Jumped { .. }, Some(worth)) = (anomaly, worth) {
            let machines: Vec<OperationId> = self.operations.keys().copied().collect();
            for id in machines {
                match self.operations.get_mut(&id).map(|entry| &mut entry.operation) {
                    Some(Operation::Attempt(bid)) => bid.attempt.revoke_votes_of(node, worth.clone(), now),
                    Some(Operation::Lease(lease)) => lease.revoke_votes_of(node, worth.clone()),
                    Some(Operation::Survey(_)) | None => continue,
                }
                self.advance(id, now);
            }
        }
        self.apply_member_steps(now);
    }

    /// What the node is expected to remember, for its scripts to compare; `None` while it may not vote, or in plain
    /// mode.
    #[must_use]
    pub fn expected_marker(&self, node: NodeId) -> Option<&ExpectedMarker> {
        self.membership.as_ref()?.expected_marker(node)
    }

    /// Makes the nodes a new cluster that votes at once; without force only if all are blank. Tells `InitResult`.
    pub fn initialize(&mut self, id: OperationId, cluster: ClusterId, is_forced: bool, now: DualTimestamp) {
        if let Some(members) = &mut self.membership {
            members.initialize(id, cluster, is_forced);
            self.apply_member_steps(now);
        }
    }

    pub(super) fn apply_marker_reading(
        &mut self,
        node: NodeId,
        reading: Result<MarkerReading, Vote>,
        now: DualTimestamp,
    ) {
        if let Some(members) = &mut self.membership {
            members.on_marker_reading(node, reading, now);
            self.apply_member_steps(now);
        }
    }

    pub(super) fn apply_member_steps(&mut self, now: DualTimestamp) {
        while let Some(step) = self.membership.as_mut().and_then(|members| members.poll(now)) {
            match step {
                MemberStep::ReadMarker(node, write) => self.read_marker(node, write, false, now),
                MemberStep::OpenToHolders(node) => self.renew_leases_missing_on(node, Duration::ZERO, now),
                MemberStep::StatusChanged(node, voting_status) => {
                    let is_voting = voting_status == VotingStatus::Voting;
                    self.actions.push_back(Action::VotingStatus(node, voting_status));
                    if is_voting {
                        self.renew_leases_missing_on(node, PAUSE_AFTER_RECONNECT, now);
                    }
                }
                MemberStep::InitDone(id, declared) => {
                    self.actions.push_back(Action::Event(id, OperationEvent::Initialized(declared)));
                }
            }
        }
    }

    /// The node votes again, for holders at least. Locks that do not stand there are renewed soon: at the next renewal
    /// rivals may have been there first. After a `pause`, for a node that comes and goes is not to burden the others.
    fn renew_leases_missing_on(&mut self, node: NodeId, pause: Duration, now: DualTimestamp) {
        if self.lease_count == 0 {
            return;
        }
        let is_away = |entry: &OperationEntry| matches!(&entry.operation, Operation::Lease(lease) if lease.unconfirmed(node));
        let away: Vec<OperationId> =
            self.operations.iter().filter(|(_, entry)| is_away(entry)).map(|(id, _)| *id).collect();
        for (place, id) in away.into_iter().enumerate() {
            if let Some(Operation::Lease(lease)) =
                self.operations.get_mut(&id).map(|entry| &mut entry.operation)
            {
                lease.renew_by(now.boot().plus(pause + BETWEEN_LEASES.saturating_mul(place as u32)));
                self.advance(id, now);
            }
        }
    }

    /// What a vote is worth, coming from this node now. A grant of a node that is in doubt is none, and may yet have
    /// been done.
    pub(super) fn validate_vote(
        &mut self,
        node: NodeId,
        phase: RequestKind,
        vote: Vote,
        now: DualTimestamp,
    ) -> Vote {
        let Some(members) = &mut self.membership else { return vote };
        match vote {
            Vote::Unknown(ReplyFailure::MarkerMismatch) => members.on_marker_mismatch(node, now),
            Vote::OnProbation { remaining, .. } => members.on_probation(node, remaining, now),
            Vote::Granted | Vote::Fenced(_) | Vote::FencedOut { .. } if is_fenced_script(phase) => {
                let absence = match phase {
                    RequestKind::Renew | RequestKind::Reacquire => {
                        members.implicit_vote_for_holders(node, now)
                    }
                    _ => members.implicit_vote(node, now),
                };
                return match absence {
                    None => vote,
                    Some(doubtful @ Vote::OnProbation { .. }) => doubtful,
                    Some(undecided @ Vote::Unknown(ReplyFailure::Unverified)) => undecided,
                    // Whatever keeps it from voting was learnt while this grant was on its way.
                    Some(_) => Vote::Unknown(ReplyFailure::MarkerMismatch),
                };
            }
            _ => return vote,
        }
        self.apply_member_steps(now);
        vote
    }

    /// Always the one that was agreed on, but for a known mistake.
    pub(super) fn current_quorum(&self) -> Quorum {
        if enabled(Mutant::QuorumOfConnected) {
            return self.quorum.of_connected(
                self.pipelines.iter().filter(|pipeline| pipeline.link == LinkState::Up).count(),
            );
        }
        self.quorum
    }

    fn read_marker(&mut self, node: NodeId, write: Option<MarkerWrite>, as_text: bool, now: DualTimestamp) {
        let pending = ExpectedReply::Marker { write: write.clone(), as_text };
        self.pipelines[node.index()].in_flight.push_back(InFlight { sent: now, expected: pending });
        self.actions.push_back(Action::ReadMarker { node, write, as_text });
    }
}

/// How long a connection that comes back is to stay before leases are renewed for its sake.
const PAUSE_AFTER_RECONNECT: Duration = Duration::from_secs(1);
/// Thousands of leases that come to a node at once come one after the other, and not past when they are renewed anyway.
const BETWEEN_LEASES: Duration = Duration::from_micros(100);

const fn is_fenced_script(phase: RequestKind) -> bool {
    matches!(
        phase,
        RequestKind::Acquire | RequestKind::RaiseFence | RequestKind::Renew | RequestKind::Reacquire
    )
}
