//! `quorlock bench`: what a lock costs on these nodes.

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
use crate::progress::{Bar, room};
use crate::reaper::boot_nanos;
use crate::report_file;
use crate::signals::handled::Handled;
use crate::status::print;
use bench_plan::{BenchPlan, Target};
use progress_state::{EventCounter, Phase, ProgressState};
use results::{Measurements, Results};

pub(crate) async fn bench(args: BenchArgs) -> Result<u8, Failure> {
    let mut signals =
        Handled::listen().map_err(|error| Failure::new(exit::SOFTWARE, format!("no signals: {error}")))?;
    args.report.as_deref().map_or(Ok(()), |file| report_file::check("--report", file))?;
    let (setting, place) = bench_plan::prepare(&args).await?;
    let Target { builder, urls, fleet } = place;
    let (live, watch) = (Arc::new(ProgressState::default()), Arc::new(EventCounter::default()));
    let (rounds, asked) = mpsc::channel(1);
    let probes = {
        let (builder, setting, live) = (builder.clone(), setting.clone(), Arc::clone(&live));
        spawn_blocking(move || probe::run(&builder, &urls, &setting, asked, &live))
    };
    let mut load = {
        let (builder, setting, live, watch) =
            (builder.clone(), setting.clone(), Arc::clone(&live), Arc::clone(&watch));
        spawn_blocking(move || load::run(builder, &setting, &live, &watch, rounds))
    };
    let mut stage = BenchRun { victim: None, fleet, args: &args, plan: &setting, progress: &live };
    let mut bar = Bar::new(!args.json);
    let mut ended_by = None;
    let mut broke = None;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let loaded = loop {
        tokio::select! {
            loaded = &mut load => break loaded,
            signal = signals.next() => {
                ended_by = Some(signal);
                // Every task releases its lock; that takes a moment.
                live.stop.cancel();
            }
            _ = ticks.tick() => {
                stage.draw_progress(&mut bar);
                if let Err(failure) = stage.run_phases() {
                    broke = Some(failure);
                    live.stop.cancel();
                }
            }
        }
    };
    bar.clear();
    let looks = join(probes).await;
    let loaded = loaded.map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))??;
    let looks = looks?;
    if let Some(failure) = broke {
        return Err(failure);
    }
    let mut left = leak_check::find_leftovers(builder, &setting).await?;
    left.add_unchecked(&loaded.pending_releases);
    let counted = Measurements {
        plan: &setting,
        progress: &live,
        load: &loaded,
        samples: &looks,
        changes: watch.changes(),
        killed: stage.victim,
        failed: watch.failed(),
        left,
        is_interrupted: ended_by.is_some(),
    };
    let figures = Results::of(&counted);
    report(&args, &figures)?;
    match ended_by {
        Some(signal) => {
            let words = format!(
                "interrupted after {:.1} s: the figures are of what was done until then; {}",
                figures.alone.seconds + figures.load.seconds,
                figures.leftovers.summary()
            );
            // The keys that are left are reported even after an interrupt.
            let code = match exit_code(&figures) {
                exit::LOST => exit::LOST,
                _ => 128 + signal.as_raw() as u8,
            };
            Err(Failure::new(code, words))
        }
        None => Ok(exit_code(&figures)),
    }
}

async fn join<T>(work: JoinHandle<Result<T, Failure>>) -> Result<T, Failure> {
    work.await.map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?
}

/// The results are printed first, even if a file cannot be written.
fn report(args: &BenchArgs, figures: &Results) -> Result<(), Failure> {
    if args.json {
        let json = serde_json::to_string(figures);
        let json = json.map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?;
        print(&format!("{json}\n"));
    } else {
        print(&text_report::table(figures, room()));
    }
    args.report.as_deref().map_or(Ok(()), |file| report_file::write(file, &html_report::page(figures)))
}

fn exit_code(figures: &Results) -> u8 {
    match figures {
        it if it.lost > 0 || !it.leftovers.keys.is_empty() => exit::LOST,
        it if it.alone.locks == 0 || it.load.locks == 0 => exit::NO_QUORUM,
        _ => 0,
    }
}

/// The actions beside the load, each at its time.
struct BenchRun<'a> {
    fleet: Option<Fleet>,
    /// The server that was killed.
    victim: Option<usize>,
    args: &'a BenchArgs,
    plan: &'a BenchPlan,
    progress: &'a ProgressState,
}

impl BenchRun<'_> {
    /// Kills and restarts the server at the planned times. The fleet holds only servers that were started for this run.
    fn run_phases(&mut self) -> Result<(), Failure> {
        let (true, Some(fleet), Some(began)) =
            (self.args.kill_one, &mut self.fleet, self.progress.began_at(Phase::Load))
        else {
            return Ok(());
        };
        let past = Duration::from_nanos(boot_nanos().saturating_sub(began));
        let place = fleet.len() / 2;
        match self.progress.phase() {
            Phase::Load if past >= self.plan.load / 3 => {
                fleet[place].kill();
                self.progress.enter(Phase::NodeDown);
                self.victim = Some(place);
            }
            Phase::NodeDown if past >= self.plan.load * 2 / 3 => {
                let started = fleet[place].restart(Data::Kept);
                started.map_err(|error| Failure::new(exit::NO_QUORUM, error.to_string()))?;
                self.progress.enter(Phase::NodeBack);
            }
            _ => {}
        }
        Ok(())
    }

    fn draw_progress(&self, bar: &mut Bar) {
        let Some(began) = self.progress.began_at(Phase::Alone) else {
            return bar.draw("connecting", Duration::ZERO, self.plan.total(), "");
        };
        let name = match self.progress.phase() {
            Phase::Alone => "one task".to_owned(),
            Phase::Load => counted(self.plan.tasks, "task"),
            Phase::NodeDown => "one node dead".to_owned(),
            Phase::NodeBack => "restarted".to_owned(),
        };
        let past = Duration::from_nanos(boot_nanos().saturating_sub(began));
        let locks = self.progress.locks.load(Ordering::Relaxed);
        bar.draw(&format!("{name:13}"), past, self.plan.total(), &counted(locks as usize, "lock"));
    }
}

const TICK: Duration = Duration::from_millis(100);
