//! A reconfiguration: from the nodes and settings of a lock cluster to others, one step at a time.
//!
//! Each step is a roster of its own, so it can be interrupted anywhere and continued by any client that knows
//! both lists. A step exchanges, adds or removes one node, or changes the quorum or the max ttl. Any quorum
//! before a step and any quorum of members that remember after it share a node, because their sizes are together
//! more than N. That holds for one step, not for two: so a step waits until the locks of the roster before have
//! ended, and until each member votes (see `is_settled`).

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::server_view::ServerView;
use super::{ListHash, ListHasher, NodeList, Roster, Seat, SeatId};
use crate::marker::{LockClusterConfig, min_retention};
use crate::mutant::{Mutant, enabled};
use crate::quorum::{NodeId, NodeSet, Quorum};

/// What a lock cluster is to become.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reconfiguration {
    /// The names of all nodes, those of the lists before and after.
    names: Vec<String>,
    /// The nodes of the list before.
    from: NodeSet,
    /// The nodes of the list after.
    to: NodeSet,
    /// The quorum after; by default the majority, or as before if the number of nodes stays.
    quorum: Option<usize>,
    /// The max ttl after; by default as before.
    max_ttl: Option<Duration>,
}

/// A node that is to be added, and the seat that it has drawn.
type NewNode = (NodeId, SeatId);

/// Why no next roster is proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// There is nothing left to change.
    Done,
    /// The list of nodes in force is none between the two.
    OtherList,
    /// A node that is to be added has no seat yet: it does not reply, or may not vote.
    NewNode(NodeId),
    /// After the next step, too few members would vote.
    TooFewVoters,
    /// The quorum is not one of this number of nodes.
    InvalidQuorum,
}

impl Reconfiguration {
    /// From the nodes `from` to the nodes `to`, which are both among the nodes with these names.
    #[must_use]
    pub const fn new(
        names: Vec<String>,
        (from, to): (NodeSet, NodeSet),
        quorum: Option<usize>,
        max_ttl: Option<Duration>,
    ) -> Self {
        Self { names, from, to, quorum, max_ttl }
    }

    /// The nodes of the list with this hash, which is `from`, `to`, or one that a reconfiguration between the
    /// two goes through; `None` for another list.
    #[must_use]
    pub fn nodes_of(&self, hash: ListHash) -> Option<NodeSet> {
        let has_hash = |nodes: &NodeSet| self.list(*nodes).hash() == hash;
        if let Some(nodes) = [self.from, self.to].into_iter().find(has_hash) {
            return Some(nodes);
        }
        let mut sorted: Vec<NodeId> = self.from.or(self.to).iter().collect();
        sorted.sort_unstable_by_key(|node| &self.names[node.index()]);
        self.find_list(&sorted, NodeSet::EMPTY, ListHasher::default(), hash)
    }

    /// The list with this hash that has the nodes `taken`, and behind these in sorted order some of `rest`.
    ///
    /// A step may add any node that has a seat and remove any that does not vote, and an interrupted
    /// reconfiguration may have had another goal. So each subset of the nodes that are in one list only may be in
    /// force, and a list of another lock cluster is known only after all of them: at most 2^16. They are hashed as a
    /// tree, in which subsets share the names that they have in common at their beginning. For 16 nodes with names
    /// of 30 bytes that takes 2 to 7 ms in a release build; each subset alone would take 40 to 80 ms, at each
    /// evaluation, on the thread that renews locks.
    fn find_list(
        &self,
        rest: &[NodeId],
        taken: NodeSet,
        hasher: ListHasher,
        hash: ListHash,
    ) -> Option<NodeSet> {
        let Some((node, rest)) = rest.split_first() else {
            return (hasher.finish() == hash).then_some(taken);
        };
        let mut with_node = taken;
        with_node.insert(*node);
        let hasher_with_node = hasher.with(&self.names[node.index()]);
        let found = self.find_list(rest, with_node, hasher_with_node, hash);
        let is_in_both = self.from.contains(*node) && self.to.contains(*node);
        found.or_else(|| (!is_in_both).then(|| self.find_list(rest, taken, hasher, hash)).flatten())
    }

    /// The number of nodes in both lists.
    pub(super) const fn count(&self) -> usize {
        self.names.len()
    }

    /// The list before.
    #[must_use]
    pub fn first_list(&self) -> NodeList {
        self.list(self.from)
    }

    /// The list of these nodes.
    #[must_use]
    pub fn list(&self, nodes: NodeSet) -> NodeList {
        NodeList::of(&self.names, nodes)
    }

    /// The nodes that are to be added to this list.
    #[must_use]
    pub fn to_add(&self, list: &NodeList) -> NodeSet {
        self.to.without(list.nodes())
    }

    /// The roster after `current`, whose list of nodes is `list`. `voting` are the nodes that vote.
    pub(super) fn next(
        &self,
        current: &Roster,
        list: &NodeList,
        (servers, voting): (&[ServerView], NodeSet),
    ) -> Result<Roster, Wait> {
        // Enough of the nodes that vote now would still do so: a new node is on probation.
        let keeps_quorum = |(next, after): &(Roster, NodeSet)| {
            next.config.quorum().is_met(after.and(list.nodes()).and(voting).len())
        };
        let step = if list.nodes() == self.to {
            (self.with_next_setting(current)?, self.to)
        } else {
            let (added, removed) = self.next_exchange(list, (servers, voting))?;
            let exchange = self.with_list(current, list, (added, removed))?;
            if added.is_some() && removed.is_some() && !keeps_quorum(&exchange) {
                let addition = self.with_list(current, list, (added, None))?;
                if keeps_quorum(&addition) { addition } else { exchange }
            } else {
                exchange
            }
        };
        // If all vote and still too few are left, no other order is better: one node that becomes two.
        if keeps_quorum(&step) || list.nodes().without(voting).is_empty() {
            Ok(Roster { epoch: current.epoch.after_change(), ..step.0 })
        } else {
            Err(Wait::TooFewVoters)
        }
    }

    /// The next node to add, with its seat, and the next one to remove.
    fn next_exchange(
        &self,
        list: &NodeList,
        (servers, voting): (&[ServerView], NodeSet),
    ) -> Result<(Option<NewNode>, Option<NodeId>), Wait> {
        let (add, remove) = (self.to_add(list), list.nodes().without(self.to));
        let candidate = |node: NodeId| servers[node.index()].candidate_seat().map(|seat| (node, seat));
        let added = add.iter().find_map(candidate);
        match add.iter().next() {
            Some(node) if added.is_none() => Err(Wait::NewNode(node)),
            // A node that does not vote is the first to go.
            _ => Ok((added, remove.without(voting).iter().next().or_else(|| remove.iter().next()))),
        }
    }

    /// The roster with this node added and this one removed, and its nodes.
    fn with_list(
        &self,
        current: &Roster,
        list: &NodeList,
        (added, removed): (Option<NewNode>, Option<NodeId>),
    ) -> Result<(Roster, NodeSet), Wait> {
        let mut nodes = list.nodes();
        if let Some((node, _)) = added {
            nodes.insert(node);
        }
        if let Some(node) = removed {
            nodes.remove(node);
        }
        let next_list = self.list(nodes);
        let mut seats = alloc::vec![Seat::default(); nodes.len()];
        for node in nodes.iter() {
            seats[next_list.position(node)] = match added {
                Some((new, seat)) if new == node => Seat { id: Some(seat), ..Seat::default() },
                _ => current.seats.get(list.position(node)).copied().unwrap_or_default(),
            };
        }
        let quorum = self.quorum_of(current.config.quorum(), seats.len())?;
        let (list, config) = (next_list.hash(), current.config.with_quorum(quorum));
        Ok((Roster { list, config, seats, ..current.clone() }, nodes))
    }

    /// The quorum of a list with this number of nodes: the majority. If the list after has as many nodes as the one
    /// before, the quorum of before returns, so it is kept on the way as far as it can be.
    fn quorum_of(&self, quorum: Quorum, nodes: usize) -> Result<Quorum, Wait> {
        let majority = nodes / 2 + 1;
        let needed = if nodes == quorum.nodes() {
            quorum.needed()
        } else if self.from.len() == self.to.len() {
            quorum.needed().clamp(majority, nodes)
        } else {
            majority
        };
        Quorum::new(nodes, Some(needed)).map_err(|_| Wait::InvalidQuorum)
    }

    /// The roster with its quorum, its max ttl or the length of its probation changed. A shorter probation comes
    /// last: the locks of the longer max ttl must have ended.
    fn with_next_setting(&self, current: &Roster) -> Result<Roster, Wait> {
        let (config, mut next) = (current.config, current.clone());
        let needed = self.quorum.unwrap_or(config.quorum().needed());
        let max_ttl = self.max_ttl.unwrap_or(config.max_ttl());
        if needed != config.quorum().needed() {
            let quorum = Quorum::new(current.seats.len(), Some(needed)).map_err(|_| Wait::InvalidQuorum)?;
            next.config = config.with_quorum(quorum);
        } else if max_ttl != config.max_ttl() {
            next.config = LockClusterConfig::new(config.quorum(), max_ttl)
                .with_retention(config.retention().max(min_retention(max_ttl)));
            let longest = current.probation.max(max_ttl);
            next.probation = if enabled(Mutant::ShortensProbationAtOnce) { max_ttl } else { longest };
        } else if current.probation != max_ttl {
            next.probation = max_ttl;
        } else {
            return Err(Wait::Done);
        }
        Ok(next)
    }
}
