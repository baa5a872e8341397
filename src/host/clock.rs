//! The only reader of the clocks.
//!
//! On Linux and Android the boot clock is `CLOCK_BOOTTIME`, which continues during suspend. `std`'s `Instant`
//! does not, so after a suspend a client would treat an expired lock as valid. On macOS `CLOCK_MONOTONIC`
//! continues. On other platforms it is the monotonic clock, which may stop during suspend; the wall clock of
//! the `DualTimestamp` then ends the lease.

use rustix::time::{ClockId, Timespec, clock_gettime};

use quorlock_proto::time::{BootTime, DualTimestamp};

/// Now, on both clocks.
pub(crate) fn now() -> DualTimestamp {
    DualTimestamp::new(nanos(clock_gettime(BOOT)), nanos(clock_gettime(ClockId::Realtime)))
}

/// The present time on the boot clock alone, for callers that do not need the wall clock.
pub(crate) fn boot() -> BootTime {
    BootTime::new(nanos(clock_gettime(BOOT)))
}

fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const BOOT: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const BOOT: ClockId = ClockId::Monotonic;

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn both_clocks_advance_and_the_wall_clock_is_plausible() {
        let first = now();
        let second = now();
        assert!(second.boot() >= first.boot());
        assert!(first.wall_nanos() > 1_700_000_000_000_000_000);
    }
}
