//! Why a lock cluster could not be reconfigured.

use std::sync::Arc;

use super::{ConnectError, InvalidInput};
use crate::view::{NodeStatus, describe_states};
use quorlock_proto::vote::ExclusionReason;

/// Why a lock cluster could not be reconfigured. What was changed until then stays; run it again to go on.
///
/// # Examples
///
/// ```no_run
/// use quorlock::{Redlock, error::ReconfigureError};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let before = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
/// let after = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.4"];
/// match Redlock::builder().nodes(before).reconfigure(after).run().await {
///     Ok(done) => println!("{done}"),
///     Err(ReconfigureError::NewNodeExcluded { node, .. }) => eprintln!("fix {node}"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// The nodes cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The list of nodes in force is neither the list before nor the list after, and not one between the two.
    #[error(
        "the lock cluster's list of nodes is none between these two (see `quorlock doctor`): {}",
        describe_states(nodes)
    )]
    #[non_exhaustive]
    OtherNodeList {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
    /// A new node cannot be a member.
    #[error("the new node {node} cannot be a member: {reason}")]
    #[non_exhaustive]
    NewNodeExcluded {
        /// The node's address.
        node: Arc<str>,
        /// The reason.
        reason: ExclusionReason,
    },
    /// A new node is a member already, under another name. A node at another address keeps its name: see
    /// [`node_names`](crate::RedlockBuilder::node_names).
    #[error(
        "the new node {node} is {member}, which is in force already: a node at another address keeps its name; give all \
         clients the new addresses and the names in force (node_names), without a reconfiguration"
    )]
    #[non_exhaustive]
    AlreadyMember {
        /// The new node's address.
        node: Arc<str>,
        /// The member's address.
        member: Arc<str>,
    },
    /// The quorum is not one of this number of nodes.
    #[error("the quorum is not one of {nodes} nodes: take the majority, or more")]
    #[non_exhaustive]
    InvalidQuorum {
        /// The number of nodes.
        nodes: usize,
    },
}

impl From<InvalidInput> for ReconfigureError {
    fn from(invalid: InvalidInput) -> Self {
        Self::Connect(invalid.into())
    }
}
