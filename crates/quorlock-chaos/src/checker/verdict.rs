//! What the judge has to say.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::lock_attempt::LockAttempt;
use super::{Span, millis};
use crate::history::{EventKind, History};

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What its random numbers began with.
    pub seed: u64,
    /// The command that does the same again.
    pub replay: String,
    /// How long it took.
    pub seconds: f64,
    /// How many locks were taken.
    pub acquisitions: usize,
    /// How many faults there were, by kind.
    pub faults: BTreeMap<String, usize>,
    /// Promises that were broken under faults that they are said to survive.
    pub violations: Vec<Violation>,
    /// Promises that broke by faults beyond what they are said to survive.
    pub expected: Vec<ExcusedViolation>,
    /// The steps beyond the assumptions that were taken on purpose, and whether they showed anything.
    pub controls: Vec<ControlResult>,
    /// The longest time from when a fault was mended, with a quorum of nodes there, to the next grant of a key that was
    /// wanted and free. None if nobody ever had to wait.
    pub slowest_recovery_ms: Option<f64>,
    /// What else was measured.
    pub figures: Figures,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When, on the boot clock.
    pub at: u64,
    /// How, for people.
    pub message: String,
    /// The events that show it, as places in the history.
    pub events: Vec<usize>,
}

/// A promise that broke where it was not meant to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcusedViolation {
    /// Which.
    pub invariant: Invariant,
    /// How often.
    pub count: usize,
    /// Why it could not hold.
    pub because: String,
    /// When first, on the boot clock.
    pub at: u64,
    /// The events that show the first case, as places in the history.
    pub events: Vec<usize>,
}

/// What a deliberate step beyond the assumptions has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlResult {
    /// What was done.
    pub name: String,
    /// What should have broken.
    pub invariant: Invariant,
    /// How often it did. None at all: the run was no test of this.
    pub count: usize,
}

/// What the lock promises, and what a run of it owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Invariant {
    /// No two believe at once that they hold what excludes each other.
    Exclusion,
    /// No fencing number is given out twice.
    NumbersUnique,
    /// Who asks after another was granted has the larger number.
    NumbersOrdered,
    /// The protected store takes nothing from a lock when a later lock has written.
    NoStaleWrite,
    /// No lock is valid past its deadline.
    InvalidAfterDeadline,
    /// What was lost or released is never valid again.
    StaysLost,
    /// No deadline lies further ahead than the ttl less drift allows.
    DeadlineWithinTtl,
    /// Who loses a lock is told.
    LossSignalled,
    /// No key stays longer than its ttl.
    KeysExpire,
    /// Nobody waits for ever while a quorum is up.
    Progress,
    /// A node that is up and well for two ttls holds the key of every live lock.
    Redundancy,
    /// An answer comes within the time that was set for it.
    RepliesInTime,
    /// Nothing panics.
    NoPanic,
    /// Nothing fails in a way that nobody has planned for.
    NoUnexpectedError,
    /// Everybody tells all of it, and it fits together.
    CompleteHistory,
}

/// What else was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Events in the history.
    pub events: usize,
    /// Client processes.
    pub processes: usize,
    /// Tries that were refused.
    pub refused: usize,
    /// Locks that were lost.
    pub lost: usize,
    /// Writes that the protected stores took.
    pub writes: usize,
    /// Writes that they refused.
    pub writes_refused: usize,
    /// How long a granted lock was waited for, in milliseconds: half of them, 99 of 100, all.
    pub wait_ms: Option<[f64; 3]>,
    /// By how much lost signals came after the deadline, not counting the time that the process stood still: the
    /// latest, in milliseconds. None if all came before.
    pub latest_signal_ms: Option<f64>,
    /// How many times a key that was wanted and free was granted again after a fault.
    pub recoveries: usize,
    /// How many locks were held for long enough, beside a node that was well for long enough, to tell whether that node
    /// had their key. None at all: nothing is known of redundancy.
    #[serde(default)]
    pub redundancy_judged: usize,
}

impl Verdict {
    /// Whether every promise was kept. Controls that showed nothing are not broken promises; see
    /// [`idle_controls`](Self::idle_controls).
    #[must_use]
    pub fn passed(&self) -> bool {
        self.violations.is_empty()
    }

    /// Whether anything was broken that the promises had to survive. Where clients were left in peace, that they held says
    /// little.
    #[must_use]
    pub fn tested(&self) -> bool {
        self.faults.values().any(|count| *count > 0)
    }

    /// The controls by which nothing broke, so that nothing is known of what they test.
    pub fn idle_controls(&self) -> impl Iterator<Item = &ControlResult> {
        self.controls.iter().filter(|control| control.count == 0)
    }

    pub(super) fn of_nothing(words: &str) -> Self {
        let promise = Invariant::CompleteHistory;
        Self {
            seed: 0,
            replay: String::new(),
            seconds: 0.0,
            acquisitions: 0,
            faults: BTreeMap::new(),
            violations: vec![Violation {
                invariant: promise,
                at: 0,
                message: words.to_owned(),
                events: Vec::new(),
            }],
            expected: Vec::new(),
            controls: Vec::new(),
            slowest_recovery_ms: None,
            figures: Figures::default(),
        }
    }
}

/// One line.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.violations.len() {
            0 if self.tested() => write!(f, "every promise held")?,
            0 => write!(f, "every promise held, with no fault to test one")?,
            1 => write!(f, "1 PROMISE BROKEN ({})", self.violations[0].invariant.name())?,
            many => write!(f, "{many} PROMISES BROKEN (first: {})", self.violations[0].invariant.name())?,
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
                0 => write!(f, "; the control \"{}\" SHOWED NOTHING", control.name)?,
                count => {
                    let (ControlResult { name, invariant: breaks, .. }, times) = (control, times(count));
                    write!(f, "; the control \"{name}\" broke the promise \"{breaks}\" {times}")?;
                }
            }
        }
        Ok(())
    }
}

/// So many of something, in words.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// So often, in words.
#[must_use]
pub fn times(count: usize) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

impl Invariant {
    /// Its name in a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exclusion => "exclusion",
            Self::NumbersUnique => "numbers unique",
            Self::NumbersOrdered => "numbers ordered",
            Self::NoStaleWrite => "no stale write",
            Self::InvalidAfterDeadline => "over at the deadline",
            Self::StaysLost => "stays lost",
            Self::DeadlineWithinTtl => "deadline in time",
            Self::LossSignalled => "loss is told",
            Self::KeysExpire => "keys expire",
            Self::Progress => "progress",
            Self::Redundancy => "redundancy",
            Self::RepliesInTime => "answers in time",
            Self::NoPanic => "no panic",
            Self::NoUnexpectedError => "no surprise",
            Self::CompleteHistory => "the whole story",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Figures {
    pub(super) fn of(history: &History, turns: &[LockAttempt<'_>], signals_late: &[u64]) -> Self {
        let mut waits: Vec<u64> =
            turns.iter().filter_map(|turn| Some(turn.grant.as_ref()?.at - turn.waiting)).collect();
        waits.sort_unstable();
        let part = |of_100: usize| millis(waits[(waits.len() * of_100).div_ceil(100).max(1) - 1]);
        let count =
            |is: fn(&EventKind) -> bool| history.events().iter().filter(|event| is(&event.kind)).count();
        let mut processes: Vec<u32> = turns.iter().map(|turn| turn.process).collect();
        processes.sort_unstable();
        processes.dedup();
        Self {
            events: history.events().len(),
            processes: processes.len(),
            refused: count(|what| matches!(what, EventKind::Refused { .. })),
            lost: count(|what| matches!(what, EventKind::Lost { .. })),
            writes: count(|what| matches!(what, EventKind::Wrote { accepted: true, .. })),
            writes_refused: count(|what| matches!(what, EventKind::Wrote { accepted: false, .. })),
            wait_ms: (!waits.is_empty()).then(|| [part(50), part(99), part(100)]),
            latest_signal_ms: signals_late.iter().copied().max().filter(|late| *late > 0).map(millis),
            ..Self::default()
        }
    }
}

impl Span {
    pub(super) fn len(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }
}
