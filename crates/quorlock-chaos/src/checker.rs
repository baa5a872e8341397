//! The checker: reads a [`History`] and reports every violated invariant. It reads nothing else: no server,
//! no clock, no random number.
//!
//! For each violation the checker decides from the fault log and the lock's own events whether faults excuse
//! it. For example, two holders at once are excused only if more nodes were faulty than that lock could
//! spare, or if addresses moved and less than a quorum kept its data and addresses. Each excused violation is listed as [`ExcusedViolation`]. A history that is empty, incomplete or
//! inconsistent is a violation too.
//!
//! A lock whose key is on fewer nodes than possible looks normal to its client until one more node fails. So
//! the run also samples the nodes, and the checker verifies [`Invariant::Redundancy`].

mod exclusion;
mod fault_window;
mod fencing;
mod lock_attempt;
mod moved_addresses;
mod progress;
mod record;
mod redundancy;
mod run_facts;
mod samples;
mod validity;
mod verdict;

use std::collections::BTreeMap;

pub use verdict::{ControlResult, ExcusedViolation, Invariant, Totals, Verdict, Violation, counted, times};

pub(crate) use lock_attempt::{Grant, LockAttempt, lock_attempts};
pub(crate) use run_facts::{RunFacts, Span};

use crate::history::History;

/// Checks every invariant against a history.
#[must_use]
pub fn check_history(history: &History) -> Verdict {
    let Some(facts) = RunFacts::of(history) else {
        return Verdict::incomplete("the history has no settings, so no invariant can be checked");
    };
    let attempts = lock_attempts(history, &facts);
    let mut findings = Findings::default();

    record::check(history, &facts, &attempts, &mut findings);
    validity::check(&facts, &attempts, &mut findings);
    exclusion::check(&facts, &attempts, &mut findings);
    fencing::check(&facts, &attempts, &mut findings);
    progress::check(&facts, &attempts, &mut findings);
    redundancy::check(history, &facts, &attempts, &mut findings);

    findings.into_verdict(history, &facts, &attempts)
}

/// The violations and measurements found so far.
#[derive(Default)]
pub(crate) struct Findings {
    violations: Vec<Violation>,
    expected: BTreeMap<(Invariant, String), ExcusedViolation>,
    signal_delays: Vec<u64>,
    recoveries: Vec<Span>,
    redundancy_checked: usize,
}

impl Findings {
    fn record_violation(&mut self, invariant: Invariant, at: u64, events: Vec<usize>, message: String) {
        self.violations.push(Violation { invariant, at, message, events });
    }

    fn record_excused(&mut self, invariant: Invariant, at: u64, events: Vec<usize>, excuse: String) {
        let case = self.expected.entry((invariant, excuse.clone()));
        case.or_insert(ExcusedViolation { invariant, count: 0, excuse, at, events }).count += 1;
    }

    /// Adds to the excused violations if there is an excuse, else to the violations.
    fn record(
        &mut self,
        invariant: Invariant,
        at: u64,
        events: Vec<usize>,
        message: String,
        excuse: Option<String>,
    ) {
        match excuse {
            Some(excuse) => self.record_excused(invariant, at, events, excuse),
            None => self.record_violation(invariant, at, events, message),
        }
    }

    fn into_verdict(
        mut self,
        history: &History,
        facts: &RunFacts<'_>,
        attempts: &[LockAttempt<'_>],
    ) -> Verdict {
        self.violations.sort_by_key(|violation| violation.at);
        let expected: Vec<ExcusedViolation> = self.expected.into_values().collect();
        let controls = facts.settings.controls.iter().map(|control| ControlResult {
            name: control.name.clone(),
            invariant: control.breaks,
            count: expected
                .iter()
                .filter(|case| case.invariant == control.breaks)
                .map(|case| case.count)
                .sum(),
        });
        let mut faults = BTreeMap::new();
        for window in &facts.fault_windows {
            *faults.entry(window.fault.kind.clone()).or_insert(0) += 1;
        }
        let recoveries = self.recoveries;
        Verdict {
            seed: facts.settings.seed,
            replay: facts.settings.replay.clone(),
            seconds: (facts.to - facts.from) as f64 / 1e9,
            acquisitions: attempts.iter().filter(|attempt| attempt.grant.is_some()).count(),
            faults,
            controls: controls.collect(),
            expected,
            violations: self.violations,
            slowest_recovery_ms: recoveries.iter().map(Span::len).max().map(millis),
            totals: Totals {
                recoveries: recoveries.len(),
                redundancy_checked: self.redundancy_checked,
                ..Totals::of_history(history, attempts, &self.signal_delays)
            },
        }
    }
}

/// Formats a time as seconds since the start of the run.
pub(crate) fn format_time(facts: &RunFacts<'_>, at: u64) -> String {
    format!("{:.3} s", at.saturating_sub(facts.from) as f64 / 1e9)
}

pub(crate) fn millis(nanos: u64) -> f64 {
    (nanos / 1_000) as f64 / 1e3
}

pub(crate) const MS: u64 = 1_000_000;
