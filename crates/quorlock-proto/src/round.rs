//! One question put to all nodes, and what they answered.

use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::vote::{ReplyFailure, Vote};

/// The votes on one question. A node's first answer counts; later ones are stale.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Round {
    quorum: Quorum,
    requested: NodeSet,
    voted: NodeSet,
    granted: NodeSet,
    held_by_others: NodeSet,
    not_held: NodeSet,
    excluded: NodeSet,
    on_probation: NodeSet,
    votes: Votes,
}

/// What each node said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Votes {
    Known(Vec<Vote>),
    /// All who answered have granted.
    AllGranted,
    /// Nobody wants to know any more.
    Forgotten,
}

impl Round {
    /// A round over all nodes. `absent_vote` gives the vote of a node that need not be asked; nobody waits for it.
    #[must_use]
    pub fn new(quorum: Quorum, absent_vote: impl Fn(NodeId) -> Option<Vote>) -> Self {
        let mut round = Self {
            quorum,
            requested: quorum.all(),
            voted: NodeSet::EMPTY,
            granted: NodeSet::EMPTY,
            held_by_others: NodeSet::EMPTY,
            not_held: NodeSet::EMPTY,
            excluded: NodeSet::EMPTY,
            on_probation: NodeSet::EMPTY,
            votes: Votes::AllGranted,
        };
        for node in quorum.all().iter() {
            if let Some(vote) = absent_vote(node) {
                round.requested.remove(node);
                round.record(node, vote);
            }
        }
        round
    }

    /// Counts an answer, unless the node answered before.
    pub fn record(&mut self, node: NodeId, vote: Vote) {
        if node.index() >= self.quorum.nodes() || self.voted.contains(node) {
            return;
        }
        if self.votes == Votes::AllGranted && vote != Vote::Granted {
            self.votes = Votes::Known(self.votes().cloned().collect());
        }
        self.voted.insert(node);
        match vote {
            Vote::Granted | Vote::Fenced(_) => self.granted.insert(node),
            Vote::HeldByOther { .. } | Vote::FencedOut { .. } => self.held_by_others.insert(node),
            Vote::NotHeld => self.not_held.insert(node),
            Vote::Excluded(_) => self.excluded.insert(node),
            Vote::OnProbation { .. } => self.on_probation.insert(node),
            Vote::Inspected(_) | Vote::Unknown(_) => {}
        }
        if let Votes::Known(votes) = &mut self.votes {
            votes[node.index()] = vote;
        }
    }

    /// Keeps the sets of nodes, and not what each of them said.
    pub fn forget_votes(&mut self) {
        self.votes = Votes::Forgotten;
    }

    /// Takes a grant back: the node said something else since.
    pub fn replace_grant(&mut self, node: NodeId, vote: Vote) {
        if self.granted.contains(node) {
            self.granted.remove(node);
            self.voted.remove(node);
            self.record(node, vote);
        }
    }

    /// Whether the node has answered.
    #[must_use]
    pub const fn has_voted(&self, node: NodeId) -> bool {
        self.voted.contains(node)
    }

    /// Adds what a holder's key still lives, told by a later answer than the refusal itself.
    pub fn add_remaining(&mut self, node: NodeId, vote: Vote) {
        if let Votes::Known(votes) = &mut self.votes
            && self.held_by_others.contains(node)
            && matches!(vote, Vote::HeldByOther { .. } | Vote::NotHeld)
        {
            votes[node.index()] = vote;
        }
    }

    /// The quorum it counts towards.
    #[must_use]
    pub const fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// The nodes the question goes to.
    #[must_use]
    pub const fn requested(&self) -> NodeSet {
        self.requested
    }

    /// Those that granted.
    #[must_use]
    pub const fn granted(&self) -> NodeSet {
        self.granted
    }

    /// Those where somebody else has the key.
    #[must_use]
    pub const fn held_by_others(&self) -> NodeSet {
        self.held_by_others
    }

    /// Those where nobody has it.
    #[must_use]
    pub const fn not_held(&self) -> NodeSet {
        self.not_held
    }

    /// Those that may not serve us.
    #[must_use]
    pub const fn excluded(&self) -> NodeSet {
        self.excluded
    }

    /// Those whose memory or clock is in doubt.
    #[must_use]
    pub const fn on_probation(&self) -> NodeSet {
        self.on_probation
    }

    /// How many answers are neither a grant nor a refusal by a holder: unknown, barred and the like.
    #[must_use]
    pub const fn failed_count(&self) -> usize {
        self.voted.without(self.granted).without(self.held_by_others).len()
    }

    /// How many nodes have not answered.
    #[must_use]
    pub const fn pending_count(&self) -> usize {
        self.quorum.nodes() - self.voted.len()
    }

    /// Whether every node that was asked has answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.voted == self.quorum.all()
    }

    /// Nodes where what was asked may have been done, as far as the answers tell: granted, silent or odd. A
    /// refusal and an error reply are plain: the command was not run.
    #[must_use]
    pub fn possibly_applied(&self) -> NodeSet {
        self.requested
            .iter()
            .filter(|node| match self.vote(*node) {
                // Of a doubtful node we may know so only by the very answer that said it was done.
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

    /// Whether q grants are in.
    #[must_use]
    pub const fn is_won(&self) -> bool {
        self.quorum.is_met(self.granted.len())
    }

    /// Whether q grants can no longer come in.
    #[must_use]
    pub const fn is_out_of_reach(&self) -> bool {
        self.quorum.is_out_of_reach(self.voted.without(self.granted).len())
    }

    /// The node's answer.
    #[must_use]
    pub fn vote(&self, node: NodeId) -> &Vote {
        match &self.votes {
            Votes::Known(votes) => &votes[node.index()],
            Votes::AllGranted if self.granted.contains(node) => GRANTED,
            Votes::AllGranted | Votes::Forgotten => NO_REPLY,
        }
    }

    /// Every node's answer, in the order of the client's list.
    pub fn votes(&self) -> impl Iterator<Item = &Vote> {
        self.quorum.all().iter().map(|node| self.vote(node))
    }

    /// The same for a report. A node without an answer was silent if the round ended because the time was over
    /// (`was_waited_for`); else the others had decided before it.
    #[must_use]
    pub fn report(&self, was_waited_for: bool) -> Vec<Vote> {
        let told = |node| match self.vote(node) {
            Vote::Unknown(ReplyFailure::Timeout) if !was_waited_for => {
                Vote::Unknown(ReplyFailure::NotWaitedFor)
            }
            vote => vote.clone(),
        };
        self.quorum.all().iter().map(told).collect()
    }
}

const GRANTED: &Vote = &Vote::Granted;
const NO_REPLY: &Vote = &Vote::Unknown(ReplyFailure::Timeout);
