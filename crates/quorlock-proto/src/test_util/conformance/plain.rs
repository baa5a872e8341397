//! `SET`, `PTTL`, and the scripts `renew`, `release`, `force_release` and `inspect`.

use std::time::Duration;

use super::{
    Location, MAX_FENCE, NodeUnderTest, OTHER_TOKEN, OWN_TOKEN, TTL, assert_about, assert_held_by_other,
    cases, request,
};
use crate::fence::Fence;
use crate::request::{OwnerHash, RequestKind};
use crate::vote::{KeyOwner, KeyState, ReplyFailure, Vote};

cases![
    a_free_key_is_acquired,
    an_expired_key_is_free,
    an_existing_key_of_any_type_is_held,
    the_remaining_ttl_is_reported,
    a_renewal_extends_and_never_shortens,
    a_renewal_gives_a_permanent_key_an_expiry,
    a_key_of_another_owner_is_not_renewed,
    a_key_of_another_owner_is_not_released,
    a_similar_owner_token_is_another_owner,
    an_inspection_reports_the_owner,
    force_release_ignores_the_owner,
    a_plain_force_release_keeps_the_fence,
    a_force_release_raises_the_fence_to_the_clock_or_above_the_old_one,
    a_fence_that_cannot_be_raised_does_not_stop_a_force_release,
    a_holder_does_not_reacquire_a_force_released_key,
    a_force_release_by_hash_deletes_only_that_owners_key,
    any_value_is_force_released_by_its_hash,
    an_unknown_script_does_nothing_until_sent_as_text,
    commands_need_no_script,
];

const ACQUIRES: [RequestKind; 2] = [RequestKind::Acquire, RequestKind::Reacquire];

fn a_free_key_is_acquired(node: &mut dyn NodeUnderTest) {
    for kind in ACQUIRES {
        node.reset();
        assert_eq!(node.plain_vote(kind), Vote::Granted);
        node.assert_locked(TTL);
        assert_held_by_other(&node.assert_unchanged(|node| node.plain_vote(kind)), None);
    }
}

fn an_expired_key_is_free(node: &mut dyn NodeUnderTest) {
    let cases_with_votes = [
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
    for (kind, vote) in cases_with_votes {
        node.reset();
        node.set_lock(OWN_TOKEN, Some(Duration::from_millis(20)));
        node.wait(Duration::from_millis(50));
        assert_eq!(node.plain_vote(kind), vote);
    }
}

fn an_existing_key_of_any_type_is_held(node: &mut dyn NodeUnderTest) {
    for value in [Some(&OTHER_TOKEN.digits()[..]), Some(b"" as &[u8]), None] {
        for ttl in [None, Some(TTL)] {
            node.set(Location::Lock, value, ttl);
            for kind in ACQUIRES {
                assert_eq!(
                    node.assert_unchanged(|node| node.plain_vote(kind)),
                    Vote::HeldByOther { remaining: None }
                );
            }
        }
    }
}

fn the_remaining_ttl_is_reported(node: &mut dyn NodeUnderTest) {
    assert_eq!(node.plain_vote(RequestKind::QueryTtl), Vote::NotHeld);
    for value in [Some(&OTHER_TOKEN.digits()[..]), Some(&OWN_TOKEN.digits()[..]), None] {
        for ttl in [None, Some(TTL)] {
            node.set(Location::Lock, value, ttl);
            assert_held_by_other(&node.assert_unchanged(|node| node.plain_vote(RequestKind::QueryTtl)), ttl);
        }
    }
}

fn a_renewal_extends_and_never_shortens(node: &mut dyn NodeUnderTest) {
    for (before, after) in [(TTL / 2, TTL), (TTL, TTL), (TTL * 2, TTL * 2)] {
        node.set_lock(OWN_TOKEN, Some(before));
        assert_eq!(node.plain_vote(RequestKind::Renew), Vote::Granted);
        node.assert_locked(after);
    }
}

fn a_renewal_gives_a_permanent_key_an_expiry(node: &mut dyn NodeUnderTest) {
    node.set_lock(OWN_TOKEN, None);
    assert_eq!(node.plain_vote(RequestKind::Renew), Vote::Granted);
    node.assert_locked(TTL);
}

fn a_key_of_another_owner_is_not_renewed(node: &mut dyn NodeUnderTest) {
    assert_eq!(node.assert_unchanged(|node| node.plain_vote(RequestKind::Renew)), Vote::NotHeld);
    for value in [Some(&OTHER_TOKEN.digits()[..]), Some(b"" as &[u8]), None] {
        for ttl in [None, Some(TTL / 2)] {
            node.set(Location::Lock, value, ttl);
            assert_eq!(
                node.assert_unchanged(|node| node.plain_vote(RequestKind::Renew)),
                Vote::HeldByOther { remaining: None }
            );
        }
    }
}

fn a_key_of_another_owner_is_not_released(node: &mut dyn NodeUnderTest) {
    for kind in RELEASES {
        assert_eq!(node.plain_vote(kind), Vote::NotHeld);
        for value in [Some(&OTHER_TOKEN.digits()[..]), Some(b"" as &[u8]), None] {
            node.set(Location::Lock, value, Some(TTL));
            assert_eq!(
                node.assert_unchanged(|node| node.plain_vote(kind)),
                Vote::HeldByOther { remaining: None }
            );
        }
        node.reset();
        for ttl in [None, Some(TTL)] {
            node.set_lock(OWN_TOKEN, ttl);
            assert_eq!(node.plain_vote(kind), Vote::Granted);
            assert_eq!(node.stored(Location::Lock), None);
            assert_eq!(node.plain_vote(kind), Vote::NotHeld, "a second release finds no key");
        }
    }
}

fn a_similar_owner_token_is_another_owner(node: &mut dyn NodeUnderTest) {
    let digits = OWN_TOKEN.digits();
    let mut longer = digits.to_vec();
    longer.push(0);
    for nearly in [&longer[..], &digits[..31], &digits.to_ascii_uppercase()] {
        node.set(Location::Lock, Some(nearly), Some(TTL));
        for kind in RELEASES {
            assert_eq!(
                node.assert_unchanged(|node| node.plain_vote(kind)),
                Vote::HeldByOther { remaining: None }
            );
        }
        assert_eq!(
            node.assert_unchanged(|node| node.plain_vote(RequestKind::Renew)),
            Vote::HeldByOther { remaining: None }
        );
    }
}

fn an_inspection_reports_the_owner(node: &mut dyn NodeUnderTest) {
    let unheld = Vote::Inspected(KeyState { holder: KeyOwner::Unheld, remaining: None });
    assert_eq!(node.plain_vote(RequestKind::Inspect), unheld);
    let long = [b'x'; 300];
    let holders = [
        (Some(&OWN_TOKEN.digits()[..]), KeyOwner::Owner(OWN_TOKEN.hash())),
        (Some(b"" as &[u8]), KeyOwner::Owner(OwnerHash::of(b""))),
        (Some(b"\0\xff\r\n" as &[u8]), KeyOwner::Owner(OwnerHash::of(b"\0\xff\r\n"))),
        // An inspection hashes only the first 256 bytes; owner tokens are shorter.
        (Some(&long[..]), KeyOwner::Owner(OwnerHash::of(&long[..256]))),
        (None, KeyOwner::NotALock),
    ];
    for (value, expected) in holders {
        for ttl in [None, Some(TTL)] {
            node.set(Location::Lock, value, ttl);
            let vote = node.assert_unchanged(|node| node.plain_vote(RequestKind::Inspect));
            let Vote::Inspected(KeyState { holder, remaining }) = vote else { panic!("{vote:?}") };
            assert_eq!(holder, expected);
            assert_about(remaining, ttl);
        }
    }
}

fn force_release_ignores_the_owner(node: &mut dyn NodeUnderTest) {
    assert_eq!(node.plain_vote(RequestKind::ForceRelease), Vote::NotHeld);
    for value in [Some(&OTHER_TOKEN.digits()[..]), None] {
        node.set(Location::Lock, value, None);
        assert_eq!(node.plain_vote(RequestKind::ForceRelease), Vote::Granted);
        assert_eq!(node.stored(Location::Lock), None);
    }
}

fn a_plain_force_release_keeps_the_fence(node: &mut dyn NodeUnderTest) {
    node.set_fence(7);
    node.set_lock(OWN_TOKEN, Some(TTL));
    assert_eq!(node.plain_vote(RequestKind::ForceRelease), Vote::Granted);
    node.assert_unchanged(|node| assert_eq!(node.plain_vote(RequestKind::ForceRelease), Vote::NotHeld));
    assert_eq!(node.stored(Location::Fence).and_then(|it| it.value), Some(b"7".to_vec()));
}

fn a_force_release_raises_the_fence_to_the_clock_or_above_the_old_one(node: &mut dyn NodeUnderTest) {
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
            assert_eq!(node.force_release(), vote);
            assert_eq!(node.stored(Location::Lock), None);
            let number = node.stored(Location::Fence).and_then(|fence| String::from_utf8(fence.value?).ok());
            let number: u64 = number.expect("a fence").parse().expect("plain digits");
            assert!((before..=node.clock_micros()).contains(&number), "{fence:?} became {number}");
            node.assert_fence(number);
        }
    }
    for ahead in [node.clock_micros() + 3_600_000_000, MAX_FENCE - 1] {
        node.reset();
        node.set_fence(ahead);
        node.force_release();
        node.assert_fence(ahead + 1);
    }
}

fn a_fence_that_cannot_be_raised_does_not_stop_a_force_release(node: &mut dyn NodeUnderTest) {
    let invalid = ["9007199254740991", "1e300", "12.5", "garbage", "", "nan", "inf"];
    // None is a key of another type.
    for fence in invalid.into_iter().map(Some).chain([None]) {
        for lock in [Some(&OTHER_TOKEN.digits()[..]), None] {
            node.reset();
            node.set(Location::Fence, fence.map(str::as_bytes), Some(TTL));
            node.set(Location::Lock, lock, Some(TTL));
            let before = node.stored(Location::Fence).and_then(|it| it.value);
            assert_eq!(node.force_release(), Vote::Granted, "{fence:?}");
            assert_eq!(node.stored(Location::Lock), None);
            assert_eq!(node.stored(Location::Fence).and_then(|it| it.value), before);
        }
    }
}

fn a_holder_does_not_reacquire_a_force_released_key(node: &mut dyn NodeUnderTest) {
    node.expected_marker();
    node.set_fence(7);
    node.set_lock(OWN_TOKEN, Some(TTL));
    assert_eq!(node.force_release(), Vote::Granted);
    assert_eq!(node.fenced_vote(RequestKind::Renew, Fence::Number(7)), Vote::NotHeld);
    let Vote::FencedOut { fence } = node.fenced_vote(RequestKind::Reacquire, Fence::Number(7)) else {
        panic!("the key was reacquired")
    };
    assert_eq!(
        node.fenced_vote(RequestKind::Reacquire, Fence::Number(fence)),
        Vote::Granted,
        "with the new fence as its number"
    );
}

fn a_force_release_by_hash_deletes_only_that_owners_key(node: &mut dyn NodeUnderTest) {
    let other = RequestKind::BreakOf(OTHER_TOKEN.hash());
    for fence in [Some(Fence::Next), None] {
        let is_fenced = fence.is_some();
        let request = request(other, fence);
        node.reset();
        node.set_fence(7);
        assert_eq!(node.assert_unchanged(|node| node.request(&request, None, false).0), Vote::NotHeld);
        node.set_lock(OWN_TOKEN, Some(TTL));
        assert_eq!(
            node.assert_unchanged(|node| node.request(&request, None, false).0),
            Vote::HeldByOther { remaining: None }
        );
        node.set(Location::Lock, None, Some(TTL));
        assert_eq!(
            node.assert_unchanged(|node| node.request(&request, None, false).0),
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

/// Node and client compute the same hash of any value of any length.
fn any_value_is_force_released_by_its_hash(node: &mut dyn NodeUnderTest) {
    let all: Vec<u8> = (0..=255).cycle().take(600).collect();
    let near = |length: usize| all[..length].to_vec();
    let values = (0..20).map(|location| all[location * 13..location * 13 + 32].to_vec());
    for value in values.chain([0, 1, 2, 255, 256, 257, 600].map(near)).chain([vec![0xff; 300]]) {
        node.set(Location::Lock, Some(&value), None);
        let owner_hash = OwnerHash::of(&value[..value.len().min(256)]);
        assert_eq!(node.plain_vote(RequestKind::BreakOf(owner_hash)), Vote::Granted, "{value:?}");
        assert_eq!(node.stored(Location::Lock), None);
    }
}

fn an_unknown_script_does_nothing_until_sent_as_text(node: &mut dyn NodeUnderTest) {
    for kind in
        [RequestKind::Renew, RequestKind::Inspect, RequestKind::Release, RequestKind::ReleaseAndNotify]
    {
        node.reset();
        node.set_lock(OWN_TOKEN, Some(TTL / 2));
        node.flush_scripts();
        let by_hash = node.assert_unchanged(|node| node.plain_vote(kind));
        assert_eq!(by_hash, Vote::Unknown(ReplyFailure::NoScript), "{kind:?}");
        let (as_text, _) = node.request(&request(kind, None), None, true);
        assert!(matches!(as_text, Vote::Granted | Vote::Inspected(_)), "{kind:?}: {as_text:?}");
        node.set_lock(OWN_TOKEN, Some(TTL / 2));
        assert_eq!(node.plain_vote(kind).is_grant(), as_text.is_grant(), "the script is known from then on");
    }
}

fn commands_need_no_script(node: &mut dyn NodeUnderTest) {
    node.flush_scripts();
    assert_eq!(node.plain_vote(RequestKind::Acquire), Vote::Granted);
    assert_held_by_other(&node.plain_vote(RequestKind::QueryTtl), Some(TTL));
    assert_eq!(node.plain_vote(RequestKind::ForceRelease), Vote::Granted);
    assert_eq!(node.plain_vote(RequestKind::Reacquire), Vote::Granted);
}

const RELEASES: [RequestKind; 3] =
    [RequestKind::Release, RequestKind::ReleaseAndNotify, RequestKind::ReleaseLocal];
