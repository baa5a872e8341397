//! The script `acquire`: a free key, and a number above every earlier one.

use std::time::Duration;

use super::{
    KEEP, LAST_NUMBER, Location, NodeUnderTest, OTHER_TOKEN, OWN_TOKEN, TTL, assert_about, assert_held,
    assert_refused, promises, request,
};
use crate::fence::{Fence, MAX_MIN_FENCING_NUMBER, TOLERANCE_MICROS};
use crate::membership::ExpectedMarker;
use crate::request::RequestKind;
use crate::vote::{ReplyFailure, Vote};

promises![
    a_grant_takes_the_key_and_gives_a_number,
    a_hint_is_taken_within_its_window,
    a_fence_that_has_run_out_is_none,
    a_number_is_above_the_fence,
    a_number_is_above_the_floor,
    a_number_is_above_the_end_of_the_probation,
    a_number_is_above_what_the_marker_says,
    where_no_fence_is_left_a_number_is_above_every_one_that_was_ahead_of_the_clock,
    large_numbers_stay_exact,
    what_is_held_is_told_with_what_is_left,
    a_key_that_has_run_out_is_granted,
    a_fence_at_the_end_of_numbers_is_an_error,
    a_fence_that_is_no_number_is_an_error,
    a_fence_of_another_type_is_an_error,
    a_fence_is_read_as_lua_reads_it,
];

/// Whether the hint was taken: above everything, and not too far ahead of the clock in the reply.
fn expected(base: u64, hint: u64, clock: u64) -> u64 {
    if hint > base && hint <= clock + TOLERANCE_MICROS { hint } else { base + 1 }
}

fn grant(node: &mut dyn NodeUnderTest, hint: u64, floor: u64) -> (u64, u64) {
    let (vote, clock) = node.timed(RequestKind::Acquire, Fence::Hint { hint, floor });
    let Vote::Fenced(number) = vote else { panic!("{vote:?}") };
    node.assert_locked(TTL);
    node.assert_fence(number);
    (number, clock.expect("a clock"))
}

fn again(node: &mut dyn NodeUnderTest) {
    assert_eq!(node.plain(RequestKind::Release), Vote::Granted);
}

fn a_grant_takes_the_key_and_gives_a_number(node: &mut dyn NodeUnderTest) {
    let hint = node.clock_micros();
    let (number, clock) = grant(node, hint, 0);
    assert_eq!(number, expected(clock - TOLERANCE_MICROS, hint, clock));
    assert_eq!(node.stored(Location::Marker).and_then(|marker| marker.ttl), None);
}

fn a_hint_is_taken_within_its_window(node: &mut dyn NodeUnderTest) {
    for ahead in
        [-3_600_000_000, -260_000, -100_000, -1, 0, 1, 100_000, 200_000, 3_600_000_000, 86_400_000_000_i64]
    {
        node.reset();
        let hint = node.clock_micros().saturating_add_signed(ahead);
        let (number, clock) = grant(node, hint, 0);
        assert_eq!(number, expected(clock - TOLERANCE_MICROS, hint, clock), "{ahead} µs");
    }
    for hint in [0, 1, LAST_NUMBER] {
        node.reset();
        let (number, clock) = grant(node, hint, 0);
        assert_eq!(number, clock - TOLERANCE_MICROS + 1, "{hint}");
    }
}

fn a_fence_that_has_run_out_is_none(node: &mut dyn NodeUnderTest) {
    node.set(Location::Fence, Some(b"9000000000000000"), Some(Duration::from_millis(20)));
    node.wait(Duration::from_millis(50));
    let (number, clock) = grant(node, 0, 0);
    assert_eq!(number, clock - TOLERANCE_MICROS + 1);
}

fn a_number_is_above_the_fence(node: &mut dyn NodeUnderTest) {
    let now = node.clock_micros();
    for last in [0, 7, now - 3_600_000_000, now + 3_600_000_000] {
        for hint in [0, last, last + 1, last + 2, now, LAST_NUMBER] {
            node.reset();
            node.set_fence(last);
            let (number, clock) = grant(node, hint, 0);
            assert_eq!(number, expected(last, hint, clock), "above {last}, with the hint {hint}");
        }
    }
}

fn a_number_is_above_the_floor(node: &mut dyn NodeUnderTest) {
    let now = node.clock_micros();
    for floor in [1, now - 3_600_000_000, now + 3_600_000_000, MAX_MIN_FENCING_NUMBER] {
        for last in [None, Some(7), Some(now + 1_800_000_000), Some(MAX_MIN_FENCING_NUMBER + 5)] {
            for hint in [0, floor + 1, now] {
                node.reset();
                if let Some(last) = last {
                    node.set_fence(last);
                }
                let (number, clock) = grant(node, hint, floor);
                let base = last.unwrap_or(clock - TOLERANCE_MICROS).max(floor);
                assert_eq!(number, expected(base, hint, clock), "{last:?}, floor {floor}, hint {hint}");
            }
        }
    }
}

fn a_number_is_above_the_end_of_the_probation(node: &mut dyn NodeUnderTest) {
    for last in [None, Some(7)] {
        node.reset();
        if let Some(last) = last {
            node.set_fence(last);
        }
        let votes_from_micros = node.clock_micros();
        let expected_marker = ExpectedMarker {
            votes_from_micros,
            fencing_numbers_above: votes_from_micros,
            ..node.expected_marker()
        };
        let request = request(RequestKind::Acquire, Some(Fence::Hint { hint: votes_from_micros, floor: 0 }));
        let (vote, clock) = node.request(&request, Some(&expected_marker), false);
        let base = clock.expect("a clock").saturating_sub(TOLERANCE_MICROS).max(votes_from_micros);
        assert_eq!(vote, Vote::Fenced(base + 1));
        node.assert_fence(base + 1);
    }
}

/// So far had the clock come before it was set back.
fn a_number_is_above_what_the_marker_says(node: &mut dyn NodeUnderTest) {
    let now = node.clock_micros();
    for numbers_above in [now - 3_600_000_000, now + 3_600_000_000, MAX_MIN_FENCING_NUMBER] {
        for last in [None, Some(7), Some(now + 1_800_000_000)] {
            for (hint, floor) in [(0, 0), (now, 0), (numbers_above + 2, numbers_above + 1)] {
                node.reset();
                if let Some(last) = last {
                    node.set_fence(last);
                }
                let expected_marker =
                    ExpectedMarker { fencing_numbers_above: numbers_above, ..node.expected_marker() };
                let request = request(RequestKind::Acquire, Some(Fence::Hint { hint, floor }));
                let (vote, clock) = node.request(&request, Some(&expected_marker), false);
                let clock = clock.expect("a clock");
                let base = last.unwrap_or(clock - TOLERANCE_MICROS).max(floor).max(numbers_above);
                let number = expected(base, hint, clock);
                assert_eq!(vote, Vote::Fenced(number), "{last:?}, hint {hint}, floor {floor}");
                node.assert_fence(number);
            }
        }
    }
}

/// Of whichever key: its fence is gone after a while, and the clock may not have come so far.
fn where_no_fence_is_left_a_number_is_above_every_one_that_was_ahead_of_the_clock(
    node: &mut dyn NodeUnderTest,
) {
    let ahead = node.clock_micros() + 3_600_000_000;
    node.set_fence(ahead);
    assert_eq!(grant(node, 0, 0).0, ahead + 1, "what makes it known");
    again(node);
    node.set(Location::Fence, Some(b"7"), Some(TTL));
    let (number, clock) = grant(node, 0, 0);
    assert_eq!(number, 8, "a key has its own while it is remembered; {clock}");
    again(node);
    node.set(Location::Fence, Some(b"7"), Some(Duration::from_millis(1)));
    node.wait(Duration::from_millis(20));
    assert_eq!(grant(node, 0, 0).0, ahead + 2);
    again(node);
    for (junk, base) in
        [("noon", None), ("inf", None), ("nan", None), ("1e300", None), ("7", None), ("-7", None)]
    {
        node.reset();
        node.set(Location::HighestAheadOfClock, Some(junk.as_bytes()), None);
        let (number, clock) = grant(node, 0, 0);
        assert_eq!(number, base.unwrap_or(clock - TOLERANCE_MICROS) + 1, "{junk}");
    }
}

fn large_numbers_stay_exact(node: &mut dyn NodeUnderTest) {
    for last in [MAX_MIN_FENCING_NUMBER, LAST_NUMBER - 4, LAST_NUMBER - 3, LAST_NUMBER - 2] {
        node.reset();
        node.set_fence(last);
        let (number, _) = grant(node, last, 0);
        assert_eq!(number, last + 1);
        again(node);
        let (number, _) = grant(node, 0, last);
        assert_eq!(number, last + 2);
        assert_eq!(
            node.fenced_script(RequestKind::RaiseFence, Fence::Number(last + 1)),
            Vote::FencedOut { fence: last + 2 }
        );
        assert_eq!(node.fenced_script(RequestKind::RaiseFence, Fence::Number(last + 2)), Vote::Granted);
    }
}

fn what_is_held_is_told_with_what_is_left(node: &mut dyn NodeUnderTest) {
    let hint = Fence::Hint { hint: 5_000, floor: 0 };
    for value in [Some(&OTHER_TOKEN.digits()[..]), Some(&OWN_TOKEN.digits()[..]), None] {
        for life in [None, Some(TTL / 2)] {
            for fence in [None, Some(7)] {
                node.reset();
                node.expected_marker();
                node.set(Location::Lock, value, life);
                if let Some(number) = fence {
                    node.set_fence(number);
                }
                assert_held(&node.unchanged(|node| node.fenced_script(RequestKind::Acquire, hint)), life);
            }
        }
    }
}

fn a_key_that_has_run_out_is_granted(node: &mut dyn NodeUnderTest) {
    node.set_lock(OTHER_TOKEN, Some(Duration::from_millis(20)));
    node.set_fence(7);
    node.wait(Duration::from_millis(50));
    let (number, _) = grant(node, 0, 0);
    assert_eq!(number, 8);
}

fn a_fence_at_the_end_of_numbers_is_an_error(node: &mut dyn NodeUnderTest) {
    for last in ["9007199254740991", "9007199254740992", "18446744073709551615", "1e300", "inf"] {
        is_refused_with_fence(node, Some(last.as_bytes()));
    }
}

fn a_fence_that_is_no_number_is_an_error(node: &mut dyn NodeUnderTest) {
    for last in ["", "x", "7x", "1.5", "nan", "-inf", "--7", "7 7", "1e", "\0"] {
        is_refused_with_fence(node, Some(last.as_bytes()));
    }
}

fn a_fence_of_another_type_is_an_error(node: &mut dyn NodeUnderTest) {
    is_refused_with_fence(node, None);
}

/// The key is not there then, and the fence is what it was.
fn is_refused_with_fence(node: &mut dyn NodeUnderTest, fence: Option<&[u8]>) {
    node.reset();
    node.set(Location::Fence, fence, Some(TTL));
    let (vote, clock) = node.timed(RequestKind::Acquire, Fence::Hint { hint: LAST_NUMBER, floor: 0 });
    assert_refused(&vote);
    if fence.is_some() {
        let Vote::Unknown(ReplyFailure::TransientError(words)) = vote else { return };
        assert!(words.starts_with("FENCE"), "{words}");
    }
    assert_eq!((clock, node.stored(Location::Lock)), (None, None));
    let left = node.stored(Location::Fence).expect("a fence");
    assert_eq!(left.value.as_deref(), fence);
    // A text has been written back, and is kept as fences are.
    assert_about(left.ttl, Some(if fence.is_some() { KEEP } else { TTL }));
}

/// What others wrote there. It is replaced by plain digits.
fn a_fence_is_read_as_lua_reads_it(node: &mut dyn NodeUnderTest) {
    for (last, number) in [(" 7 ", 8), ("0x10", 17), ("1e3", 1_001), ("7.0", 8), ("+7", 8), ("007", 8)] {
        node.reset();
        node.set(Location::Fence, Some(last.as_bytes()), None);
        let (given, _) = grant(node, 0, 0);
        assert_eq!(given, number, "after {last:?}");
    }
    node.reset();
    node.set(Location::Fence, Some(b"-5"), None);
    assert_eq!(grant(node, 0, 0).0, 1, "and never below 1");
}
