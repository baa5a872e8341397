//! Simulation: seeded random histories of the shipped coordinators under all faults.
//!
//! Nodes, clients, connections and clocks are simulated; each history and its faults follow from one seed.
//! After a failure, the test prints the seed and a log; `QUORLOCK_SEED=<seed>` replays it. The README says
//! how to run a million histories.

mod actions;
mod clock;
mod engine;
mod exemption_controls;
mod exemptions;
mod fault_kinds;
mod faults;
mod focused_profiles;
mod invariants;
mod last_reconfiguration;
mod membership;
mod moved_addresses;
mod mutants;
mod network;
mod node_faults;
mod oracle;
mod plan;
mod quiescence;
mod reconfiguration_runs;
mod reconfigurations;
mod redundancy;
mod rng;
mod roster_checks;
mod roster_mutants;
mod runner;
mod situations;
mod state;
mod stats;
mod ticket_mutants;
mod tickets;
mod wait_queues;
mod waiters;
mod workload;

use std::str::FromStr;

use plan::{FAULTS_BEYOND_LIMITS, FAULTS_WITHIN_LIMITS, Profile};
use situations::Situation;

#[test]
fn histories_keep_every_invariant() {
    let profile = Profile::GENERAL;
    if let Some(seed) = from_env::<u64>("QUORLOCK_SEED") {
        println!("{}", runner::replay_log(seed, &profile));
        let (_, violation) = runner::run_history(seed, &profile);
        assert!(violation.is_none(), "{violation:?}");
        return;
    }
    let (first, count) =
        (from_env("QUORLOCK_FIRST").unwrap_or(0), from_env("QUORLOCK_HISTORIES").unwrap_or(10_000));
    let (stats, finding) = runner::run_all(first, count, &profile);
    println!("{stats}");
    if let Some(finding) = finding {
        let seed = finding.seed;
        panic!(
            "{}\n{:?}: {}
to replay it: QUORLOCK_SEED={seed} cargo test -p quorlock-proto sim::histories -- --nocapture",
            runner::replay_log(seed, &profile),
            finding.violation.invariant,
            finding.violation.message,
        );
    }
    if count >= 10_000 {
        for fault in FAULTS_WITHIN_LIMITS.iter().chain(&FAULTS_BEYOND_LIMITS) {
            assert!(stats.faults.contains_key(fault), "{fault:?} was never injected");
        }
        stats.assert_met(&[
            Situation::MovedToBlankServer,
            Situation::MovedToCopy,
            Situation::GrantWithoutAddress,
            Situation::DataOfAnotherServer,
            Situation::OtherListFollowed,
            Situation::RecoveredWithoutData,
            Situation::SeatTaken,
            Situation::VacantSeatTaken,
            Situation::ChangedAfterClockStep,
        ]);
        for loss in ["expired", "taken", "clock"] {
            assert!(stats.losses.contains_key(loss), "no lock was lost with this reason: {loss}");
        }
        let exempted: Vec<_> = stats.exempted.keys().map(|(invariant, _)| *invariant).collect();
        assert!(
            exempted.contains(&stats::Invariant::MutualExclusion),
            "no fault beyond the guarantees broke mutual exclusion"
        );
    }
}

fn from_env<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}
