//! The proposer: finds, finishes and proposes rosters.
//!
//! It sees the records of the servers at the addresses of its list, and says what to write next to each.
//! The next roster is chosen by single-decree Paxos (Lamport, *Paxos made simple*, 2001), whose acceptors are
//! the members of the one before. A majority promises a ballot. From then on it casts no vote. It accepts
//! the proposal with the largest ballot that one of them had accepted, or a new one. Once a majority has
//! accepted, the roster is chosen, and is written to all.
//!
//! - **Change**: a server takes the seat at its address, or the seat of an absent server becomes vacant.
//! - **Recovery**: so many members lost their memory that no quorum is left. All servers that reply must
//!   accept; the others must have been absent for the max ttl, and their seats become vacant.
//! - **Founding**: a recovery without an earlier roster.
//! - **Reconfiguration**: a step of one, if a person has asked for it.
//!
//! A client with another list than the roster's gives no seats. It finishes a change that was begun, because the
//! members cast no vote until then, and perhaps no client has the list that is in force in the middle of a
//! reconfiguration.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::reconfiguration::Reconfiguration;
use super::record::{Ballot, Record, RecordWrite};
use super::server_view::{Permissions, ServerView};
use super::{Epoch, NodeList, Roster, Seat, SeatId};
use crate::marker::{ClusterId, LockClusterConfig};
use crate::mutant::{Mutant, enabled};
use crate::quorum::{NodeId, NodeSet};

/// One client's part in the choice of rosters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposer {
    /// Names the client in ballots.
    client: u64,
    /// Its list of nodes; while it reconfigures, the list in force.
    pub(super) list: NodeList,
    config: LockClusterConfig,
    pub(super) reconfiguration: Option<Reconfiguration>,
    ballot: Option<Ballot>,
    /// The roster that the ballot's roster follows.
    base: Option<Arc<Roster>>,
    /// What it proposes with this ballot.
    proposal: Option<Arc<Roster>>,
}

/// The state of a ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is nothing to choose.
    Idle,
    /// Something is to be chosen, and no client has begun a ballot.
    Waiting,
    /// The client has a ballot.
    Pending,
    /// Another client has begun one.
    Lost,
}

impl Proposer {
    /// A proposer for this list of nodes.
    #[must_use]
    pub const fn new(client: u64, list: NodeList, config: LockClusterConfig) -> Self {
        let (reconfiguration, ballot, base, proposal) = (None, None, None, None);
        Self { client, list, config, reconfiguration, ballot, base, proposal }
    }

    /// The proposer reconfigures the lock cluster. It changes nothing of one whose list is not on the way.
    #[must_use]
    pub fn with_reconfiguration(self, reconfiguration: Reconfiguration) -> Self {
        Self { reconfiguration: Some(reconfiguration), ..self }
    }

    /// The list of nodes: the client's, or the one in force while it reconfigures.
    #[must_use]
    pub const fn list(&self) -> &NodeList {
        &self.list
    }

    /// The next write for each server, if it needs one.
    pub fn writes(
        &mut self,
        servers: &[ServerView],
        may: &Permissions,
    ) -> (Vec<Option<RecordWrite>>, Outcome) {
        let mut writes = alloc::vec![None; servers.len()];
        let current = self.current(servers).cloned();
        self.follow_list(current.as_deref());
        if self.base != current {
            self.abandon();
            self.base.clone_from(&current);
        }
        Self::carry(servers, current.as_ref(), &mut writes);
        if self.is_ours(current.as_deref()) {
            self.draw_seats(servers, current.as_deref(), may, &mut writes);
        }
        let outcome = self.choose(servers, current.as_ref(), may, &mut writes);
        if outcome == Outcome::Idle {
            self.abandon();
        }
        (writes, outcome)
    }

    /// Whether the client may give seats. Under another list it only finishes what other clients began.
    fn is_ours(&self, current: Option<&Roster>) -> bool {
        current.is_none_or(|it| it.list == self.list.hash()) || enabled(Mutant::AnyListAdopts)
    }

    fn abandon(&mut self) {
        (self.ballot, self.proposal) = (None, None);
    }

    /// Servers without memory draw a seat. A server that has lost its seat draws another only if the seat at
    /// its address is vacant: the server that has it now may be the right one for the address.
    fn draw_seats(
        &self,
        servers: &[ServerView],
        current: Option<&Roster>,
        may: &Permissions,
        writes: &mut [Option<RecordWrite>],
    ) {
        let up = servers.iter().filter(|server| server.is_up).count();
        if current.is_none() && !(may.may_found && self.config.quorum().is_met(up)) {
            return;
        }
        for (index, (server, write)) in servers.iter().zip(writes).enumerate().filter(|(_, (it, _))| it.is_up)
        {
            let node = NodeId(index as u8);
            let is_wanted = self.is_to_be_added(node);
            if !self.list.nodes().contains(node) && !is_wanted {
                continue;
            }
            let position = self.list.position(node);
            let has_lost_seat = |record: &Record| {
                let knows = |current: &&Roster| record.roster.as_deref() == Some(*current);
                let current = current.filter(knows).filter(|_| record.was_member);
                current.is_some_and(|it| !it.has(record.seat) && (it.is_vacant(position) || is_wanted))
            };
            let is_foreign = server.is_foreign(current, self.list.hash());
            if !is_foreign && server.record.as_ref().is_none_or(has_lost_seat) {
                // Different for each node of this client, and for each client.
                let seat = SeatId::drawn(may.random ^ self.client, NodeId(index as u8));
                *write = Some(RecordWrite::DrawSeat(seat));
            }
        }
    }

    fn choose(
        &mut self,
        servers: &[ServerView],
        current: Option<&Arc<Roster>>,
        may: &Permissions,
        writes: &mut [Option<RecordWrite>],
    ) -> Outcome {
        let Some(Plan { acceptors, needed, next }) = self.plan(servers, current.map(|it| &**it), may) else {
            return Outcome::Idle;
        };
        let records: Vec<(NodeId, &Record)> = acceptors
            .iter()
            .filter_map(|node| Some((node, servers[node.index()].record.as_ref()?)))
            .collect();
        let largest = records.iter().filter_map(|(_, it)| it.promised).max().unwrap_or_default();
        let ballot = match self.ballot {
            Some(ballot) if ballot >= largest => ballot,
            Some(_) => {
                self.abandon();
                return Outcome::Lost;
            }
            None if !may.may_begin => {
                return if largest == Ballot::default() { Outcome::Waiting } else { Outcome::Lost };
            }
            None => Ballot { count: largest.count + 1, client: self.client },
        };
        self.ballot = Some(ballot);
        let promised: Vec<(NodeId, &Record)> =
            records.iter().filter(|(_, it)| it.promised == Some(ballot)).copied().collect();
        for (node, record) in &records {
            if record.promised != Some(ballot) {
                writes[node.index()] = Some(RecordWrite::Promise(ballot));
            }
        }
        if promised.len() < needed {
            return Outcome::Pending;
        }
        let accepted = promised.iter().filter_map(|(_, it)| it.accepted.as_ref());
        let base = current.map_or_else(Epoch::default, |it| it.epoch);
        let accepted = accepted.filter(|(_, it)| it.epoch > base && !enabled(Mutant::NoPromise));
        let taken_over = accepted.max_by_key(|(ballot, _)| *ballot).map(|(_, proposal)| proposal.clone());
        // Whatever it reads later, a ballot has one proposal.
        let proposal = self.proposal.clone().or(taken_over).unwrap_or_else(|| {
            Arc::new(self.proposal(servers, current.map(|it| &**it), acceptors, next, may))
        });
        self.proposal = Some(proposal.clone());
        let has_accepted =
            |record: &Record| record.accepted.as_ref().is_some_and(|(other, _)| *other == ballot);
        let accepted = promised.iter().filter(|(_, it)| has_accepted(it)).count();
        for (node, record) in &promised {
            if !has_accepted(record) {
                writes[node.index()] = Some(RecordWrite::Accept(ballot, proposal.clone()));
            }
        }
        if accepted >= needed {
            // Chosen: tell all that had a part in it or have one now. A recovery that was taken over may have
            // no seat of the servers that accepted it, because all were restarted since. They learn it too, so
            // that the next recovery follows; otherwise each ballot would choose the same roster again.
            for (node, record) in &records {
                if record.was_member || next == Next::Recovery || proposal.has(record.seat) {
                    writes[node.index()] = Some(RecordWrite::Carry(proposal.clone()));
                }
            }
            for (index, server) in servers.iter().enumerate() {
                if server.candidate_seat().is_some_and(|seat| proposal.has(seat)) {
                    writes[index] = Some(RecordWrite::Carry(proposal.clone()));
                }
            }
        }
        Outcome::Pending
    }

    /// Which servers must agree to what; `None` if nothing is to be chosen, or it cannot be now.
    pub(super) fn plan(
        &self,
        servers: &[ServerView],
        current: Option<&Roster>,
        may: &Permissions,
    ) -> Option<Plan> {
        if let Some(current) = current {
            let (members, needed) = (members(servers, current), current.majority());
            if members.len() >= needed {
                let is_sealed =
                    |node: NodeId| servers[node.index()].record.as_ref().is_some_and(Record::is_sealed);
                let is_due =
                    members.iter().any(is_sealed) || self.next_roster(servers, current, may).is_some();
                return is_due.then_some(Plan { acceptors: members, needed, next: Next::Change });
            }
        }
        let config = current.map_or(self.config, |it| it.config);
        let quorum = config.quorum();
        let list = self.list.nodes();
        let is_list = quorum.nodes() == list.len() && self.is_ours(current);
        if !is_list || current.is_none() && !may.may_found {
            return None;
        }
        // Absent servers may remember, as may the one that took a replying server's seat. Vacant seats have none.
        let is_vacant = |node: NodeId| current.is_some_and(|it| it.is_vacant(self.list.position(node)));
        let has_seat = |record: &Record| current.is_some_and(|it| it.has(record.seat));
        let may_remember = |node: &NodeId| {
            let server = &servers[node.index()];
            let is_elsewhere = !is_vacant(*node) && !may.leaves_out_unreachable;
            let remembers = |it: &Record| has_seat(it) || it.was_member && is_elsewhere;
            if server.is_up { server.record.as_ref().is_some_and(remembers) } else { is_elsewhere }
        };
        let remembering = list.iter().filter(may_remember).count();
        let up = nodes(servers, |server| server.is_up).and(list);
        let absent = list.without(up);
        let all_absent = absent.iter().all(|node| is_vacant(node) || may.absent.contains(node));
        // All servers that reply must take part; each has drawn a seat by then. Of another list, only a step that
        // follows this roster is taken over: it may be chosen.
        let follows = |it: &Roster| {
            current.is_some_and(|base| base.cluster == it.cluster && base.epoch.after_change() == it.epoch)
        };
        let in_cluster = |server: &ServerView| {
            let is_ours = |it: &Roster| it.list == self.list.hash() || follows(it);
            let accepts_ours = |record: &Record| record.accepted.as_ref().is_none_or(|(_, it)| is_ours(it));
            !server.is_foreign(current, self.list.hash()) && server.record.as_ref().is_some_and(accepts_ours)
        };
        let all_take_part = up.iter().all(|node| in_cluster(&servers[node.index()]));
        let all_distinct = !up.iter().any(|node| repeats_seat(servers, node));
        let is_possible = all_distinct
            && quorum.is_met(up.len())
            && !quorum.is_met(remembering)
            && all_absent
            && all_take_part;
        is_possible.then_some(Plan { acceptors: up, needed: up.len(), next: Next::Recovery })
    }

    fn is_to_be_added(&self, node: NodeId) -> bool {
        self.reconfiguration.as_ref().is_some_and(|it| it.to_add(&self.list).contains(node))
    }

    /// The roster to propose, but for its fence base; `None` if nothing is to be changed, or it cannot be now.
    fn next_roster(&self, servers: &[ServerView], current: &Roster, may: &Permissions) -> Option<Roster> {
        if !self.is_ours(Some(current)) {
            return None;
        }
        if let Some((position, seat)) = self.next_seat(servers, current, may) {
            return Some(current.with_seat(position, seat, may.now_millis));
        }
        let reconfiguration =
            self.reconfiguration.as_ref().filter(|_| may.is_settled || enabled(Mutant::StepsAtOnce))?;
        reconfiguration.next(current, &self.list, (servers, may.voting)).ok()
    }

    /// The next seat to change: a server at its address takes it, or it becomes vacant.
    fn next_seat(
        &self,
        servers: &[ServerView],
        current: &Roster,
        may: &Permissions,
    ) -> Option<(usize, Option<SeatId>)> {
        // Without a quorum there is nothing that a further change could disturb.
        let is_urgent = !current.config.quorum().is_met(members(servers, current).len());
        let may_change = |position: &usize| {
            let is_urgent = is_urgent && *position < current.seats.len();
            is_urgent || current.may_change(*position, may.now_millis)
        };
        let taken = servers.iter().enumerate().find_map(|(index, server)| {
            let position = Some(self.list.position(NodeId(index as u8))).filter(may_change)?;
            let is_foreign = server.is_foreign(Some(current), self.list.hash());
            let seat = server.candidate_seat().filter(|seat| !is_foreign && !current.has(*seat))?;
            Some((position, Some(seat)))
        });
        let vacated = || {
            servers.iter().enumerate().find_map(|(index, server)| {
                let position = self.list.position(NodeId(index as u8));
                let is_taken = current.seats.get(position)?.id.is_some();
                (is_taken && !server.is_up && may.to_vacate.contains(NodeId(index as u8)))
                    .then_some((position, None))
            })
        };
        taken.or_else(vacated)
    }

    /// This client's proposal. An acceptor's largest number is read after its promise: it gives out no other.
    fn proposal(
        &self,
        servers: &[ServerView],
        current: Option<&Roster>,
        acceptors: NodeSet,
        next: Next,
        may: &Permissions,
    ) -> Roster {
        let largest = acceptors.iter().map(|node| servers[node.index()].largest_number).max().unwrap_or(0);
        let mut roster = match (current, next) {
            // Without a change, it ends another client's, of which nothing is left but the promises.
            (Some(current), Next::Change) => self
                .next_roster(servers, current, may)
                .unwrap_or_else(|| Roster { epoch: current.epoch.after_change(), ..current.clone() }),
            (current, _) => {
                let mut seats = alloc::vec![Seat::default(); self.list.nodes().len()];
                // A seat that was lost never returns.
                let has_seat =
                    |it: &&Record| !it.was_member || current.is_some_and(|current| current.has(it.seat));
                for node in acceptors.iter().filter(|node| servers[node.index()].is_fit) {
                    let record = servers[node.index()].record.as_ref().filter(has_seat);
                    seats[self.list.position(node)].id = record.map(|it| it.seat);
                }
                let seen = servers.iter().filter_map(|it| Some(it.roster()?.epoch)).max().unwrap_or_default();
                Roster {
                    cluster: current.map_or_else(
                        || ClusterId::new(u128::from(may.random) << 64 | u128::from(self.client)),
                        |it| it.cluster,
                    ),
                    epoch: seen.after_recovery(),
                    list: self.list.hash(),
                    config: current.map_or(self.config, |it| it.config),
                    probation: current.map_or(self.config.max_ttl(), |it| it.probation),
                    fence_base: current.map_or(0, |it| it.fence_base),
                    seats,
                }
            }
        };
        if !enabled(Mutant::NoFenceBase) {
            roster.fence_base = roster.fence_base.max(largest);
        }
        roster
    }
}

/// What is to be chosen, and how many of which servers must agree.
pub(super) struct Plan {
    acceptors: NodeSet,
    needed: usize,
    pub(super) next: Next,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Change,
    Recovery,
}

/// The members of this roster that reply and know it. A server behind two addresses is one member.
pub(super) fn members(servers: &[ServerView], roster: &Roster) -> NodeSet {
    let is_member = |record: &Record| record.is_member_of(roster);
    let members = nodes(servers, |server| server.is_up && server.record.as_ref().is_some_and(is_member));
    members.iter().filter(|node| !repeats_seat(servers, *node)).collect()
}

/// Whether an earlier node replies from the same seat, so both addresses lead to one server.
fn repeats_seat(servers: &[ServerView], node: NodeId) -> bool {
    let seat = |server: &ServerView| server.record.as_ref().filter(|_| server.is_up).map(|it| it.seat);
    let its = seat(&servers[node.index()]);
    its.is_some() && servers[..node.index()].iter().any(|other| seat(other) == its)
}

pub(super) fn nodes(servers: &[ServerView], is_one: impl Fn(&ServerView) -> bool) -> NodeSet {
    let indices = servers.iter().enumerate().filter(|(_, server)| is_one(server));
    indices.map(|(index, _)| NodeId(index as u8)).collect()
}
