//! Which order goes to which machine, which question to which node, and when to look again: the driver's pure half.

mod action;
mod advance;
mod members;
mod operation;
mod queries;
mod requests;
mod wait_queue;

pub use action::{Action, Limits, OperationEvent};
use operation::{AttemptEntry, Operation, OperationEntry};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::attempt::Attempt;
use crate::fence::Fence;
use crate::lease::RenewalPolicy;
use crate::lease_params::LeaseParams;
use crate::membership::Membership;
use crate::pipeline::{ExpectedReply, LinkState, NodePipeline, shrink_if_empty};
use crate::quorum::{NodeId, Quorum};
use crate::request::{Key, LockSpec, OwnerToken, RequestKind};
use crate::survey::Survey;
use crate::time::{BootTime, DualTimestamp};
use crate::vote::{ExclusionReason, ReplyFailure, Vote};

/// The name of a machine on the board; the caller picks it, and never twice.
pub type OperationId = u64;

/// Every running machine, and one ordered queue per node.
///
/// Inputs are orders, answers, links that come and go, and the time. After each, [`poll`](Self::poll) until there
/// is nothing more to do, then call [`on_wake`](Self::on_wake) at [`next_wake`](Self::next_wake).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    quorum: Quorum,
    limits: Limits,
    pipelines: Vec<NodePipeline>,
    /// Boxed: the map keeps room for more than it has.
    operations: BTreeMap<OperationId, Box<OperationEntry>>,
    /// How many of them are leases.
    lease_count: usize,
    alarms: BTreeSet<(BootTime, OperationId)>,
    actions: VecDeque<Action>,
    /// Which nodes may vote; in plain mode all of them, always.
    membership: Option<Box<Membership>>,
    /// Numbers ahead of our clock that were seen last, key by key.
    last_seen: BTreeMap<Key, u64>,
    /// How far the wall clock is ahead of the boot clock; a step forward may end leases before their alarm.
    wall_clock_lead: Option<u64>,
}

impl Coordinator {
    /// A board for nodes that are not connected yet.
    #[must_use]
    pub fn new(quorum: Quorum, limits: Limits) -> Self {
        Self {
            quorum,
            limits,
            pipelines: vec![NodePipeline::new(); quorum.nodes()],
            operations: BTreeMap::new(),
            lease_count: 0,
            alarms: BTreeSet::new(),
            actions: VecDeque::new(),
            membership: None,
            last_seen: BTreeMap::new(),
            wall_clock_lead: None,
        }
    }

    /// The same board, fenced: with fencing numbers, and no vote of a node that may have forgotten.
    #[must_use]
    pub fn fenced(quorum: Quorum, limits: Limits, members: Membership) -> Self {
        Self { membership: Some(Box::new(members)), ..Self::new(quorum, limits) }
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self) -> Option<Action> {
        if self.actions.is_empty() {
            shrink_if_empty(&mut self.actions);
        }
        self.actions.pop_front()
    }

    /// Begins an attempt; `token` must be fresh. Tells `Won` or `Refused`.
    pub fn acquire(
        &mut self,
        id: OperationId,
        spec: LockSpec,
        policy: RenewalPolicy,
        token: OwnerToken,
        now: DualTimestamp,
    ) {
        let fence = self.membership.is_some().then(|| {
            let last_seen = self.last_seen.get(&spec.key).copied().unwrap_or(0);
            Fence::hint(now, last_seen, spec.min_fencing_number)
        });
        let quorum = self.current_quorum();
        let voters = voters(&self.pipelines, self.membership.as_deref(), self.limits);
        let attempt = Attempt::new(spec, token, fence, quorum, |node| voters.implicit_vote(node, now), now);
        self.start(id, Operation::Attempt(Box::new(AttemptEntry { attempt, policy })), now);
    }

    /// The caller of an attempt walked away, perhaps just as it won: undo it. Nobody listens to what it still tells.
    pub fn cancel(&mut self, id: OperationId, now: DualTimestamp) {
        match self.operations.get_mut(&id).map(|entry| &mut entry.operation) {
            Some(Operation::Attempt(bid)) => bid.attempt.abandon(),
            Some(Operation::Lease(lease)) => lease.release(now),
            Some(Operation::Survey(_)) | None => {}
        }
        self.advance(id, now);
    }

    /// Asks for these terms for a held lock. Tells `Renewed`, `NoQuorum` or `Lost`. False, and nothing told, if
    /// it is not held.
    pub fn extend(&mut self, id: OperationId, params: LeaseParams, now: DualTimestamp) -> bool {
        let voters = voters(&self.pipelines, self.membership.as_deref(), self.limits);
        let lease = match self.operations.get_mut(&id).map(|entry| &mut entry.operation) {
            Some(Operation::Lease(lease)) if lease.is_held() => lease,
            _ => return false,
        };
        lease.extend(params, |node| voters.implicit_vote_for_holders(node, now), now);
        self.advance(id, now);
        true
    }

    /// The holder saw its deadline pass. Tells `Lost` unless that was told before.
    pub fn expire(&mut self, id: OperationId, now: DualTimestamp) {
        if let Some(Operation::Lease(lease)) = self.operations.get_mut(&id).map(|entry| &mut entry.operation)
        {
            lease.expire();
            self.advance(id, now);
        }
    }

    /// Gives up a held or lost lock. Tells `Released`. False, and nothing told, if there is none.
    pub fn release(&mut self, id: OperationId, now: DualTimestamp) -> bool {
        let settle_by = now.plus(self.limits.reply_timeout);
        match self.operations.get_mut(&id).map(|entry| &mut entry.operation) {
            Some(Operation::Lease(lease)) => lease.release(settle_by),
            _ => return false,
        }
        self.advance(id, now);
        true
    }

    /// Asks every node about a key. Tells `SurveyResult`.
    pub fn survey(&mut self, id: OperationId, phase: RequestKind, key: Key, now: DualTimestamp) {
        let voters = voters(&self.pipelines, None, self.limits);
        let settle_by = now.plus(self.limits.reply_timeout);
        // Who may not vote may still be looked at. But only a member of the lock cluster forgets on its terms, also on
        // probation.
        let params = self.membership.as_ref().filter(|_| phase == RequestKind::Forget);
        let stranger =
            |node| params?.implicit_vote(node, now).filter(|vote| !matches!(vote, Vote::OnProbation { .. }));
        let absence = |node| voters.implicit_vote(node, now).or_else(|| stranger(node));
        let survey = Survey::new(phase, key, self.quorum, absence, settle_by);
        self.start(id, Operation::Survey(Box::new(survey)), now);
    }

    /// The node is connected. What is owed to it goes out first.
    pub fn on_up(&mut self, node: NodeId, now: DualTimestamp) {
        self.pipelines[node.index()].link = LinkState::Up;
        self.send_pending_releases(node, now);
    }

    /// The node's connection is gone, or could not be made. Nothing is sent twice: questions without an answer are
    /// unknown, undos without one are owed.
    pub fn on_down(&mut self, node: NodeId, why: Arc<str>, now: DualTimestamp) {
        self.disconnect(node, LinkState::Down(why), now);
    }

    /// The node may not serve us.
    pub fn on_excluded(&mut self, node: NodeId, exclusion: ExclusionReason, now: DualTimestamp) {
        self.disconnect(node, LinkState::Excluded(exclusion), now);
    }

    /// What the node's next answer will be an answer to; `None` if it owes none.
    #[must_use]
    pub fn next_reply_kind(&self, node: NodeId) -> Option<RequestKind> {
        self.pipelines[node.index()].in_flight.front().map(|awaiting| match awaiting.expected {
            ExpectedReply::Vote { kind: phase, .. } => phase,
            ExpectedReply::Marker { .. } => RequestKind::ReadMarker,
            ExpectedReply::PendingRelease(_) => RequestKind::Release,
        })
    }

    /// The node's answer to the oldest question it has not answered. Gives back what was asked, by whom.
    pub fn on_reply(
        &mut self,
        node: NodeId,
        vote: Vote,
        now: DualTimestamp,
    ) -> Option<(OperationId, RequestKind)> {
        let awaiting = &mut self.pipelines[node.index()].in_flight;
        let answered = awaiting.pop_front()?;
        shrink_if_empty(awaiting);
        match answered.expected {
            ExpectedReply::Vote { operation: of, kind: phase, round } => {
                let vote = self.validate_vote(node, phase, vote, now);
                if vote != Vote::Unknown(ReplyFailure::NoScript)
                    || !self.retry_with_source(node, of, phase, round, now)
                {
                    self.deliver(of, node, phase, round, vote, now);
                }
                Some((of, phase))
            }
            ExpectedReply::Marker { .. } => {
                self.apply_marker_reading(node, Err(Vote::Unknown(ReplyFailure::UnexpectedReply)), now);
                None
            }
            ExpectedReply::PendingRelease(release) => {
                let of = release.operation;
                self.on_release_reply(node, release, vote, now);
                Some((of, RequestKind::Release))
            }
        }
    }

    /// The time asked for may have come.
    pub fn on_wake(&mut self, now: DualTimestamp) {
        for node in self.quorum.all().iter() {
            let pipeline = &mut self.pipelines[node.index()];
            // Nearly in the order they end. To look through all at every turn would cost more than the turn.
            while pipeline.queued_releases.front().is_some_and(|release| release.useful_until.is_due(now)) {
                pipeline.queued_releases.pop_front();
            }
            if pipeline.link == LinkState::Up && pipeline.has_not_replied_for(now, self.limits.redial_after) {
                self.actions.push_back(Action::Redial(node));
                self.on_down(node, "did not answer for too long".into(), now);
            } else if pipeline.retry_at.is_some_and(|retry| now.is_due(retry)) {
                self.send_pending_releases(node, now);
            }
        }
        self.apply_member_steps(now);
        if self.wall_clock_gained(now) {
            let leases: Vec<OperationId> = self.operations.keys().copied().collect();
            for id in leases {
                self.wake(id, now);
            }
        }
        while let Some((_, id)) = self.alarms.first().copied().filter(|(due, _)| due.is_due(now)) {
            self.wake(id, now);
        }
    }

    /// When to call [`on_wake`](Self::on_wake), if ever, by the boot clock.
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        let mut wake = self.alarms.first().map_or(u64::MAX, |(due, _)| due.nanos());
        let redial_after = self.limits.redial_after.as_nanos() as u64;
        for pipeline in self.pipelines.iter().filter(|pipeline| matches!(pipeline.link, LinkState::Up)) {
            if let Some(oldest) = pipeline.in_flight.front() {
                wake = wake.min(oldest.sent.boot_nanos().saturating_add(redial_after));
            }
            if let Some(retry) = pipeline.retry_at {
                wake = wake.min(retry.boot_nanos());
            }
        }
        if let Some(reading) = self.membership.as_ref().and_then(|members| members.wake_at()) {
            wake = wake.min(reading.boot_nanos());
        }
        (wake < u64::MAX).then_some(wake)
    }

    fn start(&mut self, id: OperationId, machine: Operation, now: DualTimestamp) {
        self.operations.insert(id, Box::new(OperationEntry { operation: machine, alarm: BootTime::NEVER }));
        self.advance(id, now);
    }

    fn wake(&mut self, id: OperationId, now: DualTimestamp) {
        let voters = voters(&self.pipelines, self.membership.as_deref(), self.limits);
        let Some(entry) = self.operations.get_mut(&id) else { return };
        let due = std::mem::replace(&mut entry.alarm, BootTime::NEVER);
        self.alarms.remove(&(due, id));
        match &mut entry.operation {
            Operation::Attempt(bid) => bid.attempt.on_wake(now),
            Operation::Lease(lease) => lease.on_wake(|node| voters.implicit_vote_for_holders(node, now), now),
            Operation::Survey(survey) => survey.on_wake(now),
        }
        self.advance(id, now);
    }

    fn deliver(
        &mut self,
        id: OperationId,
        node: NodeId,
        phase: RequestKind,
        round: u32,
        vote: Vote,
        now: DualTimestamp,
    ) {
        if self.deliver_vote(id, node, phase, round, vote, now) {
            self.advance(id, now);
        }
    }

    /// Hands a vote to its machine, which is to be advanced next. False if it has ended, as it often has when the last
    /// nodes answer.
    fn deliver_vote(
        &mut self,
        id: OperationId,
        node: NodeId,
        phase: RequestKind,
        round: u32,
        vote: Vote,
        now: DualTimestamp,
    ) -> bool {
        let Some(entry) = self.operations.get_mut(&id) else { return false };
        match &mut entry.operation {
            Operation::Attempt(bid) => bid.attempt.on_reply(node, phase, vote, now),
            Operation::Lease(lease) => lease.on_reply(node, phase, round, vote, now),
            Operation::Survey(survey) => survey.on_reply(node, vote),
        }
        true
    }

    fn end(&mut self, id: OperationId) {
        let Some(entry) = self.operations.remove(&id) else { return };
        if entry.alarm != BootTime::NEVER {
            self.alarms.remove(&(entry.alarm, id));
        }
        self.lease_count -= usize::from(matches!(entry.operation, Operation::Lease(_)));
    }

    /// Whether the wall clock has gained on the boot clock since leases were last looked at for it: at once, or bit by
    /// bit.
    fn wall_clock_gained(&mut self, now: DualTimestamp) -> bool {
        let lead = now.wall_nanos().saturating_sub(now.boot_nanos());
        let known = self.wall_clock_lead.map_or(lead, |known| known.min(lead));
        let has_gained = lead > known.saturating_add(WALL_GAIN_NANOS);
        self.wall_clock_lead = Some(if has_gained { lead } else { known });
        has_gained
    }
}

/// Who can be asked, and who need not be.
struct Voters<'a> {
    pipelines: &'a [NodePipeline],
    members: Option<&'a Membership>,
    reply_timeout: Duration,
}

impl Voters<'_> {
    fn implicit_vote(&self, node: NodeId, now: DualTimestamp) -> Option<Vote> {
        let absence = self.pipelines[node.index()].implicit_vote(now, self.reply_timeout);
        absence.or_else(|| self.members.and_then(|members| members.implicit_vote(node, now)))
    }

    fn implicit_vote_for_holders(&self, node: NodeId, now: DualTimestamp) -> Option<Vote> {
        let absence = self.pipelines[node.index()].implicit_vote(now, self.reply_timeout);
        absence.or_else(|| self.members.and_then(|members| members.implicit_vote_for_holders(node, now)))
    }
}

/// Takes the parts, so that a machine can be changed meanwhile.
fn voters<'a>(pipelines: &'a [NodePipeline], members: Option<&'a Membership>, limits: Limits) -> Voters<'a> {
    Voters { pipelines, members, reply_timeout: limits.reply_timeout }
}

const WALL_GAIN_NANOS: u64 = 1_000_000;
