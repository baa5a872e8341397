//! Membership: decides by their markers which nodes may vote.
//!
//! A node votes when its marker names the client's lock cluster and settings, was written by the same server
//! with the same data, and is older than the max ttl. If the client itself saw the marker change, the max ttl
//! must also pass on the client's clock. A node without a marker gets one, if enough other nodes confirm
//! which cluster it belongs to.

mod eligibility;
mod init;
mod member;

use alloc::vec;
use alloc::vec::Vec;
pub use eligibility::ExpectedMarker;
pub use init::InitResult;
pub use member::VotingStatus;

use alloc::sync::Arc;
use core::time::Duration;

use crate::clock_monitor::{ClockAnomaly, ClockMonitor};
use crate::lease_params::Drift;
use crate::marker::{ClusterId, LockClusterConfig, Marker, MarkerReading};
use crate::mutant::{Mutant, enabled};
use crate::quorum::{NodeId, Quorum};
use crate::request::OperationId;
use crate::time::DualTimestamp;
use crate::vote::{ProbationReason, ReplyFailure, Vote};
use eligibility::{Eligibility, eligibility_of};
use init::PendingInit;
use member::{Member, ProbationState};

/// The markers and the voting status of all nodes, as one client knows them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    config: LockClusterConfig,
    drift: Drift,
    /// Whether nodes that are all blank become a lock cluster without `init`. Apart from that, every client
    /// writes the marker of a node that may have lost data, also a read-only client: its probation must start
    /// soon.
    auto_init: bool,
    members: Vec<Member>,
    /// The lock cluster that a quorum of the nodes belonged to last.
    cluster: Option<ClusterId>,
    pending_init: Option<PendingInit>,
    init_result: Option<(OperationId, InitResult)>,
}

/// What the coordinator does next for the membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MemberStep {
    /// Read the node's marker, after a write if there is one.
    ReadMarker(NodeId, Option<MarkerWrite>),
    /// The node's probation has ended for holders: leases may set their keys there again. It does not vote
    /// for contenders yet.
    OpenToHolders(NodeId),
    /// The node's voting status changed.
    StatusChanged(NodeId, VotingStatus),
    /// An `init` has ended.
    InitDone(OperationId, InitResult),
}

/// A marker to write to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MarkerWrite {
    /// Write only if this is the node's marker now.
    pub replaces: Option<Arc<str>>,
    /// The cluster id and its settings.
    pub identity: Arc<str>,
    /// How far the marker's time is set back: zero, except for `init`, where no lock can be lost.
    pub backdate: Duration,
    /// The writer's wall clock, in microseconds; 0 for `init`.
    pub written_micros: u64,
    /// Every fencing number must be above this, whatever the node's clock shows.
    pub base_micros: u64,
}

/// How a client knows the nodes' cluster id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Enough markers contain it.
    Nodes,
    /// All nodes are connected and blank, so they become a new lock cluster.
    NewCluster,
    /// Enough markers contained it, before nodes lost data.
    Memory,
}

impl Membership {
    /// A membership with these settings, of nodes whose markers were not read yet. With `auto_init`, nodes
    /// that are all blank become a lock cluster, after a probation.
    #[must_use]
    pub fn new(config: LockClusterConfig, drift: Drift, auto_init: bool) -> Self {
        let members = vec![Member::default(); config.quorum().nodes()];
        Self { config, drift, auto_init, members, cluster: None, pending_init: None, init_result: None }
    }

    /// The next step, or `None`.
    pub fn poll(&mut self, now: DualTimestamp) -> Option<MemberStep> {
        for node in self.config.quorum().all().iter() {
            let member = &mut self.members[node.index()];
            if member.needs_read(now) {
                return Some(MemberStep::ReadMarker(node, member.begin_read(now)));
            }
            if member.probation_ended_for_holders(now) {
                return Some(MemberStep::OpenToHolders(node));
            }
            if let Some(voting_status) = member.take_status_change(now) {
                return Some(MemberStep::StatusChanged(node, voting_status));
            }
        }
        // Last, so that the caller of `init` sees the new voting status of all nodes.
        self.init_result.take().map(|(id, result)| MemberStep::InitDone(id, result))
    }

    /// When to [`poll`](Self::poll) again, if ever.
    #[must_use]
    pub fn wake_at(&self) -> Option<DualTimestamp> {
        self.members.iter().filter_map(Member::wake_at).reduce(DualTimestamp::earlier)
    }

    /// The node is connected; `reading` is from the handshake. Poll next.
    pub fn on_up(&mut self, node: NodeId, reading: MarkerReading, now: DualTimestamp) {
        self.members[node.index()].is_up = true;
        self.on_marker_reading(node, Ok(reading), now);
    }

    /// The node is disconnected. Its last reading is kept. Poll next.
    pub fn on_down(&mut self, node: NodeId) {
        self.members[node.index()].disconnect();
        self.end_init(InitResult::Unreachable);
    }

    /// The node's marker reading, or the vote of a node that sent none. Poll next.
    pub fn on_marker_reading(
        &mut self,
        node: NodeId,
        reading: Result<MarkerReading, Vote>,
        now: DualTimestamp,
    ) {
        self.on_init_reply(node, &reading);
        let pause = self.config.max_ttl() / READS_PER_TTL;
        let is_read = reading.is_ok();
        let pause = if is_read { pause } else { pause.min(READ_RETRY) };
        self.members[node.index()].record_reading(reading, now, now.plus(pause));
        if is_read {
            // A failed reading changes nothing. Otherwise a node that rejects a write would get it again at
            // once, forever.
            self.evaluate(now);
        }
        self.begin_init();
    }

    /// The node's voting script found another marker than expected. Poll next.
    pub fn on_marker_mismatch(&mut self, node: NodeId, now: DualTimestamp) {
        self.members[node.index()].require_read(now);
    }

    /// A vote shows that the node is on probation for longer than expected. Poll next.
    pub fn on_probation(&mut self, node: NodeId, remaining: Duration, now: DualTimestamp) {
        let (member, max_ttl) = (&mut self.members[node.index()], self.config.max_ttl());
        if remaining > max_ttl {
            // No probation is longer. The node's clock was set back behind its marker; the next reading fixes
            // this.
            member.require_read(now);
        } else {
            member.start_probation(now.plus(remaining), ProbationReason::PossibleDataLoss, max_ttl);
        }
    }

    /// The node's time in the reply to a request that was sent at `sent`. Poll next.
    pub fn on_node_time(
        &mut self,
        node: NodeId,
        sent: DualTimestamp,
        node_micros: u64,
        now: DualTimestamp,
    ) -> Option<ClockAnomaly> {
        let span = self.config.max_ttl();
        let member = &mut self.members[node.index()];
        let anomaly = member.clock.record(sent, now, node_micros, self.drift, span)?;
        if matches!(anomaly, ClockAnomaly::Jumped { .. }) {
            member.start_probation(now.plus(span), ProbationReason::ClockJump, span);
        }
        Some(anomaly)
    }

    /// Records the first reading of a node's clock, with which the next reply is compared.
    pub fn on_first_node_time(
        &mut self,
        node: NodeId,
        sent: DualTimestamp,
        node_micros: u64,
        now: DualTimestamp,
    ) {
        let (drift, span) = (self.drift, self.config.max_ttl());
        let clock = &mut self.members[node.index()].clock;
        if *clock == ClockMonitor::default() {
            // A single reading shows no anomaly.
            let _ = clock.record(sent, now, node_micros, drift, span);
        }
    }

    /// The vote of a node that may not vote for contenders, so that no request is sent to it.
    #[must_use]
    pub fn implicit_vote(&self, node: NodeId, now: DualTimestamp) -> Option<Vote> {
        self.implicit_vote_until(node, now, |probation| probation.votes_from)
    }

    /// The vote of a node that may not vote for holders, so that no request of a holder is sent to it.
    #[must_use]
    pub fn implicit_vote_for_holders(&self, node: NodeId, now: DualTimestamp) -> Option<Vote> {
        self.implicit_vote_until(node, now, |probation| probation.opens_to_holders_at)
    }

    fn implicit_vote_until(
        &self,
        node: NodeId,
        now: DualTimestamp,
        until: fn(&ProbationState) -> DualTimestamp,
    ) -> Option<Vote> {
        let member = &self.members[node.index()];
        match &member.eligibility {
            Eligibility::Member(_) => match &member.probation {
                Some(it) if !now.is_due(until(it)) => {
                    Some(Vote::OnProbation { remaining: until(it).since(now), reason: it.reason })
                }
                _ => None,
            },
            Eligibility::Unverified | Eligibility::NeedsMarker(_) if member.read_failure.is_some() => {
                member.read_failure.clone()
            }
            Eligibility::Unverified => Some(Vote::Unknown(ReplyFailure::Unverified)),
            Eligibility::NeedsMarker(_) => Some(Vote::Unknown(ReplyFailure::MarkerMismatch)),
            Eligibility::Excluded(exclusion) => Some(Vote::Excluded(exclusion.clone())),
        }
    }

    /// Whether the node votes, by its last reported status.
    #[must_use]
    pub fn is_voting(&self, node: NodeId) -> bool {
        self.members[node.index()].is_voting()
    }

    /// The marker that the node's scripts must compare; `None` while it may not vote.
    #[must_use]
    pub fn expected_marker(&self, node: NodeId) -> Option<&ExpectedMarker> {
        match &self.members[node.index()].eligibility {
            Eligibility::Member(expected_marker) => Some(expected_marker),
            Eligibility::Unverified | Eligibility::NeedsMarker(_) | Eligibility::Excluded(_) => None,
        }
    }

    fn readings(&self) -> impl Iterator<Item = &MarkerReading> {
        self.members.iter().filter_map(|member| member.reading.as_ref())
    }

    /// The nodes' cluster id, by a quorum read of their markers (Gifford, *Weighted Voting for Replicated
    /// Data*, 1979).
    fn current_cluster(&self) -> Option<(ClusterId, Source)> {
        let reported: Vec<ClusterId> = self
            .readings()
            .filter_map(|reading| Marker::parse(reading.marker.as_deref()?))
            .filter(|marker| marker.config == self.config)
            .map(|marker| marker.cluster)
            .collect();
        let quorum = self.config.quorum();
        let needed = min_confirming_nodes(quorum);
        let count = |id: &&ClusterId| reported.iter().filter(|other| other == id).count();
        if let Some(id) = reported.iter().find(|id| count(id) >= needed) {
            return Some((*id, Source::Nodes));
        }
        // All clients derive the same id from the same blank servers. So it does not matter which client
        // writes first, or that some nodes have the id already.
        let new_cluster = ClusterId::of_servers(self.readings().map(|reading| &reading.incarnation));
        let is_first_server = |member: &Member| match &member.reading {
            Some(MarkerReading { marker: None, .. }) => member.is_up,
            Some(MarkerReading { marker: Some(text), .. }) => {
                member.is_up && Marker::parse(text).is_some_and(|marker| marker.cluster == new_cluster)
            }
            None => false,
        };
        if self.auto_init && self.members.iter().all(is_first_server) {
            return Some((new_cluster, Source::NewCluster));
        }
        // Too many nodes lost data at once for a quorum read. This client knows their cluster from before.
        let cluster = self.cluster.filter(|cluster| reported.iter().all(|other| other == cluster));
        cluster.map(|cluster| (cluster, Source::Memory))
    }

    /// The number of connected nodes whose marker has this cluster id.
    fn connected_nodes_in(&self, cluster: ClusterId) -> usize {
        let marker = |member: &Member| Marker::parse(member.reading.as_ref()?.marker.as_deref()?);
        let is_counted = |member: &Member| member.is_up || enabled(Mutant::DisconnectedNodesConfirm);
        let is_in_cluster = |it: Marker| (it.cluster, it.config) == (cluster, self.config);
        let confirms = |member: &&Member| is_counted(member) && marker(member).is_some_and(is_in_cluster);
        self.members.iter().filter(confirms).count()
    }

    /// Decides again which nodes may vote.
    fn evaluate(&mut self, now: DualTimestamp) {
        let confirmed_cluster = self.current_cluster();
        self.cluster = confirmed_cluster.map_or(self.cluster, |(cluster, _)| Some(cluster));
        let all_read = self.members.iter().all(|member| member.reading.is_some());
        let config = self.config;
        let confirming = confirmed_cluster.map_or(0, |(cluster, _)| self.connected_nodes_in(cluster));
        for member in &mut self.members {
            let eligibility = match &member.reading {
                None => Eligibility::Unverified,
                Some(reading) => {
                    // A blank node joins if enough connected nodes confirm the cluster: a disconnected node
                    // may have lost its marker since. For a former member one connected node is enough.
                    let is_confirmed = confirming >= min_confirming_nodes(config.quorum())
                        || confirming > 0 && member.was_member();
                    let confirmed_cluster = confirmed_cluster.filter(|(_, source)| match source {
                        Source::NewCluster => true,
                        Source::Nodes => reading.marker.is_some() || is_confirmed,
                        Source::Memory => member.was_member() && (reading.marker.is_some() || is_confirmed),
                    });
                    eligibility_of(reading, confirmed_cluster.map(|(cluster, _)| cluster), all_read, config)
                }
            };
            member.set_eligibility(eligibility, config.max_ttl(), now);
        }
    }
}

/// How many nodes must confirm the cluster of a blank node: q, but at most N − 1. Otherwise, with a quorum of
/// all nodes, a node that lost its data could never join again.
fn min_confirming_nodes(quorum: Quorum) -> usize {
    quorum.needed().min(quorum.nodes() - 1).max(1)
}

/// How many times a marker is read in one max ttl, because a server can change without a new connection.
const READS_PER_TTL: u32 = 4;
/// When to read again after a failed reading or write.
const READ_RETRY: Duration = Duration::from_secs(1);
