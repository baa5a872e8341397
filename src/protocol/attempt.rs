//! One acquire round over all nodes, with its undo.

use std::time::Duration;

use super::claim::{Claim, Phase, Token};
use super::quorum::{NodeId, NodeSet, Quorum};
use super::round::Round;
use super::time::Moment;
use super::vote::Vote;

/// One try to take a lock.
///
/// It is born with its first questions to send. It settles as soon as q grants are in, or q is out of reach, or
/// its patience is over. When it fails, is too late or is abandoned, it asks for the undo: a release on every node
/// that did not plainly refuse.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    claim: Claim,
    token: Token,
    start: Moment,
    deadline: Moment,
    settle_by: Moment,
    round: Round,
    state: State,
    to_grant: NodeSet,
    to_release: NodeSet,
    to_question: NodeSet,
    /// Refusing nodes that have not yet said how long the holder's key lives.
    questioned: NodeSet,
}

/// What an attempt wants done next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttemptStep {
    /// Put this question to these nodes, in this order of steps.
    Ask(Phase, NodeSet),
    /// q grants are in, in time: make it a lease.
    Won,
    /// It failed, and everything that may be left is being undone.
    Lost(Refusal),
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The reason to act upon.
    pub why: Why,
    /// Every node's answer.
    pub votes: Vec<Vote>,
}

/// The reason an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// A quorum of nodes answered, and others have too many of them. The lock may be had when the q-th of the
    /// keys in the way has expired, if the nodes told.
    Contended {
        /// How long that is from now.
        retry_after: Option<Duration>,
    },
    /// Too few nodes answered.
    NoQuorum,
    /// Too many nodes may not serve us; trying again will not help.
    Barred,
    /// The grants came, but too late to be worth anything.
    TooLate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Voting,
    /// Won or lost, not yet told.
    Ready(Option<Why>),
    /// Lost and undone; some refusing nodes are being asked for how long.
    Questioning(Why),
    Done,
}

impl Attempt {
    /// A new attempt; `token` must be fresh, and `now` read before anything is sent. `absence` gives the vote of
    /// a node that is known not to answer. Poll it next.
    #[must_use]
    pub fn new(
        claim: Claim,
        token: Token,
        quorum: Quorum,
        absence: impl Fn(NodeId) -> Option<Vote>,
        now: Moment,
    ) -> Self {
        let round = Round::new(quorum, absence);
        let mut attempt = Self {
            token,
            start: now,
            deadline: claim.terms.deadline(now),
            settle_by: now.plus(claim.terms.patience()),
            to_grant: round.asked(),
            to_release: NodeSet::EMPTY,
            to_question: NodeSet::EMPTY,
            questioned: NodeSet::EMPTY,
            state: State::Voting,
            claim,
            round,
        };
        if attempt.round.is_out_of_reach() {
            // Nothing sent, nothing to undo.
            attempt.to_grant = NodeSet::EMPTY;
            attempt.state = State::Ready(Some(attempt.reason(attempt.round.failed())));
        }
        attempt
    }

    /// The next step to take, until there is none; then see [`wake_at`](Self::wake_at).
    pub fn poll(&mut self) -> Option<AttemptStep> {
        if !self.to_grant.is_empty() {
            return Some(AttemptStep::Ask(Phase::Grant, std::mem::take(&mut self.to_grant)));
        }
        if !self.to_release.is_empty() {
            return Some(AttemptStep::Ask(Phase::Release, std::mem::take(&mut self.to_release)));
        }
        if !self.to_question.is_empty() {
            return Some(AttemptStep::Ask(Phase::Remaining, std::mem::take(&mut self.to_question)));
        }
        if let State::Ready(verdict) = self.state {
            self.state = State::Done;
            return Some(match verdict {
                None => AttemptStep::Won,
                Some(why) => AttemptStep::Lost(Refusal { why, votes: self.round.votes().to_vec() }),
            });
        }
        None
    }

    /// A node's answer to `Grant` or `Remaining`. Poll next.
    pub fn on_reply(&mut self, node: NodeId, phase: Phase, vote: Vote, now: Moment) {
        match (phase, self.state) {
            (Phase::Grant, State::Voting) => {
                self.round.record(node, vote);
                if self.round.is_won() {
                    self.win(now);
                } else if self.round.is_out_of_reach() {
                    // Who has not answered yet may well be there.
                    self.lose(self.reason(self.round.failed()));
                }
            }
            (Phase::Remaining, State::Questioning(why)) => {
                self.questioned.remove(node);
                self.round.add_remaining(node, vote);
                if self.questioned.is_empty() {
                    self.state = State::Ready(Some(self.with_retry(why)));
                }
            }
            _ => {}
        }
    }

    /// The time asked for has come. Poll next.
    pub fn on_wake(&mut self, now: Moment) {
        if !now.is_due(self.settle_by) {
            return;
        }
        if self.state == State::Voting {
            self.lose(self.reason(self.round.failed() + self.round.silent()));
        }
        if let State::Questioning(why) = self.state {
            // The patience is over: the refusal is told as it is, without for how long.
            self.to_question = NodeSet::EMPTY;
            self.state = State::Ready(Some(self.with_retry(why)));
        }
    }

    /// The caller walked away: undo, tell nobody. Poll next.
    pub fn abandon(&mut self) {
        match self.state {
            State::Voting | State::Ready(None) => self.to_release = self.round.perhaps_done(),
            State::Ready(Some(_)) | State::Questioning(_) | State::Done => {}
        }
        self.to_release = self.to_release.without(std::mem::take(&mut self.to_grant));
        self.to_question = NodeSet::EMPTY;
        self.state = State::Done;
    }

    /// When to call [`on_wake`](Self::on_wake), if ever.
    #[must_use]
    pub fn wake_at(&self) -> Option<Moment> {
        match self.state {
            State::Voting | State::Questioning(_) => Some(self.settle_by),
            State::Ready(_) | State::Done => None,
        }
    }

    /// Whether it has said all it has to say.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done && self.to_release.is_empty()
    }

    /// What was claimed.
    #[must_use]
    pub const fn claim(&self) -> &Claim {
        &self.claim
    }

    /// In whose name.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }

    /// When it began: its lease's time runs from here.
    #[must_use]
    pub const fn start(&self) -> Moment {
        self.start
    }

    /// The votes so far.
    #[must_use]
    pub const fn round(&self) -> &Round {
        &self.round
    }

    fn win(&mut self, now: Moment) {
        // "The lock is considered to be acquired" only if time is left. A grant that cannot be used is a failure
        // like any other.
        if now.is_past(self.deadline) {
            self.lose(Why::TooLate);
        } else {
            self.state = State::Ready(None);
        }
    }

    /// "If the client failed to acquire the lock for some reason [...] it will try to unlock all the instances."
    fn lose(&mut self, why: Why) {
        self.to_release = self.round.perhaps_done();
        self.to_question = if self.claim.curious { self.round.held() } else { NodeSet::EMPTY };
        self.questioned = self.to_question;
        self.state =
            if self.questioned.is_empty() { State::Ready(Some(why)) } else { State::Questioning(why) };
    }

    /// Why it failed, when `absent` nodes have no clear answer. Nodes that are there and merely not all ours, split
    /// votes among them, are contention: the quorum is lost only if the absent are too many for one.
    fn reason(&self, absent: usize) -> Why {
        let quorum = self.round.quorum();
        if quorum.is_out_of_reach(self.round.barred().len()) {
            Why::Barred
        } else if self.round.held().is_empty() || quorum.is_out_of_reach(absent) {
            Why::NoQuorum
        } else {
            Why::Contended { retry_after: None }
        }
    }

    /// When the q-th of the nodes is free: those in the way by the expiry they told, the rest at once or never.
    fn with_retry(&self, why: Why) -> Why {
        let Why::Contended { .. } = why else { return why };
        let mut free_after: Vec<Duration> = self
            .round
            .votes()
            .iter()
            .filter_map(|vote| match vote {
                Vote::Granted | Vote::Missing => Some(Duration::ZERO),
                Vote::Held { remaining } => *remaining,
                Vote::Seen(_) | Vote::Barred(_) | Vote::Unknown(_) => None,
            })
            .collect();
        free_after.sort_unstable();
        Why::Contended { retry_after: free_after.get(self.round.quorum().need() - 1).copied() }
    }
}
