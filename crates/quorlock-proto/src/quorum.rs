//! Quorums by intersection, and sets of nodes.
//!
//! Any two quorums share a node (Gifford, *Weighted Voting for Replicated Data*, SOSP 1979), so no two
//! clients have a quorum at once.

use core::fmt;

/// A node's position in the client's list of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u8);

impl NodeId {
    /// The position as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// N nodes, q of which make a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    nodes: u8,
    needed: u8,
    /// The number of nodes in the client's list, which may differ from N while the lock cluster is reconfigured.
    listed: u8,
}

impl Quorum {
    /// The largest number of nodes. Beyond nine, each further node adds latency and no safety.
    pub const MAX_NODES: usize = 9;
    /// The largest number of nodes that one client dials: a reconfiguration dials those before and after.
    pub const MAX_LISTED: usize = 16;

    /// A quorum of `needed` out of `nodes`; by default the majority N/2 + 1.
    ///
    /// Any two quorums must share a node, so `needed` below a majority is an error. With more than a
    /// majority, 2q − N − 1 nodes may lose locks or jump their clocks without harm.
    ///
    /// # Errors
    ///
    /// [`InvalidQuorum`] names the number that is out of range.
    pub fn new(nodes: usize, needed: Option<usize>) -> Result<Self, InvalidQuorum> {
        if nodes == 0 {
            return Err(InvalidQuorum::NoNodes);
        }
        if nodes > Self::MAX_NODES {
            return Err(InvalidQuorum::TooManyNodes(nodes));
        }
        let majority = nodes / 2 + 1;
        let needed = needed.unwrap_or(majority);
        if needed < majority {
            return Err(InvalidQuorum::BelowMajority { needed, majority, nodes });
        }
        if needed > nodes {
            return Err(InvalidQuorum::AboveNodes { needed, nodes });
        }
        Ok(Self { nodes: nodes as u8, needed: needed as u8, listed: nodes as u8 })
    }

    /// The same quorum for a client whose list has this number of nodes. Some of them may not be among the N, and
    /// some of the N may be missing.
    #[must_use]
    pub const fn listing(self, nodes: usize) -> Self {
        Self { listed: nodes as u8, ..self }
    }

    /// A majority of the connected nodes: a known mistake, see [`mutant`](crate::mutant).
    #[must_use]
    pub(super) const fn majority_of_connected(self, connected: usize) -> Self {
        Self { needed: connected as u8 / 2 + 1, ..self }
    }

    /// The quorum as bits, for an atomic.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        u32::from_le_bytes([self.nodes, self.needed, self.listed, 0])
    }

    /// The quorum with these [bits](Self::to_bits).
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        let [nodes, needed, listed, _] = bits.to_le_bytes();
        Self { nodes, needed, listed }
    }

    /// N, the number of nodes.
    #[must_use]
    pub const fn nodes(self) -> usize {
        self.nodes as usize
    }

    /// q, the number of nodes that make a lock.
    #[must_use]
    pub const fn needed(self) -> usize {
        self.needed as usize
    }

    /// The number of nodes in the client's list.
    #[must_use]
    pub const fn listed(self) -> usize {
        self.listed as usize
    }

    /// Every node of the client's list.
    #[must_use]
    pub fn all(self) -> NodeSet {
        (0..self.listed).map(NodeId).collect()
    }

    /// Whether `count` nodes make a quorum.
    #[must_use]
    pub const fn is_met(self, count: usize) -> bool {
        count >= self.needed as usize
    }

    /// Whether q is out of reach if `others` nodes do not grant. Right for even N too: with four nodes, two
    /// such nodes decide it, so a tie of two against two ends at once.
    #[must_use]
    pub const fn is_out_of_reach(self, others: usize) -> bool {
        others + self.needed as usize > self.listed as usize
    }

    /// Whether no client can reach q if `others` of the N nodes do not grant.
    #[must_use]
    pub const fn is_blocked_by(self, others: usize) -> bool {
        others + self.needed as usize > self.nodes as usize
    }

    /// How many of the `confirmed` nodes may lose the key early before another client can reach q: g + q − N
    /// − 1, where g is `confirmed`. Negative if the lock has no quorum.
    #[must_use]
    pub const fn spare_nodes(self, confirmed: usize) -> i32 {
        confirmed as i32 + self.needed as i32 - self.nodes as i32 - 1
    }
}

/// An invalid quorum; the message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidQuorum {
    /// The list of nodes is empty.
    #[error("no node given: name at least one Redis URL, three or five to survive the loss of a node")]
    NoNodes,
    /// More than nine nodes.
    #[error("{0} nodes are too many: take five, at most nine")]
    TooManyNodes(usize),
    /// Below a majority: two such quorums might share no node.
    #[error(
        "a quorum of {needed} out of {nodes} is below a majority, so two clients could both reach it: take at least {majority}"
    )]
    BelowMajority {
        /// The requested quorum.
        needed: usize,
        /// The smallest safe quorum.
        majority: usize,
        /// The number of nodes.
        nodes: usize,
    },
    /// More than the number of nodes.
    #[error("a quorum of {needed} is more than the {nodes} nodes given")]
    AboveNodes {
        /// The requested quorum.
        needed: usize,
        /// The number of nodes.
        nodes: usize,
    },
}

/// A set of nodes, stored as bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct NodeSet(u16);

impl NodeSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// The set with these bits; the lowest bit is the first node.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The bits of the set; the lowest is the first node.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Adds a node.
    pub fn insert(&mut self, node: NodeId) {
        self.0 |= 1 << node.0;
    }

    /// Removes a node.
    pub fn remove(&mut self, node: NodeId) {
        self.0 &= !(1 << node.0);
    }

    /// Whether the node is in the set.
    #[must_use]
    pub const fn contains(self, node: NodeId) -> bool {
        self.0 & (1 << node.0) != 0
    }

    /// The number of nodes in the set.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The union of both sets.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The intersection of both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The nodes that are only in this set.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The nodes of the set, in the order of the client's list.
    #[must_use]
    pub const fn iter(self) -> NodeSetIter {
        NodeSetIter(self.0)
    }
}

/// The nodes of a set, in the order of the client's list.
#[derive(Clone, Debug)]
pub struct NodeSetIter(u16);

impl Iterator for NodeSetIter {
    type Item = NodeId;

    fn next(&mut self) -> Option<NodeId> {
        let node = NodeId(self.0.trailing_zeros() as u8);
        (self.0 != 0).then(|| {
            self.0 &= self.0 - 1;
            node
        })
    }

    // So that `collect` allocates the exact size.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.0.count_ones() as usize;
        (count, Some(count))
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        let mut set = Self::EMPTY;
        for node in nodes {
            set.insert(node);
        }
        set
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|node| node.0)).finish()
    }
}
