//! Why a lock cluster could not be initialized.

use super::ConnectError;
use crate::view::{NodeReplies, NodeStatus, describe_states};

/// Why a lock cluster could not be initialized.
///
/// # Examples
///
/// ```no_run
/// use quorlock::{Redlock, error::InitError};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
/// match Redlock::builder().nodes(nodes).initialize().await {
///     Ok(_) => println!("the nodes vote"),
///     Err(InitError::Unreachable { nodes, .. }) => {
///         for node in nodes {
///             eprintln!("{node}");
///         }
///     }
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The nodes cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A node cannot be reached; initialization needs all nodes, or without the unreachable ones a quorum. Initialize again when all nodes are up, which
    /// completes what was begun (with force, if part of it was done).
    #[error("lock cluster not initialized: all nodes must be up: {}", describe_states(nodes))]
    #[non_exhaustive]
    Unreachable {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
    /// A node did not store its marker, for example because it rejects writes, or another client wrote a different
    /// marker in the meantime. Initialize again when the node accepts writes, which completes what was begun (with
    /// force, if part of it was done).
    #[error("lock cluster not initialized: not all nodes stored their marker: {replies}")]
    #[non_exhaustive]
    Rejected {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
        /// The reply of each node: [`Granted`](crate::node::NodeReply::Granted) if it stored the marker of the new lock cluster.
        replies: NodeReplies,
    },
    /// A node belongs to another lock cluster, or its lock cluster has another list of nodes or other settings. Initializing it again would void
    /// the locks of that lock cluster's clients: stop them first, then use force.
    #[error(
        "a node belongs to a lock cluster already (stop its clients, then use force): {}",
        describe_states(nodes)
    )]
    #[non_exhaustive]
    AlreadyInitialized {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
}
