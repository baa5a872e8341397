//! Tests the checker with synthetic histories in which addresses move to blank servers.

mod history_builder;

use history_builder::{HistoryBuilder, WIPE, builder, check};
use quorlock_chaos::checker::Invariant;
use quorlock_chaos::history::Effect;

const MOVED: [Effect; 1] = [Effect::AddressMoved];

/// Two clients hold the lock at once, 100 ms after addresses of these nodes moved.
fn overlap(moved: &[usize]) -> HistoryBuilder {
    let mut builder = builder();
    builder.fault(1, "address-move", moved, 1_000, 3_000, &MOVED);
    builder.hold(1, 0, 950, 1_400, Some(10)).hold(2, 0, 1_100, 1_500, Some(11));
    builder
}

#[test]
fn moved_addresses_excuse_two_holders_only_if_too_few_nodes_keep_theirs() {
    check(&overlap(&[0, 1]), &[Invariant::MutualExclusion], &[]);
    let verdict = check(&overlap(&[0, 1, 2]), &[], &[Invariant::MutualExclusion]);
    assert!(verdict.expected[0].excuse.contains("too few nodes kept their data and address"), "{verdict:?}");
}

#[test]
fn nodes_that_lost_data_or_restarted_within_the_max_ttl_count_too() {
    for effects in [&WIPE[..], &[Effect::Down]] {
        let mut near = overlap(&[0, 1]);
        near.fault(2, "loss", &[2], 700, 800, effects);
        check(&near, &[], &[Invariant::MutualExclusion]);
    }
    // It is the same node, or it keeps its data, or its probation had ended before.
    let mut same = overlap(&[0, 1]);
    same.fault(2, "flush", &[1], 700, 800, &WIPE);
    check(&same, &[Invariant::MutualExclusion], &[]);
    let mut paused = overlap(&[0, 1]);
    paused.fault(2, "pause", &[2], 700, 800, &[Effect::Paused]);
    check(&paused, &[Invariant::MutualExclusion], &[]);
    let mut long_ago = builder();
    long_ago.fault(1, "flush", &[2], 700, 800, &WIPE).fault(2, "address-move", &[0, 1], 3_000, 4_000, &MOVED);
    long_ago.hold(1, 0, 2_950, 3_400, Some(10)).hold(2, 0, 3_100, 3_500, Some(11));
    check(&long_ago, &[Invariant::MutualExclusion], &[]);
}

#[test]
fn data_loss_without_a_moved_address_excuses_nothing() {
    let mut builder = builder();
    builder.fault(1, "flush", &[0, 1, 2, 3, 4], 1_000, 1_001, &WIPE);
    builder.hold(1, 0, 950, 1_400, Some(10)).hold(2, 0, 1_100, 1_500, Some(11));
    check(&builder, &[Invariant::MutualExclusion], &[]);
}

#[test]
fn numbers_out_of_order_are_excused_only_if_too_few_nodes_keep_theirs() {
    let disordered = |moved: &[usize]| {
        let mut builder = builder();
        builder.hold(1, 0, 900, 990, Some(11)).fault(1, "address-move", moved, 1_000, 3_000, &MOVED);
        builder.hold(2, 0, 1_100, 1_500, Some(10));
        builder
    };
    check(&disordered(&[0, 1]), &[Invariant::NumbersOrdered], &[]);
    check(&disordered(&[0, 1, 2]), &[], &[Invariant::NumbersOrdered]);
}

#[test]
fn plain_locks_are_excused_when_more_addresses_move_than_the_lock_could_spare() {
    let plain = |moved: &[usize]| {
        let mut builder = overlap(moved);
        builder.settings.fenced = false;
        builder.settings.probation = false;
        builder
    };
    check(&plain(&[0]), &[Invariant::MutualExclusion], &[]);
    let verdict = check(&plain(&[0, 1]), &[], &[Invariant::MutualExclusion]);
    assert!(verdict.expected[0].excuse.contains("plain locks have no probation"), "{verdict:?}");
}

#[test]
fn a_node_is_not_expected_to_vote_from_the_move_until_the_end_of_its_probation() {
    // The bound is 3 s. Three nodes are on probation until 3 s; the lock is wanted until 6.5 s.
    let stalled = |effects: &[Effect], until: u64| {
        let mut builder = builder();
        builder.waiting(1, 0, 100).fault(1, "address-move", &[0, 1, 2], 100, 1_000, effects);
        builder.granted(1, 0, until, until + 900, Some(10)).release(1, 0, until + 10);
        builder
    };
    check(&stalled(&MOVED, 5_900), &[], &[]);
    check(&stalled(&MOVED, 6_100), &[Invariant::Progress], &[]);
}
