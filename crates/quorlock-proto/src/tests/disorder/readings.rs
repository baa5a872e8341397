//! Arbitrary marker readings.

use std::sync::Arc;

use proptest::prelude::*;

use crate::marker::{ClusterId, Incarnation, LockClusterConfig, Marker, MarkerReading};
use crate::roster::record::{Ballot, Record};
use crate::roster::{Roster, SeatId};
use crate::test_util::founding::first_roster;
use crate::tests::world::MAX_TTL;

/// A marker reading, without what depends on the number of nodes.
#[derive(Clone, Debug)]
pub(super) struct ReadingSpec {
    marker: MarkerContent,
    run: u8,
    evicts: bool,
    micros: u64,
    latest_micros: u64,
}

#[derive(Clone, Debug)]
enum MarkerContent {
    Missing,
    Malformed(String),
    /// Of one of two lock clusters, with the client's config or another, written by one of two servers.
    Marker {
        cluster: u8,
        has_same_config: bool,
        run: u8,
        time: u64,
        written: u64,
        base: u64,
        spec: RecordSpec,
    },
}

/// A record: its seat, how many changes its roster has seen, and what it promised or accepted.
#[derive(Clone, Debug)]
struct RecordSpec {
    seat: u64,
    was_member: bool,
    changes: Option<u8>,
    promised: Option<(u32, u64)>,
    accepted: Option<u8>,
}

impl RecordSpec {
    fn record(&self, cluster: u8, config: LockClusterConfig) -> Record {
        let first = first_roster(ClusterId::new(u128::from(cluster)), config);
        let roster = |changes: u8| {
            let change = |roster: Roster, id| roster.with_seat(0, Some(SeatId(100 + u64::from(id))), 0);
            Arc::new((0..changes).fold(first.clone(), change))
        };
        let ballot = self.promised.map(|(count, client)| Ballot { count, client });
        Record {
            seat: SeatId(self.seat),
            was_member: self.was_member,
            roster: self.changes.map(roster),
            promised: ballot,
            accepted: ballot.zip(self.accepted.map(roster)),
        }
    }
}

fn record_specs() -> impl Strategy<Value = RecordSpec> {
    let changes = || proptest::option::weighted(0.9, 0_u8..3);
    let ballot = proptest::option::weighted(0.3, (0_u32..4, 0_u64..3));
    (1_u64..7, prop::bool::weighted(0.8), changes(), ballot, changes()).prop_map(
        |(seat, was_member, changes, promised, accepted)| RecordSpec {
            seat,
            was_member,
            changes,
            promised,
            accepted,
        },
    )
}

impl ReadingSpec {
    pub(super) fn reading(&self, config: LockClusterConfig) -> MarkerReading {
        let (marker, record): (Option<Arc<str>>, Option<Arc<str>>) = match &self.marker {
            MarkerContent::Missing => (None, None),
            MarkerContent::Malformed(text) => (Some(text.as_str().into()), None),
            MarkerContent::Marker { cluster, has_same_config, run, time, written, base, spec } => {
                let other = LockClusterConfig::new(config.quorum(), MAX_TTL * 2);
                let record = spec.record(*cluster, if *has_same_config { config } else { other });
                let identity = Marker::identity(config.max_ttl(), &record);
                let text = format!("{identity} run{run}:data {time} {written} {base}");
                (Some(text.into()), Some(record.to_text().into()))
            }
        };
        let incarnation = Incarnation::new(&format!("run{}:data", self.run));
        let Self { evicts, micros, latest_micros, .. } = *self;
        let (highest_number, absences) = (latest_micros, None);
        MarkerReading { marker, record, incarnation, evicts, micros, latest_micros, highest_number, absences }
    }
}

pub(super) fn reading_specs() -> impl Strategy<Value = ReadingSpec> {
    // Up to 100 s, which exceeds the max ttl.
    let micros = || prop_oneof![9 => 0_u64..100_000_000, 1 => any::<u64>()];
    let often_none = move || prop_oneof![Just(0), micros()];
    let marker = prop_oneof![
        2 => Just(MarkerContent::Missing),
        1 => ".{0,40}".prop_map(MarkerContent::Malformed),
        8 => (
            0_u8..2,
            prop::bool::weighted(0.9),
            0_u8..2,
            micros(),
            often_none(),
            often_none(),
            record_specs(),
        )
            .prop_map(|(cluster, has_same_config, run, time, written, base, spec)| {
                MarkerContent::Marker { cluster, has_same_config, run, time, written, base, spec }
            }),
    ];
    (marker, 0_u8..2, prop::bool::weighted(0.05), micros(), often_none()).prop_map(
        |(marker, run, evicts, micros, latest_micros)| ReadingSpec {
            marker,
            run,
            evicts,
            micros,
            latest_micros,
        },
    )
}
