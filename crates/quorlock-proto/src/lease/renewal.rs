//! How a lease is kept alive, and what its nodes say to that.

use std::time::Duration;

use super::larger_fence::LargerFencesWithoutKey;
use super::{Lease, LossReason, PendingEvent, State, cap_deadline};
use crate::lease_params::LeaseParams;
use crate::mutant::{Mutant, enabled};
use crate::quorum::{NodeId, NodeSet};
use crate::round::Round;
use crate::time::{BootTime, DualTimestamp};
use crate::vote::Vote;

/// One round of a renewal or an extension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Renewal {
    pub(super) params: LeaseParams,
    pub(super) start: DualTimestamp,
    pub(super) is_settled: bool,
    pub(super) round: Round,
    pub(super) larger_without_key: Option<Box<LargerFencesWithoutKey>>,
    pub(super) to_renew: NodeSet,
    to_reacquire: NodeSet,
}

impl Renewal {
    /// Until when the lock is good if it gets through, but not past the lease's end.
    fn capped_deadline(&self, end: Option<DualTimestamp>) -> DualTimestamp {
        cap_deadline(self.params.deadline(self.start), end)
    }

    /// The next nodes to take the key again, and in the name of which number, if not of our own.
    pub(super) fn next_reacquire(&mut self) -> Option<(NodeSet, Option<u64>)> {
        if !self.to_reacquire.is_empty() {
            return Some((std::mem::take(&mut self.to_reacquire), None));
        }
        // Past a larger number once it is known that nobody was given it.
        let is_proved = self.round.is_won() || enabled(Mutant::LargerFenceUnverified);
        let told = self.larger_without_key.as_mut().filter(|_| is_proved)?;
        told.next_to_reacquire(self.round.not_held()).map(|(node, fence)| (node, Some(fence)))
    }

    pub(super) fn settle_by(&self) -> DualTimestamp {
        self.start.plus(self.params.attempt_timeout())
    }
}

impl Lease {
    /// A key was given, or not; whether it is good for as long as the lock.
    pub(super) fn on_acquire_reply(
        &mut self,
        node: NodeId,
        vote: &Vote,
        lasts_until_deadline: bool,
        now: DualTimestamp,
    ) {
        let before = self.confirmed;
        match vote {
            // Ours, but whether it counts is for the next renewal to tell.
            Vote::Fenced(theirs) if self.fencing_number().is_some_and(|ours| *theirs > ours) => {
                self.possibly_set.insert(node);
                self.on_late_grant_with_larger_fence(node, *theirs, now);
            }
            Vote::Granted | Vote::Fenced(_) => {
                if lasts_until_deadline {
                    self.confirmed.insert(node);
                }
                self.possibly_set.insert(node);
            }
            Vote::HeldByOther { .. } => self.confirmed.remove(node),
            // It may be done, and does not count.
            Vote::OnProbation { .. } => self.possibly_set.insert(node),
            Vote::FencedOut { .. }
            | Vote::NotHeld
            | Vote::Inspected(_)
            | Vote::Excluded(_)
            | Vote::Unknown(_) => {}
        }
        // The more nodes have our number, the more of them may forget it.
        if let (Vote::Fenced(theirs), Some(ours)) = (vote, self.fencing_number())
            && *theirs < ours
            && self.is_held()
        {
            self.to_raise_fence.insert(node);
        }
        self.confirmed_changed |= self.confirmed != before && self.is_held();
    }

    /// A key that had gone missing was taken again, or not.
    pub(super) fn on_reacquire_reply(&mut self, node: NodeId, round: u32, vote: &Vote, now: DualTimestamp) {
        // That of an earlier round may leave a key that ends before the deadline, which has moved since.
        let is_of_this_round = round == self.rounds || enabled(Mutant::ReacquiredInAnyRound);
        match vote {
            Vote::FencedOut { fence } if is_of_this_round => self.on_reacquire_fenced_out(node, *fence, now),
            Vote::Granted if is_of_this_round => self.on_reacquired(node),
            _ => {}
        }
        let is_lasting = self.renewal().is_none_or(|renewal| self.is_deadline_covered_by(renewal));
        self.on_acquire_reply(
            node,
            vote,
            is_of_this_round && is_lasting || enabled(Mutant::ReacquiredGrantNeverExpires),
            now,
        );
    }

    pub(super) fn on_raise_fence_reply(&mut self, node: NodeId, vote: &Vote) {
        if matches!(vote, Vote::HeldByOther { .. } | Vote::NotHeld) && self.confirmed.contains(node) {
            self.confirmed.remove(node);
            self.confirmed_changed |= self.is_held();
        }
    }

    pub(super) fn on_renew_reply(&mut self, node: NodeId, vote: Vote, now: DualTimestamp) {
        if !self.is_held() {
            return;
        }
        // A renewal counts only if it completes before the old deadline. Past it somebody else may have held and
        // freed the lock, so that every key says "yours" and the lock was not ours all the time.
        if now.is_past(self.deadline)
            && !enabled(Mutant::LateRenewal)
            && !enabled(Mutant::ResurrectingRenewal)
        {
            self.lose(LossReason::Expired);
            return;
        }
        let vote = self.adjust_vote_for_larger_fence(node, vote, now);
        let (deadline, end) = (self.deadline, self.end());
        let State::Held(Some(renewal)) = &mut self.state else { return };
        let was_won = renewal.round.is_won();
        match vote {
            // Taken again at once, but a retaken node does not count in this round: what counts is that q nodes
            // had our key all the time.
            Vote::NotHeld => {
                self.confirmed.remove(node);
                self.confirmed_changed = true;
                if renewal.larger_without_key.as_ref().is_none_or(|told| !told.was_reported_before(node)) {
                    renewal.to_reacquire.insert(node);
                }
                self.possibly_set.insert(node);
                self.keys_until = self.keys_until.max(now.boot().plus(renewal.params.ttl()));
            }
            Vote::HeldByOther { .. } | Vote::FencedOut { .. } => {
                self.confirmed.remove(node);
                self.confirmed_changed = true;
            }
            Vote::Granted if was_won && !deadline.is_after(renewal.capped_deadline(end)) => {
                self.confirmed.insert(node);
                self.confirmed_changed = true;
            }
            Vote::Granted
            | Vote::Fenced(_)
            | Vote::OnProbation { .. }
            | Vote::Inspected(_)
            | Vote::Excluded(_)
            | Vote::Unknown(_) => {}
        }
        renewal.round.record(node, vote);
        if renewal.round.is_won() && !was_won {
            self.settle_renewed();
        } else if self.quorum.is_out_of_reach(renewal.round.held_by_others().len()) || renewal.is_fenced_out()
        {
            self.lose(LossReason::TakenByOthers);
        } else if renewal.round.is_complete() && !renewal.is_settled {
            self.settle_unconfirmed(now);
        } else if renewal.round.is_complete() {
            self.drop_finished_renewal();
        }
    }

    pub(super) fn start_renewal(
        &mut self,
        params: LeaseParams,
        absent_vote: impl Fn(NodeId) -> Option<Vote>,
        now: DualTimestamp,
    ) {
        self.rounds = self.rounds.wrapping_add(1);
        let round = Round::new(self.quorum, absent_vote);
        let outranked = match &mut self.state {
            State::Held(Some(last)) => last.larger_without_key.take().and_then(|told| told.into_next_round()),
            _ => None,
        };
        self.keys_until = self.keys_until.max(now.boot().plus(params.ttl()));
        let is_hopeless = round.is_out_of_reach();
        self.state = State::Held(Some(Box::new(Renewal {
            params,
            start: now,
            is_settled: false,
            to_renew: round.requested(),
            to_reacquire: NodeSet::EMPTY,
            round,
            larger_without_key: outranked,
        })));
        if is_hopeless {
            // Those that can be asked are asked all the same: their keys live on, and the rest may come back.
            self.settle_unconfirmed(now);
        }
    }

    fn settle_renewed(&mut self) {
        let end = self.end();
        let cleared = self.verify_reported_fences();
        let pause = self.renewal().map_or(Duration::ZERO, |it| self.pause_after_round(it.params.ttl()));
        let State::Held(Some(renewal)) = &mut self.state else { return };
        renewal.is_settled = true;
        // What counts from here on are the sets of nodes. The votes are half of what a lease weighs that is not being
        // renewed, and leases come by the thousand.
        renewal.round.forget_votes();
        let deadline = renewal.capped_deadline(end);
        let next = renewal.start.boot().plus(pause);
        // Never shorter: keys that were asked to live longer still do. Then the lock stands on those, and not on the
        // nodes that confirmed the shorter time.
        if !self.deadline.is_after(deadline) {
            self.extended_past_grants |= deadline.is_after(self.deadline);
            self.deadline = deadline;
            self.confirmed = renewal.round.granted().or(cleared);
            self.confirmed_changed = true;
        }
        let is_complete = renewal.round.is_complete();
        self.schedule_renewal(next);
        self.event = Some(PendingEvent::Renewed);
        if is_complete {
            self.drop_finished_renewal();
        }
    }

    /// All have answered a renewal that got through. What is asked from here on, and what is made of the answers, is
    /// the same without it, unless it was for other terms than the lease has, for less than it had already, or nodes are
    /// being retaken, which may take more than one question.
    fn drop_finished_renewal(&mut self) {
        let State::Held(Some(renewal)) = &self.state else { return };
        let is_whole = renewal.round.is_won() && renewal.round.not_held().is_empty();
        if is_whole && renewal.params == self.params && self.is_deadline_covered_by(renewal) {
            self.state = State::Held(None);
        }
    }

    /// Whether keys of this renewal live for as long as the lock.
    pub(super) fn is_deadline_covered_by(&self, renewal: &Renewal) -> bool {
        !self.deadline.is_after(renewal.capped_deadline(self.end()))
    }

    /// Renews itself at this time, if not sooner. Poll next.
    pub fn renew_by(&mut self, at: BootTime) {
        if self.is_held() {
            self.schedule_renewal(self.next_renewal.min(at));
        }
    }

    pub(super) fn schedule_renewal(&mut self, next: BootTime) {
        if self.auto_renew {
            self.next_renewal = next;
        }
    }

    pub(super) fn settle_unconfirmed(&mut self, now: DualTimestamp) {
        let State::Held(Some(renewal)) = &mut self.state else { return };
        renewal.is_settled = true;
        let ran_out = now.is_due(renewal.settle_by());
        let pause = (self.params.ttl() / 10).max(MIN_RETRY_PAUSE);
        self.schedule_renewal(now.boot().plus(pause));
        self.event = Some(PendingEvent::Unconfirmed { timed_out: ran_out });
    }
}

const MIN_RETRY_PAUSE: Duration = Duration::from_millis(20);
