//! When a member votes: at once if it remembers, else after its probation.

use core::time::Duration;

use super::record::{Record, RecordWrite};
use crate::mutant::{Mutant, enabled};

/// When a server votes or, while it waits for a seat, when its data began; by its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MarkerTime {
    /// This long after the write.
    After(Duration),
    /// At this time, in microseconds.
    At(u64),
}

/// The times of a marker: the node's, and the client's that began the probation. A member that remembers keeps
/// what it had, however many rosters follow. `before` are the times of the marker that is replaced.
#[must_use]
pub fn time_of(
    write: &RecordWrite,
    record_before: Option<&Record>,
    record: &Record,
    before: (u64, u64),
    (probation, now_micros): (Duration, u64),
) -> (MarkerTime, u64) {
    let probation = probation_of(probation);
    let is_new = record.was_member && record_before.is_none_or(|it| !it.was_member);
    match write {
        RecordWrite::DrawSeat(_) => (MarkerTime::After(Duration::ZERO), now_micros),
        // It counts from when the server's data began: no quorum was left that could vote since.
        RecordWrite::Carry(roster)
            if is_new && (roster.is_recovery() || enabled(Mutant::ProbationBeforeChoice)) =>
        {
            (MarkerTime::At(before.0.saturating_add(probation.as_micros() as u64)), before.1)
        }
        // Members of the roster before may have voted until now.
        RecordWrite::Carry(_) if is_new => (MarkerTime::After(probation), now_micros),
        RecordWrite::Promise(_) | RecordWrite::Accept(..) | RecordWrite::Carry(_) => {
            (MarkerTime::At(before.0), before.1)
        }
    }
}

/// The length of a probation. (Two mutants change it.)
pub(crate) fn probation_of(probation: Duration) -> Duration {
    if enabled(Mutant::NoProbation) {
        Duration::ZERO
    } else if enabled(Mutant::ShortProbation) {
        probation / 2
    } else {
        probation
    }
}
