//! Writes to the keys that hold a node's membership.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::time::Duration;

use crate::marker::{Incarnation, Marker, MarkerReading};
use crate::roster::record::{Record, RecordWrite};
use crate::roster::server_view::ServerView;
use crate::roster::voting_time::{MarkerTime, time_of};

/// A write that goes along with a reading of the marker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NodeWrite {
    /// A new marker and record.
    Marker(Box<MarkerWrite>),
    /// New absence reports, if the node still has those that were read.
    Absences {
        /// The text that was read.
        replaces: Option<Arc<str>>,
        /// The new text.
        text: Arc<str>,
    },
}

/// A marker and a record to write to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MarkerWrite {
    /// Write only if this is the node's marker now. It carries the hash of the record.
    pub replaces: Option<Arc<str>>,
    /// Write only if the server is still this one, with the same data. `None`: whatever has become of it.
    pub incarnation: Option<Incarnation>,
    /// The start of the marker: see [`Marker::identity`].
    pub identity: Arc<str>,
    /// The record's text.
    pub record: Arc<str>,
    /// The marker's time.
    pub time: MarkerTime,
    /// The wall clock, in microseconds, of the client that began the probation; 0 after `init`.
    pub written_micros: u64,
    /// Every fencing number must be above this, whatever the node's clock shows.
    pub base_micros: u64,
}

impl MarkerWrite {
    /// The write that carries out `write`. `now_micros` is the client's wall clock, and `max_ttl` the client's:
    /// if the record has a roster, that one's counts. `None` if the node has no record to change.
    pub(super) fn of(
        reading: &MarkerReading,
        marker: Option<&Marker>,
        view: &ServerView,
        write: &RecordWrite,
        max_ttl: Duration,
        now_micros: u64,
    ) -> Option<Self> {
        let record = Record::after(view.record.as_ref(), view.hint.as_ref(), write)?;
        // A client with a shorter max ttl must not shorten a probation.
        let roster = record.roster.as_ref();
        let (max_ttl, probation) =
            roster.map_or((max_ttl, max_ttl), |it| (it.config.max_ttl(), it.probation));
        let before = marker.map_or((0, 0), |it| (it.time_micros, it.written_micros));
        let (time, written_micros) =
            time_of(write, view.record.as_ref(), &record, before, (probation, now_micros));
        let draws_seat = matches!(write, RecordWrite::DrawSeat(_));
        let mut write = Self::new(reading, marker, &record, max_ttl, time, written_micros);
        if draws_seat {
            // The seat belongs to the incarnation that the server has at the write. One that evicts all the
            // time has another one in each reading, and its marker must not stay unchanged.
            write.incarnation = None;
        }
        Some(write)
    }

    /// The write of this record, whatever the node remembers.
    pub(super) fn new(
        reading: &MarkerReading,
        marker: Option<&Marker>,
        record: &Record,
        max_ttl: Duration,
        time: MarkerTime,
        written_micros: u64,
    ) -> Self {
        let base = marker.map_or(0, |it| it.base_micros);
        let text: Arc<str> = record.to_text().into();
        let is_set_back = reading.latest_micros > reading.micros;
        Self {
            replaces: reading.marker.clone(),
            incarnation: Some(reading.incarnation.clone()),
            identity: Marker::identity_of(max_ttl, record, &text),
            record: text,
            time,
            written_micros,
            base_micros: if is_set_back { base.max(reading.latest_micros) } else { base },
        }
    }
}
