//! `quorlock reconfigure`: changes the nodes, the quorum or the max ttl of a lock cluster while its clients lock.

mod failure;
mod plan;
mod progress;
mod report;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorlock::reconfiguration::Reconfiguration;
use quorlock::{Mode, RedlockBuilder};
use tokio::time::interval;

use crate::args::{Goal, ReconfigureArgs};
use crate::config::{self, Cluster};
use crate::exit::{self, Failure};
use crate::output::{print, print_json};
use crate::run::until_signaled;
use crate::signals::Signals;
use plan::Plan;
use progress::ProgressReporter;
use report::{Outcome, Report};

pub(crate) async fn reconfigure(mut args: ReconfigureArgs) -> Result<u8, Failure> {
    let is_typed_plain = args.nodes.mode == Some(Mode::Plain);
    let goal = args.take_goal()?;
    // Before the client starts its thread, so that they are blocked there too.
    let mut signals = Signals::listen()
        .map_err(|error| Failure::new(exit::SOFTWARE, format!("signals are not available: {error}")))?;
    let (Cluster { builder, urls, max_ttl, .. }, origins) = config::unchecked_cluster(args.nodes)?;
    if max_ttl.is_none() {
        return Err(exit::plain_mode(is_typed_plain, "reconfigure"));
    }
    let files = builder.check_files();
    let reconfiguration = to_goal(builder, &goal, urls);
    let checked = reconfiguration.check().and(files);
    checked.map_err(|invalid| failure::of_input(&invalid, &goal, &origins))?;
    if args.dry_run {
        let progress = tokio::select! {
            progress = reconfiguration.inspect() => progress.map_err(|error| failure::of(error, &goal, &origins))?,
            signal = until_signaled(&mut signals) => return Ok(exit::by_signal(signal)),
        };
        let plan = Plan::new(&progress, &goal);
        if args.json {
            print_json(&Report::new(Outcome::DryRun, &progress).with_plan(&plan));
        } else {
            print(&plan.text(&progress));
        }
        return failure::of_obstacles(&progress.obstacles).map_or(Ok(0), Err);
    }
    let reporter = Arc::new(Mutex::new(ProgressReporter::new(args.quiet)));
    let on_progress = Arc::clone(&reporter);
    let mut running =
        pin!(reconfiguration.on_progress(move |progress| locked(&on_progress).report(progress)).run());
    let mut signaled = pin!(until_signaled(&mut signals));
    let mut ticks = interval(TICK);
    let outcome = loop {
        tokio::select! {
            outcome = &mut running => break outcome,
            _ = ticks.tick() => locked(&reporter).report_wait(),
            signal = &mut signaled => {
                if let (true, Some(last)) = (args.json, &locked(&reporter).last) {
                    print_json(&Report::new(Outcome::Interrupted, last));
                }
                exit::eprint_line("interrupted: locks work as before; run the same command again to go on");
                return Ok(exit::by_signal(signal));
            }
        }
    };
    let progress = outcome.map_err(|error| failure::of(error, &goal, &origins))?;
    let was_changed = locked(&reporter).was_changed(&progress);
    let outcome = if was_changed { Outcome::Reconfigured } else { Outcome::Unchanged };
    if args.json {
        print_json(&Report::new(outcome, &progress));
    } else {
        print(&report::text(outcome, &progress));
    }
    Ok(0)
}

/// The reconfiguration from this builder's nodes to the goal.
fn to_goal(builder: RedlockBuilder, goal: &Goal, urls: Vec<String>) -> Reconfiguration {
    let mut reconfiguration = builder.reconfigure(goal.to.clone().unwrap_or(urls));
    if let Some(names) = &goal.to_names {
        reconfiguration = reconfiguration.to_names(names);
    }
    if let Some(quorum) = goal.quorum {
        reconfiguration = reconfiguration.quorum(quorum);
    }
    if let Some(max_ttl) = goal.max_ttl {
        reconfiguration = reconfiguration.max_ttl(max_ttl);
    }
    reconfiguration
}

fn locked(reporter: &Mutex<ProgressReporter>) -> MutexGuard<'_, ProgressReporter> {
    reporter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often is checked whether a wait has lasted.
const TICK: Duration = Duration::from_millis(100);
