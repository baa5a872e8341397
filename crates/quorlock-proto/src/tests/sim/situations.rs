//! Situations of the rosters that the histories must meet.

use std::sync::Arc;

use super::engine::Sim;
use super::stats::Stats;
use crate::roster::Roster;

/// A situation that the checks of the rosters are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Situation {
    /// An address moved to a blank server.
    MovedToBlankServer,
    /// An address moved to a copy of its server.
    MovedToCopy,
    /// A server whose address had moved granted a lock on an old connection.
    GrantWithoutAddress,
    /// A server got the data of another one, as a replica that is promoted.
    DataOfAnotherServer,
    /// A client followed a roster of another list of nodes.
    OtherListFollowed,
    /// Clients founded a lock cluster without one of its nodes.
    FoundedWithoutNode,
    /// A majority lost its data, and a recovery gave it seats.
    RecoveredWithoutData,
    /// A server took the seat at its address from the one that had it.
    SeatTaken,
    /// The seat of an absent server became vacant.
    SeatVacated,
    /// A server took the vacant seat at its address.
    VacantSeatTaken,
    /// A roster followed another after the clock of a node had been set.
    ChangedAfterClockStep,
}

impl Sim<'_> {
    /// Counts what a roster that has just been chosen shows.
    pub(super) fn note_new_roster(&mut self, roster: &Roster) {
        let earlier = self.oracle.rosters.range(..(roster.cluster, roster.epoch)).next_back();
        let earlier: Option<Arc<Roster>> =
            earlier.filter(|(_, it)| it.cluster == roster.cluster).map(|(_, it)| it.clone());
        let Some(earlier) = earlier else {
            if roster.seats.iter().any(|seat| seat.id.is_none()) {
                self.stats.count_situation(Situation::FoundedWithoutNode);
            }
            return;
        };
        if roster.is_recovery() {
            let without_data = self.oracle.nodes_without_fences_since(0).len();
            if without_data >= roster.majority() {
                self.stats.count_situation(Situation::RecoveredWithoutData);
            }
        } else {
            for (before, after) in earlier.seats.iter().zip(&roster.seats) {
                let situation = match (before.id, after.id) {
                    (Some(_), None) => Situation::SeatVacated,
                    (None, Some(_)) => Situation::VacantSeatTaken,
                    (before, after) if before != after => Situation::SeatTaken,
                    _ => continue,
                };
                self.stats.count_situation(situation);
            }
        }
        let was_set = self.nodes.iter().any(|it| it.was_clock_set_back || it.jumped_at.is_some());
        if was_set {
            self.stats.count_situation(Situation::ChangedAfterClockStep);
        }
    }
}

impl Stats {
    pub(super) fn count_situation(&mut self, situation: Situation) {
        *self.situations.entry(situation).or_default() += 1;
    }

    /// Asserts that the histories met each of these situations.
    #[track_caller]
    pub(super) fn assert_met(&self, situations: &[Situation]) {
        for situation in situations {
            assert!(self.situations.contains_key(situation), "never met: {situation:?}");
        }
    }
}
