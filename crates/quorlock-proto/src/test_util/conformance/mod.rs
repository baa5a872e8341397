//! The conformance suite: the simulated node and a real server must reply alike and store the same data.
//!
//! It uses a node only through [`NodeUnderTest`]. Where a real clock advances during a case, ttls are hours,
//! so that no delay decides the case. Expected numbers are computed from the clock in the same reply.

mod acquire;
mod adopt;
mod fenced;
mod forget;
mod plain;
mod reacquire;
mod read_marker;
mod renew;

use std::fmt;
use std::time::Duration;

use crate::fence::{CLOCK_TOLERANCE_MICROS, Fence};
use crate::marker::{LockClusterConfig, Marker, MarkerReading};
use crate::membership::{ExpectedMarker, NodeWrite};
use crate::quorum::Quorum;
use crate::request::{Key, OwnerToken, PreviousOwner, Request, RequestKind};
use crate::roster::SeatId;
use crate::roster::record::Record;
use crate::vote::{ReplyFailure, Vote};

/// A node under test: simulated or real.
pub trait NodeUnderTest {
    /// Deletes all data, and loads all scripts.
    fn reset(&mut self);
    /// Runs one request by its script or command. Returns the vote, and the node's time in microseconds if
    /// the reply contains it.
    fn request(
        &mut self,
        request: &Request,
        expected_marker: Option<&ExpectedMarker>,
        as_text: bool,
    ) -> (Vote, Option<u64>);
    /// Reads the marker, after a write if there is one.
    ///
    /// # Errors
    ///
    /// The node's vote, if the marker cannot be read.
    fn read_marker(&mut self, write: Option<&NodeWrite>, as_text: bool) -> Result<MarkerReading, Vote>;
    /// Stores a value with this ttl; without a value, a key of another type.
    fn set(&mut self, location: Location, value: Option<&[u8]>, ttl: Option<Duration>);
    /// The value stored at this location.
    fn stored(&mut self, location: Location) -> Option<StoredValue>;
    /// The node's time, in microseconds since 1970.
    fn clock_micros(&mut self) -> u64;
    /// Waits for this time.
    fn wait(&mut self, span: Duration);
    /// `SCRIPT FLUSH`.
    fn flush_scripts(&mut self);
    /// Sets whether the node may evict keys when its memory is full.
    fn set_evicts(&mut self, on: bool);
    /// Fills the memory, so that one key with an expiry is evicted.
    fn evict(&mut self);
    /// Swaps the database with another one, and back.
    fn swap_databases_twice(&mut self);
    /// Restarts the server as a new process with the same data.
    fn restart(&mut self);
    /// Makes the server a replica, and a master again.
    fn change_role(&mut self);
}

/// A stored key that the suite uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// The lock's key.
    Lock,
    /// The key's fence.
    Fence,
    /// `quorlock:node`.
    Marker,
    /// `quorlock:roster`: the node's record.
    Record,
    /// `quorlock:absent`: the absence reports.
    Absences,
    /// `quorlock:clock`: the node's time when it was noted last.
    Clock,
    /// `quorlock:high`: the largest number that was ahead of the clock when it was stored.
    HighestAheadOfClock,
}

/// A stored value and its ttl.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// The bytes; `None` for a key of another type.
    pub value: Option<Vec<u8>>,
    /// The time to live; `None` if it never expires.
    pub ttl: Option<Duration>,
}

/// A case: its name, and the function that checks it.
type Case = (&'static str, fn(&mut dyn NodeUnderTest));

/// Runs all cases, and prints each name first, so that a failure shows it.
pub fn check(subject: &mut dyn NodeUnderTest) {
    let fenced = [fenced::CASES, acquire::CASES, renew::CASES, reacquire::CASES];
    let suite = [plain::CASES, adopt::CASES, read_marker::CASES, forget::CASES].into_iter().chain(fenced);
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
/// How long the nodes keep a fence.
const FENCE_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
const TTL: Duration = Duration::from_secs(3600);
/// How far a real clock may advance during a case. The ttls of a case differ by more than this.
const SLACK: Duration = Duration::from_secs(120);
const OWN_TOKEN: OwnerToken = OwnerToken::new(0xfeed_0001);
const OTHER_TOKEN: OwnerToken = OwnerToken::new(0xfeed_0002);
/// The fencing number of the owner from which an adoption takes the key.
const PREVIOUS_NUMBER: u64 = 4_000;
const FENCED_REQUESTS: [RequestKind; 5] = [
    RequestKind::Acquire,
    RequestKind::Adopt,
    RequestKind::RaiseFence,
    RequestKind::Renew,
    RequestKind::Reacquire,
];
const MAX_FENCE: u64 = (1 << 53) - 1;

impl dyn NodeUnderTest + '_ {
    /// The vote for a plain request with `OWN_TOKEN`.
    fn plain_vote(&mut self, kind: RequestKind) -> Vote {
        let (vote, clock) = self.request(&request(kind, None), None, false);
        assert_eq!(clock, None, "only fenced replies contain the clock");
        vote
    }

    /// The vote for a force-release in fenced mode.
    fn force_release(&mut self) -> Vote {
        self.request(&request(RequestKind::ForceRelease, Some(Fence::Next)), None, false).0
    }

    /// The vote for a fenced request with `OWN_TOKEN`, on a node with the expected marker.
    fn fenced_vote(&mut self, kind: RequestKind, fence: Fence) -> Vote {
        self.fenced_request(kind, fence).0
    }

    /// The vote for a fenced request as in [`Self::fenced_vote`], and the node's time.
    fn fenced_request(&mut self, kind: RequestKind, fence: Fence) -> (Vote, Option<u64>) {
        let expected_marker = self.expected_marker();
        self.request(&request(kind, Some(fence)), Some(&expected_marker), false)
    }

    /// The expected marker, which is stored first if there is none. Its probation ended in 1970, so that it
    /// changes no number.
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

    /// Asserts that the key has `OWN_TOKEN` and about this ttl.
    fn assert_locked(&mut self, ttl: Duration) {
        let lock = self.stored(Location::Lock).expect("a lock");
        assert_eq!(
            lock.value.as_deref(),
            Some(&OWN_TOKEN.digits()[..]),
            "the key has the token of this test"
        );
        assert_about(lock.ttl, Some(ttl));
    }

    /// Asserts that the fence is this number in plain digits, with the full retention. A number ahead of the
    /// clock must also be stored apart from the fence.
    fn assert_fence(&mut self, number: u64) {
        let fence = self.stored(Location::Fence).expect("a fence");
        assert_eq!(fence.value, Some(number.to_string().into_bytes()));
        assert_about(fence.ttl, Some(FENCE_RETENTION));
        if number > self.clock_micros() + CLOCK_TOLERANCE_MICROS {
            let highest = self.stored(Location::HighestAheadOfClock).expect("the number is stored");
            let stored = highest.value.and_then(|value| String::from_utf8(value).ok()?.parse::<u64>().ok());
            assert!(stored.is_some_and(|stored| stored >= number) && highest.ttl.is_none(), "{stored:?}");
        }
    }

    fn snapshot(&mut self) -> [Option<StoredValue>; 5] {
        [Location::Lock, Location::Fence, Location::Marker, Location::Clock, Location::HighestAheadOfClock]
            .map(|location| self.stored(location))
    }

    /// Runs `action`, and asserts that it changes no stored value.
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
    let previous_owner = (kind == RequestKind::Adopt)
        .then(|| PreviousOwner { token: OTHER_TOKEN, fencing_number: fence.map(|_| PREVIOUS_NUMBER) })
        .map(Box::new);
    Request { kind, key: Key::new(KEY), token: OWN_TOKEN, ttl: TTL, fence, previous_owner }
}

/// A fence for this kind of request, where the case does not depend on it.
fn default_fence(kind: RequestKind) -> Fence {
    match kind {
        RequestKind::Acquire | RequestKind::Adopt => Fence::Hint { hint: 5_000, min_fencing_number: 0 },
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

/// Asserts that another owner has the key for about this ttl.
#[track_caller]
fn assert_held_by_other(vote: &Vote, ttl: Option<Duration>) {
    let Vote::HeldByOther { remaining } = vote else { panic!("{vote:?} and not held") };
    assert_about(*remaining, ttl);
}

#[track_caller]
fn assert_error(vote: &Vote) {
    assert!(matches!(vote, Vote::Unknown(ReplyFailure::TransientError(_))), "{vote:?} and not an error");
}

fn record() -> Record {
    Record { seat: SeatId(7), was_member: true, roster: None, promised: None, accepted: None }
}

fn identity() -> std::sync::Arc<str> {
    Marker::identity(config().max_ttl(), &record())
}

/// The settings of the node's lock cluster.
///
/// # Panics
///
/// Never: a quorum of 4 of 5 nodes is valid.
#[must_use]
pub fn config() -> LockClusterConfig {
    let quorum = Quorum::new(5, Some(4)).expect("a quorum");
    LockClusterConfig::new(quorum, Duration::from_secs(30)).with_retention(FENCE_RETENTION)
}

const MARKER: &[u8] = b"the expected marker";
