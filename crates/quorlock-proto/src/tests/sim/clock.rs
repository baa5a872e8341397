//! A client's boot clock and wall clock, which may drift, stop and be set.

use crate::test_util::node::EPOCH;
use crate::time::DualTimestamp;

/// The boot clock, and the wall clock at a constant offset from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientClocks {
    /// The true time of the last change, stop or start.
    set_at: u64,
    /// The boot clock's reading at that time.
    boot: u64,
    /// How much faster than true time both clocks run.
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

    /// The true time at which the boot clock shows this, if no fault changes the clock before.
    pub(super) fn true_time_at(&self, boot: u64) -> u64 {
        let to_go = u128::from(boot.saturating_sub(self.boot)) * 1_000_000;
        let rate = (1_000_000 + self.drift_ppm) as u128;
        self.set_at.saturating_add(to_go.div_ceil(rate) as u64)
    }

    /// The boot clock's reading when the wall clock shows this.
    pub(super) const fn boot_at_wall(&self, wall: u64) -> u64 {
        // The wall clock may have been set to a time before the epoch of the simulation.
        wall.saturating_add_signed(-self.wall_offset).saturating_sub(EPOCH)
    }

    pub(super) fn set_drift(&mut self, drift_ppm: i64, nanos: u64) {
        // Stopped clocks use the new rate after their restart.
        if !self.is_stopped {
            (self.boot, self.set_at) = (self.boot_at(nanos), nanos);
        }
        self.drift_ppm = drift_ppm;
    }

    pub(super) fn shift_wall(&mut self, by: i64) {
        self.wall_offset += by;
    }

    pub(super) fn stop(&mut self, nanos: u64) {
        (self.boot, self.set_at, self.is_stopped) = (self.boot_at(nanos), nanos, true);
    }

    /// Restarts the clocks where they stopped; returns for how many nanoseconds they were stopped.
    pub(super) fn start(&mut self, nanos: u64) -> u64 {
        let stopped_for = if self.is_stopped { nanos - self.set_at } else { 0 };
        (self.boot, self.set_at, self.is_stopped) = (self.boot_at(nanos), nanos, false);
        stopped_for
    }

    fn boot_at(&self, nanos: u64) -> u64 {
        if self.is_stopped {
            return self.boot;
        }
        let elapsed = u128::from(nanos - self.set_at) * (1_000_000 + self.drift_ppm) as u128 / 1_000_000;
        self.boot + elapsed as u64
    }
}
