//! The effect of the adoption scripts on the data of a simulated node: `lua/{adopt,adopt_fenced}.lua`.

use super::scripts::parse_lua_number;
use super::{DataKey, DataValue, MAX_FENCE, ScriptMutant, SimulatedNode};
use crate::fence::CLOCK_TOLERANCE_MICROS;
use crate::request::Request;
use crate::vote::{ReplyFailure, Vote};

impl SimulatedNode {
    /// The script `adopt`. The new key expires at `expires`, in milliseconds of the node's clock.
    pub(super) fn adopt_plain(&mut self, request: &Request, expires: u64) -> Vote {
        let data_key = DataKey::Lock(request.key.clone());
        let vote = match self.data.get(&data_key) {
            None if self.mutant == Some(ScriptMutant::AdoptsMissingKey) => Vote::Granted,
            None => Vote::NotHeld,
            Some(entry) if self.may_adopt(request, entry) => Vote::Granted,
            Some(_) => Vote::HeldByOther { remaining: None },
        };
        if vote == Vote::Granted {
            self.set_owner(data_key, request, expires);
        }
        vote
    }

    /// The script `adopt_fenced`, after its checks of marker and probation.
    pub(super) fn adopt_fenced(&mut self, request: &Request, hint: u64, min_number: u64, now: u64) -> Vote {
        let (data_key, fence_key) = (DataKey::Lock(request.key.clone()), DataKey::Fence(request.key.clone()));
        match self.data.get(&data_key) {
            None if self.mutant == Some(ScriptMutant::AdoptsMissingKey) => {}
            None => return Vote::NotHeld,
            Some(entry) if self.may_adopt(request, entry) => {}
            Some(_) => return self.held_by_other(&data_key, now).unwrap_or(Vote::NotHeld),
        }
        if let Some(error) = self.wrong_type_error(&fence_key) {
            return Vote::Unknown(error);
        }
        let previous_number =
            request.previous_owner.as_ref().and_then(|owner| owner.fencing_number).unwrap_or(0);
        let expires = now / 1000 + request.ttl.as_millis() as u64;
        let lower_bound = match self.data.get(&fence_key) {
            Some(entry) => {
                let fence = entry.value.as_deref().and_then(parse_lua_number).unwrap_or(f64::NAN);
                if fence % 1.0 != 0.0 || fence >= MAX_FENCE as f64 {
                    return Vote::Unknown(ReplyFailure::TransientError("FENCE".into()));
                }
                // Below 2^53, so it is exact; a negative value becomes 0.
                let fence = fence as u64;
                if fence > previous_number && self.mutant != Some(ScriptMutant::AdoptionIgnoresFence) {
                    self.set_owner(data_key, request, expires);
                    self.extend_fence(&fence_key, now);
                    return Vote::FencedOut { fence };
                }
                fence
            }
            None => (now - CLOCK_TOLERANCE_MICROS).max(self.highest_ahead_of_clock()),
        };
        let base = lower_bound.max(min_number);
        let takes_hint = hint > base && hint <= now + CLOCK_TOLERANCE_MICROS;
        let number = match self.mutant {
            Some(ScriptMutant::AdoptionKeepsNumber) => previous_number,
            _ if takes_hint => hint,
            _ => base + 1,
        };
        self.set_owner(data_key, request, expires);
        self.store_fence(fence_key, number, now);
        Vote::Fenced(number)
    }

    /// Whether the key has the token of the request's previous owner.
    fn may_adopt(&self, request: &Request, entry: &DataValue) -> bool {
        let previous = request.previous_owner.as_ref().map(|owner| owner.token.digits());
        self.mutant == Some(ScriptMutant::AdoptionIgnoresOwner)
            || previous.is_some_and(|digits| entry.value.as_deref() == Some(&digits))
    }

    fn set_owner(&mut self, data_key: DataKey, request: &Request, expires: u64) {
        let value = Some(request.token.digits().to_vec());
        self.data.insert(data_key, DataValue { value, expires: Some(expires) });
    }
}
