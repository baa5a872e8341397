//! One acquire round over all nodes, with its undo.

mod failure_reason;
mod step;

pub use step::{AttemptFailure, AttemptStep, FailureReason};

use std::cmp::Ordering;

use crate::fence::Fence;
use crate::mutant::{Mutant, enabled};
use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::request::{LockSpec, OwnerToken, RequestKind};
use crate::round::Round;
use crate::time::DualTimestamp;
use crate::vote::{ReplyFailure, Vote};

/// One try to take a lock.
///
/// It is born with its first questions to send. It settles as soon as q grants are in, or q is out of reach, or its
/// patience is over. Fenced, the grants bring numbers, of which the largest is ours once q nodes have it as their fence:
/// at once if their clocks agree, else after a second round. When it fails, is too late or is abandoned, it asks for the
/// undo: a release on every node that did not plainly refuse.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    spec: LockSpec,
    token: OwnerToken,
    start: DualTimestamp,
    deadline: DualTimestamp,
    settle_by: DualTimestamp,
    round: Round,
    state: State,
    to_acquire: NodeSet,
    to_release: NodeSet,
    to_query_ttl: NodeSet,
    /// Refusing nodes that have not yet said how long the holder's key lives.
    querying_ttl: NodeSet,
    /// What goes along with our questions; nothing in plain mode.
    fence: Option<Fence>,
    /// Our number, once q grants are in.
    fencing_number: Option<u64>,
    /// The nodes that have our number as their fence.
    at_our_number: NodeSet,
    to_raise: NodeSet,
    /// Nodes that granted, and did not say since that the key is gone.
    granted_at_least_once: NodeSet,
    rounds: u8,
    /// Whether its patience was over before it was decided.
    timed_out: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Voting,
    /// q grants are in; q nodes must have our number as their fence.
    RaisingFence,
    /// Won or lost, not yet told.
    Decided(Option<FailureReason>),
    /// Lost and undone; some refusing nodes are being asked for how long.
    QueryingTtl(FailureReason),
    Done,
}

impl Attempt {
    /// A new attempt; `token` must be fresh, and `now` read before anything is sent. It is fenced if it comes with a
    /// fence. `absent_vote` gives the vote of a node that is known not to answer. Poll it next.
    #[must_use]
    pub fn new(
        spec: LockSpec,
        token: OwnerToken,
        fence: Option<Fence>,
        quorum: Quorum,
        absent_vote: impl Fn(NodeId) -> Option<Vote>,
        now: DualTimestamp,
    ) -> Self {
        let round = Round::new(quorum, absent_vote);
        let mut attempt = Self {
            token,
            start: now,
            deadline: spec.params.deadline(now),
            settle_by: now.plus(spec.params.attempt_timeout()),
            to_acquire: round.requested(),
            to_release: NodeSet::EMPTY,
            to_query_ttl: NodeSet::EMPTY,
            querying_ttl: NodeSet::EMPTY,
            fence,
            fencing_number: None,
            at_our_number: NodeSet::EMPTY,
            to_raise: NodeSet::EMPTY,
            granted_at_least_once: NodeSet::EMPTY,
            rounds: 1,
            timed_out: false,
            state: State::Voting,
            spec,
            round,
        };
        if attempt.round.is_out_of_reach() {
            // Nothing sent, nothing to undo.
            attempt.to_acquire = NodeSet::EMPTY;
            attempt.state = State::Decided(Some(
                attempt.with_retry_after(attempt.failure_reason(attempt.round.failed_count())),
            ));
        }
        attempt
    }

    /// The next step to take, until there is none; then see [`wake_at`](Self::wake_at).
    pub fn poll(&mut self) -> Option<AttemptStep> {
        if !self.to_acquire.is_empty() {
            return Some(AttemptStep::Request(RequestKind::Acquire, std::mem::take(&mut self.to_acquire)));
        }
        if !self.to_raise.is_empty() {
            return Some(AttemptStep::Request(RequestKind::RaiseFence, std::mem::take(&mut self.to_raise)));
        }
        if !self.to_release.is_empty() {
            return Some(AttemptStep::Request(RequestKind::Release, std::mem::take(&mut self.to_release)));
        }
        if !self.to_query_ttl.is_empty() {
            return Some(AttemptStep::Request(RequestKind::QueryTtl, std::mem::take(&mut self.to_query_ttl)));
        }
        if let State::Decided(verdict) = self.state {
            self.state = State::Done;
            return Some(match verdict {
                None => AttemptStep::Won,
                Some(reason) => {
                    AttemptStep::Failed(AttemptFailure { reason, votes: self.round.report(self.timed_out) })
                }
            });
        }
        None
    }

    /// A node's answer to `Acquire`, `RaiseFence` or `QueryTtl`. Poll next.
    pub fn on_reply(&mut self, node: NodeId, kind: RequestKind, vote: Vote, now: DualTimestamp) {
        match (kind, self.state) {
            (RequestKind::Acquire, State::Voting | State::RaisingFence) if !self.round.has_voted(node) => {
                self.on_acquire_reply(node, vote, now);
            }
            (RequestKind::RaiseFence, State::RaisingFence) => self.on_raise_fence_reply(node, vote, now),
            (RequestKind::QueryTtl, State::QueryingTtl(reason)) => {
                self.querying_ttl.remove(node);
                self.round.add_remaining(node, vote);
                if self.querying_ttl.is_empty() {
                    self.state = State::Decided(Some(self.with_retry_after(reason)));
                }
            }
            _ => {}
        }
    }

    /// The time asked for has come. Poll next.
    pub fn on_wake(&mut self, now: DualTimestamp) {
        if !now.is_due(self.settle_by) {
            return;
        }
        if matches!(self.state, State::Voting | State::RaisingFence) {
            self.timed_out = true;
            self.fail(self.failure_reason(self.round.failed_count() + self.round.pending_count()));
        }
        if let State::QueryingTtl(reason) = self.state {
            // The patience is over: the refusal is told as it is, without for how long.
            self.to_query_ttl = NodeSet::EMPTY;
            self.state = State::Decided(Some(self.with_retry_after(reason)));
        }
    }

    /// The caller walked away: undo, tell nobody. Poll next.
    pub fn cancel(&mut self) {
        match self.state {
            State::Voting | State::RaisingFence | State::Decided(None) => {
                self.to_release = self.possibly_applied();
            }
            State::Decided(Some(_)) | State::QueryingTtl(_) | State::Done => {}
        }
        self.to_release = self.to_release.without(std::mem::take(&mut self.to_acquire));
        self.to_raise = NodeSet::EMPTY;
        self.to_query_ttl = NodeSet::EMPTY;
        self.state = State::Done;
    }

    /// The node's clock jumped: what it granted may run out before its time, and is worth this. Poll next.
    pub fn revoke_votes_of(&mut self, node: NodeId, worth: Vote, now: DualTimestamp) {
        if self.is_open() && self.round.granted().contains(node) {
            self.round.replace_grant(node, worth);
            self.at_our_number.remove(node);
            self.settle(now);
        }
    }

    /// When to call [`on_wake`](Self::on_wake), if ever.
    #[must_use]
    pub fn wake_at(&self) -> Option<DualTimestamp> {
        match self.state {
            State::Voting | State::RaisingFence | State::QueryingTtl(_) => Some(self.settle_by),
            State::Decided(_) | State::Done => None,
        }
    }

    /// Whether it has said all it has to say.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done && self.to_release.is_empty()
    }

    /// What was claimed.
    #[must_use]
    pub const fn spec(&self) -> &LockSpec {
        &self.spec
    }

    /// In whose name.
    #[must_use]
    pub const fn token(&self) -> OwnerToken {
        self.token
    }

    /// When it began: its lease's time runs from here.
    #[must_use]
    pub const fn start(&self) -> DualTimestamp {
        self.start
    }

    /// The votes so far.
    #[must_use]
    pub const fn round(&self) -> &Round {
        &self.round
    }

    /// What goes along with a question of this kind.
    #[must_use]
    pub fn fence(&self, kind: RequestKind) -> Option<Fence> {
        match kind {
            RequestKind::Acquire => self.fence,
            RequestKind::RaiseFence => self.fencing_number.map(Fence::Number),
            _ => None,
        }
    }

    /// Our number, once it is won.
    #[must_use]
    pub const fn fencing_number(&self) -> Option<u64> {
        self.fencing_number
    }

    /// The nodes that have our number as their fence.
    #[cfg(test)]
    #[must_use]
    pub const fn at_our_number(&self) -> NodeSet {
        self.at_our_number
    }

    /// How many rounds it took so far: one, or two if the nodes' numbers differed.
    #[must_use]
    pub const fn rounds(&self) -> u8 {
        self.rounds
    }

    /// Whether its questions still matter.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Voting | State::RaisingFence)
    }

    /// Nodes where a key of ours may stand, as far as the answers tell.
    #[must_use]
    pub fn possibly_applied(&self) -> NodeSet {
        self.round.possibly_applied().or(self.granted_at_least_once)
    }

    fn on_acquire_reply(&mut self, node: NodeId, vote: Vote, now: DualTimestamp) {
        let vote = match (vote, self.fence) {
            (Vote::Fenced(_), None) | (Vote::Granted, Some(_)) => {
                Vote::Unknown(ReplyFailure::UnexpectedReply)
            }
            (vote, _) => vote,
        };
        if vote.is_grant() {
            self.granted_at_least_once.insert(node);
        }
        self.round.record(node, vote);
        if self.state == State::RaisingFence {
            self.compare_fence(node);
        } else if self.round.is_won() {
            if self.fence.is_none() {
                return self.win(now);
            }
            self.fencing_number = self.round.votes().filter_map(Vote::number).max();
            self.state = State::RaisingFence;
            for node in self.round.granted().iter() {
                self.compare_fence(node);
            }
            if !self.quorum_has_number() {
                self.rounds = 2;
            }
        }
        self.settle(now);
    }

    fn on_raise_fence_reply(&mut self, node: NodeId, vote: Vote, now: DualTimestamp) {
        match vote {
            Vote::Granted => self.at_our_number.insert(node),
            Vote::HeldByOther { .. } | Vote::NotHeld => self.granted_at_least_once.remove(node),
            _ => {}
        }
        if vote != Vote::Granted {
            self.round.replace_grant(node, vote);
        }
        self.settle(now);
    }

    /// Whether this node's number is ours, or can be made so.
    fn compare_fence(&mut self, node: NodeId) {
        let (Some(theirs), Some(ours)) = (self.round.vote(node).number(), self.fencing_number) else {
            return;
        };
        match theirs.cmp(&ours) {
            Ordering::Equal => self.at_our_number.insert(node),
            Ordering::Less => self.to_raise.insert(node),
            // A straggler's. It keeps our key, but it cannot speak for our number.
            Ordering::Greater => self.round.replace_grant(node, Vote::FencedOut { fence: theirs }),
        }
    }

    fn settle(&mut self, now: DualTimestamp) {
        if self.state == State::RaisingFence && self.quorum_has_number() {
            self.win(now);
        } else if self.round.is_out_of_reach() {
            // Who has not answered yet may well be there.
            self.fail(self.failure_reason(self.round.failed_count()));
        }
    }

    fn quorum_has_number(&self) -> bool {
        self.round.quorum().is_met(self.at_our_number.len()) || enabled(Mutant::NoSecondRound)
    }

    fn win(&mut self, now: DualTimestamp) {
        if enabled(Mutant::ValidityFromReply) {
            self.start = now;
            self.deadline = self.spec.params.deadline(now);
        }
        // "The lock is considered to be acquired" only if time is left. A grant that cannot be used is a failure
        // like any other.
        if now.is_past(self.deadline) {
            self.fail(FailureReason::TooLate);
        } else {
            self.state = State::Decided(None);
        }
    }

    /// "If the client failed to acquire the lock for some reason [...] it will try to unlock all the instances."
    fn fail(&mut self, reason: FailureReason) {
        self.to_raise = NodeSet::EMPTY;
        self.to_release = self.possibly_applied();
        // A fenced refusal has told for how long.
        let must_ask = self.spec.want_holder_ttl && self.fence.is_none();
        self.to_query_ttl = if must_ask { self.round.held_by_others() } else { NodeSet::EMPTY };
        self.querying_ttl = self.to_query_ttl;
        self.state = if self.querying_ttl.is_empty() {
            State::Decided(Some(self.with_retry_after(reason)))
        } else {
            State::QueryingTtl(reason)
        };
    }
}
