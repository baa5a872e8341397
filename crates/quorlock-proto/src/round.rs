//! A round: one request to all nodes, and the count of its votes.

use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::vote::{ReplyFailure, Vote};
use alloc::vec;
use alloc::vec::Vec;

/// The votes on one request. A node's first vote counts; later ones are stale.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Round {
    quorum: Quorum,
    requested: NodeSet,
    voted: NodeSet,
    granted: NodeSet,
    held_or_fenced_out: NodeSet,
    not_held: NodeSet,
    excluded: NodeSet,
    on_probation: NodeSet,
    /// The vote of each node; empty once they are forgotten.
    votes: Vec<Vote>,
}

impl Round {
    /// A round over all nodes. `absent_vote` returns the vote of a node that gets no request.
    #[must_use]
    pub fn new(quorum: Quorum, absent_vote: impl Fn(NodeId) -> Option<Vote>) -> Self {
        let mut round = Self {
            quorum,
            requested: quorum.all(),
            voted: NodeSet::EMPTY,
            granted: NodeSet::EMPTY,
            held_or_fenced_out: NodeSet::EMPTY,
            not_held: NodeSet::EMPTY,
            excluded: NodeSet::EMPTY,
            on_probation: NodeSet::EMPTY,
            votes: vec![NO_REPLY; quorum.listed()],
        };
        for node in quorum.all().iter() {
            if let Some(vote) = absent_vote(node) {
                round.requested.remove(node);
                round.record(node, vote);
            }
        }
        round
    }

    /// Counts a vote, unless the node voted before.
    pub fn record(&mut self, node: NodeId, vote: Vote) {
        if node.index() >= self.quorum.listed() || self.voted.contains(node) {
            return;
        }
        self.voted.insert(node);
        match vote {
            Vote::Granted | Vote::Fenced(_) => self.granted.insert(node),
            Vote::HeldByOther { .. } | Vote::FencedOut { .. } => self.held_or_fenced_out.insert(node),
            Vote::NotHeld => self.not_held.insert(node),
            Vote::Excluded(_) => self.excluded.insert(node),
            Vote::OnProbation { .. } => self.on_probation.insert(node),
            Vote::Inspected(_) | Vote::Unknown(_) => {}
        }
        if let Some(known) = self.votes.get_mut(node.index()) {
            *known = vote;
        }
    }

    /// Drops the votes and keeps the sets of nodes.
    pub fn forget_votes(&mut self) {
        self.votes = Vec::new();
    }

    /// Replaces a node's grant by a later vote.
    pub fn replace_grant(&mut self, node: NodeId, vote: Vote) {
        if self.granted.contains(node) {
            self.granted.remove(node);
            self.voted.remove(node);
            self.record(node, vote);
        }
    }

    /// Whether the node has voted.
    #[must_use]
    pub const fn has_voted(&self, node: NodeId) -> bool {
        self.voted.contains(node)
    }

    /// Adds the remaining ttl of another holder's key, which a later reply reported.
    pub fn add_remaining(&mut self, node: NodeId, vote: Vote) {
        if let Some(known) = self.votes.get_mut(node.index())
            && self.held_or_fenced_out.contains(node)
            && matches!(vote, Vote::HeldByOther { .. } | Vote::NotHeld)
        {
            *known = vote;
        }
    }

    /// The quorum that the votes count towards.
    #[must_use]
    pub const fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// The nodes that get the request.
    #[must_use]
    pub const fn requested(&self) -> NodeSet {
        self.requested
    }

    /// The nodes that granted.
    #[must_use]
    pub const fn granted(&self) -> NodeSet {
        self.granted
    }

    /// The nodes where another client has the key, or that have a larger fence.
    #[must_use]
    pub const fn held_or_fenced_out(&self) -> NodeSet {
        self.held_or_fenced_out
    }

    /// The nodes without the key.
    #[must_use]
    pub const fn not_held(&self) -> NodeSet {
        self.not_held
    }

    /// The excluded nodes.
    #[must_use]
    pub const fn excluded(&self) -> NodeSet {
        self.excluded
    }

    /// The nodes on probation.
    #[must_use]
    pub const fn on_probation(&self) -> NodeSet {
        self.on_probation
    }

    /// How many votes are neither a grant nor `held_or_fenced_out`: unknown, excluded, on probation and the
    /// like.
    #[must_use]
    pub const fn failed_count(&self) -> usize {
        self.voted.without(self.granted).without(self.held_or_fenced_out).len()
    }

    /// How many nodes have not voted.
    #[must_use]
    pub const fn pending_count(&self) -> usize {
        self.quorum.listed() - self.voted.len()
    }

    /// Whether every node has voted.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.voted == self.quorum.all()
    }

    /// Nodes that may have carried out the request, by the replies so far. It was certainly not carried out
    /// where another client has the key or an error came back.
    #[must_use]
    pub fn possibly_applied(&self) -> NodeSet {
        self.requested
            .iter()
            .filter(|node| match self.vote(*node) {
                // A node on probation may have reported this in the very reply to a request that it carried
                // out.
                Vote::Granted
                | Vote::Fenced(_)
                | Vote::FencedOut { .. }
                | Vote::OnProbation { .. }
                | Vote::Inspected(_) => true,
                Vote::Unknown(fault) => {
                    !matches!(fault, ReplyFailure::TransientError(_) | ReplyFailure::NoScript)
                }
                Vote::HeldByOther { .. } | Vote::NotHeld | Vote::Excluded(_) => false,
            })
            .collect()
    }

    /// Whether q nodes have granted.
    #[must_use]
    pub const fn is_won(&self) -> bool {
        self.quorum.is_met(self.granted.len())
    }

    /// Whether q grants are no longer possible.
    #[must_use]
    pub const fn is_out_of_reach(&self) -> bool {
        self.quorum.is_out_of_reach(self.voted.without(self.granted).len())
    }

    /// The node's vote.
    #[must_use]
    pub fn vote(&self, node: NodeId) -> &Vote {
        self.votes.get(node.index()).unwrap_or(&NO_REPLY)
    }

    /// The vote of every node, in the order of the client's list.
    pub fn votes(&self) -> impl Iterator<Item = &Vote> {
        self.quorum.all().iter().map(|node| self.vote(node))
    }

    /// The vote of every node, for a report. A node without a vote timed out if the round waited until its
    /// timeout (`was_waited_for`); else it was not waited for.
    #[must_use]
    pub fn report(&self, was_waited_for: bool) -> Vec<Vote> {
        let reported = |node| match self.vote(node) {
            Vote::Unknown(ReplyFailure::Timeout) if !was_waited_for => {
                Vote::Unknown(ReplyFailure::NotWaitedFor)
            }
            vote => vote.clone(),
        };
        self.quorum.all().iter().map(reported).collect()
    }
}

const NO_REPLY: Vote = Vote::Unknown(ReplyFailure::Timeout);
