//! Points in time, as the protocol sees them: numbers, never a clock.

use std::time::Duration;

/// A point in time on two clocks of this machine at once.
///
/// The *boot* clock counts on through suspend and is never set; the *wall* clock shows pauses that the boot
/// clock cannot see (a virtual machine that was stopped) once somebody has set it right. A lease is over when
/// **either** has passed its deadline; time-outs, back-off and waits look at boot time only.
///
/// Both are nanoseconds: since boot, and since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DualTimestamp {
    boot_nanos: u64,
    wall_nanos: u64,
}

impl DualTimestamp {
    /// The moment at these readings of the two clocks.
    #[must_use]
    pub const fn new(boot_nanos: u64, wall_nanos: u64) -> Self {
        Self { boot_nanos, wall_nanos }
    }

    /// The same on the boot clock alone.
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

    /// This moment, `span` later on both clocks.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let nanos = nanos(span);
        Self {
            boot_nanos: self.boot_nanos.saturating_add(nanos),
            wall_nanos: self.wall_nanos.saturating_add(nanos),
        }
    }

    /// This moment, `span` earlier on both clocks.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let nanos = nanos(span);
        Self {
            boot_nanos: self.boot_nanos.saturating_sub(nanos),
            wall_nanos: self.wall_nanos.saturating_sub(nanos),
        }
    }

    /// Whether `deadline` has come on either clock: the rule for leases.
    #[must_use]
    pub const fn is_past(self, deadline: Self) -> bool {
        self.boot_nanos >= deadline.boot_nanos || self.wall_nanos >= deadline.wall_nanos
    }

    /// What is left until `deadline` on the clock that reaches it first; zero once it is past.
    #[must_use]
    pub fn until(self, deadline: Self) -> Duration {
        let boot = deadline.boot_nanos.saturating_sub(self.boot_nanos);
        let wall = deadline.wall_nanos.saturating_sub(self.wall_nanos);
        Duration::from_nanos(boot.min(wall))
    }

    /// Whether `other` has come on the boot clock: the rule for time-outs, back-off and waits.
    #[must_use]
    pub const fn is_due(self, other: Self) -> bool {
        self.boot_nanos >= other.boot_nanos
    }

    /// Boot time passed since `earlier`; zero if that lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.boot_nanos.saturating_sub(earlier.boot_nanos))
    }

    /// Whether this comes after `other` on the boot clock.
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

/// A point in time on the boot clock alone: for what is waited for, and ends no lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(u64);

impl BootTime {
    /// Five centuries after the machine was started.
    pub const NEVER: Self = Self(u64::MAX);

    /// Nanoseconds since boot.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// This point in time, `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// Whether it has come.
    #[must_use]
    pub const fn is_due(self, now: DualTimestamp) -> bool {
        now.boot_nanos >= self.0
    }

    /// What has passed since; zero if it lies ahead.
    #[must_use]
    pub const fn elapsed(self, now: DualTimestamp) -> Duration {
        Duration::from_nanos(now.boot_nanos.saturating_sub(self.0))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
