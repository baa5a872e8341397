//! The script `reacquire`: a key that went missing under its holder.

use std::time::Duration;

use super::{
    LAST_NUMBER, Location, NodeUnderTest, OTHER_TOKEN, OWN_TOKEN, TTL, assert_held, assert_refused, promises,
};
use crate::fence::Fence;
use crate::request::RequestKind;
use crate::vote::Vote;

promises![
    a_missing_key_is_taken_again_with_our_number,
    nothing_is_taken_again_past_a_larger_number,
    a_key_of_another_owner_is_not_reacquired,
    a_key_that_has_run_out_is_taken_again,
    nothing_is_taken_again_over_a_fence_of_another_type,
    a_number_ahead_of_the_clock_is_noted,
];

const NUMBER: u64 = 5_000;

fn a_missing_key_is_taken_again_with_our_number(node: &mut dyn NodeUnderTest) {
    let fences: [Option<&[u8]>; 6] =
        [None, Some(b"5000"), Some(b"4999"), Some(b"0"), Some(b"garbage"), Some(b"")];
    for fence in fences {
        for life in [None, Some(TTL)] {
            node.reset();
            if fence.is_some() {
                node.set(Location::Fence, fence, life);
            }
            assert_eq!(reacquire(node), Vote::Granted, "{fence:?}");
            node.assert_locked(TTL);
            node.assert_fence(NUMBER);
        }
    }
}

fn nothing_is_taken_again_past_a_larger_number(node: &mut dyn NodeUnderTest) {
    for number in [NUMBER + 1, LAST_NUMBER, u64::MAX] {
        node.reset();
        node.expected_marker();
        node.set_fence(number);
        let refused = Vote::FencedOut { fence: number.min(LAST_NUMBER) };
        assert_eq!(node.unchanged(reacquire), refused);
        node.set_lock(OTHER_TOKEN, Some(TTL));
        assert_held(&node.unchanged(reacquire), Some(TTL));
    }
}

fn a_key_of_another_owner_is_not_reacquired(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    for fence in [None, Some(4_000), Some(NUMBER)] {
        if let Some(number) = fence {
            node.set_fence(number);
        }
        for value in [Some(&OTHER_TOKEN.digits()[..]), Some(&OWN_TOKEN.digits()[..]), None] {
            for life in [None, Some(TTL / 2)] {
                node.set(Location::Lock, value, life);
                assert_held(&node.unchanged(reacquire), life);
            }
        }
    }
}

fn a_key_that_has_run_out_is_taken_again(node: &mut dyn NodeUnderTest) {
    node.set_lock(OTHER_TOKEN, Some(Duration::from_millis(20)));
    node.wait(Duration::from_millis(50));
    assert_eq!(reacquire(node), Vote::Granted);
    node.assert_locked(TTL);
}

fn nothing_is_taken_again_over_a_fence_of_another_type(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    node.set(Location::Fence, None, Some(TTL));
    assert_refused(&node.unchanged(reacquire));
}

fn a_number_ahead_of_the_clock_is_noted(node: &mut dyn NodeUnderTest) {
    let number = node.clock_micros() + 3_600_000_000;
    assert_eq!(node.fenced_script(RequestKind::Reacquire, Fence::Number(number)), Vote::Granted);
    node.assert_fence(number);
}

fn reacquire(node: &mut (dyn NodeUnderTest + '_)) -> Vote {
    node.fenced_script(RequestKind::Reacquire, Fence::Number(NUMBER))
}
