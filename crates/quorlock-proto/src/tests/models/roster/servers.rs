//! What servers do with writes and readings, and which of them keep memory and address.

use std::sync::Arc;

use super::state::{Client, Locker, Server, State};
use super::{ModelMutant, Nodes, RosterModel, TICK, TICK_MICROS};
use crate::quorum::{NodeId, NodeSet};
use crate::roster::record::{Ballot, Record, RecordWrite};
use crate::roster::server_view::ServerView;
use crate::roster::voting_time::{MarkerTime, time_of};
use crate::roster::{NodeList, Roster, SeatId};

impl RosterModel {
    /// The servers after most members have accepted that a spare server has the seat of the last node.
    pub(super) fn remove_last(&self, first: &Arc<Roster>, servers: &mut [Server], lockers: &mut [Locker]) {
        let (last, ballot) = (self.nodes - 1, Ballot { count: 1, client: 99 });
        let added = SeatId(self.nodes as u64 + 1);
        let kept: NodeSet = (0..last as u8).chain([self.nodes as u8]).map(NodeId).collect();
        let names: Vec<String> = (0..servers.len()).map(|it| format!("node {it}")).collect();
        // The spare node's name sorts behind the others, so it has the last seat.
        let next = first.with_seat(last, Some(added), 0);
        let next = Arc::new(Roster { list: NodeList::of(&names, kept).hash(), ..next });
        for server in &mut servers[..last] {
            let record = server.record.as_mut().expect("a member");
            (record.promised, record.accepted) = (Some(ballot), Some((ballot, next.clone())));
        }
        servers[last].is_up = false;
        let candidate =
            Record { seat: added, was_member: false, roster: None, promised: None, accepted: None };
        servers[self.nodes].record = Some(candidate);
        if let Some(locker) = lockers.first_mut() {
            locker.valid_until = self.ttl;
            servers[last - 1].key = Some((0, self.ttl));
            servers[last].key = Some((0, self.ttl));
        }
    }

    pub(super) fn run(
        &self,
        state: &mut State,
        server: usize,
        expected: Option<&Record>,
        write: &RecordWrite,
    ) -> bool {
        let is_expected = state.servers[server].record.as_ref() == expected
            || self.mutant == Some(ModelMutant::WritesAnyRecord);
        let host = &mut state.servers[server];
        if !host.is_up || !is_expected {
            return false;
        }
        let write = match write {
            RecordWrite::DrawSeat(_) => {
                state.next_seat += 1;
                RecordWrite::DrawSeat(SeatId(state.next_seat))
            }
            write => write.clone(),
        };
        if let Some(record) = Record::after(host.record.as_ref(), host.hint.as_ref(), &write) {
            let before = (u64::from(host.time) * TICK_MICROS, 1);
            let ttl = TICK * u32::from(self.ttl);
            let (time, _) = time_of(&write, host.record.as_ref(), &record, before, (ttl, 1));
            host.time = match time {
                MarkerTime::After(span) => state.now + (span.as_micros() as u64 / TICK_MICROS) as u8,
                MarkerTime::At(micros) => (micros / TICK_MICROS) as u8,
            };
            (host.record, host.hint) = (Some(record), None);
        }
        true
    }

    pub(super) fn read(state: &mut State, client: usize, node: usize) {
        let server = &state.servers[usize::from(state.clients[client].connections[node])];
        let view = if server.is_up {
            ServerView {
                is_up: true,
                record: server.record.clone(),
                hint: server.hint.clone(),
                largest_number: 0,
                is_fit: true,
            }
        } else {
            ServerView { is_up: false, ..state.clients[client].views[node].clone() }
        };
        state.clients[client].views[node] = view;
    }

    /// The nodes that vote, as the client knows them; and whether it may begin another step of its
    /// reconfiguration.
    pub(super) fn voting(&self, state: &State, client: usize) -> (NodeSet, bool) {
        let Client { proposer, views, connections, shape } = &state.clients[client];
        if !matches!(self.lists[client], Nodes::Reconfigures(..)) {
            return (NodeSet::EMPTY, false);
        }
        let Some(current) = proposer.current(views) else { return (NodeSet::EMPTY, false) };
        let is_member = |node: &usize| {
            views[*node].is_up && views[*node].record.as_ref().is_some_and(|it| it.is_member_of(current))
        };
        let votes = |node: &usize| state.servers[usize::from(connections[*node])].time <= state.now;
        let members: Vec<usize> = (0..views.len()).filter(is_member).collect();
        let voting = members.iter().filter(|node| votes(node)).map(|node| NodeId(*node as u8)).collect();
        let is_settled =
            members.iter().all(votes) && (state.now >= shape.1 + self.ttl || current.is_founding());
        (voting, is_settled)
    }

    /// Clients that see another list or other settings in force note when.
    pub(super) fn see_shapes(state: &mut State) {
        for client in &mut state.clients {
            let current = client.proposer.current(&client.views);
            let shape = current.map(|it| (it.list, it.config));
            if shape != client.shape.0 {
                client.shape = (shape, state.now);
            }
        }
    }

    pub(super) fn is_read(state: &State, client: usize, node: usize) -> bool {
        let server = &state.servers[usize::from(state.clients[client].connections[node])];
        let view = &state.clients[client].views[node];
        if server.is_up {
            view.is_up && view.record == server.record && view.hint == server.hint
        } else {
            !view.is_up
        }
    }

    /// The latest roster that a server carries.
    pub(super) fn latest(state: &State) -> Option<&Arc<Roster>> {
        let rosters = state.servers.iter().filter_map(|it| it.record.as_ref()?.roster.as_ref());
        rosters.max_by_key(|it| it.epoch)
    }

    /// Whether a quorum of the latest roster keeps memory and address without this node.
    pub(super) fn is_quorum_kept(state: &State, without: usize) -> bool {
        let Some(latest) = Self::latest(state) else { return false };
        let keeps = |node: &usize| {
            let address = state.addresses[*node];
            let server = &state.servers[usize::from(address)];
            // A server behind two addresses is one.
            let is_other =
                address != state.addresses[without] && !state.addresses[..*node].contains(&address);
            is_other && server.record.as_ref().is_some_and(|it| it.is_member_of(latest))
        };
        (0..state.addresses.len()).filter(keeps).count() >= latest.config.quorum().needed()
    }

    /// Whether a member of the latest roster, or of one that may have voters beside it, is at no address.
    pub(super) fn has_moved_member(state: &State) -> bool {
        state.servers.iter().enumerate().any(|(index, server)| {
            let is_addressed = state.addresses.contains(&(index as u8));
            !is_addressed
                && server.record.as_ref().is_some_and(|record| {
                    record.was_member && Self::latest(state).is_some_and(|it| it.has(record.seat))
                })
        })
    }
}
