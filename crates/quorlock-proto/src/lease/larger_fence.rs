//! Larger fences: nodes whose fence is above the lease's number, and how the lease counts on them again.
//!
//! Each node chooses a number for its grant. The lock's number is the largest of the q grants that won it, so
//! a later grant of the same attempt can have a larger one.
//!
//! A larger fence may belong to a later holder. Then the lock has passed on and is lost. Or no client won
//! with it: a late grant of this lease or a failed attempt of another client left it. If the lease did not
//! count on such a node again, the loss of one more node could end the lock.
//!
//! A renewal distinguishes the two cases by quorum intersection. A client that won with a larger number has
//! this number as the fence of q nodes, and any q nodes include one of them. Suppose that *after* a node
//! reported the larger fence, q nodes have the lease's key and no larger fence. Then no client won with a
//! number up to the reported one, and the fence is *harmless*. A node that still has the key counts again. A
//! node that lost the key gets a `Reacquire` request with the reported number. If the node's fence has grown
//! since, the new fence must be proved harmless by another renewal.
//!
//! If so many nodes lack the key and have a larger fence that fewer than q others are left, no renewal can
//! prove anything, and none of those nodes accepts the key again. Then the lock is lost.

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
    /// Reported, and not proved harmless yet.
    reported: Vec<LargerFence>,
    /// Proved harmless: no client won with them.
    harmless: Vec<LargerFence>,
}

/// Larger fences on nodes without the lease's key, by the round in which they were reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LargerFencesWithoutKey {
    /// Reported in the round before. They are harmless if this round is won.
    previous_round: Vec<LargerFence>,
    /// Reported in this round.
    this_round: Vec<LargerFence>,
    /// How many rounds preceded this round without a pause, because a node reported a larger fence in each.
    consecutive_rounds: u8,
    /// Nodes whose fence is the maximum, by a reply in this round. No `Reacquire` can succeed there.
    at_maximum: NodeSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LargerFence {
    /// One node, as a set, because the models permute sets of nodes.
    node_set: NodeSet,
    fence: u64,
    /// The lease's round in which the fence was reported; 0 for the attempt.
    reported_in_round: u32,
    /// Whether a `Reacquire` with this fence as the number was sent to the node.
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

    /// Whether this is a fence of the node, and at least as large as `fence`.
    fn covers(&self, node: NodeId, fence: u64) -> bool {
        self.node_set.contains(node) && self.fence >= fence
    }
}

impl LargerFencesWithKey {
    /// Collects the larger fences from the round that won the lock. There, a late grant with a larger number
    /// counts as `FencedOut`.
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

    /// Records a fence that the node reported in this round. Returns whether it is larger than the reported
    /// one.
    fn record_if_new(&mut self, node: NodeId, fence: u64, round: u32) -> bool {
        if self.reported.iter().any(|larger| larger.covers(node, fence)) {
            return false;
        }
        self.forget(node);
        self.reported.push(LargerFence::new(node, fence, round));
        true
    }

    /// Marks the fences as harmless that these nodes reported before this round. Returns the nodes of these
    /// fences.
    fn mark_harmless(&mut self, nodes: NodeSet, round: u32) -> NodeSet {
        let is_harmless = |larger: &LargerFence| {
            larger.reported_in_round < round && larger.node_set.without(nodes).is_empty()
        };
        let harmless: Vec<LargerFence> = self.reported.iter().copied().filter(is_harmless).collect();
        self.reported.retain(|larger| !is_harmless(larger));
        let marked_nodes = harmless.iter().fold(NodeSet::EMPTY, |set, larger| set.or(larger.node_set));
        self.harmless.extend(harmless);
        marked_nodes
    }
}

impl LargerFencesWithoutKey {
    /// The state for the next round; `None` if no node reported a larger fence in this one.
    pub(super) fn into_next_round(self) -> Option<Box<Self>> {
        let rounds = self.consecutive_rounds.saturating_add(1);
        let next = Self { previous_round: self.this_round, consecutive_rounds: rounds, ..Self::default() };
        (!next.previous_round.is_empty()).then(|| Box::new(next))
    }

    /// The nodes that reported a larger fence in this round or the one before.
    fn nodes(&self) -> NodeSet {
        self.previous_round
            .iter()
            .chain(&self.this_round)
            .fold(self.at_maximum, |set, larger| set.or(larger.node_set))
    }

    /// Whether the node reported a larger fence in the round before.
    pub(super) fn was_reported_before(&self, node: NodeId) -> bool {
        self.previous_round.iter().any(|larger| larger.node_set.contains(node))
    }

    /// Records a reported fence. Returns whether another round must follow at once.
    ///
    /// A node that rejects the number that it reported itself gets no second request. After
    /// [`MAX_CONSECUTIVE_RENEWALS`] rounds, the next one comes after a pause, because attempts of other
    /// clients may raise the fences forever.
    fn record_for_next_round(&mut self, node: NodeId, fence: u64, round: u32) -> bool {
        if self.previous_round.iter().chain(&self.this_round).any(|larger| larger.covers(node, fence)) {
            return false;
        }
        // Outside tests, no mutant is enabled and the fence is always one of this round.
        let fences = if enabled(Mutant::LargerFenceUnproved) {
            &mut self.previous_round
        } else {
            &mut self.this_round
        };
        fences.push(LargerFence::new(node, fence, round));
        self.consecutive_rounds < MAX_CONSECUTIVE_RENEWALS
    }

    /// Whether another round must follow at once.
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
    /// Whether so many nodes lack the key and have a larger fence that no quorum is left.
    pub(super) fn is_fenced_out(&self) -> bool {
        let nodes = self.larger_without_key.as_deref().map_or(NodeSet::EMPTY, LargerFencesWithoutKey::nodes);
        self.round.quorum().is_blocked_by(nodes.and(self.round.not_held()).len())
    }
}

impl Lease {
    /// Handles a late grant with a larger number: the node has the lease's key and a larger fence.
    pub(super) fn on_late_grant_with_larger_fence(&mut self, node: NodeId, fence: u64, now: DualTimestamp) {
        let round = self.rounds;
        if self.is_held()
            && self.rare_state.get_or_insert_default().larger_with_key.record_if_new(node, fence, round)
        {
            self.renew_by(now.boot().plus(proof_delay(self.params.ttl())));
        }
    }

    /// Turns a renewal vote `FencedOut` into a grant if the node's larger fence is harmless. The node has
    /// renewed the key all the same.
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
        let is_harmless =
            |fences: &LargerFencesWithKey| fences.harmless.iter().any(|larger| larger.covers(node, fence));
        if is_harmless(fences) || enabled(Mutant::LargerFenceUnproved) {
            return Vote::Granted;
        }
        if fences.record_if_new(node, fence, round) {
            self.renew_by(now.boot().plus(proof_delay(self.params.ttl())));
        } else if is_won && !fences.mark_harmless([node].into_iter().collect(), round).is_empty() {
            return Vote::Granted;
        }
        vote
    }

    /// Marks the larger fences as harmless, after a won round, that nodes with the key reported before the
    /// round. Returns their nodes.
    pub(super) fn mark_reported_fences_harmless(&mut self) -> NodeSet {
        let (round, fenced_out) =
            (self.rounds, self.renewal().map_or(NodeSet::EMPTY, |it| it.round.held_or_fenced_out()));
        self.rare_state
            .as_mut()
            .map_or(NodeSet::EMPTY, |it| it.larger_with_key.mark_harmless(fenced_out, round))
    }

    /// Forgets the larger fence of a node whose reply showed none.
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
        let is_at_maximum = fence >= MAX_FENCING_NUMBER || enabled(Mutant::FencedOutForever);
        let needs_another_round = !is_at_maximum && fences.record_for_next_round(node, fence, round);
        if is_at_maximum {
            fences.at_maximum.insert(node);
        }
        if renewal.is_fenced_out() {
            self.lose(LossReason::TakenByOthers);
        } else if needs_another_round {
            self.schedule_renewal(now.boot());
        }
    }

    /// Handles a successful `Reacquire`. If it was sent with a reported fence as the number, that fence is
    /// harmless from now on, so that the node also counts in the next renewals.
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

    /// The pause between this round's start and the next round. The pause is shorter if a new larger fence
    /// must be proved harmless.
    pub(super) fn pause_after_round(&self, ttl: Duration) -> Duration {
        let Some(renewal) = self.renewal() else { return ttl / 3 };
        let is_new = |larger: &LargerFence| larger.reported_in_round >= self.rounds;
        if renewal.larger_without_key.as_deref().is_some_and(LargerFencesWithoutKey::needs_another_round) {
            Duration::ZERO
        } else if self.rare_state.as_ref().is_some_and(|it| it.larger_with_key.reported.iter().any(is_new)) {
            proof_delay(ttl)
        } else {
            ttl / 3
        }
    }
}

/// How many rounds may follow each other without a pause.
const MAX_CONSECUTIVE_RENEWALS: u8 = 16;

/// The delay before the renewal that proves a larger fence on a node with the key harmless. If the nodes'
/// clocks differ, every lock may have such a fence. A lock that is released within the delay needs no extra
/// renewal.
pub(super) fn proof_delay(ttl: Duration) -> Duration {
    (ttl / 30).min(Duration::from_millis(100))
}
