//! Which nodes may vote: those that remember what they should.
//!
//! A node votes when its marker names our cluster and charter, when it was written by the very server that it stands
//! on, and when the max ttl has passed since. What a client itself saw change must also pass the max ttl on
//! the client's own clock. Who has no marker is given one, if enough others say which cluster it belongs to.

mod eligibility;
mod init;
mod member;

pub use eligibility::ExpectedMarker;
pub use init::InitResult;
pub use member::VotingStatus;

use std::sync::Arc;
use std::time::Duration;

use crate::clock_monitor::{ClockAnomaly, ClockMonitor};
use crate::coordinator::OperationId;
use crate::lease_params::Drift;
use crate::marker::{ClusterId, LockClusterConfig, Marker, MarkerReading};
use crate::mutant::{Mutant, enabled};
use crate::quorum::{NodeId, Quorum};
use crate::time::DualTimestamp;
use crate::vote::{ProbationReason, ReplyFailure, Vote};
use eligibility::{Eligibility, eligibility_of};
use init::PendingInit;
use member::{Member, ProbationState};

/// What is known of every node's memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    config: LockClusterConfig,
    drift: Drift,
    /// Whether nodes that are all blank become a cluster without a declaration. Each that may have forgotten is told so
    /// by everybody, also by those who only look: its probation must not wait for somebody who takes locks.
    auto_init: bool,
    members: Vec<Member>,
    /// The cluster that a quorum of the nodes belonged to last.
    cluster: Option<ClusterId>,
    pending_init: Option<PendingInit>,
    init_result: Option<(OperationId, InitResult)>,
}

/// What must be done about the membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MemberStep {
    /// Ask the node what it remembers, after it was told what to remember, if anything.
    ReadMarker(NodeId, Option<MarkerWrite>),
    /// The node's probation has ended. Who holds a lock may come back to it, before it votes for all.
    OpenToHolders(NodeId),
    /// The node stands otherwise than before.
    StatusChanged(NodeId, VotingStatus),
    /// A declaration is through.
    InitDone(OperationId, InitResult),
}

/// What a node is told to remember.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MarkerWrite {
    /// Only if this is what it remembers now.
    pub replaces: Option<Arc<str>>,
    /// Cluster and charter.
    pub identity: Arc<str>,
    /// How long ago its time is set: nothing, unless somebody knows that there is nothing to forget.
    pub backdate: Duration,
    /// What our wall clock shows, in microseconds; 0 where there is nothing to forget.
    pub written_micros: u64,
    /// What every number is to be above, whatever the node's clock says.
    pub base_micros: u64,
}

/// How we know which cluster the nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Enough of them say so.
    Nodes,
    /// All are there and blank, so they are one from now on.
    NewCluster,
    /// Enough of them said so before they forgot.
    Memory,
}

impl Membership {
    /// A membership under this charter, of nodes that nobody has looked at yet. A node that may have forgotten is given
    /// its marker anew; if it `founds`, nodes that are all blank become a cluster; on probation both.
    #[must_use]
    pub fn new(config: LockClusterConfig, drift: Drift, founds: bool) -> Self {
        let members = vec![Member::default(); config.quorum().nodes()];
        Self {
            config,
            drift,
            auto_init: founds,
            members,
            cluster: None,
            pending_init: None,
            init_result: None,
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self, now: DualTimestamp) -> Option<MemberStep> {
        for node in self.config.quorum().all().iter() {
            let member = &mut self.members[node.index()];
            if member.needs_read(now) {
                return Some(MemberStep::ReadMarker(node, member.begin_read(now)));
            }
            if member.take_open_to_holders(now) {
                return Some(MemberStep::OpenToHolders(node));
            }
            if let Some(voting_status) = member.take_status_change(now) {
                return Some(MemberStep::StatusChanged(node, voting_status));
            }
        }
        // Last, so that who asked for it finds the nodes as they stand by now.
        self.init_result.take().map(|(id, declared)| MemberStep::InitDone(id, declared))
    }

    /// When to [`poll`](Self::poll) again, if ever.
    #[must_use]
    pub fn wake_at(&self) -> Option<DualTimestamp> {
        self.members.iter().filter_map(Member::wake_at).reduce(DualTimestamp::earlier)
    }

    /// The node is connected; this is what it told in the handshake. Poll next.
    pub fn on_up(&mut self, node: NodeId, reading: MarkerReading, now: DualTimestamp) {
        self.members[node.index()].is_up = true;
        self.on_marker_reading(node, Ok(reading), now);
    }

    /// The node is not connected any more. What it was is remembered. Poll next.
    pub fn on_down(&mut self, node: NodeId) {
        self.members[node.index()].disconnect();
        self.end_init(InitResult::Unreachable);
    }

    /// The node's answer to a look, or the vote of a node that gave none of use. Poll next.
    pub fn on_marker_reading(
        &mut self,
        node: NodeId,
        reading: Result<MarkerReading, Vote>,
        now: DualTimestamp,
    ) {
        self.on_init_reply(node, &reading);
        let pause = self.config.max_ttl() / READS_PER_TTL;
        let has_told = reading.is_ok();
        let pause = if has_told { pause } else { pause.min(READ_RETRY) };
        self.members[node.index()].record_reading(reading, now, now.plus(pause));
        if has_told {
            // Nothing new, nothing to decide: a node that refuses to be told would be told again at once, for ever.
            self.evaluate(now);
        }
        self.begin_init();
    }

    /// A vote said that the node is not what we know. Poll next.
    pub fn on_marker_mismatch(&mut self, node: NodeId, now: DualTimestamp) {
        self.members[node.index()].require_read(now);
    }

    /// A vote said that the node is on probation for longer than we thought. Poll next.
    pub fn on_probation(&mut self, node: NodeId, remaining: Duration, now: DualTimestamp) {
        let (member, longest) = (&mut self.members[node.index()], self.config.max_ttl());
        if remaining > longest {
            // No probation is longer than that. Its clock was set back behind its marker, which a look will mend.
            member.require_read(now);
        } else {
            member.start_probation(now.plus(remaining), ProbationReason::PossibleDataLoss, longest);
        }
    }

    /// The node's clock as told by an answer to a question asked then. Poll next.
    pub fn on_node_time(
        &mut self,
        node: NodeId,
        asked: DualTimestamp,
        micros: u64,
        now: DualTimestamp,
    ) -> Option<ClockAnomaly> {
        let span = self.config.max_ttl();
        let member = &mut self.members[node.index()];
        let found = member.clock.record(asked, now, micros, self.drift, span)?;
        if matches!(found, ClockAnomaly::Jumped { .. }) {
            member.start_probation(now.plus(span), ProbationReason::ClockJump, span);
        }
        Some(found)
    }

    /// The same, of a node whose clock was never seen: what its first vote tells is compared with this.
    pub fn on_first_node_time(
        &mut self,
        node: NodeId,
        asked: DualTimestamp,
        micros: u64,
        now: DualTimestamp,
    ) {
        let (drift, span) = (self.drift, self.config.max_ttl());
        let clock = &mut self.members[node.index()].clock;
        if *clock == ClockMonitor::default() {
            // A single reading shows nothing.
            let _ = clock.record(asked, now, micros, drift, span);
        }
    }

    /// The vote of a node that need not be asked for a lock, because it may not vote.
    #[must_use]
    pub fn implicit_vote(&self, node: NodeId, now: DualTimestamp) -> Option<Vote> {
        self.probation_vote_until(node, now, |held_back| held_back.votes_from)
    }

    /// The same for those who hold a lock already.
    #[must_use]
    pub fn implicit_vote_for_holders(&self, node: NodeId, now: DualTimestamp) -> Option<Vote> {
        self.probation_vote_until(node, now, |held_back| held_back.opens_to_holders_at)
    }

    fn probation_vote_until(
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

    /// Whether the node votes, as far as was told of it last.
    #[must_use]
    pub fn is_voting(&self, node: NodeId) -> bool {
        self.members[node.index()].is_voting()
    }

    /// What the node is expected to remember, for the scripts to compare; `None` while it may not vote.
    #[must_use]
    pub fn expected_marker(&self, node: NodeId) -> Option<&ExpectedMarker> {
        match &self.members[node.index()].eligibility {
            Eligibility::Member(expected_marker) => Some(expected_marker),
            Eligibility::Unverified | Eligibility::NeedsMarker(_) | Eligibility::Excluded(_) => None,
        }
    }

    fn reads(&self) -> impl Iterator<Item = &MarkerReading> {
        self.members.iter().filter_map(|member| member.reading.as_ref())
    }

    /// Which cluster these nodes are, and how we know.
    fn current_cluster(&self) -> Option<(ClusterId, Source)> {
        let carried: Vec<ClusterId> = self
            .reads()
            .filter_map(|reading| Marker::parse(reading.marker.as_deref()?))
            .filter(|marker| marker.config == self.config)
            .map(|marker| marker.cluster)
            .collect();
        let quorum = self.config.quorum();
        let enough = min_confirming_nodes(quorum);
        let count = |id: &&ClusterId| carried.iter().filter(|other| other == id).count();
        if let Some(id) = carried.iter().find(|id| count(id) >= enough) {
            return Some((*id, Source::Nodes));
        }
        // All who meet the same blank servers give them the same id, so it does not matter who is first, nor that
        // some have it already.
        let founders = ClusterId::of_servers(self.reads().map(|reading| &reading.incarnation));
        let is_founded_by = |member: &Member| match &member.reading {
            Some(MarkerReading { marker: None, .. }) => member.is_up,
            Some(MarkerReading { marker: Some(text), .. }) => {
                member.is_up && Marker::parse(text).is_some_and(|marker| marker.cluster == founders)
            }
            None => false,
        };
        if self.auto_init && self.members.iter().all(is_founded_by) {
            return Some((founders, Source::NewCluster));
        }
        // So many have forgotten at once that too few are left to say. We know what they were.
        let cluster = self.cluster.filter(|cluster| carried.iter().all(|other| other == cluster));
        cluster.map(|cluster| (cluster, Source::Memory))
    }

    /// How many nodes that are connected carry this cluster's id.
    fn connected_nodes_in(&self, cluster: ClusterId) -> usize {
        let marker = |member: &Member| Marker::parse(member.reading.as_ref()?.marker.as_deref()?);
        let is_there = |member: &Member| member.is_up || enabled(Mutant::DisconnectedNodesConfirm);
        let is_of_it = |it: Marker| (it.cluster, it.config) == (cluster, self.config);
        let carries = |member: &&Member| is_there(member) && marker(member).is_some_and(is_of_it);
        self.members.iter().filter(carries).count()
    }

    /// Decides anew who votes.
    fn evaluate(&mut self, now: DualTimestamp) {
        let in_force = self.current_cluster();
        self.cluster = in_force.map_or(self.cluster, |(cluster, _)| Some(cluster));
        let all_looked = self.members.iter().all(|member| member.reading.is_some());
        let config = self.config;
        let carriers = in_force.map_or(0, |(cluster, _)| self.connected_nodes_in(cluster));
        for member in &mut self.members {
            let verdict = match &member.reading {
                None => Eligibility::Unverified,
                Some(reading) => {
                    // A blank node is taken in on the word of nodes that are there now: what others told before they
                    // went away may be forgotten by now. Whom we knew we take back on the word of one.
                    let is_vouched_for = carriers >= min_confirming_nodes(config.quorum())
                        || carriers > 0 && member.was_member();
                    let in_force = in_force.filter(|(_, source)| match source {
                        Source::NewCluster => true,
                        Source::Nodes => reading.marker.is_some() || is_vouched_for,
                        Source::Memory => member.was_member() && (reading.marker.is_some() || is_vouched_for),
                    });
                    eligibility_of(reading, in_force.map(|(cluster, _)| cluster), all_looked, config)
                }
            };
            member.set_eligibility(verdict, config.max_ttl(), now);
        }
    }
}

/// How many must say which cluster a blank node belongs to. Where a quorum is all nodes, one that forgot could never be
/// taken back if q had to.
fn min_confirming_nodes(quorum: Quorum) -> usize {
    quorum.needed().min(quorum.nodes() - 1).max(1)
}

/// INFO is asked again this often, for what changes under a connection that stays.
const READS_PER_TTL: u32 = 4;
/// The same, where the node refused to tell or to be told.
const READ_RETRY: Duration = Duration::from_secs(1);
