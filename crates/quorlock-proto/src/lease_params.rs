//! The durations of a lock, validated once, and the only formula for its deadline.

use alloc::string::String;
use alloc::string::ToString;
use core::time::Duration;

use crate::span::Span;
use crate::time::DualTimestamp;

/// The ttl of a lock, the allowed clock drift, and the timeout of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseParams {
    ttl: Duration,
    attempt_timeout: Duration,
    drift: Drift,
}

impl LeaseParams {
    /// Parameters for `ttl`. The attempt timeout is by default the smaller of ttl/8 and the reply timeout.
    ///
    /// # Errors
    ///
    /// [`InvalidLeaseParams`] names the value that is out of range, and the range.
    pub fn new(
        ttl: Duration,
        drift: Drift,
        attempt_timeout: Option<Duration>,
        reply_timeout: Duration,
    ) -> Result<Self, InvalidLeaseParams> {
        if ttl < MIN_TTL {
            return Err(InvalidLeaseParams::TtlTooShort(ttl));
        }
        if ttl > MAX_TTL {
            return Err(InvalidLeaseParams::TtlTooLong(ttl));
        }
        // Redis expires by whole milliseconds. Rounding down keeps the deadline at or before the expiry of
        // the keys.
        let ttl = Duration::from_millis(ttl.as_millis() as u64);
        let attempt_timeout = attempt_timeout.unwrap_or_else(|| reply_timeout.min(ttl / 8));
        if attempt_timeout.is_zero() {
            return Err(InvalidLeaseParams::ZeroAttemptTimeout);
        }
        if attempt_timeout > ttl / 4 {
            return Err(InvalidLeaseParams::AttemptTimeoutTooLong { attempt_timeout, ttl });
        }
        Ok(Self { ttl, attempt_timeout, drift })
    }

    /// These parameters with a ttl of at most `max_ttl`.
    #[must_use]
    pub fn at_most(self, max_ttl: Duration) -> Self {
        let ttl = self.ttl.min(max_ttl);
        Self { ttl, attempt_timeout: self.attempt_timeout.min(ttl / 4), ..self }
    }

    /// The time to live of the keys, in whole milliseconds.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// How long one attempt waits for replies.
    #[must_use]
    pub const fn attempt_timeout(&self) -> Duration {
        self.attempt_timeout
    }

    /// The deadline of a lock that was granted in a round started at `start`.
    ///
    /// From the description of
    /// [Redlock](https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/): the lock is held
    /// if "the total time elapsed to acquire the lock is less than lock validity time", and "its validity
    /// time is considered to be the initial validity time minus the time elapsed", less "some time (just a
    /// few milliseconds in order to compensate for clock drift between processes)". So the deadline is
    /// `start + ttl·(1 − ρ) − 2 ms`. Of the 2 ms, one is the granularity of expiry in Redis, and one the
    /// least drift.
    ///
    /// `start` is read before the first byte is sent. To count from the replies is a known mistake, because
    /// the keys begin to age while the replies travel.
    #[must_use]
    pub fn deadline(&self, start: DualTimestamp) -> DualTimestamp {
        start.plus(self.max_validity())
    }

    /// How long a lock is valid at most from `start`.
    #[must_use]
    pub fn max_validity(&self) -> Duration {
        self.ttl().saturating_sub(self.drift.of(self.ttl()) + FIXED_ALLOWANCE)
    }
}

/// The drift ρ, as a share: how much too fast a node's clock plus how much too slow the client's clock may
/// run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Drift {
    millionths: u32,
}

impl Drift {
    /// A drift of `share`, such as 0.01.
    ///
    /// # Errors
    ///
    /// [`InvalidLeaseParams::DriftOutOfRange`] unless 0 ≤ share ≤ 0.2. A host whose time service slews at its
    /// limit (8.3 % for chrony) needs more than the default; 0.2 covers two such hosts that drift apart.
    pub fn new(share: f64) -> Result<Self, InvalidLeaseParams> {
        if (0.0..=0.2).contains(&share) {
            Ok(Self { millionths: (share * 1_000_000.0).round() as u32 })
        } else {
            Err(InvalidLeaseParams::DriftOutOfRange(share.to_string()))
        }
    }

    /// This share of a duration.
    #[must_use]
    pub fn of(self, span: Duration) -> Duration {
        span * self.millionths / 1_000_000
    }

    /// The most time that passes on a node's clock while `span` passes on the client's clock: `span / (1 −
    /// ρ)`. A deadline allows for no more.
    #[must_use]
    pub fn max_elapsed_on_node(self, span: Duration) -> Duration {
        let nanos = span.as_nanos() * 1_000_000 / u128::from(1_000_000 - self.millionths);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Parameters out of range; the message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLeaseParams {
    /// The ttl is under 10 ms.
    #[error("a ttl of {span} is too short: take at least 10 ms, and some seconds over a real network", span = Span(*.0))]
    TtlTooShort(Duration),
    /// The ttl is above a year.
    #[error("a ttl of {span} is too long: take at most a year; a held lock is renewed automatically", span = Span(*.0))]
    TtlTooLong(Duration),
    /// The attempt timeout is zero.
    #[error("an attempt timeout of zero gives no node time to reply: take at least some milliseconds")]
    ZeroAttemptTimeout,
    /// The attempt timeout is more than a quarter of the ttl.
    #[error(
        "an attempt timeout of {} is more than a quarter of the ttl {}: too little of the lock would be left",
        Span(*attempt_timeout),
        Span(*ttl)
    )]
    AttemptTimeoutTooLong {
        /// The requested timeout.
        attempt_timeout: Duration,
        /// The ttl for which it is too long.
        ttl: Duration,
    },
    /// The drift is not between 0 and 0.2.
    #[error("a drift of {0} is out of range: take a fraction from 0 to 0.2, such as 0.01")]
    DriftOutOfRange(String),
}

/// One millisecond for the granularity of expiry in Redis, and one for the least drift.
const FIXED_ALLOWANCE: Duration = Duration::from_millis(2);
const MIN_TTL: Duration = Duration::from_millis(10);
const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 60 * 60);
