//! What a node remembers of its cluster: one string, kept among its data.
//!
//! It stands in the same database as the locks, so whatever makes a node forget its locks (a restart without data, a
//! flush, a swap, a promotion, a blank machine behind the old address) makes the marker go or disagree with the
//! server that it stands on.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use crate::fence::{MAX_MIN_FENCING_NUMBER, TOLERANCE_MICROS};
use crate::mutant::{Mutant, enabled};
use crate::quorum::Quorum;
use crate::span::Span;

/// What all clients of a cluster must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockClusterConfig {
    quorum: Quorum,
    max_ttl_millis: u64,
    retention_millis: u64,
}

impl LockClusterConfig {
    /// This many nodes, this quorum, no lock for longer than this, and fences kept for as long as
    /// [usual](default_retention).
    #[must_use]
    pub fn new(quorum: Quorum, max_ttl: Duration) -> Self {
        let config = Self { quorum, max_ttl_millis: max_ttl.as_millis() as u64, retention_millis: 0 };
        config.with_retention(default_retention(max_ttl))
    }

    /// The same, with fences kept for this long.
    #[must_use]
    pub const fn with_retention(self, retention: Duration) -> Self {
        Self { retention_millis: retention.as_millis() as u64, ..self }
    }

    /// The nodes, and how many of them make a lock.
    #[must_use]
    pub const fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// The longest that any lock of the cluster may last without a renewal, and so how long a node that may have
    /// forgotten some is kept from voting.
    #[must_use]
    pub const fn max_ttl(&self) -> Duration {
        Duration::from_millis(self.max_ttl_millis)
    }

    /// For how long nodes keep a fence after the last grant or renewal.
    #[must_use]
    pub const fn retention(&self) -> Duration {
        Duration::from_millis(self.retention_millis)
    }

    /// How far a node's clock must have passed a number before a name may be forgotten: past it, no holder of before is
    /// left who does not know that it has lost the lock, and numbers go on from the clock.
    #[must_use]
    pub const fn forget_after(&self) -> Duration {
        Duration::from_millis(self.max_ttl_millis + TOLERANCE_MICROS / 1000)
    }
}

impl fmt::Display for LockClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, need) = (self.quorum.nodes(), self.quorum.needed());
        let s = if nodes == 1 { "" } else { "s" };
        write!(f, "{nodes} node{s}, a quorum of {need}, a max ttl of {}", Span(self.max_ttl()))?;
        write!(f, ", fences kept for {}", Span(self.retention()))
    }
}

/// For how long fences are kept where nothing else is said: an hour, and twice the max ttl at the least.
#[must_use]
pub fn default_retention(max_ttl: Duration) -> Duration {
    min_retention(max_ttl).max(Duration::from_secs(3600))
}

/// For how long fences are kept at the least: twice the max ttl, and a second more than it. Half of it then covers
/// what a clock goes on between two looks that note it, half the max ttl, and twice the tolerance.
#[must_use]
pub fn min_retention(max_ttl: Duration) -> Duration {
    max_ttl + max_ttl.max(Duration::from_secs(1))
}

/// Which cluster: random, or made of the random run ids of the servers that were its first nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(u128);

impl ClusterId {
    /// The id of these random bits.
    #[must_use]
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The id that all who meet these servers blank will give them, so that they need not agree first (FNV-1a, 128
    /// bits, over the sorted names of the servers' incarnations).
    #[must_use]
    pub fn of_servers<'a>(incarnations: impl Iterator<Item = &'a Incarnation>) -> Self {
        let mut names: Vec<&str> = incarnations.map(Incarnation::as_str).collect();
        names.sort_unstable();
        let bytes = names.iter().flat_map(|name| name.bytes().chain([0]));
        Self(bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(FNV_PRIME)))
    }
}

/// Which server, with which data: `run_id:master_replid`, and what else may have cost it keys (`lua/read_marker.lua`). A restart
/// changes the first part; a change of role, which replaces all data, the second.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(Arc<str>);

impl Incarnation {
    /// The incarnation of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// As the server spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the same server with the same data.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        if enabled(Mutant::IgnoresRoleChange) {
            return self.0.split(':').next() == other.0.split(':').next();
        }
        self == other
    }
}

/// A marker, read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Marker {
    /// Which cluster the node belongs to.
    pub cluster: ClusterId,
    /// What the clients of that cluster agreed on.
    pub config: LockClusterConfig,
    /// Which server wrote it.
    pub incarnation: Incarnation,
    /// Since when the node has had its data, in microseconds of its own clock.
    pub since_micros: u64,
    /// The same by the clock of the client that wrote it: the node's own may have been wrong then, and be set right
    /// since. 0 where somebody declared that there is nothing to forget.
    pub written_micros: u64,
    /// What every number is above: how far its clock had come before it was set back; 0 if it never was.
    pub base_micros: u64,
}

impl Marker {
    /// Reads a marker; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next() != Some(VERSION) {
            return None;
        }
        let cluster = ClusterId(u128::from_str_radix(words.next()?, 16).ok()?);
        let (nodes, need) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let quorum = Quorum::new(nodes, Some(need)).ok()?;
        let max_ttl = Duration::from_millis(words.next()?.parse().ok()?);
        let retention = Duration::from_millis(words.next()?.parse().ok()?);
        let incarnation = Incarnation::new(words.next()?);
        let since_micros = words.next()?.parse().ok()?;
        let written_micros = words.next()?.parse().ok()?;
        let base_micros = words.next()?.parse().ok()?;
        let is_whole = words.next().is_none() && base_micros <= MAX_MIN_FENCING_NUMBER;
        is_whole.then(|| Self {
            cluster,
            config: LockClusterConfig::new(quorum, max_ttl).with_retention(retention),
            incarnation,
            since_micros,
            written_micros,
            base_micros,
        })
    }

    /// The part of a marker that does not depend on the server. The server itself adds its incarnation and its time, and
    /// the client its own.
    #[must_use]
    pub fn identity(cluster: ClusterId, config: LockClusterConfig) -> Arc<str> {
        let mut text = String::new();
        let (nodes, need) = (config.quorum.nodes(), config.quorum.needed());
        // Writing to a string cannot fail.
        let LockClusterConfig { max_ttl_millis, retention_millis, .. } = config;
        let _ =
            write!(text, "{VERSION} {:032x} {nodes} {need} {max_ttl_millis} {retention_millis}", cluster.0);
        text.into()
    }

    /// When the node may vote, in microseconds of its own clock: every lock that it may have forgotten is over then.
    #[must_use]
    pub fn votes_from_micros(&self) -> u64 {
        self.after_probation(self.since_micros)
    }

    /// The same by the clock of the client that wrote it.
    #[must_use]
    pub fn votes_from_written_micros(&self) -> u64 {
        self.after_probation(self.written_micros)
    }

    /// What every fencing number of the node is above: the end of its probation, and how far its clock ever came.
    #[must_use]
    pub fn fencing_numbers_above(&self) -> u64 {
        self.votes_from_micros().max(self.base_micros)
    }

    fn after_probation(&self, micros: u64) -> u64 {
        let probation = self.config.max_ttl_millis.saturating_mul(1000);
        let probation = if enabled(Mutant::ShortProbation) { probation / 2 } else { probation };
        if enabled(Mutant::NoProbation) { 0 } else { micros.saturating_add(probation) }
    }
}

/// What a node told when it was asked about its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MarkerReading {
    /// Its marker, if it has one.
    pub marker: Option<Arc<str>>,
    /// Which server it is.
    pub incarnation: Incarnation,
    /// Whether it evicts keys when its memory is full.
    pub evicts: bool,
    /// Its clock, in microseconds since 1970.
    pub micros: u64,
    /// How far its clock had come at an earlier look, as it remembers; 0 if it does not.
    pub latest_micros: u64,
}

impl MarkerReading {
    /// Whether the node's clock was set back so far behind one of before that fences with larger numbers than it would
    /// give may have run out. Half the retention is the limit: fences outlive their number by the whole of it, so half of
    /// it is left for what the clock went on after it was looked at last.
    #[must_use]
    pub fn was_set_back(&self, retention: Duration) -> bool {
        let tolerated = (retention / 2).as_micros() as u64;
        self.latest_micros > self.micros.saturating_add(tolerated) && !enabled(Mutant::IgnoresClockSetBack)
    }
}

/// The first word of a marker; a later form will have another.
const VERSION: &str = "quorlock3";
const FNV_OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_as_it_is_written() {
        let config =
            LockClusterConfig::new(Quorum::new(5, Some(4)).expect("a quorum"), Duration::from_secs(30));
        let identity = Marker::identity(ClusterId::new(0xab), config);
        let marker = Marker::parse(&format!("{identity} run:replid 1700000000000000 1700000000500000 7"))
            .expect("a marker");
        assert_eq!((marker.cluster, marker.config), (ClusterId::new(0xab), config));
        assert_eq!(config.retention(), Duration::from_secs(3600));
        assert_eq!(marker.votes_from_micros(), 1_700_000_030_000_000);
        assert_eq!(marker.votes_from_written_micros(), 1_700_000_030_500_000);
        assert_eq!((marker.base_micros, marker.fencing_numbers_above()), (7, 1_700_000_030_000_000));
        for end in ["a b c d", "a b c", "a 1 1 1 1", "a 1 1", "a 1", "a", "a 1 1 9007199254740991"] {
            assert_eq!(Marker::parse(&format!("{identity} {end}")), None, "{end}");
        }
        assert_eq!((Marker::parse(""), Marker::parse("x")), (None, None));
    }

    #[test]
    fn fences_are_kept_for_twice_the_max_ttl_at_the_least() {
        let of = |longest_secs| default_retention(Duration::from_secs(longest_secs)).as_secs();
        assert_eq!((of(30), of(1800), of(1801), of(3600)), (3600, 3600, 3602, 7200));
        assert_eq!(min_retention(Duration::from_millis(10)), Duration::from_millis(1_010));
        assert_eq!(min_retention(Duration::from_secs(30)), Duration::from_secs(60));
    }

    #[test]
    fn founders_are_known_whatever_their_order() {
        let [one, two] = ["a:1", "b:2"].map(Incarnation::new);
        let id = ClusterId::of_servers([&one, &two].into_iter());
        assert_eq!(id, ClusterId::of_servers([&two, &one].into_iter()));
        assert_ne!(id, ClusterId::of_servers([&one].into_iter()));
    }
}
