//! Validates the options of a lock, alone and together.

use std::time::Duration;

use super::super::attempt::AttemptOptions;
use super::super::error::{InvalidInput, InvalidInputKind};
use super::Mutex;
use quorlock_proto::request::{Key as LockName, LockSpec};
use quorlock_proto::span::Span;

impl Mutex {
    pub(super) fn check_no_wait_timeout(&self) -> Result<(), InvalidInput> {
        if self.wait_timeout.is_none() {
            return Ok(());
        }
        let invalid = InvalidInput::new(
            InvalidInputKind::Conflict,
            "a wait timeout has no effect here: use `acquire`, or `try_acquire_for` with a wait",
        );
        Err(invalid.of("wait_timeout").about(&self.client.key(&self.name)?))
    }

    /// Checks all options and builds the spec.
    pub(in super::super) fn checked_spec(&self) -> Result<(LockSpec, AttemptOptions), InvalidInput> {
        let key = self.client.key(&self.name)?;
        self.lock_spec(key.clone()).map_err(|invalid| invalid.about(&key))
    }

    fn lock_spec(&self, key: LockName) -> Result<(LockSpec, AttemptOptions), InvalidInput> {
        let limits = self.client.limits();
        let longest = limits.max_ttl.filter(|_| self.is_ttl_shortened).unwrap_or(Duration::MAX);
        let params = limits.lease_params(self.ttl.map(|ttl| ttl.min(longest)), self.attempt_timeout)?;
        limits.check_min_fencing_number(self.min_fencing_number)?;
        if self.policy.max_hold_time.is_some_and(|max| max < params.ttl()) {
            return Err(InvalidInput::new(
                InvalidInputKind::OutOfRange,
                format!(
                    "a max_hold_time below the ttl of {} would cut the first lease short: take a smaller ttl",
                    Span(params.ttl())
                ),
            )
            .of("max_hold_time"));
        }
        if self.min_validity >= params.max_validity() {
            return Err(InvalidInput::new(
                InvalidInputKind::OutOfRange,
                format!(
                    "a min_validity of {} can never be met: a lock with a ttl of {} is valid for less than {}",
                    Span(self.min_validity),
                    Span(params.ttl()),
                    Span(params.max_validity())
                ),
            )
            .of("min_validity"));
        }
        Ok((
            LockSpec {
                key,
                params,
                want_holder_ttl: false,
                min_fencing_number: self.min_fencing_number,
                previous_owner: None,
            },
            AttemptOptions {
                policy: self.policy,
                min_validity: self.min_validity,
                is_ttl_shortened: self.is_ttl_shortened,
            },
        ))
    }
}
