//! A simulated Redis master: its data, its clock, and what our commands and scripts do there.
//!
//! It must answer as `src/node/lua` and Redis do; [`conformance`](super::conformance) is one suite for both. It is past 400 lines
//! because one server is one noun: its data, its clock and each of its scripts stand beside what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::fence::{Fence, MAX_MIN_FENCING_NUMBER, TOLERANCE_MICROS};
use crate::marker::{Incarnation, LockClusterConfig, MarkerReading};
use crate::membership::{ExpectedMarker, MarkerWrite};
use crate::mutant::{Mutant, enabled};
use crate::request::{Key, OwnerHash, Request, RequestKind};
use crate::vote::{KeyOwner, KeyState, ProbationReason, ReplyFailure, Vote};

/// A simulated Redis master.
#[derive(Clone, Debug)]
pub struct SimulatedNode {
    /// Which of the world's machines it is.
    index: usize,
    data: Data,
    loaded_scripts: BTreeSet<Script>,
    clock: Clock,
    restarts: u32,
    /// How often its data were replaced as a replica's are.
    replications: u32,
    /// How many keys it has evicted, as far as its statistics tell.
    evicted: u64,
    /// How often its databases were swapped or flushed, as far as they tell.
    swaps: u64,
    /// Whether its policy evicts keys when its memory is full.
    pub evicts: bool,
    /// The mistake that its scripts make.
    pub mutant: Option<ScriptMutant>,
    /// For how long it keeps a fence, and one of a name that is to be forgotten.
    retention_millis: u64,
    forget_millis: u64,
}

/// What a node remembers, and may lose.
pub type Data = BTreeMap<DataKey, DataValue>;

/// Where something stands in a node's data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DataKey {
    /// The key of a lock.
    Lock(Key),
    /// The fence of a key.
    Fence(Key),
    /// The processes that wait for a key here: kept by `sim/wait_queues.rs`.
    WaitQueue(Key),
    /// `quorlock:node`.
    Marker,
    /// How far the node's clock had come when it was noted last.
    Clock,
    /// The largest number of any key that was ahead of the clock when it was given.
    HighestAheadOfClock,
}

/// What stands there.
#[derive(Clone, Debug)]
pub struct DataValue {
    /// `None` for a key of another type.
    pub value: Option<Vec<u8>>,
    /// In milliseconds of the node's clock.
    pub expires: Option<u64>,
}

/// A clock that may run fast or slow, and jump.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// When it was set last, by true time.
    set_at: u64,
    /// What it showed then, in nanoseconds since 1970.
    shows: u64,
    /// How much faster than true time it runs, in millionths.
    drift_ppm: i64,
}

/// One question under way to a node.
#[derive(Clone, Debug)]
pub struct SentRequest {
    /// Of kind `ReadMarker` if it is one; then only `write` matters.
    pub request: Request,
    /// Whether the script is sent as source instead of by its hash.
    pub as_text: bool,
    /// What the node is expected to remember, where that matters.
    pub expected_marker: Option<ExpectedMarker>,
    /// What a request of kind `ReadMarker` writes first.
    pub write: Option<MarkerWrite>,
}

/// One answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A vote, and the node's clock where the reply tells it.
    Vote(Vote, Option<u64>),
    /// What a reading of the marker returned.
    Marker(Result<MarkerReading, Vote>),
}

/// A mistake in one of the scripts, made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptMutant {
    /// A renewal sets the expiry, also to an earlier one.
    RenewalShortens,
    /// A raise does not look whose the key is.
    RaiseIgnoresOwner,
    /// A raise looks neither whose the key is, nor where the fence stands.
    RaiseIgnoresOwnerAndFence,
    /// A fence that is missing begins at 1, and the hint is not used.
    MissingFenceIsZero,
    /// A release does not look whose the key is.
    ReleaseIgnoresOwner,
    /// A look does not tell how often the databases were swapped.
    SwapsUnreported,
    /// A look does not tell how many keys were evicted.
    EvictionsUnreported,
    /// That it evicts is no part of what it is.
    EvictionPolicyUnreported,
    /// A number that is ahead of the clock is forgotten with its fence.
    HighestAheadNotStored,
    /// A release calls only where the key was the lock's.
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
    /// One whose clients agreed on this.
    #[must_use]
    pub fn new(place: usize, config: LockClusterConfig) -> Self {
        Self {
            index: place,
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

    /// Runs one command at this true time.
    pub fn run(&mut self, command: &SentRequest, nanos: u64) -> Reply {
        let Request { kind, fence, .. } = &command.request;
        if let Some(script) = script_for(*kind, fence.is_some()) {
            if command.as_text {
                self.loaded_scripts.insert(script);
            } else if !self.loaded_scripts.contains(&script) {
                let unknown = Vote::Unknown(ReplyFailure::NoScript);
                return match kind {
                    RequestKind::ReadMarker => Reply::Marker(Err(unknown)),
                    _ => Reply::Vote(unknown, None),
                };
            }
        }
        self.expire(nanos);
        if *kind == RequestKind::ReadMarker {
            return Reply::Marker(Ok(self.read_marker(command.write.as_ref(), nanos)));
        }
        match (fence, kind) {
            (fence, RequestKind::ForceRelease) => {
                Reply::Vote(self.force_release(&command.request.key, fence.is_some(), nanos), None)
            }
            (fence, RequestKind::BreakOf(owner_hash)) => Reply::Vote(
                self.force_release_of(&command.request.key, *owner_hash, fence.is_some(), nanos),
                None,
            ),
            (
                Some(fence),
                RequestKind::Acquire | RequestKind::RaiseFence | RequestKind::Renew | RequestKind::Reacquire,
            ) => {
                let vote =
                    self.fenced_script(&command.request, *fence, command.expected_marker.as_ref(), nanos);
                let has_clock = !matches!(vote, Vote::Unknown(ReplyFailure::TransientError(_)));
                Reply::Vote(vote, has_clock.then(|| self.clock_micros(nanos)))
            }
            (_, RequestKind::Forget) => {
                let now = self.clock_micros(nanos);
                Reply::Vote(
                    self.forget(&command.request.key, command.expected_marker.as_ref(), now),
                    Some(now),
                )
            }
            _ => Reply::Vote(self.plain(&command.request, nanos), None),
        }
    }

    /// The stored marker, after a write if one was requested: `lua/read_marker.lua`.
    pub fn read_marker(&mut self, write: Option<&MarkerWrite>, nanos: u64) -> MarkerReading {
        // By now a real one has found by itself what has run out.
        self.expire(nanos);
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
        let high = self
            .data
            .get(&DataKey::HighestAheadOfClock)
            .and_then(|entry| parse_lua_number(entry.value.as_deref()?));
        high.filter(|high| *high < MAX_FENCE as f64).unwrap_or(0.0) as u64
    }

    fn latest_micros(&self) -> u64 {
        let latest =
            self.data.get(&DataKey::Clock).and_then(|entry| parse_lua_number(entry.value.as_deref()?));
        let is_ours =
            |latest: &f64| latest % 1.0 == 0.0 && (0.0..=MAX_MIN_FENCING_NUMBER as f64).contains(latest);
        latest.filter(is_ours).unwrap_or(0.0) as u64
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

    /// Another process, which knows this.
    pub fn restart(&mut self, data: Data) {
        self.restarts += 1;
        self.replications += 1;
        self.loaded_scripts.clear();
        self.data = data;
        self.reset_stats();
    }

    /// Made a replica of a server with these data, and a master again. The process and its connections stay.
    pub fn change_role(&mut self, data: Data) {
        self.replications += 1;
        self.data = data;
    }

    /// `SWAPDB`: what it had so far, while it has this.
    pub fn swap(&mut self, data: Data) -> Data {
        self.swaps += 1;
        std::mem::replace(&mut self.data, data)
    }

    /// `FLUSHALL`.
    pub fn flush(&mut self) {
        self.swap(Data::new());
    }

    /// Its memory is full: of the keys that expire these go.
    pub fn evict(&mut self, slots: &[DataKey]) {
        for slot in slots {
            if self.data.get(slot).is_some_and(|entry| entry.expires.is_some()) {
                self.data.remove(slot);
                self.evicted += 1;
            }
        }
    }

    /// `CONFIG RESETSTAT`.
    pub const fn reset_stats(&mut self) {
        (self.evicted, self.swaps) = (0, 0);
    }

    /// Everything that is stored, expired keys included.
    #[must_use]
    pub const fn data(&self) -> &Data {
        &self.data
    }

    /// Everything that is stored, to change it.
    pub const fn data_mut(&mut self) -> &mut Data {
        &mut self.data
    }

    // Its clock.

    /// What its clock shows at this true time, in microseconds since 1970.
    #[must_use]
    pub fn clock_micros(&self, nanos: u64) -> u64 {
        self.clock.read(nanos) / 1000
    }

    /// From now on it runs this much faster than true time, in millionths.
    pub fn set_drift(&mut self, haste: i64, nanos: u64) {
        self.clock = Clock { set_at: nanos, shows: self.clock.read(nanos), drift_ppm: haste };
    }

    /// Sets its clock forward or back by this many nanoseconds.
    pub fn jump_clock(&mut self, nanos: u64, by: i64) {
        self.clock =
            Clock { set_at: nanos, shows: self.clock.read(nanos).saturating_add_signed(by), ..self.clock };
    }

    // Its data.

    /// What stands there and has not run out.
    #[must_use]
    pub fn unexpired(&self, slot: &DataKey, nanos: u64) -> Option<&DataValue> {
        let millis = self.clock_micros(nanos) / 1000;
        self.data.get(slot).filter(|entry| !is_expired(entry, millis))
    }

    /// The remaining time to live in true time, if the clock keeps its rate; `None`: forever.
    #[must_use]
    pub fn remaining_ttl(&self, slot: &DataKey, nanos: u64) -> Option<Duration> {
        let expires = self.unexpired(slot, nanos)?.expires?;
        let left = i128::from(expires) * 1_000_000 - i128::from(self.clock.read(nanos));
        let left = left * 1_000_000 / i128::from(1_000_000 + self.clock.drift_ppm);
        Some(Duration::from_nanos(left.max(0) as u64))
    }

    /// The identity of its data: process, replication, evictions and swaps.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        let is_reported = |count: u64, mistake| count > 0 && self.mutant != Some(mistake);
        let evicted = is_reported(self.evicted, ScriptMutant::EvictionsUnreported)
            .then(|| format!(":{}", self.evicted));
        let swaps =
            is_reported(self.swaps, ScriptMutant::SwapsUnreported).then(|| format!(":s{}", self.swaps));
        let name = format!("n{}r{}:n{}p{}", self.index, self.restarts, self.index, self.replications);
        let name = name + &evicted.unwrap_or_default() + &swaps.unwrap_or_default();
        let is_marked = self.evicts && self.mutant != Some(ScriptMutant::EvictionPolicyUnreported);
        Incarnation::new(&(name + if is_marked { ":evicts" } else { "" }))
    }

    fn text(&self, slot: &DataKey) -> Option<String> {
        let value = self.data.get(slot)?.value.as_ref()?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    fn expire(&mut self, nanos: u64) {
        let millis = self.clock_micros(nanos) / 1000;
        self.data.retain(|_, entry| !is_expired(entry, millis));
    }

    /// `SET`, `PTTL` and the scripts `renew`, `release` and `inspect`.
    fn plain(&mut self, request: &Request, nanos: u64) -> Vote {
        let Request { kind, key, token, ttl, .. } = request;
        // Whom a release calls is nothing to the votes.
        let kind = if kind.is_release() { RequestKind::Release } else { *kind };
        let millis = self.clock_micros(nanos) / 1000;
        let (slot, digits) = (DataKey::Lock(key.clone()), token.digits());
        let expires = millis + ttl.as_millis() as u64;
        let mistake = self.mutant;
        let found = self.data.get_mut(&slot);
        let is_ours = found.as_ref().is_some_and(|entry| entry.value.as_deref() == Some(&digits));
        let left =
            found.as_ref().and_then(|entry| entry.expires).map(|at| Duration::from_millis(at - millis));
        match (kind, found) {
            (RequestKind::Acquire | RequestKind::Reacquire, None) => {
                self.data.insert(slot, DataValue { value: Some(digits.to_vec()), expires: Some(expires) });
                Vote::Granted
            }
            (RequestKind::Renew, None) if enabled(Mutant::ResurrectingRenewal) => {
                self.data.insert(slot, DataValue { value: Some(digits.to_vec()), expires: Some(expires) });
                Vote::Granted
            }
            (RequestKind::QueryTtl, Some(_)) => Vote::HeldByOther { remaining: left },
            (RequestKind::Renew, Some(entry)) if is_ours => {
                extend_expiry(entry, expires, mistake);
                Vote::Granted
            }
            (RequestKind::Acquire | RequestKind::Reacquire | RequestKind::Renew, Some(_)) => {
                Vote::HeldByOther { remaining: None }
            }
            (RequestKind::Release, Some(_))
                if !is_ours && mistake != Some(ScriptMutant::ReleaseIgnoresOwner) =>
            {
                Vote::HeldByOther { remaining: None }
            }
            (RequestKind::Release, Some(_)) => {
                self.data.remove(&slot);
                Vote::Granted
            }
            (RequestKind::Inspect, found) => Vote::Inspected(KeyState {
                holder: found.as_deref().map_or(KeyOwner::Unheld, owner),
                remaining: left,
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

    /// The script `break`.
    pub fn force_release(&mut self, key: &Key, is_fenced: bool, nanos: u64) -> Vote {
        let (slot, now) = (DataKey::Fence(key.clone()), self.clock_micros(nanos));
        let number = match self.data.get(&slot) {
            None => Some(0.0),
            Some(entry) => entry.value.as_deref().and_then(parse_lua_number),
        };
        let number = number.filter(|number| number % 1.0 == 0.0 && *number < MAX_FENCE as f64);
        if let Some(number) = number.filter(|_| is_fenced) {
            self.store_fence(slot, (number as u64 + 1).max(now), now);
        }
        if self.data.remove(&DataKey::Lock(key.clone())).is_some() { Vote::Granted } else { Vote::NotHeld }
    }

    /// The same with one owner's hash.
    fn force_release_of(&mut self, key: &Key, owner_hash: OwnerHash, is_fenced: bool, nanos: u64) -> Vote {
        match self.data.get(&DataKey::Lock(key.clone())).map(owner) {
            None => Vote::NotHeld,
            Some(holder) if holder == KeyOwner::Owner(owner_hash) => {
                self.force_release(key, is_fenced, nanos)
            }
            Some(_) => Vote::HeldByOther { remaining: None },
        }
    }

    /// The scripts `grant`, `hold` and `reacquire`.
    fn fenced_script(
        &mut self,
        request: &Request,
        fence: Fence,
        expected_marker: Option<&ExpectedMarker>,
        nanos: u64,
    ) -> Vote {
        let now = self.clock_micros(nanos);
        if let Some(refusal) = self.wrong_type_error(&DataKey::Marker) {
            return Vote::Unknown(refusal);
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
            (RequestKind::Acquire, Fence::Hint { hint, floor }) => {
                self.acquire_fenced(request, hint, floor.max(expected_marker.fencing_numbers_above), now)
            }
            (RequestKind::Reacquire, Fence::Number(number)) => self.reacquire_fenced(request, number, now),
            (RequestKind::RaiseFence | RequestKind::Renew, Fence::Number(number)) => {
                self.renew_fenced(request, number, now)
            }
            _ => Vote::Unknown(ReplyFailure::UnexpectedReply),
        }
    }

    fn acquire_fenced(&mut self, request: &Request, hint: u64, floor: u64, now: u64) -> Vote {
        let slot = DataKey::Lock(request.key.clone());
        if let Some(held) = self.held_by_other(&slot, now) {
            return held;
        }
        let fence = DataKey::Fence(request.key.clone());
        if let Some(refusal) = self.wrong_type_error(&fence) {
            return Vote::Unknown(refusal);
        }
        let last = match self.data.get_mut(&fence) {
            Some(entry) => {
                let last = entry.value.as_deref().and_then(parse_lua_number).unwrap_or(f64::NAN);
                if last % 1.0 != 0.0 || last >= MAX_FENCE as f64 {
                    entry.expires = Some(now / 1000 + self.retention_millis);
                    return Vote::Unknown(ReplyFailure::TransientError("FENCE".into()));
                }
                // Below 2^53, so it is exact; below 0 it is as good as 0.
                last as u64
            }
            None if self.mutant == Some(ScriptMutant::MissingFenceIsZero) => 0,
            None => (now - TOLERANCE_MICROS).max(self.highest_ahead_of_clock()),
        };
        let base = if self.mutant == Some(ScriptMutant::MissingFenceIsZero) { last } else { last.max(floor) };
        let is_taken = hint > base && hint <= now + TOLERANCE_MICROS;
        let number =
            if is_taken && self.mutant != Some(ScriptMutant::MissingFenceIsZero) { hint } else { base + 1 };
        let expires = now / 1000 + request.ttl.as_millis() as u64;
        self.data
            .insert(slot, DataValue { value: Some(request.token.digits().to_vec()), expires: Some(expires) });
        self.store_fence(fence, number, now);
        Vote::Fenced(number)
    }

    fn reacquire_fenced(&mut self, request: &Request, number: u64, now: u64) -> Vote {
        let (slot, fence) = (DataKey::Lock(request.key.clone()), DataKey::Fence(request.key.clone()));
        if let Some(refusal) = self.wrong_type_error(&fence) {
            return Vote::Unknown(refusal);
        }
        if let Some(held) = self.held_by_other(&slot, now) {
            return held;
        }
        if self.fence_value(&fence) > number as f64 {
            return Vote::FencedOut { fence: fence_in_reply(self.fence_value(&fence)) };
        }
        let expires = now / 1000 + request.ttl.as_millis() as u64;
        self.data
            .insert(slot, DataValue { value: Some(request.token.digits().to_vec()), expires: Some(expires) });
        self.store_fence(fence, number, now);
        Vote::Granted
    }

    fn renew_fenced(&mut self, request: &Request, number: u64, now: u64) -> Vote {
        let (slot, fence) = (DataKey::Lock(request.key.clone()), DataKey::Fence(request.key.clone()));
        let mistake = self.mutant.filter(|_| request.kind == RequestKind::RaiseFence);
        let is_blind = matches!(
            mistake,
            Some(ScriptMutant::RaiseIgnoresOwner | ScriptMutant::RaiseIgnoresOwnerAndFence)
        );
        let expires = now / 1000 + request.ttl.as_millis() as u64;
        if request.kind == RequestKind::Renew
            && enabled(Mutant::ResurrectingRenewal)
            && !self.data.contains_key(&slot)
        {
            self.data.insert(
                slot,
                DataValue { value: Some(request.token.digits().to_vec()), expires: Some(expires) },
            );
            self.store_fence(fence, number, now);
            return Vote::Granted;
        }
        match self.data.get(&slot) {
            _ if is_blind => {}
            None => return Vote::NotHeld,
            Some(entry) if entry.value.as_deref() == Some(&request.token.digits()) => {}
            Some(_) => return self.held_by_other(&slot, now).unwrap_or(Vote::NotHeld),
        }
        if let Some(refusal) = self.wrong_type_error(&fence) {
            return Vote::Unknown(refusal);
        }
        let stands_at = self.fence_value(&fence);
        let is_outranked =
            stands_at > number as f64 && mistake != Some(ScriptMutant::RaiseIgnoresOwnerAndFence);
        if is_outranked {
            self.extend_fence(&fence, now);
        } else {
            self.store_fence(fence, number, now);
        }
        if request.kind == RequestKind::Renew
            && let Some(entry) = self.data.get_mut(&slot)
        {
            extend_expiry(entry, expires, self.mutant);
        }
        if is_outranked { Vote::FencedOut { fence: fence_in_reply(stands_at) } } else { Vote::Granted }
    }

    fn forget(&mut self, key: &Key, expected_marker: Option<&ExpectedMarker>, now: u64) -> Vote {
        if expected_marker.is_none_or(|expected_marker| {
            self.text(&DataKey::Marker).as_deref() != Some(&*expected_marker.marker)
        }) {
            return Vote::Unknown(ReplyFailure::MarkerMismatch);
        }
        if let Some(held) = self.held_by_other(&DataKey::Lock(key.clone()), now) {
            return held;
        }
        let slot = DataKey::Fence(key.clone());
        let Some(entry) = self.data.get_mut(&slot) else { return Vote::NotHeld };
        let number = entry.value.as_deref().and_then(parse_lua_number).filter(|number| number % 1.0 == 0.0);
        let number = number.filter(|number| *number < MAX_FENCE as f64).unwrap_or(0.0) as u64;
        let forgotten_at = (number.min(now) / 1000 + self.forget_millis).max(now / 1000);
        let is_sooner = entry.expires.is_none_or(|expires| expires > forgotten_at);
        if is_sooner {
            entry.expires = Some(forgotten_at);
        }
        if forgotten_at <= now / 1000 {
            self.data.remove(&slot);
        }
        Vote::Granted
    }

    fn held_by_other(&self, slot: &DataKey, now: u64) -> Option<Vote> {
        let entry = self.data.get(slot)?;
        let remaining = entry.expires.map(|expires| Duration::from_millis(expires - now / 1000));
        Some(Vote::HeldByOther { remaining })
    }

    /// As `hold` and `reacquire` read it: what is no number is none.
    fn fence_value(&self, slot: &DataKey) -> f64 {
        self.data.get(slot).and_then(|entry| parse_lua_number(entry.value.as_deref()?)).unwrap_or(0.0)
    }

    /// What `GET` says to a key that is no string.
    fn wrong_type_error(&self, slot: &DataKey) -> Option<ReplyFailure> {
        let is_other = self.data.get(slot).is_some_and(|entry| entry.value.is_none());
        is_other.then(|| ReplyFailure::TransientError("WRONGTYPE".into()))
    }

    fn extend_fence(&mut self, slot: &DataKey, now: u64) {
        let expires = Some(now / 1000 + self.retention_millis);
        if let Some(entry) = self.data.get_mut(slot) {
            entry.expires = expires;
        }
    }

    fn store_fence(&mut self, slot: DataKey, number: u64, now: u64) {
        let expires = Some(now / 1000 + self.retention_millis);
        let value = Some(number.to_string().into_bytes());
        self.data.insert(slot, DataValue { value: value.clone(), expires });
        let is_high = number > now + TOLERANCE_MICROS && number > self.highest_ahead_of_clock();
        if is_high && self.mutant != Some(ScriptMutant::HighestAheadNotStored) {
            self.data.insert(DataKey::HighestAheadOfClock, DataValue { value, expires: None });
        }
    }
}

/// How often the clock is noted under this marker, in microseconds: four times in a max ttl.
fn clock_note_period(marker: &str) -> Option<u64> {
    let mut words = marker.split(' ');
    let longest = (words.next() == Some("quorlock3")).then(|| words.nth(3)).flatten()?;
    longest.parse::<u64>().ok().map(|millis| millis * 250)
}

impl Clock {
    fn read(&self, nanos: u64) -> u64 {
        let gone = i128::from(nanos) - i128::from(self.set_at);
        let gone = gone * i128::from(1_000_000 + self.drift_ppm) / 1_000_000;
        (i128::from(self.shows) + gone) as u64
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self { set_at: 0, shows: EPOCH, drift_ppm: 0 }
    }
}

/// Redis counts whole milliseconds. Ours may die up to one early, which is worse for us than what it does.
fn is_expired(entry: &DataValue, millis: u64) -> bool {
    entry.expires.is_some_and(|expires| expires <= millis)
}

/// Whose an inspection says it is.
fn owner(entry: &DataValue) -> KeyOwner {
    let owner_hash =
        |value: &Vec<u8>| KeyOwner::Owner(OwnerHash::of(&value[..value.len().min(INSPECTED_BYTES)]));
    entry.value.as_ref().map_or(KeyOwner::NotALock, owner_hash)
}

fn extend_expiry(entry: &mut DataValue, expires: u64, mistake: Option<ScriptMutant>) {
    let is_shorter = entry.expires.is_some_and(|old| old >= expires);
    if !is_shorter || mistake == Some(ScriptMutant::RenewalShortens) {
        entry.expires = Some(expires);
    }
}

/// As `tonumber` reads it: numbers are floating, may be in hexadecimal, and may have blanks around.
fn parse_lua_number(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(|number| number as f64),
        None => text.parse().ok(),
    }
}

/// A fence as a reply can say it.
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
/// The wall clock at boot.
pub const EPOCH: u64 = 1_700_000_000_000_000_000;
