//! The end of a lease, for users.

use std::time::{Duration, SystemTime};

use crate::host::clock;
use quorlock_proto::time::DualTimestamp;

/// When a lease ends, on two clocks of this host.
///
/// The *boot* clock also counts during suspend and is never set. The *system* clock, once its time is set right
/// again, shows pauses that the boot clock cannot see, such as those of a stopped virtual machine. The lease has
/// ended when **either** clock has passed the deadline.
///
/// # Examples
///
/// ```no_run
/// # async fn example(guard: &quorlock::Guard) {
/// let deadline = guard.deadline();
/// println!("valid for {:?} from now, unless it is renewed", deadline.remaining());
/// assert!(!deadline.has_passed() && deadline.boot_time() > quorlock::LeaseDeadline::boot_time_now());
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct LeaseDeadline {
    boot_nanos: u64,
    system_nanos: u64,
}

impl LeaseDeadline {
    pub(crate) const fn new(at: DualTimestamp) -> Self {
        Self { boot_nanos: at.boot_nanos(), system_nanos: at.wall_nanos() }
    }

    const fn timestamp(self) -> DualTimestamp {
        DualTimestamp::new(self.boot_nanos, self.system_nanos)
    }

    /// The time until the deadline, on the clock that reaches it first; zero once it has passed. Reads the clocks.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// // At most one run per ttl, by any process.
    /// let guard = redlock.mutex("poll").acquire().await?;
    /// let deadline = guard.abandon();
    /// tokio::time::sleep(deadline.remaining()).await;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn remaining(&self) -> Duration {
        clock::now().until(self.timestamp())
    }

    /// The rule for waits: only the boot clock counts.
    pub(crate) fn remaining_on_boot_clock(self) -> Duration {
        self.boot_time().saturating_sub(Self::boot_time_now())
    }

    /// Whether either clock has passed the deadline. Reads the clocks.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn step() {}
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let guard = redlock.mutex("reindex").auto_renew(false).acquire().await?;
    /// let deadline = guard.deadline();
    /// std::thread::spawn(move || {
    ///     while !deadline.has_passed() {
    ///         step();
    ///     }
    /// });
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn has_passed(&self) -> bool {
        clock::now().is_past(self.timestamp())
    }

    /// The deadline on the boot clock: the time since boot (`CLOCK_BOOTTIME` on Linux, the monotonic clock
    /// elsewhere), which all processes of this host share.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
    /// // The worker stops at this time by itself: see `boot_time_now`.
    /// let deadline = guard.deadline().boot_time();
    /// std::process::Command::new("worker").env("DEADLINE_MICROS", deadline.as_micros().to_string()).spawn()?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub const fn boot_time(&self) -> Duration {
        Duration::from_nanos(self.boot_nanos)
    }

    /// The deadline on the system clock.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::SystemTime;
    ///
    /// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
    /// let deadline = guard.abandon().system_time();
    /// println!("retry_after={}", deadline.duration_since(SystemTime::UNIX_EPOCH)?.as_secs());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn system_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.system_nanos)
    }

    /// The current time on the boot clock, to compare with [`boot_time`](Self::boot_time).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use quorlock::LeaseDeadline;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// // In a process that the holder of a lock has started: see `boot_time`.
    /// let deadline = Duration::from_micros(std::env::var("DEADLINE_MICROS")?.parse()?);
    /// let remaining = deadline.saturating_sub(LeaseDeadline::boot_time_now());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn boot_time_now() -> Duration {
        Duration::from_nanos(clock::boot().nanos())
    }
}
