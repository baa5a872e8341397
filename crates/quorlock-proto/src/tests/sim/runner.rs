//! Runs many histories on all cores, and shows how far it is.

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

/// A history in which a promise was broken.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) seed: u64,
    pub(super) violation: Violation,
}

/// One history.
pub(super) fn run_history(seed: u64, profile: &Profile) -> (Stats, Option<Violation>) {
    mutant::with(profile.mutant, || {
        let mut sim = Sim::new(seed, profile, false);
        sim.run();
        (sim.stats, sim.oracle.violation)
    })
}

/// One history once more, in words.
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

/// These histories, on all cores, until one of them breaks a promise: then the first of those.
pub(super) fn run_all(first: u64, count: u64, profile: &Profile) -> (Stats, Option<Finding>) {
    let next = AtomicU64::new(0);
    // No later one than this matters any more.
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
                    let mut found = found.lock().expect("no worker panics while it looks");
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
    let found = found.into_inner().expect("no worker panics while it looks");
    (total, found)
}

/// A bar on a terminal, a line now and then elsewhere.
fn print_progress(done: u64, count: u64, ticks: u32) {
    let rate = done as f64 / (PROGRESS_INTERVAL * ticks).as_secs_f64();
    let (is_terminal, width) = (stderr().is_terminal(), 40);
    let full = (done * width / count) as usize;
    let bar = format!("{:=<full$}{:<rest$}", "", "", rest = width as usize - full);
    let line = format!("[{bar}] {done} of {count} histories, {rate:.0}/s");
    // Nothing hangs on whether anybody sees it.
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
