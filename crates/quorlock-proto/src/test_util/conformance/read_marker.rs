//! The script `read_marker`: it reads a node's marker, after a write if there is one.

use std::time::Duration;

use super::{Location, MARKER, NodeUnderTest, SLACK, TTL, cases, identity, record};
use crate::marker::{Incarnation, Marker, MarkerReading};
use crate::membership::{MarkerWrite, NodeWrite};
use crate::roster::voting_time::MarkerTime;
use crate::vote::{ReplyFailure, Vote};

cases![
    a_blank_node_reports_its_incarnation,
    a_marker_is_reported_byte_for_byte,
    a_marker_is_written_to_a_blank_node,
    a_marker_replaces_only_the_expected_one,
    a_marker_has_the_time_of_its_write,
    a_marker_is_written_only_to_the_server_that_was_read,
    absence_reports_replace_only_the_expected_ones,
    the_largest_number_ahead_of_the_clock_is_reported,
    a_marker_has_no_expiry,
    a_marker_of_another_type_is_invalid_and_is_not_replaced,
    an_eviction_policy_is_reported_and_changes_the_incarnation,
    an_eviction_changes_the_incarnation,
    a_database_swap_changes_the_incarnation,
    a_restart_changes_the_incarnation,
    a_change_of_role_changes_the_incarnation,
    an_unknown_read_marker_script_writes_nothing_until_sent_as_text,
    the_clock_is_stored_periodically_and_the_earlier_value_is_reported,
    a_clock_that_was_set_back_keeps_its_largest_stored_value,
    an_invalid_stored_clock_counts_as_none,
    no_clock_is_stored_under_an_unknown_marker,
];

fn read_marker(node: &mut (dyn NodeUnderTest + '_)) -> MarkerReading {
    node.read_marker(None, false).expect("a reading")
}

/// The write of a marker and a record, to the server as it is now.
fn marker_write(node: &mut (dyn NodeUnderTest + '_), replaces: Option<&[u8]>, time: MarkerTime) -> NodeWrite {
    let incarnation = Some(node.read_marker(None, true).expect("a reading").incarnation);
    marker_write_to(incarnation, replaces, time)
}

fn marker_write_to(incarnation: Option<Incarnation>, replaces: Option<&[u8]>, time: MarkerTime) -> NodeWrite {
    NodeWrite::Marker(Box::new(MarkerWrite {
        replaces: replaces.map(|text| String::from_utf8_lossy(text).into()),
        incarnation,
        identity: identity(),
        record: record().to_text().into(),
        time,
        written_micros: WRITTEN,
        base_micros: 7,
    }))
}

/// The time of the write.
const NOW: MarkerTime = MarkerTime::After(Duration::ZERO);
/// The time on the writer's clock.
const WRITTEN: u64 = 1_712_345_678_901_234;

fn a_blank_node_reports_its_incarnation(node: &mut dyn NodeUnderTest) {
    let reading = node.assert_unchanged(|node| node.read_marker(None, false)).expect("a reading");
    assert_eq!((reading.marker.as_deref(), reading.evicts), (None, false));
    let name = reading.incarnation.as_str();
    let (run, data) = name.split_once(':').expect("a run id and a replication id");
    assert!(!run.is_empty() && !data.is_empty() && !name.contains(' '), "{name}");
    assert!(reading.micros.abs_diff(node.clock_micros()) < SLACK.as_micros() as u64);
    assert_eq!(read_marker(node).incarnation, reading.incarnation);
}

fn a_marker_is_reported_byte_for_byte(node: &mut dyn NodeUnderTest) {
    for (marker, reported) in [(MARKER, Some("the expected marker")), (b" " as &[u8], Some(" ")), (b"", None)]
    {
        node.set(Location::Marker, Some(marker), None);
        let reading = node.assert_unchanged(|node| node.read_marker(None, false)).expect("a reading");
        assert_eq!(reading.marker.as_deref(), reported);
    }
}

fn a_marker_is_written_to_a_blank_node(node: &mut dyn NodeUnderTest) {
    for is_empty in [false, true] {
        node.reset();
        if is_empty {
            node.set(Location::Marker, Some(b""), None);
        }
        let write = marker_write(node, None, NOW);
        let reading = node.read_marker(Some(&write), false).expect("a reading");
        let text = reading.marker.expect("the written marker");
        let expected =
            format!("{} {} {} {WRITTEN} 7", identity(), reading.incarnation.as_str(), reading.micros);
        assert_eq!(&*text, expected);
        assert!(Marker::parse(&text).is_some());
        let stored = node.stored(Location::Marker).and_then(|marker| marker.value);
        assert_eq!(stored.as_deref(), Some(text.as_bytes()));
        let stored = node.stored(Location::Record).and_then(|record| record.value);
        assert_eq!(stored.as_deref(), Some(record().to_text().as_bytes()));
        assert_eq!(reading.record.as_deref(), Some(&*record().to_text()));
    }
}

fn a_marker_replaces_only_the_expected_one(node: &mut dyn NodeUnderTest) {
    node.set(Location::Marker, Some(MARKER), None);
    for other_marker in [None, Some(b"another marker" as &[u8]), Some(b"the expected marker ")] {
        let write = marker_write(node, other_marker, NOW);
        let reading = node.assert_unchanged(|node| node.read_marker(Some(&write), false)).expect("a reading");
        assert_eq!(reading.marker.as_deref(), Some("the expected marker"), "the stored marker is reported");
    }
    let write = marker_write(node, Some(MARKER), NOW);
    let reading = node.read_marker(Some(&write), false).expect("a reading");
    assert!(reading.marker.is_some_and(|text| text.starts_with(&*identity())));
    node.reset();
    let write = marker_write(node, Some(MARKER), NOW);
    let reading = node.assert_unchanged(|node| node.read_marker(Some(&write), false));
    assert_eq!(reading.expect("a reading").marker, None, "no marker does not match the expected one");
}

fn a_marker_has_the_time_of_its_write(node: &mut dyn NodeUnderTest) {
    let write = marker_write(node, None, MarkerTime::After(TTL));
    let reading = node.read_marker(Some(&write), false).expect("a reading");
    let text = reading.marker.expect("a marker");
    let marker = Marker::parse(&text).expect("a valid marker");
    assert_eq!(marker.time_micros, reading.micros + TTL.as_micros() as u64);
    let write = marker_write(node, Some(text.as_bytes()), MarkerTime::At(123));
    let reading = node.read_marker(Some(&write), false).expect("a reading");
    let marker = reading.marker.as_deref().and_then(Marker::parse).expect("a valid marker");
    assert_eq!(marker.time_micros, 123);
}

fn a_marker_is_written_only_to_the_server_that_was_read(node: &mut dyn NodeUnderTest) {
    let write = marker_write(node, None, NOW);
    node.change_role();
    let reading = node.assert_unchanged(|node| node.read_marker(Some(&write), false)).expect("a reading");
    assert_eq!(reading.marker, None);
    // Without an expected one, the marker is that of the server as it is.
    let write = marker_write_to(None, None, NOW);
    let reading = node.read_marker(Some(&write), false).expect("a reading");
    let marker = reading.marker.as_deref().and_then(Marker::parse).expect("a valid marker");
    assert_eq!(marker.incarnation, reading.incarnation);
}

fn absence_reports_replace_only_the_expected_ones(node: &mut dyn NodeUnderTest) {
    let write = |replaces: Option<&str>, text: &str| NodeWrite::Absences {
        replaces: replaces.map(Into::into),
        text: text.into(),
    };
    let reading = node.read_marker(Some(&write(None, "1 0:5")), false).expect("a reading");
    assert_eq!(reading.absences.as_deref(), Some("1 0:5"));
    for other in [None, Some("1 0:6")] {
        let reading = node.assert_unchanged(|node| node.read_marker(Some(&write(other, "2")), false));
        assert_eq!(reading.expect("a reading").absences.as_deref(), Some("1 0:5"));
    }
    let reading = node.read_marker(Some(&write(Some("1 0:5"), "2")), false).expect("a reading");
    assert_eq!((reading.absences.as_deref(), reading.marker), (Some("2"), None));
    assert_eq!(node.stored(Location::Absences).expect("reports").ttl, None);
}

fn the_largest_number_ahead_of_the_clock_is_reported(node: &mut dyn NodeUnderTest) {
    for (value, reported) in [(Some(b"123" as &[u8]), 123), (Some(b"x"), 0), (Some(b"1.5"), 0), (None, 0)] {
        node.set(Location::HighestAheadOfClock, value, None);
        assert_eq!(read_marker(node).highest_number, reported, "{value:?}");
    }
}

fn a_marker_has_no_expiry(node: &mut dyn NodeUnderTest) {
    node.set(Location::Marker, Some(MARKER), Some(TTL));
    let write = marker_write(node, Some(MARKER), NOW);
    node.read_marker(Some(&write), false).expect("a reading");
    assert_eq!(node.stored(Location::Marker).expect("a marker").ttl, None);
}

fn a_marker_of_another_type_is_invalid_and_is_not_replaced(node: &mut dyn NodeUnderTest) {
    node.set(Location::Marker, None, None);
    let write = marker_write(node, None, NOW);
    for write in [None, Some(write)] {
        let reading =
            node.assert_unchanged(|node| node.read_marker(write.as_ref(), false)).expect("a reading");
        assert!(reading.marker.is_some_and(|marker| Marker::parse(&marker).is_none()));
    }
}

fn an_eviction_policy_is_reported_and_changes_the_incarnation(node: &mut dyn NodeUnderTest) {
    let before = read_marker(node);
    node.set_evicts(true);
    let evicting = read_marker(node);
    assert!(evicting.evicts && evicting.incarnation != before.incarnation);
    node.set_evicts(false);
    let after = read_marker(node);
    assert!(!after.evicts && after.incarnation != evicting.incarnation);
}

fn an_eviction_changes_the_incarnation(node: &mut dyn NodeUnderTest) {
    let before = read_marker(node);
    node.evict();
    let once = read_marker(node);
    node.evict();
    let [before, once, twice] = [before, once, read_marker(node)].map(|reading| reading.incarnation);
    assert!(once != before && twice != once && twice != before, "{once:?}");
}

fn a_database_swap_changes_the_incarnation(node: &mut dyn NodeUnderTest) {
    let write = marker_write(node, None, NOW);
    let before = node.read_marker(Some(&write), false).expect("a reading");
    node.swap_databases_twice();
    let after = read_marker(node);
    assert_eq!(after.marker, before.marker, "the data is the same");
    assert_ne!(after.incarnation, before.incarnation);
    node.reset();
    assert_ne!(read_marker(node).incarnation, after.incarnation, "a flush also changes it");
}

fn a_restart_changes_the_incarnation(node: &mut dyn NodeUnderTest) {
    let write = marker_write(node, None, NOW);
    let before = node.read_marker(Some(&write), false).expect("a reading");
    node.restart();
    // Some Redis versions lose scripts in a restart and others keep them, so the script is sent as text.
    let after = node.read_marker(None, true).expect("a reading");
    assert_eq!(after.marker, before.marker, "the data is the same");
    let run =
        |reading: &MarkerReading| reading.incarnation.as_str().split_once(':').map(|(run, _)| run.to_owned());
    assert_ne!(run(&after), run(&before));
}

fn a_change_of_role_changes_the_incarnation(node: &mut dyn NodeUnderTest) {
    let before = read_marker(node);
    node.change_role();
    let after = read_marker(node);
    let halves = |reading: &MarkerReading| {
        let mut parts = reading.incarnation.as_str().split(':').map(str::to_owned);
        (parts.next(), parts.next().expect("a replication id"))
    };
    assert_eq!(halves(&after).0, halves(&before).0);
    assert_ne!(halves(&after).1, halves(&before).1);
}

fn an_unknown_read_marker_script_writes_nothing_until_sent_as_text(node: &mut dyn NodeUnderTest) {
    let write = marker_write(node, None, NOW);
    node.flush_scripts();
    let unknown = Err(Vote::Unknown(ReplyFailure::NoScript));
    assert_eq!(node.assert_unchanged(|node| node.read_marker(Some(&write), false)), unknown);
    assert!(node.read_marker(Some(&write), true).expect("a reading").marker.is_some());
    assert!(node.read_marker(None, false).expect("the script is known from then on").marker.is_some());
}

/// Stores a valid marker, where the case does not depend on its values.
fn set_marker(node: &mut dyn NodeUnderTest) {
    node.set(Location::Marker, Some(format!("{} a:b 1 1 0", identity()).as_bytes()), None);
}

fn stored_clock(node: &mut dyn NodeUnderTest) -> Option<u64> {
    let clock = node.stored(Location::Clock)?;
    assert_eq!(clock.ttl, None, "the stored clock never expires");
    String::from_utf8(clock.value?).ok()?.parse().ok()
}

/// A quarter of the max ttl of these nodes.
const CLOCK_NOTE_PERIOD: u64 = 7_500_000;

fn the_clock_is_stored_periodically_and_the_earlier_value_is_reported(node: &mut dyn NodeUnderTest) {
    set_marker(node);
    let first = read_marker(node);
    assert_eq!((first.latest_micros, stored_clock(node)), (0, Some(first.micros)));
    let again = node.assert_unchanged(read_marker);
    assert_eq!(again.latest_micros, first.micros, "the clock was stored just now");
    for (ago, is_stored) in
        [(CLOCK_NOTE_PERIOD / 2, false), (CLOCK_NOTE_PERIOD, true), (CLOCK_NOTE_PERIOD * 1_000, true)]
    {
        let before = node.clock_micros() - ago;
        node.set(Location::Clock, Some(before.to_string().as_bytes()), None);
        let reading = read_marker(node);
        assert_eq!(reading.latest_micros, before);
        assert_eq!(stored_clock(node), Some(if is_stored { reading.micros } else { before }), "{ago} us ago");
    }
    node.reset();
    let write = marker_write(node, None, NOW);
    let written = node.read_marker(Some(&write), false).expect("a reading");
    assert_eq!(stored_clock(node), Some(written.micros), "also under a marker that was written just now");
}

fn a_clock_that_was_set_back_keeps_its_largest_stored_value(node: &mut dyn NodeUnderTest) {
    set_marker(node);
    for ahead in [1_000_000_000, 86_400_000_000, 365 * 86_400_000_000] {
        let latest = node.clock_micros() + ahead;
        node.set(Location::Clock, Some(latest.to_string().as_bytes()), None);
        assert_eq!(node.assert_unchanged(read_marker).latest_micros, latest);
    }
}

fn an_invalid_stored_clock_counts_as_none(node: &mut dyn NodeUnderTest) {
    let invalid: [Option<&[u8]>; 8] = [
        Some(b""),
        Some(b"noon"),
        Some(b"1.5"),
        Some(b"-7"),
        Some(b"inf"),
        Some(b"nan"),
        Some(b"9007199254740991"),
        None,
    ];
    for value in invalid {
        set_marker(node);
        node.set(Location::Clock, value, None);
        let reading = read_marker(node);
        assert_eq!((reading.latest_micros, stored_clock(node)), (0, Some(reading.micros)), "{value:?}");
    }
}

fn no_clock_is_stored_under_an_unknown_marker(node: &mut dyn NodeUnderTest) {
    for marker in [None, Some(MARKER), Some(b"quorlock3 00ab 5 4 30000 a:b 1 1" as &[u8])] {
        node.reset();
        if marker.is_some() {
            node.set(Location::Marker, marker, None);
        }
        assert_eq!(read_marker(node).latest_micros, 0);
        assert_eq!(node.stored(Location::Clock), None);
    }
}
