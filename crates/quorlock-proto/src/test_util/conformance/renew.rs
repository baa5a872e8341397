//! The script `renew_fenced`, as a raise and as a renewal: it compares the owner token and never lowers the
//! fence.

use std::time::Duration;

use super::{
    FENCE_RETENTION, Location, MAX_FENCE, NodeUnderTest, OTHER_TOKEN, OWN_TOKEN, TTL, assert_error,
    assert_held_by_other, cases,
};
use crate::fence::Fence;
use crate::request::RequestKind;
use crate::vote::Vote;

cases![
    a_smaller_fence_is_raised_to_the_fencing_number,
    a_larger_fence_rejects_a_raise,
    a_larger_fence_is_reported_to_a_renewal_that_still_extends,
    a_raise_keeps_the_ttl_of_the_key,
    a_fenced_renewal_extends_and_never_shortens,
    a_missing_or_foreign_key_is_not_renewed,
    an_expired_key_is_not_renewed,
    a_fence_of_another_type_fails_a_renewal,
    fencing_numbers_at_the_maximum_are_exact,
    a_fencing_number_ahead_of_the_clock_is_stored,
];

const RAISE_AND_RENEW: [RequestKind; 2] = [RequestKind::RaiseFence, RequestKind::Renew];
const NUMBER: u64 = 5_000;

fn a_smaller_fence_is_raised_to_the_fencing_number(node: &mut dyn NodeUnderTest) {
    let fences: [Option<&[u8]>; 9] = [
        None,
        Some(b"5000"),
        Some(b"4999"),
        Some(b"0"),
        Some(b"-7"),
        Some(b"4999.5"),
        // A fence that is not a number counts as none.
        Some(b""),
        Some(b"garbage"),
        Some(b"nan"),
    ];
    for kind in RAISE_AND_RENEW {
        for fence in fences {
            for ttl in [None, Some(TTL)] {
                node.reset();
                node.set_lock(OWN_TOKEN, Some(TTL / 2));
                if fence.is_some() {
                    node.set(Location::Fence, fence, ttl);
                }
                assert_eq!(
                    node.fenced_vote(kind, Fence::Number(NUMBER)),
                    Vote::Granted,
                    "{kind:?} {fence:?}"
                );
                node.assert_fence(NUMBER);
            }
        }
    }
}

/// Fences above `NUMBER`, and how a reply reports each.
const LARGER_FENCES: [(&str, u64); 7] = [
    ("5001", 5_001),
    ("5000.5", 5_000),
    ("0x1389", 5_001),
    ("9007199254740991", MAX_FENCE),
    ("18446744073709551615", MAX_FENCE),
    ("1e300", MAX_FENCE),
    ("inf", MAX_FENCE),
];

fn a_larger_fence_rejects_a_raise(node: &mut dyn NodeUnderTest) {
    for (fence, reported) in LARGER_FENCES {
        node.reset();
        node.expected_marker();
        node.set_lock(OWN_TOKEN, Some(TTL / 2));
        node.set(Location::Fence, Some(fence.as_bytes()), Some(TTL));
        let vote = node.fenced_vote(RequestKind::RaiseFence, Fence::Number(NUMBER));
        assert_eq!(vote, Vote::FencedOut { fence: reported }, "{fence}");
        node.assert_locked(TTL / 2);
        let kept = node.stored(Location::Fence).expect("a fence");
        assert_eq!(kept.value.as_deref(), Some(fence.as_bytes()));
    }
}

fn a_larger_fence_is_reported_to_a_renewal_that_still_extends(node: &mut dyn NodeUnderTest) {
    for (fence, reported) in LARGER_FENCES {
        for ttl in [None, Some(TTL)] {
            node.reset();
            node.expected_marker();
            node.set_lock(OWN_TOKEN, Some(TTL / 2));
            node.set(Location::Fence, Some(fence.as_bytes()), ttl.map(|_| FENCE_RETENTION / 2));
            let vote = node.fenced_vote(RequestKind::Renew, Fence::Number(NUMBER));
            assert_eq!(vote, Vote::FencedOut { fence: reported }, "{fence}");
            node.assert_locked(TTL);
            let kept = node.stored(Location::Fence).expect("a fence");
            assert_eq!(kept.value.as_deref(), Some(fence.as_bytes()));
            super::assert_about(kept.ttl, Some(FENCE_RETENTION));
        }
    }
}

fn a_raise_keeps_the_ttl_of_the_key(node: &mut dyn NodeUnderTest) {
    for ttl in [Some(TTL / 2), Some(TTL * 2), None] {
        node.set_lock(OWN_TOKEN, ttl);
        let before = node.stored(Location::Lock).map(|lock| lock.ttl.is_some());
        assert_eq!(node.fenced_vote(RequestKind::RaiseFence, Fence::Number(NUMBER)), Vote::Granted);
        let lock = node.stored(Location::Lock).expect("a lock");
        super::assert_about(lock.ttl, ttl);
        assert_eq!(Some(lock.ttl.is_some()), before);
    }
}

fn a_fenced_renewal_extends_and_never_shortens(node: &mut dyn NodeUnderTest) {
    let ttls = [(Some(TTL / 2), TTL), (Some(TTL), TTL), (Some(TTL * 2), TTL * 2), (None, TTL)];
    for (before, after) in ttls {
        node.set_lock(OWN_TOKEN, before);
        assert_eq!(node.fenced_vote(RequestKind::Renew, Fence::Number(NUMBER)), Vote::Granted);
        node.assert_locked(after);
    }
}

fn a_missing_or_foreign_key_is_not_renewed(node: &mut dyn NodeUnderTest) {
    for kind in RAISE_AND_RENEW {
        for fence in [None, Some(4_000), Some(NUMBER + 1)] {
            node.reset();
            node.expected_marker();
            if let Some(fence) = fence {
                node.set_fence(fence);
            }
            let vote = node.assert_unchanged(|node| node.fenced_vote(kind, Fence::Number(NUMBER)));
            assert_eq!(vote, Vote::NotHeld, "{kind:?}");
            for value in [Some(&OTHER_TOKEN.digits()[..]), Some(b"" as &[u8]), None] {
                for ttl in [None, Some(TTL / 2)] {
                    node.set(Location::Lock, value, ttl);
                    assert_held_by_other(
                        &node.assert_unchanged(|node| node.fenced_vote(kind, Fence::Number(NUMBER))),
                        ttl,
                    );
                }
            }
        }
    }
}

fn an_expired_key_is_not_renewed(node: &mut dyn NodeUnderTest) {
    for kind in RAISE_AND_RENEW {
        node.set_lock(OWN_TOKEN, Some(Duration::from_millis(20)));
        node.wait(Duration::from_millis(50));
        assert_eq!(node.fenced_vote(kind, Fence::Number(NUMBER)), Vote::NotHeld);
        assert_eq!((node.stored(Location::Lock), node.stored(Location::Fence)), (None, None));
    }
}

fn a_fence_of_another_type_fails_a_renewal(node: &mut dyn NodeUnderTest) {
    for kind in RAISE_AND_RENEW {
        node.reset();
        node.expected_marker();
        node.set_lock(OWN_TOKEN, Some(TTL / 2));
        node.set(Location::Fence, None, Some(TTL));
        let (vote, clock) = node.assert_unchanged(|node| node.fenced_request(kind, Fence::Number(NUMBER)));
        assert_error(&vote);
        assert_eq!(clock, None);
    }
}

fn fencing_numbers_at_the_maximum_are_exact(node: &mut dyn NodeUnderTest) {
    for kind in RAISE_AND_RENEW {
        for number in [MAX_FENCE - 1, MAX_FENCE] {
            node.set_lock(OWN_TOKEN, Some(TTL / 2));
            node.set_fence(number - 1);
            assert_eq!(node.fenced_vote(kind, Fence::Number(number)), Vote::Granted);
            node.assert_fence(number);
            let smaller = node.fenced_vote(kind, Fence::Number(number - 1));
            assert_eq!(smaller, Vote::FencedOut { fence: number });
            node.assert_fence(number);
        }
    }
}

/// Where clocks are hours apart, the fence of such a number can expire before a clock reaches the number.
fn a_fencing_number_ahead_of_the_clock_is_stored(node: &mut dyn NodeUnderTest) {
    for kind in RAISE_AND_RENEW {
        for ahead in [3_600_000_000, 365 * 24 * 3_600_000_000] {
            node.reset();
            node.set_lock(OWN_TOKEN, Some(TTL / 2));
            let number = node.clock_micros() + ahead;
            assert_eq!(node.fenced_vote(kind, Fence::Number(number)), Vote::Granted);
            node.assert_fence(number);
            assert_eq!(node.fenced_vote(kind, Fence::Number(number)), Vote::Granted, "again");
            node.assert_fence(number);
            assert_eq!(node.fenced_vote(kind, Fence::Number(NUMBER)), Vote::FencedOut { fence: number });
            node.assert_fence(number);
            node.set_fence(number - 2);
            assert_eq!(node.fenced_vote(kind, Fence::Number(number - 1)), Vote::Granted);
            let highest = node.stored(Location::HighestAheadOfClock).and_then(|highest| highest.value);
            assert_eq!(highest, Some(number.to_string().into_bytes()), "the stored number never falls");
        }
    }
}
