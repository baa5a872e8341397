//! The test oracle: it knows the true time, every node's data and every clock.
//!
//! It records each attempt, and each fault that exempts a broken invariant. The checkers compare these
//! records with what clients believe.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::engine::Sim;
use super::exemptions::Exemption;
use super::plan::{ClientMistake, MAX_CLIENTS, MAX_NODES};
use super::situations::Situation;
use super::stats::{Cause, Invariant};
use super::tickets::Ticket;
use crate::fence::Fence;
use crate::marker::ClusterId;
use crate::quorum::{NodeId, NodeSet};
use crate::request::{OperationId, OwnerToken, Request, RequestKind};
use crate::roster::{Epoch, ListHash, Roster, SeatId};
use crate::test_util::node::{DataKey, Reply, SentRequest, SimulatedNode};
use crate::time::DualTimestamp;
use crate::vote::Vote;

/// The oracle's records of one history. Arrays have one entry per node or client.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// All attempts, by id.
    pub(super) records: Vec<AttemptRecord>,
    /// Locks that were acquired and not yet released.
    pub(super) unreleased: Vec<OperationId>,
    /// Acquired locks, in the order of acquisition.
    pub(super) acquired: Vec<OperationId>,
    /// How many grants the nodes have executed.
    grant_count: u32,
    /// Faults that may have expired a key early on the node.
    pub(super) node_exemptions: [Vec<Exemption>; MAX_NODES],
    /// Times in which the client's clocks were wrong by more than the drift.
    pub(super) client_exemptions: [Vec<Exemption>; MAX_CLIENTS],
    /// When the node last lost data or restarted.
    pub(super) changed_at: [u64; MAX_NODES],
    /// When the node last lost fences.
    pub(super) fences_lost_at: [u64; MAX_NODES],
    /// The largest error of any node's clock so far, in nanoseconds.
    pub(super) max_clock_error_nanos: u64,
    pub(super) largest_fencing_number: u64,
    /// The client that must acquire every lock in recovery, and the keys that it has acquired.
    pub(super) recovery_client: usize,
    pub(super) acquired_keys: BTreeSet<usize>,
    /// The rosters that were proposed.
    pub(super) proposals: HashSet<Arc<Roster>>,
    /// The rosters that were chosen.
    pub(super) rosters: BTreeMap<(ClusterId, Epoch), Arc<Roster>>,
    /// When each was chosen.
    pub(super) chosen_at: BTreeMap<(ClusterId, Epoch), u64>,
    /// The last seat of the server at each node's address, and when a roster had it first.
    pub(super) seat_of: [Option<SeatId>; MAX_NODES],
    pub(super) joined_at: [u64; MAX_NODES],
    /// Why rosters no longer exclude each other, if so.
    pub(super) roster_exemption: Option<Cause>,
    /// After all faults: the list in force, as two clients know it.
    pub(super) last_list: Option<ListHash>,
    /// Since when a released key is free, if no client has acquired it again.
    pub(super) free_since: BTreeMap<usize, u64>,
    pub(super) request_count: u64,
    /// All locks that were handed over.
    pub(super) tickets: Vec<Ticket>,
    /// How many times a client has tried to initialize the lock cluster again.
    pub(super) reinitializations: u32,
    /// Whether some nodes rejected the last one.
    pub(super) init_was_rejected: bool,
    /// A server without an address has answered the request that runs.
    pub(super) is_ghost: bool,
    /// Until when servers without an address may form a quorum: fewer than q members of the roster kept data
    /// and address while there were any.
    pub(super) moved_until: u64,
    /// Until when there were servers without an address, which plain clients do not tell from the others.
    pub(super) ghosts_until: u64,
    pub(super) violation: Option<Violation>,
}

/// A broken invariant without an exemption.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) invariant: Invariant,
    pub(super) message: String,
}

/// One attempt, and the lock that it became.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is read by itself")]
pub(super) struct AttemptRecord {
    pub(super) client: usize,
    pub(super) incarnation: u32,
    pub(super) key: usize,
    pub(super) token: OwnerToken,
    pub(super) started_at: u64,
    pub(super) is_fenced: bool,
    /// The shortest and the longest requested TTL.
    pub(super) ttl_range: (Duration, Duration),
    pub(super) auto_renew: bool,
    /// For an adoption: its ticket.
    pub(super) ticket: Option<usize>,
    pub(super) per_node: [NodeRecord; MAX_NODES],
    pub(super) acquired_at: Option<u64>,
    pub(super) fencing_number: Option<u64>,
    pub(super) deadline: Option<DualTimestamp>,
    pub(super) confirmed: NodeSet,
    /// How many nodes make a quorum of the roster under which it was acquired or renewed.
    pub(super) needed: usize,
    /// The confirmed nodes that had its key at the acquisition or at the last change of the deadline, or
    /// whose loss of it is exempted.
    pub(super) expected_nodes: NodeSet,
    /// Per node with its fencing number at the acquisition: the position of its grant among all grants.
    pub(super) grant_order: [Option<u32>; MAX_NODES],
    /// When another attempt acquired the key after it, which one, and what exempts that.
    pub(super) overtaken_by: Option<(u64, OperationId, Option<Cause>)>,
    pub(super) is_loss_reported: bool,
    pub(super) is_over: bool,
}

/// What a node has executed for an attempt.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is read by itself")]
pub(super) struct NodeRecord {
    pub(super) grant_index: u32,
    pub(super) fencing_number: Option<u64>,
    pub(super) has_granted: bool,
    pub(super) voted_at: u64,
    /// When another owner's key last blocked a renewal.
    pub(super) renewal_blocked_at: u64,
    /// Since when the client knew the node.
    pub(super) known_since: u64,
    /// The roster under which it voted last.
    pub(super) voted_under: Option<(ClusterId, Epoch)>,
    /// The node voted although it was on probation.
    pub(super) was_on_probation: bool,
    /// A server without an address has granted it, or confirmed it.
    pub(super) was_ghost: bool,
    /// The server that voted may evict keys: the one at the node's address, or the one that had it before.
    pub(super) may_evict: bool,
}

impl AttemptRecord {
    pub(super) fn new(
        client: usize,
        incarnation: u32,
        key: usize,
        token: OwnerToken,
        started_at: u64,
        is_fenced: bool,
    ) -> Self {
        Self {
            client,
            incarnation,
            key,
            token,
            started_at,
            is_fenced,
            ttl_range: (Duration::MAX, Duration::ZERO),
            auto_renew: false,
            ticket: None,
            per_node: [NodeRecord::default(); MAX_NODES],
            acquired_at: None,
            fencing_number: None,
            deadline: None,
            confirmed: NodeSet::EMPTY,
            needed: 0,
            expected_nodes: NodeSet::EMPTY,
            grant_order: [None; MAX_NODES],
            overtaken_by: None,
            is_loss_reported: false,
            is_over: false,
        }
    }
}

impl Oracle {
    /// The id and the owner token of the next attempt.
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

    /// The latest attempt with this owner token.
    pub(super) fn attempt_with_token(&self, token: OwnerToken) -> Option<OperationId> {
        self.records.iter().rposition(|record| record.token == token).map(|index| index as OperationId)
    }

    pub(super) fn set_confirmed(&mut self, id: OperationId, nodes: NodeSet) {
        self.records[id as usize].confirmed = nodes;
    }

    /// Its holder has released or cancelled it.
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
    /// Whether its holder, if it read its clocks now, would find it valid.
    pub(super) fn is_valid(&self, id: OperationId) -> bool {
        let record = &self.oracle.records[id as usize];
        let client_host = &self.clients[record.client];
        let is_active = !record.is_over
            && !record.is_loss_reported
            && client_host.incarnation == record.incarnation
            && !client_host.is_stopped;
        is_active && record.deadline.is_some_and(|deadline| !self.now(record.client).is_past(deadline))
    }

    /// The owner token at the key before a release or an adoption.
    pub(super) fn key_before(&self, node: usize, request: &Request) -> Option<Vec<u8>> {
        if !request.kind.is_release() && request.kind != RequestKind::Adopt {
            return None;
        }
        self.nodes[node].redis.unexpired(&DataKey::Lock(request.key.clone()), self.nanos)?.value.clone()
    }

    /// Records what a node has executed, and checks it.
    pub(super) fn note_executed(
        &mut self,
        node: usize,
        client: usize,
        command: &SentRequest,
        reply: &Reply,
        previous_owner: Option<Vec<u8>>,
    ) {
        let request = &command.request;
        let Reply::Vote(vote, _) = reply else { return };
        self.check_adopted_key(node, request, vote, previous_owner.as_deref());
        if let Some(previous_owner) = previous_owner.filter(|_| request.kind.is_release())
            && previous_owner != request.token.digits()
            && !self.nodes[node].redis.data().contains_key(&DataKey::Lock(request.key.clone()))
        {
            self.report_violation(
                Invariant::OwnKeyOnly,
                &format!(
                    "a release deleted another owner's key on node {node}: {}",
                    String::from_utf8_lossy(&previous_owner)
                ),
            );
        }
        self.note_blocked_renewal(node, request, vote);
        self.note_vote(node, request, vote);
        // An adoption also takes the key of a node with a larger fence, which counts later.
        let is_set =
            vote.is_grant() || request.kind == RequestKind::Adopt && matches!(vote, Vote::FencedOut { .. });
        if is_set && self.oracle.is_ghost {
            self.stats.count_situation(Situation::GrantWithoutAddress);
        }
        if !is_set
            || !matches!(
                request.kind,
                RequestKind::Acquire
                    | RequestKind::Adopt
                    | RequestKind::RaiseFence
                    | RequestKind::Renew
                    | RequestKind::Reacquire
            )
        {
            return;
        }
        let known_since = self.clients[client].known_since[node];
        // A server without an address remembers. A lock cluster that the misconfigured client has founded has a
        // probation of its own.
        let roster = self.record_of(node).and_then(|record| record.roster);
        let is_other = |roster: &Roster| !self.plan.reconfigures() && roster.config != self.plan.config();
        let is_own = self.oracle.is_ghost || roster.is_some_and(|roster| is_other(&roster));
        let was_on_probation = request.fence.is_some() && !is_own && self.is_on_probation(node, known_since);
        let Some(id) = self.oracle.attempt_with_token(request.token) else { return };
        self.oracle.grant_count += 1;
        let grant_index = self.oracle.grant_count;
        let is_ghost = self.oracle.is_ghost;
        let node_record = &mut self.oracle.records[id as usize].per_node[node];
        (node_record.was_on_probation, node_record.has_granted, node_record.voted_at) =
            (was_on_probation, true, self.nanos);
        node_record.known_since = known_since;
        node_record.was_ghost |= is_ghost;
        node_record.may_evict = self.nodes[node].redis.evicts;
        match (request.kind, vote, request.fence) {
            (RequestKind::Acquire | RequestKind::Adopt, Vote::Fenced(number), _) => {
                (node_record.grant_index, node_record.fencing_number) = (grant_index, Some(*number));
            }
            (RequestKind::Acquire | RequestKind::Adopt, ..) => node_record.grant_index = grant_index,
            (RequestKind::RaiseFence, _, Some(Fence::Number(number))) => {
                node_record.fencing_number = Some(number);
            }
            _ => {}
        }
    }

    /// Whether the node lost data, or got its seat, less than the max TTL ago, in true time.
    fn is_on_probation(&self, node: usize, known_since: u64) -> bool {
        let changed = self.oracle.changed_at[node].max(self.oracle.joined_at[node]);
        // An undetected change is exempted until every client must have read the marker; any other exemption
        // lasts.
        let is_exempt = self.oracle.node_exemptions[node].iter().any(|exemption| {
            let is_undetected = exemption.until >= self.nanos || self.nodes[node].error_permille > 0;
            let applies = match exemption.cause {
                Cause::ClockBehindAtStart => known_since > exemption.until,
                cause => !cause.is_undetected() || is_undetected,
            };
            exemption.until >= changed && applies
        });
        changed > 0 && self.nanos + 2_000_000 < changed + self.plan.min_probation_nanos() && !is_exempt
    }

    /// The nodes that have this lock's key.
    pub(super) fn nodes_with_key(&self, id: OperationId) -> NodeSet {
        let record = &self.oracle.records[id as usize];
        let (slot, digits) = (DataKey::Lock(self.keys[record.key].clone()), record.token.digits());
        let has_key = |node: &usize| {
            let mut entries = self.nodes[*node].servers().filter_map(|it| it.unexpired(&slot, self.nanos));
            entries.any(|entry| entry.value.as_deref() == Some(&digits))
        };
        (0..self.nodes.len()).filter(has_key).map(|node| NodeId(node as u8)).collect()
    }

    /// The nodes that have its key until its deadline, if no clock changes its rate.
    pub(super) fn nodes_with_key_until_deadline(&self, id: OperationId) -> NodeSet {
        let record = &self.oracle.records[id as usize];
        let Some(deadline) = record.deadline else { return NodeSet::EMPTY };
        let clocks = &self.clients[record.client].clocks;
        let boot = deadline.boot_nanos().min(clocks.boot_at_wall(deadline.wall_nanos()));
        let span = clocks.true_time_at(boot).saturating_sub(self.nanos);
        let slot = DataKey::Lock(self.keys[record.key].clone());
        let lasts = |node: &NodeId| {
            let is_own = |it: &&SimulatedNode| {
                let entry = it.unexpired(&slot, self.nanos);
                entry.is_some_and(|entry| entry.value.as_deref() == Some(&record.token.digits()))
            };
            let mut remaining = self.nodes[node.index()]
                .servers()
                .filter(is_own)
                .filter_map(|it| it.remaining_ttl(&slot, self.nanos));
            remaining.any(|left| left.as_nanos() as u64 >= span)
        };
        self.nodes_with_key(id).iter().filter(lasts).collect()
    }

    /// The nodes that have granted it, and where a fault may have removed its key since.
    pub(super) fn exempt_nodes_of(&self, id: OperationId) -> NodeSet {
        let record = &self.oracle.records[id as usize];
        let granted = record.per_node.iter().enumerate().filter(|(_, node_record)| node_record.has_granted);
        intersection(
            granted.map(|(node, _)| NodeId(node as u8)).collect(),
            self.oracle.nodes_exempt_after(record.started_at),
        )
    }
}

pub(super) fn intersection(one: NodeSet, other: NodeSet) -> NodeSet {
    one.without(one.without(other))
}
