//! What the stories of clusters and of probation look at.

use std::time::Duration;

use crate::attempt::AttemptFailure;
use crate::coordinator::{Coordinator, Limits};
use crate::lease_params::Drift;
use crate::marker::{LockClusterConfig, Marker};
use crate::membership::{Membership, VotingStatus};
use crate::quorum::Quorum;
use crate::test_util::node::{Data, DataKey, DataValue};
use crate::tests::world::{MAX_TTL, REDIAL_AFTER, REPLY_TIMEOUT, World};
use crate::vote::{ExclusionReason, ProbationReason};

/// How often a node is asked what it remembers.
pub(super) const LOOK: Duration = Duration::from_millis(7_500);
/// How long a node that may have lost data casts no vote: the max ttl, and half a second more for those who ask
/// for a lock, so that holders come back first.
pub(super) const NO_VOTE: Duration = Duration::from_millis(30_500);
pub(super) const LAST_MOMENT: Duration = Duration::from_millis(30_499);

/// Nodes that no client has met, and these clients.
pub(super) fn blank(nodes: usize, clients: usize) -> World {
    World::unconnected(nodes, None, clients, Some(MAX_TTL))
}

pub(super) fn voting_status(world: &World, who: usize, node: usize) -> VotingStatus {
    world.clients[who].statuses[node].clone().unwrap_or_default()
}

pub(super) fn is_voting(world: &World, who: usize, node: usize) -> bool {
    voting_status(world, who, node) == VotingStatus::Voting
}

pub(super) fn doubt(world: &World, who: usize, node: usize) -> Option<ProbationReason> {
    match voting_status(world, who, node) {
        VotingStatus::OnProbation(_, doubt) => Some(doubt),
        _ => None,
    }
}

pub(super) fn exclusion(world: &World, who: usize, node: usize) -> Option<ExclusionReason> {
    match voting_status(world, who, node) {
        VotingStatus::Excluded(exclusion) => Some(exclusion),
        _ => None,
    }
}

pub(super) fn marker(world: &World, node: usize) -> Option<Marker> {
    let entry = world.servers[node].node.data().get(&DataKey::Marker)?;
    Marker::parse(std::str::from_utf8(entry.value.as_deref()?).ok()?)
}

pub(super) fn set_marker(world: &mut World, node: usize, text: &str) {
    let entry = DataValue { value: Some(text.into()), expires: None };
    world.servers[node].node.data_mut().insert(DataKey::Marker, entry);
}

pub(super) fn data(world: &World, node: usize) -> Data {
    world.servers[node].node.data().clone()
}

/// This client is on other terms than the rest.
pub(super) fn is_on_terms(world: &mut World, who: usize, quorum: Quorum, max_ttl: Duration, founds: bool) {
    let drift = Drift::new(0.01).expect("a usual drift");
    let members = Membership::new(LockClusterConfig::new(quorum, max_ttl), drift, founds);
    let limits = Limits { reply_timeout: REPLY_TIMEOUT, redial_after: REDIAL_AFTER };
    world.clients[who].coordinator = Coordinator::fenced(quorum, limits, members);
}

pub(super) fn connect(world: &mut World, who: usize) {
    (0..world.servers.len()).for_each(|node| world.connect(who, node));
    world.drive();
}

pub(super) fn try_to_take(world: &mut World, who: usize) -> AttemptFailure {
    world.acquire(who);
    world.drive();
    world.refusal(who).expect("it may not be had")
}

/// Another client in the place of this one, which knows nothing of before, and has met these nodes. Nothing else travels.
pub(super) fn meet_again(world: &mut World, who: usize, nodes: impl IntoIterator<Item = usize>) {
    for node in 0..world.servers.len() {
        if world.is_up(who, node) {
            world.cut(who, node);
        }
    }
    let quorum = world.quorum();
    is_on_terms(world, who, quorum, MAX_TTL, true);
    world.clients[who].oddities.clear();
    for node in nodes {
        world.connect(who, node);
        while world.step(who, node) {}
    }
}
