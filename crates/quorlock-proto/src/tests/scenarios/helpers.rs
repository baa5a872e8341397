//! Helpers of the scenarios about lock clusters and probation.

use crate::marker::ClusterId;
use crate::roster::record::Record;
use std::time::Duration;

use crate::attempt::AttemptFailure;
use crate::coordinator::{Coordinator, Limits};
use crate::lease_params::Drift;
use crate::marker::{LockClusterConfig, Marker};
use crate::membership::{Membership, VotingStatus};
use crate::quorum::Quorum;
use crate::roster::SeatId;
use crate::test_util::founding::{first_roster, node_list};
use crate::test_util::node::{Data, DataKey, DataValue};
use crate::tests::world::{MAX_TTL, REDIAL_AFTER, REPLY_TIMEOUT, World};
use crate::vote::{ExclusionReason, ProbationReason};
use std::sync::Arc;

/// The interval between two marker readings of a node: a quarter of the max ttl.
pub(super) const MARKER_READ_INTERVAL: Duration = Duration::from_millis(7_500);
/// How long a node that may have lost data casts no vote: the max ttl, plus 500 ms for holders to reacquire.
pub(super) const PROBATION: Duration = Duration::from_millis(30_500);
pub(super) const PROBATION_MINUS_1_MS: Duration = Duration::from_millis(30_499);

/// Nodes without markers and clients without connections.
pub(super) fn uninitialized_world(nodes: usize, clients: usize) -> World {
    World::unconnected(nodes, None, clients, Some(MAX_TTL))
}

pub(super) fn voting_status(world: &World, client: usize, node: usize) -> VotingStatus {
    world.clients[client].statuses[node].clone().unwrap_or_default()
}

pub(super) fn is_voting(world: &World, client: usize, node: usize) -> bool {
    voting_status(world, client, node) == VotingStatus::Voting
}

pub(super) fn probation_reason(world: &World, client: usize, node: usize) -> Option<ProbationReason> {
    match voting_status(world, client, node) {
        VotingStatus::OnProbation(_, reason) => Some(reason),
        _ => None,
    }
}

pub(super) fn exclusion_reason(world: &World, client: usize, node: usize) -> Option<ExclusionReason> {
    match voting_status(world, client, node) {
        VotingStatus::Excluded(exclusion) => Some(exclusion),
        _ => None,
    }
}

pub(super) fn marker(world: &World, node: usize) -> Option<Marker> {
    let entry = world.servers[node].node.data().get(&DataKey::Marker)?;
    Marker::parse(std::str::from_utf8(entry.value.as_deref()?).ok()?)
}

/// What the node remembers, or remembered before it was restarted.
pub(super) fn record(world: &World, node: usize) -> Option<Record> {
    let entry = world.servers[node].node.data().get(&DataKey::Record)?;
    Record::parse(&marker(world, node)?, std::str::from_utf8(entry.value.as_deref()?).ok()?)
}

pub(super) fn cluster(world: &World, node: usize) -> Option<ClusterId> {
    record(world, node)?.roster.map(|roster| roster.cluster)
}

pub(super) fn set_marker(world: &mut World, node: usize, text: &str) {
    let entry = DataValue { value: Some(text.into()), expires: None };
    world.servers[node].node.data_mut().insert(DataKey::Marker, entry);
}

/// Makes the node a member of this lock cluster, and returns its marker.
pub(super) fn set_foreign_roster(
    world: &mut World,
    node: usize,
    cluster: ClusterId,
    incarnation: &str,
) -> String {
    let config = LockClusterConfig::new(world.quorum(), MAX_TTL);
    let roster = Some(Arc::new(first_roster(cluster, config)));
    let record =
        Record { seat: SeatId(node as u64 + 1), was_member: true, roster, promised: None, accepted: None };
    let text = format!("{} {incarnation} 1 1 0", Marker::identity(MAX_TTL, &record));
    set_marker(world, node, &text);
    let entry = DataValue { value: Some(record.to_text().into()), expires: None };
    world.servers[node].node.data_mut().insert(DataKey::Record, entry);
    text
}

pub(super) fn data(world: &World, node: usize) -> Data {
    world.servers[node].node.data().clone()
}

/// Replaces the client's coordinator by a new one with these settings.
pub(super) fn reconfigure(
    world: &mut World,
    client: usize,
    quorum: Quorum,
    max_ttl: Duration,
    may_found: bool,
) {
    let drift = Drift::new(0.01).expect("a valid drift");
    let config = LockClusterConfig::new(quorum, max_ttl);
    let members = Membership::new(config, drift, node_list(quorum.nodes()), client as u64 + 1, may_found);
    let limits = Limits { reply_timeout: REPLY_TIMEOUT, redial_after: REDIAL_AFTER };
    world.clients[client].coordinator = Coordinator::fenced(quorum, limits, members);
}

pub(super) fn connect_to_all(world: &mut World, client: usize) {
    (0..world.servers.len()).for_each(|node| world.connect(client, node));
    world.deliver_all();
}

pub(super) fn acquire_expecting_failure(world: &mut World, client: usize) -> AttemptFailure {
    world.start_acquire(client);
    world.deliver_all();
    world.take_failure(client).expect("the attempt fails")
}

/// Replaces the client by a new process that has connected to these nodes only. Delivers nothing else.
pub(super) fn restart_client(world: &mut World, client: usize, nodes: impl IntoIterator<Item = usize>) {
    for node in 0..world.servers.len() {
        if world.is_connected(client, node) {
            world.disconnect(client, node);
        }
    }
    let quorum = world.quorum();
    reconfigure(world, client, quorum, MAX_TTL, true);
    world.clients[client].clock_anomalies.clear();
    for node in nodes {
        world.connect(client, node);
        while world.round_trip(client, node) {}
    }
}
