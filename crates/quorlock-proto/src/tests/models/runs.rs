//! Explores the models without mutants to the end: no invariant is violated, and the state counts match.

use super::bounds::{AfterDataLoss, Bounds, FencingNumbers, InitialState};
use super::lock_model::{LockModel, Situation};
use super::search::{SearchOrder, explore, is_long};

/// A model's name, its bounds and its number of states.
type Run = (&'static str, Bounds, u64);

/// Locks of `ttl` ticks, extended once.
pub(crate) const fn renewal(ttl: u8, extension_ttls: &'static [u8], horizon: u8) -> Bounds {
    Bounds { max_extensions: 1, extension_ttls, ..Bounds::timed_reduced(&[1, 1], ttl, horizon) }
}

/// Fenced locks on nodes that lose data.
pub(crate) const fn probation(max_data_losses: u8, ttl: u8, horizon: u8) -> Bounds {
    Bounds {
        max_data_losses,
        after_data_loss: AfterDataLoss::Probation,
        fencing_numbers: FencingNumbers::FromClock,
        checks_holder_quorum: false,
        ..Bounds::timed_reduced(&[1, 1], ttl, horizon)
    }
}

/// Fenced locks on nodes that lose data, extended once.
const fn fenced_renewal(max_data_losses: u8, ttl: u8, extension_ttls: &'static [u8], horizon: u8) -> Bounds {
    Bounds { max_extensions: 1, extension_ttls, ..probation(max_data_losses, ttl, horizon) }
}

/// Plain locks with a quorum above the majority, on nodes that vote at once after a data loss.
const fn plain_with_data_loss(
    nodes: usize,
    quorum_size: usize,
    max_data_losses: u8,
    ttl: u8,
    horizon: u8,
) -> Bounds {
    let plain = Bounds::timed_reduced(&[1, 1], ttl, horizon);
    Bounds {
        nodes,
        quorum_size: Some(quorum_size),
        max_data_losses,
        after_data_loss: AfterDataLoss::FenceReset,
        checks_holder_quorum: false,
        ..plain
    }
}

/// Explores all models, the long ones only with `QUORLOCK_LONG=1`. They must cover each expected situation.
fn check_models(short: &[Run], long: &[Run], expected: &[Situation]) {
    let long = long.iter().filter(|_| is_long());
    let (mut missing, mut changed) = (expected.to_vec(), Vec::new());
    for (name, bounds, states) in short.iter().chain(long) {
        let exploration = explore(&LockModel::new(*bounds), name, SearchOrder::DepthFirst);
        let rate = exploration.states as f64 / exploration.elapsed.as_secs_f64();
        eprintln!(
            "{name}: {} states, {} steps, depth {}, {:.1?}, {rate:.0} states/s",
            exploration.states, exploration.steps, exploration.depth, exploration.elapsed
        );
        if let Some(violation) = exploration.violation {
            panic!("{name}: {}\n    {}", violation.message, violation.trace.join("\n    "));
        }
        if exploration.states != *states {
            changed.push(format!("{name}: {} states, expected {states}", exploration.states));
        }
        missing.retain(|situation| exploration.coverage.count(*situation as usize) == 0);
    }
    assert!(changed.is_empty(), "state counts changed:\n{}", changed.join("\n"));
    assert_eq!(missing, [], "situations that no model covered");
}

#[test]
fn fencing_is_safe_without_clocks() {
    let short: &[Run] = &[
        (
            "fencing, 3 nodes, 2 attempts, next numbers",
            Bounds::fencing(3, &[1, 1], FencingNumbers::Next(1)),
            46_781,
        ),
        (
            "reduced fencing, 3 nodes, 2 attempts, any numbers",
            Bounds::reduced(3, &[1, 1], FencingNumbers::Any),
            24_450,
        ),
        (
            "reduced fencing, 5 nodes, 2 attempts, next numbers",
            Bounds::reduced(5, &[1, 1], FencingNumbers::Next(1)),
            13_031,
        ),
        (
            "reduced fencing, 3 nodes, 3 attempts, next numbers",
            Bounds::reduced(3, &[1, 1, 1], FencingNumbers::Next(1)),
            90_388,
        ),
        (
            "fencing, 3 nodes, 2 attempts, next numbers, 1 disconnect",
            Bounds { max_disconnects: 1, ..Bounds::fencing(3, &[1, 1], FencingNumbers::Next(1)) },
            137_020,
        ),
    ];
    let long: &[Run] = &[
        (
            "fencing, 3 nodes, 2 attempts, any numbers",
            Bounds::fencing(3, &[1, 1], FencingNumbers::Any),
            1_469_869,
        ),
        (
            "reduced fencing, 3 nodes, 3 attempts, two numbers",
            Bounds::reduced(3, &[1, 1, 1], FencingNumbers::Next(2)),
            9_323_435,
        ),
    ];
    check_models(
        short,
        long,
        &[
            Situation::ConcurrentAttempts,
            Situation::SecondRound,
            Situation::RaiseReplyLost,
            Situation::LateGrant,
            Situation::FencedOutVote,
            Situation::WonBeforeRelease,
        ],
    );
}

#[test]
fn fencing_is_safe_when_nodes_lose_data() {
    let with_data_losses = |max_data_losses, bounds: Bounds| Bounds { max_data_losses, ..bounds };
    let fences_reset = |nodes, quorum_size, max_data_losses, fencing_numbers| Bounds {
        quorum_size: Some(quorum_size),
        max_data_losses,
        after_data_loss: AfterDataLoss::FenceReset,
        ..Bounds::reduced(nodes, &[1, 1], fencing_numbers)
    };
    let short: &[Run] = &[
        (
            "reduced fencing, 3 nodes, 2 attempts, any numbers, 1 loses data, fence above all",
            with_data_losses(1, Bounds::reduced(3, &[1, 1], FencingNumbers::Any)),
            171_320,
        ),
        (
            "reduced fencing, 3 of 3, next numbers, 2 lose data",
            fences_reset(3, 3, 2, FencingNumbers::Next(1)),
            5_320,
        ),
        (
            "reduced fencing, 4 of 5, next numbers, 2 lose data",
            fences_reset(5, 4, 2, FencingNumbers::Next(1)),
            188_678,
        ),
    ];
    let long: &[Run] = &[
        (
            "reduced fencing, 3 of 3, any numbers, 2 lose data",
            fences_reset(3, 3, 2, FencingNumbers::Any),
            643_475,
        ),
        (
            "reduced fencing, 3 nodes, 3 attempts, next numbers, 2 lose data, fence above all",
            with_data_losses(2, Bounds::reduced(3, &[1, 1, 1], FencingNumbers::Next(1))),
            17_369_842,
        ),
    ];
    check_models(short, long, &[Situation::SecondRound, Situation::WonBeforeRelease]);
}

#[test]
fn at_most_one_lock_is_valid() {
    let short: &[Run] = &[
        ("plain, 1+1 attempts, ttl 2, 3 ticks, not reduced", Bounds::timed(&[1, 1], 2, 3), 92_366),
        ("plain, 2+1 attempts, ttl 1, 1 tick", Bounds::timed_reduced(&[2, 1], 1, 1), 289_785),
        ("plain, 1+1+1 attempts, ttl 1, 1 tick", Bounds::timed_reduced(&[1, 1, 1], 1, 1), 208_275),
    ];
    let long: &[Run] = &[
        ("plain, 2+1 attempts, ttl 2, 2 ticks", Bounds::timed_reduced(&[2, 1], 2, 2), 1_174_702),
        ("plain, 2+1 attempts, ttl 2, 3 ticks", Bounds::timed_reduced(&[2, 1], 2, 3), 3_318_090),
        ("plain, 1+1+1 attempts, ttl 2, 3 ticks", Bounds::timed_reduced(&[1, 1, 1], 2, 3), 3_608_199),
        ("plain, 1+1 attempts, ttl 3, 6 ticks, not reduced", Bounds::timed(&[1, 1], 3, 6), 1_063_038),
    ];
    check_models(
        short,
        long,
        &[
            Situation::ConcurrentAttempts,
            Situation::LateGrant,
            Situation::WonBeforeRelease,
            Situation::AttemptFailed,
            Situation::LockLost,
        ],
    );
}

#[test]
fn an_extended_lock_was_not_overtaken() {
    let short: &[Run] = &[
        ("extension, ttl 1, 2 ticks", renewal(1, &[1], 2), 830_928),
        ("fenced extension, ttl 1, 1 tick", fenced_renewal(0, 1, &[1], 1), 584_127),
        ("fenced extension, ttl 2, 2 ticks", fenced_renewal(0, 2, &[2], 2), 4_735_545),
    ];
    let long: &[Run] = &[
        ("extension, ttl 2, 2 ticks", renewal(2, &[2], 2), 1_759_761),
        ("fenced extension, ttl 1, 1 tick, 1 loses data", fenced_renewal(1, 1, &[1], 1), 5_092_849),
        ("fenced extension, ttl 2, 2 ticks, 1 loses data", fenced_renewal(1, 2, &[2], 2), 33_861_026),
        ("extension, ttl 2, 3 ticks", renewal(2, &[2], 3), 7_823_137),
        ("extension, ttl 2, shorter and longer, 2 ticks", renewal(2, &[1, 3], 2), 4_795_183),
    ];
    check_models(
        short,
        long,
        &[
            Situation::DeadlineMoved,
            Situation::KeyReacquired,
            Situation::LockLost,
            Situation::WonBeforeRelease,
        ],
    );
}

#[test]
fn probation_keeps_fenced_locks_exclusive_after_data_loss() {
    let short: &[Run] = &[("fenced, ttl 1, 2 ticks, 1 loses data", probation(1, 1, 2), 906_614)];
    let long: &[Run] = &[
        ("fenced, ttl 1, 2 ticks, 2 lose data", probation(2, 1, 2), 3_672_947),
        ("fenced, ttl 2, 3 ticks, 1 loses data", probation(1, 2, 3), 2_993_510),
    ];
    check_models(
        short,
        long,
        &[
            Situation::MarkerMismatch,
            Situation::OnProbation,
            Situation::VoteAfterDataLoss,
            Situation::SecondRound,
        ],
    );
}

#[test]
fn a_quorum_above_the_majority_tolerates_data_loss() {
    let short: &[Run] = &[
        ("plain, 3 of 3, ttl 1, 1 tick, 1 loses data", plain_with_data_loss(3, 3, 1, 1, 1), 8_585),
        ("plain, 3 of 3, ttl 1, 1 tick, 2 lose data", plain_with_data_loss(3, 3, 2, 1, 1), 16_348),
        ("plain, 3 of 3, ttl 2, 3 ticks, 2 lose data", plain_with_data_loss(3, 3, 2, 2, 3), 190_966),
    ];
    let long: &[Run] =
        &[("plain, 4 of 5, ttl 1, 1 tick, 2 lose data", plain_with_data_loss(5, 4, 2, 1, 1), 566_321)];
    check_models(short, long, &[Situation::ConcurrentAttempts, Situation::AttemptFailed]);
}

/// Fenced locks, extended `max_extensions` times beside another contender, after a failed attempt left a
/// larger fence on one node. See [`InitialState::FencedOutOnOneNode`].
const fn fenced_out_on_one(max_data_losses: u8, max_extensions: u8, horizon: u8) -> Bounds {
    let fenced = probation(max_data_losses, 2, horizon);
    Bounds {
        attempts_per_client: &[1, 1, 1],
        max_extensions,
        extension_ttls: &[2],
        initial_state: InitialState::FencedOutOnOneNode,
        ..fenced
    }
}

#[test]
fn a_node_with_a_larger_fence_counts_only_if_that_number_was_never_issued() {
    let short: &[Run] =
        &[("fenced out on one node, extended twice, 2 ticks", fenced_out_on_one(0, 2, 2), 797_428)];
    let long: &[Run] = &[
        (
            "fenced out on one node, extended twice, 2 ticks, 1 loses data",
            fenced_out_on_one(1, 2, 2),
            4_317_708,
        ),
        ("fenced out on one node, extended three times, 2 ticks", fenced_out_on_one(0, 3, 2), 19_673_584),
    ];
    check_models(
        short,
        long,
        &[Situation::ReacquiredPastLargerFence, Situation::LargerFenceCounted, Situation::DeadlineMoved],
    );
}
