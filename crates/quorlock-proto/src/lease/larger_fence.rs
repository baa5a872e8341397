//! Nodes with a larger number than a lease's own, and the way back to count on them.
//!
//! The larger number may be a later holder's: then the lock has passed on, and nothing may bring it back. Or no client
//! won with it. It is what our own late grant left there, or a rival's vain attempt; without a way back the lock would be
//! without that node until its end, and a single node that dies later would end it.
//!
//! Which of the two, a renewal tells. A client that won with a larger number has it on q nodes, and so on one of any q.
//! So when q nodes have our key and nothing above our number, *after* a node told its larger one, no client won with
//! that. Such a node is cleared up to the number that it told: where our key still stands it counts; where it went
//! missing it is taken again in the name of that number. A number above that is new, and has to be proved again.
//!
//! Where so many nodes lack our key and have a larger number that q nodes with our key are out of reach, nothing can show
//! that any more: no renewal gets through, and none of those nodes takes the key again. Then the lock is lost.

use std::time::Duration;

use super::renewal::Renewal;
use super::{Lease, LossReason, State};
use crate::fence::MAX_FENCING_NUMBER;
use crate::mutant::{Mutant, enabled};
use crate::quorum::{NodeId, NodeSet};
use crate::round::Round;
use crate::time::DualTimestamp;
use crate::vote::Vote;

/// Larger numbers of nodes that have our key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LargerFencesWithKey {
    reported: Vec<LargerFence>,
    /// Those that are known to be no holder's.
    verified: Vec<LargerFence>,
}

/// Larger numbers of nodes without our key: those told before the round, and those told in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LargerFencesWithoutKey {
    previous_round: Vec<LargerFence>,
    this_round: Vec<LargerFence>,
    /// In how many rounds before this one some node told a larger number, without a pause.
    consecutive_rounds: u8,
    /// Nodes that told one in this round which is the last of all numbers, so that the key is not taken past it.
    at_maximum: NodeSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LargerFence {
    /// One node, as a set, by which the models know it.
    node_set: NodeSet,
    fence: u64,
    /// In which round it was told.
    reported_in_round: u32,
    /// Whether a node without our key was asked past the number since. Of one with our key: never.
    was_reacquire_sent: bool,
}

impl LargerFence {
    fn new(node: NodeId, fence: u64, told_in: u32) -> Self {
        Self {
            node_set: [node].into_iter().collect(),
            fence,
            reported_in_round: told_in,
            was_reacquire_sent: false,
        }
    }

    fn covers(&self, node: NodeId, fence: u64) -> bool {
        self.node_set.contains(node) && self.fence >= fence
    }
}

impl LargerFencesWithKey {
    /// Of the nodes that gave these larger numbers to our grants.
    pub(super) fn from_grants(round: &Round) -> Self {
        let larger = |node: NodeId| match round.vote(node) {
            Vote::FencedOut { fence } => Some(LargerFence::new(node, *fence, 0)),
            _ => None,
        };
        Self { reported: round.held_by_others().iter().filter_map(larger).collect(), verified: Vec::new() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.reported.is_empty() && self.verified.is_empty()
    }

    fn forget(&mut self, node: NodeId) {
        self.reported.retain(|larger| !larger.node_set.contains(node));
        self.verified.retain(|larger| !larger.node_set.contains(node));
    }

    /// Notes what this node told in this round. Whether that is news.
    fn record(&mut self, node: NodeId, fence: u64, round: u32) -> bool {
        if self.reported.iter().any(|larger| larger.covers(node, fence)) {
            return false;
        }
        self.forget(node);
        self.reported.push(LargerFence::new(node, fence, round));
        true
    }

    /// Clears what these nodes told before this round.
    fn verify(&mut self, nodes: NodeSet, round: u32) -> NodeSet {
        let is_proved = |larger: &LargerFence| {
            larger.reported_in_round < round && larger.node_set.without(nodes).is_empty()
        };
        let proved: Vec<LargerFence> = self.reported.iter().copied().filter(is_proved).collect();
        self.reported.retain(|larger| !is_proved(larger));
        let cleared = proved.iter().fold(NodeSet::EMPTY, |set, larger| set.or(larger.node_set));
        self.verified.extend(proved);
        cleared
    }
}

impl LargerFencesWithoutKey {
    /// What it comes to when a new round begins.
    pub(super) fn into_next_round(self) -> Option<Box<Self>> {
        let rounds = self.consecutive_rounds.saturating_add(1);
        let next = Self { previous_round: self.this_round, consecutive_rounds: rounds, ..Self::default() };
        (!next.previous_round.is_empty()).then(|| Box::new(next))
    }

    /// The nodes that told a larger number.
    fn nodes(&self) -> NodeSet {
        self.previous_round
            .iter()
            .chain(&self.this_round)
            .fold(self.at_maximum, |set, larger| set.or(larger.node_set))
    }

    pub(super) fn was_reported_before(&self, node: NodeId) -> bool {
        self.previous_round.iter().any(|larger| larger.node_set.contains(node))
    }

    /// Whether another round is to follow at once. A node that will not go past the number that it told itself is not
    /// asked again, and rivals who come between each time do not make the holder renew without end.
    fn record(&mut self, node: NodeId, fence: u64, round: u32) -> bool {
        if self.previous_round.iter().chain(&self.this_round).any(|larger| larger.covers(node, fence)) {
            return false;
        }
        let told = if enabled(Mutant::LargerFenceUnverified) {
            &mut self.previous_round
        } else {
            &mut self.this_round
        };
        told.push(LargerFence::new(node, fence, round));
        self.consecutive_rounds < MAX_CONSECUTIVE_RENEWALS
    }

    fn needs_another_round(&self) -> bool {
        !self.this_round.is_empty() && self.consecutive_rounds < MAX_CONSECUTIVE_RENEWALS
    }

    /// The next of these nodes that is to be asked, and the number that it told.
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
    /// Whether so many nodes lack our key and have a larger number that no quorum is left.
    pub(super) fn is_fenced_out(&self) -> bool {
        let told = self.larger_without_key.as_deref().map_or(NodeSet::EMPTY, LargerFencesWithoutKey::nodes);
        self.round.quorum().is_out_of_reach(told.and(self.round.not_held()).len())
    }
}

impl Lease {
    /// The node has our key, and a larger number than ours: the grant was late, or its clock is ahead.
    pub(super) fn on_late_grant_with_larger_fence(&mut self, node: NodeId, fence: u64, now: DualTimestamp) {
        let round = self.rounds;
        if self.is_held()
            && self.rare_state.get_or_insert_default().larger_with_key.record(node, fence, round)
        {
            self.renew_by(now.boot().plus(verification_delay(self.params.ttl())));
        }
    }

    /// What a node's answer to a renewal is worth, by what is known of the number that it has.
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
        let (round, over) = (self.rounds, &mut self.rare_state.get_or_insert_default().larger_with_key);
        let is_cleared =
            |over: &LargerFencesWithKey| over.verified.iter().any(|larger| larger.covers(node, fence));
        if is_cleared(over) || enabled(Mutant::LargerFenceUnverified) {
            return Vote::Granted;
        }
        if over.record(node, fence, round) {
            self.renew_by(now.boot().plus(verification_delay(self.params.ttl())));
        } else if is_won && !over.verify([node].into_iter().collect(), round).is_empty() {
            return Vote::Granted;
        }
        vote
    }

    /// The round is won: nodes that said before the rest that they have our key, under a number that the rest now shows to
    /// be no holder's.
    pub(super) fn verify_reported_fences(&mut self) -> NodeSet {
        let (round, held) =
            (self.rounds, self.renewal().map_or(NodeSet::EMPTY, |it| it.round.held_by_others()));
        self.rare_state.as_mut().map_or(NodeSet::EMPTY, |it| it.larger_with_key.verify(held, round))
    }

    /// What is known of the node's number is of no use any more.
    pub(super) fn forget_larger_fence(&mut self, node: NodeId) {
        if let Some(seldom) = &mut self.rare_state {
            seldom.larger_with_key.forget(node);
            if seldom.larger_with_key.is_empty() && seldom.max_hold_end.is_none() {
                self.rare_state = None;
            }
        }
    }

    /// The node lacks our key, and will not be retaken for a larger number.
    pub(super) fn on_reacquire_fenced_out(&mut self, node: NodeId, fence: u64, now: DualTimestamp) {
        let round = self.rounds;
        let State::Held(Some(renewal)) = &mut self.state else { return };
        let told = renewal.larger_without_key.get_or_insert_default();
        let is_last = fence >= MAX_FENCING_NUMBER || enabled(Mutant::FencedOutForever);
        let goes_on = !is_last && told.record(node, fence, round);
        if is_last {
            told.at_maximum.insert(node);
        }
        if renewal.is_fenced_out() {
            self.lose(LossReason::TakenByOthers);
        } else if goes_on {
            self.schedule_renewal(now.boot());
        }
    }

    /// A node has taken our key again. It counts under the number that it told, too.
    pub(super) fn on_reacquired(&mut self, node: NodeId) {
        let State::Held(Some(renewal)) = &self.state else { return };
        let told = renewal.larger_without_key.as_deref().map_or(&[][..], |told| &told.previous_round);
        let past =
            told.iter().rfind(|larger| larger.was_reacquire_sent && larger.node_set.contains(node)).copied();
        if let Some(larger) = past {
            self.rare_state.get_or_insert_default().larger_with_key.verified.push(larger);
        }
    }

    /// How long after this round the next is to begin: a larger number that was told in it has to be proved.
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

/// How many renewals may follow on each other at once.
const MAX_CONSECUTIVE_RENEWALS: u8 = 16;

/// How soon it is shown that a larger number over our own key is no holder's. Where clocks differ there may be one at
/// each lock, and those that are held for a moment only are not to cost a renewal.
pub(super) fn verification_delay(ttl: Duration) -> Duration {
    (ttl / 30).min(Duration::from_millis(100))
}
