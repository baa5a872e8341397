//! The script `acquire_fenced`: it sets a free key and gives it a fencing number above every earlier one.

use std::time::Duration;

use super::{
    FENCE_RETENTION, Location, MAX_FENCE, NodeUnderTest, OTHER_TOKEN, OWN_TOKEN, TTL, assert_about,
    assert_error, assert_held_by_other, cases, request,
};
use crate::fence::{CLOCK_TOLERANCE_MICROS, Fence, MAX_MIN_FENCING_NUMBER};
use crate::membership::ExpectedMarker;
use crate::request::RequestKind;
use crate::vote::{ReplyFailure, Vote};

cases![
    a_grant_sets_the_key_and_returns_a_fencing_number,
    a_hint_is_used_only_within_its_window,
    an_expired_fence_counts_as_none,
    a_fencing_number_is_above_the_fence,
    a_fencing_number_is_above_the_minimum,
    a_fencing_number_is_above_the_end_of_probation,
    a_fencing_number_is_above_the_base_in_the_marker,
    without_a_fence_a_number_is_above_every_earlier_one_ahead_of_the_clock,
    large_fencing_numbers_are_exact,
    a_held_key_is_reported_with_its_remaining_ttl,
    an_expired_key_is_granted,
    a_fence_at_the_maximum_is_an_error,
    a_fence_that_is_not_a_number_is_an_error,
    a_fence_of_another_type_is_an_error,
    a_fence_is_parsed_as_lua_parses_it,
];

/// The expected fencing number: the hint if it is above `base` and not too far ahead of the clock in the
/// reply.
fn expected_number(base: u64, hint: u64, clock: u64) -> u64 {
    if hint > base && hint <= clock + CLOCK_TOLERANCE_MICROS { hint } else { base + 1 }
}

fn grant(node: &mut dyn NodeUnderTest, hint: u64, min_fencing_number: u64) -> (u64, u64) {
    let (vote, clock) = node.fenced_request(RequestKind::Acquire, Fence::Hint { hint, min_fencing_number });
    let Vote::Fenced(number) = vote else { panic!("{vote:?}") };
    node.assert_locked(TTL);
    node.assert_fence(number);
    (number, clock.expect("a clock"))
}

fn release(node: &mut dyn NodeUnderTest) {
    assert_eq!(node.plain_vote(RequestKind::Release), Vote::Granted);
}

fn a_grant_sets_the_key_and_returns_a_fencing_number(node: &mut dyn NodeUnderTest) {
    let hint = node.clock_micros();
    let (number, clock) = grant(node, hint, 0);
    assert_eq!(number, expected_number(clock - CLOCK_TOLERANCE_MICROS, hint, clock));
    assert_eq!(node.stored(Location::Marker).and_then(|marker| marker.ttl), None);
}

fn a_hint_is_used_only_within_its_window(node: &mut dyn NodeUnderTest) {
    for ahead in
        [-3_600_000_000, -260_000, -100_000, -1, 0, 1, 100_000, 200_000, 3_600_000_000, 86_400_000_000_i64]
    {
        node.reset();
        let hint = node.clock_micros().saturating_add_signed(ahead);
        let (number, clock) = grant(node, hint, 0);
        assert_eq!(number, expected_number(clock - CLOCK_TOLERANCE_MICROS, hint, clock), "{ahead} µs");
    }
    for hint in [0, 1, MAX_FENCE] {
        node.reset();
        let (number, clock) = grant(node, hint, 0);
        assert_eq!(number, clock - CLOCK_TOLERANCE_MICROS + 1, "{hint}");
    }
}

fn an_expired_fence_counts_as_none(node: &mut dyn NodeUnderTest) {
    node.set(Location::Fence, Some(b"9000000000000000"), Some(Duration::from_millis(20)));
    node.wait(Duration::from_millis(50));
    let (number, clock) = grant(node, 0, 0);
    assert_eq!(number, clock - CLOCK_TOLERANCE_MICROS + 1);
}

fn a_fencing_number_is_above_the_fence(node: &mut dyn NodeUnderTest) {
    let now = node.clock_micros();
    for last in [0, 7, now - 3_600_000_000, now + 3_600_000_000] {
        for hint in [0, last, last + 1, last + 2, now, MAX_FENCE] {
            node.reset();
            node.set_fence(last);
            let (number, clock) = grant(node, hint, 0);
            assert_eq!(number, expected_number(last, hint, clock), "fence {last}, hint {hint}");
        }
    }
}

fn a_fencing_number_is_above_the_minimum(node: &mut dyn NodeUnderTest) {
    let now = node.clock_micros();
    for min_fencing_number in [1, now - 3_600_000_000, now + 3_600_000_000, MAX_MIN_FENCING_NUMBER] {
        for last in [None, Some(7), Some(now + 1_800_000_000), Some(MAX_MIN_FENCING_NUMBER + 5)] {
            for hint in [0, min_fencing_number + 1, now] {
                node.reset();
                if let Some(last) = last {
                    node.set_fence(last);
                }
                let (number, clock) = grant(node, hint, min_fencing_number);
                let base = last.unwrap_or(clock - CLOCK_TOLERANCE_MICROS).max(min_fencing_number);
                assert_eq!(
                    number,
                    expected_number(base, hint, clock),
                    "{last:?}, min {min_fencing_number}, hint {hint}"
                );
            }
        }
    }
}

fn a_fencing_number_is_above_the_end_of_probation(node: &mut dyn NodeUnderTest) {
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
        let request = request(
            RequestKind::Acquire,
            Some(Fence::Hint { hint: votes_from_micros, min_fencing_number: 0 }),
        );
        let (vote, clock) = node.request(&request, Some(&expected_marker), false);
        let base = clock.expect("a clock").saturating_sub(CLOCK_TOLERANCE_MICROS).max(votes_from_micros);
        assert_eq!(vote, Vote::Fenced(base + 1));
        node.assert_fence(base + 1);
    }
}

/// The base is the largest time of the clock before it was set back.
fn a_fencing_number_is_above_the_base_in_the_marker(node: &mut dyn NodeUnderTest) {
    let now = node.clock_micros();
    for fencing_numbers_above in [now - 3_600_000_000, now + 3_600_000_000, MAX_MIN_FENCING_NUMBER] {
        for last in [None, Some(7), Some(now + 1_800_000_000)] {
            for (hint, min_fencing_number) in
                [(0, 0), (now, 0), (fencing_numbers_above + 2, fencing_numbers_above + 1)]
            {
                node.reset();
                if let Some(last) = last {
                    node.set_fence(last);
                }
                let expected_marker = ExpectedMarker { fencing_numbers_above, ..node.expected_marker() };
                let request = request(RequestKind::Acquire, Some(Fence::Hint { hint, min_fencing_number }));
                let (vote, clock) = node.request(&request, Some(&expected_marker), false);
                let clock = clock.expect("a clock");
                let base = last
                    .unwrap_or(clock - CLOCK_TOLERANCE_MICROS)
                    .max(min_fencing_number)
                    .max(fencing_numbers_above);
                let number = expected_number(base, hint, clock);
                assert_eq!(vote, Vote::Fenced(number), "{last:?}, hint {hint}, min {min_fencing_number}");
                node.assert_fence(number);
            }
        }
    }
}

/// Earlier numbers of any key count: their fences expire, maybe before the clock reaches them.
fn without_a_fence_a_number_is_above_every_earlier_one_ahead_of_the_clock(node: &mut dyn NodeUnderTest) {
    let ahead = node.clock_micros() + 3_600_000_000;
    node.set_fence(ahead);
    assert_eq!(grant(node, 0, 0).0, ahead + 1, "the fence is stored as the highest number");
    release(node);
    node.set(Location::Fence, Some(b"7"), Some(TTL));
    let (number, clock) = grant(node, 0, 0);
    assert_eq!(number, 8, "a fence of its own comes first; {clock}");
    release(node);
    node.set(Location::Fence, Some(b"7"), Some(Duration::from_millis(1)));
    node.wait(Duration::from_millis(20));
    assert_eq!(grant(node, 0, 0).0, ahead + 2);
    release(node);
    for (invalid, base) in
        [("noon", None), ("inf", None), ("nan", None), ("1e300", None), ("7", None), ("-7", None)]
    {
        node.reset();
        node.set(Location::HighestAheadOfClock, Some(invalid.as_bytes()), None);
        let (number, clock) = grant(node, 0, 0);
        assert_eq!(number, base.unwrap_or(clock - CLOCK_TOLERANCE_MICROS) + 1, "{invalid}");
    }
}

fn large_fencing_numbers_are_exact(node: &mut dyn NodeUnderTest) {
    for last in [MAX_MIN_FENCING_NUMBER, MAX_FENCE - 4, MAX_FENCE - 3, MAX_FENCE - 2] {
        node.reset();
        node.set_fence(last);
        let (number, _) = grant(node, last, 0);
        assert_eq!(number, last + 1);
        release(node);
        let (number, _) = grant(node, 0, last);
        assert_eq!(number, last + 2);
        assert_eq!(
            node.fenced_vote(RequestKind::RaiseFence, Fence::Number(last + 1)),
            Vote::FencedOut { fence: last + 2 }
        );
        assert_eq!(node.fenced_vote(RequestKind::RaiseFence, Fence::Number(last + 2)), Vote::Granted);
    }
}

fn a_held_key_is_reported_with_its_remaining_ttl(node: &mut dyn NodeUnderTest) {
    let hint = Fence::Hint { hint: 5_000, min_fencing_number: 0 };
    for value in [Some(&OTHER_TOKEN.digits()[..]), Some(&OWN_TOKEN.digits()[..]), None] {
        for ttl in [None, Some(TTL / 2)] {
            for fence in [None, Some(7)] {
                node.reset();
                node.expected_marker();
                node.set(Location::Lock, value, ttl);
                if let Some(number) = fence {
                    node.set_fence(number);
                }
                assert_held_by_other(
                    &node.assert_unchanged(|node| node.fenced_vote(RequestKind::Acquire, hint)),
                    ttl,
                );
            }
        }
    }
}

fn an_expired_key_is_granted(node: &mut dyn NodeUnderTest) {
    node.set_lock(OTHER_TOKEN, Some(Duration::from_millis(20)));
    node.set_fence(7);
    node.wait(Duration::from_millis(50));
    let (number, _) = grant(node, 0, 0);
    assert_eq!(number, 8);
}

fn a_fence_at_the_maximum_is_an_error(node: &mut dyn NodeUnderTest) {
    for last in ["9007199254740991", "9007199254740992", "18446744073709551615", "1e300", "inf"] {
        assert_acquire_fails_with_fence(node, Some(last.as_bytes()));
    }
}

fn a_fence_that_is_not_a_number_is_an_error(node: &mut dyn NodeUnderTest) {
    for last in ["", "x", "7x", "1.5", "nan", "-inf", "--7", "7 7", "1e", "\0"] {
        assert_acquire_fails_with_fence(node, Some(last.as_bytes()));
    }
}

fn a_fence_of_another_type_is_an_error(node: &mut dyn NodeUnderTest) {
    assert_acquire_fails_with_fence(node, None);
}

/// Asserts that an acquire with this fence fails, sets no key and keeps the fence.
fn assert_acquire_fails_with_fence(node: &mut dyn NodeUnderTest, fence: Option<&[u8]>) {
    node.reset();
    node.set(Location::Fence, fence, Some(TTL));
    let (vote, clock) =
        node.fenced_request(RequestKind::Acquire, Fence::Hint { hint: MAX_FENCE, min_fencing_number: 0 });
    assert_error(&vote);
    if fence.is_some() {
        let Vote::Unknown(ReplyFailure::TransientError(message)) = vote else { return };
        assert!(message.starts_with("FENCE"), "{message}");
    }
    assert_eq!((clock, node.stored(Location::Lock)), (None, None));
    let left = node.stored(Location::Fence).expect("a fence");
    assert_eq!(left.value.as_deref(), fence);
    // A text value is written back, and gets the retention of fences.
    assert_about(left.ttl, Some(if fence.is_some() { FENCE_RETENTION } else { TTL }));
}

/// A fence written by other software is replaced by plain digits.
fn a_fence_is_parsed_as_lua_parses_it(node: &mut dyn NodeUnderTest) {
    for (last, number) in [(" 7 ", 8), ("0x10", 17), ("1e3", 1_001), ("7.0", 8), ("+7", 8), ("007", 8)] {
        node.reset();
        node.set(Location::Fence, Some(last.as_bytes()), None);
        let (given, _) = grant(node, 0, 0);
        assert_eq!(given, number, "after {last:?}");
    }
    node.reset();
    node.set(Location::Fence, Some(b"-5"), None);
    assert_eq!(grant(node, 0, 0).0, 1, "never below 1");
}
