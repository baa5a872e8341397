//! The clock of a simulated node.

use super::{EPOCH, SimulatedNode};

/// A clock that can drift and jump.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// The true time at which it was set last.
    set_at: u64,
    /// Its reading at that time, in nanoseconds since 1970.
    reading: u64,
    /// How much faster than true time it runs, in parts per million.
    pub(super) drift_ppm: i64,
}

impl Clock {
    pub(super) fn read(&self, nanos: u64) -> u64 {
        let elapsed = i128::from(nanos) - i128::from(self.set_at);
        let elapsed = elapsed * i128::from(1_000_000 + self.drift_ppm) / 1_000_000;
        (i128::from(self.reading) + elapsed) as u64
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self { set_at: 0, reading: EPOCH, drift_ppm: 0 }
    }
}

impl SimulatedNode {
    /// The node's time, in microseconds since 1970.
    #[must_use]
    pub fn clock_micros(&self, nanos: u64) -> u64 {
        self.clock.read(nanos) / 1000
    }

    /// Sets how much faster than true time the node's clock runs, in parts per million.
    pub fn set_drift(&mut self, drift_ppm: i64, nanos: u64) {
        self.clock = Clock { set_at: nanos, reading: self.clock.read(nanos), drift_ppm };
    }

    /// Moves the node's clock forward or back by `by` nanoseconds.
    pub fn jump_clock(&mut self, nanos: u64, by: i64) {
        self.clock =
            Clock { set_at: nanos, reading: self.clock.read(nanos).saturating_add_signed(by), ..self.clock };
    }
}
