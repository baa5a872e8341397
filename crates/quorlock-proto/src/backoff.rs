//! Pauses before a retry or a redial. Random numbers are arguments.

use core::time::Duration;

/// The pause before the next attempt: full-jitter back-off (Brooker, [Exponential Backoff And
/// Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), AWS 2015).
///
/// The bound doubles with each failure, from 10 to 150 ms, so that clients that split the votes once do not
/// meet again. The pause also ends when the holder's keys expire (`retry_after`, if the nodes reported it),
/// in case the holder died. Then 1 to 6 ms of jitter keep the waiting clients apart.
#[must_use]
pub fn retry(failures: u32, retry_after: Option<Duration>, random: u64) -> Duration {
    let bound = RETRY_BASE.saturating_mul(1 << failures.min(8)).min(RETRY_CAP);
    let poll = uniform(RETRY_BASE / 2, bound, random);
    match retry_after {
        Some(expiry) => poll.min(expiry + uniform(Duration::from_millis(1), EXPIRY_JITTER, random)),
        None => poll,
    }
}

/// The pause before a queued process checks whether the key is free. It is notified, unless the holder dies
/// or does not use wait queues.
#[must_use]
pub fn recheck(expiry: Option<Duration>, random: u64) -> Duration {
    let interval = uniform(MIN_RECHECK, MAX_RECHECK, random);
    match expiry {
        Some(expiry) => interval.min(expiry + uniform(Duration::from_millis(1), EXPIRY_JITTER, random)),
        None => interval,
    }
}

/// How long a queued process trusts the report *held* of the wait queue's node. `expiry` is when the keys
/// that prevent a quorum expire, if the nodes reported it.
///
/// The key on that node may belong to no holder, or its holder may have failed to release it there. So the
/// process makes an attempt afterwards, despite the report. When a holder dies, the processes that the queue
/// notifies go first.
#[must_use]
pub fn held_report_trust(expiry: Option<Duration>, random: u64) -> Duration {
    let trusted = uniform(MIN_HELD_TRUST, MAX_HELD_TRUST, random);
    match expiry {
        Some(expiry) => trusted
            .min((expiry + uniform(MIN_HELD_TRUST / 4, MIN_HELD_TRUST / 2, random)).max(MIN_HELD_TRUST)),
        None => trusted,
    }
}

/// How long a queued process trusts such a report if it let others go first and has made no attempt yet.
#[must_use]
pub fn first_held_report_trust(random: u64) -> Duration {
    uniform(MIN_HELD_TRUST / 2, MAX_HELD_TRUST / 2, random)
}

/// The pause between attempts of a caller that tries once, after some node granted but no quorum did. Clients
/// like it may have split the votes, so that no client has the lock.
#[must_use]
pub fn retry_after_split(random: u64) -> Duration {
    uniform(RETRY_BASE / 2, RETRY_BASE * 3, random)
}

/// The pause before the next dial of an unreachable node, after this many failures.
#[must_use]
pub fn redial(failures: u32, random: u64) -> Duration {
    let bound = DIAL_BASE.saturating_mul(1 << failures.min(8)).min(DIAL_CAP);
    uniform(DIAL_BASE / 4, bound, random)
}

/// The pause before the next dial of an excluded node. An operator must fix it first, and repeated logins
/// with a wrong password lock accounts and fill logs.
#[must_use]
pub fn redial_excluded(random: u64) -> Duration {
    uniform(Duration::from_secs(5), Duration::from_secs(10), random)
}

fn uniform(low: Duration, high: Duration, random: u64) -> Duration {
    let span = high.saturating_sub(low).as_nanos() as u64;
    low + Duration::from_nanos(((u128::from(random) * u128::from(span)) >> 64) as u64)
}

const RETRY_BASE: Duration = Duration::from_millis(10);
const RETRY_CAP: Duration = Duration::from_millis(150);
const MIN_RECHECK: Duration = Duration::from_millis(400);
const MAX_RECHECK: Duration = Duration::from_millis(800);
const MIN_HELD_TRUST: Duration = Duration::from_millis(800);
const MAX_HELD_TRUST: Duration = Duration::from_millis(1600);
const EXPIRY_JITTER: Duration = Duration::from_millis(6);
const DIAL_BASE: Duration = Duration::from_millis(40);
const DIAL_CAP: Duration = Duration::from_secs(2);
