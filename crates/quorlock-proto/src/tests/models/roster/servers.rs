//! What servers do with writes and readings, and which of them keep memory and address.

use std::sync::Arc;

use super::state::State;
use super::{ModelMutant, RosterModel, TICK, TICK_MICROS};
use crate::roster::record::{Record, RecordWrite};
use crate::roster::server_view::ServerView;
use crate::roster::voting_time::{MarkerTime, time_of};
use crate::roster::{Roster, SeatId};

impl RosterModel {
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
    pub(super) fn is_quorum_kept(&self, state: &State, without: usize) -> bool {
        let Some(latest) = Self::latest(state) else { return false };
        let keeps = |node: &usize| {
            let server = &state.servers[usize::from(state.addresses[*node])];
            *node != without && server.record.as_ref().is_some_and(|it| it.is_member_of(latest))
        };
        (0..self.nodes).filter(keeps).count() >= self.quorum
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
