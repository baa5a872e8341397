//! Counts instructions, allocations and system calls of an acquire and its release, which vary little with
//! other load.
//!
//! Each count is the difference between a worker that takes many locks and a worker that takes one, on one
//! thread.

use std::process::Command;
use std::{env, fs, process};

use crate::Outcome;
use crate::bench::{Bench, TIMEOUT, with_peer_name};
use crate::metrics;
use crate::peer::{Part, Peer};
use crate::process::Process;
use crate::worker::{Request, Threads};

/// A program that runs a worker, counts its work, and writes the counts to a file at its end.
struct Counter {
    program: &'static str,
    args: &'static [&'static str],
    /// The option that names the file.
    output_option: &'static str,
    /// The label beside each count in the file, and its metric.
    counts: &'static [(&'static str, &'static str)],
    ops: usize,
    /// The number of rounds that measure it: the counts hardly differ between rounds.
    rounds: usize,
}

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    for counter in COUNTERS.iter().filter(|counter| bench.round < counter.rounds) {
        if Command::new(counter.program).arg("--version").output().is_err() {
            eprintln!("{} is not installed: no {}", counter.program, counter.counts[0].1);
            continue;
        }
        let urls = bench.new_lock_cluster(5)?;
        for peer in bench.peers(Part::Work) {
            let many = counter.count(&peer, &urls, counter.ops + 1)?;
            let one = counter.count(&peer, &urls, 1)?;
            for (index, (_, metric)) in counter.counts.iter().enumerate() {
                bench.store.record(metric, &peer.name, (many[index] - one[index]) / counter.ops as f64);
            }
        }
    }
    Ok(())
}

impl Counter {
    fn count(&self, peer: &Peer, urls: &[String], ops: usize) -> Outcome<Vec<f64>> {
        let file = env::temp_dir().join(format!("quorlock-bench-{}", process::id()));
        let output = format!("{}{}", self.output_option, file.display());
        let wrapper: Vec<&str> =
            [self.program].iter().chain(self.args).copied().chain([output.as_str()]).collect();
        let mut worker = Process::start(peer.command(&wrapper, Threads::One, urls), TIMEOUT)?;
        for ops in [WARM_UP, ops] {
            worker
                .request(&Request::Untimed { ops }, TIMEOUT)
                .map_err(|error| with_peer_name(peer, &error))?;
        }
        worker.end()?;
        let text = fs::read_to_string(&file)?;
        fs::remove_file(&file)?;
        let find = |(label, _): &(&str, &str)| {
            number_beside(label, &text)
                .ok_or_else(|| format!("{} wrote no {label:?}: {text}", self.program).into())
        };
        self.counts.iter().map(find).collect()
    }
}

/// The number behind a label, or before it if the label begins with a comma.
fn number_beside(label: &str, text: &str) -> Option<f64> {
    let (before, behind) = text.split_once(label)?;
    let word = if label.starts_with(',') {
        before.lines().next_back()?
    } else {
        behind.split_whitespace().next()?
    };
    word.replace(',', "").parse().ok()
}

const WARM_UP: usize = 5;
const COUNTERS: [Counter; 3] = [
    Counter {
        program: "valgrind",
        args: &["--tool=callgrind", "--callgrind-out-file=/dev/null"],
        output_option: "--log-file=",
        counts: &[("Collected :", metrics::INSTRUCTIONS)],
        ops: 500,
        rounds: 3,
    },
    Counter {
        program: "valgrind",
        args: &["--tool=memcheck", "--leak-check=no", "--undef-value-errors=no"],
        output_option: "--log-file=",
        counts: &[("total heap usage:", metrics::ALLOCATIONS), ("frees,", metrics::ALLOCATED_BYTES)],
        ops: 500,
        rounds: 1,
    },
    Counter {
        program: "perf",
        args: &["stat", "-x,", "-e", "raw_syscalls:sys_enter"],
        output_option: "--output=",
        counts: &[(",,raw_syscalls:sys_enter", metrics::SYSTEM_CALLS)],
        ops: 1000,
        rounds: 3,
    },
];
