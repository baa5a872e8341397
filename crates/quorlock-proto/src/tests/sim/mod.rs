//! Random histories of the shipped protocol: nodes, clients and the ways between them, with everything that goes
//! wrong, each drawn from a seed.
//!
//! A million of them: `QUORLOCK_HISTORIES=1000000 cargo test -p quorlock-proto sim::histories -- --nocapture`. A failure
//! prints the seed and what happened in words; `QUORLOCK_SEED=<seed>` plays it again.

mod actions;
mod caller;
mod chance;
mod clock;
mod ending;
mod engine;
mod excuse_controls;
mod excuses;
mod faults;
mod mutants;
mod node_faults;
mod oracle;
mod parts;
mod plan;
mod promises;
mod redundancy;
mod runner;
mod shapes;
mod tally;
mod vouching;
mod wait_queues;
mod waiters;
mod ways;

use std::str::FromStr;

use plan::{BEYOND, Profile, WITHIN};

#[test]
fn histories_keep_every_promise() {
    let profile = Profile::GENERAL;
    if let Some(seed) = from_env::<u64>("QUORLOCK_SEED") {
        println!("{}", runner::tell(seed, &profile));
        let (_, violation) = runner::run(seed, &profile);
        assert!(violation.is_none(), "{violation:?}");
        return;
    }
    let (first, count) =
        (from_env("QUORLOCK_FIRST").unwrap_or(0), from_env("QUORLOCK_HISTORIES").unwrap_or(10_000));
    let (tally, finding) = runner::run_all(first, count, &profile);
    println!("{tally}");
    if let Some(finding) = finding {
        let seed = finding.seed;
        panic!(
            "{}\n{:?}: {}\nto play it again: QUORLOCK_SEED={seed} cargo test -p quorlock-proto sim::histories -- --nocapture",
            runner::tell(seed, &profile),
            finding.violation.invariant,
            finding.violation.words,
        );
    }
    if count >= 10_000 {
        for fault in WITHIN.iter().chain(&BEYOND) {
            assert!(tally.faults.contains_key(fault), "{fault:?} never happened");
        }
        for loss in ["expired", "taken", "clock"] {
            assert!(tally.losses.contains_key(loss), "no lock was lost like this: {loss}");
        }
        let broken: Vec<_> = tally.expected.keys().map(|(invariant, _)| *invariant).collect();
        assert!(broken.contains(&tally::Invariant::Exclusion), "what is beyond the promise never broke it");
    }
}

fn from_env<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}
