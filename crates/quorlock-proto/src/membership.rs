//! Membership: decides by their records which nodes may vote.
//!
//! A node votes when it is a member of the roster that the client follows, was not restarted since, and its
//! probation has passed. If the client itself saw the seat change hands, the max ttl must also pass on the
//! client's clock. The [`Proposer`] decides what to write, and [`MarkerWrite`] how.

mod absences;
mod ballots;
mod eligibility;
mod init;
mod marker_write;
mod member;
mod parsed_reading;
mod probation;
mod reconfiguring;
mod settings;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

pub use eligibility::ExpectedMarker;
pub use init::{InitMode, InitResult};
pub use marker_write::{MarkerWrite, NodeWrite};
pub use member::VotingStatus;
pub use reconfiguring::{NewNodeProblem, NextStep, ReconfigurationState};

use crate::clock_monitor::{ClockAnomaly, ClockMonitor};
use crate::lease_params::Drift;
use crate::marker::{LockClusterConfig, MarkerReading};
use crate::quorum::NodeId;
use crate::request::OperationId;
use crate::roster::proposer::Proposer;
use crate::roster::{NodeList, Roster, RosterView};
use crate::time::DualTimestamp;
use crate::vote::{ProbationReason, ReplyFailure, Vote};
use ballots::{Begin, split_mix, up_to};
use eligibility::{Eligibility, eligibility_of};
use init::PendingInit;
use member::Member;
use probation::ProbationState;
use reconfiguring::Reconfiguring;

/// The records and the voting status of all nodes, as one client knows them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    config: LockClusterConfig,
    drift: Drift,
    list: NodeList,
    /// Whether nodes that are all blank become a lock cluster without `init`. Apart from that, every client
    /// writes the record of a node that may have lost data, also a read-only client: its probation must start
    /// soon.
    auto_init: bool,
    members: Vec<Member>,
    proposer: Proposer,
    /// The roster that the client follows.
    roster: Option<Arc<Roster>>,
    /// The change of the roster, if it is not reported yet.
    change: Option<RosterView>,
    begin: Begin,
    lost_ballots: u32,
    /// Names this client in ballots and seeds its random numbers.
    client: u64,
    draws: u64,
    /// When the nodes without a seat get one without those that do not reply, if they wait for nothing else.
    absence_ends_at: Option<DualTimestamp>,
    /// Whether unreachable nodes count as absent at once.
    skips_absence: bool,
    pending_init: Option<PendingInit>,
    reconfiguring: Option<Reconfiguring>,
    init_result: Option<(OperationId, InitResult)>,
}

/// What the coordinator does next for the membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MemberStep {
    /// Read the node's marker, after a write if there is one.
    ReadMarker(NodeId, Option<NodeWrite>),
    /// The client follows another roster: no vote under the earlier one counts any more.
    RosterChanged(RosterView),
    /// The node's probation has ended for holders: leases may set their keys there again. It does not vote
    /// for contenders yet.
    OpenToHolders(NodeId),
    /// The node's voting status changed.
    StatusChanged(NodeId, VotingStatus),
    /// Another server has the node's seat: the address must be resolved again.
    Redial(NodeId),
    /// A reconfiguration has gone on, or waits for something else.
    Reconfiguring(ReconfigurationState),
    /// An `init` has ended.
    InitDone(OperationId, InitResult),
}

impl Membership {
    /// A membership with these settings, of nodes whose markers were not read yet. With `auto_init`, nodes
    /// that are all blank become a lock cluster, after a probation. `client` is a random number.
    #[must_use]
    pub fn new(
        config: LockClusterConfig,
        drift: Drift,
        list: NodeList,
        client: u64,
        auto_init: bool,
    ) -> Self {
        Self {
            config,
            drift,
            auto_init,
            members: vec![Member::default(); list.nodes().len()],
            proposer: Proposer::new(client, list.clone(), config),
            list,
            roster: None,
            change: None,
            begin: Begin::NotNeeded,
            lost_ballots: 0,
            client,
            draws: 0,
            absence_ends_at: None,
            skips_absence: false,
            pending_init: None,
            reconfiguring: None,
            init_result: None,
        }
    }

    /// The next step, or `None`.
    pub fn poll(&mut self, now: DualTimestamp) -> Option<MemberStep> {
        if self.is_evaluation_due(now) {
            self.evaluate(now);
        }
        if let Some(change) = self.change.take() {
            return Some(MemberStep::RosterChanged(change));
        }
        for node in self.list.nodes().iter() {
            let member = &mut self.members[node.index()];
            if member.needs_read(now) {
                return Some(MemberStep::ReadMarker(node, member.begin_read(now)));
            }
            if member.probation_ended_for_holders(now) {
                return Some(MemberStep::OpenToHolders(node));
            }
            let absence_ends_at = self.absence_ends_at.filter(|end| !now.is_due(*end));
            if let Some(voting_status) = member.take_status_change(absence_ends_at, now) {
                return Some(MemberStep::StatusChanged(node, voting_status));
            }
            // Behind its status, which says why.
            if member.take_redial() {
                return Some(MemberStep::Redial(node));
            }
        }
        if let Some(progress) = self.reconfiguring.as_mut().and_then(|it| it.to_report.take()) {
            return Some(MemberStep::Reconfiguring(progress));
        }
        // Last, so that the caller of `init` sees the new voting status of all nodes.
        self.init_result.take().map(|(id, result)| MemberStep::InitDone(id, result))
    }

    /// When to [`poll`](Self::poll) again, if ever.
    #[must_use]
    pub fn wake_at(&self) -> Option<DualTimestamp> {
        let begin = if let Begin::At(at) = self.begin { Some(at) } else { None };
        let step = self.step_at();
        let report = self.members.iter().filter_map(|it| it.report_absence_at(self.is_any_up()));
        self.members
            .iter()
            .filter_map(Member::wake_at)
            .chain(begin)
            .chain(step)
            .chain(report)
            .reduce(DualTimestamp::earlier)
    }

    /// The node is connected; `reading` is from the handshake. Poll next.
    pub fn on_up(&mut self, node: NodeId, reading: MarkerReading, now: DualTimestamp) {
        if !self.is_any_up() {
            self.members.iter_mut().for_each(|member| member.begin_absence(now));
        }
        self.members[node.index()].connect();
        self.on_marker_reading(node, Ok(reading), now);
    }

    /// The node is disconnected. Its last reading is kept. Poll next.
    pub fn on_down(&mut self, node: NodeId, now: DualTimestamp) {
        self.members[node.index()].disconnect(now);
        self.end_init_if_unreachable();
    }

    /// The node's marker reading, or the vote of a node that sent none. Poll next.
    pub fn on_marker_reading(
        &mut self,
        node: NodeId,
        reading: Result<MarkerReading, Vote>,
        now: DualTimestamp,
    ) {
        let pause = self.max_ttl() / READS_PER_TTL;
        let is_read = reading.is_ok();
        let pause = if is_read { pause } else { pause.min(READ_RETRY) };
        let failure = reading.as_ref().err().cloned();
        self.members[node.index()].record_reading(reading, now, now.plus(pause), self.config);
        if is_read {
            // A failed reading changes nothing. Otherwise a node that rejects a write would get it again at
            // once, forever.
            self.evaluate(now);
        }
        self.on_init_reply(node, failure);
        self.begin_init();
    }

    /// The node's voting script found another marker than expected. Poll next.
    pub fn on_marker_mismatch(&mut self, node: NodeId, now: DualTimestamp) {
        self.members[node.index()].require_read(now);
    }

    /// A vote shows that the node is on probation for longer than expected. Poll next.
    pub fn on_probation(&mut self, node: NodeId, remaining: Duration, now: DualTimestamp) {
        let probation = self.probation();
        let member = &mut self.members[node.index()];
        if remaining > probation {
            // No probation is longer. The node's clock was set back behind its marker; the next reading fixes
            // this.
            member.require_read(now);
        } else {
            member.start_probation(now.plus(remaining), ProbationReason::PossibleDataLoss, probation);
        }
    }

    /// The node's time in the reply to a request that was sent at `sent`. Poll next.
    pub fn on_node_time(
        &mut self,
        node: NodeId,
        sent: DualTimestamp,
        node_micros: u64,
        now: DualTimestamp,
    ) -> Option<ClockAnomaly> {
        let span = self.probation();
        let member = &mut self.members[node.index()];
        let anomaly = member.clock.record(sent, now, node_micros, self.drift, span)?;
        if matches!(anomaly, ClockAnomaly::Jumped { .. }) {
            member.start_probation(now.plus(span), ProbationReason::ClockJump, span);
        }
        Some(anomaly)
    }

    /// Records the first reading of a node's clock, with which the next reply is compared.
    pub fn on_first_node_time(
        &mut self,
        node: NodeId,
        sent: DualTimestamp,
        node_micros: u64,
        now: DualTimestamp,
    ) {
        let (drift, span) = (self.drift, self.probation());
        let clock = &mut self.members[node.index()].clock;
        if *clock == ClockMonitor::default() {
            // A single reading shows no anomaly.
            let _ = clock.record(sent, now, node_micros, drift, span);
        }
    }

    /// The vote of a node that may not vote for contenders, so that no request is sent to it.
    #[must_use]
    pub fn implicit_vote(&self, node: NodeId, now: DualTimestamp) -> Option<Vote> {
        self.implicit_vote_until(node, now, |probation| probation.votes_from)
    }

    /// The vote of a node that may not vote for holders, so that no request of a holder is sent to it.
    #[must_use]
    pub fn implicit_vote_for_holders(&self, node: NodeId, now: DualTimestamp) -> Option<Vote> {
        self.implicit_vote_until(node, now, |probation| probation.opens_to_holders_at)
    }

    fn implicit_vote_until(
        &self,
        node: NodeId,
        now: DualTimestamp,
        until: fn(&ProbationState) -> DualTimestamp,
    ) -> Option<Vote> {
        let member = &self.members[node.index()];
        match &member.eligibility {
            Eligibility::Member(_) => match &member.probation {
                Some(it) if !now.is_due(until(it)) => {
                    Some(Vote::OnProbation { remaining: until(it).since(now), reason: it.reason })
                }
                _ => None,
            },
            Eligibility::Unverified | Eligibility::NotAMember(_) if member.read_failure.is_some() => {
                member.read_failure.clone()
            }
            Eligibility::Unverified => Some(Vote::Unknown(ReplyFailure::Unverified)),
            Eligibility::NotAMember(Some(ReplyFailure::Unverified)) => {
                let at_most = |end: DualTimestamp| ReplyFailure::AwaitsAbsent { at_most: end.since(now) };
                let end = self.absence_ends_at.filter(|end| !now.is_due(*end));
                Some(Vote::Unknown(end.map_or(ReplyFailure::Unverified, at_most)))
            }
            Eligibility::NotAMember(reason) => {
                Some(Vote::Unknown(reason.clone().unwrap_or(ReplyFailure::MarkerMismatch)))
            }
            Eligibility::Excluded(exclusion) => Some(Vote::Excluded(exclusion.clone())),
        }
    }

    /// Whether the node votes, by its last reported status.
    #[must_use]
    pub fn is_voting(&self, node: NodeId) -> bool {
        self.members[node.index()].is_voting()
    }

    /// The marker that the node's scripts must compare; `None` while it may not vote.
    #[must_use]
    pub fn expected_marker(&self, node: NodeId) -> Option<&ExpectedMarker> {
        match &self.members[node.index()].eligibility {
            Eligibility::Member(expected_marker) => Some(expected_marker),
            Eligibility::Unverified | Eligibility::NotAMember(_) | Eligibility::Excluded(_) => None,
        }
    }

    fn is_any_up(&self) -> bool {
        self.members.iter().any(|member| member.is_up)
    }

    /// Whether the passing of time alone permits something.
    fn is_evaluation_due(&mut self, now: DualTimestamp) -> bool {
        let is_any_up = self.is_any_up();
        let mut is_due = self.step_became_due(now);
        for member in &mut self.members {
            is_due |= member.absence_became_reportable(is_any_up, now);
        }
        if let Begin::At(at) = self.begin
            && now.is_due(at)
        {
            self.begin = Begin::Now;
            is_due = true;
        }
        is_due
    }

    /// Decides again what to write, and which nodes may vote.
    fn evaluate(&mut self, now: DualTimestamp) {
        let roster = self.roster.as_ref();
        self.members.iter_mut().for_each(|member| member.forget_lost_seat(roster));
        let views: Vec<_> = self.members.iter().map(|member| member.view.clone()).collect();
        let may = self.permissions(now);
        let (mut writes, outcome) = self.proposer.writes(&views, &may);
        let is_dry_run = self.reconfiguring.as_ref().is_some_and(|it| it.is_dry_run);
        if is_dry_run {
            writes.fill(None);
        }
        self.schedule_ballot(outcome, may.random, now);
        self.absence_ends_at = self
            .proposer
            .waits_for_absence(&views, &self.as_founders(may))
            .then(|| now.plus(self.absence_left() + self.max_ttl() / READS_PER_TTL));
        let roster = self.proposer.current(&views).cloned();
        if roster != self.roster {
            let all = self.list.nodes();
            let view = |it: &Arc<Roster>| RosterView::new(it, self.roster.as_deref(), &self.list, all);
            self.change = roster.as_ref().map(view);
            self.roster = roster;
            self.note_shape(now);
        }
        let all_read = self.members.iter().all(|member| member.reading.is_some());
        let may_found = self.auto_init || self.pending_init.is_some();
        let list = self.proposer.list().hash();
        for (index, write) in writes.iter().enumerate() {
            let node = NodeId(index as u8);
            let current = self.roster.as_deref();
            let eligibility = eligibility_of(
                &self.members,
                node,
                current,
                (self.list.hash(), list),
                all_read && !may_found,
            );
            let (max_ttl, probation) = (self.max_ttl(), self.probation());
            if self.is_init_pending() {
                // Its own writes are next.
            } else if let Some(write) = write {
                self.members[index].request_record_write(write, max_ttl, now);
            } else if !is_dry_run && self.roster.as_ref().map_or(may_found, |it| it.list == list) {
                self.report_absences(node);
            }
            self.members[index].set_eligibility(eligibility, probation, now);
            self.members[index]
                .read_if_sealed(now.plus(SEALED_READ_PAUSE + up_to(SEALED_READ_PAUSE, may.random)));
        }
        self.note_progress(&views, &may, &writes, now);
    }
}

/// How many times a marker is read in one max ttl, because a server can change without a new connection.
const READS_PER_TTL: u32 = 4;
/// When to read again after a failed reading or write.
const READ_RETRY: Duration = Duration::from_secs(1);
/// When to read a member again that takes part in the choice of the next roster. Another client finishes that within
/// a few round trips.
const SEALED_READ_PAUSE: Duration = Duration::from_millis(20);
