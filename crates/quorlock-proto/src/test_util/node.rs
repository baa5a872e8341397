//! A simulated Redis master: its data, its clock, and the effect of quorlock's commands and scripts.
//!
//! It must reply as `src/node/lua` and Redis do; the [`conformance`](super::conformance) suite tests both.
//! Arguments named `nanos` are the simulation's true time. The file is past 400 lines because it contains one
//! server: data, clock and scripts share private state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::fence::{CLOCK_TOLERANCE_MICROS, Fence, MAX_MIN_FENCING_NUMBER};
use crate::marker::{Incarnation, LockClusterConfig, MarkerReading};
use crate::membership::{ExpectedMarker, MarkerWrite};
use crate::mutant::{Mutant, enabled};
use crate::request::{Key, OwnerHash, Request, RequestKind};
use crate::vote::{KeyOwner, KeyState, ProbationReason, ReplyFailure, Vote};

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

/// A clock that can drift and jump.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// The true time at which it was set last.
    set_at: u64,
    /// Its reading at that time, in nanoseconds since 1970.
    reading: u64,
    /// How much faster than true time it runs, in parts per million.
    drift_ppm: i64,
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
    pub write: Option<MarkerWrite>,
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
                RequestKind::Acquire | RequestKind::RaiseFence | RequestKind::Renew | RequestKind::Reacquire,
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

    /// The stored marker, after a write if one was requested: `lua/read_marker.lua`.
    pub fn read_marker(&mut self, write: Option<&MarkerWrite>, nanos: u64) -> MarkerReading {
        // A real server has removed expired keys by itself by now.
        self.remove_expired(nanos);
        let incarnation = self.incarnation();
        let now = self.clock_micros(nanos);
        if let Some(MarkerWrite { replaces, identity, backdate, written_micros, base_micros }) = write
            && self.marker().as_deref().unwrap_or_default() == replaces.as_deref().unwrap_or_default()
        {
            let since = now - backdate.as_micros() as u64;
            let marker =
                format!("{identity} {} {since} {written_micros} {base_micros}", incarnation.as_str());
            self.data.insert(DataKey::Marker, DataValue { value: Some(marker.into_bytes()), expires: None });
        }
        let marker: Option<Arc<str>> = self.marker().filter(|text| !text.is_empty()).map(Arc::from);
        let latest_micros = self.latest_micros();
        if let Some(period) = marker.as_deref().and_then(clock_note_period)
            && now > latest_micros + period
        {
            let value = Some(now.to_string().into_bytes());
            self.data.insert(DataKey::Clock, DataValue { value, expires: None });
        }
        MarkerReading { marker, incarnation, evicts: self.evicts, micros: now, latest_micros }
    }

    fn highest_ahead_of_clock(&self) -> u64 {
        let highest = self
            .data
            .get(&DataKey::HighestAheadOfClock)
            .and_then(|entry| parse_lua_number(entry.value.as_deref()?));
        highest.filter(|highest| *highest < MAX_FENCE as f64).unwrap_or(0.0) as u64
    }

    fn latest_micros(&self) -> u64 {
        let latest =
            self.data.get(&DataKey::Clock).and_then(|entry| parse_lua_number(entry.value.as_deref()?));
        let is_valid =
            |latest: &f64| latest % 1.0 == 0.0 && (0.0..=MAX_MIN_FENCING_NUMBER as f64).contains(latest);
        latest.filter(is_valid).unwrap_or(0.0) as u64
    }

    fn marker(&self) -> Option<String> {
        match self.data.get(&DataKey::Marker)?.value {
            Some(_) => self.text(&DataKey::Marker),
            None => Some("of another type".to_owned()),
        }
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

    // Its clock.

    /// The node's time, in microseconds since 1970.
    #[must_use]
    pub fn clock_micros(&self, nanos: u64) -> u64 {
        self.clock.read(nanos) / 1000
    }

    /// Sets how much faster than true time the node's clock runs, in parts per million.
    pub fn set_drift(&mut self, drift_ppm: i64, nanos: u64) {
        self.clock = Clock { set_at: nanos, reading: self.clock.read(nanos), drift_ppm };
    }

    /// Moves the node's clock forward or back by `by` nanoseconds.
    pub fn jump_clock(&mut self, nanos: u64, by: i64) {
        self.clock =
            Clock { set_at: nanos, reading: self.clock.read(nanos).saturating_add_signed(by), ..self.clock };
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

    /// `SET`, `PTTL` and the scripts `renew`, `release` and `inspect`.
    fn plain_request(&mut self, request: &Request, nanos: u64) -> Vote {
        let Request { kind, key, token, ttl, .. } = request;
        // All kinds of release cast the same votes.
        let kind = if kind.is_release() { RequestKind::Release } else { *kind };
        let millis = self.clock_micros(nanos) / 1000;
        let (data_key, token_digits) = (DataKey::Lock(key.clone()), token.digits());
        let expires = millis + ttl.as_millis() as u64;
        let mutant = self.mutant;
        let found = self.data.get_mut(&data_key);
        let is_owner = found.as_ref().is_some_and(|entry| entry.value.as_deref() == Some(&token_digits));
        let remaining =
            found.as_ref().and_then(|entry| entry.expires).map(|at| Duration::from_millis(at - millis));
        match (kind, found) {
            (RequestKind::Acquire | RequestKind::Reacquire, None) => {
                self.data.insert(
                    data_key,
                    DataValue { value: Some(token_digits.to_vec()), expires: Some(expires) },
                );
                Vote::Granted
            }
            (RequestKind::Renew, None) if enabled(Mutant::ResurrectingRenewal) => {
                self.data.insert(
                    data_key,
                    DataValue { value: Some(token_digits.to_vec()), expires: Some(expires) },
                );
                Vote::Granted
            }
            (RequestKind::QueryTtl, Some(_)) => Vote::HeldByOther { remaining },
            (RequestKind::Renew, Some(entry)) if is_owner => {
                extend_expiry(entry, expires, mutant);
                Vote::Granted
            }
            (RequestKind::Acquire | RequestKind::Reacquire | RequestKind::Renew, Some(_)) => {
                Vote::HeldByOther { remaining: None }
            }
            (RequestKind::Release, Some(_))
                if !is_owner && mutant != Some(ScriptMutant::ReleaseIgnoresOwner) =>
            {
                Vote::HeldByOther { remaining: None }
            }
            (RequestKind::Release, Some(_)) => {
                self.data.remove(&data_key);
                Vote::Granted
            }
            (RequestKind::Inspect, found) => Vote::Inspected(KeyState {
                holder: found.as_deref().map_or(KeyOwner::Unheld, owner_of),
                remaining,
            }),
            (RequestKind::QueryTtl | RequestKind::Renew | RequestKind::Release, None) => Vote::NotHeld,
            (
                RequestKind::RaiseFence
                | RequestKind::ReadMarker
                | RequestKind::Enqueue
                | RequestKind::Dequeue
                | RequestKind::ForceRelease,
                _,
            ) => Vote::Unknown(ReplyFailure::UnexpectedReply),
            (RequestKind::ReleaseAndNotify | RequestKind::ReleaseLocal, _) => {
                unreachable!("a release like any other")
            }
            (RequestKind::Forget | RequestKind::BreakOf(_), _) => unreachable!("scripts of their own"),
        }
    }

    /// The script `force_release` for any owner.
    pub fn force_release(&mut self, key: &Key, is_fenced: bool, nanos: u64) -> Vote {
        let (data_key, now) = (DataKey::Fence(key.clone()), self.clock_micros(nanos));
        let number = match self.data.get(&data_key) {
            None => Some(0.0),
            Some(entry) => entry.value.as_deref().and_then(parse_lua_number),
        };
        let number = number.filter(|number| number % 1.0 == 0.0 && *number < MAX_FENCE as f64);
        if let Some(number) = number.filter(|_| is_fenced) {
            self.store_fence(data_key, (number as u64 + 1).max(now), now);
        }
        if self.data.remove(&DataKey::Lock(key.clone())).is_some() { Vote::Granted } else { Vote::NotHeld }
    }

    /// Force-releases the key if its owner has this hash.
    fn force_release_of(&mut self, key: &Key, owner_hash: OwnerHash, is_fenced: bool, nanos: u64) -> Vote {
        match self.data.get(&DataKey::Lock(key.clone())).map(owner_of) {
            None => Vote::NotHeld,
            Some(holder) if holder == KeyOwner::Owner(owner_hash) => {
                self.force_release(key, is_fenced, nanos)
            }
            Some(_) => Vote::HeldByOther { remaining: None },
        }
    }

    /// The scripts `acquire_fenced`, `renew_fenced` and `reacquire_fenced`.
    fn fenced_script(
        &mut self,
        request: &Request,
        fence: Fence,
        expected_marker: Option<&ExpectedMarker>,
        nanos: u64,
    ) -> Vote {
        let now = self.clock_micros(nanos);
        if let Some(error) = self.wrong_type_error(&DataKey::Marker) {
            return Vote::Unknown(error);
        }
        let Some(expected_marker) = expected_marker.filter(|expected_marker| {
            self.text(&DataKey::Marker).as_deref() == Some(&*expected_marker.marker)
        }) else {
            return Vote::Unknown(ReplyFailure::MarkerMismatch);
        };
        if now < expected_marker.votes_from_micros {
            let remaining = Duration::from_millis((expected_marker.votes_from_micros - now).div_ceil(1000));
            return Vote::OnProbation { remaining, reason: ProbationReason::PossibleDataLoss };
        }
        match (request.kind, fence) {
            (RequestKind::Acquire, Fence::Hint { hint, min_fencing_number }) => self.acquire_fenced(
                request,
                hint,
                min_fencing_number.max(expected_marker.fencing_numbers_above),
                now,
            ),
            (RequestKind::Reacquire, Fence::Number(number)) => self.reacquire_fenced(request, number, now),
            (RequestKind::RaiseFence | RequestKind::Renew, Fence::Number(number)) => {
                self.renew_fenced(request, number, now)
            }
            _ => Vote::Unknown(ReplyFailure::UnexpectedReply),
        }
    }

    fn acquire_fenced(&mut self, request: &Request, hint: u64, min_number: u64, now: u64) -> Vote {
        let data_key = DataKey::Lock(request.key.clone());
        if let Some(vote) = self.held_by_other(&data_key, now) {
            return vote;
        }
        let fence_key = DataKey::Fence(request.key.clone());
        if let Some(error) = self.wrong_type_error(&fence_key) {
            return Vote::Unknown(error);
        }
        let last = match self.data.get_mut(&fence_key) {
            Some(entry) => {
                let last = entry.value.as_deref().and_then(parse_lua_number).unwrap_or(f64::NAN);
                if last % 1.0 != 0.0 || last >= MAX_FENCE as f64 {
                    entry.expires = Some(now / 1000 + self.retention_millis);
                    return Vote::Unknown(ReplyFailure::TransientError("FENCE".into()));
                }
                // Below 2^53, so it is exact; a negative value becomes 0.
                last as u64
            }
            None if self.mutant == Some(ScriptMutant::MissingFenceIsZero) => 0,
            None => (now - CLOCK_TOLERANCE_MICROS).max(self.highest_ahead_of_clock()),
        };
        let base =
            if self.mutant == Some(ScriptMutant::MissingFenceIsZero) { last } else { last.max(min_number) };
        let takes_hint = hint > base && hint <= now + CLOCK_TOLERANCE_MICROS;
        let number =
            if takes_hint && self.mutant != Some(ScriptMutant::MissingFenceIsZero) { hint } else { base + 1 };
        let expires = now / 1000 + request.ttl.as_millis() as u64;
        self.data.insert(
            data_key,
            DataValue { value: Some(request.token.digits().to_vec()), expires: Some(expires) },
        );
        self.store_fence(fence_key, number, now);
        Vote::Fenced(number)
    }

    fn reacquire_fenced(&mut self, request: &Request, number: u64, now: u64) -> Vote {
        let (data_key, fence_key) = (DataKey::Lock(request.key.clone()), DataKey::Fence(request.key.clone()));
        if let Some(error) = self.wrong_type_error(&fence_key) {
            return Vote::Unknown(error);
        }
        if let Some(vote) = self.held_by_other(&data_key, now) {
            return vote;
        }
        if self.fence_value(&fence_key) > number as f64 {
            return Vote::FencedOut { fence: fence_in_reply(self.fence_value(&fence_key)) };
        }
        let expires = now / 1000 + request.ttl.as_millis() as u64;
        self.data.insert(
            data_key,
            DataValue { value: Some(request.token.digits().to_vec()), expires: Some(expires) },
        );
        self.store_fence(fence_key, number, now);
        Vote::Granted
    }

    fn renew_fenced(&mut self, request: &Request, number: u64, now: u64) -> Vote {
        let (data_key, fence_key) = (DataKey::Lock(request.key.clone()), DataKey::Fence(request.key.clone()));
        let mutant = self.mutant.filter(|_| request.kind == RequestKind::RaiseFence);
        let ignores_owner =
            matches!(mutant, Some(ScriptMutant::RaiseIgnoresOwner | ScriptMutant::RaiseIgnoresOwnerAndFence));
        let expires = now / 1000 + request.ttl.as_millis() as u64;
        if request.kind == RequestKind::Renew
            && enabled(Mutant::ResurrectingRenewal)
            && !self.data.contains_key(&data_key)
        {
            self.data.insert(
                data_key,
                DataValue { value: Some(request.token.digits().to_vec()), expires: Some(expires) },
            );
            self.store_fence(fence_key, number, now);
            return Vote::Granted;
        }
        match self.data.get(&data_key) {
            _ if ignores_owner => {}
            None => return Vote::NotHeld,
            Some(entry) if entry.value.as_deref() == Some(&request.token.digits()) => {}
            Some(_) => return self.held_by_other(&data_key, now).unwrap_or(Vote::NotHeld),
        }
        if let Some(error) = self.wrong_type_error(&fence_key) {
            return Vote::Unknown(error);
        }
        let fence_value = self.fence_value(&fence_key);
        let is_fenced_out =
            fence_value > number as f64 && mutant != Some(ScriptMutant::RaiseIgnoresOwnerAndFence);
        if is_fenced_out {
            self.extend_fence(&fence_key, now);
        } else {
            self.store_fence(fence_key, number, now);
        }
        if request.kind == RequestKind::Renew
            && let Some(entry) = self.data.get_mut(&data_key)
        {
            extend_expiry(entry, expires, self.mutant);
        }
        if is_fenced_out { Vote::FencedOut { fence: fence_in_reply(fence_value) } } else { Vote::Granted }
    }

    fn forget(&mut self, key: &Key, expected_marker: Option<&ExpectedMarker>, now: u64) -> Vote {
        if expected_marker.is_none_or(|expected_marker| {
            self.text(&DataKey::Marker).as_deref() != Some(&*expected_marker.marker)
        }) {
            return Vote::Unknown(ReplyFailure::MarkerMismatch);
        }
        if let Some(vote) = self.held_by_other(&DataKey::Lock(key.clone()), now) {
            return vote;
        }
        let data_key = DataKey::Fence(key.clone());
        let Some(entry) = self.data.get_mut(&data_key) else { return Vote::NotHeld };
        let number = entry.value.as_deref().and_then(parse_lua_number).filter(|number| number % 1.0 == 0.0);
        let number = number.filter(|number| *number < MAX_FENCE as f64).unwrap_or(0.0) as u64;
        let forgotten_at = (number.min(now) / 1000 + self.forget_millis).max(now / 1000);
        let expires_sooner = entry.expires.is_none_or(|expires| expires > forgotten_at);
        if expires_sooner {
            entry.expires = Some(forgotten_at);
        }
        if forgotten_at <= now / 1000 {
            self.data.remove(&data_key);
        }
        Vote::Granted
    }

    fn held_by_other(&self, data_key: &DataKey, now: u64) -> Option<Vote> {
        let entry = self.data.get(data_key)?;
        let remaining = entry.expires.map(|expires| Duration::from_millis(expires - now / 1000));
        Some(Vote::HeldByOther { remaining })
    }

    /// A fence as `renew_fenced` and `reacquire_fenced` read it: text that is not a number counts as 0.
    fn fence_value(&self, data_key: &DataKey) -> f64 {
        self.data.get(data_key).and_then(|entry| parse_lua_number(entry.value.as_deref()?)).unwrap_or(0.0)
    }

    /// The error of `GET` on a key of another type than string.
    fn wrong_type_error(&self, data_key: &DataKey) -> Option<ReplyFailure> {
        let is_other = self.data.get(data_key).is_some_and(|entry| entry.value.is_none());
        is_other.then(|| ReplyFailure::TransientError("WRONGTYPE".into()))
    }

    fn extend_fence(&mut self, data_key: &DataKey, now: u64) {
        let expires = Some(now / 1000 + self.retention_millis);
        if let Some(entry) = self.data.get_mut(data_key) {
            entry.expires = expires;
        }
    }

    fn store_fence(&mut self, data_key: DataKey, number: u64, now: u64) {
        let expires = Some(now / 1000 + self.retention_millis);
        let value = Some(number.to_string().into_bytes());
        self.data.insert(data_key, DataValue { value: value.clone(), expires });
        let is_highest = number > now + CLOCK_TOLERANCE_MICROS && number > self.highest_ahead_of_clock();
        if is_highest && self.mutant != Some(ScriptMutant::HighestAheadNotStored) {
            self.data.insert(DataKey::HighestAheadOfClock, DataValue { value, expires: None });
        }
    }
}

/// How often a node with this marker notes its clock, in microseconds: four times in a max ttl.
fn clock_note_period(marker: &str) -> Option<u64> {
    let mut fields = marker.split(' ');
    let max_ttl_millis = (fields.next() == Some("quorlock3")).then(|| fields.nth(3)).flatten()?;
    max_ttl_millis.parse::<u64>().ok().map(|millis| millis * 250)
}

impl Clock {
    fn read(&self, nanos: u64) -> u64 {
        let elapsed = i128::from(nanos) - i128::from(self.set_at);
        let elapsed = elapsed * i128::from(1_000_000 + self.drift_ppm) / 1_000_000;
        (i128::from(self.reading) + elapsed) as u64
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self { set_at: 0, reading: EPOCH, drift_ppm: 0 }
    }
}

/// Whether a value has expired. Redis counts whole milliseconds; this one may expire up to 1 ms early, which
/// is the harder case for the protocol.
fn is_expired(entry: &DataValue, millis: u64) -> bool {
    entry.expires.is_some_and(|expires| expires <= millis)
}

/// The key's owner as an inspection reports it.
fn owner_of(entry: &DataValue) -> KeyOwner {
    let owner_hash =
        |value: &Vec<u8>| KeyOwner::Owner(OwnerHash::of(&value[..value.len().min(INSPECTED_BYTES)]));
    entry.value.as_ref().map_or(KeyOwner::NotALock, owner_hash)
}

fn extend_expiry(entry: &mut DataValue, expires: u64, mutant: Option<ScriptMutant>) {
    let is_not_longer = entry.expires.is_some_and(|old| old >= expires);
    if !is_not_longer || mutant == Some(ScriptMutant::RenewalShortens) {
        entry.expires = Some(expires);
    }
}

/// Parses a number as Lua's `tonumber` does: floating point or hexadecimal, with blanks around.
fn parse_lua_number(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(|number| number as f64),
        None => text.parse().ok(),
    }
}

/// A fence as a reply can contain it: at most [`MAX_FENCE`].
fn fence_in_reply(fence: f64) -> u64 {
    fence.min(MAX_FENCE as f64) as u64
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
