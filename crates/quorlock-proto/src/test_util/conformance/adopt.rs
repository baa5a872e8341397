//! The scripts `adopt` and `adopt_fenced`: they take a key from the previous owner, and from no other.

use std::time::Duration;

use super::{
    FENCE_RETENTION, Location, MAX_FENCE, NodeUnderTest, OTHER_TOKEN, OWN_TOKEN, PREVIOUS_NUMBER, TTL,
    assert_about, assert_error, assert_held_by_other, cases, request,
};
use crate::fence::{CLOCK_TOLERANCE_MICROS, Fence};
use crate::request::RequestKind;
use crate::vote::{ReplyFailure, Vote};

cases![
    a_key_of_the_previous_owner_is_adopted,
    a_missing_key_is_not_adopted,
    an_expired_key_is_not_adopted,
    a_key_of_another_owner_is_not_adopted,
    a_similar_token_is_not_that_of_the_previous_owner,
    a_key_is_adopted_once,
    an_adopted_key_is_not_renewed_or_released_by_its_previous_owner,
    an_adoption_gives_a_larger_fencing_number,
    an_adoption_without_a_fence_gives_a_number_above_the_clock_and_the_minimum,
    a_key_with_a_larger_fence_is_adopted_and_does_not_count,
    a_key_with_an_invalid_fence_is_not_adopted,
    the_largest_number_ahead_of_the_clock_is_stored,
];

/// Both kinds of adoption: plain and fenced.
const FENCES: [Option<Fence>; 2] = [None, Some(Fence::Hint { hint: 0, min_fencing_number: 0 })];

fn vote(node: &mut dyn NodeUnderTest, fence: Option<Fence>) -> Vote {
    match fence {
        None => node.plain_vote(RequestKind::Adopt),
        Some(fence) => node.fenced_vote(RequestKind::Adopt, fence),
    }
}

fn adopt_fenced(node: &mut dyn NodeUnderTest, hint: u64, min_fencing_number: u64) -> (Vote, u64) {
    let fence = Fence::Hint { hint, min_fencing_number };
    let (vote, clock) = node.fenced_request(RequestKind::Adopt, fence);
    (vote, clock.expect("a clock"))
}

fn a_key_of_the_previous_owner_is_adopted(node: &mut dyn NodeUnderTest) {
    for fence in FENCES {
        for ttl in [None, Some(TTL / 2), Some(TTL * 2)] {
            node.reset();
            node.set_lock(OTHER_TOKEN, ttl);
            assert!(vote(node, fence).is_grant(), "{fence:?}");
            // The deadline of the new owner counts from its own ttl.
            node.assert_locked(TTL);
        }
    }
}

fn a_missing_key_is_not_adopted(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    for fence in FENCES {
        assert_eq!(node.assert_unchanged(|node| vote(node, fence)), Vote::NotHeld, "{fence:?}");
        node.set_fence(PREVIOUS_NUMBER);
    }
    assert_eq!(node.assert_unchanged(|node| vote(node, FENCES[1])), Vote::NotHeld);
}

fn an_expired_key_is_not_adopted(node: &mut dyn NodeUnderTest) {
    for fence in FENCES {
        node.set_lock(OTHER_TOKEN, Some(Duration::from_millis(20)));
        node.wait(Duration::from_millis(50));
        assert_eq!(vote(node, fence), Vote::NotHeld, "{fence:?}");
        assert_eq!((node.stored(Location::Lock), node.stored(Location::Fence)), (None, None));
    }
}

fn a_key_of_another_owner_is_not_adopted(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    for value in [Some(&b"another owner"[..]), Some(&OWN_TOKEN.digits()[..]), Some(b""), None] {
        for ttl in [None, Some(TTL / 2)] {
            node.set(Location::Lock, value, ttl);
            let plain = node.assert_unchanged(|node| node.plain_vote(RequestKind::Adopt));
            assert_eq!(plain, Vote::HeldByOther { remaining: None });
            assert_held_by_other(&node.assert_unchanged(|node| vote(node, FENCES[1])), ttl);
        }
    }
}

fn a_similar_token_is_not_that_of_the_previous_owner(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    let digits = OTHER_TOKEN.digits();
    let mut longer = digits.to_vec();
    longer.push(0);
    for nearly in [&longer[..], &digits[..31], &digits.to_ascii_uppercase()] {
        node.set(Location::Lock, Some(nearly), Some(TTL));
        for fence in FENCES {
            let vote = node.assert_unchanged(|node| vote(node, fence));
            assert!(matches!(vote, Vote::HeldByOther { .. }), "{vote:?}");
        }
    }
}

/// A copy of the ticket finds the new owner's key.
fn a_key_is_adopted_once(node: &mut dyn NodeUnderTest) {
    for fence in FENCES {
        node.reset();
        node.expected_marker();
        node.set_lock(OTHER_TOKEN, Some(TTL));
        assert!(vote(node, fence).is_grant());
        let second = node.assert_unchanged(|node| vote(node, fence));
        assert!(matches!(second, Vote::HeldByOther { .. }), "{second:?}");
    }
}

fn an_adopted_key_is_not_renewed_or_released_by_its_previous_owner(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    node.set_lock(OTHER_TOKEN, Some(TTL));
    node.set_fence(PREVIOUS_NUMBER);
    assert!(vote(node, FENCES[1]).is_grant());
    for (kind, fence) in [
        (RequestKind::Release, None),
        (RequestKind::ReleaseAndNotify, None),
        (RequestKind::Renew, None),
        (RequestKind::Reacquire, None),
        (RequestKind::Renew, Some(Fence::Number(PREVIOUS_NUMBER))),
        (RequestKind::RaiseFence, Some(Fence::Number(PREVIOUS_NUMBER))),
        (RequestKind::Reacquire, Some(Fence::Number(PREVIOUS_NUMBER))),
    ] {
        let mut late = request(kind, fence);
        late.token = OTHER_TOKEN;
        let expected_marker = node.expected_marker();
        let vote =
            node.assert_unchanged(|node| node.request(&late, fence.map(|_| &expected_marker), false).0);
        assert!(matches!(vote, Vote::HeldByOther { .. }), "{kind:?}: {vote:?}");
    }
}

fn an_adoption_gives_a_larger_fencing_number(node: &mut dyn NodeUnderTest) {
    let now = node.clock_micros();
    for last in [0, 1, PREVIOUS_NUMBER - 1, PREVIOUS_NUMBER] {
        for min_fencing_number in [0, PREVIOUS_NUMBER, now + 3_600_000_000] {
            for hint in [0, PREVIOUS_NUMBER, PREVIOUS_NUMBER + 1, now, MAX_FENCE] {
                node.reset();
                node.set_lock(OTHER_TOKEN, Some(TTL));
                node.set_fence(last);
                let (vote, clock) = adopt_fenced(node, hint, min_fencing_number);
                let base = last.max(min_fencing_number);
                let takes_hint = hint > base && hint <= clock + CLOCK_TOLERANCE_MICROS;
                let number = if takes_hint { hint } else { base + 1 };
                assert_eq!(vote, Vote::Fenced(number), "fence {last}, min {min_fencing_number}, hint {hint}");
                node.assert_locked(TTL);
                node.assert_fence(number);
            }
        }
    }
}

fn an_adoption_without_a_fence_gives_a_number_above_the_clock_and_the_minimum(node: &mut dyn NodeUnderTest) {
    for min_fencing_number in [0, PREVIOUS_NUMBER, node.clock_micros() + 3_600_000_000] {
        node.reset();
        node.set_lock(OTHER_TOKEN, Some(TTL));
        let (vote, clock) = adopt_fenced(node, 0, min_fencing_number);
        let number = min_fencing_number.max(clock - CLOCK_TOLERANCE_MICROS) + 1;
        assert_eq!(vote, Vote::Fenced(number));
        node.assert_fence(number);
    }
    node.reset();
    node.set_lock(OTHER_TOKEN, Some(TTL));
    let expected_marker = node.expected_marker();
    let base = node.clock_micros() + 3_600_000_000;
    let expected_marker =
        crate::membership::ExpectedMarker { fencing_numbers_above: base, ..expected_marker };
    let (vote, _) = node.request(&request(RequestKind::Adopt, FENCES[1]), Some(&expected_marker), false);
    assert_eq!(vote, Vote::Fenced(base + 1), "above the base in the marker");
}

/// Another client may have had the lock in between.
fn a_key_with_a_larger_fence_is_adopted_and_does_not_count(node: &mut dyn NodeUnderTest) {
    for number in [PREVIOUS_NUMBER + 1, node.clock_micros(), MAX_FENCE - 1] {
        node.reset();
        node.set_lock(OTHER_TOKEN, Some(TTL / 2));
        node.set(Location::Fence, Some(number.to_string().as_bytes()), Some(FENCE_RETENTION / 2));
        let hint = node.clock_micros();
        let (vote, _) = adopt_fenced(node, hint, PREVIOUS_NUMBER);
        assert_eq!(vote, Vote::FencedOut { fence: number });
        node.assert_locked(TTL);
        let kept = node.stored(Location::Fence).expect("a fence");
        assert_eq!(kept.value, Some(number.to_string().into_bytes()));
        assert_about(kept.ttl, Some(FENCE_RETENTION));
    }
}

fn a_key_with_an_invalid_fence_is_not_adopted(node: &mut dyn NodeUnderTest) {
    let invalid = ["9007199254740991", "1e300", "12.5", "garbage", "", "nan", "inf"];
    // None is a key of another type.
    for fence in invalid.into_iter().map(Some).chain([None]) {
        node.reset();
        node.expected_marker();
        node.set_lock(OTHER_TOKEN, Some(TTL));
        node.set(Location::Fence, fence.map(str::as_bytes), Some(TTL));
        let vote = node.assert_unchanged(|node| vote(node, FENCES[1]));
        assert_error(&vote);
        if let (Some(fence), Vote::Unknown(ReplyFailure::TransientError(message))) = (fence, &vote) {
            assert!(message.starts_with("FENCE"), "{fence}: {message}");
        }
    }
}

fn the_largest_number_ahead_of_the_clock_is_stored(node: &mut dyn NodeUnderTest) {
    let ahead = node.clock_micros() + 3_600_000_000;
    node.set_lock(OTHER_TOKEN, Some(TTL));
    assert_eq!(adopt_fenced(node, 0, ahead).0, Vote::Fenced(ahead + 1));
    // Without a fence, the next number is above the stored one.
    node.reset();
    node.set(Location::HighestAheadOfClock, Some(ahead.to_string().as_bytes()), None);
    node.set_lock(OTHER_TOKEN, Some(TTL));
    assert_eq!(adopt_fenced(node, 0, 0).0, Vote::Fenced(ahead + 1));
    node.assert_fence(ahead + 1);
}
