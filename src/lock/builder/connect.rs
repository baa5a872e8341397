//! Connecting a client: waits until a quorum of nodes is ready.

use std::time::Duration;

use super::super::client::{DIAL_SLACK, Redlock};
use super::super::error::{ConnectError, NoDriver};
use super::{Redials, RedlockBuilder};
use crate::host::clock::now;
use crate::host::timer::timeout;
use crate::view::{NodeState, NodeStatus};
use quorlock_proto::quorum::Quorum;
use quorlock_proto::vote::ExclusionReason;

impl RedlockBuilder {
    /// Dials all nodes at once and returns a client as soon as a quorum of them is ready. The other nodes get a tenth
    /// of a second to be ready too. A minority may be down or excluded, for whatever reason: an address may lead to a
    /// wrong server for a while. See [`Redlock::node_status`] and
    /// [`Event::NodeExcluded`](crate::event::Event::NodeExcluded).
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidInput`] for options that are not valid; [`ConnectError::InvalidNodeList`] if no quorum is
    /// left, or no lock cluster can be founded, because of one server under two URLs, a Redis Cluster member, or a node
    /// of another lock cluster, and if so many nodes are of another lock cluster that the list may mean either;
    /// [`ConnectError::NodesExcluded`] if no quorum is left because nodes are excluded for other reasons;
    /// [`ConnectError::NoQuorum`], with the reason of each node, at the connect timeout, or with
    /// [`dial_once`](Self::dial_once) as soon as that is certain; [`ConnectError::NoDriver`] if nothing was dialed by
    /// then, because the runtime is not running.
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
            let is_known = nodes.iter().all(NodeStatus::is_known);
            let excluded = nodes.iter().filter(|node| matches!(node.state, NodeState::Excluded(_))).count();
            let up = nodes.iter().filter(|node| node.is_up()).count();
            if quorum.is_out_of_reach(excluded)
                || cannot_be_founded(&nodes)
                || names_two_clusters(&nodes, quorum)
            {
                return Err(excluded_error(&nodes, quorum));
            }
            let until = if quorum.is_met(up) {
                let ready_since = *ready_since.get_or_insert_with(now);
                if is_known || now().since(ready_since) >= GRACE {
                    return Ok(client);
                }
                ready_since.plus(GRACE)
            } else {
                deadline
            };
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

/// The error when too many nodes are excluded. It names a node that cannot be in the list, if enough would be left
/// without such nodes.
fn excluded_error(nodes: &[NodeStatus], quorum: Quorum) -> ConnectError {
    let others = nodes.iter().filter(|node| matches!(node.state, NodeState::Excluded(_)));
    let others = others.filter(|node| misplaced(node).is_none()).count();
    match nodes.iter().find_map(|node| Some((node, misplaced(node)?))) {
        Some((node, reason)) if !quorum.is_out_of_reach(others) => {
            ConnectError::InvalidNodeList { node: node.address.clone(), reason: reason.clone() }
        }
        _ => ConnectError::NodesExcluded { nodes: nodes.to_vec() },
    }
}

/// Whether no node belongs to a lock cluster and one cannot be in any with the others. A new lock cluster needs all
/// nodes, and this list is most likely a mistake that was just made.
fn cannot_be_founded(nodes: &[NodeStatus]) -> bool {
    let is_without_seat = |node: &NodeStatus| {
        node.seat.is_none() && matches!(node.state, NodeState::Excluded(_) | NodeState::Unverified(_))
    };
    nodes.iter().all(is_without_seat) && nodes.iter().any(|node| misplaced(node).is_some())
}

/// Whether the list is no lock cluster's, and names so many nodes of two that some clients with this list might follow
/// the other one. They would exclude each other in neither.
fn names_two_clusters(nodes: &[NodeStatus], quorum: Quorum) -> bool {
    let is_foreign =
        |node: &&NodeStatus| matches!(misplaced(node), Some(ExclusionReason::ClusterMismatch(_)));
    let has_own_list = nodes.iter().filter_map(|node| node.seat.as_ref()).any(|seat| seat.same_node_list);
    !has_own_list && quorum.is_met(nodes.iter().filter(is_foreign).count())
}

/// Why a node cannot be in one list with the others, if it cannot.
fn misplaced(node: &NodeStatus) -> Option<&ExclusionReason> {
    match &node.state {
        NodeState::Excluded(reason) if reason.is_misplaced() => Some(reason),
        _ => None,
    }
}

/// Whether the first dial is still running; it ends by itself at the dial timeout.
fn is_untried(node: &NodeStatus) -> bool {
    node.state == NodeState::Connecting
}

/// How long nodes beyond the quorum have to be ready too.
const GRACE: Duration = Duration::from_millis(100);
