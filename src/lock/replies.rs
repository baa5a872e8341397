//! Every node's answer, for people and for programs.

use std::fmt;
use std::sync::Arc;

use super::grouping::grouped;
use quorlock_proto::vote::Vote;

/// What each node answered, in the order of the client's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReplies {
    nodes: Vec<NodeReplyEntry>,
}

/// One node's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeReplyEntry {
    /// The node's address, without user or password.
    pub node: Arc<str>,
    /// What it answered, or why it did not.
    pub reply: Vote,
}

/// How a release went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseOutcome {
    /// What each node had answered when a quorum had confirmed: `Granted` where our key was deleted, `NotHeld`
    /// where it was not there, `HeldByOther` where another's key is, `Unknown` where the release is still on its way.
    pub replies: NodeReplies,
    /// Whether the lock was lost before this: its deadline had passed, or the answers show that no quorum of nodes can
    /// have had our key any more, because others had taken or deleted it.
    pub was_lost: bool,
}

impl NodeReplies {
    pub(super) fn new(names: &[Arc<str>], votes: Vec<Vote>) -> Self {
        let nodes = names.iter().cloned().zip(votes).map(|(node, vote)| NodeReplyEntry { node, reply: vote });
        Self { nodes: nodes.collect() }
    }

    /// A report of nobody: the nodes were not asked.
    pub(super) const fn empty() -> Self {
        Self { nodes: Vec::new() }
    }

    /// Every node's answer. Empty if the nodes were not asked at all, because another task of this client has the
    /// lock or waits for it.
    #[must_use]
    pub fn nodes(&self) -> &[NodeReplyEntry] {
        &self.nodes
    }
}

impl fmt::Display for NodeReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes.is_empty() {
            return f.write_str("another task of this client has it or waits for it");
        }
        f.write_str(&grouped(self.nodes.iter().map(|it| (&*it.node, it.reply.to_string()))))
    }
}
