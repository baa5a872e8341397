//! Nodes with a larger number than a lease's own, and the way back to count on them.
//!
//! The larger number may be a later holder's: then the lock has passed on, and nothing may bring it back. Or nobody was
//! given it. It is what our own late grant left there, or a rival's vain attempt; without a way back the lock would be
//! without that node until its end, and a single node that dies later would end it.
//!
//! Which of the two, a renewal tells. Whoever was given a larger number has it on q nodes, and so on one of any q. So
//! when q nodes have our key and nothing above our number, *after* a node told its larger one, nobody was given that.
//! Such a node is cleared: where our key still stands it counts, for as long as it stands; where it went missing it is
//! taken again in the name of the number that the node told, and not past any later one.

use std::time::Duration;

use super::super::fence::LARGEST_NUMBER;
use super::super::mutant::{Mutant, is};
use super::super::quorum::{NodeId, NodeSet};
use super::super::time::Moment;
use super::super::vote::Vote;
use super::{Lease, State};

/// Larger numbers of nodes without our key: those told before the round, and those told in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Outranked {
    before: Vec<Larger>,
    now: Vec<Larger>,
    /// In how many rounds before this one some node told a larger number, without a pause.
    rounds: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Larger {
    /// One node, as a set, by which the models know it.
    at: NodeSet,
    fence: u64,
    is_asked: bool,
}

impl Outranked {
    /// What it comes to when a new round begins.
    pub(super) fn into_next_round(self) -> Option<Box<Self>> {
        let rounds = self.rounds.saturating_add(1);
        (!self.now.is_empty()).then(|| Box::new(Self { before: self.now, now: Vec::new(), rounds }))
    }

    pub(super) fn was_told_before(&self, node: NodeId) -> bool {
        self.before.iter().any(|larger| larger.at.contains(node))
    }

    /// Whether another round is to follow at once. A node that will not go past the number that it told itself is not
    /// asked again, and rivals who come between each time do not make the holder renew without end.
    fn add(&mut self, node: NodeId, fence: u64) -> bool {
        let is_known = |larger: &Larger| larger.at.contains(node) && larger.fence >= fence;
        if self.before.iter().chain(&self.now).any(is_known) {
            return false;
        }
        let told = if is(Mutant::LargerIsNobodys) { &mut self.before } else { &mut self.now };
        told.push(Larger { at: [node].into_iter().collect(), fence, is_asked: false });
        self.rounds < MOST_ROUNDS
    }

    /// The next of these nodes that is to be asked, and the number that it told.
    pub(super) fn next_of(&mut self, missing: NodeSet) -> Option<(NodeSet, u64)> {
        let is_due = |larger: &&mut Larger| !larger.is_asked && larger.at.without(missing).is_empty();
        let next = self.before.iter_mut().find(is_due)?;
        next.is_asked = true;
        Some((next.at, next.fence))
    }
}

impl Lease {
    /// The node has our key, and a larger number than ours: the grant was late, or its clock is ahead.
    pub(super) fn on_late_grant_outranked(&mut self, node: NodeId, now: Moment) {
        self.outranked.insert(node);
        if self.is_held() {
            self.renew_by(now.boot().plus(proof_pause(self.terms.ttl())));
        }
    }

    /// What a node's answer to a renewal is worth, by what is known of the number that it has.
    pub(super) fn judge_larger(&mut self, node: NodeId, vote: Vote, now: Moment) -> Vote {
        let State::Held(Some(renewal)) = &self.state else { return vote };
        let is_proved = renewal.suspects.contains(node) && renewal.round.is_won();
        match vote {
            Vote::Outranked { .. } if is(Mutant::OutrankedForGood) => vote,
            Vote::Outranked { .. } if self.cleared.contains(node) || is(Mutant::LargerIsNobodys) => {
                Vote::Granted
            }
            Vote::Outranked { .. } if is_proved && self.outranked.contains(node) => {
                self.outranked.remove(node);
                self.cleared.insert(node);
                Vote::Granted
            }
            Vote::Outranked { .. } => {
                if !self.outranked.contains(node) {
                    self.outranked.insert(node);
                    self.prove_soon(now);
                }
                vote
            }
            Vote::Granted | Vote::Missing | Vote::Held { .. } => {
                self.outranked.remove(node);
                self.cleared.remove(node);
                vote
            }
            _ => vote,
        }
    }

    /// The node lacks our key, and will not be retaken for a larger number.
    pub(super) fn on_retake_outranked(&mut self, node: NodeId, fence: u64, now: Moment) {
        let State::Held(Some(renewal)) = &mut self.state else { return };
        let is_known = fence < LARGEST_NUMBER && !is(Mutant::OutrankedForGood);
        if is_known && renewal.outranked.get_or_insert_default().add(node, fence) {
            self.prove_soon(now);
        }
    }

    /// A node has taken our key again. Whether it counts under the number that it told, too.
    pub(super) fn on_retaken(&mut self, node: NodeId) {
        let is_past = |larger: &Larger| larger.is_asked && larger.at.contains(node);
        if let State::Held(Some(renewal)) = &self.state
            && renewal.outranked.as_ref().is_some_and(|told| told.before.iter().any(is_past))
        {
            self.cleared.insert(node);
        }
    }

    /// Whether a larger number was told in this round, for which there must be another.
    pub(super) fn has_new_larger(&self) -> bool {
        self.renewal().is_some_and(|renewal| {
            let is_told = |told: &Outranked| !told.now.is_empty() && told.rounds < MOST_ROUNDS;
            renewal.outranked.as_deref().is_some_and(is_told)
                || !self.outranked.without(renewal.suspects).is_empty()
        })
    }

    fn prove_soon(&mut self, now: Moment) {
        if self.is_held() {
            self.renew_at(now.boot());
        }
    }
}

/// How many renewals may follow on each other at once.
const MOST_ROUNDS: u8 = 16;

/// How soon after a lock was taken it is shown that a larger number is nobody's. Where clocks differ there may be one at
/// each lock, and those that are held for a moment only are not to cost a renewal.
pub(super) fn proof_pause(ttl: Duration) -> Duration {
    (ttl / 30).min(Duration::from_millis(100))
}
