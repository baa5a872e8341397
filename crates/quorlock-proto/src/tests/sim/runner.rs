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
use super::tally::Tally;
use crate::mutant;

/// A history in which a promise was broken.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) seed: u64,
    pub(super) violation: Violation,
}

/// One history.
pub(super) fn run(seed: u64, profile: &Profile) -> (Tally, Option<Violation>) {
    mutant::with(profile.mutant, || {
        let mut sim = Sim::new(seed, profile, false);
        sim.run();
        (sim.tally, sim.oracle.violation)
    })
}

/// One history once more, in words.
pub(super) fn tell(seed: u64, profile: &Profile) -> String {
    mutant::with(profile.mutant, || {
        let mut sim = Sim::new(seed, profile, true);
        sim.run();
        let mut words = String::new();
        for line in sim.story.unwrap_or_default() {
            let _ = writeln!(words, "{line}");
        }
        words
    })
}

/// These histories, on all cores, until one of them breaks a promise: then the first of those.
pub(super) fn run_all(first: u64, count: u64, profile: &Profile) -> (Tally, Option<Finding>) {
    let next = AtomicU64::new(0);
    // No later one than this matters any more.
    let end = AtomicU64::new(count);
    let found: Mutex<Option<Finding>> = Mutex::new(None);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut whole = Tally::default();
    thread::scope(|scope| {
        let work = || {
            let mut tally = Tally::default();
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if place >= end.load(Ordering::Relaxed) {
                    return tally;
                }
                let (one, violation) = run(first + place, profile);
                tally.add(&one);
                if let Some(violation) = violation {
                    end.fetch_min(place, Ordering::Relaxed);
                    let mut found = found.lock().expect("no worker panics while it looks");
                    if found.as_ref().is_none_or(|other| first + place < other.seed) {
                        *found = Some(Finding { seed: first + place, violation });
                    }
                }
            }
        };
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut shown = 0;
        while count >= WORTH_SHOWING && handles.iter().any(|handle| !handle.is_finished()) {
            thread::sleep(SHOW_EVERY);
            shown += 1;
            show(next.load(Ordering::Relaxed).min(count), count, shown);
        }
        for handle in handles {
            match handle.join() {
                Ok(tally) => whole.add(&tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let found = found.into_inner().expect("no worker panics while it looks");
    (whole, found)
}

/// A bar on a terminal, a line now and then elsewhere.
fn show(done: u64, count: u64, shown: u32) {
    let rate = done as f64 / (SHOW_EVERY * shown).as_secs_f64();
    let (is_terminal, width) = (stderr().is_terminal(), 40);
    let full = (done * width / count) as usize;
    let exclusion = format!("{:=<full$}{:<rest$}", "", "", rest = width as usize - full);
    let words = format!("[{exclusion}] {done} of {count} histories, {rate:.0}/s");
    // Nothing hangs on whether anybody sees it.
    let _ = if is_terminal {
        write!(stderr(), "\r{words}")
    } else if shown.is_multiple_of(10) {
        writeln!(stderr(), "{words}")
    } else {
        Ok(())
    };
}

const WORTH_SHOWING: u64 = 50_000;
const SHOW_EVERY: Duration = Duration::from_secs(1);
