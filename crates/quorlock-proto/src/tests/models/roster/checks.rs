//! The invariants of the model, the situations that it meets, and its traces.

use std::sync::Arc;

use super::state::State;
use super::{LIST, RosterModel};
use crate::roster::proposer::Proposer;
use crate::roster::record::{Ballot, Record, RecordWrite};
use crate::roster::server_view::ServerView;
use crate::roster::{Roster, SeatId};
use crate::tests::models::search::Coverage;

/// What a model must meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Situation {
    Locked,
    Renewed,
    LockedUnderTwoRosters,
    Founded,
    Changed,
    Recovered,
    Vacant,
    BallotLost,
    TakenOver,
    LateWrite,
    LateWriteRejected,
    MemberNotified,
    Reconfigured,
    /// A member that was removed while it did not reply has replied to a client with the list before.
    RemovedReturned,
    /// It knows that it was removed.
    RemovedNotified,
}

impl RosterModel {
    pub(super) fn check(state: &State, coverage: &mut Coverage) -> Result<(), String> {
        let records: Vec<&Record> = state.servers.iter().filter_map(|it| it.record.as_ref()).collect();
        let mut carried: Vec<&Arc<Roster>> = Vec::new();
        let hints = state.servers.iter().filter_map(|it| it.hint.as_ref());
        for roster in records.iter().filter_map(|it| it.roster.as_ref()).chain(hints) {
            if carried.contains(&roster) {
                continue;
            }
            if let Some(other) =
                carried.iter().find(|it| it.cluster != roster.cluster || it.epoch == roster.epoch)
            {
                return Err(format!("R1: two rosters: {} and {}", other.to_text(), roster.to_text()));
            }
            carried.push(roster);
        }
        let votes_under =
            |record: &&&Record, roster: &Roster| record.is_member_of(roster) && !record.is_sealed();
        let mut in_force: Vec<&Arc<Roster>> = Vec::new();
        for roster in &carried {
            let voters = records.iter().filter(|record| votes_under(record, roster)).count();
            if roster.config.quorum().is_met(voters) && !in_force.contains(roster) {
                in_force.push(roster);
            }
            if roster.seats.iter().any(|seat| seat.id.is_none()) {
                coverage.record(Situation::Vacant as usize);
            }
        }
        if let [one, other, ..] = in_force[..] {
            return Err(format!("R2: two rosters have a quorum: {} and {}", one.to_text(), other.to_text()));
        }
        carried.sort_by_key(|it| it.epoch);
        if let Some(seat) = returned_seat(&carried) {
            return Err(format!("R4: the seat {seat:?} was given away and has returned"));
        }
        for (index, record) in records.iter().enumerate() {
            if records[..index].iter().any(|other| other.seat == record.seat) {
                return Err(format!("R3: two servers have the seat {:?}", record.seat));
            }
        }
        Ok(())
    }

    /// Whether a member that was removed meanwhile replies again to a client with the list before.
    pub(super) fn cover_removed(&self, state: &State, coverage: &mut Coverage) {
        let Some(latest) = Self::latest(state) else { return };
        let last = self.nodes - 1;
        for (client, _) in state.clients.iter().zip(self.lists).filter(|(_, list)| **list == LIST) {
            let view = &client.views[last];
            let Some(record) = view.record.as_ref().filter(|_| view.is_up) else { continue };
            let Some(roster) = record.roster.as_ref().filter(|_| record.was_member) else { continue };
            if roster.has(record.seat) && roster != latest {
                coverage.record(Situation::RemovedReturned as usize);
            } else if !roster.has(record.seat) {
                coverage.record(Situation::RemovedNotified as usize);
            }
        }
    }

    pub(super) fn cover(
        state: &State,
        client: usize,
        proposer: &Proposer,
        write: &RecordWrite,
        coverage: &mut Coverage,
    ) {
        let views = &state.clients[client].views;
        let current = proposer.current(views);
        match write {
            RecordWrite::Accept(ballot, roster) => {
                let is_other = |view: &ServerView| {
                    let accepted = view.record.as_ref().and_then(|it| it.accepted.as_ref());
                    accepted.is_some_and(|(other, it)| other != ballot && it == roster)
                };
                if views.iter().any(is_other) {
                    coverage.record(Situation::TakenOver as usize);
                }
            }
            RecordWrite::Carry(roster) => {
                let situation = match current {
                    None => Situation::Founded,
                    Some(current) if current == roster => Situation::MemberNotified,
                    Some(current) if current.list != roster.list || current.config != roster.config => {
                        Situation::Reconfigured
                    }
                    Some(current) if current.epoch.after_change() == roster.epoch => Situation::Changed,
                    Some(_) => Situation::Recovered,
                };
                coverage.record(situation as usize);
            }
            RecordWrite::Promise(ballot) => {
                let is_smaller = |view: &ServerView| {
                    view.record
                        .as_ref()
                        .and_then(|it| it.promised)
                        .is_some_and(|it| it < *ballot && it != Ballot::default())
                };
                if views.iter().any(is_smaller) {
                    coverage.record(Situation::BallotLost as usize);
                }
            }
            RecordWrite::DrawSeat(_) => {}
        }
    }
}

/// A seat of one of these rosters, which follow each other, that a later one has not and a still later one has.
fn returned_seat(rosters: &[&Arc<Roster>]) -> Option<SeatId> {
    let seats = |roster: &Roster| roster.seats.iter().filter_map(|it| it.id).collect::<Vec<SeatId>>();
    rosters.iter().enumerate().find_map(|(index, roster)| {
        let later = &rosters[index + 1..];
        seats(roster)
            .into_iter()
            .find(|seat| later.iter().skip_while(|it| it.has(*seat)).any(|it| it.has(*seat)))
    })
}

pub(super) fn describe_write(write: &RecordWrite) -> String {
    match write {
        RecordWrite::DrawSeat(_) => "draw a seat".to_owned(),
        RecordWrite::Promise(ballot) => format!("promise {}.{}", ballot.count, ballot.client),
        RecordWrite::Accept(ballot, roster) => {
            format!("accept {}.{} {}", ballot.count, ballot.client, describe_roster(roster))
        }
        RecordWrite::Carry(roster) => format!("carry {}", describe_roster(roster)),
    }
}

fn describe_roster(roster: &Roster) -> String {
    let seats: Vec<String> =
        roster.seats.iter().map(|it| it.id.map_or("-".to_owned(), |id| id.0.to_string())).collect();
    format!("{}: {}", roster.epoch, seats.join(" "))
}
