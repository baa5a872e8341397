//! The limits of a client's locks: valid names, ttls and minimum fencing numbers.

use std::time::Duration;

use super::error::{InvalidInput, InvalidInputKind};
use quorlock_proto::fence::MAX_MIN_FENCING_NUMBER;
use quorlock_proto::lease_params::{Drift, InvalidLeaseParams, LeaseParams};
use quorlock_proto::request::{Key, MAX_KEY_BYTES};
use quorlock_proto::span::Span;

/// The options of a client that limit its locks.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    pub(super) key_prefix: &'a str,
    /// `None` in plain mode.
    pub(super) max_ttl: Option<Duration>,
    pub(super) drift: Drift,
    pub(super) reply_timeout: Duration,
}

impl Limits<'_> {
    /// The key of the lock with this name.
    pub(super) fn key(self, name: &Key) -> Result<Key, InvalidInput> {
        if name.as_bytes().is_empty() {
            return Err(InvalidInput::new(InvalidInputKind::Empty, "a lock needs a name: the name is empty")
                .of("name"));
        }
        let prefix = self.key_prefix;
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            Key::new([prefix.as_bytes(), name.as_bytes()].concat())
        };
        if [name, &key].iter().any(|key| key.as_bytes().starts_with(RESERVED.as_bytes())) {
            return Err(InvalidInput::new(
                InvalidInputKind::Reserved,
                format!("the name starts with `{RESERVED}`, which is reserved for this library's own keys"),
            )
            .of("name")
            .about(&key));
        }
        if key.as_bytes().len() > MAX_KEY_BYTES {
            return Err(InvalidInput::new(
                InvalidInputKind::OutOfRange,
                format!("the name is too long: with its prefix it may have at most {MAX_KEY_BYTES} bytes"),
            )
            .of("name")
            .about(&key));
        }
        Ok(key)
    }

    /// The lease parameters of a lock with this ttl, or with the default ttl.
    pub(super) fn lease_params(
        self,
        ttl: Option<Duration>,
        attempt_timeout: Option<Duration>,
    ) -> Result<LeaseParams, InvalidInput> {
        let ttl = ttl.unwrap_or_else(|| self.max_ttl.map_or(DEFAULT_TTL, |it| it.min(DEFAULT_TTL)));
        let params =
            LeaseParams::new(ttl, self.drift, attempt_timeout, self.reply_timeout).map_err(|invalid| {
                let is_ttl =
                    matches!(invalid, InvalidLeaseParams::TtlTooShort(_) | InvalidLeaseParams::TtlTooLong(_));
                InvalidInput::from(invalid).of(if is_ttl { "ttl" } else { "attempt_timeout" })
            })?;
        self.check_ttl(&params)?;
        Ok(params)
    }

    /// Rejects a ttl above the max TTL.
    pub(super) fn check_ttl(self, params: &LeaseParams) -> Result<(), InvalidInput> {
        match self.max_ttl {
            Some(max_ttl) if params.ttl() > max_ttl => Err(InvalidInput::new(InvalidInputKind::OutOfRange, format!(
                "a ttl of {} is above the longest of this lock cluster ({}); a held lock is renewed automatically, so \
                 take a shorter one, or raise the max ttl, of this client and by `quorlock reconfigure`",
                Span(params.ttl()),
                Span(max_ttl)
            ))
            .of("ttl")),
            _ => Ok(()),
        }
    }

    pub(super) fn check_min_fencing_number(self, min_number: u64) -> Result<(), InvalidInput> {
        if min_number > 0 && self.max_ttl.is_none() {
            return Err(InvalidInput::new(
                InvalidInputKind::Conflict,
                "a plain client has no fencing numbers, so a minimum fencing number has no effect",
            )
            .of("min_fencing_number"));
        }
        if min_number > MAX_MIN_FENCING_NUMBER {
            return Err(InvalidInput::new(InvalidInputKind::OutOfRange, format!(
                "a minimum fencing number of {min_number} leaves no room for larger numbers: take at most {MAX_MIN_FENCING_NUMBER}"
            ))
            .of("min_fencing_number"));
        }
        Ok(())
    }
}

const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// The prefix of this library's own keys.
pub(super) const RESERVED: &str = "quorlock:";
