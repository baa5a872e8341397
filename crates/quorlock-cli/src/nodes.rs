//! The status of nodes, for people and as JSON.

use std::time::Duration;

use quorlock::node::{ExclusionReason, NodeState, NodeStatus, NodeWarning};
use serde::Serialize;

/// The state as one word, for people. Blank nodes and nodes on probation
/// have separate words: they are healthy.
pub(crate) fn state_for_people(node: &NodeStatus) -> &'static str {
    match &node.state {
        NodeState::Up if node.is_voting() => "up",
        NodeState::Up => "probation",
        NodeState::Unverified(_) => "unverified",
        NodeState::Down { .. } => "down",
        NodeState::Excluded(ExclusionReason::Uninitialized) => "blank",
        NodeState::Excluded(_) => "excluded",
        _ => "connecting",
    }
}

/// Why the node does not vote; none if it votes.
pub(crate) fn problem_of(node: &NodeStatus) -> Option<String> {
    let text = node.to_string();
    let reason = text.strip_prefix(&*node.address).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text);
    let reason = reason.strip_prefix("up, and ").unwrap_or(reason);
    (!node.is_voting()).then(|| reason.to_owned())
}

/// By when the seat of a node becomes vacant that no client reaches, if that is known.
pub(crate) fn vacating(node: &NodeStatus) -> Option<String> {
    let seconds = node.vacant_by?.remaining().as_secs() + 1;
    let left = humantime::format_duration(Duration::from_secs(seconds));
    Some(format!("its seat becomes vacant in at most {left}, unless a client reaches it"))
}

/// The server's own error if it rejects writes.
pub(crate) fn write_error_of(node: &NodeStatus) -> Option<&NodeWarning> {
    node.warnings.iter().find(|warning| matches!(warning, NodeWarning::WriteRejected(_)))
}

/// A node as JSON: its status, and whether it votes now.
#[derive(Serialize)]
pub(crate) struct NodeView<'a> {
    #[serde(flatten)]
    status: &'a NodeStatus,
    is_voting: bool,
}

impl<'a> From<&'a NodeStatus> for NodeView<'a> {
    fn from(status: &'a NodeStatus) -> Self {
        Self { status, is_voting: status.is_voting() }
    }
}

/// Whether no node has ever belonged to a lock cluster.
pub(crate) fn are_uninitialized(nodes: &[NodeStatus]) -> bool {
    nodes.iter().all(|node| node.state == NodeState::Excluded(ExclusionReason::Uninitialized))
}

/// The nodes that keep blank nodes from being initialized, or from joining their lock cluster: those that are
/// down, exclude this client, or reject writes.
pub(crate) fn fix_first(nodes: &[NodeStatus]) -> Option<String> {
    let is_to_be_fixed = |node: &&NodeStatus| match &node.state {
        NodeState::Up | NodeState::Unverified(None) | NodeState::Excluded(ExclusionReason::Uninitialized) => {
            write_error_of(node).is_some()
        }
        _ => true,
    };
    let addresses: Vec<&str> = nodes.iter().filter(is_to_be_fixed).map(|node| &*node.address).collect();
    (!addresses.is_empty()).then(|| format!("fix these first: {}", addresses.join(", ")))
}

/// Whether the node's lock cluster can be known only from other nodes.
pub(crate) fn waits_for_others(node: &NodeStatus) -> bool {
    matches!(node.state, NodeState::Excluded(ExclusionReason::Uninitialized) | NodeState::Unverified(None))
}

/// Whether the list of nodes is not the one of the roster in force.
pub(crate) fn has_other_list(nodes: &[NodeStatus]) -> bool {
    nodes.iter().filter_map(|node| node.seat.as_ref()).any(|seat| !seat.same_node_list)
}

/// Whether these nodes are the members of the lock cluster, all of them and no other.
pub(crate) fn are_all_members(nodes: &[NodeStatus]) -> bool {
    let is_one_of_as_many =
        |node: &NodeStatus| node.seat.as_ref().is_some_and(|seat| seat.settings.nodes == nodes.len());
    nodes.iter().all(|node| node.state == NodeState::Up && is_one_of_as_many(node))
}

/// Whether the server at this address cannot be in one list with the others.
pub(crate) fn is_misplaced(node: &NodeStatus) -> bool {
    matches!(&node.state, NodeState::Excluded(reason) if reason.is_misplaced())
}

/// Messages of nodes, each with the addresses of all nodes that it is from.
pub(crate) fn grouped(nodes: &[(&str, String)], all: usize) -> String {
    let mut groups: Vec<(Vec<&str>, &str)> = Vec::new();
    for (node, message) in nodes {
        match groups.iter_mut().find(|(_, other)| other == message) {
            Some((nodes, _)) => nodes.push(node),
            None => groups.push((vec![node], message)),
        }
    }
    let one = |(nodes, message): (Vec<&str>, &str)| match nodes.len() {
        count if count == all && count > 1 => format!("all {count} nodes: {message}"),
        _ => format!("{}: {message}", nodes.join(", ")),
    };
    groups.into_iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The number of nodes that vote.
pub(crate) fn voting(nodes: &[NodeStatus]) -> usize {
    nodes.iter().filter(|node| node.is_voting()).count()
}

/// The time until a quorum votes, if only probations are in the way.
pub(crate) fn quorum_in(nodes: &[NodeStatus], quorum: usize) -> Option<Duration> {
    let wait = |node: &NodeStatus| match node.probation {
        _ if node.is_voting() => Some(Duration::ZERO),
        probation => probation.map(|probation| probation.remaining()),
    };
    let mut waits: Vec<Duration> =
        nodes.iter().filter(|node| node.state == NodeState::Up).filter_map(wait).collect();
    waits.sort_unstable();
    waits.get(quorum - 1).copied()
}

/// The message for a blank node if other nodes must be fixed first. Its own message would blame the blank node.
pub(crate) const BLANK: &str = "blank, and too few others know its lock cluster: fix those first";
pub(crate) const NOT_INITIALIZED: &str = "these nodes are not initialized";

/// A duration for people: tenths of a second, and milliseconds below one second.
pub(crate) fn span(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        format!("{} ms", span.as_millis())
    } else {
        format!("{:.1} s", span.as_secs_f64())
    }
}
