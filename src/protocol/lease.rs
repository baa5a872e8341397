//! A held claim: its deadline, its renewals, its release.

mod step;

pub use step::{LeaseStep, Loss, Tenure};

use std::time::Duration;

use super::attempt::Attempt;
use super::claim::{Key, Phase, Token};
use super::quorum::{NodeId, NodeSet, Quorum};
use super::round::Round;
use super::terms::Terms;
use super::time::Moment;
use super::vote::Vote;

/// A lock that is held.
///
/// Three answers to a renewal: *renewed*, *lost* (others have too many nodes), *unknown* (too few answers: the
/// deadline stays, and it asks again soon). It never gives up a lock that may still be held, never deletes its own
/// keys before it is told to, and never comes back once lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    key: Key,
    token: Token,
    quorum: Quorum,
    terms: Terms,
    tenure: Tenure,
    deadline: Moment,
    /// `max_hold` as an instant.
    end: Option<Moment>,
    /// No key of ours lives longer than this.
    keys_until: Moment,
    /// Nodes where a key of ours may stand.
    touched: NodeSet,
    /// Nodes known to have our key.
    confirmed: NodeSet,
    next_renewal: Option<Moment>,
    rounds: u32,
    renewal: Option<Box<Renewal>>,
    state: State,
    to_renew: NodeSet,
    to_retake: NodeSet,
    to_release: NodeSet,
    news: Option<News>,
    confirmed_changed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Renewal {
    terms: Terms,
    start: Moment,
    settle_by: Moment,
    is_settled: bool,
    round: Round,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Held,
    Lost,
    Releasing { settle_by: Moment, round: Box<Round> },
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum News {
    Renewed,
    Unconfirmed,
    Lost(Loss),
    Released,
}

impl Lease {
    /// The lease that a won attempt becomes. Late answers to its grants belong to the lease.
    #[must_use]
    pub fn new(attempt: &Attempt, tenure: Tenure) -> Self {
        let terms = attempt.claim().terms;
        let end = tenure.max_hold.map(|span| attempt.start().plus(span));
        Self {
            key: attempt.claim().key.clone(),
            token: attempt.token(),
            quorum: attempt.round().quorum(),
            terms,
            tenure,
            deadline: capped(terms.deadline(attempt.start()), end),
            end,
            keys_until: attempt.start().plus(terms.ttl()),
            touched: attempt.round().perhaps_done(),
            confirmed: attempt.round().granted(),
            next_renewal: tenure.auto_renew.then(|| attempt.start().plus(terms.ttl() / 3)),
            rounds: 0,
            renewal: None,
            state: State::Held,
            to_renew: NodeSet::EMPTY,
            to_retake: NodeSet::EMPTY,
            to_release: NodeSet::EMPTY,
            news: None,
            confirmed_changed: false,
        }
    }

    /// The next step to take, until there is none; then see [`wake_at`](Self::wake_at).
    pub fn poll(&mut self) -> Option<LeaseStep> {
        let (round, ttl) = (self.rounds, self.renewal_ttl());
        let queues = [
            (Phase::Renew, &mut self.to_renew),
            (Phase::Retake, &mut self.to_retake),
            (Phase::Release, &mut self.to_release),
        ];
        for (phase, queue) in queues {
            if !queue.is_empty() {
                return Some(LeaseStep::Ask { phase, ttl, nodes: std::mem::take(queue), round });
            }
        }
        if std::mem::take(&mut self.confirmed_changed) {
            return Some(LeaseStep::Confirmed(self.confirmed));
        }
        match self.news.take()? {
            News::Renewed => Some(LeaseStep::Renewed(self.deadline)),
            News::Unconfirmed => Some(LeaseStep::Unconfirmed(
                self.renewal.as_ref().map_or_else(Vec::new, |renewal| renewal.round.votes().to_vec()),
            )),
            News::Lost(loss) => Some(LeaseStep::Lost(loss)),
            News::Released => match std::mem::replace(&mut self.state, State::Ended) {
                State::Releasing { round, .. } => Some(LeaseStep::Released(round.votes().to_vec())),
                State::Held | State::Lost | State::Ended => None,
            },
        }
    }

    /// A node's answer to a question of this round. Poll next.
    pub fn on_reply(&mut self, node: NodeId, phase: Phase, round: u32, vote: Vote, now: Moment) {
        match phase {
            Phase::Grant | Phase::Retake => self.on_grant(node, &vote),
            Phase::Renew if round == self.rounds => self.on_renewal(node, vote, now),
            Phase::Release => self.on_release(node, vote),
            Phase::Renew | Phase::Remaining | Phase::Inspect | Phase::Break => {}
        }
    }

    /// Some time it asked for may have come. `absence` gives the vote of a node that is known not to answer.
    /// Poll next.
    pub fn on_wake(&mut self, absence: impl Fn(NodeId) -> Option<Vote>, now: Moment) {
        match &self.state {
            State::Held => {
                if now.is_past(self.signal_at()) {
                    self.lose(Loss::Expired);
                } else if let Some(renewal) = self.renewal.as_ref().filter(|it| !it.is_settled) {
                    // Nothing pushes a round aside that may still succeed.
                    if now.is_due(renewal.settle_by) {
                        self.settle_unknown(now);
                    }
                } else if self.next_renewal.is_some_and(|next| now.is_due(next)) {
                    self.renew(self.terms, absence, now);
                }
            }
            State::Releasing { settle_by, .. } if now.is_due(*settle_by) => self.news = Some(News::Released),
            State::Releasing { .. } | State::Lost | State::Ended => {}
        }
    }

    /// Asks for these terms from now on, once. Says `Renewed`, `Unconfirmed` or `Lost` in its time. Poll next.
    pub fn extend(&mut self, terms: Terms, absence: impl Fn(NodeId) -> Option<Vote>, now: Moment) {
        match self.state {
            State::Held if now.is_past(self.signal_at()) => self.lose(Loss::Expired),
            State::Held => {
                // An extension under way that asks for more is not cut short.
                let under_way = self.renewal.as_ref().filter(|it| !it.is_settled).map(|it| it.terms);
                let longest = under_way.filter(|it| it.ttl() > terms.ttl()).unwrap_or(terms);
                self.renew(longest, absence, now);
            }
            State::Lost | State::Releasing { .. } | State::Ended => {}
        }
    }

    /// The holder saw the deadline pass. Poll next.
    pub fn forfeit(&mut self) {
        if self.state == State::Held {
            self.lose(Loss::Expired);
        }
    }

    /// Gives the lock up; `settle_by` is how long to wait for confirmations. Poll next.
    pub fn release(&mut self, settle_by: Moment) {
        if matches!(self.state, State::Releasing { .. } | State::Ended) {
            return;
        }
        // Where nothing of ours can stand, there is nothing to confirm.
        let round = Round::new(self.quorum, |node| (!self.touched.contains(node)).then_some(Vote::Missing));
        self.state = State::Releasing { settle_by, round: Box::new(round) };
        self.to_release = self.touched;
        self.to_renew = NodeSet::EMPTY;
        self.to_retake = NodeSet::EMPTY;
        self.renewal = None;
        self.next_renewal = None;
        self.news = None;
    }

    /// When to call [`on_wake`](Self::on_wake), if ever.
    #[must_use]
    pub fn wake_at(&self) -> Option<Moment> {
        match &self.state {
            State::Held => {
                let mut wake = self.signal_at();
                match &self.renewal {
                    Some(renewal) if !renewal.is_settled => wake = wake.earlier(renewal.settle_by),
                    _ => wake = self.next_renewal.map_or(wake, |next| wake.earlier(next)),
                }
                Some(wake)
            }
            State::Releasing { settle_by, .. } => Some(*settle_by),
            State::Lost | State::Ended => None,
        }
    }

    /// Whether it has said all it has to say.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether somebody still holds it, or has yet to hear that it is lost and let go.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        matches!(self.state, State::Held | State::Lost)
    }

    /// Whether it is still good, as far as this machine has been told.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state == State::Held
    }

    /// Until when it may be trusted.
    #[must_use]
    pub const fn deadline(&self) -> Moment {
        self.deadline
    }

    /// The nodes known to have our key.
    #[must_use]
    pub const fn confirmed(&self) -> NodeSet {
        self.confirmed
    }

    /// No key of ours lives longer than this.
    #[must_use]
    pub const fn keys_until(&self) -> Moment {
        self.keys_until
    }

    /// How long the current renewal asks the keys to live.
    #[must_use]
    pub fn renewal_ttl(&self) -> Duration {
        self.renewal.as_ref().map_or(self.terms, |renewal| renewal.terms).ttl()
    }

    /// The locked key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// In whose name.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }

    /// The lost signal comes 10 ms before the deadline, or a tenth of the ttl if that is less, so that a holder
    /// who listens has stopped when the deadline comes.
    fn signal_at(&self) -> Moment {
        self.deadline.minus(SIGNAL_LEAD.min(self.terms.ttl() / 10))
    }

    fn on_grant(&mut self, node: NodeId, vote: &Vote) {
        let before = self.confirmed;
        match vote {
            Vote::Granted => {
                self.confirmed.insert(node);
                self.touched.insert(node);
            }
            Vote::Held { .. } => self.confirmed.remove(node),
            Vote::Missing | Vote::Seen(_) | Vote::Barred(_) | Vote::Unknown(_) => {}
        }
        self.confirmed_changed |= self.confirmed != before && self.state == State::Held;
    }

    fn on_renewal(&mut self, node: NodeId, vote: Vote, now: Moment) {
        if self.state != State::Held {
            return;
        }
        // A renewal counts only if it completes before the old deadline. Past it somebody else may have held and
        // freed the lock, so that every key says "yours" and the lock was not ours all the time.
        if now.is_past(self.deadline) {
            self.lose(Loss::Expired);
            return;
        }
        let Some(renewal) = &mut self.renewal else { return };
        let was_won = renewal.round.is_won();
        match vote {
            // Taken again at once, but a retaken node does not count in this round: what counts is that q nodes
            // had our key all the time.
            Vote::Missing => {
                self.confirmed.remove(node);
                self.confirmed_changed = true;
                self.to_retake.insert(node);
                self.touched.insert(node);
                self.keys_until = self.keys_until.later(now.plus(renewal.terms.ttl()));
            }
            Vote::Held { .. } => {
                self.confirmed.remove(node);
                self.confirmed_changed = true;
            }
            Vote::Granted if was_won => {
                self.confirmed.insert(node);
                self.confirmed_changed = true;
            }
            Vote::Granted | Vote::Seen(_) | Vote::Barred(_) | Vote::Unknown(_) => {}
        }
        renewal.round.record(node, vote);
        if renewal.round.is_won() && !was_won {
            self.settle_renewed();
        } else if self.quorum.is_out_of_reach(renewal.round.held().len()) {
            self.lose(Loss::Taken);
        } else if renewal.round.is_complete() && !renewal.is_settled {
            self.settle_unknown(now);
        }
    }

    fn on_release(&mut self, node: NodeId, vote: Vote) {
        if let State::Releasing { round, .. } = &mut self.state {
            round.record(node, vote);
            // Deleted, or not ours (any more): both are a plain answer.
            let confirmed = round.granted().or(round.missing()).len();
            if self.quorum.is_met(confirmed) || round.is_complete() {
                self.news = Some(News::Released);
            }
        }
    }

    fn renew(&mut self, terms: Terms, absence: impl Fn(NodeId) -> Option<Vote>, now: Moment) {
        self.rounds = self.rounds.wrapping_add(1);
        let round = Round::new(self.quorum, absence);
        self.to_renew = round.asked();
        self.keys_until = self.keys_until.later(now.plus(terms.ttl()));
        let settle_by = now.plus(terms.patience());
        let is_hopeless = round.is_out_of_reach();
        self.renewal = Some(Box::new(Renewal { terms, start: now, settle_by, is_settled: false, round }));
        if is_hopeless {
            // Those that can be asked are asked all the same: their keys live on, and the rest may come back.
            self.settle_unknown(now);
        }
    }

    fn settle_renewed(&mut self) {
        let Some(renewal) = &mut self.renewal else { return };
        renewal.is_settled = true;
        self.confirmed = renewal.round.granted();
        self.confirmed_changed = true;
        // Never shorter: keys that were asked to live longer still do.
        self.deadline = self.deadline.later(capped(renewal.terms.deadline(renewal.start), self.end));
        let next = renewal.start.plus(renewal.terms.ttl() / 3);
        self.next_renewal = self.tenure.auto_renew.then_some(next);
        self.news = Some(News::Renewed);
    }

    fn settle_unknown(&mut self, now: Moment) {
        let Some(renewal) = &mut self.renewal else { return };
        renewal.is_settled = true;
        let pause = (self.terms.ttl() / 10).max(LEAST_PAUSE);
        self.next_renewal = self.tenure.auto_renew.then(|| now.plus(pause));
        self.news = Some(News::Unconfirmed);
    }

    fn lose(&mut self, loss: Loss) {
        self.state = State::Lost;
        self.renewal = None;
        self.next_renewal = None;
        self.to_renew = NodeSet::EMPTY;
        self.to_retake = NodeSet::EMPTY;
        self.news = Some(News::Lost(loss));
    }
}

fn capped(deadline: Moment, end: Option<Moment>) -> Moment {
    end.map_or(deadline, |end| deadline.earlier(end))
}

const SIGNAL_LEAD: Duration = Duration::from_millis(10);
const LEAST_PAUSE: Duration = Duration::from_millis(20);
