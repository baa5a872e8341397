//! How a client that reconfigures the lock cluster sees its progress, and when the next step may follow.
//!
//! It dials the nodes of both lists, and its own list is the one in force. Other clients only follow the settings of
//! the roster.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::Membership;
use super::eligibility::Eligibility;
use super::member::Member;
use crate::lease_params::Drift;
use crate::marker::LockClusterConfig;
use crate::quorum::{NodeId, NodeSet};
use crate::roster::proposer::Proposer;
use crate::roster::reconfiguration::{Reconfiguration, Wait};
use crate::roster::record::RecordWrite;
use crate::roster::server_view::{Permissions, ServerView};
use crate::roster::{ListHash, NodeList, Roster};
use crate::time::DualTimestamp;
use crate::vote::{ExclusionReason, Vote};

/// How far a reconfiguration is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReconfigurationState {
    /// The roster in force.
    pub roster: Arc<Roster>,
    /// The nodes of its list.
    pub nodes: NodeSet,
    /// Those that vote.
    pub voting: NodeSet,
    /// Those that do not reply, or have not learned the roster yet.
    pub unreached: NodeSet,
    /// The nodes that are to be added and cannot be now.
    pub unready: Vec<(NodeId, NewNodeProblem)>,
    /// What comes next.
    pub next: NextStep,
}

/// What comes next in a reconfiguration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NextStep {
    /// Nothing: the lock cluster is as it should be, and all members that reply vote.
    Done,
    /// A step is being agreed on or written.
    UnderWay,
    /// A step, once these members vote.
    AfterProbation(NodeSet),
    /// A step, at this time: by then the locks of the roster before have ended.
    AfterLocks(DualTimestamp),
    /// A step, once this new node replies and may vote.
    AfterNewNode(NodeId),
    /// A step, once more members vote: otherwise too few would be left after it.
    AfterMoreVotes,
    /// None: the list in force is none between the two lists.
    OtherList,
    /// None: the quorum is not one of this number of nodes.
    InvalidQuorum,
}

/// Why a node that is to be added gets no seat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NewNodeProblem {
    /// It does not reply.
    NotConnected,
    /// It is this node of the list in force, under another name.
    AlreadyMember(NodeId),
    /// It evicts keys, or holds another program's value, or belongs to another lock cluster.
    Excluded(ExclusionReason),
    /// It does not store its record; the vote says why.
    RejectsRecord(Vote),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reconfiguring {
    /// The list, the settings and the probation of the roster in force, and since when the client knows them.
    shape: Option<(Shape, DualTimestamp)>,
    drift: Drift,
    /// Whether nothing may be written.
    pub(super) is_dry_run: bool,
    /// What the last decision was based on.
    decided_with: (NodeSet, bool),
    /// When to decide again, because locks of earlier rosters have ended by then.
    decide_at: Option<DualTimestamp>,
    reported: Option<ReconfigurationState>,
    pub(super) to_report: Option<ReconfigurationState>,
}

type Shape = (ListHash, LockClusterConfig, Duration);

impl Reconfiguring {
    /// When locks of earlier rosters have ended, by the client's own clock. The founding roster has none before.
    fn settles_at(&self, roster: &Roster) -> Option<DualTimestamp> {
        let (_, since) = self.shape?;
        let wait = if roster.is_founding() { Duration::ZERO } else { roster.probation };
        Some(since.plus(self.drift.max_elapsed_on_node(wait)))
    }
}

impl Membership {
    /// The membership of a client that reconfigures the lock cluster, or in a dry run only tells what is to be
    /// done. Its list has all nodes, old and new.
    #[must_use]
    pub fn reconfiguring(
        config: LockClusterConfig,
        drift: Drift,
        all: NodeList,
        client: u64,
        (reconfiguration, is_dry_run): (Reconfiguration, bool),
    ) -> Self {
        let from = reconfiguration.first_list();
        let proposer = Proposer::new(client, from, config).with_reconfiguration(reconfiguration);
        let state = Reconfiguring {
            shape: None,
            drift,
            is_dry_run,
            decided_with: (NodeSet::EMPTY, false),
            decide_at: None,
            reported: None,
            to_report: None,
        };
        Self { proposer, reconfiguring: Some(state), ..Self::new(config, drift, all, client, false) }
    }

    /// What keeps this new node from a seat; `None` if it gets one.
    fn new_node_problem(&self, node: NodeId, roster: &Roster) -> Option<NewNodeProblem> {
        let member = &self.members[node.index()];
        let list = self.proposer.list();
        // A member under another name is down under its own, or one of the two is a duplicate.
        let seat = member.view.record.as_ref().filter(|it| it.is_member_of(roster)).map(|it| it.seat);
        let has_seat = |other: &NodeId| roster.seats[list.position(*other)].id == seat;
        if seat.is_some()
            && let Some(other) = list.nodes().iter().find(has_seat)
        {
            return Some(NewNodeProblem::AlreadyMember(other));
        }
        let (true, Some(reading)) = (member.is_up, &member.reading) else {
            return Some(NewNodeProblem::NotConnected);
        };
        let exclusion = if reading.evicts {
            Some(ExclusionReason::EvictionEnabled)
        } else if member.view.is_foreign(Some(roster), list.hash())
            || reading.marker.is_some() && member.parsed.marker.is_none()
        {
            match &member.eligibility {
                Eligibility::Excluded(exclusion) => Some(exclusion.clone()),
                _ => None,
            }
        } else {
            None
        };
        let rejection = || member.read_failure.clone().map(NewNodeProblem::RejectsRecord);
        exclusion.map(NewNodeProblem::Excluded).or_else(rejection)
    }

    /// The nodes that vote, and whether the next step may follow.
    pub(super) fn voting_and_settled(&self, now: DualTimestamp) -> (NodeSet, bool) {
        let Some((state, roster)) = self.reconfiguring.as_ref().zip(self.roster.as_ref()) else {
            return (NodeSet::EMPTY, false);
        };
        let (members, voting) = self.members_and_voting(roster, now);
        let is_over = state.settles_at(roster).is_some_and(|at| now.is_due(at));
        (voting, is_over && members.without(voting).is_empty())
    }

    fn members_and_voting(&self, roster: &Roster, now: DualTimestamp) -> (NodeSet, NodeSet) {
        let is_member = |node: &NodeId| {
            let view = &self.members[node.index()].view;
            view.is_up && view.record.as_ref().is_some_and(|it| it.is_member_of(roster))
        };
        let members: NodeSet = self.list.nodes().iter().filter(is_member).collect();
        // A member that takes part in the choice of the next roster counts, although it casts no vote now.
        let votes = |node: &NodeId| self.members[node.index()].has_passed_probation(now);
        (members, members.iter().filter(votes).collect())
    }

    /// Whether the passing of time, or the end of a probation, permits the next step.
    pub(super) fn step_became_due(&self, now: DualTimestamp) -> bool {
        let has_changed = |it: &Reconfiguring| {
            it.decide_at.is_some_and(|at| now.is_due(at)) || it.decided_with != self.voting_and_settled(now)
        };
        self.reconfiguring.as_ref().is_some_and(has_changed)
    }

    /// When the locks of earlier rosters have ended, if that is waited for.
    pub(super) fn step_at(&self) -> Option<DualTimestamp> {
        self.reconfiguring.as_ref()?.decide_at
    }

    /// Another list or other settings are in force from now on.
    pub(super) fn note_shape(&mut self, now: DualTimestamp) {
        let Some(state) = &mut self.reconfiguring else { return };
        let shape = self.roster.as_ref().map(|it| (it.list, it.config, it.probation));
        if shape != state.shape.map(|(shape, _)| shape) {
            state.shape = shape.map(|shape| (shape, now));
        }
    }

    /// Notes how far the reconfiguration is, after the decision on these writes.
    pub(super) fn note_progress(
        &mut self,
        views: &[ServerView],
        may: &Permissions,
        writes: &[Option<RecordWrite>],
        now: DualTimestamp,
    ) {
        let Some(state) = &mut self.reconfiguring else { return };
        // Otherwise the client would wake for it forever.
        state.decide_at = None;
        state.decided_with = (may.voting, may.is_settled);
        let Some((state, roster)) = self.reconfiguring.as_ref().zip(self.roster.clone()) else { return };
        let (members, voting) = self.members_and_voting(&roster, now);
        let on_probation = members.without(voting);
        let waits_for = self.proposer.waits_for(views, may);
        let settles_at = state.settles_at(&roster).filter(|at| !now.is_due(*at));
        // A new node that rejects its record gets it again and again.
        let is_under_way = |(write, member): (&Option<RecordWrite>, &Member)| {
            let draws_again =
                matches!(write, Some(RecordWrite::DrawSeat(_))) && member.read_failure.is_some();
            write.is_some() && !draws_again
        };
        let list = self.proposer.list();
        let problem = |node: NodeId| Some((node, self.new_node_problem(node, &roster)?));
        let unready = self.proposer.to_add().iter().filter_map(problem).collect();
        let unreached = list.nodes().without(members);
        let next = match waits_for {
            Some(Wait::OtherList) => NextStep::OtherList,
            Some(Wait::InvalidQuorum) => NextStep::InvalidQuorum,
            _ if writes.iter().zip(&self.members).any(is_under_way) => NextStep::UnderWay,
            Some(Wait::NewNode(node)) => NextStep::AfterNewNode(node),
            _ if !on_probation.is_empty() => NextStep::AfterProbation(on_probation),
            Some(Wait::Done) => NextStep::Done,
            Some(Wait::TooFewVoters) => NextStep::AfterMoreVotes,
            None => settles_at.map_or(NextStep::UnderWay, NextStep::AfterLocks),
        };
        let nodes = self.proposer.list().nodes();
        let progress = ReconfigurationState { roster, nodes, voting, unreached, unready, next };
        if let Some(state) = &mut self.reconfiguring {
            state.decide_at = settles_at;
            if state.reported.as_ref() != Some(&progress) {
                state.reported = Some(progress.clone());
                state.to_report = Some(progress);
            }
        }
    }
}
