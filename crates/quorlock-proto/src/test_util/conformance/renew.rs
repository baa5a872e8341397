//! The script `renew`, as a raise and as a renewal: a key of ours, and a fence that never goes back.

use std::time::Duration;

use super::{
    KEEP, LAST_NUMBER, Location, NodeUnderTest, OTHER_TOKEN, OWN_TOKEN, TTL, assert_held, assert_refused,
    promises,
};
use crate::fence::Fence;
use crate::request::RequestKind;
use crate::vote::Vote;

promises![
    a_fence_at_or_below_our_number_is_made_our_number,
    a_fence_past_our_number_outranks_a_raise,
    a_larger_fence_is_told_to_a_renewal_which_is_done_all_the_same,
    a_raise_leaves_the_keys_life_as_it_is,
    a_fenced_renewal_lengthens_and_never_shortens,
    what_is_not_ours_is_not_held,
    a_key_that_has_run_out_is_not_held,
    a_fence_of_another_type_holds_nothing,
    numbers_at_the_end_stay_exact,
    a_number_ahead_of_the_clock_is_noted,
];

const HOLDS: [RequestKind; 2] = [RequestKind::RaiseFence, RequestKind::Renew];
const NUMBER: u64 = 5_000;

fn a_fence_at_or_below_our_number_is_made_our_number(node: &mut dyn NodeUnderTest) {
    let fences: [Option<&[u8]>; 9] = [
        None,
        Some(b"5000"),
        Some(b"4999"),
        Some(b"0"),
        Some(b"-7"),
        Some(b"4999.5"),
        // Where no number of ours can be read, there is none to respect.
        Some(b""),
        Some(b"garbage"),
        Some(b"nan"),
    ];
    for kind in HOLDS {
        for fence in fences {
            for life in [None, Some(TTL)] {
                node.reset();
                node.set_lock(OWN_TOKEN, Some(TTL / 2));
                if fence.is_some() {
                    node.set(Location::Fence, fence, life);
                }
                assert_eq!(
                    node.fenced_script(kind, Fence::Number(NUMBER)),
                    Vote::Granted,
                    "{kind:?} {fence:?}"
                );
                node.assert_fence(NUMBER);
            }
        }
    }
}

/// Each is above our number, and what an answer says of it.
const LARGER: [(&str, u64); 7] = [
    ("5001", 5_001),
    ("5000.5", 5_000),
    ("0x1389", 5_001),
    ("9007199254740991", LAST_NUMBER),
    ("18446744073709551615", LAST_NUMBER),
    ("1e300", LAST_NUMBER),
    ("inf", LAST_NUMBER),
];

fn a_fence_past_our_number_outranks_a_raise(node: &mut dyn NodeUnderTest) {
    for (fence, reported) in LARGER {
        node.reset();
        node.expected_marker();
        node.set_lock(OWN_TOKEN, Some(TTL / 2));
        node.set(Location::Fence, Some(fence.as_bytes()), Some(TTL));
        let vote = node.fenced_script(RequestKind::RaiseFence, Fence::Number(NUMBER));
        assert_eq!(vote, Vote::FencedOut { fence: reported }, "{fence}");
        node.assert_locked(TTL / 2);
        let kept = node.stored(Location::Fence).expect("a fence");
        assert_eq!(kept.value.as_deref(), Some(fence.as_bytes()));
    }
}

fn a_larger_fence_is_told_to_a_renewal_which_is_done_all_the_same(node: &mut dyn NodeUnderTest) {
    for (fence, reported) in LARGER {
        for life in [None, Some(TTL)] {
            node.reset();
            node.expected_marker();
            node.set_lock(OWN_TOKEN, Some(TTL / 2));
            node.set(Location::Fence, Some(fence.as_bytes()), life.map(|_| KEEP / 2));
            let vote = node.fenced_script(RequestKind::Renew, Fence::Number(NUMBER));
            assert_eq!(vote, Vote::FencedOut { fence: reported }, "{fence}");
            node.assert_locked(TTL);
            let kept = node.stored(Location::Fence).expect("a fence");
            assert_eq!(kept.value.as_deref(), Some(fence.as_bytes()));
            super::assert_about(kept.ttl, Some(KEEP));
        }
    }
}

fn a_raise_leaves_the_keys_life_as_it_is(node: &mut dyn NodeUnderTest) {
    for life in [Some(TTL / 2), Some(TTL * 2), None] {
        node.set_lock(OWN_TOKEN, life);
        let before = node.stored(Location::Lock).map(|lock| lock.ttl.is_some());
        assert_eq!(node.fenced_script(RequestKind::RaiseFence, Fence::Number(NUMBER)), Vote::Granted);
        let lock = node.stored(Location::Lock).expect("a lock");
        super::assert_about(lock.ttl, life);
        assert_eq!(Some(lock.ttl.is_some()), before);
    }
}

fn a_fenced_renewal_lengthens_and_never_shortens(node: &mut dyn NodeUnderTest) {
    let lives = [(Some(TTL / 2), TTL), (Some(TTL), TTL), (Some(TTL * 2), TTL * 2), (None, TTL)];
    for (before, after) in lives {
        node.set_lock(OWN_TOKEN, before);
        assert_eq!(node.fenced_script(RequestKind::Renew, Fence::Number(NUMBER)), Vote::Granted);
        node.assert_locked(after);
    }
}

fn what_is_not_ours_is_not_held(node: &mut dyn NodeUnderTest) {
    for kind in HOLDS {
        for fence in [None, Some(4_000), Some(NUMBER + 1)] {
            node.reset();
            node.expected_marker();
            if let Some(fence) = fence {
                node.set_fence(fence);
            }
            let vote = node.unchanged(|node| node.fenced_script(kind, Fence::Number(NUMBER)));
            assert_eq!(vote, Vote::NotHeld, "{kind:?}");
            for value in [Some(&OTHER_TOKEN.digits()[..]), Some(b"" as &[u8]), None] {
                for life in [None, Some(TTL / 2)] {
                    node.set(Location::Lock, value, life);
                    assert_held(
                        &node.unchanged(|node| node.fenced_script(kind, Fence::Number(NUMBER))),
                        life,
                    );
                }
            }
        }
    }
}

fn a_key_that_has_run_out_is_not_held(node: &mut dyn NodeUnderTest) {
    for kind in HOLDS {
        node.set_lock(OWN_TOKEN, Some(Duration::from_millis(20)));
        node.wait(Duration::from_millis(50));
        assert_eq!(node.fenced_script(kind, Fence::Number(NUMBER)), Vote::NotHeld);
        assert_eq!((node.stored(Location::Lock), node.stored(Location::Fence)), (None, None));
    }
}

fn a_fence_of_another_type_holds_nothing(node: &mut dyn NodeUnderTest) {
    for kind in HOLDS {
        node.reset();
        node.expected_marker();
        node.set_lock(OWN_TOKEN, Some(TTL / 2));
        node.set(Location::Fence, None, Some(TTL));
        let (vote, clock) = node.unchanged(|node| node.timed(kind, Fence::Number(NUMBER)));
        assert_refused(&vote);
        assert_eq!(clock, None);
    }
}

fn numbers_at_the_end_stay_exact(node: &mut dyn NodeUnderTest) {
    for kind in HOLDS {
        for number in [LAST_NUMBER - 1, LAST_NUMBER] {
            node.set_lock(OWN_TOKEN, Some(TTL / 2));
            node.set_fence(number - 1);
            assert_eq!(node.fenced_script(kind, Fence::Number(number)), Vote::Granted);
            node.assert_fence(number);
            let smaller = node.fenced_script(kind, Fence::Number(number - 1));
            assert_eq!(smaller, Vote::FencedOut { fence: number });
            node.assert_fence(number);
        }
    }
}

/// Where clocks are hours apart: it is behind no clock when its fence runs out.
fn a_number_ahead_of_the_clock_is_noted(node: &mut dyn NodeUnderTest) {
    for kind in HOLDS {
        for ahead in [3_600_000_000, 365 * 24 * 3_600_000_000] {
            node.reset();
            node.set_lock(OWN_TOKEN, Some(TTL / 2));
            let number = node.clock_micros() + ahead;
            assert_eq!(node.fenced_script(kind, Fence::Number(number)), Vote::Granted);
            node.assert_fence(number);
            assert_eq!(node.fenced_script(kind, Fence::Number(number)), Vote::Granted, "again");
            node.assert_fence(number);
            assert_eq!(node.fenced_script(kind, Fence::Number(NUMBER)), Vote::FencedOut { fence: number });
            node.assert_fence(number);
            node.set_fence(number - 2);
            assert_eq!(node.fenced_script(kind, Fence::Number(number - 1)), Vote::Granted);
            let high = node.stored(Location::HighestAheadOfClock).and_then(|high| high.value);
            assert_eq!(high, Some(number.to_string().into_bytes()), "it never falls");
        }
    }
}
