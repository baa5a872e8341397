//! Why a client could not connect.

use std::io;
use std::sync::Arc;

use super::{InvalidInput, NoDriver};
use crate::view::{NodeStatus, describe_states};
use quorlock_proto::vote::ExclusionReason;

/// Why a client could not connect.
///
/// # Examples
///
/// ```no_run
/// use quorlock::{Redlock, error::ConnectError};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
/// match Redlock::connect(nodes).await {
///     Ok(redlock) => println!("a quorum is {} nodes", redlock.quorum()),
///     Err(ConnectError::NoQuorum { nodes, .. }) => {
///         for node in nodes {
///             eprintln!("{node}");
///         }
///     }
///     Err(ConnectError::InvalidNodeList { node, reason, .. }) => eprintln!("remove {node}: {reason}"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An option or a URL is not valid.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// Too few nodes were ready in time: not reached, or reached and not yet able to vote.
    #[error("no quorum of nodes is ready: {}", describe_states(nodes))]
    #[non_exhaustive]
    NoQuorum {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
    /// So many nodes are excluded that no quorum is left. Waiting does not help.
    #[error("too many nodes are excluded: {}", describe_states(nodes))]
    #[non_exhaustive]
    NodesExcluded {
        /// The state of each node.
        nodes: Vec<NodeStatus>,
    },
    /// No quorum is left, or the list may mean two lock clusters, because a node cannot be in the list: one server under
    /// two URLs, a member of a Redis Cluster, or a node of another lock cluster.
    #[error("{node} cannot be in the node list: {reason}")]
    #[non_exhaustive]
    InvalidNodeList {
        /// The node's address.
        node: Arc<str>,
        /// The reason.
        reason: ExclusionReason,
    },
    /// There is no Tokio runtime here. Build the client inside one, or with
    /// [`dedicated_thread`](crate::RedlockBuilder::dedicated_thread).
    #[error("no Tokio runtime here: build the client inside one, or with `dedicated_thread(true)`")]
    NoRuntime(#[source] Arc<tokio::runtime::TryCurrentError>),
    /// The driver was started, but does not run.
    #[error("{0}")]
    NoDriver(NoDriver),
    /// The client's dedicated thread, or the runtime on it, could not be started.
    #[error("the client's thread cannot be started: {0}")]
    Thread(#[source] Arc<io::Error>),
    /// The driver task ended at once.
    #[error("the driver has ended")]
    Closed,
}
