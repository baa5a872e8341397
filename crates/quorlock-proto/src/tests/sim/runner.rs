//! Runs many histories on all cores and prints the progress.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::engine::Sim;
use super::oracle::Violation;
use super::plan::Profile;
use super::stats::Stats;
use crate::mutant;

/// A history with a violation.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) seed: u64,
    pub(super) violation: Violation,
}

/// Runs one history.
pub(super) fn run_history(seed: u64, profile: &Profile) -> (Stats, Option<Violation>) {
    mutant::with(profile.mutant, || {
        let mut sim = Sim::new(seed, profile, false);
        sim.run();
        (sim.stats, sim.oracle.violation)
    })
}

/// Runs one history again and returns its log.
pub(super) fn replay_log(seed: u64, profile: &Profile) -> String {
    mutant::with(profile.mutant, || {
        let mut sim = Sim::new(seed, profile, true);
        sim.run();
        let mut text = String::new();
        for line in sim.log.unwrap_or_default() {
            let _ = writeln!(text, "{line}");
        }
        text
    })
}

/// Runs histories on all cores until one has a violation, and returns the violation with the smallest seed.
pub(super) fn run_all(first: u64, count: u64, profile: &Profile) -> (Stats, Option<Finding>) {
    let next = AtomicU64::new(0);
    // Histories after this one need not run.
    let end = AtomicU64::new(count);
    let found: Mutex<Option<Finding>> = Mutex::new(None);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut total = Stats::default();
    thread::scope(|scope| {
        let work = || {
            let mut stats = Stats::default();
            loop {
                let offset = next.fetch_add(1, Ordering::Relaxed);
                if offset >= end.load(Ordering::Relaxed) {
                    return stats;
                }
                let (history_stats, violation) = run_history(first + offset, profile);
                stats.add(&history_stats);
                if let Some(violation) = violation {
                    end.fetch_min(offset, Ordering::Relaxed);
                    let mut found = found.lock().expect("no worker panics while it holds the lock");
                    if found.as_ref().is_none_or(|other| first + offset < other.seed) {
                        *found = Some(Finding { seed: first + offset, violation });
                    }
                }
            }
        };
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut ticks = 0;
        while count >= MIN_SHOWN_HISTORIES && handles.iter().any(|handle| !handle.is_finished()) {
            thread::sleep(PROGRESS_INTERVAL);
            ticks += 1;
            print_progress(next.load(Ordering::Relaxed).min(count), count, ticks);
        }
        for handle in handles {
            match handle.join() {
                Ok(stats) => total.add(&stats),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let found = found.into_inner().expect("no worker panics while it holds the lock");
    (total, found)
}

/// Prints a progress bar on a terminal, and a line every 10 s elsewhere.
fn print_progress(done: u64, count: u64, ticks: u32) {
    let rate = done as f64 / (PROGRESS_INTERVAL * ticks).as_secs_f64();
    let (is_terminal, width) = (stderr().is_terminal(), 40);
    let full = (done * width / count) as usize;
    let bar = format!("{:=<full$}{:<rest$}", "", "", rest = width as usize - full);
    let line = format!("[{bar}] {done} of {count} histories, {rate:.0}/s");
    // Failing to print the progress does not matter.
    let _ = if is_terminal {
        write!(stderr(), "\r{line}")
    } else if ticks.is_multiple_of(10) {
        writeln!(stderr(), "{line}")
    } else {
        Ok(())
    };
}

const MIN_SHOWN_HISTORIES: u64 = 50_000;
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
