//! The replies of all nodes, for people and for programs.

use std::fmt;
use std::sync::Arc;

use super::grouping::grouped;
use quorlock_proto::vote::Vote;

/// The reply of each node, in the order of the client's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReplies {
    nodes: Vec<NodeReplyEntry>,
}

/// One node's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeReplyEntry {
    /// The node's address, without user or password.
    pub node: Arc<str>,
    /// What it replied, or why there is no reply.
    pub reply: Vote,
}

/// The outcome of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseOutcome {
    /// The reply of each node at the time when a quorum had confirmed. `Granted`: this lock's key was deleted.
    /// `NotHeld`: the key was not there. `HeldByOther`: another owner's key is there. `Unknown`: the release is still
    /// in flight.
    pub replies: NodeReplies,
    /// Whether the lock was lost before the release. Either its deadline had passed, or the replies show that no quorum
    /// of nodes can have had its key, because other clients had acquired or deleted it.
    pub was_lost: bool,
}

impl NodeReplies {
    pub(super) fn new(names: &[Arc<str>], votes: Vec<Vote>) -> Self {
        let nodes = names.iter().cloned().zip(votes).map(|(node, vote)| NodeReplyEntry { node, reply: vote });
        Self { nodes: nodes.collect() }
    }

    /// No replies: no request was sent.
    pub(super) const fn empty() -> Self {
        Self { nodes: Vec::new() }
    }

    /// The reply of every node. Empty if no request was sent because another task of this client holds the lock or
    /// waits for it.
    #[must_use]
    pub fn nodes(&self) -> &[NodeReplyEntry] {
        &self.nodes
    }
}

impl fmt::Display for NodeReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes.is_empty() {
            return f.write_str("another task of this client holds it or waits for it");
        }
        f.write_str(&grouped(self.nodes.iter().map(|node| (&*node.node, node.reply.to_string()))))
    }
}
