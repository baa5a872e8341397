//! Promises that are not kept yet: each test says that the simulation finds so. Where one fails, the promise is kept by
//! now, and its test is to say that: `is_broken` becomes `is_kept`, or the profile a part of [`Profile::GENERAL`].

use super::plan::{Fault, Profile};
use super::runner;
use super::tally::Invariant;

/// What goes wrong is over soon, and locks are held for long.
const SPREAD: Profile = Profile {
    nodes: &[3, 5],
    clients: (2, 4),
    beyond: 0,
    faults: &[Fault::Cut, Fault::Partition, Fault::Freeze, Fault::Restart],
    long_ways: 0,
    apart: 500,
    spreads: true,
    pin: Some(|plan| {
        plan.gap = plan.longest_ttl.as_nanos() as u64 / 2;
        plan.work = 1_000;
        plan.ill_timed = 0;
        plan.way = plan.way.min(1_000_000);
    }),
    ..Profile::GENERAL
};
/// Most callers stand in line.
const IN_LINE: Profile = Profile {
    spreads: false,
    is_patient: true,
    pin: Some(|plan| {
        plan.gap = plan.longest_ttl.as_nanos() as u64 / 2;
        plan.work = 2_000;
        plan.ill_timed = 0;
        plan.way = plan.way.min(1_000_000);
        plan.waiters = 800;
    }),
    ..SPREAD
};
/// What a node evicted stands in its statistics, which somebody resets.
const STATISTICS: Profile =
    Profile { plain: 0, mixed: 0, beyond: 0, faults: &[Fault::Evicts, Fault::ResetStat], ..Profile::GENERAL };

#[test]
fn a_lock_comes_to_stand_on_every_node_that_is_well() {
    is_broken(&SPREAD, Invariant::Redundancy);
    // Where there are no fences, it does.
    is_kept(&Profile { plain: 1000, mixed: 0, ..SPREAD });
}

#[test]
fn who_stands_in_line_for_a_lock_that_is_held_leaves_the_nodes_alone() {
    is_broken(&IN_LINE, Invariant::Patience);
    is_kept(&Profile { plain: 1000, mixed: 0, ..IN_LINE });
}

#[test]
fn what_was_evicted_is_not_forgotten_with_the_statistics() {
    is_broken(&STATISTICS, Invariant::Membership);
}

#[track_caller]
fn is_broken(profile: &Profile, invariant: Invariant) {
    let (_, finding) = runner::run_all(0, 5 * HISTORIES, profile);
    let finding = finding.expect("not kept yet");
    println!("found after {} histories: {:?}", finding.seed + 1, finding.violation);
    assert_eq!(finding.violation.invariant, invariant, "{}", finding.violation.words);
}

#[track_caller]
fn is_kept(profile: &Profile) {
    let (_, finding) = runner::run_all(0, HISTORIES, profile);
    if let Some(finding) = finding {
        panic!("{}\n{:?}", runner::tell(finding.seed, profile), finding.violation);
    }
}

const HISTORIES: u64 = 1_000;
