//! How the nodes stand, as people and programs are told.

use std::time::Duration;

use quorlock::{ExclusionReason, NodeState, NodeStatus, ProbationReason};
use serde_json::{Map, Value, json};

/// In one word, for people: a new server is not excluded for anything that is wrong with it, and one on probation waits.
pub(crate) fn state_for_people(node: &NodeStatus) -> &'static str {
    match &node.state {
        NodeState::Excluded(ExclusionReason::Uninitialized) => "uninitialized",
        NodeState::Up if !node.is_voting() => "probation",
        _ => state_of(node),
    }
}

/// In one word.
pub(crate) fn state_of(node: &NodeStatus) -> &'static str {
    match &node.state {
        NodeState::Up => "up",
        NodeState::Unverified(_) => "unverified",
        NodeState::Down(_) => "down",
        NodeState::Excluded(_) => "excluded",
        _ => "connecting",
    }
}

/// What keeps it from voting; nothing if it votes.
pub(crate) fn trouble_of(node: &NodeStatus) -> Option<String> {
    let text = node.to_string();
    let words = text.strip_prefix(&node.address).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text);
    let words = words.strip_prefix("up, and ").unwrap_or(words);
    (!node.is_voting()).then(|| words.to_owned())
}

/// That it takes no writes, in its own words, if it does not.
pub(crate) fn refusal_of(node: &NodeStatus) -> Option<&str> {
    node.warnings.iter().map(String::as_str).find(|warning| warning.starts_with("refuses writes"))
}

/// For programs: whether it votes, and what keeps it from that.
pub(crate) fn json_of(node: &NodeStatus) -> Map<String, Value> {
    let probation = node.probation.filter(|probation| !probation.remaining().is_zero()).map(|probation| {
        let reason = match probation.reason {
            ProbationReason::NewNode => "new-node",
            ProbationReason::PossibleDataLoss => "possible-data-loss",
            ProbationReason::ClockJump => "clock-jump",
            _ => "other",
        };
        json!({ "remaining_ms": probation.remaining().as_millis() as u64, "reason": reason })
    });
    let bar = match &node.state {
        NodeState::Excluded(bar) => Some(match bar {
            ExclusionReason::Replica => "replica",
            ExclusionReason::RedisClusterNode => "redis-cluster-node",
            ExclusionReason::DuplicateServer(_) => "duplicate-server",
            ExclusionReason::AuthFailed(_) => "auth-failed",
            ExclusionReason::PermissionDenied(_) => "permission-denied",
            ExclusionReason::EvictionEnabled => "eviction-enabled",
            ExclusionReason::ClusterMismatch(_) => "cluster-mismatch",
            ExclusionReason::Uninitialized => "uninitialized",
            _ => "unsupported",
        }),
        _ => None,
    };
    let refusal = match &node.state {
        NodeState::Unverified(Some(fault)) => Some(fault.to_string()),
        _ => None,
    };
    let fields = [
        ("node", json!(node.address)),
        ("state", json!(state_of(node))),
        ("votes", json!(node.is_voting())),
        ("probation", json!(probation)),
        ("exclusion", json!(bar)),
        ("refusal", json!(refusal)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whether none of them has ever been told which cluster it belongs to.
pub(crate) fn are_undeclared(nodes: &[NodeStatus]) -> bool {
    nodes.iter().all(|node| node.state == NodeState::Excluded(ExclusionReason::Uninitialized))
}

/// What keeps blank nodes from being made a lock cluster, or being told of theirs: the nodes that are away, refuse us, or take no
/// writes.
pub(crate) fn first_to_mend(nodes: &[NodeStatus]) -> Option<String> {
    let is_to_be_mended = |node: &&NodeStatus| match &node.state {
        NodeState::Up | NodeState::Unverified(None) | NodeState::Excluded(ExclusionReason::Uninitialized) => {
            refusal_of(node).is_some()
        }
        _ => true,
    };
    let addresses: Vec<&str> = nodes.iter().filter(is_to_be_mended).map(|node| &*node.address).collect();
    (!addresses.is_empty()).then(|| format!("mend these first: {}", addresses.join(", ")))
}

/// Whether it waits for others to know in which lock cluster it votes.
pub(crate) fn waits_for_others(node: &NodeStatus) -> bool {
    matches!(node.state, NodeState::Excluded(ExclusionReason::Uninitialized) | NodeState::Unverified(None))
}

/// Of nodes that know a lock cluster of which no quorum is left, beside so many blank ones: what that is, and the way on.
pub(crate) fn without_the_others(nodes: &[NodeStatus], quorum: usize) -> Option<String> {
    let blank =
        nodes.iter().filter(|node| node.state == NodeState::Excluded(ExclusionReason::Uninitialized)).count();
    let left = nodes
        .iter()
        .filter(|node| matches!(node.state, NodeState::Excluded(ExclusionReason::ClusterMismatch(_))))
        .count();
    (left > 0 && blank > nodes.len() - quorum && left < quorum).then(|| {
        let remember = if left == 1 { "remembers" } else { "remember" };
        format!(
            "{blank} of {} nodes are blank, and {left} {remember} a cluster that has no quorum any more: name the nodes of \
             that one; or, if the blank ones have lost their data, stop all clients, wait for the longest ttl, and run \
             `quorlock init --force`",
            nodes.len()
        )
    })
}

/// What nodes say, each with its address, and the same words once.
pub(crate) fn grouped(nodes: &[(&str, String)], all: usize) -> String {
    let mut groups: Vec<(Vec<&str>, &str)> = Vec::new();
    for (node, words) in nodes {
        match groups.iter_mut().find(|(_, other)| other == words) {
            Some((nodes, _)) => nodes.push(node),
            None => groups.push((vec![node], words)),
        }
    }
    let one = |(nodes, words): (Vec<&str>, &str)| match nodes.len() {
        count if count == all && count > 1 => format!("all {count} nodes: {words}"),
        _ => format!("{}: {words}", nodes.join(", ")),
    };
    groups.into_iter().map(one).collect::<Vec<_>>().join("; ")
}

/// How many vote.
pub(crate) fn voting(nodes: &[NodeStatus]) -> usize {
    nodes.iter().filter(|node| node.is_voting()).count()
}

/// When enough of them vote, if probations alone keep them from it.
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

/// Of a blank node beside others that are to be mended: what that node itself says would blame it.
pub(crate) const BLANK: &str = "blank, and too few others say which cluster it belongs to: mend those first";
/// Of nodes of which none is to be mended first, because they are what is left of a lock cluster, or new.
pub(crate) const NEW: &str = "blank: it remembers no cluster";
pub(crate) const ALONE: &str = "remembers a cluster that has no quorum any more";

/// As people read it: to a tenth of a second, and below that in milliseconds.
pub(crate) fn span(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        format!("{} ms", span.as_millis())
    } else {
        format!("{:.1} s", span.as_secs_f64())
    }
}
