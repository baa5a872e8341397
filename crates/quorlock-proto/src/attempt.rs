//! An attempt: one acquire round over all nodes, with the release that compensates for its failure.
//!
//! This is the acquisition of
//! [Redlock](https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).

mod failure_reason;
mod step;

pub use step::{AttemptFailure, AttemptStep, FailureReason};

use core::cmp::Ordering;

use crate::fence::Fence;
use crate::mutant::{Mutant, enabled};
use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::request::{LockSpec, OwnerToken, RequestKind};
use crate::round::Round;
use crate::time::DualTimestamp;
use crate::vote::{ReplyFailure, Vote};

/// One attempt to acquire a lock.
///
/// It is decided when q nodes granted, when q is out of reach, or at the attempt timeout. In fenced mode each
/// grant brings a fencing number. The lock's number is the largest of them; it counts once q nodes have it as
/// their fence. If the grants differ, `RaiseFence` requests bring q nodes to it. That is the second,
/// write-back phase of ABD registers (Attiya, Bar-Noy, Dolev 1995).
///
/// An attempt that fails, is too late or is cancelled sends a release to each node that may have its key.
///
/// An adoption is the same, except that its first request takes each key from the
/// [previous owner](crate::request::PreviousOwner).
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
    /// Nodes with another holder that have not yet reported the ttl of its key.
    querying_ttl: NodeSet,
    /// Sent with the acquire requests; `None` in plain mode.
    fence: Option<Fence>,
    /// The lock's fencing number, once q grants are in.
    fencing_number: Option<u64>,
    /// The nodes that have the lock's number as their fence.
    at_fencing_number: NodeSet,
    to_raise_fence: NodeSet,
    /// Nodes that granted and have not since reported that the key is gone.
    granted_at_least_once: NodeSet,
    rounds: u8,
    /// Whether the attempt timeout passed before the attempt was decided.
    timed_out: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Voting,
    /// q grants are in; q nodes must have the lock's number as their fence.
    RaisingFence,
    /// Won (`None`) or failed; the step is not polled yet.
    Decided(Option<FailureReason>),
    /// Failed, releases sent; some nodes with another holder have not yet reported the ttl.
    QueryingTtl(FailureReason),
    Done,
}

impl Attempt {
    /// A new attempt, fenced if `fence` is given. `token` must be fresh, and `now` read before anything is
    /// sent. `absent_vote` returns the vote of a node that gets no request. Poll next.
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
            at_fencing_number: NodeSet::EMPTY,
            to_raise_fence: NodeSet::EMPTY,
            granted_at_least_once: NodeSet::EMPTY,
            rounds: 1,
            timed_out: false,
            state: State::Voting,
            spec,
            round,
        };
        if attempt.round.is_out_of_reach() {
            // Nothing was sent, so there is nothing to release.
            attempt.to_acquire = NodeSet::EMPTY;
            attempt.state = State::Decided(Some(
                attempt.with_retry_after(attempt.failure_reason(attempt.round.failed_count())),
            ));
        }
        attempt
    }

    /// The next step. Poll until `None`, then see [`wake_at`](Self::wake_at).
    pub fn poll(&mut self) -> Option<AttemptStep> {
        if !self.to_acquire.is_empty() {
            let kind =
                if self.spec.previous_owner.is_some() { RequestKind::Adopt } else { RequestKind::Acquire };
            return Some(AttemptStep::Request(kind, core::mem::take(&mut self.to_acquire)));
        }
        if !self.to_raise_fence.is_empty() {
            return Some(AttemptStep::Request(
                RequestKind::RaiseFence,
                core::mem::take(&mut self.to_raise_fence),
            ));
        }
        if !self.to_release.is_empty() {
            return Some(AttemptStep::Request(RequestKind::Release, core::mem::take(&mut self.to_release)));
        }
        if !self.to_query_ttl.is_empty() {
            return Some(AttemptStep::Request(
                RequestKind::QueryTtl,
                core::mem::take(&mut self.to_query_ttl),
            ));
        }
        if let State::Decided(outcome) = self.state {
            self.state = State::Done;
            return Some(match outcome {
                None => AttemptStep::Won,
                Some(reason) => {
                    AttemptStep::Failed(AttemptFailure { reason, votes: self.round.report(self.timed_out) })
                }
            });
        }
        None
    }

    /// Handles a node's reply to `Acquire`, `Adopt`, `RaiseFence` or `QueryTtl`. Poll next.
    pub fn on_reply(&mut self, node: NodeId, kind: RequestKind, vote: Vote, now: DualTimestamp) {
        match (kind, self.state) {
            (RequestKind::Acquire | RequestKind::Adopt, State::Voting | State::RaisingFence)
                if !self.round.has_voted(node) =>
            {
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

    /// Handles the attempt timeout, if it is due. Poll next.
    pub fn on_wake(&mut self, now: DualTimestamp) {
        if !now.is_due(self.settle_by) {
            return;
        }
        if matches!(self.state, State::Voting | State::RaisingFence) {
            self.timed_out = true;
            self.fail(self.failure_reason(self.round.failed_count() + self.round.pending_count()));
        }
        if let State::QueryingTtl(reason) = self.state {
            // The attempt timeout passed: report the failure without the missing ttls.
            self.to_query_ttl = NodeSet::EMPTY;
            self.state = State::Decided(Some(self.with_retry_after(reason)));
        }
    }

    /// Cancels the attempt: it sends its releases and reports no outcome. Poll next.
    pub fn cancel(&mut self) {
        match self.state {
            State::Voting | State::RaisingFence | State::Decided(None) => {
                self.to_release = self.possibly_applied();
            }
            State::Decided(Some(_)) | State::QueryingTtl(_) | State::Done => {}
        }
        self.to_release = self.to_release.without(core::mem::take(&mut self.to_acquire));
        self.to_raise_fence = NodeSet::EMPTY;
        self.to_query_ttl = NodeSet::EMPTY;
        self.state = State::Done;
    }

    /// Replaces the node's grant by `new_vote`, because its clock jumped and its key may expire early. Poll
    /// next.
    pub fn revoke_votes_of(&mut self, node: NodeId, new_vote: Vote, now: DualTimestamp) {
        if self.is_undecided() && self.round.granted().contains(node) {
            self.round.replace_grant(node, new_vote);
            self.at_fencing_number.remove(node);
            self.settle(now);
        }
    }

    /// When to call [`on_wake`](Self::on_wake), if at all.
    #[must_use]
    pub fn wake_at(&self) -> Option<DualTimestamp> {
        match self.state {
            State::Voting | State::RaisingFence | State::QueryingTtl(_) => Some(self.settle_by),
            State::Decided(_) | State::Done => None,
        }
    }

    /// Whether no step will follow.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done && self.to_release.is_empty()
    }

    /// The lock that it attempts to acquire.
    #[must_use]
    pub const fn spec(&self) -> &LockSpec {
        &self.spec
    }

    /// The owner token of this attempt.
    #[must_use]
    pub const fn token(&self) -> OwnerToken {
        self.token
    }

    /// When the attempt began; the lease's deadline counts from here.
    #[must_use]
    pub const fn start(&self) -> DualTimestamp {
        self.start
    }

    /// The votes so far.
    #[must_use]
    pub const fn round(&self) -> &Round {
        &self.round
    }

    /// The fence to send with a request of this kind.
    #[must_use]
    pub fn fence(&self, kind: RequestKind) -> Option<Fence> {
        match kind {
            RequestKind::Acquire | RequestKind::Adopt => self.fence,
            RequestKind::RaiseFence => self.fencing_number.map(Fence::Number),
            _ => None,
        }
    }

    /// The lock's fencing number, once it is known.
    #[must_use]
    pub const fn fencing_number(&self) -> Option<u64> {
        self.fencing_number
    }

    /// The nodes that have the lock's number as their fence.
    #[cfg(test)]
    #[must_use]
    pub const fn at_fencing_number(&self) -> NodeSet {
        self.at_fencing_number
    }

    /// How many rounds the attempt has needed so far: two if the nodes' numbers differed, else one.
    #[must_use]
    pub const fn rounds(&self) -> u8 {
        self.rounds
    }

    /// Whether the attempt is undecided, so that its requests still matter.
    #[must_use]
    pub const fn is_undecided(&self) -> bool {
        matches!(self.state, State::Voting | State::RaisingFence)
    }

    /// Nodes that may have this attempt's key, by the replies so far.
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
            Vote::Granted => self.at_fencing_number.insert(node),
            Vote::HeldByOther { .. } | Vote::NotHeld => self.granted_at_least_once.remove(node),
            _ => {}
        }
        if vote != Vote::Granted {
            self.round.replace_grant(node, vote);
        }
        self.settle(now);
    }

    /// Compares a node's number with the lock's: equal counts, smaller is to be raised.
    fn compare_fence(&mut self, node: NodeId) {
        let (Some(node_number), Some(number)) = (self.round.vote(node).number(), self.fencing_number) else {
            return;
        };
        match node_number.cmp(&number) {
            Ordering::Equal => self.at_fencing_number.insert(node),
            Ordering::Less => self.to_raise_fence.insert(node),
            // A late grant. The node keeps the key, but its larger fence cannot support the lock's number.
            Ordering::Greater => self.round.replace_grant(node, Vote::FencedOut { fence: node_number }),
        }
    }

    fn settle(&mut self, now: DualTimestamp) {
        if self.state == State::RaisingFence && self.quorum_has_number() {
            self.win(now);
        } else if self.round.is_out_of_reach() {
            // Nodes that have not replied yet may well be available.
            self.fail(self.failure_reason(self.round.failed_count()));
        }
    }

    fn quorum_has_number(&self) -> bool {
        self.round.quorum().is_met(self.at_fencing_number.len()) || enabled(Mutant::NoSecondRound)
    }

    fn win(&mut self, now: DualTimestamp) {
        if enabled(Mutant::ValidityFromReply) {
            self.start = now;
            self.deadline = self.spec.params.deadline(now);
        }
        // Redlock: "The lock is considered to be acquired" only if time is left. A grant that cannot be used
        // is a failure like any other.
        if now.is_past(self.deadline) {
            self.fail(FailureReason::TooLate);
        } else {
            self.state = State::Decided(None);
        }
    }

    /// Redlock: "If the client failed to acquire the lock for some reason [...] it will try to unlock all the
    /// instances."
    fn fail(&mut self, reason: FailureReason) {
        self.to_raise_fence = NodeSet::EMPTY;
        self.to_release = self.possibly_applied();
        // In fenced mode the acquire reply contains the holder's ttl.
        let must_query = self.spec.want_holder_ttl && self.fence.is_none();
        self.to_query_ttl = if must_query { self.round.held_or_fenced_out() } else { NodeSet::EMPTY };
        self.querying_ttl = self.to_query_ttl;
        self.state = if self.querying_ttl.is_empty() {
            State::Decided(Some(self.with_retry_after(reason)))
        } else {
            State::QueryingTtl(reason)
        };
    }
}
