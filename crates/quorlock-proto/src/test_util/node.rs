//! A simulated Redis master: its data, its clock, and the effect of quorlock's commands and scripts.
//!
//! It must reply as `src/node/lua` and Redis do; the [`conformance`](super::conformance) suite tests both.
//! Arguments named `nanos` are the simulation's true time.

mod adopt;
mod clock;
mod marker;
mod scripts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::fence::MAX_MIN_FENCING_NUMBER;
use crate::marker::{Incarnation, LockClusterConfig, MarkerReading};
use crate::membership::{ExpectedMarker, NodeWrite};
use crate::request::{Key, Request, RequestKind};
use crate::vote::{ReplyFailure, Vote};

use clock::Clock;
use scripts::{is_expired, parse_lua_number};

/// A simulated Redis master.
#[derive(Clone, Debug)]
pub struct SimulatedNode {
    /// The node's index among the servers of the simulation.
    index: usize,
    data: Data,
    loaded_scripts: BTreeSet<Script>,
    clock: Clock,
    restarts: u32,
    /// How many times its data was replaced, as on a replica.
    replications: u32,
    /// How many keys it has evicted since its statistics were reset.
    evicted: u64,
    /// How many times its databases were swapped or flushed since its statistics were reset.
    swaps: u64,
    /// Whether its policy evicts keys when its memory is full.
    pub evicts: bool,
    /// The mutant of its scripts, if one is switched on.
    pub mutant: Option<ScriptMutant>,
    /// How long it keeps a fence, and the fence of a forgotten name.
    retention_millis: u64,
    forget_millis: u64,
}

/// A node's data.
pub type Data = BTreeMap<DataKey, DataValue>;

/// A key in a node's data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DataKey {
    /// The key of a lock.
    Lock(Key),
    /// The node's record.
    Record,
    /// The absence reports.
    Absences,
    /// The fence of a key.
    Fence(Key),
    /// The wait queue of a key, kept by `sim/wait_queues.rs`.
    WaitQueue(Key),
    /// `quorlock:node`.
    Marker,
    /// `quorlock:clock`: the node's time when it was noted last.
    Clock,
    /// `quorlock:high`: the largest fencing number of any key that was ahead of the clock when it was stored.
    HighestAheadOfClock,
}

/// A value in a node's data, with its expiry.
#[derive(Clone, Debug)]
pub struct DataValue {
    /// The bytes; `None` for a key of another type.
    pub value: Option<Vec<u8>>,
    /// The expiry in milliseconds of the node's clock; `None` if it never expires.
    pub expires: Option<u64>,
}

/// One request as sent to a node.
#[derive(Clone, Debug)]
pub struct SentRequest {
    /// The request. For the kind `ReadMarker` only `write` matters.
    pub request: Request,
    /// Whether the script is sent as text, not by its hash.
    pub as_text: bool,
    /// The marker that fenced scripts compare.
    pub expected_marker: Option<ExpectedMarker>,
    /// The marker that `ReadMarker` writes first.
    pub write: Option<NodeWrite>,
}

/// One reply.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A vote, and the node's time if the reply contains it.
    Vote(Vote, Option<u64>),
    /// A marker reading, or the vote of a failed one.
    Marker(Result<MarkerReading, Vote>),
}

/// A known mistake in a script, which tests switch on to prove that a checker detects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptMutant {
    /// A renewal also sets an earlier expiry.
    RenewalShortens,
    /// A raise does not compare the owner token.
    RaiseIgnoresOwner,
    /// A raise compares neither the owner token nor the fence.
    RaiseIgnoresOwnerAndFence,
    /// The first number of a missing fence is 1, whatever the clock, and the hint is not used.
    MissingFenceIsZero,
    /// A release does not compare the owner token.
    ReleaseIgnoresOwner,
    /// The incarnation does not contain the number of database swaps.
    SwapsUnreported,
    /// The incarnation does not contain the number of evicted keys.
    EvictionsUnreported,
    /// The incarnation does not contain the eviction policy.
    EvictionPolicyUnreported,
    /// A number ahead of the clock is stored only as the fence, and is lost with it.
    HighestAheadNotStored,
    /// A release notifies a waiter only if the key had the owner token.
    NotifiesForOwnKeyOnly,
    /// A voting script does not compare the marker.
    MarkerNotCompared,
    /// An adoption also sets a missing key.
    AdoptsMissingKey,
    /// An adoption does not compare the previous owner's token.
    AdoptionIgnoresOwner,
    /// An adoption counts whatever the fence is.
    AdoptionIgnoresFence,
    /// An adoption keeps the previous owner's fencing number.
    AdoptionKeepsNumber,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Script {
    Renew,
    Release,
    ReleaseNotify,
    Inspect,
    AcquireFenced,
    RenewFenced,
    ReacquireFenced,
    Forget,
    ReadMarker,
}

impl SimulatedNode {
    /// A node without data, in a lock cluster with these settings.
    #[must_use]
    pub fn new(index: usize, config: LockClusterConfig) -> Self {
        Self {
            index,
            data: Data::new(),
            loaded_scripts: BTreeSet::new(),
            clock: Clock::default(),
            restarts: 0,
            replications: 0,
            evicted: 0,
            swaps: 0,
            evicts: false,
            mutant: None,
            retention_millis: config.retention().as_millis() as u64,
            forget_millis: config.forget_after().as_millis() as u64,
        }
    }

    /// Runs one request.
    pub fn run(&mut self, sent: &SentRequest, nanos: u64) -> Reply {
        let Request { kind, fence, .. } = &sent.request;
        if let Some(script) = script_for(*kind, fence.is_some()) {
            if sent.as_text {
                self.loaded_scripts.insert(script);
            } else if !self.loaded_scripts.contains(&script) {
                let unknown = Vote::Unknown(ReplyFailure::NoScript);
                return match kind {
                    RequestKind::ReadMarker => Reply::Marker(Err(unknown)),
                    _ => Reply::Vote(unknown, None),
                };
            }
        }
        self.remove_expired(nanos);
        if *kind == RequestKind::ReadMarker {
            return Reply::Marker(Ok(self.read_marker(sent.write.as_ref(), nanos)));
        }
        match (fence, kind) {
            (fence, RequestKind::ForceRelease) => {
                Reply::Vote(self.force_release(&sent.request.key, fence.is_some(), nanos), None)
            }
            (fence, RequestKind::BreakOf(owner_hash)) => Reply::Vote(
                self.force_release_of(&sent.request.key, *owner_hash, fence.is_some(), nanos),
                None,
            ),
            (
                Some(fence),
                RequestKind::Acquire
                | RequestKind::Adopt
                | RequestKind::RaiseFence
                | RequestKind::Renew
                | RequestKind::Reacquire,
            ) => {
                let vote = self.fenced_script(&sent.request, *fence, sent.expected_marker.as_ref(), nanos);
                let has_clock = !matches!(vote, Vote::Unknown(ReplyFailure::TransientError(_)));
                Reply::Vote(vote, has_clock.then(|| self.clock_micros(nanos)))
            }
            (_, RequestKind::Forget) => {
                let now = self.clock_micros(nanos);
                Reply::Vote(self.forget(&sent.request.key, sent.expected_marker.as_ref(), now), Some(now))
            }
            _ => Reply::Vote(self.plain_request(&sent.request, nanos), None),
        }
    }

    /// A number as `read_marker` reads it: any other value counts as 0.
    fn valid_number(&self, key: &DataKey) -> u64 {
        let number = self.data.get(key).and_then(|entry| parse_lua_number(entry.value.as_deref()?));
        let is_valid =
            |number: &f64| number % 1.0 == 0.0 && (0.0..=MAX_MIN_FENCING_NUMBER as f64).contains(number);
        number.filter(is_valid).unwrap_or(0.0) as u64
    }

    /// The scripts that a handshake loads.
    pub fn load_scripts(&mut self) {
        let all = [Script::Renew, Script::Release, Script::ReleaseNotify, Script::Inspect];
        let fenced =
            [Script::AcquireFenced, Script::RenewFenced, Script::ReacquireFenced, Script::ReadMarker];
        self.loaded_scripts.extend(all.into_iter().chain(fenced));
    }

    /// `SCRIPT FLUSH`.
    pub fn flush_scripts(&mut self) {
        self.loaded_scripts.clear();
    }

    /// Restarts the server as a new process with this data.
    pub fn restart(&mut self, data: Data) {
        self.restarts += 1;
        self.replications += 1;
        self.loaded_scripts.clear();
        self.data = data;
        self.reset_stats();
    }

    /// Makes it a replica of a server with this data, and a master again. The process and its connections
    /// stay.
    pub fn change_role(&mut self, data: Data) {
        self.replications += 1;
        self.data = data;
    }

    /// `SWAPDB`: replaces the data, and returns the old data.
    pub fn swap(&mut self, data: Data) -> Data {
        self.swaps += 1;
        std::mem::replace(&mut self.data, data)
    }

    /// `FLUSHALL`.
    pub fn flush(&mut self) {
        self.swap(Data::new());
    }

    /// Evicts these keys because its memory is full; keys without an expiry stay.
    pub fn evict(&mut self, keys: &[DataKey]) {
        for key in keys {
            if self.data.get(key).is_some_and(|entry| entry.expires.is_some()) {
                self.data.remove(key);
                self.evicted += 1;
            }
        }
    }

    /// `CONFIG RESETSTAT`.
    pub const fn reset_stats(&mut self) {
        (self.evicted, self.swaps) = (0, 0);
    }

    /// All data, expired keys included.
    #[must_use]
    pub const fn data(&self) -> &Data {
        &self.data
    }

    /// All data, mutable.
    pub const fn data_mut(&mut self) -> &mut Data {
        &mut self.data
    }

    // Its data.

    /// The value of a key, if it exists and has not expired.
    #[must_use]
    pub fn unexpired(&self, data_key: &DataKey, nanos: u64) -> Option<&DataValue> {
        let millis = self.clock_micros(nanos) / 1000;
        self.data.get(data_key).filter(|entry| !is_expired(entry, millis))
    }

    /// The remaining ttl in true time, if the clock keeps its rate; `None` if the key never expires.
    #[must_use]
    pub fn remaining_ttl(&self, data_key: &DataKey, nanos: u64) -> Option<Duration> {
        let expires = self.unexpired(data_key, nanos)?.expires?;
        let remaining = i128::from(expires) * 1_000_000 - i128::from(self.clock.read(nanos));
        let remaining = remaining * 1_000_000 / i128::from(1_000_000 + self.clock.drift_ppm);
        Some(Duration::from_nanos(remaining.max(0) as u64))
    }

    /// The identity of its data: process, replication, evictions and swaps.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        let is_reported = |count: u64, mutant| count > 0 && self.mutant != Some(mutant);
        let evicted = is_reported(self.evicted, ScriptMutant::EvictionsUnreported)
            .then(|| format!(":{}", self.evicted));
        let swaps =
            is_reported(self.swaps, ScriptMutant::SwapsUnreported).then(|| format!(":s{}", self.swaps));
        let name = format!("n{}r{}:n{}p{}", self.index, self.restarts, self.index, self.replications);
        let name = name + &evicted.unwrap_or_default() + &swaps.unwrap_or_default();
        let reports_policy = self.evicts && self.mutant != Some(ScriptMutant::EvictionPolicyUnreported);
        Incarnation::new(&(name + if reports_policy { ":evicts" } else { "" }))
    }

    fn text(&self, data_key: &DataKey) -> Option<String> {
        let value = self.data.get(data_key)?.value.as_ref()?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    fn remove_expired(&mut self, nanos: u64) {
        let millis = self.clock_micros(nanos) / 1000;
        self.data.retain(|_, entry| !is_expired(entry, millis));
    }
}

const fn script_for(kind: RequestKind, is_fenced: bool) -> Option<Script> {
    match (kind, is_fenced) {
        (RequestKind::ReadMarker, _) => Some(Script::ReadMarker),
        (RequestKind::Release, _) => Some(Script::Release),
        (RequestKind::ReleaseAndNotify | RequestKind::ReleaseLocal, _) => Some(Script::ReleaseNotify),
        (RequestKind::Inspect, _) => Some(Script::Inspect),
        (RequestKind::Acquire, true) => Some(Script::AcquireFenced),
        (RequestKind::RaiseFence | RequestKind::Renew, true) => Some(Script::RenewFenced),
        (RequestKind::Reacquire, true) => Some(Script::ReacquireFenced),
        (RequestKind::Forget, _) => Some(Script::Forget),
        (RequestKind::Renew, false) => Some(Script::Renew),
        _ => None,
    }
}

const MAX_FENCE: u64 = (1 << 53) - 1;
/// The number of bytes of a value that an inspection returns.
const INSPECTED_BYTES: usize = 256;
/// The wall clock at true time 0, in nanoseconds since 1970.
pub const EPOCH: u64 = 1_700_000_000_000_000_000;
