//! The script `read_marker`: it reads a node's marker, after a write if there is one.

use std::time::Duration;

use super::{Location, MARKER, NodeUnderTest, SLACK, TTL, cases, identity};
use crate::marker::{Marker, MarkerReading};
use crate::membership::MarkerWrite;
use crate::vote::{ReplyFailure, Vote};

cases![
    a_blank_node_reports_its_incarnation,
    a_marker_is_reported_byte_for_byte,
    a_marker_is_written_to_a_blank_node,
    a_marker_replaces_only_the_expected_one,
    a_marker_can_be_backdated,
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

fn marker_write(replaces: Option<&[u8]>, backdate: Duration) -> MarkerWrite {
    let replaces = replaces.map(|text| String::from_utf8_lossy(text).into());
    MarkerWrite { replaces, identity: identity(), backdate, written_micros: WRITTEN, base_micros: 7 }
}

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
        let reading = node.read_marker(Some(&marker_write(None, Duration::ZERO)), false).expect("a reading");
        let text = reading.marker.expect("the written marker");
        let expected =
            format!("{} {} {} {WRITTEN} 7", identity(), reading.incarnation.as_str(), reading.micros);
        assert_eq!(&*text, expected);
        assert!(Marker::parse(&text).is_some());
        let stored = node.stored(Location::Marker).and_then(|marker| marker.value);
        assert_eq!(stored.as_deref(), Some(text.as_bytes()));
    }
}

fn a_marker_replaces_only_the_expected_one(node: &mut dyn NodeUnderTest) {
    node.set(Location::Marker, Some(MARKER), None);
    for other_marker in [None, Some(b"another marker" as &[u8]), Some(b"the expected marker ")] {
        let write = marker_write(other_marker, Duration::ZERO);
        let reading = node.assert_unchanged(|node| node.read_marker(Some(&write), false)).expect("a reading");
        assert_eq!(reading.marker.as_deref(), Some("the expected marker"), "the stored marker is reported");
    }
    let reading =
        node.read_marker(Some(&marker_write(Some(MARKER), Duration::ZERO)), false).expect("a reading");
    assert!(reading.marker.is_some_and(|text| text.starts_with(&*identity())));
    node.reset();
    let reading = node
        .assert_unchanged(|node| node.read_marker(Some(&marker_write(Some(MARKER), Duration::ZERO)), false));
    assert_eq!(reading.expect("a reading").marker, None, "no marker does not match the expected one");
}

fn a_marker_can_be_backdated(node: &mut dyn NodeUnderTest) {
    let reading = node.read_marker(Some(&marker_write(None, TTL)), false).expect("a reading");
    let marker = Marker::parse(&reading.marker.expect("a marker")).expect("a valid marker");
    assert_eq!(marker.since_micros, reading.micros - TTL.as_micros() as u64);
}

fn a_marker_has_no_expiry(node: &mut dyn NodeUnderTest) {
    node.set(Location::Marker, Some(MARKER), Some(TTL));
    node.read_marker(Some(&marker_write(Some(MARKER), Duration::ZERO)), false).expect("a reading");
    assert_eq!(node.stored(Location::Marker).expect("a marker").ttl, None);
}

fn a_marker_of_another_type_is_invalid_and_is_not_replaced(node: &mut dyn NodeUnderTest) {
    node.set(Location::Marker, None, None);
    for write in [None, Some(marker_write(None, Duration::ZERO))] {
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
    let before = node.read_marker(Some(&marker_write(None, Duration::ZERO)), false).expect("a reading");
    node.swap_databases_twice();
    let after = read_marker(node);
    assert_eq!(after.marker, before.marker, "the data is the same");
    assert_ne!(after.incarnation, before.incarnation);
    node.reset();
    assert_ne!(read_marker(node).incarnation, after.incarnation, "a flush also changes it");
}

fn a_restart_changes_the_incarnation(node: &mut dyn NodeUnderTest) {
    let before = node.read_marker(Some(&marker_write(None, Duration::ZERO)), false).expect("a reading");
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
    node.flush_scripts();
    let write = marker_write(None, Duration::ZERO);
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
    let written = node.read_marker(Some(&marker_write(None, Duration::ZERO)), false).expect("a reading");
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
    for marker in [None, Some(MARKER), Some(b"quorlock2 00ab 5 4 30000 a:b 1 1" as &[u8])] {
        node.reset();
        if marker.is_some() {
            node.set(Location::Marker, marker, None);
        }
        assert_eq!(read_marker(node).latest_micros, 0);
        assert_eq!(node.stored(Location::Clock), None);
    }
}
