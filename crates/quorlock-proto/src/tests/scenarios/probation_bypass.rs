//! Attempts to bypass probation. A new client cannot detect them, because it knows only what the nodes store.

use super::helpers::{
    HEAD_START, MARKER_READ_INTERVAL, PROBATION, SETTLING, assert_votes_after, connect_to_all, data,
    disconnect_from_all, exclusion_reason, is_member, is_voting, probation_left, probation_reason,
    reconfigure, restart_and_settle,
};
use crate::test_util::node::Data;
use crate::tests::world::{ALICE, BOB, MAX_TTL, World, ms};
use crate::vote::{ExclusionReason, ProbationReason};

/// Replaces Bob by a new process that knows no node and whose wall clock is ahead by this much.
fn connect_new_client(world: &mut World, ahead_millis: i64) {
    let quorum = world.quorum();
    disconnect_from_all(world, BOB);
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
    world.run_for(SETTLING);
    assert!(is_member(&world, 1) && !is_voting(&world, ALICE, 1));
    world
}

#[test]
fn correcting_a_clock_after_a_restart_does_not_end_probation() {
    let mut world = restarted_with_clock_behind();
    let left = probation_left(&world, 1);
    world.shift_clock(1, 120_000);
    connect_new_client(&mut world, 0);
    assert_eq!(probation_reason(&world, BOB, 1), Some(ProbationReason::PossibleDataLoss));
    assert_votes_after(&mut world, BOB, 1, left + HEAD_START);
}

#[test]
fn a_wrong_client_clock_never_shortens_a_probation() {
    // Client clock slightly behind; far behind, so that one of the two clocks is wrong; ahead.
    for (ahead_millis, longer_millis) in [(-900, 900), (-3_600_000, 0), (3_600_000, 0)] {
        let mut world = World::fenced(3);
        restart_and_settle(&mut world, 1, Data::new());
        // No client waits for longer than the max ttl.
        world.run_for(ms(1_000));
        let left = probation_left(&world, 1);
        connect_new_client(&mut world, ahead_millis);
        assert_votes_after(&mut world, BOB, 1, left + ms(longer_millis) + HEAD_START);
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
    world.run_for(SETTLING);
    assert_eq!(probation_reason(&world, BOB, 1), Some(ProbationReason::PossibleDataLoss));
    world.run_for(PROBATION + MARKER_READ_INTERVAL);
    assert!((0..2).all(|client| is_voting(&world, client, 1)));
}

/// Its count of evictions differs in each reading.
#[test]
fn a_node_that_evicts_all_the_time_gets_a_marker_that_says_so() {
    let mut world = World::fenced(3);
    world.clients[BOB].is_paused = true;
    world.servers[1].node.evicts = true;
    world.run_timers_for(MARKER_READ_INTERVAL);
    let mut count = 0;
    while world.deliver_request(ALICE, 1) {
        world.evict_a_key(1);
        count += 1;
        assert!(count < 10, "the marker is read without end");
        world.deliver_reply(ALICE, 1);
    }
    assert_eq!(exclusion_reason(&world, ALICE, 1), Some(ExclusionReason::EvictionEnabled));
    // The statistics are all that the marker could be compared with, and they are reset.
    world.servers[1].node.evicts = false;
    world.servers[1].node.reset_stats();
    world.clients[BOB].is_paused = false;
    connect_new_client(&mut world, 0);
    world.run_for(SETTLING);
    assert_eq!(probation_reason(&world, BOB, 1), Some(ProbationReason::PossibleDataLoss));
}

#[test]
fn after_a_probation_holders_come_before_new_clients() {
    let mut world = World::fenced(3);
    restart_and_settle(&mut world, 1, Data::new());
    world.run_for(probation_left(&world, 1) + ms(10));
    connect_new_client(&mut world, 0);
    assert_votes_after(&mut world, BOB, 1, HEAD_START - ms(10));
}

#[test]
fn probation_starts_with_the_first_client_also_if_it_founds_nothing() {
    for keeps_data in [false, true] {
        let mut world = World::fenced(3);
        let before = if keeps_data { data(&world, 1) } else { Data::new() };
        (0..3).for_each(|node| world.disconnect(ALICE, node));
        (0..3).for_each(|node| world.disconnect(BOB, node));
        world.servers[1].node.restart(before);
        let quorum = world.quorum();
        reconfigure(&mut world, BOB, quorum, MAX_TTL, false);
        connect_to_all(&mut world, BOB);
        world.run_for(SETTLING + PROBATION);
        (0..3).for_each(|node| world.disconnect(BOB, node));
        connect_new_client(&mut world, 0);
        assert!(is_voting(&world, BOB, 1), "data kept: {keeps_data}");
    }
}
