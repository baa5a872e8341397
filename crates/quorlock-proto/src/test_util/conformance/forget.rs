//! The script `forget`: the number of a free key goes when the clock has passed it.

use std::time::Duration;

use super::{Location, NodeUnderTest, OTHER_TOKEN, OWN_TOKEN, TTL, assert_held, config, promises, request};
use crate::membership::ExpectedMarker;
use crate::request::RequestKind;
use crate::vote::{ReplyFailure, Vote};

promises![
    a_number_that_the_clock_has_passed_is_gone_at_once,
    a_number_that_the_clock_has_not_passed_goes_when_it_has,
    nothing_is_kept_longer_for_it,
    what_is_held_is_not_forgotten,
    where_nothing_is_known_there_is_nothing_to_forget,
    what_is_no_number_is_gone_at_once,
    a_node_forgets_on_its_own_terms_only,
    a_forget_that_is_not_known_does_nothing_until_it_comes_as_text,
];

fn forget(node: &mut (dyn NodeUnderTest + '_)) -> Vote {
    // No handshake loads it.
    let expected_marker = node.expected_marker();
    let (vote, clock) = node.request(&request(RequestKind::Forget, None), Some(&expected_marker), true);
    assert_eq!(clock.is_some(), !matches!(vote, Vote::Unknown(_)), "it tells the clock, as ballots do");
    vote
}

fn a_number_that_the_clock_has_passed_is_gone_at_once(node: &mut dyn NodeUnderTest) {
    let passed = config().forget_after().as_micros() as u64 + 1_000;
    for ago in [passed, 3_600_000_000] {
        let number = node.clock_micros() - ago;
        node.set_fence(number);
        assert_eq!(forget(node), Vote::Granted);
        assert_eq!(node.stored(Location::Fence), None);
    }
}

fn a_number_that_the_clock_has_not_passed_goes_when_it_has(node: &mut dyn NodeUnderTest) {
    for ahead in [0, 3_600_000_000, 365 * 86_400_000_000] {
        for life in [None, Some(Duration::from_secs(86_400))] {
            let number = node.clock_micros() + ahead;
            node.set(Location::Fence, Some(number.to_string().as_bytes()), life);
            for _again in 0..2 {
                assert_eq!(forget(node), Vote::Granted);
                let fence = node.stored(Location::Fence).expect("not yet");
                assert_eq!(fence.value, Some(number.to_string().into_bytes()));
                let left = config().forget_after();
                // To the second: much less than the slack of other cases.
                let off = fence.ttl.expect("an end").abs_diff(left);
                assert!(off < Duration::from_secs(10), "{off:?} off {left:?}");
            }
        }
    }
}

fn nothing_is_kept_longer_for_it(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    let (number, life) = (node.clock_micros() + 3_600_000_000, Duration::from_secs(15));
    node.set(Location::Fence, Some(number.to_string().as_bytes()), Some(life));
    assert_eq!(forget(node), Vote::Granted);
    let left = node.stored(Location::Fence).and_then(|fence| fence.ttl).expect("an end");
    assert!(left <= life, "{left:?}");
}

fn what_is_held_is_not_forgotten(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    for value in [Some(&OTHER_TOKEN.digits()[..]), Some(&OWN_TOKEN.digits()[..]), None] {
        for life in [None, Some(TTL / 2)] {
            node.set(Location::Lock, value, life);
            node.set_fence(7);
            assert_held(&node.unchanged(forget), life);
        }
    }
}

fn where_nothing_is_known_there_is_nothing_to_forget(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    assert_eq!(node.unchanged(forget), Vote::NotHeld);
    node.set(Location::Fence, Some(b"7"), Some(Duration::from_millis(20)));
    node.wait(Duration::from_millis(50));
    assert_eq!(forget(node), Vote::NotHeld);
}

/// It was not made by us, and is in the way of every lock of this name.
fn what_is_no_number_is_gone_at_once(node: &mut dyn NodeUnderTest) {
    let junk = ["", "x", "1.5", "nan", "inf", "-inf", "1e300", "9007199254740991", "-5"];
    for value in junk.map(|text| Some(text.as_bytes())).into_iter().chain([None]) {
        node.set(Location::Fence, value, None);
        assert_eq!(forget(node), Vote::Granted);
        assert_eq!(node.stored(Location::Fence), None, "{value:?}");
    }
}

/// Others may have agreed on longer locks, whose holders would not know yet that they have lost them.
fn a_node_forgets_on_its_own_terms_only(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    node.set_fence(7);
    let theirs = ExpectedMarker {
        marker: "what others agreed on".into(),
        votes_from_micros: 0,
        fencing_numbers_above: 0,
    };
    for expected_marker in [None, Some(&theirs)] {
        let (vote, _) =
            node.unchanged(|node| node.request(&request(RequestKind::Forget, None), expected_marker, true));
        assert_eq!(vote, Vote::Unknown(ReplyFailure::MarkerMismatch));
    }
    // On probation, too: what it has forgotten already does no harm.
    let expected_marker = ExpectedMarker { votes_from_micros: u64::MAX / 2, ..node.expected_marker() };
    assert_eq!(
        node.request(&request(RequestKind::Forget, None), Some(&expected_marker), true).0,
        Vote::Granted
    );
}

fn a_forget_that_is_not_known_does_nothing_until_it_comes_as_text(node: &mut dyn NodeUnderTest) {
    node.set_fence(7);
    node.flush_scripts();
    let expected_marker = node.expected_marker();
    let (vote, _) = node
        .unchanged(|node| node.request(&request(RequestKind::Forget, None), Some(&expected_marker), false));
    assert_eq!(vote, Vote::Unknown(ReplyFailure::NoScript));
    assert_eq!(forget(node), Vote::Granted);
}
