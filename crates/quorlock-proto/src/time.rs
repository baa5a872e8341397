//! Timestamps as numbers; the core reads no clock.

use core::time::Duration;

/// A point in time on two clocks of this host.
///
/// The *boot* clock also counts during suspend and is never set. The *wall* clock, once its time is set right
/// again, shows pauses that the boot clock cannot see (a stopped virtual machine). A lease is over when
/// **either** clock has passed its deadline. Timeouts, back-off and waits use the boot clock only.
///
/// Both are nanoseconds: since boot, and since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DualTimestamp {
    boot_nanos: u64,
    wall_nanos: u64,
}

impl DualTimestamp {
    /// The timestamp with these readings of the two clocks.
    #[must_use]
    pub const fn new(boot_nanos: u64, wall_nanos: u64) -> Self {
        Self { boot_nanos, wall_nanos }
    }

    /// The boot clock's part.
    #[must_use]
    pub const fn boot(self) -> BootTime {
        BootTime(self.boot_nanos)
    }

    /// Nanoseconds on the boot clock.
    #[must_use]
    pub const fn boot_nanos(self) -> u64 {
        self.boot_nanos
    }

    /// Nanoseconds since 1970 on the wall clock.
    #[must_use]
    pub const fn wall_nanos(self) -> u64 {
        self.wall_nanos
    }

    /// The timestamp `span` later on both clocks.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let nanos = nanos(span);
        Self {
            boot_nanos: self.boot_nanos.saturating_add(nanos),
            wall_nanos: self.wall_nanos.saturating_add(nanos),
        }
    }

    /// The timestamp `span` earlier on both clocks.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let nanos = nanos(span);
        Self {
            boot_nanos: self.boot_nanos.saturating_sub(nanos),
            wall_nanos: self.wall_nanos.saturating_sub(nanos),
        }
    }

    /// Whether either clock has reached `deadline`: the rule for leases.
    #[must_use]
    pub const fn is_past(self, deadline: Self) -> bool {
        self.boot_nanos >= deadline.boot_nanos || self.wall_nanos >= deadline.wall_nanos
    }

    /// The time until `deadline` on the clock that reaches it first; zero once it is past.
    #[must_use]
    pub fn until(self, deadline: Self) -> Duration {
        let boot = deadline.boot_nanos.saturating_sub(self.boot_nanos);
        let wall = deadline.wall_nanos.saturating_sub(self.wall_nanos);
        Duration::from_nanos(boot.min(wall))
    }

    /// Whether the boot clock has reached `other`: the rule for timeouts, back-off and waits.
    #[must_use]
    pub const fn is_due(self, other: Self) -> bool {
        self.boot_nanos >= other.boot_nanos
    }

    /// Boot time since `earlier`; zero if that is in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.boot_nanos.saturating_sub(earlier.boot_nanos))
    }

    /// Whether this is after `other` on the boot clock.
    #[must_use]
    pub const fn is_after(self, other: Self) -> bool {
        self.boot_nanos > other.boot_nanos
    }

    /// The later of two deadlines, by boot time.
    #[must_use]
    pub const fn later(self, other: Self) -> Self {
        if other.boot_nanos > self.boot_nanos { other } else { self }
    }

    /// The earlier of two deadlines, by boot time.
    #[must_use]
    pub const fn earlier(self, other: Self) -> Self {
        if other.boot_nanos < self.boot_nanos { other } else { self }
    }
}

/// A point in time on the boot clock, for waits; it ends no lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(u64);

impl BootTime {
    /// Five centuries after boot.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time with this many nanoseconds since boot.
    #[must_use]
    pub const fn new(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The time since `earlier`; zero if that is in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// Whether the boot clock has reached it.
    #[must_use]
    pub const fn has_passed(self, now: DualTimestamp) -> bool {
        now.boot_nanos >= self.0
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
