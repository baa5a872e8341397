//! A client's two clocks, which may run fast or slow, stand still, and be set.

use crate::test_util::node::EPOCH;
use crate::time::DualTimestamp;

/// The boot clock, and the wall clock that runs along with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientClocks {
    /// When it was set, stopped or started last, by true time.
    set_at: u64,
    /// What the boot clock showed then.
    boot: u64,
    /// How much faster than true time both run, in millionths.
    drift_ppm: i64,
    is_stopped: bool,
    wall_offset: i64,
}

impl ClientClocks {
    pub(super) const fn new(boot: u64, drift_ppm: i64, wall_offset: i64) -> Self {
        Self { set_at: 0, boot, drift_ppm, is_stopped: false, wall_offset }
    }

    pub(super) fn read(&self, nanos: u64) -> DualTimestamp {
        let boot = self.boot_at(nanos);
        DualTimestamp::new(boot, EPOCH.saturating_add(boot).saturating_add_signed(self.wall_offset))
    }

    /// When the boot clock shows this, by true time, if nobody meddles with it.
    pub(super) fn when(&self, boot: u64) -> u64 {
        let to_go = u128::from(boot.saturating_sub(self.boot)) * 1_000_000;
        let rate = (1_000_000 + self.drift_ppm) as u128;
        self.set_at.saturating_add(to_go.div_ceil(rate) as u64)
    }

    /// What the boot clock shows when the wall clock shows this.
    pub(super) const fn boot_of_wall(&self, wall: u64) -> u64 {
        // It may be set to before the epoch of these histories.
        wall.saturating_add_signed(-self.wall_offset).saturating_sub(EPOCH)
    }

    pub(super) fn set_drift(&mut self, drift_ppm: i64, nanos: u64) {
        // Those that stand go on with it later.
        if !self.is_stopped {
            (self.boot, self.set_at) = (self.boot_at(nanos), nanos);
        }
        self.drift_ppm = drift_ppm;
    }

    pub(super) fn set_wall(&mut self, by: i64) {
        self.wall_offset += by;
    }

    pub(super) fn stop(&mut self, nanos: u64) {
        (self.boot, self.set_at, self.is_stopped) = (self.boot_at(nanos), nanos, true);
    }

    /// They go on where they stopped. For how long they stood.
    pub(super) fn start(&mut self, nanos: u64) -> u64 {
        let stood = if self.is_stopped { nanos - self.set_at } else { 0 };
        (self.boot, self.set_at, self.is_stopped) = (self.boot_at(nanos), nanos, false);
        stood
    }

    fn boot_at(&self, nanos: u64) -> u64 {
        if self.is_stopped {
            return self.boot;
        }
        let gone = u128::from(nanos - self.set_at) * (1_000_000 + self.drift_ppm) as u128 / 1_000_000;
        self.boot + gone as u64
    }
}
