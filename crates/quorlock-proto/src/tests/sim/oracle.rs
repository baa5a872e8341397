//! Who sees everything: true time, every node's data, every clock. It checks what must hold, and keeps book of what
//! was done that may excuse that something does not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::engine::Sim;
use super::excuses::Hurt;
use super::plan::Slip;
use super::tally::{Cause, Invariant};
use crate::coordinator::OperationId;
use crate::fence::Fence;
use crate::marker::{ClusterId, Marker};
use crate::quorum::{NodeId, NodeSet};
use crate::request::{OwnerToken, Request, RequestKind};
use crate::test_util::node::{DataKey, Reply, SentRequest};
use crate::time::DualTimestamp;
use crate::vote::Vote;

/// What is known of the history beyond what anybody in it knows.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// Every attempt, by its id.
    pub(super) records: Vec<Record>,
    /// Locks that were won and not yet given up.
    pub(super) open: Vec<OperationId>,
    /// Locks that were won, in that order.
    pub(super) won: Vec<OperationId>,
    /// How many grants the nodes have run.
    grants: u32,
    /// Node by node: what may have cost a key its time.
    pub(super) hurt: [Vec<Hurt>; 5],
    /// Client by client: when its clocks were wrong by more than they may be.
    pub(super) misled: [Vec<Hurt>; 4],
    /// Node by node: when it last forgot what it knew, or came up as another process.
    pub(super) changed_at: [u64; 5],
    /// Node by node: when it last forgot fences.
    pub(super) forgot_at: [u64; 5],
    /// The furthest that any node's clock was off.
    pub(super) worst_error: u64,
    pub(super) largest_number: u64,
    /// Who is to have every lock when all is well, and which of them it had.
    pub(super) suitor: usize,
    pub(super) had: BTreeSet<usize>,
    /// The clusters that the nodes would have been, when they were blank.
    pub(super) founder_ids: Vec<ClusterId>,
    /// How many surveys were begun.
    /// Since when a key is free that was given up, while no client has had it again.
    pub(super) free_since: BTreeMap<usize, u64>,
    pub(super) surveys: u64,
    /// How often somebody tried to declare the cluster again.
    pub(super) declarations: u32,
    pub(super) violation: Option<Violation>,
}

/// A promise that was broken and must not have been.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) invariant: Invariant,
    pub(super) words: String,
}

/// One attempt, and the lock that it became.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub(super) struct Record {
    pub(super) who: usize,
    pub(super) life: u32,
    pub(super) key: usize,
    pub(super) token: OwnerToken,
    pub(super) start: u64,
    pub(super) is_fenced: bool,
    /// The shortest and the longest ttl that was asked for.
    pub(super) ttls: (Duration, Duration),
    pub(super) auto_renew: bool,
    pub(super) marks: [Mark; 5],
    pub(super) won_at: Option<u64>,
    pub(super) number: Option<u64>,
    pub(super) deadline: Option<DualTimestamp>,
    pub(super) confirmed: NodeSet,
    /// Where its key stood when it was won or its deadline was moved last, of those nodes that the holder counts on; and where it
    /// would have stood, but for what was done there.
    pub(super) ground: NodeSet,
    /// The nodes that had its number when it was won, and the place of its grant among all.
    pub(super) numbered: [Option<u32>; 5],
    /// When who else won after it, and whether something excused that.
    pub(super) overtaken: Option<(u64, OperationId, Option<Cause>)>,
    pub(super) is_told_lost: bool,
    pub(super) is_over: bool,
}

/// What a node has done for an attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    pub(super) place: u32,
    pub(super) number: Option<u64>,
    pub(super) had_key: bool,
    pub(super) voted_at: u64,
    /// When another owner's key stood in the way of a renewal last.
    pub(super) refused_at: u64,
    /// Since when the client had known the node.
    pub(super) known_since: u64,
    /// The vote came from a node that may have forgotten.
    pub(super) is_doubtful: bool,
}

impl Record {
    pub(super) fn new(
        who: usize,
        life: u32,
        key: usize,
        token: OwnerToken,
        start: u64,
        is_fenced: bool,
    ) -> Self {
        Self {
            who,
            life,
            key,
            token,
            start,
            is_fenced,
            ttls: (Duration::MAX, Duration::ZERO),
            auto_renew: false,
            marks: [Mark::default(); 5],
            won_at: None,
            number: None,
            deadline: None,
            confirmed: NodeSet::EMPTY,
            ground: NodeSet::EMPTY,
            numbered: [None; 5],
            overtaken: None,
            is_told_lost: false,
            is_over: false,
        }
    }
}

impl Oracle {
    /// The id and the token of the next attempt.
    pub(super) fn begin(&self, slip: Option<Slip>, who: usize, key: usize) -> (OperationId, OwnerToken) {
        let id = self.records.len() as OperationId;
        let seed = match slip {
            Some(Slip::TokenReused) => 1_000_000 + (who * 2 + key) as u128,
            _ => u128::from(id),
        };
        (id, OwnerToken::new(seed << 64 | 0xfeed))
    }

    /// The latest attempt with this token.
    pub(super) fn of(&self, token: OwnerToken) -> Option<OperationId> {
        self.records.iter().rposition(|record| record.token == token).map(|place| place as OperationId)
    }

    pub(super) fn confirm(&mut self, id: OperationId, nodes: NodeSet) {
        self.records[id as usize].confirmed = nodes;
    }

    /// Its holder has given it up.
    pub(super) fn end(&mut self, id: OperationId) {
        self.records[id as usize].is_over = true;
        self.open.retain(|other| *other != id);
    }

    pub(super) fn end_all_of(&mut self, who: usize) {
        for record in self.records.iter_mut().filter(|record| record.who == who) {
            record.is_over = true;
        }
        let records = &self.records;
        self.open.retain(|id| !records[*id as usize].is_over);
    }

    pub(super) fn life_left(&self, id: OperationId, now: DualTimestamp) -> Option<u64> {
        Some(now.until(self.records[id as usize].deadline?).as_nanos() as u64)
    }
}

impl Sim<'_> {
    /// Whether its holder, looking at its clock now, would find it valid.
    pub(super) fn is_valid(&self, id: OperationId) -> bool {
        let record = &self.oracle.records[id as usize];
        let peer = &self.peers[record.who];
        let runs = !record.is_over && !record.is_told_lost && peer.life == record.life && !peer.is_stopped;
        runs && record.deadline.is_some_and(|deadline| !self.now(record.who).is_past(deadline))
    }

    // What nodes do.

    /// Whose key stands there before a release.
    pub(super) fn before(&self, node: usize, request: &Request) -> Option<Vec<u8>> {
        if !request.kind.is_release() {
            return None;
        }
        self.sites[node].node.unexpired(&DataKey::Lock(request.key.clone()), self.nanos)?.value.clone()
    }

    /// A node has run a command.
    pub(super) fn note(
        &mut self,
        node: usize,
        who: usize,
        command: &SentRequest,
        answer: &Reply,
        before: Option<Vec<u8>>,
    ) {
        let request = &command.request;
        let Reply::Vote(vote, _) = answer else { return };
        if let Some(before) = before
            && before != request.token.digits()
            && !self.sites[node].node.data().contains_key(&DataKey::Lock(request.key.clone()))
        {
            self.violate(
                Invariant::OwnKey,
                &format!(
                    "a release removed another's key on node {node}: {}",
                    String::from_utf8_lossy(&before)
                ),
            );
        }
        self.note_refusal(node, request, vote);
        if !vote.is_grant()
            || !matches!(
                request.kind,
                RequestKind::Acquire | RequestKind::RaiseFence | RequestKind::Renew | RequestKind::Reacquire
            )
        {
            return;
        }
        let known_since = self.peers[who].known_since[node];
        let is_doubtful = request.fence.is_some() && self.is_on_probation(node, known_since);
        if request.fence.is_some() && self.peers[who].is_stranger {
            self.check_stranger(node);
        }
        let Some(id) = self.oracle.of(request.token) else { return };
        self.oracle.grants += 1;
        let place = self.oracle.grants;
        let mark = &mut self.oracle.records[id as usize].marks[node];
        (mark.is_doubtful, mark.had_key, mark.voted_at) = (is_doubtful, true, self.nanos);
        mark.known_since = known_since;
        match (request.kind, vote, request.fence) {
            (RequestKind::Acquire, Vote::Fenced(number), _) => {
                (mark.place, mark.number) = (place, Some(*number));
            }
            (RequestKind::Acquire, ..) => mark.place = place,
            (RequestKind::RaiseFence, _, Some(Fence::Number(number))) => mark.number = Some(number),
            _ => {}
        }
    }

    /// By true time: whether the node changed less than the max ttl ago.
    fn is_on_probation(&self, node: usize, known_since: u64) -> bool {
        let changed = self.oracle.changed_at[node];
        // A change that nobody sees is excused until somebody must have looked, any other for good.
        let is_excused = self.oracle.hurt[node].iter().any(|hurt| {
            let is_unseen = hurt.until >= self.nanos || self.sites[node].errors > 0;
            let holds = match hurt.by {
                Cause::ClockBehindAtStart => known_since > hurt.until,
                by => !by.is_unseen() || is_unseen,
            };
            hurt.until >= changed && holds
        });
        changed > 0 && self.nanos + 2_000_000 < changed + self.plan.least_probation() && !is_excused
    }

    fn check_stranger(&mut self, node: usize) {
        let entry = self.sites[node].node.data().get(&DataKey::Marker);
        let text = entry.and_then(|entry| entry.value.as_deref());
        let marker = text.and_then(|text| Marker::parse(std::str::from_utf8(text).ok()?));
        if marker.is_some_and(|marker| marker.config == self.plan.config()) {
            self.violate(
                Invariant::Membership,
                &format!("node {node} votes for a client with another charter"),
            );
        }
    }

    /// Where the key of this lock truly stands.
    pub(super) fn nodes_with_key(&self, id: OperationId) -> NodeSet {
        let record = &self.oracle.records[id as usize];
        let (slot, digits) = (DataKey::Lock(self.keys[record.key].clone()), record.token.digits());
        let stands = |node: &usize| {
            let entry = self.sites[*node].node.unexpired(&slot, self.nanos);
            entry.is_some_and(|entry| entry.value.as_deref() == Some(&digits))
        };
        (0..self.sites.len()).filter(stands).map(|node| NodeId(node as u8)).collect()
    }

    /// Where it stands until the deadline, if clocks go on as they do.
    pub(super) fn lasting(&self, id: OperationId) -> NodeSet {
        let record = &self.oracle.records[id as usize];
        let Some(deadline) = record.deadline else { return NodeSet::EMPTY };
        let clocks = &self.peers[record.who].clocks;
        let boot = deadline.boot_nanos().min(clocks.boot_of_wall(deadline.wall_nanos()));
        let span = clocks.when(boot).saturating_sub(self.nanos);
        let slot = DataKey::Lock(self.keys[record.key].clone());
        let lasts = |node: &NodeId| {
            let life = self.sites[node.index()].node.remaining_ttl(&slot, self.nanos);
            life.is_some_and(|life| life.as_nanos() as u64 >= span)
        };
        self.nodes_with_key(id).iter().filter(lasts).collect()
    }

    /// Where its key has stood, and something was done since.
    pub(super) fn robbed_of(&self, id: OperationId) -> NodeSet {
        let record = &self.oracle.records[id as usize];
        let had = record.marks.iter().enumerate().filter(|(_, mark)| mark.had_key);
        both(had.map(|(node, _)| NodeId(node as u8)).collect(), self.oracle.robbed_since(record.start))
    }
}

pub(super) fn both(one: NodeSet, other: NodeSet) -> NodeSet {
    one.without(one.without(other))
}
