//! Connecting a client: waits until a quorum of nodes is ready.

use std::time::Duration;

use super::super::client::{DIAL_SLACK, Redlock};
use super::super::error::{ConnectError, NoDriver};
use super::{Redials, RedlockBuilder};
use crate::host::clock::now;
use crate::host::timer::timeout;
use crate::view::{NodeState, NodeStatus};
use quorlock_proto::vote::ExclusionReason;

impl RedlockBuilder {
    /// Dials all nodes at once and returns a client as soon as a quorum of them is ready. The other nodes get a tenth
    /// of a second to report that they must not be in the list.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidInput`] for options that are not valid; [`ConnectError::InvalidNodeList`] for one server
    /// under two URLs, a Redis Cluster member, or a node of another lock cluster; [`ConnectError::NodesExcluded`] if so
    /// many nodes are excluded that no quorum is left; [`ConnectError::NoQuorum`], with the reason of each node, at the
    /// connect timeout, or with [`dial_once`](Self::dial_once) as soon as that is certain; [`ConnectError::NoDriver`]
    /// if nothing was dialed by then, because the runtime is not running.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connections.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), quorlock::error::ConnectError> {
    /// let redlock = quorlock::Redlock::builder()
    ///     .nodes(["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"])
    ///     .key_prefix("billing:")
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect(self) -> Result<Redlock, ConnectError> {
        let (connect_timeout, dial_timeout) = (self.connect_timeout, self.dial_timeout);
        let redials = self.redials;
        let client = self.connect_lazy()?;
        let deadline = now().plus(connect_timeout);
        let mut status = client.shared.status.clone();
        let mut ready_since = None;
        loop {
            let nodes = status.borrow_and_update().clone();
            // The roster's, once the client follows one.
            let quorum = client.shared.quorum.get();
            invalid_node_list(&nodes)?;
            let is_known = nodes.iter().all(NodeStatus::is_known);
            let excluded = nodes.iter().filter(|node| matches!(node.state, NodeState::Excluded(_))).count();
            let up = nodes.iter().filter(|node| node.is_up()).count();
            let until = if quorum.is_met(up) {
                let ready_since = *ready_since.get_or_insert_with(now);
                if is_known || now().since(ready_since) >= GRACE {
                    return Ok(client);
                }
                ready_since.plus(GRACE)
            } else {
                deadline
            };
            if quorum.is_out_of_reach(excluded) {
                return Err(ConnectError::NodesExcluded { nodes: nodes.to_vec() });
            }
            let is_away =
                |node: &&NodeStatus| matches!(node.state, NodeState::Down { .. } | NodeState::Excluded(_));
            if redials == Redials::Never && quorum.is_out_of_reach(nodes.iter().filter(is_away).count()) {
                return Err(ConnectError::NoQuorum { nodes: nodes.to_vec() });
            }
            let left = until.since(now());
            match timeout(left, status.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(ConnectError::Closed),
                Err(_) if quorum.is_met(up) => return Ok(client),
                Err(_) if connect_timeout > dial_timeout + DIAL_SLACK && nodes.iter().all(is_untried) => {
                    return Err(ConnectError::NoDriver(NoDriver::Stalled));
                }
                Err(_) => return Err(ConnectError::NoQuorum { nodes: nodes.to_vec() }),
            }
        }
    }
}

fn invalid_node_list(nodes: &[NodeStatus]) -> Result<(), ConnectError> {
    for node in nodes {
        if let NodeState::Excluded(
            exclusion @ (ExclusionReason::RedisClusterNode
            | ExclusionReason::DuplicateServer(_)
            | ExclusionReason::ClusterMismatch(_)),
        ) = &node.state
        {
            return Err(ConnectError::InvalidNodeList {
                node: node.address.clone(),
                reason: exclusion.clone(),
            });
        }
    }
    Ok(())
}

/// Whether the first dial is still running; it ends by itself at the dial timeout.
fn is_untried(node: &NodeStatus) -> bool {
    node.state == NodeState::Connecting
}

/// How long nodes beyond the quorum have to report that they must not be in the list.
const GRACE: Duration = Duration::from_millis(100);
