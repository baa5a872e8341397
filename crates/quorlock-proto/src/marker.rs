//! Markers: the string `quorlock:node` on each node, which names its seat, server and time, and carries the
//! hash of its [record](crate::roster::record).
//!
//! It is stored in the same database as the locks. So each event that makes a node lose its locks also deletes
//! the marker, or makes it differ from the server on which it is stored. Such events are a restart without
//! data, a flush, a swap, a promotion, and a blank host behind the old address. Clients learn the lock cluster
//! by quorum reads of the markers ([`membership`](crate::membership)).

use alloc::format;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use crate::fence::{CLOCK_TOLERANCE_MICROS, MAX_MIN_FENCING_NUMBER};
use crate::mutant::{Mutant, enabled};
use crate::quorum::Quorum;
use crate::roster::record::Record;
use crate::roster::{SeatId, fnv};
use crate::span::Span;

/// The settings that all clients of a lock cluster must share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockClusterConfig {
    quorum: Quorum,
    max_ttl_millis: u64,
    retention_millis: u64,
}

impl LockClusterConfig {
    /// Settings with this quorum, this max ttl, and the [default retention](default_retention) of fences.
    #[must_use]
    pub fn new(quorum: Quorum, max_ttl: Duration) -> Self {
        let config = Self { quorum, max_ttl_millis: max_ttl.as_millis() as u64, retention_millis: 0 };
        config.with_retention(default_retention(max_ttl))
    }

    /// Returns these settings with another number of nodes and quorum.
    #[must_use]
    pub const fn with_quorum(self, quorum: Quorum) -> Self {
        Self { quorum, ..self }
    }

    /// Returns these settings with another retention of fences.
    #[must_use]
    pub const fn with_retention(self, retention: Duration) -> Self {
        Self { retention_millis: retention.as_millis() as u64, ..self }
    }

    /// The number of nodes and the quorum.
    #[must_use]
    pub const fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// The longest ttl of any lock in the lock cluster. It is also the length of probation.
    #[must_use]
    pub const fn max_ttl(&self) -> Duration {
        Duration::from_millis(self.max_ttl_millis)
    }

    /// How long nodes keep a fence after the last grant or renewal.
    #[must_use]
    pub const fn retention(&self) -> Duration {
        Duration::from_millis(self.retention_millis)
    }

    /// How far a node's clock must have passed a fence before the fence may be removed. By then every earlier
    /// holder knows that its lock is lost, and new numbers come from the clock.
    #[must_use]
    pub const fn forget_after(&self) -> Duration {
        Duration::from_millis(self.max_ttl_millis + CLOCK_TOLERANCE_MICROS / 1000)
    }
}

impl fmt::Display for LockClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, needed) = (self.quorum.nodes(), self.quorum.needed());
        let s = if nodes == 1 { "" } else { "s" };
        write!(f, "{nodes} node{s}, a quorum of {needed}, a max ttl of {}", Span(self.max_ttl()))?;
        write!(f, ", fences kept for {}", Span(self.retention()))
    }
}

/// The default retention of fences: an hour, but at least [`min_retention`].
#[must_use]
pub fn default_retention(max_ttl: Duration) -> Duration {
    min_retention(max_ttl).max(Duration::from_secs(3600))
}

/// The minimum retention of fences: twice the max ttl, and at least the max ttl plus 1 s. Half of it covers
/// how far a clock advances between two readings that note it (half the max ttl), and twice the tolerance.
#[must_use]
pub fn min_retention(max_ttl: Duration) -> Duration {
    max_ttl + max_ttl.max(Duration::from_secs(1))
}

/// The id of a lock cluster: random bits, drawn when it is founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(u128);

impl ClusterId {
    /// The id of these random bits.
    #[must_use]
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The random bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }
}

/// The identity of a server and its data: `run_id:master_replid`, then other causes of lost keys
/// (`lua/read_marker.lua`). A restart changes the first part. A change of role, which replaces all data,
/// changes the second.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(Arc<str>);

impl Incarnation {
    /// The incarnation with this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name, as the server spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part that identifies the process.
    #[must_use]
    pub fn run_id(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// Whether this is the same server with the same data.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        if enabled(Mutant::IgnoresRoleChange) {
            return self.0.split(':').next() == other.0.split(':').next();
        }
        self == other || enabled(Mutant::SeatSurvivesRestart)
    }
}

/// A parsed marker. Beside it, in `quorlock:roster`, is the record that it carries the hash of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Marker {
    /// The hash of the record's text.
    pub record_hash: u128,
    /// The seat of the server.
    pub seat: SeatId,
    /// Whether a roster has had the seat.
    pub was_member: bool,
    /// The server that stored the marker.
    pub incarnation: Incarnation,
    /// In microseconds of the node's clock: for a member, when it may vote; for a server that waits for a seat,
    /// when its data began.
    pub time_micros: u64,
    /// When the node's data began, by the clock of the client that wrote it; for a member that no roster was
    /// without, when its probation began. The node's clock may have been wrong and corrected since. 0 after
    /// `init`, where no lock can be lost.
    pub written_micros: u64,
    /// The node's largest time before its clock was set back; 0 if it never was. Every fencing number is above
    /// it.
    pub base_micros: u64,
}

impl Marker {
    /// Parses a marker; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(' ');
        if fields.next() != Some(VERSION) {
            return None;
        }
        fields.next()?.parse::<u64>().ok()?;
        let record_hash = u128::from_str_radix(fields.next()?, 16).ok()?;
        let seat = SeatId(u64::from_str_radix(fields.next()?, 16).ok()?);
        let was_member = match fields.next()? {
            MEMBER => true,
            WAITING => false,
            _ => return None,
        };
        let incarnation = Incarnation::new(fields.next()?);
        let time_micros = fields.next()?.parse().ok()?;
        let written_micros = fields.next()?.parse().ok()?;
        let base_micros = fields.next()?.parse().ok()?;
        let is_complete = fields.next().is_none() && base_micros <= MAX_MIN_FENCING_NUMBER;
        is_complete.then_some(Self {
            record_hash,
            seat,
            was_member,
            incarnation,
            time_micros,
            written_micros,
            base_micros,
        })
    }

    /// The part of a marker that does not depend on the server. The server adds its incarnation and the time,
    /// and the client adds its own time. It notes its clock four times per max ttl.
    #[must_use]
    pub fn identity(max_ttl: Duration, record: &Record) -> Arc<str> {
        Self::identity_of(max_ttl, record, &record.to_text())
    }

    /// The same; `text` is the record's.
    pub(crate) fn identity_of(max_ttl: Duration, record: &Record, text: &str) -> Arc<str> {
        let (hash, seat) = (fnv(text.bytes()), record.seat.0);
        let standing = if record.was_member { MEMBER } else { WAITING };
        format!("{VERSION} {} {hash:032x} {seat:016x} {standing}", max_ttl.as_millis()).into()
    }
}

/// A node's reply to `ReadMarker`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MarkerReading {
    /// Its marker, if it has one.
    pub marker: Option<Arc<str>>,
    /// Its record, if it has one.
    pub record: Option<Arc<str>>,
    /// The identity of the server and its data.
    pub incarnation: Incarnation,
    /// Whether it evicts keys when its memory is full.
    pub evicts: bool,
    /// Its clock, in microseconds since 1970.
    pub micros: u64,
    /// The largest time of its clock noted at earlier readings (`quorlock:clock`); 0 if there is none.
    pub latest_micros: u64,
    /// The largest number that it gave out ahead of its clock (`quorlock:high`); 0 if there is none.
    pub highest_number: u64,
    /// Its [absence reports](crate::roster::absence).
    pub absences: Option<Arc<str>>,
}

impl MarkerReading {
    /// Whether the node's clock was set back so far that fences with larger numbers than its next ones may
    /// have expired. The limit is half the retention. Fences outlive their number by the whole retention, so
    /// the other half covers how far the clock advanced after its last reading.
    #[must_use]
    pub fn was_set_back(&self, retention: Duration) -> bool {
        let tolerated = (retention / 2).as_micros() as u64;
        self.latest_micros > self.micros.saturating_add(tolerated) && !enabled(Mutant::IgnoresClockSetBack)
    }
}

/// The first field of a marker: the version of its format.
const VERSION: &str = "quorlock4";
const MEMBER: &str = "m";
const WAITING: &str = "w";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_marker_parses_to_the_same_values() {
        let record =
            Record { seat: SeatId(0xab), was_member: true, roster: None, promised: None, accepted: None };
        let identity = Marker::identity(Duration::from_secs(30), &record);
        let marker = Marker::parse(&format!("{identity} run:replid 1700000000000000 1700000000500000 7"))
            .expect("a marker");
        assert_eq!((marker.seat, marker.was_member), (SeatId(0xab), true));
        assert_eq!(marker.record_hash, fnv(record.to_text().bytes()));
        assert_eq!((marker.time_micros, marker.base_micros), (1_700_000_000_000_000, 7));
        assert_eq!(marker.written_micros, 1_700_000_000_500_000);
        for end in ["a b c d", "a b c", "a 1 1 1 1", "a 1 1", "a 1", "a", "a 1 1 9007199254740991"] {
            assert_eq!(Marker::parse(&format!("{identity} {end}")), None, "{end}");
        }
        assert_eq!((Marker::parse(""), Marker::parse("x")), (None, None));
    }

    #[test]
    fn fence_retention_is_at_least_twice_the_max_ttl() {
        let of = |max_ttl_secs| default_retention(Duration::from_secs(max_ttl_secs)).as_secs();
        assert_eq!((of(30), of(1800), of(1801), of(3600)), (3600, 3600, 3602, 7200));
        assert_eq!(min_retention(Duration::from_millis(10)), Duration::from_millis(1_010));
        assert_eq!(min_retention(Duration::from_secs(30)), Duration::from_secs(60));
    }
}
