//! Who sees everything: true time, every node's data, every clock. It checks what must hold, and keeps book of what
//! was done that may excuse that something does not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::engine::Sim;
use super::exemptions::Exemption;
use super::plan::ClientMistake;
use super::stats::{Cause, Invariant};
use crate::coordinator::OperationId;
use crate::fence::Fence;
use crate::marker::{ClusterId, Marker};
use crate::quorum::{NodeId, NodeSet};
use crate::request::{OwnerToken, Request, RequestKind};
use crate::test_util::node::{Command, Reply, Slot};
use crate::time::DualTimestamp;
use crate::vote::Vote;

/// What is known of the history beyond what anybody in it knows.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// Every attempt, by its id.
    pub(super) records: Vec<AttemptRecord>,
    /// Locks that were won and not yet given up.
    pub(super) unreleased: Vec<OperationId>,
    /// Locks that were won, in that order.
    pub(super) won: Vec<OperationId>,
    /// How many grants the nodes have run.
    grant_count: u32,
    /// Node by node: what may have cost a key its time.
    pub(super) node_exemptions: [Vec<Exemption>; 5],
    /// Client by client: when its clocks were wrong by more than they may be.
    pub(super) client_exemptions: [Vec<Exemption>; 4],
    /// Node by node: when it last forgot what it knew, or came up as another process.
    pub(super) changed_at: [u64; 5],
    /// Node by node: when it last forgot fences.
    pub(super) fences_lost_at: [u64; 5],
    /// The furthest that any node's clock was off.
    pub(super) max_clock_error: u64,
    pub(super) largest_fencing_number: u64,
    /// Who is to have every lock when all is well, and which of them it had.
    pub(super) recovery_client: usize,
    pub(super) acquired_keys: BTreeSet<usize>,
    /// The clusters that the nodes would have been, when they were blank.
    pub(super) possible_cluster_ids: Vec<ClusterId>,
    /// How many surveys were begun.
    /// Since when a key is free that was given up, while no client has had it again.
    pub(super) free_since: BTreeMap<usize, u64>,
    pub(super) survey_count: u64,
    /// How often somebody tried to declare the cluster again.
    pub(super) reinitializations: u32,
    pub(super) violation: Option<Violation>,
}

/// A promise that was broken and must not have been.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) invariant: Invariant,
    pub(super) message: String,
}

/// One attempt, and the lock that it became.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub(super) struct AttemptRecord {
    pub(super) client: usize,
    pub(super) incarnation: u32,
    pub(super) key: usize,
    pub(super) token: OwnerToken,
    pub(super) start: u64,
    pub(super) is_fenced: bool,
    /// The shortest and the longest ttl that was asked for.
    pub(super) ttls: (Duration, Duration),
    pub(super) auto_renew: bool,
    pub(super) per_node: [NodeRecord; 5],
    pub(super) won_at: Option<u64>,
    pub(super) fencing_number: Option<u64>,
    pub(super) deadline: Option<DualTimestamp>,
    pub(super) confirmed: NodeSet,
    /// Where its key stood when it was won or its deadline was moved last, of those nodes that the holder counts on; and where it
    /// would have stood, but for what was done there.
    pub(super) expected_nodes: NodeSet,
    /// The nodes that had its number when it was won, and the place of its grant among all.
    pub(super) grant_order: [Option<u32>; 5],
    /// When client else won after it, and whether something excused that.
    pub(super) overtaken_by: Option<(u64, OperationId, Option<Cause>)>,
    pub(super) is_loss_reported: bool,
    pub(super) is_over: bool,
}

/// What a node has done for an attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NodeRecord {
    pub(super) grant_index: u32,
    pub(super) fencing_number: Option<u64>,
    pub(super) has_granted: bool,
    pub(super) voted_at: u64,
    /// When another owner's key stood in the way of a renewal last.
    pub(super) renewal_blocked_at: u64,
    /// Since when the client had known the node.
    pub(super) known_since: u64,
    /// The vote came from a node that may have fence_loss_since.
    pub(super) was_on_probation: bool,
}

impl AttemptRecord {
    pub(super) fn new(
        client: usize,
        incarnation: u32,
        key: usize,
        token: OwnerToken,
        start: u64,
        is_fenced: bool,
    ) -> Self {
        Self {
            client,
            incarnation,
            key,
            token,
            start,
            is_fenced,
            ttls: (Duration::MAX, Duration::ZERO),
            auto_renew: false,
            per_node: [NodeRecord::default(); 5],
            won_at: None,
            fencing_number: None,
            deadline: None,
            confirmed: NodeSet::EMPTY,
            expected_nodes: NodeSet::EMPTY,
            grant_order: [None; 5],
            overtaken_by: None,
            is_loss_reported: false,
            is_over: false,
        }
    }
}

impl Oracle {
    /// The id and the token of the next attempt.
    pub(super) fn next_attempt(
        &self,
        client_mistake: Option<ClientMistake>,
        client: usize,
        key: usize,
    ) -> (OperationId, OwnerToken) {
        let id = self.records.len() as OperationId;
        let seed = match client_mistake {
            Some(ClientMistake::OwnerTokenReused) => 1_000_000 + (client * 2 + key) as u128,
            _ => u128::from(id),
        };
        (id, OwnerToken::new(seed << 64 | 0xfeed))
    }

    /// The latest attempt with this token.
    pub(super) fn attempt_with_token(&self, token: OwnerToken) -> Option<OperationId> {
        self.records.iter().rposition(|record| record.token == token).map(|index| index as OperationId)
    }

    pub(super) fn set_confirmed(&mut self, id: OperationId, nodes: NodeSet) {
        self.records[id as usize].confirmed = nodes;
    }

    /// Its holder has given it up.
    pub(super) fn end_lock(&mut self, id: OperationId) {
        self.records[id as usize].is_over = true;
        self.unreleased.retain(|other| *other != id);
    }

    pub(super) fn end_all_of_client(&mut self, client: usize) {
        for record in self.records.iter_mut().filter(|record| record.client == client) {
            record.is_over = true;
        }
        let records = &self.records;
        self.unreleased.retain(|id| !records[*id as usize].is_over);
    }

    pub(super) fn time_to_deadline(&self, id: OperationId, now: DualTimestamp) -> Option<u64> {
        Some(now.until(self.records[id as usize].deadline?).as_nanos() as u64)
    }
}

impl Sim<'_> {
    /// Whether its holder, looking at its clock now, would find it valid.
    pub(super) fn is_valid(&self, id: OperationId) -> bool {
        let record = &self.oracle.records[id as usize];
        let client_host = &self.clients[record.client];
        let runs = !record.is_over
            && !record.is_loss_reported
            && client_host.incarnation == record.incarnation
            && !client_host.is_stopped;
        runs && record.deadline.is_some_and(|deadline| !self.now(record.client).is_past(deadline))
    }

    // What nodes do.

    /// Whose key has_key there before a release.
    pub(super) fn key_before_release(&self, node: usize, request: &Request) -> Option<Vec<u8>> {
        if !request.phase.is_release() {
            return None;
        }
        self.nodes[node].redis.living(&Slot::Lock(request.key.clone()), self.nanos)?.value.clone()
    }

    /// A node has run a command.
    pub(super) fn note_executed(
        &mut self,
        node: usize,
        client: usize,
        command: &Command,
        answer: &Reply,
        previous_owner: Option<Vec<u8>>,
    ) {
        let request = &command.request;
        let Reply::Vote(vote, _) = answer else { return };
        if let Some(previous_owner) = previous_owner
            && previous_owner != request.token.digits()
            && !self.nodes[node].redis.data().contains_key(&Slot::Lock(request.key.clone()))
        {
            self.report_violation(
                Invariant::OwnKeyOnly,
                &format!(
                    "a release removed another's key on node {node}: {}",
                    String::from_utf8_lossy(&previous_owner)
                ),
            );
        }
        self.note_blocked_renewal(node, request, vote);
        if !vote.is_grant()
            || !matches!(
                request.phase,
                RequestKind::Acquire | RequestKind::RaiseFence | RequestKind::Renew | RequestKind::Reacquire
            )
        {
            return;
        }
        let known_since = self.clients[client].known_since[node];
        let was_on_probation = request.fence.is_some() && self.is_on_probation(node, known_since);
        if request.fence.is_some() && self.clients[client].is_misconfigured {
            self.check_misconfigured_client(node);
        }
        let Some(id) = self.oracle.attempt_with_token(request.token) else { return };
        self.oracle.grant_count += 1;
        let grant_index = self.oracle.grant_count;
        let node_record = &mut self.oracle.records[id as usize].per_node[node];
        (node_record.was_on_probation, node_record.has_granted, node_record.voted_at) =
            (was_on_probation, true, self.nanos);
        node_record.known_since = known_since;
        match (request.phase, vote, request.fence) {
            (RequestKind::Acquire, Vote::Fenced(number), _) => {
                (node_record.grant_index, node_record.fencing_number) = (grant_index, Some(*number));
            }
            (RequestKind::Acquire, ..) => node_record.grant_index = grant_index,
            (RequestKind::RaiseFence, _, Some(Fence::Number(number))) => {
                node_record.fencing_number = Some(number)
            }
            _ => {}
        }
    }

    /// By true time: whether the node changed less than the max ttl ago.
    fn is_on_probation(&self, node: usize, known_since: u64) -> bool {
        let changed = self.oracle.changed_at[node];
        // A change that nobody sees is excused until somebody must have looked, any other for good.
        let is_exempt = self.oracle.node_exemptions[node].iter().any(|exemption| {
            let is_undetected = exemption.until >= self.nanos || self.nodes[node].errors > 0;
            let holds = match exemption.cause {
                Cause::ClockBehindAtStart => known_since > exemption.until,
                cause => !cause.is_undetected() || is_undetected,
            };
            exemption.until >= changed && holds
        });
        changed > 0 && self.nanos + 2_000_000 < changed + self.plan.min_probation_nanos() && !is_exempt
    }

    fn check_misconfigured_client(&mut self, node: usize) {
        let entry = self.nodes[node].redis.data().get(&Slot::Marker);
        let text = entry.and_then(|entry| entry.value.as_deref());
        let marker = text.and_then(|text| Marker::parse(std::str::from_utf8(text).ok()?));
        if marker.is_some_and(|marker| marker.config == self.plan.config()) {
            self.report_violation(
                Invariant::Membership,
                &format!("node {node} votes for a client with another charter"),
            );
        }
    }

    /// Where the key of this lock truly has_key.
    pub(super) fn nodes_with_key(&self, id: OperationId) -> NodeSet {
        let record = &self.oracle.records[id as usize];
        let (slot, digits) = (Slot::Lock(self.keys[record.key].clone()), record.token.digits());
        let has_key = |node: &usize| {
            let entry = self.nodes[*node].redis.living(&slot, self.nanos);
            entry.is_some_and(|entry| entry.value.as_deref() == Some(&digits))
        };
        (0..self.nodes.len()).filter(has_key).map(|node| NodeId(node as u8)).collect()
    }

    /// Where it has_key until the deadline, if clocks go on as they do.
    pub(super) fn nodes_with_key_until_deadline(&self, id: OperationId) -> NodeSet {
        let record = &self.oracle.records[id as usize];
        let Some(deadline) = record.deadline else { return NodeSet::EMPTY };
        let clocks = &self.clients[record.client].clocks;
        let boot = deadline.boot_nanos().min(clocks.boot_of_wall(deadline.wall_nanos()));
        let span = clocks.when(boot).saturating_sub(self.nanos);
        let slot = Slot::Lock(self.keys[record.key].clone());
        let lasts = |node: &NodeId| {
            let remaining = self.nodes[node.index()].redis.life(&slot, self.nanos);
            remaining.is_some_and(|left| left.as_nanos() as u64 >= span)
        };
        self.nodes_with_key(id).iter().filter(lasts).collect()
    }

    /// Where its key has stood, and something was done since.
    pub(super) fn exempt_nodes_of(&self, id: OperationId) -> NodeSet {
        let record = &self.oracle.records[id as usize];
        let had = record.per_node.iter().enumerate().filter(|(_, node_record)| node_record.has_granted);
        intersection(
            had.map(|(node, _)| NodeId(node as u8)).collect(),
            self.oracle.exempt_nodes_since(record.start),
        )
    }
}

pub(super) fn intersection(one: NodeSet, other: NodeSet) -> NodeSet {
    one.without(one.without(other))
}
