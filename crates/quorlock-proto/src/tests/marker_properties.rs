//! Properties for all values: the texts of markers.

use std::time::Duration;

use proptest::prelude::*;

use crate::fence::MAX_MIN_FENCING_NUMBER;
use crate::marker::{Incarnation, Marker};
use crate::roster::record::Record;
use crate::roster::{SeatId, fnv};

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
        prop_assert_eq!(Marker::parse(&text), Some(marker));
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
