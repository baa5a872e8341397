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
        now_millis: u64,
    ) -> Result<Roster, Wait> {
        let (next, after) = if list.nodes() == self.to {
            (self.with_next_setting(current)?, self.to)
        } else {
            self.with_next_list(current, list, (servers, voting), now_millis)?
        };
        // If all vote and still too few are left, no other order is better: one node that becomes two.
        let is_enough = next.config.quorum().is_met(after.and(list.nodes()).and(voting).len());
        if is_enough || list.nodes().without(voting).is_empty() {
            Ok(Roster { epoch: current.epoch.after_change(), ..next })
        } else {
            Err(Wait::TooFewVoters)
        }
    }

    fn with_next_list(
        &self,
        current: &Roster,
        list: &NodeList,
        (servers, voting): (&[ServerView], NodeSet),
        now_millis: u64,
    ) -> Result<(Roster, NodeSet), Wait> {
        let (add, remove) = (self.to_add(list), list.nodes().without(self.to));
        // A node that does not vote is the first to go.
        let remove = remove.without(voting).iter().next().or_else(|| remove.iter().next());
        let candidate = |node: NodeId| servers[node.index()].candidate_seat().map(|seat| (node, seat));
        let added = match add.iter().find_map(candidate) {
            None if !add.is_empty() => return Err(Wait::NewNode(add.iter().next().unwrap_or(NodeId(0)))),
            added => added,
        };
        let mut nodes = list.nodes();
        if let Some((node, _)) = added {
            nodes.insert(node);
        }
        if let Some(node) = remove {
            nodes.remove(node);
        }
        let next_list = self.list(nodes);
        let mut seats = alloc::vec![Seat::default(); nodes.len()];
        for node in nodes.iter() {
            seats[next_list.position(node)] = match added {
                Some((new, SeatId(id))) if new == node => {
                    Seat { id: Some(SeatId(id)), changed_millis: now_millis, changes: 0 }
                }
                _ => current.seats.get(list.position(node)).copied().unwrap_or_default(),
            };
        }
        let quorum = current.config.quorum();
        let needed = if seats.len() == quorum.nodes() { quorum.needed() } else { seats.len() / 2 + 1 };
        let quorum = Quorum::new(seats.len(), Some(needed)).map_err(|_| Wait::InvalidQuorum)?;
        let (list, config) = (next_list.hash(), current.config.with_quorum(quorum));
        Ok((Roster { list, config, seats, ..current.clone() }, nodes))
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
