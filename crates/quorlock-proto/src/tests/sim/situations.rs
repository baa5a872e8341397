//! Situations of the rosters that the histories must meet.

use std::cmp::Ordering;
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
    /// A reconfiguration exchanged, added or removed a node; changed the quorum or the max TTL; or made probation
    /// shorter, as the max TTL before.
    NodeExchanged,
    NodeAdded,
    NodeRemoved,
    QuorumChanged,
    MaxTtlChanged,
    ProbationShortened,
    /// A client that reconfigured has seen the end of it.
    ReconfigurationDone,
    /// Such a client died in the middle of a ballot of its own, or before its goal was reached.
    InterruptedInBallot,
    InterruptedBetweenSteps,
    /// A client whose list is not the one in force acquired or renewed a lock.
    LockedWithOtherList,
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
            if let Some(situation) = reconfigured(&earlier, roster) {
                self.stats.count_situation(situation);
            }
            let is_same = earlier.list == roster.list;
            for (before, after) in earlier.seats.iter().zip(&roster.seats).filter(|_| is_same) {
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

/// What a step of a reconfiguration has changed.
fn reconfigured(before: &Roster, after: &Roster) -> Option<Situation> {
    let (quorum, next) = (before.config.quorum(), after.config.quorum());
    if before.list != after.list {
        return Some(match next.nodes().cmp(&quorum.nodes()) {
            Ordering::Less => Situation::NodeRemoved,
            Ordering::Equal => Situation::NodeExchanged,
            Ordering::Greater => Situation::NodeAdded,
        });
    }
    if quorum != next {
        return Some(Situation::QuorumChanged);
    }
    if before.config.max_ttl() != after.config.max_ttl() {
        return Some(Situation::MaxTtlChanged);
    }
    (before.probation > after.probation).then_some(Situation::ProbationShortened)
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
