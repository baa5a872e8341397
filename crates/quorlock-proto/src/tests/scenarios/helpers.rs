//! Helpers of the scenarios about lock clusters and probation.

use std::sync::Arc;
use std::time::Duration;

use crate::attempt::AttemptFailure;
use crate::coordinator::{Coordinator, Limits};
use crate::lease_params::Drift;
use crate::marker::{ClusterId, LockClusterConfig, Marker};
use crate::membership::{Membership, VotingStatus};
use crate::quorum::Quorum;
use crate::roster::record::Record;
use crate::roster::{NodeList, Roster, SeatId};
use crate::test_util::founding::{first_roster, node_list};
use crate::test_util::node::{Data, DataKey, DataValue};
use crate::tests::world::{ALICE, MAX_TTL, REDIAL_AFTER, REPLY_TIMEOUT, World};
use crate::vote::{ExclusionReason, ProbationReason, ReplyFailure};

/// The interval between two marker readings of a node: a quarter of the max ttl.
pub(super) const MARKER_READ_INTERVAL: Duration = Duration::from_millis(7_500);
/// How long a node that may have lost data casts no vote: the max ttl, plus 500 ms for holders to reacquire.
pub(super) const PROBATION: Duration = Duration::from_millis(30_500);
/// How much earlier holders may use a node after its probation than contenders.
pub(super) const HEAD_START: Duration = Duration::from_millis(500);
pub(super) const PROBATION_MINUS_1_MS: Duration = Duration::from_millis(30_499);

/// Longer than a change of the roster takes: a random wait of up to 200 ms, more after a lost ballot.
pub(super) const SETTLING: Duration = Duration::from_secs(1);

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
    let marker = marker(world, node)?;
    Record::parse(marker.seat, marker.was_member, std::str::from_utf8(entry.value.as_deref()?).ok()?)
}

pub(super) fn cluster(world: &World, node: usize) -> Option<ClusterId> {
    record(world, node)?.roster.map(|roster| roster.cluster)
}

/// The roster that the node carries, or that is in its data.
pub(super) fn roster(world: &World, node: usize) -> Option<Arc<Roster>> {
    record(world, node)?.roster
}

/// The number of the roster that the node carries.
pub(super) fn epoch(world: &World, node: usize) -> String {
    roster(world, node).map_or_else(String::new, |roster| roster.epoch.to_string())
}

/// The node's absence reports.
pub(super) fn absences(world: &World, node: usize) -> Option<String> {
    let value = world.servers[node].node.data().get(&DataKey::Absences)?.value.clone()?;
    String::from_utf8(value).ok()
}

/// Why the node does not vote, as its status shows it to users (`NodeStatus`).
pub(super) fn status_text(world: &World, client: usize, node: usize) -> String {
    match voting_status(world, client, node) {
        VotingStatus::Unverified(failure) => failure.unwrap_or(ReplyFailure::Unverified).to_string(),
        VotingStatus::AwaitsAbsent(until) => {
            ReplyFailure::AwaitsAbsent { at_most: until.since(world.now(client)) }.to_string()
        }
        VotingStatus::Excluded(reason) => reason.to_string(),
        other => format!("{other:?}"),
    }
}

/// Replaces the client by new processes one after the other, each of which lives for 6 s, until one finds `is_done`.
/// Returns how long that took, to 100 ms; at most this many processes.
pub(super) fn run_short_clients(
    world: &mut World,
    nodes: &[usize],
    clients: usize,
    is_done: impl Fn(&mut World) -> bool,
) -> Option<Duration> {
    let before = world.now(ALICE);
    for _ in 0..clients {
        restart_client(world, ALICE, nodes.iter().copied());
        for _ in 0..60 {
            world.run_for(Duration::from_millis(100));
            if is_done(world) {
                return Some(world.now(ALICE).since(before));
            }
        }
    }
    None
}

/// How long until the node votes, by its marker and its clock; zero if it does.
pub(super) fn probation_left(world: &World, node: usize) -> Duration {
    let marker = marker(world, node).expect("a marker");
    let clock = world.servers[node].node.clock_micros(world.now(ALICE).boot_nanos());
    Duration::from_micros(marker.time_micros.saturating_sub(clock))
}

/// When the client counts the node's votes again, by the status that it reports.
pub(super) fn votes_in(world: &World, client: usize, node: usize) -> Duration {
    let VotingStatus::OnProbation(votes_from, _) = voting_status(world, client, node) else {
        panic!("not on probation: {:?}", voting_status(world, client, node))
    };
    votes_from.since(world.now(client))
}

/// Asserts that the client counts the node's votes after this time and not 1 ms before.
pub(super) fn assert_votes_after(world: &mut World, client: usize, node: usize, wait: Duration) {
    world.run_for(wait - Duration::from_millis(1));
    assert!(
        probation_reason(world, client, node).is_some(),
        "1 ms before: {:?}",
        voting_status(world, client, node)
    );
    world.run_for(Duration::from_millis(1));
    assert!(is_voting(world, client, node), "after: {:?}", voting_status(world, client, node));
}

/// Restarts the node's server with this data, and connects both clients to it. Its seat has changed hands then.
pub(super) fn restart_and_settle(world: &mut World, node: usize, data: Data) {
    world.restart(node, data);
    (0..world.clients.len()).for_each(|client| world.connect(client, node));
    world.run_for(SETTLING);
    assert!(is_member(world, node), "its new seat is in the roster");
}

/// Whether the server at the node's address is a member of the roster that it carries.
pub(super) fn is_member(world: &World, node: usize) -> bool {
    let is_current =
        marker(world, node).is_some_and(|it| it.incarnation == world.servers[node].node.incarnation());
    is_current
        && record(world, node).is_some_and(|it| it.roster.as_ref().is_some_and(|roster| roster.has(it.seat)))
}

pub(super) fn set_marker(world: &mut World, node: usize, text: &str) {
    let entry = DataValue { value: Some(text.into()), expires: None };
    world.servers[node].node.data_mut().insert(DataKey::Marker, entry);
}

/// Makes the node carry a roster of another lock cluster, which has this list, and returns its marker.
pub(super) fn set_foreign_roster(
    world: &mut World,
    node: usize,
    list: &NodeList,
    incarnation: &str,
) -> String {
    let quorum = Quorum::new(list.nodes().len(), None).expect("a quorum");
    let config = LockClusterConfig::new(quorum, MAX_TTL);
    let roster = Some(Arc::new(Roster { list: list.hash(), ..first_roster(ClusterId::new(9), config) }));
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
    let config = LockClusterConfig::new(quorum, max_ttl);
    replace_coordinator(world, client, config, node_list(quorum.nodes()), may_found);
}

/// Replaces the client by one that has another name for the last node.
pub(super) fn change_list(world: &mut World, client: usize) {
    disconnect_from_all(world, client);
    let mut names: Vec<String> = (0..world.nodes()).map(|node| format!("node {node}")).collect();
    names[world.nodes() - 1] = "node 9".into();
    let config = LockClusterConfig::new(world.quorum(), MAX_TTL);
    replace_coordinator(world, client, config, NodeList::new(&names), true);
}

fn replace_coordinator(
    world: &mut World,
    client: usize,
    config: LockClusterConfig,
    list: NodeList,
    may_found: bool,
) {
    let (drift, quorum) = (Drift::new(0.01).expect("a valid drift"), config.quorum());
    let members = Membership::new(config, drift, list, world.next_client_id(), may_found);
    let limits = Limits { reply_timeout: REPLY_TIMEOUT, redial_after: REDIAL_AFTER };
    let client = &mut world.clients[client];
    client.coordinator = Coordinator::fenced(quorum, limits, members);
    client.rosters.clear();
    client.clock_anomalies.clear();
}

pub(super) fn connect_to_all(world: &mut World, client: usize) {
    (0..world.nodes()).for_each(|node| world.connect(client, node));
    world.deliver_all();
}

pub(super) fn disconnect_from_all(world: &mut World, client: usize) {
    (0..world.nodes())
        .filter(|node| world.is_connected(client, *node))
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|node| {
            world.disconnect(client, node);
        });
}

pub(super) fn acquire_expecting_failure(world: &mut World, client: usize) -> AttemptFailure {
    world.start_acquire(client);
    world.deliver_all();
    world.take_failure(client).expect("the attempt fails")
}

/// Replaces the client by a new process that has connected to these nodes only. Delivers nothing else.
pub(super) fn restart_client(world: &mut World, client: usize, nodes: impl IntoIterator<Item = usize>) {
    disconnect_from_all(world, client);
    let quorum = world.quorum();
    reconfigure(world, client, quorum, MAX_TTL, true);
    for node in nodes {
        world.connect(client, node);
        while world.round_trip(client, node) {}
    }
}
