//! One node's seat in the cluster.

use std::sync::Arc;
use std::time::Duration;

use super::MarkerWrite;
use super::eligibility::{Eligibility, ExpectedMarker};
use crate::clock_monitor::ClockMonitor;
use crate::marker::{Marker, MarkerReading};
use crate::mutant::{Mutant, enabled};
use crate::time::DualTimestamp;
use crate::vote::{ExclusionReason, ProbationReason, ReplyFailure, Vote};

/// What is known of one node's memory and clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) is_up: bool,
    /// What it told last, kept also while it is away.
    pub(super) reading: Option<MarkerReading>,
    pub(super) eligibility: Eligibility,
    /// The marker with which it was a member last.
    known_marker: Option<Arc<str>>,
    /// It does not vote yet.
    pub(super) probation: Option<ProbationState>,
    pub(super) clock: ClockMonitor,
    /// Whether it remembered nothing when we first met it.
    was_blank: bool,
    /// When `reading` was received.
    read_received_at: Option<DualTimestamp>,
    read_at: Option<DualTimestamp>,
    is_reading: bool,
    /// Why it did not tell, or would not be told, when it was asked last: the vote that it is worth. Kept while it is told
    /// again.
    pub(super) read_failure: Option<Vote>,
    /// What it must be told to remember.
    pending_write: Option<MarkerWrite>,
    reported: VotingStatus,
}

/// Until when a node does not vote, by our own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProbationState {
    /// When all that it may have forgotten is over. Locks that are held come back to it from then on.
    pub(super) opens_to_holders_at: DualTimestamp,
    /// When it votes for those who ask for a lock. A little later: who holds a lock is to be there before them, for
    /// their vain attempts would take its place, and leave a larger number.
    pub(super) votes_from: DualTimestamp,
    pub(super) reason: ProbationReason,
    /// Whether holders were told that it has ended.
    is_open_to_holders: bool,
}

/// How a node stands, for people to see.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VotingStatus {
    /// Not decided yet; if the node itself is in the way, how it failed.
    Unverified(Option<ReplyFailure>),
    /// It votes.
    Voting,
    /// It will vote when this has come on our boot clock.
    OnProbation(DualTimestamp, ProbationReason),
    /// It may not vote.
    Excluded(ExclusionReason),
}

impl Member {
    /// When it must be looked at again.
    pub(super) fn read_at(&self) -> Option<DualTimestamp> {
        self.read_at.filter(|_| self.is_up && !self.is_reading)
    }

    /// When it votes again, first for holders and then for all, if people were told that it does not now.
    pub(super) fn votes_at(&self) -> Option<DualTimestamp> {
        let told = self.probation.filter(|_| matches!(self.reported, VotingStatus::OnProbation(..)));
        told.map(|it| if it.is_open_to_holders { it.votes_from } else { it.opens_to_holders_at })
    }

    /// The first of both.
    pub(super) fn wake_at(&self) -> Option<DualTimestamp> {
        match (self.read_at(), self.votes_at()) {
            (Some(reading), Some(votes)) => Some(reading.earlier(votes)),
            (reading, votes) => reading.or(votes),
        }
    }

    pub(super) fn needs_read(&self, now: DualTimestamp) -> bool {
        let is_due = self.read_at.is_some_and(|due| now.is_due(due));
        self.is_up && !self.is_reading && (is_due || self.pending_write.is_some())
    }

    pub(super) fn begin_read(&mut self, now: DualTimestamp) -> Option<MarkerWrite> {
        self.is_reading = true;
        let mut write = self.pending_write.take()?;
        if write.backdate.is_zero() {
            write.written_micros = now.wall_nanos() / 1000;
        }
        Some(write)
    }

    /// Whether its probation has ended, told once: who holds a lock may come back to it.
    pub(super) fn take_open_to_holders(&mut self, now: DualTimestamp) -> bool {
        let is_member = self.is_up && matches!(self.eligibility, Eligibility::Member(_));
        match &mut self.probation {
            Some(it) if is_member && !it.is_open_to_holders && now.is_due(it.opens_to_holders_at) => {
                it.is_open_to_holders = true;
                true
            }
            _ => false,
        }
    }

    /// The standing, if it is another than was told last.
    pub(super) fn take_status_change(&mut self, now: DualTimestamp) -> Option<VotingStatus> {
        if self.probation.is_some_and(|it| now.is_due(it.votes_from)) {
            self.probation = None;
        }
        if !self.is_up {
            // Why it is away is told by those who dial it; what it was worth must not be said over that.
            return None;
        }
        let voting_status = match (&self.eligibility, self.probation) {
            (Eligibility::Member(_), Some(it)) => VotingStatus::OnProbation(it.votes_from, it.reason),
            (Eligibility::Unverified | Eligibility::NeedsMarker(_), _) => self.unverified(),
            (Eligibility::Excluded(exclusion), _) => VotingStatus::Excluded(exclusion.clone()),
            (Eligibility::Member(_), None) => VotingStatus::Voting,
        };
        if let (VotingStatus::OnProbation(new, doubt), VotingStatus::OnProbation(told, same)) =
            (&voting_status, &self.reported)
            && doubt == same
            && new.since(*told) < MIN_REPORTED_CHANGE
            && told.since(*new) < MIN_REPORTED_CHANGE
        {
            return None;
        }
        (voting_status != self.reported).then(|| {
            self.reported = voting_status.clone();
            voting_status
        })
    }

    fn unverified(&self) -> VotingStatus {
        match &self.read_failure {
            Some(Vote::Excluded(exclusion)) => VotingStatus::Excluded(exclusion.clone()),
            Some(Vote::Unknown(fault)) => VotingStatus::Unverified(Some(fault.clone())),
            _ => VotingStatus::Unverified(None),
        }
    }

    pub(super) fn is_voting(&self) -> bool {
        self.reported == VotingStatus::Voting
    }

    /// Whether its next answer may tell of another marker than the last.
    pub(super) fn is_read_pending(&self) -> bool {
        self.is_reading || self.pending_write.is_some()
    }

    /// Whether it was a member of our cluster before.
    pub(super) fn was_member(&self) -> bool {
        self.known_marker.is_some()
    }

    pub(super) fn disconnect(&mut self) {
        self.is_up = false;
        self.is_reading = false;
        self.pending_write = None;
        self.read_at = None;
        // Whoever comes back is told of anew.
        self.reported = VotingStatus::default();
    }

    pub(super) fn record_reading(
        &mut self,
        reading: Result<MarkerReading, Vote>,
        now: DualTimestamp,
        again: DualTimestamp,
    ) {
        self.is_reading = false;
        self.read_at = Some(again);
        match reading {
            Ok(reading) => {
                self.was_blank |= self.known_marker.is_none() && reading.marker.is_none();
                self.reading = Some(reading);
                self.read_received_at = Some(now);
            }
            Err(refusal) => self.read_failure = Some(refusal),
        }
    }

    /// It is not what we know; nobody asks it for votes until it was looked at.
    pub(super) fn require_read(&mut self, now: DualTimestamp) {
        self.eligibility = Eligibility::Unverified;
        self.read_at = Some(now);
    }

    pub(super) fn request_write(&mut self, identity: Arc<str>, backdate: Duration) {
        let replaces = self.reading.as_ref().and_then(|reading| reading.marker.clone());
        let before = replaces.as_deref().and_then(Marker::parse).map_or(0, |marker| marker.base_micros);
        let set_back = self.reading.as_ref().filter(|reading| reading.latest_micros > reading.micros);
        let base_micros = set_back.map_or(before, |reading| before.max(reading.latest_micros));
        self.pending_write =
            Some(MarkerWrite { replaces, identity, backdate, written_micros: 0, base_micros });
    }

    pub(super) fn start_probation(
        &mut self,
        ends: DualTimestamp,
        doubt: ProbationReason,
        probation: Duration,
    ) {
        if self.probation.is_none_or(|other| !other.opens_to_holders_at.is_due(ends)) {
            let votes_from = ends.plus(holder_head_start(probation));
            self.probation = Some(ProbationState {
                opens_to_holders_at: ends,
                votes_from,
                reason: doubt,
                is_open_to_holders: false,
            });
        }
    }

    pub(super) fn set_eligibility(&mut self, verdict: Eligibility, probation: Duration, now: DualTimestamp) {
        if let Eligibility::NeedsMarker(identity) = &verdict
            && self.is_up
            && !self.is_reading
            && self.pending_write.is_none()
        {
            self.request_write(identity.clone(), Duration::ZERO);
        }
        if !matches!(verdict, Eligibility::NeedsMarker(_)) {
            self.read_failure = None;
        }
        let evicts = self.reading.as_ref().is_some_and(|reading| reading.evicts);
        self.eligibility = match verdict {
            // It is told what it is all the same: its marker says then that it evicts, so that it does not vote when it
            // has stopped either, until it is on probation for what it may have lost.
            Eligibility::Member(_) | Eligibility::NeedsMarker(_) | Eligibility::Unverified if evicts => {
                Eligibility::Excluded(ExclusionReason::EvictionEnabled)
            }
            Eligibility::Member(expected_marker) => {
                self.on_member(&expected_marker, probation, now);
                Eligibility::Member(expected_marker)
            }
            verdict => verdict,
        };
    }

    /// It remembers what it should: from when on does it vote.
    fn on_member(&mut self, expected_marker: &ExpectedMarker, probation: Duration, now: DualTimestamp) {
        let is_new = self.known_marker.as_ref() != Some(&expected_marker.marker);
        let is_trusted = enabled(Mutant::NoProbation) || enabled(Mutant::NoOwnClockWait);
        if is_new && self.known_marker.is_some() && !is_trusted {
            // Who knew it when it changed trusts no clock but its own for how long ago that was.
            let own = if enabled(Mutant::ShortProbation) { probation / 2 } else { probation };
            self.start_probation(now.plus(own), ProbationReason::PossibleDataLoss, probation);
        }
        let told_at = self.reading.as_ref().map_or(0, |reading| reading.micros);
        let mut ends = when_clock_shows(
            self.read_received_at.unwrap_or(now),
            told_at,
            expected_marker.votes_from_micros,
        );
        let written = Marker::parse(&expected_marker.marker).filter(|marker| marker.written_micros > 0);
        let by_writer = written.as_ref().filter(|_| is_new).and_then(|it| probation_end_by_writer(it, now));
        ends = by_writer.map_or(ends, |by_writer| ends.later(by_writer.earlier(now.plus(probation))));
        // A node that was declared has nothing to forget, and no lock is to come back to it.
        let pause = written.map_or(Duration::ZERO, |_| holder_head_start(probation));
        if !now.is_due(ends.plus(pause)) {
            let doubt =
                if self.was_blank { ProbationReason::NewNode } else { ProbationReason::PossibleDataLoss };
            self.start_probation(ends, doubt, probation);
        }
        self.was_blank &= self.known_marker.is_none();
        self.known_marker = Some(expected_marker.marker.clone());
    }
}

impl Default for VotingStatus {
    fn default() -> Self {
        Self::Unverified(None)
    }
}

/// When a probation ends by the clock of the client that wrote the marker. The node's own clock may have been behind
/// then, as after a reboot before its time service has started, and have been set forth past the end. Where the
/// writer's clock is ahead of ours, one of the two is wrong, and the node's is all there is to go by. Clocks that are
/// right differ by less than the [`grace`] that is added.
fn probation_end_by_writer(marker: &Marker, now: DualTimestamp) -> Option<DualTimestamp> {
    let micros = now.wall_nanos() / 1000;
    let is_ahead = marker.written_micros > micros.saturating_add(MAX_WRITER_LEAD_MICROS);
    let is_believed = !is_ahead && !enabled(Mutant::NoWriterClock);
    is_believed.then(|| when_clock_shows(now, micros, marker.votes_from_written_micros()))
}

/// When a clock that shows `from` at this moment shows `to`, or did.
fn when_clock_shows(at: DualTimestamp, from: u64, to: u64) -> DualTimestamp {
    match to.checked_sub(from) {
        Some(left) => at.plus(Duration::from_micros(left)),
        None => at.minus(Duration::from_micros(from - to)),
    }
}

/// How much sooner than all others holders may come to a node whose probation has ended.
fn holder_head_start(probation: Duration) -> Duration {
    (probation / 60).max(MIN_HOLDER_HEAD_START)
}

const MIN_HOLDER_HEAD_START: Duration = Duration::from_millis(100);
/// By how much a writer's clock may be ahead of ours and still be believed.
const MAX_WRITER_LEAD_MICROS: u64 = 1_000_000;
/// Two looks never agree to the microsecond when a probation ends.
const MIN_REPORTED_CHANGE: Duration = Duration::from_millis(100);
