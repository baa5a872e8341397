//! What stands in the way of a reconfiguration.

use std::fmt;
use std::sync::Arc;

use super::super::client::Redlock;
use crate::view::{NodeState, NodeStatus, NodeWarning};
use quorlock_proto::membership::{NewNodeProblem, ReconfigurationState};
use quorlock_proto::quorum::{NodeId, NodeSet};
use quorlock_proto::vote::{ExclusionReason, Vote};

/// What stands in the way of a reconfiguration, or of the locks after it. `Display` says what to do.
///
/// # Examples
///
/// ```no_run
/// # async fn example(reconfiguration: quorlock::reconfiguration::Reconfiguration) -> Result<(), quorlock::error::ReconfigureError> {
/// for obstacle in reconfiguration.inspect().await?.obstacles {
///     eprintln!("{obstacle}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ReconfigurationObstacle {
    /// So many members do not reply that no step can be agreed on.
    TooFewMembers(Vec<Arc<str>>),
    /// A new node does not reply.
    NewNodeUnreachable(Arc<str>),
    /// A new node cannot be a member.
    #[non_exhaustive]
    NewNodeExcluded {
        /// The node's address.
        node: Arc<str>,
        /// The reason.
        reason: ExclusionReason,
    },
    /// A new node is a member already, under another name.
    #[non_exhaustive]
    AlreadyMember {
        /// The new node's address.
        node: Arc<str>,
        /// The member's address.
        member: Arc<str>,
    },
    /// A new node, or a node in force, rejects writes.
    #[non_exhaustive]
    RejectsWrites {
        /// The node's address.
        node: Arc<str>,
        /// The server's error.
        error: Arc<str>,
    },
}

impl ReconfigurationObstacle {
    /// All obstacles, those of the members first.
    pub(super) fn all(
        client: &Redlock,
        nodes: &[NodeStatus],
        goal: NodeSet,
        state: &ReconfigurationState,
    ) -> Vec<Self> {
        let name = |node: NodeId| Arc::clone(&client.shared.names[node.index()]);
        let mut all = Vec::new();
        let reached = state.nodes.without(state.unreached).len();
        if reached < state.roster.majority() {
            all.push(Self::TooFewMembers(state.unreached.iter().map(name).collect()));
        }
        let unready = state.unready.iter();
        all.extend(
            unready.map(|(node, problem)| Self::of(&name, *node, &nodes[node.index()], problem, state)),
        );
        let is_ready = |node: &NodeId| !state.unready.iter().any(|(it, _)| it == node);
        for node in state.nodes.or(goal).iter().filter(is_ready) {
            let warnings = &nodes[node.index()].warnings;
            all.extend(warnings.iter().find_map(|warning| match warning {
                NodeWarning::WriteRejected(error) => {
                    Some(Self::RejectsWrites { node: name(node), error: Arc::clone(error) })
                }
                _ => None,
            }));
        }
        all
    }

    /// Why this new node gets no seat.
    fn of(
        name: &impl Fn(NodeId) -> Arc<str>,
        node: NodeId,
        status: &NodeStatus,
        problem: &NewNodeProblem,
        state: &ReconfigurationState,
    ) -> Self {
        let excluded =
            |reason: &ExclusionReason| Self::NewNodeExcluded { node: name(node), reason: reason.clone() };
        match (problem, &status.state) {
            (NewNodeProblem::AlreadyMember(member), _) => {
                Self::AlreadyMember { node: name(node), member: name(*member) }
            }
            (NewNodeProblem::Excluded(reason) | NewNodeProblem::RejectsRecord(Vote::Excluded(reason)), _) => {
                excluded(reason)
            }
            (NewNodeProblem::RejectsRecord(Vote::Unknown(failure)), _) => {
                Self::RejectsWrites { node: name(node), error: failure.to_string().into() }
            }
            (_, NodeState::Excluded(ExclusionReason::DuplicateServer(other)))
                if state.nodes.contains(NodeId(*other)) =>
            {
                Self::AlreadyMember { node: name(node), member: name(NodeId(*other)) }
            }
            // It was one for the client before its connection broke.
            (_, NodeState::Excluded(ExclusionReason::Uninitialized | ExclusionReason::OtherNodeList(_))) => {
                Self::NewNodeUnreachable(name(node))
            }
            (_, NodeState::Excluded(reason)) => excluded(reason),
            _ => Self::NewNodeUnreachable(name(node)),
        }
    }

    /// Whether it is of this node.
    pub(super) fn is_of(&self, address: &str) -> bool {
        match self {
            Self::TooFewMembers(_) => false,
            Self::NewNodeUnreachable(node)
            | Self::NewNodeExcluded { node, .. }
            | Self::AlreadyMember { node, .. }
            | Self::RejectsWrites { node, .. } => **node == *address,
        }
    }
}

impl fmt::Display for ReconfigurationObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewMembers(unreached) => {
                write!(f, "a majority of the members must reply, and these do not: {}", unreached.join(", "))
            }
            Self::NewNodeUnreachable(node) => {
                write!(f, "the new node {node} does not reply (is it running, and can it be reached?)")
            }
            Self::NewNodeExcluded { node, reason } => {
                write!(f, "the new node {node} cannot be a member: {reason}")
            }
            Self::AlreadyMember { node, member } => write!(
                f,
                "the new node {node} is {member}, which is in force already: a node at another address keeps its name; \
                 give all clients the new addresses and the names in force (node_names), without a reconfiguration"
            ),
            Self::RejectsWrites { node, error } => {
                write!(f, "{node} rejects writes, or did when it was dialed: {error}")
            }
        }
    }
}
