//! The effect of commands and scripts on the data of a simulated node, as in `src/node/lua`.

use std::time::Duration;

use super::{DataKey, DataValue, INSPECTED_BYTES, MAX_FENCE, ScriptMutant, SimulatedNode};
use crate::fence::{CLOCK_TOLERANCE_MICROS, Fence};
use crate::membership::ExpectedMarker;
use crate::mutant::{Mutant, enabled};
use crate::request::{Key, OwnerHash, Request, RequestKind};
use crate::vote::{KeyOwner, KeyState, ProbationReason, ReplyFailure, Vote};

impl SimulatedNode {
    /// `SET`, `PTTL` and the scripts `renew`, `release` and `inspect`.
    pub(super) fn plain_request(&mut self, request: &Request, nanos: u64) -> Vote {
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
            (RequestKind::Adopt, _) => self.adopt_plain(request, expires),
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
    pub(super) fn force_release_of(
        &mut self,
        key: &Key,
        owner_hash: OwnerHash,
        is_fenced: bool,
        nanos: u64,
    ) -> Vote {
        match self.data.get(&DataKey::Lock(key.clone())).map(owner_of) {
            None => Vote::NotHeld,
            Some(holder) if holder == KeyOwner::Owner(owner_hash) => {
                self.force_release(key, is_fenced, nanos)
            }
            Some(_) => Vote::HeldByOther { remaining: None },
        }
    }

    /// The scripts `acquire_fenced`, `adopt_fenced`, `renew_fenced` and `reacquire_fenced`.
    pub(super) fn fenced_script(
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
            self.mutant == Some(ScriptMutant::MarkerNotCompared)
                || self.text(&DataKey::Marker).as_deref() == Some(&*expected_marker.marker)
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
            (RequestKind::Adopt, Fence::Hint { hint, min_fencing_number }) => self.adopt_fenced(
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

    pub(super) fn acquire_fenced(&mut self, request: &Request, hint: u64, min_number: u64, now: u64) -> Vote {
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

    pub(super) fn reacquire_fenced(&mut self, request: &Request, number: u64, now: u64) -> Vote {
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

    pub(super) fn renew_fenced(&mut self, request: &Request, number: u64, now: u64) -> Vote {
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

    pub(super) fn forget(&mut self, key: &Key, expected_marker: Option<&ExpectedMarker>, now: u64) -> Vote {
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

    pub(super) fn held_by_other(&self, data_key: &DataKey, now: u64) -> Option<Vote> {
        let entry = self.data.get(data_key)?;
        let remaining = entry.expires.map(|expires| Duration::from_millis(expires - now / 1000));
        Some(Vote::HeldByOther { remaining })
    }

    /// A fence as `renew_fenced` and `reacquire_fenced` read it: text that is not a number counts as 0.
    pub(super) fn fence_value(&self, data_key: &DataKey) -> f64 {
        self.data.get(data_key).and_then(|entry| parse_lua_number(entry.value.as_deref()?)).unwrap_or(0.0)
    }

    /// The error of `GET` on a key of another type than string.
    pub(super) fn wrong_type_error(&self, data_key: &DataKey) -> Option<ReplyFailure> {
        let is_other = self.data.get(data_key).is_some_and(|entry| entry.value.is_none());
        is_other.then(|| ReplyFailure::TransientError("WRONGTYPE".into()))
    }

    pub(super) fn extend_fence(&mut self, data_key: &DataKey, now: u64) {
        let expires = Some(now / 1000 + self.retention_millis);
        if let Some(entry) = self.data.get_mut(data_key) {
            entry.expires = expires;
        }
    }

    pub(super) fn store_fence(&mut self, data_key: DataKey, number: u64, now: u64) {
        let expires = Some(now / 1000 + self.retention_millis);
        let value = Some(number.to_string().into_bytes());
        self.data.insert(data_key, DataValue { value: value.clone(), expires });
        let is_highest = number > now + CLOCK_TOLERANCE_MICROS && number > self.highest_ahead_of_clock();
        if is_highest && self.mutant != Some(ScriptMutant::HighestAheadNotStored) {
            self.data.insert(DataKey::HighestAheadOfClock, DataValue { value, expires: None });
        }
    }
}

/// Whether a value has expired. Redis counts whole milliseconds; this one may expire up to 1 ms early, which
/// is the harder case for the protocol.
pub(super) fn is_expired(entry: &DataValue, millis: u64) -> bool {
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
pub(super) fn parse_lua_number(text: &[u8]) -> Option<f64> {
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
