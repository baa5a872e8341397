//! Lockers: clients that acquire and renew the lock, each round under one roster.

use super::state::{Locker, State};
use super::{ModelMutant, RosterModel, Situation};
use crate::mutant::{Mutant, enabled};
use crate::roster::Epoch;
use crate::tests::models::search::Coverage;

impl RosterModel {
    /// Whether the server votes for the locker's round.
    pub(super) fn grants(&self, state: &State, locker: usize, server: usize) -> bool {
        let Some((roster, _, granted)) = &state.lockers[locker].round else { return false };
        let host = &state.servers[server];
        let votes = host.record.as_ref().is_some_and(|record| {
            let has_lost_seat = record.was_member && record.roster.as_ref() == Some(roster);
            let is_member = record.is_member_of(roster)
                || has_lost_seat && enabled(Mutant::LostSeatVotes)
                || self.mutant == Some(ModelMutant::RoundOfTwoRosters)
                    && record.roster.as_ref().is_some_and(|its| its.has(record.seat));
            is_member && !record.is_sealed()
        });
        let has_key = host.key.is_some_and(|(owner, _)| usize::from(owner) == locker);
        let is_free = if state.lockers[locker].valid_until > 0 { has_key } else { host.key.is_none() };
        host.is_up && votes && state.now >= host.time && is_free && granted & 1 << server == 0
    }

    /// The locker's round is won, or goes on.
    pub(super) fn grant(
        &self,
        state: &mut State,
        locker: usize,
        server: usize,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        state.servers[server].key = Some((locker as u8, state.now + self.ttl));
        let Some((roster, start, granted)) = &mut state.lockers[locker].round else { return Ok(()) };
        *granted |= 1 << server;
        if !roster.config.quorum().is_met(granted.count_ones() as usize) {
            return Ok(());
        }
        let (valid_until, epoch) = (*start + self.ttl, roster.epoch);
        let is_renewal = state.lockers[locker].valid_until > 0;
        coverage.record(if is_renewal { Situation::Renewed } else { Situation::Locked } as usize);
        if epoch != Epoch::default().after_recovery() {
            coverage.record(Situation::LockedUnderTwoRosters as usize);
        }
        state.lockers[locker] = Locker { round: None, valid_until };
        let is_valid = |it: &Locker| it.valid_until > state.now;
        if state.lockers.iter().filter(|it| is_valid(it)).count() > 1 {
            return Err(format!("R0: two locks are valid at tick {}", state.now));
        }
        Ok(())
    }

    /// Keys and locks whose time is up.
    pub(super) fn expire(state: &mut State) {
        for host in &mut state.servers {
            host.key = host.key.filter(|(_, expires)| *expires > state.now);
        }
        for locker in &mut state.lockers {
            if locker.valid_until <= state.now && locker.valid_until > 0 {
                // It lost the lock, and with it the running renewal.
                *locker = Locker { round: None, valid_until: 0 };
            }
        }
    }
}
