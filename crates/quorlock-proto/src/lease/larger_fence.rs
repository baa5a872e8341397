//! Nodes with a larger fence than the lease's number, and how the lease counts on them again.
//!
//! The larger fence may belong to a later holder. Then the lock has passed on and is lost. Or no client won
//! with it: a late grant of this lease or a failed attempt of another client left it. If the lease did not
//! count on such a node again, the loss of one more node could end the lock.
//!
//! A renewal shows which case it is, by quorum intersection. A client that won with a larger number has it on
//! q nodes, so on at least one node of any q. So no client won with it if q nodes have the lease's key and no
//! fence above its number, *after* a node reported the larger number. The fence is then *verified*, up to the
//! reported number. A node that still has the key counts again. A node that lost the key gets a `Reacquire`
//! request with the reported number. A still larger number must be verified again.
//!
//! If q nodes with the key are out of reach because too many lack it and have a larger fence, no renewal can
//! verify anything, and none of those nodes accepts the key again. Then the lock is lost.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::renewal::Renewal;
use super::{Lease, LossReason, State};
use crate::fence::MAX_FENCING_NUMBER;
use crate::mutant::{Mutant, enabled};
use crate::quorum::{NodeId, NodeSet};
use crate::round::Round;
use crate::time::DualTimestamp;
use crate::vote::Vote;

/// Larger fences on nodes that have the lease's key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LargerFencesWithKey {
    reported: Vec<LargerFence>,
    /// Larger fences with which no client won.
    harmless: Vec<LargerFence>,
}

/// Larger fences on nodes without the lease's key, by the round in which they were reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LargerFencesWithoutKey {
    previous_round: Vec<LargerFence>,
    this_round: Vec<LargerFence>,
    /// How many rounds without a pause led to this round, because a node reported a larger fence in each.
    consecutive_rounds: u8,
    /// Nodes that reported the maximum number in this round, so that no number can go past it.
    at_maximum: NodeSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LargerFence {
    /// One node, as a set, because the models permute sets of nodes.
    node_set: NodeSet,
    fence: u64,
    /// The round in which it was reported.
    reported_in_round: u32,
    /// Whether a `Reacquire` with this number was sent to the node; never if the node has the key.
    was_reacquire_sent: bool,
}

impl LargerFence {
    fn new(node: NodeId, fence: u64, round: u32) -> Self {
        Self {
            node_set: [node].into_iter().collect(),
            fence,
            reported_in_round: round,
            was_reacquire_sent: false,
        }
    }

    fn covers(&self, node: NodeId, fence: u64) -> bool {
        self.node_set.contains(node) && self.fence >= fence
    }
}

impl LargerFencesWithKey {
    /// Collects the larger fences among the votes on the lease's acquire requests.
    pub(super) fn from_acquire_votes(round: &Round) -> Self {
        let larger = |node: NodeId| match round.vote(node) {
            Vote::FencedOut { fence } => Some(LargerFence::new(node, *fence, 0)),
            _ => None,
        };
        Self {
            reported: round.held_or_fenced_out().iter().filter_map(larger).collect(),
            harmless: Vec::new(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.reported.is_empty() && self.harmless.is_empty()
    }

    fn forget(&mut self, node: NodeId) {
        self.reported.retain(|larger| !larger.node_set.contains(node));
        self.harmless.retain(|larger| !larger.node_set.contains(node));
    }

    /// Records a fence that the node reported in this round. Returns whether it is new.
    fn record(&mut self, node: NodeId, fence: u64, round: u32) -> bool {
        if self.reported.iter().any(|larger| larger.covers(node, fence)) {
            return false;
        }
        self.forget(node);
        self.reported.push(LargerFence::new(node, fence, round));
        true
    }

    /// Verifies the fences that these nodes reported before this round. Returns those nodes.
    fn mark_harmless(&mut self, nodes: NodeSet, round: u32) -> NodeSet {
        let is_verified = |larger: &LargerFence| {
            larger.reported_in_round < round && larger.node_set.without(nodes).is_empty()
        };
        let verified: Vec<LargerFence> = self.reported.iter().copied().filter(is_verified).collect();
        self.reported.retain(|larger| !is_verified(larger));
        let nodes_verified = verified.iter().fold(NodeSet::EMPTY, |set, larger| set.or(larger.node_set));
        self.harmless.extend(verified);
        nodes_verified
    }
}

impl LargerFencesWithoutKey {
    /// The state for the next round, if anything is left to verify.
    pub(super) fn into_next_round(self) -> Option<Box<Self>> {
        let rounds = self.consecutive_rounds.saturating_add(1);
        let next = Self { previous_round: self.this_round, consecutive_rounds: rounds, ..Self::default() };
        (!next.previous_round.is_empty()).then(|| Box::new(next))
    }

    /// The nodes that reported a larger fence.
    fn nodes(&self) -> NodeSet {
        self.previous_round
            .iter()
            .chain(&self.this_round)
            .fold(self.at_maximum, |set, larger| set.or(larger.node_set))
    }

    pub(super) fn was_reported_before(&self, node: NodeId) -> bool {
        self.previous_round.iter().any(|larger| larger.node_set.contains(node))
    }

    /// Records a reported fence. Returns whether another round must follow at once. A node that rejects the
    /// number that it reported itself gets no second request. A limit ends renewals that other clients'
    /// attempts keep outnumbering.
    fn record(&mut self, node: NodeId, fence: u64, round: u32) -> bool {
        if self.previous_round.iter().chain(&self.this_round).any(|larger| larger.covers(node, fence)) {
            return false;
        }
        let fences = if enabled(Mutant::LargerFenceUnverified) {
            &mut self.previous_round
        } else {
            &mut self.this_round
        };
        fences.push(LargerFence::new(node, fence, round));
        self.consecutive_rounds < MAX_CONSECUTIVE_RENEWALS
    }

    fn needs_another_round(&self) -> bool {
        !self.this_round.is_empty() && self.consecutive_rounds < MAX_CONSECUTIVE_RENEWALS
    }

    /// The next of the `missing` nodes that gets a `Reacquire`, and the number that it reported.
    pub(super) fn next_to_reacquire(&mut self, missing: NodeSet) -> Option<(NodeSet, u64)> {
        let is_due = |larger: &&mut LargerFence| {
            !larger.was_reacquire_sent && larger.node_set.without(missing).is_empty()
        };
        let next = self.previous_round.iter_mut().find(is_due)?;
        next.was_reacquire_sent = true;
        Some((next.node_set, next.fence))
    }
}

impl Renewal {
    /// Whether too many nodes lack the key and have a larger fence, so that no quorum is left.
    pub(super) fn is_fenced_out(&self) -> bool {
        let nodes = self.larger_without_key.as_deref().map_or(NodeSet::EMPTY, LargerFencesWithoutKey::nodes);
        self.round.quorum().is_out_of_reach(nodes.and(self.round.not_held()).len())
    }
}

impl Lease {
    /// Handles a node that has the lease's key and a larger fence: the grant was late, or the node's clock is
    /// ahead.
    pub(super) fn on_late_grant_with_larger_fence(&mut self, node: NodeId, fence: u64, now: DualTimestamp) {
        let round = self.rounds;
        if self.is_held()
            && self.rare_state.get_or_insert_default().larger_with_key.record(node, fence, round)
        {
            self.renew_by(now.boot().plus(verification_delay(self.params.ttl())));
        }
    }

    /// Counts a renewal vote as a grant if the node's larger fence is verified.
    pub(super) fn adjust_vote_for_larger_fence(
        &mut self,
        node: NodeId,
        vote: Vote,
        now: DualTimestamp,
    ) -> Vote {
        let Vote::FencedOut { fence } = vote else {
            if matches!(vote, Vote::Granted | Vote::NotHeld | Vote::HeldByOther { .. }) {
                self.forget_larger_fence(node);
            }
            return vote;
        };
        if enabled(Mutant::FencedOutForever) {
            return vote;
        }
        let is_won = self.renewal().is_some_and(|renewal| renewal.round.is_won());
        let (round, fences) = (self.rounds, &mut self.rare_state.get_or_insert_default().larger_with_key);
        let is_verified =
            |fences: &LargerFencesWithKey| fences.harmless.iter().any(|larger| larger.covers(node, fence));
        if is_verified(fences) || enabled(Mutant::LargerFenceUnverified) {
            return Vote::Granted;
        }
        if fences.record(node, fence, round) {
            self.renew_by(now.boot().plus(verification_delay(self.params.ttl())));
        } else if is_won && !fences.mark_harmless([node].into_iter().collect(), round).is_empty() {
            return Vote::Granted;
        }
        vote
    }

    /// Verifies, after a won round, the larger fences that nodes with the key reported before it.
    pub(super) fn mark_reported_fences_harmless(&mut self) -> NodeSet {
        let (round, held) =
            (self.rounds, self.renewal().map_or(NodeSet::EMPTY, |it| it.round.held_or_fenced_out()));
        self.rare_state.as_mut().map_or(NodeSet::EMPTY, |it| it.larger_with_key.mark_harmless(held, round))
    }

    /// Forgets the node's larger fence.
    pub(super) fn forget_larger_fence(&mut self, node: NodeId) {
        if let Some(rare_state) = &mut self.rare_state {
            rare_state.larger_with_key.forget(node);
            if rare_state.larger_with_key.is_empty() && rare_state.max_hold_end.is_none() {
                self.rare_state = None;
            }
        }
    }

    /// Handles a node that lacks the key and rejected a `Reacquire` because of its larger fence.
    pub(super) fn on_reacquire_fenced_out(&mut self, node: NodeId, fence: u64, now: DualTimestamp) {
        let round = self.rounds;
        let State::Held(Some(renewal)) = &mut self.state else { return };
        let fences = renewal.larger_without_key.get_or_insert_default();
        let is_last = fence >= MAX_FENCING_NUMBER || enabled(Mutant::FencedOutForever);
        let needs_another_round = !is_last && fences.record(node, fence, round);
        if is_last {
            fences.at_maximum.insert(node);
        }
        if renewal.is_fenced_out() {
            self.lose(LossReason::TakenByOthers);
        } else if needs_another_round {
            self.schedule_renewal(now.boot());
        }
    }

    /// Handles a successful `Reacquire`. The node counts under the number that it reported, too.
    pub(super) fn on_reacquired(&mut self, node: NodeId) {
        let State::Held(Some(renewal)) = &self.state else { return };
        let fences = renewal.larger_without_key.as_deref().map_or(&[][..], |larger| &larger.previous_round);
        let reacquired = fences
            .iter()
            .rfind(|larger| larger.was_reacquire_sent && larger.node_set.contains(node))
            .copied();
        if let Some(larger) = reacquired {
            self.rare_state.get_or_insert_default().larger_with_key.harmless.push(larger);
        }
    }

    /// How long after this round the next begins; sooner if a new larger fence must be verified.
    pub(super) fn pause_after_round(&self, ttl: Duration) -> Duration {
        let Some(renewal) = self.renewal() else { return ttl / 3 };
        let is_new = |larger: &LargerFence| larger.reported_in_round >= self.rounds;
        if renewal.larger_without_key.as_deref().is_some_and(LargerFencesWithoutKey::needs_another_round) {
            Duration::ZERO
        } else if self.rare_state.as_ref().is_some_and(|it| it.larger_with_key.reported.iter().any(is_new)) {
            verification_delay(ttl)
        } else {
            ttl / 3
        }
    }
}

/// How many renewals may follow each other without a pause.
const MAX_CONSECUTIVE_RENEWALS: u8 = 16;

/// The delay until a renewal verifies a larger fence on a node with the key. If clocks differ, every lock may
/// have such a fence; the delay spares locks that are held briefly the extra renewal.
pub(super) fn verification_delay(ttl: Duration) -> Duration {
    (ttl / 30).min(Duration::from_millis(100))
}
