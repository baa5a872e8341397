//! The messages of `quorlock chaos` at its end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quorlock_chaos::checker::{ControlResult, ExcusedViolation, Verdict, Violation, counted, times};
use quorlock_chaos::timeline::wrapped;
use quorlock_chaos::{Config, FaultKind, Outcome};
use serde::Serialize;

use super::names;
use crate::args::ChaosArgs;

/// The command that repeats the run.
pub(super) fn replay(args: &ChaosArgs, seed: u64) -> String {
    let mut line = format!(
        "quorlock chaos --servers {} --clients {} --duration {} --seed {seed} --faults {}",
        args.servers,
        args.clients,
        humantime::format_duration(args.duration),
        FaultKind::list(&args.faults).map_or_else(|_| args.faults.clone(), |kinds| names(&kinds)),
    );
    if let Some(server) = &args.server {
        let _ = write!(line, " --server '{}'", server.display());
    }
    line
}

/// The result as JSON: the verdict on the run itself, with its context and its negative controls.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    passed: bool,
    tested: bool,
    nodes: usize,
    clients: usize,
    server: Option<&'a str>,
    description: &'a str,
    #[serde(flatten)]
    verdict: &'a Verdict,
    control_runs: Vec<&'a Verdict>,
    skipped: BTreeMap<&'a str, &'a str>,
}

impl<'a> Report<'a> {
    pub(super) fn new(config: &'a Config, outcome: &'a Outcome) -> Self {
        Self {
            passed: verdicts(outcome).all(Verdict::passed),
            tested: outcome.verdict.tested(),
            nodes: config.nodes,
            clients: config.clients,
            server: outcome.history.settings().map(|settings| &*settings.server),
            description: &config.description,
            verdict: &outcome.verdict,
            control_runs: outcome.controls.iter().map(|(_, verdict)| verdict).collect(),
            skipped: outcome.skipped.iter().map(|(kind, reason)| (kind.name(), &**reason)).collect(),
        }
    }
}

/// The text for people: the verdict first, then the details, and the replay command last. Only that line may
/// be wider than the terminal, because it is to be copied.
pub(super) fn text(config: &Config, outcome: &Outcome, columns: usize) -> String {
    let mut text = String::new();
    for line in lines(outcome).lines() {
        wrapped(&mut text, line, columns, if line.starts_with(' ') { "            " } else { "  " });
    }
    let _ = writeln!(text, "  replay    {}", config.replay);
    text
}

fn lines(outcome: &Outcome) -> String {
    let mut text = format!("{}\n", headline(outcome));
    let _ = writeln!(text, "  faults    {}", faults(&outcome.verdict));
    let _ = writeln!(text, "  checked   {}", checked(&outcome.verdict));
    for violation in violations(outcome).take(SHOWN) {
        let _ = writeln!(text, "  VIOLATED  {}: {}", violation.invariant, violation.message);
    }
    let more = violations(outcome).count().saturating_sub(SHOWN);
    if more > 0 {
        let _ = writeln!(text, "            and {more} more (--json lists all)");
    }
    for case in expected(outcome) {
        let ExcusedViolation { invariant, count, excuse, .. } = case;
        let _ = writeln!(
            text,
            "  expected  the invariant \"{invariant}\" was violated {}: {excuse}",
            times(*count)
        );
    }
    for control in controls(outcome) {
        let result = if control.count == 0 {
            "detected nothing, so it tested nothing".to_owned()
        } else {
            format!("violated the invariant \"{}\" {}, as it should", control.invariant, times(control.count))
        };
        let _ = writeln!(text, "  control   {}: {result}", control.name);
    }
    for (kind, reason) in &outcome.skipped {
        let _ = writeln!(text, "  skipped   {kind}: {reason}");
    }
    text
}

/// The verdict in one line: that of the run itself, unless an invariant was violated in a negative control.
pub(super) fn headline(outcome: &Outcome) -> String {
    let in_controls: usize = outcome.controls.iter().map(|(_, verdict)| verdict.violations.len()).sum();
    match in_controls {
        0 if outcome.verdict.passed() && !outcome.verdict.tested() => {
            format!("NOTHING WAS TESTED, because no fault took place: {}", outcome.verdict)
        }
        0 => outcome.verdict.to_string(),
        1 => format!("1 INVARIANT VIOLATED in a negative control; main run: {}", outcome.verdict),
        many => format!("{many} INVARIANTS VIOLATED in negative controls; main run: {}", outcome.verdict),
    }
}

/// How many times each fault took place.
pub(super) fn faults(verdict: &Verdict) -> String {
    if verdict.faults.is_empty() {
        return "NONE, so nothing was tested".to_owned();
    }
    let faults: Vec<String> = verdict.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    faults.join(", ")
}

/// How many locks were held long enough to check their redundancy.
pub(super) fn checked(verdict: &Verdict) -> String {
    match verdict.totals.redundancy_checked {
        0 => "NO lock for redundancy: none was held for two ttls while a node was healthy".to_owned(),
        count => format!("{} for redundancy", counted(count, "lock")),
    }
}

pub(super) fn verdicts(outcome: &Outcome) -> impl Iterator<Item = &Verdict> {
    std::iter::once(&outcome.verdict).chain(outcome.controls.iter().map(|(_, verdict)| verdict))
}

fn violations(outcome: &Outcome) -> impl Iterator<Item = &Violation> {
    verdicts(outcome).flat_map(|verdict| &verdict.violations)
}

fn expected(outcome: &Outcome) -> impl Iterator<Item = &ExcusedViolation> {
    verdicts(outcome).flat_map(|verdict| &verdict.expected)
}

fn controls(outcome: &Outcome) -> impl Iterator<Item = &ControlResult> {
    verdicts(outcome).flat_map(|verdict| &verdict.controls)
}

const SHOWN: usize = 10;
