//! `SET`, `PTTL`, and the scripts `renew`, `release`, `break` and `inspect`.

use std::time::Duration;

use super::{
    LAST_NUMBER, Location, NodeUnderTest, OTHER_TOKEN, OWN_TOKEN, TTL, assert_about, assert_held, promises,
    request,
};
use crate::fence::Fence;
use crate::request::{OwnerHash, RequestKind};
use crate::vote::{KeyOwner, KeyState, ReplyFailure, Vote};

promises![
    a_free_key_is_taken,
    a_key_that_has_run_out_is_free,
    a_key_that_is_there_is_held_whatever_it_is,
    what_is_left_is_told,
    a_renewal_lengthens_and_never_shortens,
    a_renewal_gives_a_permanent_key_an_expiry,
    only_our_own_key_is_renewed,
    only_our_own_key_is_released,
    what_nearly_is_our_token_is_not,
    an_inspection_tells_whose_it_is,
    force_release_ignores_the_owner,
    a_plain_break_leaves_the_fence,
    a_break_makes_the_fence_one_of_now_and_never_a_smaller_one,
    a_fence_that_cannot_be_raised_keeps_no_break,
    a_holder_does_not_take_a_broken_key_again,
    one_holder_is_broken_and_no_other,
    a_foreign_value_is_force_released_by_its_hash_too,
    a_script_that_is_not_known_does_nothing_until_it_comes_as_text,
    commands_need_no_script,
];

const TAKING: [RequestKind; 2] = [RequestKind::Acquire, RequestKind::Reacquire];

fn a_free_key_is_taken(node: &mut dyn NodeUnderTest) {
    for kind in TAKING {
        node.reset();
        assert_eq!(node.plain(kind), Vote::Granted);
        node.assert_locked(TTL);
        assert_held(&node.unchanged(|node| node.plain(kind)), None);
    }
}

fn a_key_that_has_run_out_is_free(node: &mut dyn NodeUnderTest) {
    let asks = [
        (RequestKind::Acquire, Vote::Granted),
        (RequestKind::Reacquire, Vote::Granted),
        (RequestKind::QueryTtl, Vote::NotHeld),
        (RequestKind::Renew, Vote::NotHeld),
        (RequestKind::Release, Vote::NotHeld),
        (RequestKind::ReleaseAndNotify, Vote::NotHeld),
        (RequestKind::ReleaseLocal, Vote::NotHeld),
        (RequestKind::ForceRelease, Vote::NotHeld),
        (RequestKind::Inspect, Vote::Inspected(KeyState { holder: KeyOwner::Unheld, remaining: None })),
    ];
    for (kind, vote) in asks {
        node.reset();
        node.set_lock(OWN_TOKEN, Some(Duration::from_millis(20)));
        node.wait(Duration::from_millis(50));
        assert_eq!(node.plain(kind), vote);
    }
}

fn a_key_that_is_there_is_held_whatever_it_is(node: &mut dyn NodeUnderTest) {
    for value in [Some(&OTHER_TOKEN.digits()[..]), Some(b"" as &[u8]), None] {
        for life in [None, Some(TTL)] {
            node.set(Location::Lock, value, life);
            for kind in TAKING {
                assert_eq!(node.unchanged(|node| node.plain(kind)), Vote::HeldByOther { remaining: None });
            }
        }
    }
}

fn what_is_left_is_told(node: &mut dyn NodeUnderTest) {
    assert_eq!(node.plain(RequestKind::QueryTtl), Vote::NotHeld);
    for value in [Some(&OTHER_TOKEN.digits()[..]), Some(&OWN_TOKEN.digits()[..]), None] {
        for life in [None, Some(TTL)] {
            node.set(Location::Lock, value, life);
            assert_held(&node.unchanged(|node| node.plain(RequestKind::QueryTtl)), life);
        }
    }
}

fn a_renewal_lengthens_and_never_shortens(node: &mut dyn NodeUnderTest) {
    for (before, after) in [(TTL / 2, TTL), (TTL, TTL), (TTL * 2, TTL * 2)] {
        node.set_lock(OWN_TOKEN, Some(before));
        assert_eq!(node.plain(RequestKind::Renew), Vote::Granted);
        node.assert_locked(after);
    }
}

fn a_renewal_gives_a_permanent_key_an_expiry(node: &mut dyn NodeUnderTest) {
    node.set_lock(OWN_TOKEN, None);
    assert_eq!(node.plain(RequestKind::Renew), Vote::Granted);
    node.assert_locked(TTL);
}

fn only_our_own_key_is_renewed(node: &mut dyn NodeUnderTest) {
    assert_eq!(node.unchanged(|node| node.plain(RequestKind::Renew)), Vote::NotHeld);
    for value in [Some(&OTHER_TOKEN.digits()[..]), Some(b"" as &[u8]), None] {
        for life in [None, Some(TTL / 2)] {
            node.set(Location::Lock, value, life);
            assert_eq!(
                node.unchanged(|node| node.plain(RequestKind::Renew)),
                Vote::HeldByOther { remaining: None }
            );
        }
    }
}

fn only_our_own_key_is_released(node: &mut dyn NodeUnderTest) {
    for kind in RELEASES {
        assert_eq!(node.plain(kind), Vote::NotHeld);
        for value in [Some(&OTHER_TOKEN.digits()[..]), Some(b"" as &[u8]), None] {
            node.set(Location::Lock, value, Some(TTL));
            assert_eq!(node.unchanged(|node| node.plain(kind)), Vote::HeldByOther { remaining: None });
        }
        node.reset();
        for life in [None, Some(TTL)] {
            node.set_lock(OWN_TOKEN, life);
            assert_eq!(node.plain(kind), Vote::Granted);
            assert_eq!(node.stored(Location::Lock), None);
            assert_eq!(node.plain(kind), Vote::NotHeld, "the second time there is nothing");
        }
    }
}

fn what_nearly_is_our_token_is_not(node: &mut dyn NodeUnderTest) {
    let digits = OWN_TOKEN.digits();
    let mut longer = digits.to_vec();
    longer.push(0);
    for nearly in [&longer[..], &digits[..31], &digits.to_ascii_uppercase()] {
        node.set(Location::Lock, Some(nearly), Some(TTL));
        for kind in RELEASES {
            assert_eq!(node.unchanged(|node| node.plain(kind)), Vote::HeldByOther { remaining: None });
        }
        assert_eq!(
            node.unchanged(|node| node.plain(RequestKind::Renew)),
            Vote::HeldByOther { remaining: None }
        );
    }
}

fn an_inspection_tells_whose_it_is(node: &mut dyn NodeUnderTest) {
    let unheld = Vote::Inspected(KeyState { holder: KeyOwner::Unheld, remaining: None });
    assert_eq!(node.plain(RequestKind::Inspect), unheld);
    let long = [b'x'; 300];
    let holders = [
        (Some(&OWN_TOKEN.digits()[..]), KeyOwner::Owner(OWN_TOKEN.hash())),
        (Some(b"" as &[u8]), KeyOwner::Owner(OwnerHash::of(b""))),
        (Some(b"\0\xff\r\n" as &[u8]), KeyOwner::Owner(OwnerHash::of(b"\0\xff\r\n"))),
        // Every owner's token is within its first 256 bytes.
        (Some(&long[..]), KeyOwner::Owner(OwnerHash::of(&long[..256]))),
        (None, KeyOwner::NotALock),
    ];
    for (value, expected) in holders {
        for life in [None, Some(TTL)] {
            node.set(Location::Lock, value, life);
            let vote = node.unchanged(|node| node.plain(RequestKind::Inspect));
            let Vote::Inspected(KeyState { holder, remaining }) = vote else { panic!("{vote:?}") };
            assert_eq!(holder, expected);
            assert_about(remaining, life);
        }
    }
}

fn force_release_ignores_the_owner(node: &mut dyn NodeUnderTest) {
    assert_eq!(node.plain(RequestKind::ForceRelease), Vote::NotHeld);
    for value in [Some(&OTHER_TOKEN.digits()[..]), None] {
        node.set(Location::Lock, value, None);
        assert_eq!(node.plain(RequestKind::ForceRelease), Vote::Granted);
        assert_eq!(node.stored(Location::Lock), None);
    }
}

fn a_plain_break_leaves_the_fence(node: &mut dyn NodeUnderTest) {
    node.set_fence(7);
    node.set_lock(OWN_TOKEN, Some(TTL));
    assert_eq!(node.plain(RequestKind::ForceRelease), Vote::Granted);
    node.unchanged(|node| assert_eq!(node.plain(RequestKind::ForceRelease), Vote::NotHeld));
    assert_eq!(node.stored(Location::Fence).and_then(|it| it.value), Some(b"7".to_vec()));
}

fn a_break_makes_the_fence_one_of_now_and_never_a_smaller_one(node: &mut dyn NodeUnderTest) {
    for fence in [None, Some("0"), Some("7"), Some("0x10"), Some("-5")] {
        for (lock, vote) in [(None, Vote::NotHeld), (Some(&OTHER_TOKEN.digits()[..]), Vote::Granted)] {
            node.reset();
            if let Some(fence) = fence {
                node.set(Location::Fence, Some(fence.as_bytes()), None);
            }
            if lock.is_some() {
                node.set(Location::Lock, lock, Some(TTL));
            }
            let before = node.clock_micros();
            assert_eq!(node.break_open(), vote);
            assert_eq!(node.stored(Location::Lock), None);
            let number = node.stored(Location::Fence).and_then(|fence| String::from_utf8(fence.value?).ok());
            let number: u64 = number.expect("a fence").parse().expect("plain digits");
            assert!((before..=node.clock_micros()).contains(&number), "{fence:?} became {number}");
            node.assert_fence(number);
        }
    }
    for ahead in [node.clock_micros() + 3_600_000_000, LAST_NUMBER - 1] {
        node.reset();
        node.set_fence(ahead);
        node.break_open();
        node.assert_fence(ahead + 1);
    }
}

fn a_fence_that_cannot_be_raised_keeps_no_break(node: &mut dyn NodeUnderTest) {
    let odd = ["9007199254740991", "1e300", "12.5", "garbage", "", "nan", "inf"];
    // None is a key of another type.
    for fence in odd.into_iter().map(Some).chain([None]) {
        for lock in [Some(&OTHER_TOKEN.digits()[..]), None] {
            node.reset();
            node.set(Location::Fence, fence.map(str::as_bytes), Some(TTL));
            node.set(Location::Lock, lock, Some(TTL));
            let before = node.stored(Location::Fence).and_then(|it| it.value);
            assert_eq!(node.break_open(), Vote::Granted, "{fence:?}");
            assert_eq!(node.stored(Location::Lock), None);
            assert_eq!(node.stored(Location::Fence).and_then(|it| it.value), before);
        }
    }
}

fn a_holder_does_not_take_a_broken_key_again(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    node.set_fence(7);
    node.set_lock(OWN_TOKEN, Some(TTL));
    assert_eq!(node.break_open(), Vote::Granted);
    assert_eq!(node.fenced_script(RequestKind::Renew, Fence::Number(7)), Vote::NotHeld);
    let Vote::FencedOut { fence } = node.fenced_script(RequestKind::Reacquire, Fence::Number(7)) else {
        panic!("it is taken")
    };
    assert_eq!(
        node.fenced_script(RequestKind::Reacquire, Fence::Number(fence)),
        Vote::Granted,
        "in the name of the number there"
    );
}

fn one_holder_is_broken_and_no_other(node: &mut dyn NodeUnderTest) {
    let theirs = RequestKind::BreakOf(OTHER_TOKEN.hash());
    for fence in [Some(Fence::Next), None] {
        let is_fenced = fence.is_some();
        let request = request(theirs, fence);
        node.reset();
        node.set_fence(7);
        assert_eq!(node.unchanged(|node| node.request(&request, None, false).0), Vote::NotHeld);
        node.set_lock(OWN_TOKEN, Some(TTL));
        assert_eq!(
            node.unchanged(|node| node.request(&request, None, false).0),
            Vote::HeldByOther { remaining: None }
        );
        node.set(Location::Lock, None, Some(TTL));
        assert_eq!(
            node.unchanged(|node| node.request(&request, None, false).0),
            Vote::HeldByOther { remaining: None }
        );
        node.set_lock(OTHER_TOKEN, Some(TTL));
        let before = node.clock_micros();
        assert_eq!(node.request(&request, None, false).0, Vote::Granted);
        assert_eq!(node.stored(Location::Lock), None);
        let fence = node.stored(Location::Fence).and_then(|fence| String::from_utf8(fence.value?).ok());
        let fence: u64 = fence.expect("a fence").parse().expect("plain digits");
        assert!(if is_fenced { fence >= before } else { fence == 7 }, "fenced: {is_fenced}, {fence}");
    }
}

/// The node's hash is ours, whatever stands there and however long that is.
fn a_foreign_value_is_force_released_by_its_hash_too(node: &mut dyn NodeUnderTest) {
    let all: Vec<u8> = (0..=255).cycle().take(600).collect();
    let near = |length: usize| all[..length].to_vec();
    let values = (0..20).map(|place| all[place * 13..place * 13 + 32].to_vec());
    for value in values.chain([0, 1, 2, 255, 256, 257, 600].map(near)).chain([vec![0xff; 300]]) {
        node.set(Location::Lock, Some(&value), None);
        let owner_hash = OwnerHash::of(&value[..value.len().min(256)]);
        assert_eq!(node.plain(RequestKind::BreakOf(owner_hash)), Vote::Granted, "{value:?}");
        assert_eq!(node.stored(Location::Lock), None);
    }
}

fn a_script_that_is_not_known_does_nothing_until_it_comes_as_text(node: &mut dyn NodeUnderTest) {
    for kind in
        [RequestKind::Renew, RequestKind::Inspect, RequestKind::Release, RequestKind::ReleaseAndNotify]
    {
        node.reset();
        node.set_lock(OWN_TOKEN, Some(TTL / 2));
        node.flush_scripts();
        let by_hash = node.unchanged(|node| node.plain(kind));
        assert_eq!(by_hash, Vote::Unknown(ReplyFailure::NoScript), "{kind:?}");
        let (as_text, _) = node.request(&request(kind, None), None, true);
        assert!(matches!(as_text, Vote::Granted | Vote::Inspected(_)), "{kind:?}: {as_text:?}");
        node.set_lock(OWN_TOKEN, Some(TTL / 2));
        assert_eq!(node.plain(kind).is_grant(), as_text.is_grant(), "it is known from then on");
    }
}

fn commands_need_no_script(node: &mut dyn NodeUnderTest) {
    node.flush_scripts();
    assert_eq!(node.plain(RequestKind::Acquire), Vote::Granted);
    assert_held(&node.plain(RequestKind::QueryTtl), Some(TTL));
    assert_eq!(node.plain(RequestKind::ForceRelease), Vote::Granted);
    assert_eq!(node.plain(RequestKind::Reacquire), Vote::Granted);
}

const RELEASES: [RequestKind; 3] =
    [RequestKind::Release, RequestKind::ReleaseAndNotify, RequestKind::ReleaseLocal];
