//! Probation: when a member votes, by the node's clock, the writer's and the client's own.

use core::time::Duration;

use super::eligibility::{Eligibility, ExpectedMarker};
use super::member::{Member, VotingStatus};
use crate::mutant::{Mutant, enabled};
use crate::roster::voting_time::probation_of;
use crate::time::DualTimestamp;
use crate::vote::ProbationReason;

/// When a node's probation ends, on the client's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProbationState {
    /// When every lock that the node may have lost is over. From then on holders set their keys there again.
    pub(super) opens_to_holders_at: DualTimestamp,
    /// When the node votes for contenders, a little later. Holders go first: otherwise failed attempts would
    /// take their keys, and leave larger fences.
    pub(super) votes_from: DualTimestamp,
    pub(super) reason: ProbationReason,
    /// Whether [`MemberStep::OpenToHolders`](super::MemberStep::OpenToHolders) was emitted.
    is_open_to_holders: bool,
}

impl Member {
    /// When it votes again, first for holders and then for all, if its reported status is probation.
    pub(super) fn votes_at(&self) -> Option<DualTimestamp> {
        let probation = self.probation.filter(|_| matches!(self.reported, VotingStatus::OnProbation(..)));
        probation.map(|it| if it.is_open_to_holders { it.votes_from } else { it.opens_to_holders_at })
    }

    /// Whether its probation has just ended for holders; true once.
    pub(super) fn probation_ended_for_holders(&mut self, now: DualTimestamp) -> bool {
        let is_member = self.is_up && matches!(self.eligibility, Eligibility::Member(_));
        match &mut self.probation {
            Some(it) if is_member && !it.is_open_to_holders && now.is_due(it.opens_to_holders_at) => {
                it.is_open_to_holders = true;
                true
            }
            _ => false,
        }
    }

    pub(super) fn start_probation(
        &mut self,
        ends: DualTimestamp,
        reason: ProbationReason,
        probation: Duration,
    ) {
        if self.probation.is_none_or(|other| !other.opens_to_holders_at.is_due(ends)) {
            let votes_from = ends.plus(holder_head_start(probation));
            self.probation = Some(ProbationState {
                opens_to_holders_at: ends,
                votes_from,
                reason,
                is_open_to_holders: false,
            });
        }
    }

    /// Whether nothing but its part in the choice of the next roster keeps a member from voting.
    pub(super) fn has_passed_probation(&self, now: DualTimestamp) -> bool {
        let Some((reading, read_at)) = self.reading.as_ref().zip(self.read_received_at) else { return false };
        let votes_from = self.parsed.marker.as_ref().map(|marker| marker.time_micros);
        votes_from.is_some_and(|micros| now.is_due(when_clock_shows(read_at, reading.micros, micros)))
            && self.probation.is_none_or(|it| now.is_due(it.votes_from))
    }

    /// The node has a valid marker: computes when it votes.
    pub(super) fn on_member(
        &mut self,
        expected_marker: &ExpectedMarker,
        probation: Duration,
        now: DualTimestamp,
    ) {
        let marker = self.parsed.marker.as_ref();
        let seat = marker.map(|marker| marker.seat);
        let written_micros = marker.map(|marker| marker.written_micros).filter(|micros| *micros > 0);
        let is_new = self.known_seat != seat;
        let wait = probation_of(probation);
        if is_new && self.known_seat.is_some() && !wait.is_zero() && !enabled(Mutant::NoOwnClockWait) {
            // The client knew the node before it changed, so it measures the time since the change by its own
            // clock only.
            self.start_probation(now.plus(wait), ProbationReason::PossibleDataLoss, probation);
        }
        let node_micros = self.reading.as_ref().map_or(0, |reading| reading.micros);
        let mut ends = when_clock_shows(
            self.read_received_at.unwrap_or(now),
            node_micros,
            expected_marker.votes_from_micros,
        );
        let by_writer_clock = written_micros
            .filter(|_| is_new)
            .and_then(|micros| probation_end_by_writer(micros, probation, now));
        ends = by_writer_clock
            .map_or(ends, |by_writer_clock| ends.later(by_writer_clock.earlier(now.plus(probation))));
        // After `init` no lock can be lost, and no holder needs a head start.
        let head_start = written_micros.map_or(Duration::ZERO, |_| holder_head_start(probation));
        if !now.is_due(ends.plus(head_start)) {
            let reason =
                if self.was_blank { ProbationReason::NewNode } else { ProbationReason::PossibleDataLoss };
            self.start_probation(ends, reason, probation);
        }
        self.was_blank &= self.known_seat.is_none();
        self.known_seat = seat;
    }
}

/// When a probation ends by the clock of the client that wrote the marker.
///
/// The node's own clock may have been behind at the write, as after a reboot before its time service started,
/// and may have been set forward past the end since. If the writer's clock is ahead of this client's, one of
/// both is wrong, and only the node's clock counts. Correct clocks differ by less than the added
/// [`holder_head_start`].
fn probation_end_by_writer(
    written_micros: u64,
    probation: Duration,
    now: DualTimestamp,
) -> Option<DualTimestamp> {
    let micros = now.wall_nanos() / 1000;
    let is_ahead = written_micros > micros.saturating_add(MAX_WRITER_LEAD_MICROS);
    let is_trusted = !is_ahead && !enabled(Mutant::NoWriterClock);
    let ends = written_micros.saturating_add(probation_of(probation).as_micros() as u64);
    is_trusted.then(|| when_clock_shows(now, micros, ends))
}

/// When a clock that shows `from` at `at` shows `to`; this may be in the past.
fn when_clock_shows(at: DualTimestamp, from: u64, to: u64) -> DualTimestamp {
    match to.checked_sub(from) {
        Some(left) => at.plus(Duration::from_micros(left)),
        None => at.minus(Duration::from_micros(from - to)),
    }
}

/// How much earlier than contenders a holder may use a node after its probation.
fn holder_head_start(probation: Duration) -> Duration {
    (probation / 60).max(MIN_HOLDER_HEAD_START)
}

const MIN_HOLDER_HEAD_START: Duration = Duration::from_millis(100);
/// How far a writer's clock may be ahead of this client's and still count.
const MAX_WRITER_LEAD_MICROS: u64 = 1_000_000;
