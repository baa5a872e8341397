//! `quorlock chaos`: real servers, real clients, real faults, and a checker.

mod messages;
mod report;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorlock_chaos::checker::{Verdict, counted};
use quorlock_chaos::{Config, FaultKind, Outcome, Progress, RunError, run};

use crate::about::about;
use crate::args::ChaosArgs;
use crate::exit::{self, Failure};
use crate::output::{print, print_json};
use crate::progress::{Bar, room};
use crate::reaper::{boot_nanos, this_program};
use crate::signals::handled::Handled;

pub(crate) async fn chaos(args: ChaosArgs) -> Result<u8, Failure> {
    let mut signals =
        Handled::listen().map_err(|error| Failure::new(exit::SOFTWARE, format!("no signals: {error}")))?;
    let config = config(&args)?;
    report::check(&args)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let runs = {
        let (config, is_over) = (config.clone(), Arc::clone(&is_over));
        let mut bar = Bar::new(!args.json);
        tokio::task::spawn_blocking(move || {
            let outcome = run(&config, |progress| {
                draw_progress(&mut bar, progress);
                if is_over.load(Ordering::Relaxed) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            bar.clear();
            outcome
        })
    };
    tokio::pin!(runs);
    let mut ended_by = None;
    let outcome = loop {
        tokio::select! {
            outcome = &mut runs => break outcome,
            // The run itself ends everything that it started; that takes a moment.
            signal = signals.next() => {
                ended_by = Some(signal);
                is_over.store(true, Ordering::Relaxed);
            }
        }
    };
    match outcome.map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))? {
        Ok(outcome) => report(&args, &config, &outcome),
        Err(RunError::Interrupted) => {
            let code = ended_by.map_or(exit::SOFTWARE, |signal| 128 + signal.as_raw() as u8);
            Err(Failure::new(code, "interrupted: nothing was checked"))
        }
        Err(error @ RunError::Servers(_)) => Err(Failure::new(exit::NO_QUORUM, error.to_string())),
        Err(error) => Err(Failure::new(exit::SOFTWARE, error.to_string())),
    }
}

/// A client of a run.
pub(crate) async fn client() -> Result<u8, Failure> {
    quorlock_chaos::client().await.map_err(|message| Failure::new(exit::USAGE, message))?;
    Ok(0)
}

fn config(args: &ChaosArgs) -> Result<Config, Failure> {
    let faults = FaultKind::list(&args.faults)
        .map_err(|error| Failure::new(exit::USAGE, format!("--faults: {error}")))?;
    if faults.is_empty() {
        return Err(Failure::new(exit::USAGE, "no faults were named; `--faults all` means all"));
    }
    // With `all`, faults for which there is no time are skipped.
    let is_short = |kind: &&FaultKind| {
        args.duration < Duration::from_secs(kind.least_seconds()) && faults.len() < FaultKind::ALL.len()
    };
    if let Some(kind) = faults.iter().find(is_short) {
        let message = format!("{kind} {}", kind.needs_time());
        return Err(Failure::new(exit::USAGE, message));
    }
    if args.server.is_none()
        && let Some(error) = quorlock_chaos::locate().err().filter(quorlock_chaos::NoBinary::is_set)
    {
        return Err(exit::no_servers(&error.into()));
    }
    let program = this_program().map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?;
    // Any number will do, because the report names it.
    let seed = args.seed.unwrap_or_else(|| boot_nanos() % 1_000_000);
    Ok(Config {
        nodes: usize::from(args.servers),
        clients: usize::from(args.clients),
        duration: args.duration,
        seed,
        controls: faults.len() == FaultKind::ALL.len(),
        replay: messages::replay(args, seed),
        description: about(),
        faults,
        server: args.server.clone(),
        program: (program, vec!["__chaos-client".into()]),
    })
}

fn report(args: &ChaosArgs, config: &Config, outcome: &Outcome) -> Result<u8, Failure> {
    // The results are printed even if a file cannot be written.
    if args.json {
        print_json(&messages::Report::new(config, outcome));
    } else {
        print(&messages::text(config, outcome, room()));
    }
    for file in report::write(args, outcome)? {
        if !args.json {
            print(&format!("  wrote     {}\n", file.display()));
        }
    }
    Ok(exit_code(outcome))
}

/// Zero only if something was tested and every invariant held, in the run and in its negative controls.
fn exit_code(outcome: &Outcome) -> u8 {
    match () {
        () if !messages::verdicts(outcome).all(Verdict::passed) => exit::UNHEALTHY,
        () if !outcome.verdict.tested() => UNTESTED,
        () => 0,
    }
}

/// No fault took place: the run was too short, or the requested faults are not available here.
const UNTESTED: u8 = 2;

fn draw_progress(bar: &mut Bar, progress: &Progress) {
    let Progress { stage, elapsed, total, acquisitions, faults, last_fault } = progress;
    let counts =
        [(*acquisitions, "acquisition"), (*faults, "fault")].map(|(count, noun)| counted(count, noun));
    bar.draw(stage, *elapsed, *total, &format!("{}  {last_fault}", counts.join("  ")));
}

/// The names of these, as they are typed.
fn names(kinds: &BTreeSet<FaultKind>) -> String {
    if kinds.len() == FaultKind::ALL.len() {
        return "all".to_owned();
    }
    kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use quorlock_chaos::checker::check_history;
    use quorlock_chaos::history::History;

    use super::*;

    #[test]
    fn a_run_without_faults_is_reported_as_such() {
        let mut verdict = check_history(&History::default());
        assert!(messages::faults(&verdict).contains("nothing was tested"));
        verdict.faults = [("kill".to_owned(), 2), ("partition".to_owned(), 1)].into();
        assert_eq!(messages::faults(&verdict), "kill 2, partition 1");
    }

    #[test]
    fn a_run_without_a_lock_to_check_for_redundancy_is_reported_as_such() {
        let mut verdict = check_history(&History::default());
        assert!(messages::checked(&verdict).starts_with("NO lock"));
        verdict.totals.redundancy_checked = 3;
        assert_eq!(messages::checked(&verdict), "3 locks for redundancy");
    }

    #[test]
    fn only_the_replay_line_is_wider_than_the_terminal() {
        let config = Config {
            nodes: 5,
            clients: 8,
            duration: Duration::from_secs(60),
            seed: 7,
            controls: false,
            replay: "quorlock chaos --servers 5 --clients 8 --duration 1m --seed 7".to_owned(),
            description: String::new(),
            faults: FaultKind::ALL.into(),
            server: None,
            program: ("quorlock".into(), Vec::new()),
        };
        let mut verdict = check_history(&History::default());
        verdict.faults = FaultKind::ALL.map(|kind| (kind.name().to_owned(), 2)).into();
        let outcome = Outcome {
            history: History::default(),
            verdict,
            controls: Vec::new(),
            skipped: vec![(FaultKind::StaleKey, FaultKind::StaleKey.needs_time())],
        };
        let text = messages::text(&config, &outcome, 40);
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 40).collect();
        assert_eq!(wide, [format!("  replay    {}", config.replay)], "{text}");
        assert!(text.lines().count() < 40, "{text}");
    }

    #[test]
    fn a_violation_in_a_negative_control_fails_the_run() {
        // For an empty history the checker reports that nothing was tested.
        let bad = check_history(&History::default());
        assert!(!bad.passed());
        let mut good = bad.clone();
        good.violations.clear();
        let idle = good.clone();
        good.faults = [("kill".to_owned(), 2)].into();
        let outcome = |run: &Verdict, control: &Verdict| Outcome {
            history: History::default(),
            verdict: run.clone(),
            controls: vec![(History::default(), control.clone())],
            skipped: Vec::new(),
        };
        assert_eq!(exit_code(&outcome(&good, &good)), 0);
        assert!(messages::headline(&outcome(&good, &good)).starts_with("every invariant held"));
        assert_eq!(exit_code(&outcome(&bad, &good)), exit::UNHEALTHY);
        assert!(messages::headline(&outcome(&bad, &good)).starts_with("1 INVARIANT VIOLATED"));
        assert_eq!(exit_code(&outcome(&idle, &good)), UNTESTED);
        assert!(messages::headline(&outcome(&idle, &good)).starts_with("NOTHING WAS TESTED"));
        assert_eq!(exit_code(&outcome(&idle, &bad)), exit::UNHEALTHY);
        assert_eq!(exit_code(&outcome(&good, &bad)), exit::UNHEALTHY);
        assert!(
            messages::headline(&outcome(&good, &bad))
                .starts_with("1 INVARIANT VIOLATED in a negative control")
        );
    }
}
