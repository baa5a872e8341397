//! What a client knows of each server, and what it may do about the roster.

use alloc::sync::Arc;

use super::record::Record;
use super::{ListHash, Roster, SeatId};
use crate::quorum::NodeSet;

/// One server, as the client sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServerView {
    /// Whether it replies.
    pub is_up: bool,
    /// What it remembers; `None` if it has no record, or one of another incarnation.
    pub record: Option<Record>,
    /// The roster in the data of a server without memory.
    pub hint: Option<Arc<Roster>>,
    /// No fencing number that it has given out is larger.
    pub largest_number: u64,
    /// Whether it may have a seat.
    pub is_fit: bool,
}

impl ServerView {
    /// The roster that it carries, or that is in its data.
    #[must_use]
    pub fn roster(&self) -> Option<&Arc<Roster>> {
        self.record.as_ref().map_or(self.hint.as_ref(), |record| record.roster.as_ref())
    }

    /// Whether it belongs to another lock cluster. A server without memory does not, if its data are of one with
    /// this list of nodes: it has no vote there.
    pub(crate) fn is_foreign(&self, current: Option<&Roster>, list: ListHash) -> bool {
        let remembers = self.record.as_ref().is_some_and(|record| record.was_member);
        self.roster().is_some_and(|its| {
            current.is_none_or(|it| it.cluster != its.cluster) && (remembers || its.list != list)
        })
    }

    /// The seat that it waits for.
    pub(super) fn candidate_seat(&self) -> Option<SeatId> {
        let record = self.record.as_ref().filter(|record| self.is_up && self.is_fit && !record.was_member);
        record.map(|record| record.seat)
    }
}

/// What the proposer may do at this time.
#[allow(clippy::struct_excessive_bools, reason = "each is a permission of its own")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// The client's wall clock, in milliseconds.
    pub now_millis: u64,
    /// The nodes that no client has reached for the max ttl.
    pub absent: NodeSet,
    /// The nodes that no client has reached for so long that their seats become vacant.
    pub to_vacate: NodeSet,
    /// Whether it may found a lock cluster.
    pub may_found: bool,
    /// Whether unreachable servers count as ones without memory, as a person has decided.
    pub leaves_out_unreachable: bool,
    /// The nodes that vote.
    pub voting: NodeSet,
    /// Whether the current roster's settings and number of seats are in force for so long that locks of earlier
    /// ones have ended, and each member that replies votes. Otherwise no step of a reconfiguration follows.
    pub is_settled: bool,
    /// Whether it may begin a ballot; not shortly after it lost one.
    pub may_begin: bool,
    /// A random number, for the ids that a ballot needs.
    pub random: u64,
}
