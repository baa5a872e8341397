//! Renewals and extensions of a lease.

use alloc::boxed::Box;
use core::time::Duration;

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
    /// The deadline if this renewal succeeds, capped by the end of `max_hold_time`.
    fn capped_deadline(&self, max_hold_end: Option<DualTimestamp>) -> DualTimestamp {
        cap_deadline(self.params.deadline(self.start), max_hold_end)
    }

    /// The next nodes to send a `Reacquire` to, and a fencing number if it is not the lease's own.
    pub(super) fn next_reacquire(&mut self) -> Option<(NodeSet, Option<u64>)> {
        if !self.to_reacquire.is_empty() {
            return Some((core::mem::take(&mut self.to_reacquire), None));
        }
        // Reacquire with a larger fence's number only once that fence is harmless: no client won with it.
        let is_harmless = self.round.is_won() || enabled(Mutant::LargerFenceUnproved);
        let fences = self.larger_without_key.as_mut().filter(|_| is_harmless)?;
        fences.next_to_reacquire(self.round.not_held()).map(|(node, fence)| (node, Some(fence)))
    }

    pub(super) fn settle_by(&self) -> DualTimestamp {
        self.start.plus(self.params.attempt_timeout())
    }
}

impl Lease {
    /// The ttl with which the lock renews itself: that of its attempt, or the shortest max ttl in force since.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.params.ttl()
    }

    /// Handles a reply to an acquire request. A granted key counts only if it `lasts_until_deadline`.
    pub(super) fn on_acquire_reply(
        &mut self,
        node: NodeId,
        vote: &Vote,
        lasts_until_deadline: bool,
        now: DualTimestamp,
    ) {
        let before = self.confirmed;
        match vote {
            // The node has the key and a larger fence. It counts once a renewal has proved the fence
            // harmless.
            Vote::Fenced(node_number)
                if self.fencing_number().is_some_and(|number| *node_number > number) =>
            {
                self.possibly_set.insert(node);
                self.on_late_grant_with_larger_fence(node, *node_number, now);
            }
            Vote::Granted | Vote::Fenced(_) => {
                if lasts_until_deadline {
                    self.confirmed.insert(node);
                }
                self.possibly_set.insert(node);
            }
            Vote::HeldByOther { .. } => self.confirmed.remove(node),
            // The request may have been carried out, but does not count.
            Vote::OnProbation { .. } => self.possibly_set.insert(node),
            Vote::FencedOut { .. }
            | Vote::NotHeld
            | Vote::Inspected(_)
            | Vote::Excluded(_)
            | Vote::Unknown(_) => {}
        }
        // Raise smaller fences: the more nodes have the lock's number, the more of them may lose data without
        // harm.
        if let (Vote::Fenced(node_number), Some(number)) = (vote, self.fencing_number())
            && *node_number < number
            && self.is_held()
        {
            self.to_raise_fence.insert(node);
        }
        self.confirmed_changed |= self.confirmed != before && self.is_held();
    }

    /// Handles a reply to a request to set a missing key again.
    pub(super) fn on_reacquire_reply(&mut self, node: NodeId, round: u32, vote: &Vote, now: DualTimestamp) {
        // The key of an earlier round may expire before the deadline, which has moved since.
        let is_of_this_round = round == self.rounds || enabled(Mutant::ReacquiredInAnyRound);
        match vote {
            Vote::FencedOut { fence } if is_of_this_round => self.on_reacquire_fenced_out(node, *fence, now),
            Vote::Granted if is_of_this_round => self.on_reacquired(node),
            _ => {}
        }
        let covers_deadline = self.renewal().is_none_or(|renewal| self.is_deadline_covered_by(renewal));
        self.on_acquire_reply(
            node,
            vote,
            is_of_this_round && covers_deadline || enabled(Mutant::ReacquiredGrantNeverExpires),
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
        // A renewal counts only if it completes before the old deadline. Past it, another client may have
        // acquired and released the lock in between, although every node then reports the lease's key.
        if now.is_past(self.deadline)
            && !enabled(Mutant::LateRenewal)
            && !enabled(Mutant::ResurrectingRenewal)
        {
            self.lose(LossReason::Expired);
            return;
        }
        let vote = self.adjust_vote_for_larger_fence(node, vote, now);
        let (deadline, max_hold_end) = (self.deadline, self.max_hold_end());
        let State::Held(Some(renewal)) = &mut self.state else { return };
        let was_won = renewal.round.is_won();
        match vote {
            // The key is set again at once, but this node does not count in this round: only nodes that had
            // the key all the time do.
            Vote::NotHeld => {
                self.confirmed.remove(node);
                self.confirmed_changed = true;
                if renewal.larger_without_key.as_ref().is_none_or(|fences| !fences.was_reported_before(node))
                {
                    renewal.to_reacquire.insert(node);
                }
                self.possibly_set.insert(node);
                self.keys_until = self.keys_until.max(now.boot().plus(renewal.params.ttl()));
            }
            Vote::HeldByOther { .. } | Vote::FencedOut { .. } => {
                self.confirmed.remove(node);
                self.confirmed_changed = true;
            }
            Vote::Granted if was_won && !deadline.is_after(renewal.capped_deadline(max_hold_end)) => {
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
        } else if self.quorum.is_blocked_by(renewal.round.held_or_fenced_out().len())
            || renewal.is_fenced_out()
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
        let larger_without_key = match &mut self.state {
            State::Held(Some(last)) => {
                last.larger_without_key.take().and_then(|fences| fences.into_next_round())
            }
            _ => None,
        };
        self.keys_until = self.keys_until.max(now.boot().plus(params.ttl()));
        let is_out_of_reach = round.is_out_of_reach();
        self.state = State::Held(Some(Box::new(Renewal {
            params,
            start: now,
            is_settled: false,
            to_renew: round.requested(),
            to_reacquire: NodeSet::EMPTY,
            round,
            larger_without_key,
        })));
        if is_out_of_reach {
            // Send the requests all the same: the reachable nodes keep their keys, and the other nodes may
            // come back.
            self.settle_unconfirmed(now);
        }
    }

    fn settle_renewed(&mut self) {
        let max_hold_end = self.max_hold_end();
        let nodes_with_harmless_fence = self.mark_reported_fences_harmless();
        let pause = self.renewal().map_or(Duration::ZERO, |it| self.pause_after_round(it.params.ttl()));
        let State::Held(Some(renewal)) = &mut self.state else { return };
        renewal.is_settled = true;
        // Only the sets of nodes matter from here on. The votes take half the memory of an idle lease, and a
        // client may have thousands.
        renewal.round.forget_votes();
        let deadline = renewal.capped_deadline(max_hold_end);
        let next = renewal.start.boot().plus(pause);
        // The deadline never moves back, because keys with the longer ttl still live. Then the confirmed
        // nodes are those with the longer ttl, not those that confirmed the shorter ttl.
        if !self.deadline.is_after(deadline) {
            self.extended_past_grants |= deadline.is_after(self.deadline);
            self.deadline = deadline;
            self.confirmed = renewal.round.granted().or(nodes_with_harmless_fence);
            self.confirmed_changed = true;
        }
        let is_complete = renewal.round.is_complete();
        self.schedule_renewal(next);
        self.event = Some(PendingEvent::Renewed);
        if is_complete {
            self.drop_finished_renewal();
        }
    }

    /// Drops a successful renewal when all nodes have voted, to save memory. Later
    /// requests and replies still need it in three cases: its parameters differ from the lease's, its deadline
    /// is shorter, or nodes are being reacquired, which may take several requests.
    fn drop_finished_renewal(&mut self) {
        let State::Held(Some(renewal)) = &self.state else { return };
        let no_key_missing = renewal.round.is_won() && renewal.round.not_held().is_empty();
        if no_key_missing && renewal.params == self.params && self.is_deadline_covered_by(renewal) {
            self.state = State::Held(None);
        }
    }

    /// Whether keys of this renewal live until the lease's deadline.
    pub(super) fn is_deadline_covered_by(&self, renewal: &Renewal) -> bool {
        !self.deadline.is_after(renewal.capped_deadline(self.max_hold_end()))
    }

    /// Schedules the next renewal for this time, if none is due earlier. Poll next.
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
        let timed_out = now.is_due(renewal.settle_by());
        let pause = (self.params.ttl() / 10).max(MIN_RETRY_PAUSE);
        self.schedule_renewal(now.boot().plus(pause));
        self.event = Some(PendingEvent::Unconfirmed { timed_out });
    }
}

const MIN_RETRY_PAUSE: Duration = Duration::from_millis(20);
