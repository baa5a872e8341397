//! A member: one node as the lock cluster sees it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::time::Duration;

use super::eligibility::{Eligibility, ExpectedMarker, view_of};
use super::{MarkerWrite, NodeWrite};
use crate::clock_monitor::ClockMonitor;
use crate::marker::{LockClusterConfig, Marker, MarkerReading};
use crate::mutant::{Mutant, enabled};
use crate::quorum::NodeId;
use crate::roster::absence::Absences;
use crate::roster::record::{Record, RecordWrite};
use crate::roster::server_view::ServerView;
use crate::roster::voting_time::{MarkerTime, probation_of};
use crate::roster::{NodeList, Roster, SeatId};
use crate::time::DualTimestamp;
use crate::vote::{ExclusionReason, ProbationReason, ReplyFailure, Vote};

/// One node's marker, eligibility, probation and clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) is_up: bool,
    /// The last marker reading, kept while the node is disconnected.
    pub(super) reading: Option<MarkerReading>,
    /// What the reading says.
    pub(super) view: ServerView,
    pub(super) eligibility: Eligibility,
    /// The seat with which the node was a member last.
    known_seat: Option<SeatId>,
    /// The probation, while it lasts.
    pub(super) probation: Option<ProbationState>,
    pub(super) clock: ClockMonitor,
    /// Whether the node had no marker at the first reading.
    was_blank: bool,
    /// When `reading` was received.
    read_received_at: Option<DualTimestamp>,
    next_read_at: Option<DualTimestamp>,
    is_reading: bool,
    /// The vote of the last failed reading or write. Kept until a reading succeeds and needs no new marker.
    pub(super) read_failure: Option<Vote>,
    /// What to write with the next reading.
    pending_write: Option<NodeWrite>,
    /// The absence reports that were sent to it last.
    sent_absences: Option<Arc<str>>,
    absence: Absence,
    redial: Redial,
    reported: VotingStatus,
}

/// Whether the address of a server that has lost its seat must be resolved again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Redial {
    /// The server has a seat, or waits for one.
    #[default]
    NotNeeded,
    Needed,
    /// It was resolved since the server lost its seat.
    Done,
}

/// Whether the client reaches a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Absence {
    /// It does, or it reaches no node at all.
    #[default]
    None,
    /// It has not since then.
    Since(DualTimestamp),
    /// It has not for so long that it tells the other nodes.
    Reportable,
}

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

/// A node's voting status, as users see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VotingStatus {
    /// Not decided yet, with the failure of the node's own reading, if it failed.
    Unverified(Option<ReplyFailure>),
    /// It votes.
    Voting,
    /// It votes from this time on, on the client's boot clock.
    OnProbation(DualTimestamp, ProbationReason),
    /// It may not vote.
    Excluded(ExclusionReason),
}

impl Member {
    /// When its marker must be read next.
    pub(super) fn next_read_at(&self) -> Option<DualTimestamp> {
        self.next_read_at.filter(|_| self.is_up && !self.is_reading)
    }

    /// When it votes again, first for holders and then for all, if its reported status is probation.
    pub(super) fn votes_at(&self) -> Option<DualTimestamp> {
        let probation = self.probation.filter(|_| matches!(self.reported, VotingStatus::OnProbation(..)));
        probation.map(|it| if it.is_open_to_holders { it.votes_from } else { it.opens_to_holders_at })
    }

    /// The first of both.
    pub(super) fn wake_at(&self) -> Option<DualTimestamp> {
        match (self.next_read_at(), self.votes_at()) {
            (Some(reading), Some(votes)) => Some(reading.earlier(votes)),
            (reading, votes) => reading.or(votes),
        }
    }

    pub(super) fn needs_read(&self, now: DualTimestamp) -> bool {
        let is_due = self.next_read_at.is_some_and(|due| now.is_due(due));
        self.is_up && !self.is_reading && (is_due || self.pending_write.is_some())
    }

    pub(super) fn begin_read(&mut self, now: DualTimestamp) -> Option<NodeWrite> {
        self.is_reading = true;
        let mut write = self.pending_write.take()?;
        if let NodeWrite::Absences { text, .. } = &write {
            self.sent_absences = Some(text.clone());
        }
        if let NodeWrite::Marker(write) = &mut write
            && matches!(write.time, MarkerTime::After(_))
            && write.written_micros > 0
        {
            write.written_micros = now.wall_nanos() / 1000;
        }
        Some(write)
    }

    pub(super) fn take_redial(&mut self) -> bool {
        let is_due = self.redial == Redial::Needed && self.is_up;
        if is_due {
            self.redial = Redial::Done;
        }
        is_due
    }

    /// A server that has lost its seat, and is still the one at its address, counts as one without memory, so
    /// that it draws another. Otherwise a client with an old reading could give the seat to a server that is
    /// no more, and the node would be without a vote forever.
    pub(super) fn forget_lost_seat(&mut self, roster: Option<&Arc<Roster>>) {
        let Some(record) = &self.view.record else { return };
        let knows_roster = record.roster.is_some() && record.roster.as_ref() == roster && !record.is_sealed();
        if !knows_roster || !record.was_member || roster.is_some_and(|roster| roster.has(record.seat)) {
            self.redial = Redial::NotNeeded;
        } else if self.redial == Redial::Done && self.is_up {
            self.view.hint = self.view.record.take().and_then(|record| record.roster);
        }
    }

    /// When its absence may be reported, if it is not yet.
    pub(super) fn report_absence_at(&self, is_any_up: bool) -> Option<DualTimestamp> {
        match self.absence {
            Absence::Since(since) if is_any_up => Some(since.plus(ABSENCE_REPORT_DELAY)),
            _ => None,
        }
    }

    /// Whether its absence may be reported from now on; true once.
    pub(super) fn absence_became_reportable(&mut self, is_any_up: bool, now: DualTimestamp) -> bool {
        let is_due = self.report_absence_at(is_any_up).is_some_and(|at| now.is_due(at));
        if is_due {
            self.absence = Absence::Reportable;
        }
        is_due
    }

    pub(super) fn is_absence_reportable(&self) -> bool {
        self.absence == Absence::Reportable
    }

    /// For how long this node's clients have not reached `node`.
    pub(super) fn reports_absence(&self, list: &NodeList, node: NodeId) -> Duration {
        let reading = self.reading.as_ref();
        let text = reading.and_then(|it| it.absences.as_deref()).unwrap_or_default();
        Absences::parse(text).duration(list, node, reading.map_or(0, |it| it.micros))
    }

    /// Begins to measure the absence of a node that is not connected.
    pub(super) fn begin_absence(&mut self, now: DualTimestamp) {
        if !self.is_up {
            self.absence = Absence::Since(now);
        }
    }

    pub(super) fn connect(&mut self) {
        self.is_up = true;
        self.absence = Absence::None;
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

    /// The voting status, if it differs from the one reported last.
    pub(super) fn take_status_change(&mut self, now: DualTimestamp) -> Option<VotingStatus> {
        if self.probation.is_some_and(|it| now.is_due(it.votes_from)) {
            self.probation = None;
        }
        if !self.is_up {
            // The dialer reports why it is disconnected; the old voting status must not replace that.
            return None;
        }
        let voting_status = match (&self.eligibility, self.probation) {
            (Eligibility::Member(_), Some(it)) => VotingStatus::OnProbation(it.votes_from, it.reason),
            (Eligibility::Unverified | Eligibility::NotAMember(_), _) => self.unverified(),
            (Eligibility::Excluded(exclusion), _) => VotingStatus::Excluded(exclusion.clone()),
            (Eligibility::Member(_), None) => VotingStatus::Voting,
        };
        if let (VotingStatus::OnProbation(new, reason), VotingStatus::OnProbation(old, old_reason)) =
            (&voting_status, &self.reported)
            && reason == old_reason
            && new.since(*old) < MIN_REPORTED_CHANGE
            && old.since(*new) < MIN_REPORTED_CHANGE
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
            Some(Vote::Unknown(failure)) => VotingStatus::Unverified(Some(failure.clone())),
            _ => VotingStatus::Unverified(None),
        }
    }

    pub(super) fn is_voting(&self) -> bool {
        self.reported == VotingStatus::Voting
    }

    /// Whether the next reading may show another marker than the last.
    pub(super) fn is_read_pending(&self) -> bool {
        self.is_reading || self.pending_write.is_some()
    }

    pub(super) fn disconnect(&mut self, now: DualTimestamp) {
        let was_up = core::mem::take(&mut self.is_up);
        self.view.is_up = false;
        if was_up {
            // A failed dial does not begin the absence again.
            self.begin_absence(now);
        }
        self.is_reading = false;
        self.pending_write = None;
        self.next_read_at = None;
        // After a reconnection the status is reported again.
        self.reported = VotingStatus::default();
    }

    pub(super) fn record_reading(
        &mut self,
        reading: Result<MarkerReading, Vote>,
        now: DualTimestamp,
        next_read_at: DualTimestamp,
        config: LockClusterConfig,
    ) {
        self.is_reading = false;
        self.next_read_at = Some(next_read_at);
        match reading {
            Ok(reading) => {
                self.was_blank |= self.known_seat.is_none() && reading.marker.is_none();
                self.view = view_of(&reading, config);
                self.reading = Some(reading);
                self.read_received_at = Some(now);
            }
            Err(vote) => self.read_failure = Some(vote),
        }
    }

    /// The node takes part in the choice of the next roster: reads it again soon, to learn the result.
    pub(super) fn read_if_sealed(&mut self, at: DualTimestamp) {
        let is_sealed = self.view.record.as_ref().is_some_and(Record::is_sealed);
        if let Some(next) = self.next_read_at.filter(|_| is_sealed) {
            self.next_read_at = Some(next.earlier(at));
        }
    }

    /// The marker is not the expected one: no request is sent to the node until its marker was read.
    pub(super) fn require_read(&mut self, now: DualTimestamp) {
        self.eligibility = Eligibility::Unverified;
        self.next_read_at = Some(now);
    }

    pub(super) fn request_write(&mut self, write: NodeWrite) {
        self.pending_write = Some(write);
    }

    /// Sends new absence reports with the next reading, unless a reading is pending: it may change what is to be
    /// written. The same text is sent only once: a node that rejects it would get it again at once, forever.
    pub(super) fn request_absences(&mut self, replaces: Option<Arc<str>>, text: Arc<str>) {
        if !self.is_read_pending() && self.sent_absences.as_ref() != Some(&text) {
            self.request_write(NodeWrite::Absences { replaces, text });
        }
    }

    /// Writes the record with the next reading, unless a reading is pending: it may change what is to be
    /// written.
    pub(super) fn request_record_write(
        &mut self,
        write: &RecordWrite,
        max_ttl: Duration,
        now: DualTimestamp,
    ) {
        let Some(reading) = self.reading.as_ref().filter(|_| self.is_up && !self.is_reading) else { return };
        let write = MarkerWrite::of(reading, &self.view, write, max_ttl, now.wall_nanos() / 1000);
        self.pending_write =
            write.map(|write| NodeWrite::Marker(Box::new(write))).or(self.pending_write.take());
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

    pub(super) fn set_eligibility(
        &mut self,
        eligibility: Eligibility,
        probation: Duration,
        now: DualTimestamp,
    ) {
        if !matches!(self.pending_write, Some(NodeWrite::Marker(_))) {
            self.read_failure = None;
        }
        let evicts = self.reading.as_ref().is_some_and(|reading| reading.evicts);
        let eligibility = match eligibility {
            // Its record is still written, and says that the node evicts. When eviction is switched off, it is
            // another incarnation, so it passes a probation for the keys that it may have evicted.
            Eligibility::Member(_) | Eligibility::NotAMember(_) | Eligibility::Unverified if evicts => {
                Eligibility::Excluded(ExclusionReason::EvictionEnabled)
            }
            Eligibility::Member(expected_marker) => {
                self.on_member(&expected_marker, probation, now);
                Eligibility::Member(expected_marker)
            }
            eligibility => eligibility,
        };
        if eligibility == Eligibility::Excluded(ExclusionReason::NotInRoster)
            && self.eligibility != eligibility
        {
            self.redial = Redial::Needed;
        }
        self.eligibility = eligibility;
    }

    /// The node has a valid marker: computes when it votes.
    fn on_member(&mut self, expected_marker: &ExpectedMarker, probation: Duration, now: DualTimestamp) {
        let marker = Marker::parse(&expected_marker.marker);
        let seat = marker.as_ref().map(|marker| marker.seat);
        let is_new = self.known_seat != seat;
        let skips_wait = enabled(Mutant::NoProbation) || enabled(Mutant::NoOwnClockWait);
        if is_new && self.known_seat.is_some() && !skips_wait {
            // The client knew the node before it changed, so it measures the time since the change by its own
            // clock only.
            let wait = if enabled(Mutant::ShortProbation) { probation / 2 } else { probation };
            self.start_probation(now.plus(wait), ProbationReason::PossibleDataLoss, probation);
        }
        let node_micros = self.reading.as_ref().map_or(0, |reading| reading.micros);
        let mut ends = when_clock_shows(
            self.read_received_at.unwrap_or(now),
            node_micros,
            expected_marker.votes_from_micros,
        );
        let written = marker.filter(|marker| marker.written_micros > 0);
        let by_writer_clock = written
            .as_ref()
            .filter(|_| is_new)
            .and_then(|it| probation_end_by_writer(it.written_micros, probation, now));
        ends = by_writer_clock
            .map_or(ends, |by_writer_clock| ends.later(by_writer_clock.earlier(now.plus(probation))));
        // After `init` no lock can be lost, and no holder needs a head start.
        let head_start = written.map_or(Duration::ZERO, |_| holder_head_start(probation));
        if !now.is_due(ends.plus(head_start)) {
            let reason =
                if self.was_blank { ProbationReason::NewNode } else { ProbationReason::PossibleDataLoss };
            self.start_probation(ends, reason, probation);
        }
        self.was_blank &= self.known_seat.is_none();
        self.known_seat = seat;
    }
}

impl Default for VotingStatus {
    fn default() -> Self {
        Self::Unverified(None)
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
/// How long a node must be disconnected before its absence is reported.
pub(super) const ABSENCE_REPORT_DELAY: Duration = Duration::from_secs(1);
/// A smaller change of a probation's end is not reported: two readings never agree to the microsecond.
const MIN_REPORTED_CHANGE: Duration = Duration::from_millis(100);
