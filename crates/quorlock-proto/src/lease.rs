//! A held claim: its deadline, its renewals, its release.

mod larger_fence;
mod release;
mod renewal;
mod step;

pub use step::{LeaseStep, LossReason, RenewalPolicy};

use std::num::NonZeroU64;
use std::time::Duration;

use crate::attempt::Attempt;
use crate::fence::Fence;
use crate::lease_params::LeaseParams;
use crate::mutant::{Mutant, enabled};
use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::request::{Key, OwnerToken, RequestKind};
use crate::time::{BootTime, DualTimestamp};
use crate::vote::Vote;
use larger_fence::{LargerFencesWithKey, verification_delay};
use release::ReleaseRound;
use renewal::Renewal;

/// A lock that is held.
///
/// Three answers to a renewal: *renewed*, *lost* (others have too many nodes), *unknown* (too few answers: the
/// deadline stays, and it asks again soon). It never gives up a lock that may still be held, never deletes its own
/// keys before it is told to, and never comes back once lost.
///
/// It is kept small, for leases come by the thousand: what it has only for a while is in a box.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    key: Key,
    token: OwnerToken,
    /// Our fencing number; none in plain mode. Nodes give no number 0.
    fencing_number: Option<NonZeroU64>,
    quorum: Quorum,
    params: LeaseParams,
    auto_renew: bool,
    deadline: DualTimestamp,
    /// Whether a renewal has moved it past what the grants gave: a late one is good for no longer.
    extended_past_grants: bool,
    /// What few leases have.
    rare_state: Option<Box<RareState>>,
    /// No key of ours lives longer than this.
    keys_until: BootTime,
    /// Nodes where a key of ours may stand.
    possibly_set: NodeSet,
    /// Nodes known to have our key.
    confirmed: NodeSet,
    next_renewal: BootTime,
    rounds: u32,
    state: State,
    to_raise_fence: NodeSet,
    event: Option<PendingEvent>,
    confirmed_changed: bool,
    /// Which release it will ask for.
    release_kind: RequestKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// With the renewal that is under way, or the last, for as long as there is more to know of it than its deadline.
    Held(Option<Box<Renewal>>),
    Lost,
    Releasing(Box<ReleaseRound>),
    Ended,
}

/// What few leases have, and what they would all be larger for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct RareState {
    /// `max_hold_time` as an instant.
    max_hold_end: Option<DualTimestamp>,
    /// Nodes with our key and a larger number than ours.
    larger_with_key: LargerFencesWithKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PendingEvent {
    Renewed,
    /// Whether the time for answers was over.
    Unconfirmed {
        timed_out: bool,
    },
    Lost(LossReason),
    Released,
}

impl Lease {
    /// The lease that a won attempt becomes. Late answers to its grants belong to the lease.
    #[must_use]
    pub fn new(attempt: &Attempt, policy: RenewalPolicy) -> Self {
        let params = attempt.spec().params;
        let start = attempt.start();
        let end = policy.max_hold_time.map(|span| start.plus(span));
        let fenced_out = LargerFencesWithKey::from_grants(attempt.round());
        let has_larger = !fenced_out.is_empty();
        let seldom = (end.is_some() || has_larger)
            .then(|| Box::new(RareState { max_hold_end: end, larger_with_key: fenced_out }));
        Self {
            key: attempt.spec().key.clone(),
            token: attempt.token(),
            fencing_number: attempt.fencing_number().and_then(NonZeroU64::new),
            quorum: attempt.round().quorum(),
            params,
            auto_renew: policy.auto_renew,
            deadline: cap_deadline(params.deadline(start), end),
            extended_past_grants: false,
            keys_until: start.boot().plus(params.ttl()),
            possibly_set: attempt.possibly_applied(),
            confirmed: attempt.round().granted(),
            next_renewal: match policy.auto_renew {
                true if !has_larger => start.boot().plus(params.ttl() / 3),
                true => start.boot().plus(verification_delay(params.ttl())),
                false => BootTime::NEVER,
            },
            rare_state: seldom,
            rounds: 0,
            state: State::Held(None),
            to_raise_fence: NodeSet::EMPTY,
            event: None,
            confirmed_changed: false,
            release_kind: RequestKind::ReleaseAndNotify,
        }
    }

    /// The next step to take, until there is none; then see [`wake_at`](Self::wake_at).
    pub fn poll(&mut self) -> Option<LeaseStep> {
        if let Some(request) = self.poll_request() {
            return Some(request);
        }
        if std::mem::take(&mut self.confirmed_changed) {
            return Some(LeaseStep::Confirmed(self.confirmed));
        }
        match self.event.take()? {
            PendingEvent::Renewed => Some(LeaseStep::Renewed(self.deadline)),
            PendingEvent::Unconfirmed { timed_out: ran_out } => Some(LeaseStep::Unconfirmed(
                self.renewal().map_or_else(Vec::new, |renewal| renewal.round.report(ran_out)),
            )),
            PendingEvent::Lost(loss) => Some(LeaseStep::Lost(loss)),
            PendingEvent::Released => match std::mem::replace(&mut self.state, State::Ended) {
                State::Releasing(releasing) => Some(LeaseStep::Released(releasing.report())),
                State::Held(_) | State::Lost | State::Ended => None,
            },
        }
    }

    fn poll_request(&mut self) -> Option<LeaseStep> {
        let mut past = None;
        let (kind, nodes) = match &mut self.state {
            State::Held(Some(renewal)) if !renewal.to_renew.is_empty() => {
                (RequestKind::Renew, std::mem::take(&mut renewal.to_renew))
            }
            State::Held(_) if !self.to_raise_fence.is_empty() => {
                (RequestKind::RaiseFence, std::mem::take(&mut self.to_raise_fence))
            }
            State::Held(Some(renewal)) => {
                let (nodes, number) = renewal.next_reacquire()?;
                past = number;
                (RequestKind::Reacquire, nodes)
            }
            State::Releasing(releasing) if !releasing.to_release.is_empty() => {
                (RequestKind::Release, std::mem::take(&mut releasing.to_release))
            }
            State::Held(None) | State::Releasing(_) | State::Lost | State::Ended => return None,
        };
        Some(LeaseStep::Request {
            kind,
            ttl: self.renewal_ttl(),
            nodes,
            round: self.rounds,
            number_override: past,
        })
    }

    /// A node's answer to a question of this round. Poll next.
    pub fn on_reply(&mut self, node: NodeId, kind: RequestKind, round: u32, vote: Vote, now: DualTimestamp) {
        match kind {
            // A key that goes before the lock does is in nobody's way then.
            RequestKind::Acquire => {
                self.on_acquire_reply(
                    node,
                    &vote,
                    !self.extended_past_grants || enabled(Mutant::LateGrantNeverExpires),
                    now,
                );
            }
            RequestKind::Reacquire => self.on_reacquire_reply(node, round, &vote, now),
            RequestKind::RaiseFence => self.on_raise_fence_reply(node, &vote),
            RequestKind::Renew if round == self.rounds => self.on_renew_reply(node, vote, now),
            RequestKind::Release => self.on_release_reply(node, vote),
            _ => {}
        }
    }

    /// Some time it asked for may have come. `absent_vote` gives the vote of a node that is known not to answer.
    /// Poll next.
    pub fn on_wake(&mut self, absent_vote: impl Fn(NodeId) -> Option<Vote>, now: DualTimestamp) {
        match &self.state {
            State::Held(renewal) => {
                if now.is_past(self.lost_signal_at()) {
                    self.lose(LossReason::Expired);
                } else if let Some(renewal) = renewal.as_ref().filter(|it| !it.is_settled) {
                    // Nothing pushes a round aside that may still succeed.
                    if now.is_due(renewal.settle_by()) {
                        self.settle_unconfirmed(now);
                    }
                } else if self.next_renewal.is_due(now) {
                    self.start_renewal(self.params, absent_vote, now);
                }
            }
            State::Releasing(releasing) if now.is_due(releasing.settle_by) => {
                self.event = Some(PendingEvent::Released);
            }
            State::Releasing(_) | State::Lost | State::Ended => {}
        }
    }

    /// Asks for these terms from now on, once. Says `Renewed`, `NoQuorum` or `Lost` in its time. Poll next.
    pub fn extend(
        &mut self,
        params: LeaseParams,
        absent_vote: impl Fn(NodeId) -> Option<Vote>,
        now: DualTimestamp,
    ) {
        match &self.state {
            State::Held(_) if now.is_past(self.lost_signal_at()) => self.lose(LossReason::Expired),
            State::Held(renewal) => {
                // An extension under way that asks for more is not cut short.
                let under_way = renewal.as_ref().filter(|it| !it.is_settled).map(|it| it.params);
                let longest = under_way.filter(|it| it.ttl() > params.ttl()).unwrap_or(params);
                self.start_renewal(longest, absent_vote, now);
            }
            State::Lost | State::Releasing(_) | State::Ended => {}
        }
    }

    /// The holder saw the deadline pass. Poll next.
    pub fn expire(&mut self) {
        if self.is_held() {
            self.lose(LossReason::Expired);
        }
    }

    /// The node's clock jumped: what it confirmed may have run out before its time, and is worth this.
    /// Poll next.
    pub fn revoke_votes_of(&mut self, node: NodeId, worth: Vote) {
        // That our key stands there under a larger number was said before, and is worth no more.
        self.forget_larger_fence(node);
        let State::Held(renewal) = &mut self.state else { return };
        if let Some(renewal) = renewal.as_mut().filter(|it| !it.is_settled) {
            renewal.round.replace_grant(node, worth);
        }
        if !self.confirmed.contains(node) {
            return;
        }
        self.confirmed.remove(node);
        self.confirmed_changed = true;
        if !self.quorum.is_met(self.confirmed.len()) {
            self.lose(LossReason::ClockJump);
        }
    }

    /// When to call [`on_wake`](Self::on_wake), if ever.
    #[must_use]
    pub fn wake_at(&self) -> Option<BootTime> {
        match &self.state {
            State::Held(renewal) => {
                let next = match renewal {
                    Some(renewal) if !renewal.is_settled => renewal.settle_by().boot(),
                    _ => self.next_renewal,
                };
                Some(next.min(self.lost_signal_at().boot()))
            }
            State::Releasing(releasing) => Some(releasing.settle_by.boot()),
            State::Lost | State::Ended => None,
        }
    }

    /// Whether a renewal was ever asked for.
    #[must_use]
    pub const fn was_renewed(&self) -> bool {
        self.rounds > 0
    }

    /// Whether it has said all it has to say.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether somebody still holds it, or has yet to hear that it is lost and let go.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Held(_) | State::Lost)
    }

    /// Whether it is still good, as far as this machine has been told.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        matches!(self.state, State::Held(_))
    }

    /// Until when it may be trusted.
    #[must_use]
    pub const fn deadline(&self) -> DualTimestamp {
        self.deadline
    }

    /// The nodes known to have our key.
    #[must_use]
    pub const fn confirmed(&self) -> NodeSet {
        self.confirmed
    }

    /// The nodes where a key of ours may stand.
    #[must_use]
    pub const fn possibly_set(&self) -> NodeSet {
        self.possibly_set
    }

    /// Whether the node may be without our key, and so worth a renewal.
    #[must_use]
    pub const fn is_unconfirmed_on(&self, node: NodeId) -> bool {
        self.is_held() && !self.confirmed.contains(node)
    }

    /// No key of ours lives longer than this.
    #[must_use]
    pub const fn keys_until(&self) -> BootTime {
        self.keys_until
    }

    /// How long the current renewal asks the keys to live.
    #[must_use]
    pub fn renewal_ttl(&self) -> Duration {
        self.renewal().map_or(self.params, |renewal| renewal.params).ttl()
    }

    /// The locked key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// In whose name.
    #[must_use]
    pub const fn token(&self) -> OwnerToken {
        self.token
    }

    /// Our fencing number; none in plain mode.
    #[must_use]
    pub fn fencing_number(&self) -> Option<u64> {
        self.fencing_number.map(NonZeroU64::get)
    }

    /// What goes along with its questions.
    #[must_use]
    pub fn fence(&self) -> Option<Fence> {
        self.fencing_number().map(Fence::Number)
    }

    /// The lost signal comes 10 ms before the deadline, or a tenth of the ttl if that is less, so that a holder
    /// who listens has stopped when the deadline comes.
    fn lost_signal_at(&self) -> DualTimestamp {
        self.deadline.minus(LOST_SIGNAL_LEAD.min(self.params.ttl() / 10))
    }

    fn renewal(&self) -> Option<&Renewal> {
        match &self.state {
            State::Held(renewal) => renewal.as_deref(),
            State::Lost | State::Releasing(_) | State::Ended => None,
        }
    }

    fn end(&self) -> Option<DualTimestamp> {
        self.rare_state.as_ref()?.max_hold_end
    }

    fn stop_renewing(&mut self) {
        self.next_renewal = BootTime::NEVER;
        self.to_raise_fence = NodeSet::EMPTY;
    }

    fn lose(&mut self, loss: LossReason) {
        self.state = State::Lost;
        self.stop_renewing();
        self.event = Some(PendingEvent::Lost(loss));
    }
}

fn cap_deadline(deadline: DualTimestamp, end: Option<DualTimestamp>) -> DualTimestamp {
    end.map_or(deadline, |end| deadline.earlier(end))
}

const LOST_SIGNAL_LEAD: Duration = Duration::from_millis(10);
