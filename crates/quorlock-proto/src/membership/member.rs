//! A member: one node as the lock cluster sees it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::time::Duration;

use super::absences::Absence;
use super::eligibility::{Eligibility, view_of};
use super::parsed_reading::ParsedReading;
use super::probation::ProbationState;
use super::{MarkerWrite, NodeWrite};
use crate::clock_monitor::ClockMonitor;
use crate::marker::{LockClusterConfig, MarkerReading};
use crate::roster::record::{Record, RecordWrite};
use crate::roster::server_view::ServerView;
use crate::roster::voting_time::MarkerTime;
use crate::roster::{Roster, SeatId};
use crate::time::DualTimestamp;
use crate::vote::{ExclusionReason, ProbationReason, ReplyFailure, Vote};

/// One node's marker, eligibility, probation and clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) is_up: bool,
    /// The last marker reading, kept while the node is disconnected.
    pub(super) reading: Option<MarkerReading>,
    pub(super) parsed: ParsedReading,
    /// What the reading says.
    pub(super) view: ServerView,
    pub(super) eligibility: Eligibility,
    /// The seat with which the node was a member last.
    pub(super) known_seat: Option<SeatId>,
    /// The probation, while it lasts.
    pub(super) probation: Option<ProbationState>,
    pub(super) clock: ClockMonitor,
    /// Whether the node had no marker at the first reading.
    pub(super) was_blank: bool,
    /// When `reading` was received.
    pub(super) read_received_at: Option<DualTimestamp>,
    next_read_at: Option<DualTimestamp>,
    is_reading: bool,
    /// The vote of the last failed reading or write. Kept until a reading succeeds and needs no new marker.
    pub(super) read_failure: Option<Vote>,
    /// What to write with the next reading.
    pending_write: Option<NodeWrite>,
    /// The absence reports that were sent to it last.
    sent_absences: Option<Arc<str>>,
    pub(super) absence: Absence,
    redial: Redial,
    pub(super) reported: VotingStatus,
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

/// A node's voting status, as users see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VotingStatus {
    /// Not decided yet, with the failure of the node's own reading, if it failed.
    Unverified(Option<ReplyFailure>),
    /// It has no seat, and gets one by this time, on the client's boot clock, without the nodes that do not
    /// reply.
    AwaitsAbsent(DualTimestamp),
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

    pub(super) fn connect(&mut self) {
        self.is_up = true;
        self.absence = Absence::None;
    }

    /// The voting status, if it differs from the one reported last. `absence_ends_at` is when nodes without a
    /// seat get one.
    pub(super) fn take_status_change(
        &mut self,
        absence_ends_at: Option<DualTimestamp>,
        now: DualTimestamp,
    ) -> Option<VotingStatus> {
        if self.probation.is_some_and(|it| now.is_due(it.votes_from)) {
            self.probation = None;
        }
        if !self.is_up {
            // The dialer reports why it is disconnected; the old voting status must not replace that.
            return None;
        }
        let voting_status = match (&self.eligibility, self.probation) {
            (Eligibility::Member(_), Some(it)) => VotingStatus::OnProbation(it.votes_from, it.reason),
            (Eligibility::NotAMember(Some(ReplyFailure::Unverified)), _) if self.read_failure.is_none() => {
                absence_ends_at.map_or(VotingStatus::Unverified(None), VotingStatus::AwaitsAbsent)
            }
            (Eligibility::Unverified | Eligibility::NotAMember(_), _) => self.unverified(),
            (Eligibility::Excluded(exclusion), _) => VotingStatus::Excluded(exclusion.clone()),
            (Eligibility::Member(_), None) => VotingStatus::Voting,
        };
        let ends = match (&voting_status, &self.reported) {
            (VotingStatus::OnProbation(new, reason), VotingStatus::OnProbation(old, old_reason))
                if reason == old_reason =>
            {
                Some((new, old))
            }
            (VotingStatus::AwaitsAbsent(new), VotingStatus::AwaitsAbsent(old)) => Some((new, old)),
            _ => None,
        };
        if ends.is_some_and(|(new, old)| {
            new.since(*old) < MIN_REPORTED_CHANGE && old.since(*new) < MIN_REPORTED_CHANGE
        }) {
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

    /// Whether it replies, and has a seat in this roster and knows it.
    pub(super) fn is_member_of(&self, roster: &Roster) -> bool {
        self.is_up && self.view.record.as_ref().is_some_and(|record| record.is_member_of(roster))
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
                self.parse_reading(&reading);
                self.view = view_of(&reading, &self.parsed, config);
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
        let marker = self.parsed.marker.as_ref();
        let write = MarkerWrite::of(reading, marker, &self.view, write, max_ttl, now.wall_nanos() / 1000);
        self.pending_write =
            write.map(|write| NodeWrite::Marker(Box::new(write))).or(self.pending_write.take());
    }

    pub(super) fn set_eligibility(
        &mut self,
        eligibility: Eligibility,
        probation: Duration,
        now: DualTimestamp,
    ) {
        // While it is being written again, nothing has succeeded.
        if !self.is_reading && !matches!(self.pending_write, Some(NodeWrite::Marker(_))) {
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
}

impl Default for VotingStatus {
    fn default() -> Self {
        Self::Unverified(None)
    }
}

/// A smaller change of the end of a probation or of a wait is not reported: two readings never agree to the microsecond.
const MIN_REPORTED_CHANGE: Duration = Duration::from_millis(100);
