//! A lease: a held lock with its deadline, renewals and release.

mod larger_fence;
mod release;
mod renewal;
mod step;
mod view;

use alloc::boxed::Box;
use alloc::vec::Vec;
pub use step::{LeaseStep, LossReason, RenewalPolicy};

use core::num::NonZeroU64;
use core::time::Duration;

use crate::attempt::Attempt;
use crate::lease_params::LeaseParams;
use crate::mutant::{Mutant, enabled};
use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::request::{Key, OwnerToken, RequestKind};
use crate::time::{BootTime, DualTimestamp};
use crate::vote::Vote;
use larger_fence::{LargerFencesWithKey, proof_delay};
use release::ReleaseRound;
use renewal::Renewal;

/// A lock that is held.
///
/// A renewal has three outcomes: *renewed*; *lost*, if others hold too many nodes; or *unconfirmed*, if too
/// few nodes replied. After the last, the deadline stays and another renewal follows soon. A lease never
/// gives up a lock that may still be held, and never deletes its keys before `release`. A lost lease stays
/// lost.
///
/// It is kept small, because a client may have thousands: rare state is boxed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    key: Key,
    token: OwnerToken,
    /// The fencing number; `None` in plain mode. Nodes never give the number 0.
    fencing_number: Option<NonZeroU64>,
    quorum: Quorum,
    params: LeaseParams,
    auto_renew: bool,
    deadline: DualTimestamp,
    /// Whether a renewal has moved the deadline past the ttl of the first grants, so that a late grant
    /// expires before it.
    extended_past_grants: bool,
    /// State that few leases have.
    rare_state: Option<Box<RareState>>,
    /// No key of this lease lives longer than this.
    keys_until: BootTime,
    /// Nodes that may have this lease's key.
    possibly_set: NodeSet,
    /// Nodes that are known to have this lease's key.
    confirmed: NodeSet,
    next_renewal: BootTime,
    rounds: u32,
    state: State,
    to_raise_fence: NodeSet,
    event: Option<PendingEvent>,
    confirmed_changed: bool,
    /// The kind of its release requests.
    release_kind: RequestKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// With the current or last renewal, until only its deadline still matters.
    Held(Option<Box<Renewal>>),
    Lost,
    Releasing(Box<ReleaseRound>),
    Ended,
}

/// State that few leases have; kept apart so that all others are smaller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct RareState {
    /// The end of `max_hold_time`.
    max_hold_end: Option<DualTimestamp>,
    /// Nodes with the lease's key and a fence above its number.
    larger_with_key: LargerFencesWithKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PendingEvent {
    Renewed,
    /// Whether the attempt timeout passed.
    Unconfirmed {
        timed_out: bool,
    },
    Lost(LossReason),
    Released,
}

impl Lease {
    /// The lease of a won attempt. Late replies to the attempt's acquire requests go to the lease.
    #[must_use]
    pub fn new(attempt: &Attempt, policy: RenewalPolicy) -> Self {
        let params = attempt.spec().params;
        let start = attempt.start();
        let max_hold_end = policy.max_hold_time.map(|span| start.plus(span));
        let larger_with_key = LargerFencesWithKey::from_acquire_votes(attempt.round());
        let has_larger = !larger_with_key.is_empty();
        let rare_state = (max_hold_end.is_some() || has_larger)
            .then(|| Box::new(RareState { max_hold_end, larger_with_key }));
        Self {
            key: attempt.spec().key.clone(),
            token: attempt.token(),
            fencing_number: attempt.fencing_number().and_then(NonZeroU64::new),
            quorum: attempt.round().quorum(),
            params,
            auto_renew: policy.auto_renew,
            deadline: cap_deadline(params.deadline(start), max_hold_end),
            extended_past_grants: false,
            keys_until: start.boot().plus(params.ttl()),
            possibly_set: attempt.possibly_applied(),
            confirmed: attempt.round().granted(),
            next_renewal: match policy.auto_renew {
                true if !has_larger => start.boot().plus(params.ttl() / 3),
                true => start.boot().plus(proof_delay(params.ttl())),
                false => BootTime::NEVER,
            },
            rare_state,
            rounds: 0,
            state: State::Held(None),
            to_raise_fence: NodeSet::EMPTY,
            event: None,
            confirmed_changed: false,
            release_kind: RequestKind::ReleaseAndNotify,
        }
    }

    /// The next step. Poll until `None`, then see [`wake_at`](Self::wake_at).
    pub fn poll(&mut self) -> Option<LeaseStep> {
        if let Some(request) = self.poll_request() {
            return Some(request);
        }
        if core::mem::take(&mut self.confirmed_changed) {
            return Some(LeaseStep::Confirmed(self.confirmed));
        }
        match self.event.take()? {
            PendingEvent::Renewed => Some(LeaseStep::Renewed(self.deadline)),
            PendingEvent::Unconfirmed { timed_out } => Some(LeaseStep::Unconfirmed(
                self.renewal().map_or_else(Vec::new, |renewal| renewal.round.report(timed_out)),
            )),
            PendingEvent::Lost(loss) => Some(LeaseStep::Lost(loss)),
            PendingEvent::Released => match core::mem::replace(&mut self.state, State::Ended) {
                State::Releasing(releasing) => Some(LeaseStep::Released(releasing.report())),
                State::Held(_) | State::Lost | State::Ended => None,
            },
        }
    }

    fn poll_request(&mut self) -> Option<LeaseStep> {
        let mut number_override = None;
        let (kind, nodes) = match &mut self.state {
            State::Held(Some(renewal)) if !renewal.to_renew.is_empty() => {
                (RequestKind::Renew, core::mem::take(&mut renewal.to_renew))
            }
            State::Held(_) if !self.to_raise_fence.is_empty() => {
                (RequestKind::RaiseFence, core::mem::take(&mut self.to_raise_fence))
            }
            State::Held(Some(renewal)) => {
                let (nodes, number) = renewal.next_reacquire()?;
                number_override = number;
                (RequestKind::Reacquire, nodes)
            }
            State::Releasing(releasing) if !releasing.to_release.is_empty() => {
                (RequestKind::Release, core::mem::take(&mut releasing.to_release))
            }
            State::Held(None) | State::Releasing(_) | State::Lost | State::Ended => return None,
        };
        Some(LeaseStep::Request { kind, ttl: self.renewal_ttl(), nodes, round: self.rounds, number_override })
    }

    /// Handles a node's reply to a request of this round. Poll next.
    pub fn on_reply(&mut self, node: NodeId, kind: RequestKind, round: u32, vote: Vote, now: DualTimestamp) {
        match kind {
            // If the deadline was extended, a late grant expires before it, so the node does not count as
            // confirmed.
            RequestKind::Acquire | RequestKind::Adopt => {
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

    /// Handles a wake-up. `absent_vote` returns the vote of a node that gets no request. Poll next.
    pub fn on_wake(&mut self, absent_vote: impl Fn(NodeId) -> Option<Vote>, now: DualTimestamp) {
        match &self.state {
            State::Held(renewal) => {
                if now.is_past(self.lost_signal_at()) {
                    self.lose(LossReason::Expired);
                } else if let Some(renewal) = renewal.as_ref().filter(|it| !it.is_settled) {
                    // A round that may still succeed is not replaced.
                    if now.is_due(renewal.settle_by()) {
                        self.settle_unconfirmed(now);
                    }
                } else if self.next_renewal.has_passed(now) {
                    self.start_renewal(self.params, absent_vote, now);
                }
            }
            State::Releasing(releasing) if now.is_due(releasing.settle_by) => {
                self.event = Some(PendingEvent::Released);
            }
            State::Releasing(_) | State::Lost | State::Ended => {}
        }
    }

    /// Starts one renewal with these parameters. Its outcome is `Renewed`, `Unconfirmed` or `Lost`. Poll
    /// next.
    pub fn extend(
        &mut self,
        params: LeaseParams,
        absent_vote: impl Fn(NodeId) -> Option<Vote>,
        now: DualTimestamp,
    ) {
        match &self.state {
            State::Held(_) if now.is_past(self.lost_signal_at()) => self.lose(LossReason::Expired),
            State::Held(renewal) => {
                // A running extension to a longer ttl is not shortened.
                let under_way = renewal.as_ref().filter(|it| !it.is_settled).map(|it| it.params);
                let longest = under_way.filter(|it| it.ttl() > params.ttl()).unwrap_or(params);
                self.start_renewal(longest, absent_vote, now);
            }
            State::Lost | State::Releasing(_) | State::Ended => {}
        }
    }

    /// Loses the lock, because the holder saw the deadline pass. Poll next.
    pub fn expire(&mut self) {
        if self.is_held() {
            self.lose(LossReason::Expired);
        }
    }

    /// Follows another roster, with this quorum and max ttl. Asks again in a running renewal: votes under the
    /// earlier one do not count. Poll next.
    pub fn follow_roster(
        &mut self,
        (quorum, max_ttl): (Quorum, Duration),
        absent_vote: impl Fn(NodeId) -> Option<Vote>,
        now: DualTimestamp,
    ) {
        self.quorum = quorum;
        self.params = self.params.at_most(max_ttl);
        // What nodes reported before about their larger fences no longer proves anything.
        self.quorum.all().iter().for_each(|node| self.forget_larger_fence(node));
        let running = self.renewal().filter(|renewal| !renewal.is_settled).map(|renewal| renewal.params);
        if let Some(params) = running {
            self.start_renewal(params.at_most(max_ttl), absent_vote, now);
        }
    }

    /// Withdraws the node's confirmation, because its clock jumped and its key may expire early. Its vote in
    /// a running renewal becomes `new_vote`. Poll next.
    pub fn revoke_votes_of(&mut self, node: NodeId, new_vote: Vote) {
        // What the node reported before about its larger fence no longer proves anything.
        self.forget_larger_fence(node);
        let State::Held(renewal) = &mut self.state else { return };
        if let Some(renewal) = renewal.as_mut().filter(|it| !it.is_settled) {
            renewal.round.replace_grant(node, new_vote);
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

    /// When to call [`on_wake`](Self::on_wake), if at all.
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

    /// When the lost signal is sent: 10 ms before the deadline, or a tenth of the ttl if that is less. So a
    /// holder that reacts to it has stopped by the deadline.
    fn lost_signal_at(&self) -> DualTimestamp {
        self.deadline.minus(LOST_SIGNAL_LEAD.min(self.params.ttl() / 10))
    }

    fn renewal(&self) -> Option<&Renewal> {
        match &self.state {
            State::Held(renewal) => renewal.as_deref(),
            State::Lost | State::Releasing(_) | State::Ended => None,
        }
    }

    fn max_hold_end(&self) -> Option<DualTimestamp> {
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
