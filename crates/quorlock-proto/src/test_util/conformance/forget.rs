//! The script `forget`: it removes the fence of a free key when the clock has passed it.

use std::time::Duration;

use super::{
    Location, NodeUnderTest, OTHER_TOKEN, OWN_TOKEN, TTL, assert_held_by_other, cases, config, request,
};
use crate::membership::ExpectedMarker;
use crate::request::RequestKind;
use crate::vote::{ReplyFailure, Vote};

cases![
    a_fence_that_the_clock_has_passed_is_forgotten_at_once,
    a_fence_ahead_of_the_clock_expires_when_the_clock_has_passed_it,
    a_forget_never_extends_the_ttl_of_a_fence,
    the_fence_of_a_held_key_is_not_forgotten,
    without_a_fence_there_is_nothing_to_forget,
    a_fence_that_is_not_a_number_is_forgotten_at_once,
    a_node_with_another_marker_forgets_nothing,
    an_unknown_forget_script_does_nothing_until_sent_as_text,
];

fn forget(node: &mut (dyn NodeUnderTest + '_)) -> Vote {
    // The handshake does not load this script.
    let expected_marker = node.expected_marker();
    let (vote, clock) = node.request(&request(RequestKind::Forget, None), Some(&expected_marker), true);
    assert_eq!(
        clock.is_some(),
        !matches!(vote, Vote::Unknown(_)),
        "the reply contains the clock, as fenced replies do"
    );
    vote
}

fn a_fence_that_the_clock_has_passed_is_forgotten_at_once(node: &mut dyn NodeUnderTest) {
    let passed = config().forget_after().as_micros() as u64 + 1_000;
    for ago in [passed, 3_600_000_000] {
        let number = node.clock_micros() - ago;
        node.set_fence(number);
        assert_eq!(forget(node), Vote::Granted);
        assert_eq!(node.stored(Location::Fence), None);
    }
}

fn a_fence_ahead_of_the_clock_expires_when_the_clock_has_passed_it(node: &mut dyn NodeUnderTest) {
    for ahead in [0, 3_600_000_000, 365 * 86_400_000_000] {
        for ttl in [None, Some(Duration::from_secs(86_400))] {
            let number = node.clock_micros() + ahead;
            node.set(Location::Fence, Some(number.to_string().as_bytes()), ttl);
            for _again in 0..2 {
                assert_eq!(forget(node), Vote::Granted);
                let fence = node.stored(Location::Fence).expect("a fence, not forgotten yet");
                assert_eq!(fence.value, Some(number.to_string().into_bytes()));
                let left = config().forget_after();
                // A tolerance of 10 s, much less than in other cases.
                let off = fence.ttl.expect("a ttl").abs_diff(left);
                assert!(off < Duration::from_secs(10), "{off:?} off {left:?}");
            }
        }
    }
}

fn a_forget_never_extends_the_ttl_of_a_fence(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    let (number, ttl) = (node.clock_micros() + 3_600_000_000, Duration::from_secs(15));
    node.set(Location::Fence, Some(number.to_string().as_bytes()), Some(ttl));
    assert_eq!(forget(node), Vote::Granted);
    let left = node.stored(Location::Fence).and_then(|fence| fence.ttl).expect("a ttl");
    assert!(left <= ttl, "{left:?}");
}

fn the_fence_of_a_held_key_is_not_forgotten(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    for value in [Some(&OTHER_TOKEN.digits()[..]), Some(&OWN_TOKEN.digits()[..]), None] {
        for ttl in [None, Some(TTL / 2)] {
            node.set(Location::Lock, value, ttl);
            node.set_fence(7);
            assert_held_by_other(&node.assert_unchanged(forget), ttl);
        }
    }
}

fn without_a_fence_there_is_nothing_to_forget(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    assert_eq!(node.assert_unchanged(forget), Vote::NotHeld);
    node.set(Location::Fence, Some(b"7"), Some(Duration::from_millis(20)));
    node.wait(Duration::from_millis(50));
    assert_eq!(forget(node), Vote::NotHeld);
}

/// Such a fence was written by other software, and stops every lock with this name.
fn a_fence_that_is_not_a_number_is_forgotten_at_once(node: &mut dyn NodeUnderTest) {
    let invalid = ["", "x", "1.5", "nan", "inf", "-inf", "1e300", "9007199254740991", "-5"];
    for value in invalid.map(|text| Some(text.as_bytes())).into_iter().chain([None]) {
        node.set(Location::Fence, value, None);
        assert_eq!(forget(node), Vote::Granted);
        assert_eq!(node.stored(Location::Fence), None, "{value:?}");
    }
}

/// Another lock cluster may have a longer max ttl: its holders would not know yet that they lost their locks.
fn a_node_with_another_marker_forgets_nothing(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    node.set_fence(7);
    let other =
        ExpectedMarker { marker: "another marker".into(), votes_from_micros: 0, fencing_numbers_above: 0 };
    for expected_marker in [None, Some(&other)] {
        let (vote, _) = node.assert_unchanged(|node| {
            node.request(&request(RequestKind::Forget, None), expected_marker, true)
        });
        assert_eq!(vote, Vote::Unknown(ReplyFailure::MarkerMismatch));
    }
    // Also on probation: fences that are lost already do not matter.
    let expected_marker = ExpectedMarker { votes_from_micros: u64::MAX / 2, ..node.expected_marker() };
    assert_eq!(
        node.request(&request(RequestKind::Forget, None), Some(&expected_marker), true).0,
        Vote::Granted
    );
}

fn an_unknown_forget_script_does_nothing_until_sent_as_text(node: &mut dyn NodeUnderTest) {
    node.set_fence(7);
    node.flush_scripts();
    let expected_marker = node.expected_marker();
    let (vote, _) = node.assert_unchanged(|node| {
        node.request(&request(RequestKind::Forget, None), Some(&expected_marker), false)
    });
    assert_eq!(vote, Vote::Unknown(ReplyFailure::NoScript));
    assert_eq!(forget(node), Vote::Granted);
}
