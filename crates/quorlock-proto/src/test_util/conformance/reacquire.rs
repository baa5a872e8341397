//! The script `reacquire_fenced`: it sets a held lock's missing key again.

use std::time::Duration;

use super::{
    Location, MAX_FENCE, NodeUnderTest, OTHER_TOKEN, OWN_TOKEN, TTL, assert_error, assert_held_by_other,
    cases,
};
use crate::fence::Fence;
use crate::request::RequestKind;
use crate::vote::Vote;

cases![
    a_missing_key_is_reacquired_with_its_fencing_number,
    a_key_with_a_larger_fence_is_not_reacquired,
    a_key_of_another_owner_is_not_reacquired,
    an_expired_key_is_reacquired,
    a_key_with_a_fence_of_another_type_is_not_reacquired,
    a_fencing_number_ahead_of_the_clock_is_stored,
];

const NUMBER: u64 = 5_000;

fn a_missing_key_is_reacquired_with_its_fencing_number(node: &mut dyn NodeUnderTest) {
    let fences: [Option<&[u8]>; 6] =
        [None, Some(b"5000"), Some(b"4999"), Some(b"0"), Some(b"garbage"), Some(b"")];
    for fence in fences {
        for ttl in [None, Some(TTL)] {
            node.reset();
            if fence.is_some() {
                node.set(Location::Fence, fence, ttl);
            }
            assert_eq!(reacquire(node), Vote::Granted, "{fence:?}");
            node.assert_locked(TTL);
            node.assert_fence(NUMBER);
        }
    }
}

fn a_key_with_a_larger_fence_is_not_reacquired(node: &mut dyn NodeUnderTest) {
    for number in [NUMBER + 1, MAX_FENCE, u64::MAX] {
        node.reset();
        node.expected_marker();
        node.set_fence(number);
        let fenced_out = Vote::FencedOut { fence: number.min(MAX_FENCE) };
        assert_eq!(node.assert_unchanged(reacquire), fenced_out);
        node.set_lock(OTHER_TOKEN, Some(TTL));
        assert_held_by_other(&node.assert_unchanged(reacquire), Some(TTL));
    }
}

fn a_key_of_another_owner_is_not_reacquired(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    for fence in [None, Some(4_000), Some(NUMBER)] {
        if let Some(number) = fence {
            node.set_fence(number);
        }
        for value in [Some(&OTHER_TOKEN.digits()[..]), Some(&OWN_TOKEN.digits()[..]), None] {
            for ttl in [None, Some(TTL / 2)] {
                node.set(Location::Lock, value, ttl);
                assert_held_by_other(&node.assert_unchanged(reacquire), ttl);
            }
        }
    }
}

fn an_expired_key_is_reacquired(node: &mut dyn NodeUnderTest) {
    node.set_lock(OTHER_TOKEN, Some(Duration::from_millis(20)));
    node.wait(Duration::from_millis(50));
    assert_eq!(reacquire(node), Vote::Granted);
    node.assert_locked(TTL);
}

fn a_key_with_a_fence_of_another_type_is_not_reacquired(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    node.set(Location::Fence, None, Some(TTL));
    assert_error(&node.assert_unchanged(reacquire));
}

fn a_fencing_number_ahead_of_the_clock_is_stored(node: &mut dyn NodeUnderTest) {
    let number = node.clock_micros() + 3_600_000_000;
    assert_eq!(node.fenced_vote(RequestKind::Reacquire, Fence::Number(number)), Vote::Granted);
    node.assert_fence(number);
}

fn reacquire(node: &mut (dyn NodeUnderTest + '_)) -> Vote {
    node.fenced_vote(RequestKind::Reacquire, Fence::Number(NUMBER))
}
