//! Attempts to bypass probation. A new client cannot detect them, because it knows only what the nodes store.

use super::helpers::{
    MARKER_READ_INTERVAL, PROBATION, connect_to_all, data, exclusion_reason, is_voting, marker,
    probation_reason, reconfigure,
};
use crate::test_util::node::Data;
use crate::tests::world::{ALICE, BOB, MAX_TTL, World, ms};
use crate::vote::{ExclusionReason, ProbationReason};

/// Replaces Bob by a new process that knows no node and whose wall clock is ahead by this much.
fn connect_new_client(world: &mut World, ahead_millis: i64) {
    let quorum = world.quorum();
    (0..3).filter(|node| world.is_connected(BOB, *node)).collect::<Vec<_>>().into_iter().for_each(|node| {
        world.disconnect(BOB, node);
    });
    reconfigure(world, BOB, quorum, MAX_TTL, true);
    world.shift_wall_clock(BOB, ahead_millis);
    connect_to_all(world, BOB);
}

/// Node 1 restarts while its clock is two minutes behind. Alice knew it and reconnects.
fn restarted_with_clock_behind() -> World {
    let mut world = World::fenced(3);
    world.restart(1, Data::new());
    world.shift_clock(1, -120_000);
    world.connect(ALICE, 1);
    world.deliver_all();
    assert!(marker(&world, 1).is_some() && !is_voting(&world, ALICE, 1));
    world
}

#[test]
fn correcting_a_clock_after_a_restart_does_not_end_probation() {
    let mut world = restarted_with_clock_behind();
    world.shift_clock(1, 120_000);
    connect_new_client(&mut world, 0);
    assert_eq!(probation_reason(&world, BOB, 1), Some(ProbationReason::PossibleDataLoss));
    world.run_for(PROBATION - ms(200));
    assert!(!is_voting(&world, BOB, 1));
    world.run_for(ms(200));
    assert!(is_voting(&world, BOB, 1));
}

#[test]
fn a_wrong_client_clock_never_shortens_a_probation() {
    // Client clock slightly behind; far behind, so that one of the two clocks is wrong; ahead.
    for (ahead_millis, tolerance) in [(-900, ms(1_000)), (-3_600_000, ms(100)), (3_600_000, ms(100))] {
        let mut world = World::fenced(3);
        world.restart(1, Data::new());
        world.connect(ALICE, 1);
        world.deliver_all();
        connect_new_client(&mut world, ahead_millis);
        world.run_for(PROBATION - ms(200));
        assert!(!is_voting(&world, BOB, 1), "{ahead_millis} ms");
        world.run_for(ms(200) + tolerance);
        assert!(is_voting(&world, BOB, 1), "{ahead_millis} ms");
    }
}

#[test]
fn an_initialized_node_votes_at_once_whatever_the_client_clock_shows() {
    for ahead_millis in [-900, -3_600_000, 3_600_000] {
        let mut world = World::fenced(3);
        connect_new_client(&mut world, ahead_millis);
        assert!((0..3).all(|node| is_voting(&world, BOB, node)), "{ahead_millis} ms");
    }
}

#[test]
fn resetting_the_eviction_count_does_not_skip_probation() {
    let mut world = World::fenced(3);
    world.servers[1].node.evicts = true;
    world.run_for(MARKER_READ_INTERVAL);
    assert_eq!(exclusion_reason(&world, ALICE, 1), Some(ExclusionReason::EvictionEnabled));
    // The policy is corrected and the statistics are reset before the next marker reading.
    world.servers[1].node.evicts = false;
    connect_new_client(&mut world, 0);
    assert_eq!(probation_reason(&world, BOB, 1), Some(ProbationReason::PossibleDataLoss));
    world.run_for(PROBATION + MARKER_READ_INTERVAL);
    assert!((0..2).all(|client| is_voting(&world, client, 1)));
}

#[test]
fn after_a_probation_holders_come_before_new_clients() {
    let mut world = World::fenced(3);
    world.restart(1, Data::new());
    world.connect(ALICE, 1);
    world.deliver_all();
    world.run_for(MAX_TTL + ms(10));
    connect_new_client(&mut world, 0);
    assert!(!is_voting(&world, BOB, 1));
    world.run_for(PROBATION - MAX_TTL);
    assert!(is_voting(&world, BOB, 1));
}

#[test]
fn probation_starts_with_the_first_marker_reading() {
    for keeps_data in [false, true] {
        let mut world = World::fenced(3);
        let before = if keeps_data { data(&world, 1) } else { Data::new() };
        (0..3).for_each(|node| world.disconnect(ALICE, node));
        (0..3).for_each(|node| world.disconnect(BOB, node));
        world.servers[1].node.restart(before);
        let quorum = world.quorum();
        reconfigure(&mut world, BOB, quorum, MAX_TTL, false);
        connect_to_all(&mut world, BOB);
        world.run_for(PROBATION + ms(1));
        (0..3).for_each(|node| world.disconnect(BOB, node));
        connect_new_client(&mut world, 0);
        assert!(is_voting(&world, BOB, 1), "data kept: {keeps_data}");
    }
}
