//! Mutants: known mistakes, each of which a model must detect. A model that detects none proves nothing.

use crate::mutant::{Mutant, with};

use super::bounds::{AfterDataLoss, Bounds, FencingNumbers, ModelMutant};
use super::lock_model::LockModel;
use super::runs::{probation, renewal};
use super::search::{SearchOrder, explore};

/// Explores the mutant until it violates the invariant, and prints the trace.
fn assert_killed(name: &str, mutant: Option<Mutant>, bounds: Bounds, invariant: &str, states: u64) {
    let exploration = with(mutant, || explore(&LockModel::new(bounds), name, SearchOrder::BreadthFirst));
    let violation =
        exploration.violation.unwrap_or_else(|| panic!("{name} survives {} states", exploration.states));
    eprintln!("{name}: killed after {} states: {}", exploration.states, violation.message);
    violation.trace.iter().for_each(|line| eprintln!("    {line}"));
    assert!(
        violation.message.starts_with(invariant),
        "{name} should violate {invariant}: {}",
        violation.message
    );
    assert_eq!(exploration.states, states, "{name}: state count changed");
}

/// Without invariant I5, so that the mutant must violate exclusion itself.
const fn without_holder_check(bounds: Bounds) -> Bounds {
    Bounds { checks_holder_quorum: false, ..bounds }
}

/// Without fencing numbers, so that the mutant violates exclusion and not first the order of fencing numbers.
const fn without_fencing(bounds: Bounds) -> Bounds {
    Bounds { fencing_numbers: FencingNumbers::None, ..bounds }
}

#[test]
fn mutant_no_second_round() {
    let bounds = Bounds::reduced(3, &[1, 1], FencingNumbers::Next(1));
    assert_killed("no second round", Some(Mutant::NoSecondRound), bounds, "I2", 298);
}

#[test]
fn mutant_raise_without_compare() {
    let bounds = Bounds {
        mutant: Some(ModelMutant::RaiseIgnoresOwner),
        ..Bounds::reduced(3, &[1, 1, 1], FencingNumbers::Next(1))
    };
    assert_killed("raise without compare", None, bounds, "I4", 20_937);
}

#[test]
fn mutant_raise_unconditional() {
    let bounds = Bounds {
        mutant: Some(ModelMutant::RaiseIgnoresOwnerAndFence),
        ..Bounds::reduced(3, &[1, 1], FencingNumbers::Next(1))
    };
    assert_killed("raise unconditional", None, bounds, "I2", 523);
}

#[test]
fn mutant_fence_from_one() {
    let bounds = Bounds {
        max_data_losses: 1,
        mutant: Some(ModelMutant::MissingFenceIsZero),
        ..Bounds::reduced(3, &[1, 1], FencingNumbers::Next(1))
    };
    assert_killed("fence from one", None, bounds, "I2", 1_310);
}

#[test]
fn mutant_validity_from_reply() {
    let bounds = without_holder_check(Bounds::timed_reduced(&[1, 1], 2, 3));
    assert_killed("validity from reply", Some(Mutant::ValidityFromReply), bounds, "I1", 47_960);
}

#[test]
fn mutant_token_reused() {
    let bounds = without_holder_check(Bounds {
        mutant: Some(ModelMutant::TokenReused),
        ..Bounds::timed_reduced(&[2, 1], 2, 1)
    });
    assert_killed("token reused", None, bounds, "I1", 106_549);
}

#[test]
fn mutant_late_renewal() {
    assert_killed(
        "late renewal",
        Some(Mutant::LateRenewal),
        without_holder_check(renewal(2, &[2], 2)),
        "I6",
        505_192,
    );
}

#[test]
fn mutant_resurrecting_renewal() {
    assert_killed(
        "resurrecting renewal",
        Some(Mutant::ResurrectingRenewal),
        without_holder_check(renewal(2, &[2], 2)),
        "I6",
        276_370,
    );
}

#[test]
fn mutant_renewal_shortens() {
    let bounds =
        without_holder_check(Bounds { mutant: Some(ModelMutant::RenewalShortens), ..renewal(2, &[1], 2) });
    assert_killed("renewal shortens", None, bounds, "I1", 42_674);
}

#[test]
fn mutant_no_probation() {
    assert_killed(
        "no probation",
        Some(Mutant::NoProbation),
        without_fencing(probation(1, 1, 1)),
        "I1",
        19_633,
    );
}

#[test]
fn mutant_short_probation() {
    assert_killed(
        "short probation",
        Some(Mutant::ShortProbation),
        without_fencing(probation(1, 2, 2)),
        "I1",
        97_055,
    );
}

#[test]
fn negative_control_three_of_three_nodes_lose_data() {
    let bounds = Bounds {
        quorum_size: Some(3),
        max_data_losses: 3,
        after_data_loss: AfterDataLoss::FenceReset,
        ..without_holder_check(Bounds::timed_reduced(&[1, 1], 1, 1))
    };
    assert_killed("three of three nodes lose data", None, bounds, "I1", 25_403);
}

#[test]
fn negative_control_three_of_three_nodes_lose_their_fences() {
    let bounds = Bounds {
        quorum_size: Some(3),
        max_data_losses: 3,
        after_data_loss: AfterDataLoss::FenceReset,
        ..Bounds::reduced(3, &[1, 1], FencingNumbers::Next(1))
    };
    assert_killed("three of three nodes lose their fences", None, bounds, "I2", 10_057);
}
