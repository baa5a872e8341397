//! One suite for the simulated node and for a real server: whatever a script or a write is asked, both must answer
//! alike, and leave the same behind.
//!
//! It speaks of a node only through [`Subject`]. Spans are hours where a real clock runs on meanwhile, so that no
//! delay decides a case; numbers are computed from the clock in the same reply.

mod acquire;
mod fenced;
mod forget;
mod plain;
mod reacquire;
mod read_marker;
mod renew;

use std::fmt;
use std::time::Duration;

use crate::fence::{Fence, TOLERANCE_MICROS};
use crate::marker::{ClusterId, LockClusterConfig, Marker, MarkerReading};
use crate::membership::{ExpectedMarker, MarkerWrite};
use crate::quorum::Quorum;
use crate::request::{Key, OwnerToken, Request, RequestKind};
use crate::vote::{ReplyFailure, Vote};

/// One node, however it is made.
pub trait NodeUnderTest {
    /// Nothing stored there, and every script is known.
    fn reset(&mut self);
    /// Runs one request by its script or write, and returns the vote and the node's clock in microseconds if the reply has it.
    fn request(
        &mut self,
        request: &Request,
        expected_marker: Option<&ExpectedMarker>,
        as_text: bool,
    ) -> (Vote, Option<u64>);
    /// Reads the marker, and writes first what is given.
    ///
    /// # Errors
    ///
    /// The vote that the node casts instead, if it cannot be read.
    fn read_marker(&mut self, write: Option<&MarkerWrite>, as_text: bool) -> Result<MarkerReading, Vote>;
    /// Puts this there, a key of another type if there is no value.
    fn set(&mut self, location: Location, value: Option<&[u8]>, ttl: Option<Duration>);
    /// What is stored at this location.
    fn stored(&mut self, location: Location) -> Option<StoredValue>;
    /// Its clock, in microseconds since 1970.
    fn clock_micros(&mut self) -> u64;
    /// Lets this time pass.
    fn wait(&mut self, span: Duration);
    /// `SCRIPT FLUSH`.
    fn flush_scripts(&mut self);
    /// Sets whether the node may evict keys when its memory is full.
    fn set_evicts(&mut self, on: bool);
    /// It runs out of memory, and one key goes that was to expire.
    fn evict(&mut self);
    /// Another database comes in the location of this one, and this one comes back.
    fn swap_there_and_back(&mut self);
    /// Another process comes up, which knows all that this one does.
    fn restart(&mut self);
    /// It is made a replica and a master again.
    fn change_role(&mut self);
}

/// Where something may stand: the key of all cases, what belongs to it, the marker, what is noted of the clock, and the
/// largest number that was ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// The lock's key.
    Lock,
    /// The key's fence.
    Fence,
    /// `quorlock:node`.
    Marker,
    /// `quorlock:clock`.
    Clock,
    /// `quorlock:high`.
    HighestAheadOfClock,
}

/// What stored there: no value for a key of another type, no ttl for one that never expires.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// The bytes; `None` for a key of another type.
    pub value: Option<Vec<u8>>,
    /// The time to live; `None` if it never expires.
    pub ttl: Option<Duration>,
}

/// A promise that a node keeps, and how it is looked at.
type Case = (&'static str, fn(&mut dyn NodeUnderTest));

/// Looks at every promise. A failure names it on standard output.
pub fn check(subject: &mut dyn NodeUnderTest) {
    let fenced = [fenced::CASES, acquire::CASES, renew::CASES, reacquire::CASES];
    let suite = [plain::CASES, read_marker::CASES, forget::CASES].into_iter().chain(fenced);
    for (name, case) in suite.flatten() {
        println!("{name}");
        subject.reset();
        case(subject);
    }
}

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        pub(super) const CASES: &[super::Case] = &[$((stringify!($case), $case)),+];
    };
}
use cases;

/// The key of all cases.
pub const KEY: &str = "orders:42";
/// For how long nodes are asked to keep a fence.
const FENCE_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
const TTL: Duration = Duration::from_secs(3600);
/// What a real clock may go on while a case runs, and what no two spans of a case differ by.
const SLACK: Duration = Duration::from_secs(120);
const OWN_TOKEN: OwnerToken = OwnerToken::new(0xfeed_0001);
const OTHER_TOKEN: OwnerToken = OwnerToken::new(0xfeed_0002);
const FENCED_REQUESTS: [RequestKind; 4] =
    [RequestKind::Acquire, RequestKind::RaiseFence, RequestKind::Renew, RequestKind::Reacquire];
const MAX_FENCE: u64 = (1 << 53) - 1;

impl dyn NodeUnderTest + '_ {
    /// Puts a plain question in our name.
    fn plain_vote(&mut self, kind: RequestKind) -> Vote {
        let (vote, clock) = self.request(&request(kind, None), None, false);
        assert_eq!(clock, None, "only fenced tell the clock");
        vote
    }

    /// Breaks the lock as a fenced client does.
    fn force_release(&mut self) -> Vote {
        self.request(&request(RequestKind::ForceRelease, Some(Fence::Next)), None, false).0
    }

    /// Puts a fenced question in our name, to a node that remembers what it should.
    fn fenced_vote(&mut self, kind: RequestKind, fence: Fence) -> Vote {
        self.fenced_request(kind, fence).0
    }

    /// The same, and what the node's clock showed.
    fn fenced_request(&mut self, kind: RequestKind, fence: Fence) -> (Vote, Option<u64>) {
        let expected_marker = self.expected_marker();
        self.request(&request(kind, Some(fence)), Some(&expected_marker), false)
    }

    /// What it must remember so as to vote, and does from now on; since 1970, so that no number hangs on it.
    fn expected_marker(&mut self) -> ExpectedMarker {
        if self.stored(Location::Marker).is_none() {
            self.set(Location::Marker, Some(MARKER), None);
        }
        let marker = String::from_utf8_lossy(MARKER).into();
        ExpectedMarker { marker, votes_from_micros: 0, fencing_numbers_above: 0 }
    }

    fn set_fence(&mut self, number: u64) {
        self.set(Location::Fence, Some(number.to_string().as_bytes()), Some(TTL));
    }

    fn set_lock(&mut self, owner: OwnerToken, ttl: Option<Duration>) {
        self.set(Location::Lock, Some(&owner.digits()), ttl);
    }

    /// Ours, for about this long.
    fn assert_locked(&mut self, ttl: Duration) {
        let lock = self.stored(Location::Lock).expect("a lock");
        assert_eq!(lock.value.as_deref(), Some(&OWN_TOKEN.digits()[..]), "it is ours");
        assert_about(lock.ttl, Some(ttl));
    }

    /// The fence is this number in plain digits, and is kept. If it is ahead of the clock, it is known without the fence.
    fn assert_fence(&mut self, number: u64) {
        let fence = self.stored(Location::Fence).expect("a fence");
        assert_eq!(fence.value, Some(number.to_string().into_bytes()));
        assert_about(fence.ttl, Some(FENCE_RETENTION));
        if number > self.clock_micros() + TOLERANCE_MICROS {
            let high = self.stored(Location::HighestAheadOfClock).expect("it is noted");
            let noted = high.value.and_then(|value| String::from_utf8(value).ok()?.parse::<u64>().ok());
            assert!(noted.is_some_and(|noted| noted >= number) && high.ttl.is_none(), "{noted:?}");
        }
    }

    fn snapshot(&mut self) -> [Option<StoredValue>; 5] {
        [Location::Lock, Location::Fence, Location::Marker, Location::Clock, Location::HighestAheadOfClock]
            .map(|location| self.stored(location))
    }

    /// Does this, and nothing is different for it.
    fn assert_unchanged<T>(&mut self, action: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.snapshot();
        let result = action(self);
        for (before, after) in before.into_iter().zip(self.snapshot()) {
            assert_eq!(before.is_some(), after.is_some(), "{before:?} against {after:?}");
            if let (Some(before), Some(after)) = (before, after) {
                assert_eq!(before.value, after.value);
                assert_about(after.ttl, before.ttl);
            }
        }
        result
    }
}

impl fmt::Debug for StoredValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_deref().map(String::from_utf8_lossy);
        write!(f, "{} for {:?}", value.unwrap_or("another type".into()), self.ttl)
    }
}

fn request(kind: RequestKind, fence: Option<Fence>) -> Request {
    Request { kind, key: Key::new(KEY), token: OWN_TOKEN, ttl: TTL, fence }
}

/// The fence that goes with this ballot, if nothing else is of interest.
fn default_fence(kind: RequestKind) -> Fence {
    match kind {
        RequestKind::Acquire => Fence::Hint { hint: 5_000, floor: 0 },
        _ => Fence::Number(5_000),
    }
}

#[track_caller]
fn assert_about(ttl: Option<Duration>, expected: Option<Duration>) {
    let is_close = match (ttl, expected) {
        (Some(ttl), Some(expected)) => ttl <= expected && ttl + SLACK > expected,
        (None, None) => true,
        _ => false,
    };
    assert!(is_close, "{ttl:?} and not {expected:?}");
}

/// Held by another, for about this long.
#[track_caller]
fn assert_held_by_other(vote: &Vote, ttl: Option<Duration>) {
    let Vote::HeldByOther { remaining } = vote else { panic!("{vote:?} and not held") };
    assert_about(*remaining, ttl);
}

#[track_caller]
fn assert_error(vote: &Vote) {
    assert!(matches!(vote, Vote::Unknown(ReplyFailure::TransientError(_))), "{vote:?} and not refused");
}

fn identity() -> std::sync::Arc<str> {
    Marker::identity(ClusterId::new(0xc1), config())
}

/// What the clients of the node agreed on.
///
/// # Panics
///
/// Never: a quorum of 4 of 5 nodes is valid.
#[must_use]
pub fn config() -> LockClusterConfig {
    let quorum = Quorum::new(5, Some(4)).expect("a quorum");
    LockClusterConfig::new(quorum, Duration::from_secs(30)).with_retention(FENCE_RETENTION)
}

const MARKER: &[u8] = b"what we agreed on";
