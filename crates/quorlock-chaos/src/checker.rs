//! Was every promise kept? The judge reads a [`History`] and nothing else: no server, no clock, no chance.
//!
//! Two things keep it honest. What a fault excuses is computed from the fault log and the lock's own claims, case
//! by case (two holders at once are excused if, and only if, more of the nodes lied than that very lock could
//! spare), and whatever is excused is listed as [`ExcusedViolation`], never dropped. And a history in which nothing happened,
//! in which a client falls silent, or which contradicts itself is no success.
//!
//! What clients believe tells nothing of a lock that stands on fewer nodes than it could: that is seen only when one more
//! node fails. So the run looks at the nodes too, and the judge asks for [`Invariant::Redundancy`].

mod exclusion;
mod fencing;
mod lock_attempt;
mod progress;
mod record;
mod redundancy;
mod samples;
mod validity;
mod verdict;
mod world;

use std::collections::BTreeMap;

pub use verdict::{ControlResult, ExcusedViolation, Figures, Invariant, Verdict, Violation, counted, times};

pub(crate) use lock_attempt::{Grant, LockAttempt, lock_attempts};
pub(crate) use world::{Span, World};

use crate::history::History;

/// Judges what happened.
#[must_use]
pub fn check_history(history: &History) -> Verdict {
    let Some(world) = World::of(history) else {
        return Verdict::of_nothing("the history has no settings, so nothing can be judged");
    };
    let turns = lock_attempts(history, &world);
    let mut findings = Findings::default();

    record::check(history, &world, &turns, &mut findings);
    validity::check(&world, &turns, &mut findings);
    exclusion::check(&world, &turns, &mut findings);
    fencing::check(&world, &turns, &mut findings);
    progress::check(&world, &turns, &mut findings);
    redundancy::check(history, &world, &turns, &mut findings);

    findings.verdict(history, &world, &turns)
}

/// What the parts of the judge have found so far.
#[derive(Default)]
pub(crate) struct Findings {
    violations: Vec<Violation>,
    expected: BTreeMap<(Invariant, String), ExcusedViolation>,
    signals_late: Vec<u64>,
    recoveries: Vec<Span>,
    redundancy_judged: usize,
}

impl Findings {
    fn broken(&mut self, promise: Invariant, at: u64, events: Vec<usize>, words: String) {
        self.violations.push(Violation { invariant: promise, at, message: words, events });
    }

    fn excused(&mut self, promise: Invariant, at: u64, events: Vec<usize>, because: String) {
        let case = self.expected.entry((promise, because.clone()));
        case.or_insert(ExcusedViolation { invariant: promise, count: 0, because, at, events }).count += 1;
    }

    /// To one list or the other, by whether there is an excuse.
    fn found(
        &mut self,
        promise: Invariant,
        at: u64,
        events: Vec<usize>,
        words: String,
        excuse: Option<String>,
    ) {
        match excuse {
            Some(because) => self.excused(promise, at, events, because),
            None => self.broken(promise, at, events, words),
        }
    }

    fn verdict(mut self, history: &History, world: &World<'_>, turns: &[LockAttempt<'_>]) -> Verdict {
        self.violations.sort_by_key(|violation| violation.at);
        let expected: Vec<ExcusedViolation> = self.expected.into_values().collect();
        let controls = world.settings.controls.iter().map(|control| ControlResult {
            name: control.name.clone(),
            invariant: control.breaks,
            count: expected
                .iter()
                .filter(|case| case.invariant == control.breaks)
                .map(|case| case.count)
                .sum(),
        });
        let mut faults = BTreeMap::new();
        for bout in &world.bouts {
            *faults.entry(bout.fault.kind.clone()).or_insert(0) += 1;
        }
        let recoveries = self.recoveries;
        Verdict {
            seed: world.settings.seed,
            replay: world.settings.replay.clone(),
            seconds: (world.to - world.from) as f64 / 1e9,
            acquisitions: turns.iter().filter(|turn| turn.grant.is_some()).count(),
            faults,
            controls: controls.collect(),
            expected,
            violations: self.violations,
            slowest_recovery_ms: recoveries.iter().map(Span::len).max().map(millis),
            figures: Figures {
                recoveries: recoveries.len(),
                redundancy_judged: self.redundancy_judged,
                ..Figures::of(history, turns, &self.signals_late)
            },
        }
    }
}

/// How a moment of the run is written: seconds since its beginning.
pub(crate) fn clock(world: &World<'_>, at: u64) -> String {
    format!("{:.3} s", at.saturating_sub(world.from) as f64 / 1e9)
}

pub(crate) fn millis(nanos: u64) -> f64 {
    (nanos / 1_000) as f64 / 1e3
}

pub(crate) const MS: u64 = 1_000_000;
