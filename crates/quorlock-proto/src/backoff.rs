//! How long to wait before trying again. Chance comes in as a number.

use std::time::Duration;

/// The pause before the next attempt at a lock, from how many have failed, when the holder's keys expire (if the
/// nodes told), and a random number.
///
/// Full jitter below a bound that doubles from 10 to 150 ms: contenders that split the votes once must not meet
/// again. A waiter also wakes when the keys in its way expire, for holders that died; a few milliseconds of jitter
/// then keep the crowd apart.
#[must_use]
pub fn retry(failures: u32, retry_after: Option<Duration>, random: u64) -> Duration {
    let bound = RETRY_BASE.saturating_mul(1 << failures.min(8)).min(RETRY_CAP);
    let poll = uniform(RETRY_BASE / 2, bound, random);
    match retry_after {
        Some(expiry) => poll.min(expiry + uniform(Duration::from_millis(1), EXPIRY_JITTER, random)),
        None => poll,
    }
}

/// The pause before one who stands in line looks whether the lock is free. It will be called, unless whoever has the
/// lock dies or knows nothing of lines.
#[must_use]
pub fn recheck(expiry: Option<Duration>, random: u64) -> Duration {
    let reading = uniform(MIN_RECHECK, MAX_RECHECK, random);
    match expiry {
        Some(expiry) => reading.min(expiry + uniform(Duration::from_millis(1), EXPIRY_JITTER, random)),
        None => reading,
    }
}

/// For how long one who stands in line goes by what the node with the line says, from when the keys in the way of a quorum
/// expire, if the nodes told. The key there may be nobody's, or its holder may have given the lock up and not reached that
/// node: then it tries, though it is told that the lock is taken. When a holder dies, those whom the line calls go first.
#[must_use]
pub fn held_report_trust(expiry: Option<Duration>, random: u64) -> Duration {
    let doubt = uniform(MIN_HELD_TRUST, MAX_HELD_TRUST, random);
    match expiry {
        Some(expiry) => {
            doubt.min((expiry + uniform(MIN_HELD_TRUST / 4, MIN_HELD_TRUST / 2, random)).max(MIN_HELD_TRUST))
        }
        None => doubt,
    }
}

/// The same for one that let others go first, and has not tried yet.
#[must_use]
pub fn first_held_report_trust(random: u64) -> Duration {
    uniform(MIN_HELD_TRUST / 2, MAX_HELD_TRUST / 2, random)
}

/// The pause before one tries again who tries once and was granted the lock by some node, but not by enough. Such a one may
/// have split the votes with others like it, so that nobody has the lock.
#[must_use]
pub fn retry_after_split(random: u64) -> Duration {
    uniform(RETRY_BASE / 2, RETRY_BASE * 3, random)
}

/// The pause before the next dial of a node that could not be reached, from how many dials have failed.
#[must_use]
pub fn redial(failures: u32, random: u64) -> Duration {
    let bound = DIAL_BASE.saturating_mul(1 << failures.min(8)).min(DIAL_CAP);
    uniform(DIAL_BASE / 4, bound, random)
}

/// The pause before the next dial of a node that may not serve us: somebody has to mend it first, and a wrong
/// password tried in haste locks accounts and fills logs.
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
