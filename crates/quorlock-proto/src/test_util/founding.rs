//! A lock cluster of simulated nodes that vote at once, as after `quorlock init`.

use std::sync::Arc;
use std::time::Duration;

use super::node::SimulatedNode;
use crate::marker::{ClusterId, LockClusterConfig, Marker};
use crate::membership::{MarkerWrite, NodeWrite};
use crate::roster::record::Record;
use crate::roster::voting_time::MarkerTime;
use crate::roster::{Epoch, NodeList, Roster, Seat, SeatId};

/// The list of so many nodes.
#[must_use]
pub fn node_list(nodes: usize) -> NodeList {
    let names: Vec<String> = (0..nodes).map(|node| format!("node {node}")).collect();
    NodeList::new(&names)
}

/// The first roster of a lock cluster: the node with index i has the seat i + 1.
#[must_use]
pub fn first_roster(cluster: ClusterId, config: LockClusterConfig) -> Roster {
    let nodes = config.quorum().nodes();
    let seat = |id| Seat { id: Some(SeatId(id as u64)), ..Seat::default() };
    let list = node_list(nodes).hash();
    let epoch = Epoch::default().after_recovery();
    Roster {
        cluster,
        epoch,
        list,
        config,
        probation: config.max_ttl(),
        fence_base: 0,
        seats: (1..=nodes).map(seat).collect(),
    }
}

/// Makes these blank nodes a lock cluster.
pub fn initialize<'a>(
    nodes: impl Iterator<Item = &'a mut SimulatedNode>,
    cluster: ClusterId,
    config: LockClusterConfig,
    nanos: u64,
) {
    let roster = Arc::new(first_roster(cluster, config));
    for (index, node) in nodes.enumerate() {
        let record = Record {
            seat: SeatId(index as u64 + 1),
            was_member: true,
            roster: Some(roster.clone()),
            promised: None,
            accepted: None,
        };
        let write = MarkerWrite {
            replaces: None,
            incarnation: Some(node.incarnation()),
            identity: Marker::identity(config.max_ttl(), &record),
            record: record.to_text().into(),
            time: MarkerTime::After(Duration::ZERO),
            written_micros: 0,
            base_micros: 0,
        };
        node.read_marker(Some(&NodeWrite::Marker(Box::new(write))), nanos);
    }
}
