//! The coordinator routes requests and replies between operations and nodes: the driver's pure half.
//!
//! It is *sans-IO* (<https://sans-io.readthedocs.io/>, as in quinn-proto): inputs are method calls, outputs
//! are [`Action`]s, and time is an argument. The driver does the input and output.

mod action;
mod advance;
mod implicit_votes;
mod membership;
mod operation;
mod queries;
mod requests;
mod tickets;
mod wait_queue;

pub use action::{Action, AttemptEvent, LeaseEvent, Limits, OperationEvent};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use implicit_votes::implicit_votes;
use operation::{AttemptEntry, Operation, OperationEntry};
pub use tickets::HandedOverLock;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use core::time::Duration;

use crate::attempt::Attempt;
use crate::fence::Fence;
use crate::lease::RenewalPolicy;
use crate::lease_params::LeaseParams;
use crate::membership::Membership;
use crate::pipeline::{ExpectedReply, LinkState, NodePipeline, shrink_if_empty};
use crate::quorum::{NodeId, Quorum};
use crate::request::{Key, LockSpec, OperationId, OwnerToken, RequestKind};
use crate::survey::Survey;
use crate::time::{BootTime, DualTimestamp};
use crate::vote::{ExclusionReason, ReplyFailure, Vote};

/// All running operations, and one [pipeline](NodePipeline) per node.
///
/// Inputs are commands, replies, link changes and the time. After each input, call [`poll`](Self::poll) until
/// it returns `None`. Then call [`on_wake`](Self::on_wake) at [`next_wake`](Self::next_wake).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    quorum: Quorum,
    limits: Limits,
    pipelines: Vec<NodePipeline>,
    /// Boxed, because the map has capacity for more entries than it holds.
    operations: BTreeMap<OperationId, Box<OperationEntry>>,
    /// The number of leases among the operations.
    lease_count: usize,
    alarms: BTreeSet<(BootTime, OperationId)>,
    actions: VecDeque<Action>,
    /// Decides which nodes may vote. `None` in plain mode, where every node always may.
    membership: Option<Box<Membership>>,
    /// The last fencing number of each key that was ahead of the client's clock.
    last_seen: BTreeMap<Key, u64>,
    /// How far the wall clock is ahead of the boot clock. When it steps forward, leases may end before their
    /// alarm.
    wall_clock_lead: Option<Duration>,
}

impl Coordinator {
    /// A coordinator in plain mode, for nodes that are not connected yet.
    #[must_use]
    pub fn new(quorum: Quorum, limits: Limits) -> Self {
        Self {
            quorum,
            limits,
            pipelines: vec![NodePipeline::new(); quorum.listed()],
            operations: BTreeMap::new(),
            lease_count: 0,
            alarms: BTreeSet::new(),
            actions: VecDeque::new(),
            membership: None,
            last_seen: BTreeMap::new(),
            wall_clock_lead: None,
        }
    }

    /// A coordinator in fenced mode: locks have fencing numbers, and nodes that may have lost data cast no
    /// vote.
    #[must_use]
    pub fn fenced(quorum: Quorum, limits: Limits, membership: Membership) -> Self {
        Self { membership: Some(Box::new(membership)), ..Self::new(quorum, limits) }
    }

    /// The next action for the driver, or `None`.
    pub fn poll(&mut self) -> Option<Action> {
        if self.actions.is_empty() {
            shrink_if_empty(&mut self.actions);
        }
        self.actions.pop_front()
    }

    /// Starts an attempt, or an adoption if the spec has a previous owner; `token` must be fresh. Emits `Won`
    /// or `Failed`.
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
            Fence::hint(now, last_seen, spec.numbers_above())
        });
        let quorum = self.current_quorum();
        let implicit_votes = implicit_votes(&self.pipelines, self.membership.as_deref(), self.limits);
        let (ttl, max_ttl) = (spec.params.ttl(), self.max_ttl());
        let is_too_long = || (ttl > max_ttl).then(|| Vote::Excluded(membership::ttl_too_long(ttl, max_ttl)));
        let vote = |node| implicit_votes.of(node, now).or_else(is_too_long);
        let attempt = Attempt::new(spec, token, fence, quorum, vote, now);
        self.start(id, Operation::Attempt(Box::new(AttemptEntry { attempt, policy })), now);
    }

    /// Cancels an attempt whose caller is gone, also if it has just won. Its later events have no listener.
    pub fn cancel(&mut self, id: OperationId, now: DualTimestamp) {
        match self.operations.get_mut(&id).map(|entry| &mut entry.operation) {
            Some(Operation::Attempt(attempt_entry)) => attempt_entry.attempt.cancel(),
            Some(Operation::Lease(lease)) => lease.release(now),
            Some(Operation::Survey(_) | Operation::SingleRequest(_)) | None => {}
        }
        self.advance(id, now);
    }

    /// Ends a held lock without a release and without an event: it is renewed no more, and its keys expire.
    pub fn abandon(&mut self, id: OperationId) {
        let operation = self.operations.get(&id).map(|entry| &entry.operation);
        if matches!(operation, Some(Operation::Lease(_))) {
            self.end(id);
        }
    }

    /// Extends a held lock to these parameters. Emits `Renewed`, `RenewalFailed` or `Lost`. Returns false,
    /// and emits nothing, if the lock is not held.
    pub fn extend(&mut self, id: OperationId, params: LeaseParams, now: DualTimestamp) -> bool {
        let max_ttl = self.max_ttl();
        let implicit_votes = implicit_votes(&self.pipelines, self.membership.as_deref(), self.limits);
        let lease = match self.operations.get_mut(&id).map(|entry| &mut entry.operation) {
            Some(Operation::Lease(lease)) if lease.is_held() => lease,
            _ => return false,
        };
        lease.extend(params.at_most(max_ttl), |node| implicit_votes.for_holders(node, now), now);
        self.advance(id, now);
        true
    }

    /// The holder saw its deadline pass. Emits `Lost`, once.
    pub fn expire(&mut self, id: OperationId, now: DualTimestamp) {
        if let Some(Operation::Lease(lease)) = self.operations.get_mut(&id).map(|entry| &mut entry.operation)
        {
            lease.expire();
            self.advance(id, now);
        }
    }

    /// Releases a held or lost lock. Emits `Released`. Returns false, and emits nothing, if there is no such
    /// lock.
    pub fn release(&mut self, id: OperationId, now: DualTimestamp) -> bool {
        let settle_by = now.plus(self.limits.reply_timeout);
        match self.operations.get_mut(&id).map(|entry| &mut entry.operation) {
            Some(Operation::Lease(lease)) => lease.release(settle_by),
            _ => return false,
        }
        self.advance(id, now);
        true
    }

    /// Sends one request about a key to every node. Emits `Surveyed`.
    pub fn survey(&mut self, id: OperationId, kind: RequestKind, key: Key, now: DualTimestamp) {
        let implicit_votes = implicit_votes(&self.pipelines, None, self.limits);
        let settle_by = now.plus(self.limits.reply_timeout);
        // A survey also inspects nodes that may not vote. `Forget` goes only to members of the lock cluster,
        // because it depends on the cluster's settings; probation does not matter.
        let membership = self.membership.as_ref().filter(|_| kind == RequestKind::Forget);
        let non_member = |node| {
            membership?.implicit_vote(node, now).filter(|vote| !matches!(vote, Vote::OnProbation { .. }))
        };
        let implicit_vote = |node| implicit_votes.of(node, now).or_else(|| non_member(node));
        let survey = Survey::new(kind, key, self.current_quorum(), implicit_vote, settle_by);
        self.start(id, Operation::Survey(survey), now);
    }

    /// The node is connected. Its pending releases are sent first.
    pub fn on_up(&mut self, node: NodeId, now: DualTimestamp) {
        self.pipelines[node.index()].link = LinkState::Up;
        self.send_pending_releases(node, now);
    }

    /// The node's connection was lost, or could not be made. No request is sent again: without a reply its
    /// vote is unknown, and a release stays pending.
    pub fn on_down(&mut self, node: NodeId, cause: Arc<str>, now: DualTimestamp) {
        self.disconnect(node, LinkState::Down(cause), now);
    }

    /// The node is excluded.
    pub fn on_excluded(&mut self, node: NodeId, exclusion: ExclusionReason, now: DualTimestamp) {
        self.disconnect(node, LinkState::Excluded(exclusion), now);
    }

    /// The kind of the request that the node's next reply belongs to; `None` if no request is in flight.
    #[must_use]
    pub fn next_reply_kind(&self, node: NodeId) -> Option<RequestKind> {
        self.pipelines[node.index()].in_flight.front().map(|in_flight| match in_flight.expected {
            ExpectedReply::Vote { kind, .. } => kind,
            ExpectedReply::Marker { .. } => RequestKind::ReadMarker,
            ExpectedReply::PendingRelease(_) => RequestKind::Release,
        })
    }

    /// The node's reply to its oldest request in flight. Returns that request's operation and kind.
    pub fn on_reply(
        &mut self,
        node: NodeId,
        vote: Vote,
        now: DualTimestamp,
    ) -> Option<(OperationId, RequestKind)> {
        let in_flight = &mut self.pipelines[node.index()].in_flight;
        let completed = in_flight.pop_front()?;
        shrink_if_empty(in_flight);
        match completed.expected {
            ExpectedReply::Vote { operation: id, kind, round } => {
                let vote = self.validate_vote(node, kind, vote, now);
                if vote != Vote::Unknown(ReplyFailure::NoScript)
                    || !self.retry_with_source(node, id, kind, round, now)
                {
                    self.deliver(id, node, kind, round, vote, now);
                }
                Some((id, kind))
            }
            ExpectedReply::Marker { .. } => {
                self.apply_marker_reading(node, Err(Vote::Unknown(ReplyFailure::UnexpectedReply)), now);
                None
            }
            ExpectedReply::PendingRelease(release) => {
                let id = release.operation;
                self.on_release_reply(node, release, vote, now);
                Some((id, RequestKind::Release))
            }
        }
    }

    /// Why the node is not connected; `None` if it is, or is excluded.
    #[must_use]
    pub fn cause_of_disconnection(&self, node: NodeId) -> Option<&Arc<str>> {
        match &self.pipelines[node.index()].link {
            LinkState::Down(cause) => Some(cause),
            LinkState::Up | LinkState::Excluded(_) => None,
        }
    }

    /// Handles everything that is due by now.
    pub fn on_wake(&mut self, now: DualTimestamp) {
        for node in self.quorum.all().iter() {
            let pipeline = &mut self.pipelines[node.index()];
            // The queue is nearly sorted by end. To search all of it at each wake-up would cost more than the
            // rest.
            while pipeline.queued_releases.front().is_some_and(|release| release.useful_until.has_passed(now))
            {
                pipeline.queued_releases.pop_front();
            }
            if pipeline.link == LinkState::Up && pipeline.has_not_replied_for(now, self.limits.redial_after) {
                self.actions.push_back(Action::Redial(node));
                self.on_down(node, "did not reply for too long".into(), now);
            } else if pipeline.retry_at.is_some_and(|retry| now.is_due(retry)) {
                self.send_pending_releases(node, now);
            }
        }
        self.apply_member_steps(now);
        if self.wall_clock_gained(now) {
            let ids: Vec<OperationId> = self.operations.keys().copied().collect();
            for id in ids {
                self.wake(id, now);
            }
        }
        while let Some((_, id)) = self.alarms.first().copied().filter(|(due, _)| due.has_passed(now)) {
            self.wake(id, now);
        }
    }

    /// When to call [`on_wake`](Self::on_wake), if ever.
    #[must_use]
    pub fn next_wake(&self) -> Option<BootTime> {
        let mut wake = self.alarms.first().map_or(BootTime::NEVER, |(due, _)| *due);
        for pipeline in self.pipelines.iter().filter(|pipeline| matches!(pipeline.link, LinkState::Up)) {
            if let Some(oldest) = pipeline.in_flight.front() {
                wake = wake.min(oldest.sent.boot().plus(self.limits.redial_after));
            }
            if let Some(retry) = pipeline.retry_at {
                wake = wake.min(retry.boot());
            }
        }
        if let Some(due) = self.membership.as_ref().and_then(|membership| membership.wake_at()) {
            wake = wake.min(due.boot());
        }
        (wake < BootTime::NEVER).then_some(wake)
    }

    fn start(&mut self, id: OperationId, operation: Operation, now: DualTimestamp) {
        self.operations.insert(id, Box::new(OperationEntry { operation, alarm: BootTime::NEVER }));
        self.advance(id, now);
    }

    fn wake(&mut self, id: OperationId, now: DualTimestamp) {
        let implicit_votes = implicit_votes(&self.pipelines, self.membership.as_deref(), self.limits);
        let Some(entry) = self.operations.get_mut(&id) else { return };
        let due = core::mem::replace(&mut entry.alarm, BootTime::NEVER);
        self.alarms.remove(&(due, id));
        match &mut entry.operation {
            Operation::Attempt(attempt_entry) => attempt_entry.attempt.on_wake(now),
            Operation::Lease(lease) => lease.on_wake(|node| implicit_votes.for_holders(node, now), now),
            Operation::Survey(survey) => survey.on_wake(now),
            Operation::SingleRequest(single) => single.on_wake(now),
        }
        self.advance(id, now);
    }

    fn deliver(
        &mut self,
        id: OperationId,
        node: NodeId,
        kind: RequestKind,
        round: u32,
        vote: Vote,
        now: DualTimestamp,
    ) {
        if self.deliver_vote(id, node, kind, round, vote, now) {
            self.advance(id, now);
        }
    }

    /// Delivers a vote to its operation, which must be advanced next. Returns false if the operation has
    /// ended, as often when the last nodes reply.
    fn deliver_vote(
        &mut self,
        id: OperationId,
        node: NodeId,
        kind: RequestKind,
        round: u32,
        vote: Vote,
        now: DualTimestamp,
    ) -> bool {
        let Some(entry) = self.operations.get_mut(&id) else { return false };
        match &mut entry.operation {
            Operation::Attempt(attempt_entry) => attempt_entry.attempt.on_reply(node, kind, vote, now),
            Operation::Lease(lease) => lease.on_reply(node, kind, round, vote, now),
            Operation::Survey(survey) => survey.on_reply(node, vote),
            Operation::SingleRequest(single) => single.on_reply(vote),
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

    /// Whether the wall clock has gained on the boot clock, at once or gradually, since leases were last
    /// checked.
    fn wall_clock_gained(&mut self, now: DualTimestamp) -> bool {
        let lead = Duration::from_nanos(now.wall_nanos().saturating_sub(now.boot_nanos()));
        let known = self.wall_clock_lead.map_or(lead, |known| known.min(lead));
        let has_gained = lead > known + MIN_WALL_CLOCK_GAIN;
        self.wall_clock_lead = Some(if has_gained { lead } else { known });
        has_gained
    }
}

const MIN_WALL_CLOCK_GAIN: Duration = Duration::from_millis(1);
