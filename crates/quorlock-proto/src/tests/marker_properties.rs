//! Properties for all values: the texts of markers, records and rosters.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::fence::MAX_MIN_FENCING_NUMBER;
use crate::marker::{ClusterId, Incarnation, LockClusterConfig, Marker};
use crate::quorum::Quorum;
use crate::roster::record::{Ballot, Record};
use crate::roster::{Epoch, ListHash, Roster, Seat, SeatId, fnv};

proptest! {
    #[test]
    fn a_marker_parses_from_its_text(
        seat in any::<u64>(),
        was_member in any::<bool>(),
        millis in any::<u64>(),
        incarnation in "[0-9a-f]{1,40}:[0-9a-f]{1,40}",
        time_micros in any::<u64>(),
        written_micros in any::<u64>(),
        base_micros in 0..=MAX_MIN_FENCING_NUMBER,
    ) {
        let record = Record { seat: SeatId(seat), was_member, roster: None, promised: None, accepted: None };
        let identity = Marker::identity(Duration::from_millis(millis), &record);
        let text = format!("{identity} {incarnation} {time_micros} {written_micros} {base_micros}");
        let incarnation = Incarnation::new(&incarnation);
        let record_hash = fnv(record.to_text().bytes());
        let seat = record.seat;
        let marker = Marker { record_hash, seat, was_member, incarnation, time_micros, written_micros, base_micros };
        prop_assert_eq!(Record::parse(&marker, &record.to_text()), Some(record));
        prop_assert_eq!(Marker::parse(&text), Some(marker));
    }

    #[test]
    fn a_record_parses_from_its_text(
        cluster in any::<u128>(),
        seats in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u8>()), 1..=9),
        more in 0_usize..5,
        millis in 0_u64..1 << 50,
        numbers in any::<(u64, u64, u32, u64)>(),
        recoveries in 0_u32..4,
        has in any::<(bool, bool, bool)>(),
    ) {
        let nodes = seats.len();
        let quorum = Quorum::new(nodes, Some((nodes / 2 + 1 + more).min(nodes))).expect("between the majority and all");
        let seat = |(id, changed_millis, changes): (u64, u64, u8)| {
            Seat { id: (id > 0).then_some(SeatId(id)), changed_millis, changes }
        };
        let epoch = (0..recoveries).fold(Epoch::default(), |epoch, _| epoch.after_recovery()).after_change();
        let roster = Arc::new(Roster {
            cluster: ClusterId::new(cluster),
            epoch,
            list: ListHash(numbers.0),
            config: LockClusterConfig::new(quorum, Duration::from_millis(millis)),
            fence_base: numbers.1,
            seats: seats.into_iter().map(seat).collect(),
        });
        let ballot = Ballot { count: numbers.2, client: numbers.3 };
        let record = Record {
            seat: SeatId(7),
            was_member: false,
            roster: has.0.then(|| roster.clone()),
            promised: has.1.then_some(ballot),
            accepted: has.2.then(|| (ballot, roster.clone())),
        };
        let text = format!("{} a:b 1 1 0", Marker::identity(Duration::ZERO, &record));
        let marker = Marker::parse(&text).expect("a marker");
        prop_assert_eq!(Record::parse(&marker, &record.to_text()), Some(record));
        prop_assert_eq!(Roster::parse(&roster.to_text()), Some(Roster::clone(&roster)));
    }

    #[test]
    fn a_malformed_record_text_parses_to_nothing_or_itself(text in "[0-9a-f/ ;]{0,80}") {
        let marker = Marker::parse("quorlock4 1 0 7 m a:b 1 1 0").expect("a marker");
        if let Some(record) = Record::parse(&marker, &text) {
            let again = record.to_text();
            prop_assert_eq!(Record::parse(&marker, &again), Some(record));
        }
    }

    #[test]
    fn a_malformed_marker_text_parses_to_a_valid_marker_or_none(
        words in prop::collection::vec(
            prop_oneof![
                3 => prop_oneof![Just("quorlock4".to_owned()), Just("m".to_owned())],
                3 => "[0-9a-f]{1,40}",
                3 => (0_u64..12).prop_map(|number| number.to_string()),
                1 => any::<u64>().prop_map(|number| number.to_string()),
                1 => any::<String>(),
            ],
            0..10,
        ),
    ) {
        let text = words.join(" ");
        if let Some(marker) = Marker::parse(&text) {
            prop_assert!(text.starts_with("quorlock4 "));
            prop_assert!(marker.base_micros <= MAX_MIN_FENCING_NUMBER);
        }
    }
}
