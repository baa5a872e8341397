//! Records each acquired and released lock, by phase of the run and by time slice.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::progress_state::Phase;

/// One lock, from the request to the end of the release, in nanoseconds of the boot clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct LockSample {
    pub(super) task: usize,
    pub(super) key: usize,
    pub(super) requested_at: u64,
    pub(super) granted_at: u64,
    /// When the release began.
    pub(super) release_began_at: u64,
    pub(super) released_at: u64,
    pub(super) was_lost: bool,
    /// Whether a quorum confirmed the release.
    pub(super) is_confirmed: bool,
}

/// The times of one phase of the run.
#[derive(Clone, Debug)]
pub(super) struct PhaseRecord {
    pub(super) acquire: Histogram<u64>,
    pub(super) release: Histogram<u64>,
    pub(super) held: Histogram<u64>,
    /// From the release of a key to its next grant.
    pub(super) gap: Histogram<u64>,
    pub(super) held_nanos: u64,
    pub(super) lost: u64,
    pub(super) unconfirmed: u64,
}

/// A short time slice of the run.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub(super) acquire: Histogram<u64>,
}

/// The records of a run.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) phases: [PhaseRecord; 4],
    pub(super) slices: Vec<Slice>,
    /// The number of locks of each task, without the phase with one task.
    pub(super) by_task: Vec<u64>,
    /// The waiting times of the tasks that were waiting at the end.
    pub(super) unserved: Vec<u64>,
    /// When each key was last released.
    freed: Vec<u64>,
    began: u64,
    slice: u64,
}

impl Recorder {
    pub(super) fn new(tasks: usize, keys: usize, began: u64, whole: Duration) -> Self {
        Self {
            phases: std::array::from_fn(|_| PhaseRecord::new()),
            slices: vec![Slice { acquire: histogram(2) }; SLICES],
            by_task: vec![0; tasks],
            unserved: Vec::new(),
            freed: vec![0; keys],
            began,
            slice: (whole.as_nanos() as u64 / SLICES as u64).max(1),
        }
    }

    /// The length of a slice.
    pub(super) fn slice_seconds(&self) -> f64 {
        self.slice as f64 / 1e9
    }

    pub(super) fn record(&mut self, phase: Phase, sample: LockSample) {
        let phase_record = &mut self.phases[phase.index()];
        phase_record.acquire.saturating_record(sample.granted_at - sample.requested_at);
        phase_record.release.saturating_record(sample.released_at - sample.release_began_at);
        phase_record.held.saturating_record(sample.release_began_at - sample.granted_at);
        phase_record.held_nanos += sample.release_began_at - sample.granted_at;
        phase_record.lost += u64::from(sample.was_lost);
        phase_record.unconfirmed += u64::from(!sample.is_confirmed);
        if phase != Phase::Alone {
            self.by_task[sample.task] += 1;
            let freed_before = std::mem::replace(&mut self.freed[sample.key], sample.release_began_at);
            // A gap counts only if a task was waiting when the key became free.
            if freed_before > sample.requested_at {
                phase_record.gap.saturating_record(sample.granted_at.saturating_sub(freed_before));
            }
        }
        let index = (sample.granted_at.saturating_sub(self.began) / self.slice) as usize;
        if let Some(slice) = self.slices.get_mut(index) {
            slice.acquire.saturating_record(sample.granted_at - sample.requested_at);
        }
    }
}

impl PhaseRecord {
    pub(super) fn new() -> Self {
        Self {
            acquire: histogram(3),
            release: histogram(3),
            held: histogram(3),
            gap: histogram(3),
            held_nanos: 0,
            lost: 0,
            unconfirmed: 0,
        }
    }

    /// The sum of both records.
    pub(super) fn merge(mut self, other: &Self) -> Self {
        self.acquire += &other.acquire;
        self.release += &other.release;
        self.held += &other.held;
        self.gap += &other.gap;
        self.held_nanos += other.held_nanos;
        self.lost += other.lost;
        self.unconfirmed += other.unconfirmed;
        self
    }
}

/// A histogram of nanoseconds. Its size is fixed, so that counting never stops to allocate; a longer time
/// counts as two hours.
pub(super) fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_NANOS, digits)
        .expect("one to five digits are what a histogram can have")
}

const MAX_NANOS: u64 = 2 * 3600 * 1_000_000_000;
/// The number of slices.
const SLICES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(task: usize, requested_at: u64, granted_at: u64, release_began_at: u64) -> LockSample {
        LockSample {
            task,
            key: 0,
            requested_at,
            granted_at,
            release_began_at,
            released_at: release_began_at + 5,
            was_lost: false,
            is_confirmed: true,
        }
    }

    #[test]
    fn a_gap_is_counted_only_where_a_task_waited() {
        let mut recorder = Recorder::new(2, 1, 1_000, Duration::from_micros(10));
        recorder.record(Phase::Load, sample(0, 1_000, 1_100, 1_200));
        // Requested while it was held, and granted 40 after its release.
        recorder.record(Phase::Load, sample(1, 1_050, 1_240, 1_300));
        // Requested when it was free.
        recorder.record(Phase::Load, sample(0, 5_000, 5_050, 5_100));
        let record = &recorder.phases[Phase::Load.index()];
        assert_eq!((record.gap.len(), record.gap.max()), (1, 40));
        assert_eq!((record.held_nanos, recorder.by_task), (100 + 60 + 50, vec![2, 1]));
    }

    #[test]
    fn locks_of_a_lone_task_are_recorded_separately() {
        let mut recorder = Recorder::new(2, 2, 1_000, Duration::from_micros(10));
        recorder.record(Phase::Alone, sample(0, 1_000, 1_100, 1_200));
        recorder.record(Phase::NodeDown, sample(1, 3_000, 3_300, 3_400));
        assert_eq!(recorder.by_task, [0, 1]);
        let lengths = recorder.phases.each_ref().map(|record| record.acquire.len());
        assert_eq!(lengths, [1, 0, 1, 0]);
        let both = recorder.phases[0].clone().merge(&recorder.phases[2]);
        assert_eq!((both.acquire.len(), both.acquire.max()), (2, 300));
        let filled: Vec<usize> =
            (0..SLICES).filter(|index| !recorder.slices[*index].acquire.is_empty()).collect();
        assert_eq!(filled, [1, 23], "slices of a tenth of a microsecond");
    }
}
