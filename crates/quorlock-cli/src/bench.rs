//! `quorlock bench`: measures lock latency and throughput on these nodes.

mod bench_plan;
mod compute;
mod html_report;
mod leak_check;
mod load;
mod pause;
mod percentiles;
mod probe;
mod progress_state;
mod recorder;
mod results;
mod text_report;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorlock_chaos::checker::counted;
use quorlock_chaos::{Data, Fleet};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use crate::args::BenchArgs;
use crate::exit::{self, Failure};
use crate::output::{print, print_json};
use crate::progress::{Bar, room};
use crate::reaper::boot_nanos;
use crate::report_file;
use crate::signals::handled::Handled;
use bench_plan::{BenchPlan, Target};
use progress_state::{EventCounter, Phase, ProgressState};
use results::{Measurements, Results};

pub(crate) async fn bench(args: BenchArgs) -> Result<u8, Failure> {
    let mut signals =
        Handled::listen().map_err(|error| Failure::new(exit::SOFTWARE, format!("no signals: {error}")))?;
    args.report.as_deref().map_or(Ok(()), |file| report_file::check("--report", file))?;
    let (plan, target) = bench_plan::prepare(&args).await?;
    let Target { builder, urls, fleet } = target;
    let (progress, event_counter) = (Arc::new(ProgressState::default()), Arc::new(EventCounter::default()));
    let (round_sender, round_receiver) = mpsc::channel(1);
    let probes = {
        let (builder, plan, progress) = (builder.clone(), plan.clone(), Arc::clone(&progress));
        spawn_blocking(move || probe::run(&builder, &urls, &plan, round_receiver, &progress))
    };
    let mut load = {
        let (builder, plan, progress, event_counter) =
            (builder.clone(), plan.clone(), Arc::clone(&progress), Arc::clone(&event_counter));
        spawn_blocking(move || load::run(builder, &plan, &progress, &event_counter, round_sender))
    };
    let mut bench_run = BenchRun { victim: None, fleet, args: &args, plan: &plan, progress: &progress };
    let mut bar = Bar::new(!args.json);
    let mut ended_by = None;
    let mut run_failure = None;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let load_result = loop {
        tokio::select! {
            load_result = &mut load => break load_result,
            signal = signals.next() => {
                ended_by = Some(signal);
                // Then every task releases its lock, so the load ends a moment later.
                progress.stop.cancel();
            }
            _ = ticks.tick() => {
                bench_run.draw_progress(&mut bar);
                if let Err(failure) = bench_run.run_phases() {
                    run_failure = Some(failure);
                    progress.stop.cancel();
                }
            }
        }
    };
    bar.clear();
    let samples = join(probes).await;
    let load_result = load_result.map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))??;
    let samples = samples?;
    if let Some(failure) = run_failure {
        return Err(failure);
    }
    let mut leftovers = leak_check::find_leftovers(builder, &plan).await?;
    leftovers.add_unchecked(&load_result.pending_releases);
    let measurements = Measurements {
        plan: &plan,
        progress: &progress,
        load: &load_result,
        samples: &samples,
        changes: event_counter.changes(),
        killed: bench_run.victim,
        failed: event_counter.failed(),
        left: leftovers,
        is_interrupted: ended_by.is_some(),
    };
    let results = Results::of(&measurements);
    report(&args, &results)?;
    match ended_by {
        Some(signal) => {
            let message = format!(
                "interrupted after {:.1} s: the results are of what was done until then; {}",
                results.alone.seconds + results.load.seconds,
                results.leftovers.summary()
            );
            // The keys that are left are reported even after an interrupt.
            let code = match exit_code(&results) {
                exit::LOST => exit::LOST,
                _ => 128 + signal.as_raw() as u8,
            };
            Err(Failure::new(code, message))
        }
        None => Ok(exit_code(&results)),
    }
}

async fn join<T>(task: JoinHandle<Result<T, Failure>>) -> Result<T, Failure> {
    task.await.map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?
}

/// The results are printed first, even if a file cannot be written.
fn report(args: &BenchArgs, results: &Results) -> Result<(), Failure> {
    if args.json {
        print_json(results);
    } else {
        print(&text_report::table(results, room()));
    }
    args.report.as_deref().map_or(Ok(()), |file| report_file::write(file, &html_report::page(results)))
}

fn exit_code(results: &Results) -> u8 {
    match results {
        it if it.lost > 0 || !it.leftovers.keys.is_empty() => exit::LOST,
        it if it.alone.locks == 0 || it.load.locks == 0 => exit::NO_QUORUM,
        _ => 0,
    }
}

/// The run beside the load: kills and restarts the server at the planned times, and draws the progress.
struct BenchRun<'a> {
    fleet: Option<Fleet>,
    /// The server that was killed.
    victim: Option<usize>,
    args: &'a BenchArgs,
    plan: &'a BenchPlan,
    progress: &'a ProgressState,
}

impl BenchRun<'_> {
    /// Kills and restarts the server at the planned times. The fleet holds only servers of this run.
    fn run_phases(&mut self) -> Result<(), Failure> {
        let (true, Some(fleet), Some(began_at)) =
            (self.args.kill_one, &mut self.fleet, self.progress.began_at(Phase::Load))
        else {
            return Ok(());
        };
        let elapsed = Duration::from_nanos(boot_nanos().saturating_sub(began_at));
        let victim = fleet.len() / 2;
        match self.progress.phase() {
            Phase::Load if elapsed >= self.plan.load / 3 => {
                fleet[victim].kill();
                self.progress.enter(Phase::NodeDown);
                self.victim = Some(victim);
            }
            Phase::NodeDown if elapsed >= self.plan.load * 2 / 3 => {
                let restarted = fleet[victim].restart(Data::Kept);
                restarted.map_err(|error| Failure::new(exit::NO_QUORUM, error.to_string()))?;
                self.progress.enter(Phase::NodeBack);
            }
            _ => {}
        }
        Ok(())
    }

    fn draw_progress(&self, bar: &mut Bar) {
        let Some(began_at) = self.progress.began_at(Phase::Alone) else {
            return bar.draw("connecting", Duration::ZERO, self.plan.total(), "");
        };
        let name = match self.progress.phase() {
            Phase::Alone => "one task".to_owned(),
            Phase::Load => counted(self.plan.tasks, "task"),
            Phase::NodeDown => "one node dead".to_owned(),
            Phase::NodeBack => "restarted".to_owned(),
        };
        let elapsed = Duration::from_nanos(boot_nanos().saturating_sub(began_at));
        let locks = self.progress.locks.load(Ordering::Relaxed);
        bar.draw(&format!("{name:13}"), elapsed, self.plan.total(), &counted(locks as usize, "lock"));
    }
}

const TICK: Duration = Duration::from_millis(100);
