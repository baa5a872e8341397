//! What `doctor` reports about the roster: the number, vacant seats, and seats that changed hands lately.

use std::time::Duration;

use quorlock::node::NodeStatus;
use quorlock_chaos::checker::counted;

use super::{Finding, warning};
use crate::nodes;

/// The number of the roster that this client follows; none in plain mode, and if no node has one.
pub(super) fn epoch(nodes: &[NodeStatus]) -> Option<&str> {
    nodes.iter().find_map(|node| Some(&*node.seat.as_ref()?.epoch))
}

/// One line about the roster.
pub(super) fn summary(nodes: &[NodeStatus]) -> Option<String> {
    let epoch = epoch(nodes)?;
    if nodes::has_other_list(nodes) {
        return Some(format!("roster {epoch}"));
    }
    let seats = counted(nodes.len(), "seat");
    let vacant = nodes.iter().filter(|node| node.seat.as_ref().is_some_and(|it| it.is_vacant)).count();
    Some(match vacant {
        0 => format!("roster {epoch}: {seats}"),
        vacant => format!("roster {epoch}: {seats}, {vacant} vacant"),
    })
}

/// The finding on the seat of one node. A client with another list takes one seat for another, so it has none.
pub(super) fn seat_finding(node: &NodeStatus) -> Option<Finding> {
    let seat = node.seat.as_ref().filter(|seat| seat.same_node_list)?;
    if seat.is_vacant {
        return Some(warning(
            "its seat is vacant, because no client could reach its server; a server at this address takes it by itself"
                .to_owned(),
        ));
    }
    if let Some(vacating) = nodes::vacating(node) {
        return Some(warning(format!(
            "{vacating}; a server at this address takes the seat by itself, then as now"
        )));
    }
    // A clock may have been set back since.
    let ago = seat.changed_at?.elapsed().unwrap_or_default();
    (ago < RECENT).then(|| {
        let ago = humantime::format_duration(Duration::from_secs(ago.as_secs()));
        warning(format!(
            "its seat changed hands {ago} ago: its server was restarted, emptied, promoted or replaced; if not, its \
             address has moved to another server"
        ))
    })
}

/// The finding on a list of nodes that is not the roster's.
pub(super) fn list_finding(nodes: &[NodeStatus]) -> Option<Finding> {
    let cause = if nodes::are_all_members(nodes) {
        "it names the same nodes otherwise"
    } else {
        "it is outdated since a `quorlock reconfigure`, or was never the lock cluster's"
    };
    nodes::has_other_list(nodes).then(|| {
        warning(format!(
            "this list of nodes is not the list in force (host, port and database of each, or --node-names): {cause}; \
             give all clients the list in force; while no client has it, a server that was restarted or replaced gets no \
             seat"
        ))
    })
}

/// The finding on settings of this client that are not the lock cluster's.
pub(super) fn settings_finding(
    nodes: &[NodeStatus],
    quorum: usize,
    max_ttl: Option<Duration>,
    fencing_retention: Duration,
) -> Option<Finding> {
    let settings = nodes.iter().find_map(|node| node.seat.as_ref())?.settings;
    let is_same = settings.quorum == quorum
        && max_ttl == Some(settings.max_ttl)
        && settings.fencing_retention == fencing_retention;
    (!is_same).then(|| {
        warning(format!(
            "the lock cluster has {settings}, which count, and this client has others: give all clients the same --quorum, \
             --max-ttl and --fencing-retention (`quorlock reconfigure` changes those of the lock cluster)"
        ))
    })
}

/// How long a change of hands is reported.
const RECENT: Duration = Duration::from_secs(3600);
