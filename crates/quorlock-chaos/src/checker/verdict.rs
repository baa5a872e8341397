//! The checker's verdict on a run.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::lock_attempt::LockAttempt;
use super::millis;
use crate::history::{EventKind, History};

/// The result of checking a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The seed of the run's random numbers.
    pub seed: u64,
    /// The command that repeats the run.
    pub replay: String,
    /// The duration of the run.
    pub seconds: f64,
    /// The number of locks acquired.
    pub acquisitions: usize,
    /// The number of faults, by kind.
    pub faults: BTreeMap<String, usize>,
    /// Violations under faults that the invariants must survive.
    pub violations: Vec<Violation>,
    /// Violations excused by faults beyond that.
    pub expected: Vec<ExcusedViolation>,
    /// The results of the negative controls.
    pub controls: Vec<ControlResult>,
    /// The longest recovery: from the end of a fault, with a quorum present, to the next grant of a wanted
    /// and free key. None if no key was wanted then.
    pub slowest_recovery_ms: Option<f64>,
    /// Other measurements.
    pub totals: Totals,
}

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The violated invariant.
    pub invariant: Invariant,
    /// The time on the boot clock.
    pub at: u64,
    /// What happened, as a message for people.
    pub message: String,
    /// The events that show it, as positions in the history.
    pub events: Vec<usize>,
}

/// An invariant violated where faults excuse it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcusedViolation {
    /// The violated invariant.
    pub invariant: Invariant,
    /// The number of cases.
    pub count: usize,
    /// Why it could not hold.
    pub excuse: String,
    /// The time of the first case, on the boot clock.
    pub at: u64,
    /// The events that show the first case, as positions in the history.
    pub events: Vec<usize>,
}

/// The result of a negative control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlResult {
    /// What was done.
    pub name: String,
    /// The invariant that should have been violated.
    pub invariant: Invariant,
    /// How many times it was violated. Zero means that the run did not test it.
    pub count: usize,
}

/// An invariant of the lock, or of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Invariant {
    /// Two clients never believe at the same time that they hold locks that exclude each other.
    MutualExclusion,
    /// No fencing number is granted twice.
    NumbersUnique,
    /// A lock requested after another was granted has the larger number.
    NumbersOrdered,
    /// The protected store accepts no write of a lock after a later lock has written.
    NoStaleWrite,
    /// No lock is valid after its deadline.
    InvalidAfterDeadline,
    /// A lock that was lost or released is never valid again.
    StaysLost,
    /// No deadline is later than the ttl minus drift allows.
    DeadlineWithinTtl,
    /// A client that loses a lock receives the loss signal.
    LossSignaled,
    /// No key stays longer than its ttl.
    KeysExpire,
    /// No client waits forever while a quorum is up.
    Progress,
    /// A node that is up and healthy for two ttls has the key of every held lock.
    Redundancy,
    /// A reply comes within its timeout.
    RepliesInTime,
    /// No thread or task panics.
    NoPanic,
    /// No unexpected error occurs.
    NoUnexpectedError,
    /// The run and every client record all their events, and these are consistent.
    CompleteHistory,
}

/// Other measurements of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Events in the history.
    pub events: usize,
    /// Client processes.
    pub processes: usize,
    /// Attempts that failed.
    pub failed: usize,
    /// Locks that were lost.
    pub lost: usize,
    /// Writes that the protected stores accepted.
    pub writes: usize,
    /// Writes that they rejected.
    pub rejected_writes: usize,
    /// The wait times of granted locks in milliseconds: median, 99th percentile, maximum.
    pub wait_ms: Option<[f64; 3]>,
    /// The largest delay of a loss signal after the deadline, in milliseconds, without the time in which the
    /// process was stopped. None if all came before the deadline.
    pub slowest_signal_ms: Option<f64>,
    /// How many times a key that was wanted and free was granted again after a fault.
    pub recoveries: usize,
    /// The number of locks checked for redundancy: held long enough, with a node that was healthy long
    /// enough. Zero means that redundancy was not tested.
    #[serde(default)]
    pub redundancy_checked: usize,
}

impl Verdict {
    /// Whether every invariant held. A negative control that detected nothing is no violation; see
    /// [`idle_controls`](Self::idle_controls).
    #[must_use]
    pub fn passed(&self) -> bool {
        self.violations.is_empty()
    }

    /// Whether the run had any fault. Without faults, a pass says little.
    #[must_use]
    pub fn tested(&self) -> bool {
        self.faults.values().any(|count| *count > 0)
    }

    /// The negative controls that detected nothing: their invariants were not tested.
    pub fn idle_controls(&self) -> impl Iterator<Item = &ControlResult> {
        self.controls.iter().filter(|control| control.count == 0)
    }

    pub(super) fn incomplete(message: &str) -> Self {
        let invariant = Invariant::CompleteHistory;
        Self {
            seed: 0,
            replay: String::new(),
            seconds: 0.0,
            acquisitions: 0,
            faults: BTreeMap::new(),
            violations: vec![Violation { invariant, at: 0, message: message.to_owned(), events: Vec::new() }],
            expected: Vec::new(),
            controls: Vec::new(),
            slowest_recovery_ms: None,
            totals: Totals::default(),
        }
    }
}

/// One line.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.violations.len() {
            0 if self.tested() => write!(f, "every invariant held")?,
            0 => write!(f, "every invariant held, but no fault tested one")?,
            1 => write!(f, "1 INVARIANT VIOLATED ({})", self.violations[0].invariant.name())?,
            count => {
                write!(f, "{count} INVARIANTS VIOLATED (first: {})", self.violations[0].invariant.name())?;
            }
        }
        let faults: usize = self.faults.values().sum();
        let [acquisitions, faults] =
            [(self.acquisitions, "acquisition"), (faults, "fault")].map(|(count, noun)| counted(count, noun));
        write!(f, ": {acquisitions}, {faults} in {:.1} s", self.seconds)?;
        if let Some(slowest) = self.slowest_recovery_ms {
            write!(f, ", slowest recovery {slowest:.0} ms")?;
        }
        for control in &self.controls {
            match control.count {
                0 => write!(f, "; the negative control \"{}\" detected nothing", control.name)?,
                count => {
                    let (ControlResult { name, invariant, .. }, times) = (control, times(count));
                    write!(
                        f,
                        "; the negative control \"{name}\" violated the invariant \"{invariant}\" {times}"
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// A count with its noun, in singular or plural.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A count of occurrences, such as `once` or `3 times`.
#[must_use]
pub fn times(count: usize) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

impl Invariant {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MutualExclusion => "mutual exclusion",
            Self::NumbersUnique => "numbers unique",
            Self::NumbersOrdered => "numbers ordered",
            Self::NoStaleWrite => "no stale write",
            Self::InvalidAfterDeadline => "invalid after deadline",
            Self::StaysLost => "stays lost",
            Self::DeadlineWithinTtl => "deadline within ttl",
            Self::LossSignaled => "loss signaled",
            Self::KeysExpire => "keys expire",
            Self::Progress => "progress",
            Self::Redundancy => "redundancy",
            Self::RepliesInTime => "replies in time",
            Self::NoPanic => "no panic",
            Self::NoUnexpectedError => "no unexpected error",
            Self::CompleteHistory => "complete history",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Totals {
    pub(super) fn of_history(history: &History, attempts: &[LockAttempt<'_>], signal_delays: &[u64]) -> Self {
        let mut waits: Vec<u64> = attempts
            .iter()
            .filter_map(|attempt| Some(attempt.grant.as_ref()?.at - attempt.waiting_since))
            .collect();
        waits.sort_unstable();
        let percentile = |percent: usize| millis(waits[(waits.len() * percent).div_ceil(100).max(1) - 1]);
        let count = |matches: fn(&EventKind) -> bool| {
            history.events().iter().filter(|event| matches(&event.kind)).count()
        };
        let mut processes: Vec<u32> = attempts.iter().map(|attempt| attempt.process).collect();
        processes.sort_unstable();
        processes.dedup();
        Self {
            events: history.events().len(),
            processes: processes.len(),
            failed: count(|kind| matches!(kind, EventKind::Failed { .. })),
            lost: count(|kind| matches!(kind, EventKind::Lost { .. })),
            writes: count(|kind| matches!(kind, EventKind::Wrote { accepted: true, .. })),
            rejected_writes: count(|kind| matches!(kind, EventKind::Wrote { accepted: false, .. })),
            wait_ms: (!waits.is_empty()).then(|| [percentile(50), percentile(99), percentile(100)]),
            slowest_signal_ms: signal_delays.iter().copied().max().filter(|late| *late > 0).map(millis),
            ..Self::default()
        }
    }
}
