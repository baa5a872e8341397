//! Known mistakes, each of which a model must catch: a model that catches none proves nothing.

use crate::mutant::{Mutant, with};

use super::bounds::{Bounds, Memory, Numbers, Slip};
use super::runs::{probation, renewal};
use super::search::{Order, walk};
use super::world::World;

/// Walks with the mistake until the promise breaks, and shows how.
fn is_killed(name: &str, mutant: Option<Mutant>, bounds: Bounds, promise: &str, states: u64) {
    let walk = with(mutant, || walk(&World::new(bounds), name, Order::Breadth));
    let violation = walk.violation.unwrap_or_else(|| panic!("{name} survives {} states", walk.states));
    eprintln!("{name}: killed after {} states: {}", walk.states, violation.broken);
    violation.trace.iter().for_each(|line| eprintln!("    {line}"));
    assert!(violation.broken.starts_with(promise), "{name} was to break {promise}: {}", violation.broken);
    assert_eq!(walk.states, states, "{name} is killed after other states than before");
}

/// A timed model that looks for harm only, not for its causes.
const fn harm(bounds: Bounds) -> Bounds {
    Bounds { stands: false, ..bounds }
}

/// Without numbers, so that it is exclusion that breaks, and not first the order of numbers.
const fn unfenced(bounds: Bounds) -> Bounds {
    Bounds { numbers: Numbers::None, ..bounds }
}

#[test]
fn mutant_no_second_round() {
    let bounds = Bounds::lean(3, &[1, 1], Numbers::Next(1));
    is_killed("no second round", Some(Mutant::NoSecondRound), bounds, "I2", 298);
}

#[test]
fn mutant_raise_without_owner() {
    let bounds =
        Bounds { slip: Some(Slip::RaiseWithoutOwner), ..Bounds::lean(3, &[1, 1, 1], Numbers::Next(1)) };
    is_killed("raise without owner", None, bounds, "I4", 20_937);
}

#[test]
fn mutant_raise_always() {
    let bounds = Bounds { slip: Some(Slip::RaiseAlways), ..Bounds::lean(3, &[1, 1], Numbers::Next(1)) };
    is_killed("raise always", None, bounds, "I2", 523);
}

#[test]
fn mutant_counter_restarts() {
    let bounds = Bounds {
        forgets: 1,
        slip: Some(Slip::CounterRestarts),
        ..Bounds::lean(3, &[1, 1], Numbers::Next(1))
    };
    is_killed("counter restarts", None, bounds, "I2", 1_310);
}

#[test]
fn mutant_validity_from_reply() {
    let bounds = harm(Bounds::timed_lean(&[1, 1], 2, 3));
    is_killed("validity from reply", Some(Mutant::ValidityFromReply), bounds, "I1", 47_960);
}

#[test]
fn mutant_token_reused() {
    let bounds = harm(Bounds { slip: Some(Slip::ReusesToken), ..Bounds::timed_lean(&[2, 1], 2, 1) });
    is_killed("token reused", None, bounds, "I1", 106_549);
}

#[test]
fn mutant_late_renewal() {
    is_killed("late renewal", Some(Mutant::LateRenewal), harm(renewal(2, &[2], 2)), "I6", 505_192);
}

#[test]
fn mutant_resurrecting_renewal() {
    is_killed(
        "resurrecting renewal",
        Some(Mutant::ResurrectingRenewal),
        harm(renewal(2, &[2], 2)),
        "I6",
        276_370,
    );
}

#[test]
fn mutant_renewal_shortens() {
    let bounds = harm(Bounds { slip: Some(Slip::Shortens), ..renewal(2, &[1], 2) });
    is_killed("renewal shortens", None, bounds, "I1", 42_674);
}

#[test]
fn mutant_no_probation() {
    is_killed("no probation", Some(Mutant::NoProbation), unfenced(probation(1, 1, 1)), "I1", 19_633);
}

#[test]
fn mutant_short_probation() {
    is_killed("short probation", Some(Mutant::ShortProbation), unfenced(probation(1, 2, 2)), "I1", 97_055);
}

#[test]
fn control_three_of_three_forget() {
    let bounds = Bounds {
        need: Some(3),
        forgets: 3,
        memory: Memory::Blank,
        ..harm(Bounds::timed_lean(&[1, 1], 1, 1))
    };
    is_killed("three of three forget", None, bounds, "I1", 25_403);
}

#[test]
fn control_fences_of_three_of_three_forget() {
    let bounds = Bounds {
        need: Some(3),
        forgets: 3,
        memory: Memory::Blank,
        ..Bounds::lean(3, &[1, 1], Numbers::Next(1))
    };
    is_killed("fences of three of three forget", None, bounds, "I2", 10_057);
}
