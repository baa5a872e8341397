//! What does not hang on the machine's mood: instructions, allocations and system calls for an acquire and its release.
//!
//! Each is the difference between a worker that takes many locks and one that takes a single one, both on one thread.

use std::process::Command;
use std::{env, fs, process};

use crate::Outcome;
use crate::bench::{Bench, PATIENCE, named};
use crate::peer::{Part, Peer};
use crate::process::Process;
use crate::rows;
use crate::worker::{Request, Threads};

/// A program that counts what another does, and tells at its end.
struct Counter {
    program: &'static str,
    args: &'static [&'static str],
    /// The option that names the file it tells in.
    into: &'static str,
    /// What stands before each of its figures, and the row of it.
    figures: &'static [(&'static str, &'static str)],
    ops: usize,
    /// In how many rounds. Most of it comes out the same each time.
    rounds: usize,
}

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    for counter in COUNTERS.iter().filter(|counter| bench.round < counter.rounds) {
        if Command::new(counter.program).arg("--version").output().is_err() {
            eprintln!("{} is not installed: no {}", counter.program, counter.figures[0].1);
            continue;
        }
        let urls = bench.fresh(5)?;
        for peer in bench.peers(Part::Work) {
            let many = counter.count(&peer, &urls, counter.ops + 1)?;
            let one = counter.count(&peer, &urls, 1)?;
            for (place, (_, row)) in counter.figures.iter().enumerate() {
                bench.book.put(row, &peer.name, (many[place] - one[place]) / counter.ops as f64);
            }
        }
    }
    Ok(())
}

impl Counter {
    fn count(&self, peer: &Peer, urls: &[String], ops: usize) -> Outcome<Vec<f64>> {
        let file = env::temp_dir().join(format!("quorlock-bench-{}", process::id()));
        let into = format!("{}{}", self.into, file.display());
        let before: Vec<&str> =
            [self.program].iter().chain(self.args).copied().chain([into.as_str()]).collect();
        let mut worker = Process::start(peer.command(&before, Threads::One, urls), PATIENCE)?;
        for ops in [WARM_UP, ops] {
            worker.request(&Request::Work { ops }, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
        }
        worker.end()?;
        let text = fs::read_to_string(&file)?;
        fs::remove_file(&file)?;
        let find = |(mark, _): &(&str, &str)| {
            number_at(mark, &text)
                .ok_or_else(|| format!("{} said nothing of {mark:?}: {text}", self.program).into())
        };
        self.figures.iter().map(find).collect()
    }
}

/// The number behind a mark, or before it if the mark begins with a comma.
fn number_at(mark: &str, text: &str) -> Option<f64> {
    let (before, behind) = text.split_once(mark)?;
    let word =
        if mark.starts_with(',') { before.lines().next_back()? } else { behind.split_whitespace().next()? };
    word.replace(',', "").parse().ok()
}

const WARM_UP: usize = 5;
const COUNTERS: [Counter; 3] = [
    Counter {
        program: "valgrind",
        args: &["--tool=callgrind", "--callgrind-out-file=/dev/null"],
        into: "--log-file=",
        figures: &[("Collected :", rows::INSTRUCTIONS)],
        ops: 500,
        rounds: 3,
    },
    Counter {
        program: "valgrind",
        args: &["--tool=memcheck", "--leak-check=no", "--undef-value-errors=no"],
        into: "--log-file=",
        figures: &[("total heap usage:", rows::ALLOCATIONS), ("frees,", rows::ALLOCATED)],
        ops: 500,
        rounds: 1,
    },
    Counter {
        program: "perf",
        args: &["stat", "-x,", "-e", "raw_syscalls:sys_enter"],
        into: "--output=",
        figures: &[(",,raw_syscalls:sys_enter", rows::CALLS)],
        ops: 1000,
        rounds: 3,
    },
];
