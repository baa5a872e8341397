//! The script `read_marker`: the marker that a node stores, and the marker that a client writes.

use std::time::Duration;

use super::{Location, MARKER, NodeUnderTest, SLACK, TTL, identity, promises};
use crate::marker::{Marker, MarkerReading};
use crate::membership::MarkerWrite;
use crate::vote::{ReplyFailure, Vote};

promises![
    a_blank_node_tells_so_and_who_it_is,
    a_marker_is_told_to_the_letter,
    a_marker_is_written_where_there_is_none,
    a_marker_replaces_only_what_it_should,
    a_marker_may_be_set_back_in_time,
    a_marker_has_no_expiry,
    a_marker_of_another_type_is_none_of_ours,
    evicting_is_told_and_is_another_incarnation,
    what_was_evicted_is_another_incarnation,
    a_database_that_was_swapped_is_another_incarnation,
    another_process_is_another_incarnation,
    another_role_is_another_incarnation,
    a_look_that_is_not_known_writes_nothing_until_it_comes_as_text,
    the_clock_is_noted_now_and_then_and_told_as_it_was_before,
    a_clock_that_was_set_back_is_noted_for_how_far_it_had_come,
    what_is_no_clock_is_none,
    nothing_is_noted_under_a_marker_of_others,
];

fn reading(node: &mut (dyn NodeUnderTest + '_)) -> MarkerReading {
    node.read_marker(None, false).expect("an answer")
}

fn write(replaces: Option<&[u8]>, backdate: Duration) -> MarkerWrite {
    let replaces = replaces.map(|text| String::from_utf8_lossy(text).into());
    MarkerWrite { replaces, identity: identity(), backdate, written_micros: WRITTEN, base_micros: 7 }
}

/// What the writer's clock shows.
const WRITTEN: u64 = 1_712_345_678_901_234;

fn a_blank_node_tells_so_and_who_it_is(node: &mut dyn NodeUnderTest) {
    let seen = node.unchanged(|node| node.read_marker(None, false)).expect("an answer");
    assert_eq!((seen.marker.as_deref(), seen.evicts), (None, false));
    let name = seen.incarnation.as_str();
    let (run, data) = name.split_once(':').expect("a run id and a replication id");
    assert!(!run.is_empty() && !data.is_empty() && !name.contains(' '), "{name}");
    assert!(seen.micros.abs_diff(node.clock_micros()) < SLACK.as_micros() as u64);
    assert_eq!(reading(node).incarnation, seen.incarnation);
}

fn a_marker_is_told_to_the_letter(node: &mut dyn NodeUnderTest) {
    for (marker, reported) in [(MARKER, Some("what we agreed on")), (b" " as &[u8], Some(" ")), (b"", None)] {
        node.set(Location::Marker, Some(marker), None);
        let seen = node.unchanged(|node| node.read_marker(None, false)).expect("an answer");
        assert_eq!(seen.marker.as_deref(), reported);
    }
}

fn a_marker_is_written_where_there_is_none(node: &mut dyn NodeUnderTest) {
    for is_empty in [false, true] {
        node.reset();
        if is_empty {
            node.set(Location::Marker, Some(b""), None);
        }
        let seen = node.read_marker(Some(&write(None, Duration::ZERO)), false).expect("an answer");
        let text = seen.marker.expect("what was written");
        let expected = format!("{} {} {} {WRITTEN} 7", identity(), seen.incarnation.as_str(), seen.micros);
        assert_eq!(&*text, expected);
        assert!(Marker::parse(&text).is_some());
        let stands = node.stored(Location::Marker).and_then(|marker| marker.value);
        assert_eq!(stands.as_deref(), Some(text.as_bytes()));
    }
}

fn a_marker_replaces_only_what_it_should(node: &mut dyn NodeUnderTest) {
    node.set(Location::Marker, Some(MARKER), None);
    for wrong in [None, Some(b"what others agreed on" as &[u8]), Some(b"what we agreed on ")] {
        let command = write(wrong, Duration::ZERO);
        let seen = node.unchanged(|node| node.read_marker(Some(&command), false)).expect("an answer");
        assert_eq!(seen.marker.as_deref(), Some("what we agreed on"), "the stored marker is reported");
    }
    let seen = node.read_marker(Some(&write(Some(MARKER), Duration::ZERO)), false).expect("an answer");
    assert!(seen.marker.is_some_and(|text| text.starts_with(&*identity())));
    node.reset();
    let seen = node.unchanged(|node| node.read_marker(Some(&write(Some(MARKER), Duration::ZERO)), false));
    assert_eq!(seen.expect("an answer").marker, None, "nothing is not what it may replace");
}

fn a_marker_may_be_set_back_in_time(node: &mut dyn NodeUnderTest) {
    let seen = node.read_marker(Some(&write(None, TTL)), false).expect("an answer");
    let marker = Marker::parse(&seen.marker.expect("a marker")).expect("one that can be read");
    assert_eq!(marker.since_micros, seen.micros - TTL.as_micros() as u64);
}

fn a_marker_has_no_expiry(node: &mut dyn NodeUnderTest) {
    node.set(Location::Marker, Some(MARKER), Some(TTL));
    node.read_marker(Some(&write(Some(MARKER), Duration::ZERO)), false).expect("an answer");
    assert_eq!(node.stored(Location::Marker).expect("a marker").ttl, None);
}

fn a_marker_of_another_type_is_none_of_ours(node: &mut dyn NodeUnderTest) {
    node.set(Location::Marker, None, None);
    for command in [None, Some(write(None, Duration::ZERO))] {
        let seen = node.unchanged(|node| node.read_marker(command.as_ref(), false)).expect("an answer");
        assert!(seen.marker.is_some_and(|marker| Marker::parse(&marker).is_none()));
    }
}

fn evicting_is_told_and_is_another_incarnation(node: &mut dyn NodeUnderTest) {
    let before = reading(node);
    node.set_evicts(true);
    let evicting = reading(node);
    assert!(evicting.evicts && evicting.incarnation != before.incarnation);
    node.set_evicts(false);
    let after = reading(node);
    assert!(!after.evicts && after.incarnation != evicting.incarnation);
}

fn what_was_evicted_is_another_incarnation(node: &mut dyn NodeUnderTest) {
    let before = reading(node);
    node.evict();
    let once = reading(node);
    node.evict();
    let [before, once, twice] = [before, once, reading(node)].map(|reading| reading.incarnation);
    assert!(once != before && twice != once && twice != before, "{once:?}");
}

fn a_database_that_was_swapped_is_another_incarnation(node: &mut dyn NodeUnderTest) {
    let before = node.read_marker(Some(&write(None, Duration::ZERO)), false).expect("an answer");
    node.swap_there_and_back();
    let after = reading(node);
    assert_eq!(after.marker, before.marker, "it came back with its data");
    assert_ne!(after.incarnation, before.incarnation);
    node.reset();
    assert_ne!(reading(node).incarnation, after.incarnation, "a flush is one, too");
}

fn another_process_is_another_incarnation(node: &mut dyn NodeUnderTest) {
    let before = node.read_marker(Some(&write(None, Duration::ZERO)), false).expect("an answer");
    node.restart();
    // Some versions keep scripts among their data, so the text comes along.
    let after = node.read_marker(None, true).expect("an answer");
    assert_eq!(after.marker, before.marker, "it kept its data");
    let run =
        |reading: &MarkerReading| reading.incarnation.as_str().split_once(':').map(|(run, _)| run.to_owned());
    assert_ne!(run(&after), run(&before));
}

fn another_role_is_another_incarnation(node: &mut dyn NodeUnderTest) {
    let before = reading(node);
    node.change_role();
    let after = reading(node);
    let halves = |reading: &MarkerReading| {
        let mut parts = reading.incarnation.as_str().split(':').map(str::to_owned);
        (parts.next(), parts.next().expect("a replication id"))
    };
    assert_eq!(halves(&after).0, halves(&before).0);
    assert_ne!(halves(&after).1, halves(&before).1);
}

fn a_look_that_is_not_known_writes_nothing_until_it_comes_as_text(node: &mut dyn NodeUnderTest) {
    node.flush_scripts();
    let command = write(None, Duration::ZERO);
    let unknown = Err(Vote::Unknown(ReplyFailure::NoScript));
    assert_eq!(node.unchanged(|node| node.read_marker(Some(&command), false)), unknown);
    assert!(node.read_marker(Some(&command), true).expect("an answer").marker.is_some());
    assert!(node.read_marker(None, false).expect("it is known from then on").marker.is_some());
}

/// A marker of ours, of which nothing else is of interest.
fn set_marker(node: &mut dyn NodeUnderTest) {
    node.set(Location::Marker, Some(format!("{} a:b 1 1 0", identity()).as_bytes()), None);
}

fn noted(node: &mut dyn NodeUnderTest) -> Option<u64> {
    let clock = node.stored(Location::Clock)?;
    assert_eq!(clock.ttl, None, "it is kept");
    String::from_utf8(clock.value?).ok()?.parse().ok()
}

/// A quarter of the max ttl of these nodes.
const NOTE_EVERY: u64 = 7_500_000;

fn the_clock_is_noted_now_and_then_and_told_as_it_was_before(node: &mut dyn NodeUnderTest) {
    set_marker(node);
    let first = reading(node);
    assert_eq!((first.latest_micros, noted(node)), (0, Some(first.micros)));
    let again = node.unchanged(reading);
    assert_eq!(again.latest_micros, first.micros, "it was noted just now");
    for (ago, is_noted) in [(NOTE_EVERY / 2, false), (NOTE_EVERY, true), (NOTE_EVERY * 1_000, true)] {
        let before = node.clock_micros() - ago;
        node.set(Location::Clock, Some(before.to_string().as_bytes()), None);
        let seen = reading(node);
        assert_eq!(seen.latest_micros, before);
        assert_eq!(noted(node), Some(if is_noted { seen.micros } else { before }), "{ago} us ago");
    }
    node.reset();
    let written = node.read_marker(Some(&write(None, Duration::ZERO)), false).expect("an answer");
    assert_eq!(noted(node), Some(written.micros), "under a marker that was written just now, too");
}

fn a_clock_that_was_set_back_is_noted_for_how_far_it_had_come(node: &mut dyn NodeUnderTest) {
    set_marker(node);
    for ahead in [1_000_000_000, 86_400_000_000, 365 * 86_400_000_000] {
        let latest = node.clock_micros() + ahead;
        node.set(Location::Clock, Some(latest.to_string().as_bytes()), None);
        assert_eq!(node.unchanged(reading).latest_micros, latest);
    }
}

fn what_is_no_clock_is_none(node: &mut dyn NodeUnderTest) {
    let junk: [Option<&[u8]>; 8] = [
        Some(b""),
        Some(b"noon"),
        Some(b"1.5"),
        Some(b"-7"),
        Some(b"inf"),
        Some(b"nan"),
        Some(b"9007199254740991"),
        None,
    ];
    for value in junk {
        set_marker(node);
        node.set(Location::Clock, value, None);
        let seen = reading(node);
        assert_eq!((seen.latest_micros, noted(node)), (0, Some(seen.micros)), "{value:?}");
    }
}

fn nothing_is_noted_under_a_marker_of_others(node: &mut dyn NodeUnderTest) {
    for marker in [None, Some(MARKER), Some(b"quorlock2 00ab 5 4 30000 a:b 1 1" as &[u8])] {
        node.reset();
        if marker.is_some() {
            node.set(Location::Marker, marker, None);
        }
        assert_eq!(reading(node).latest_micros, 0);
        assert_eq!(node.stored(Location::Clock), None);
    }
}
