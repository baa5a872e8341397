//! The clock monitor: detects jumps and drift of node clocks from the times in replies; effects on votes.

use super::helpers::{PROBATION, PROBATION_MINUS_1_MS, restart_client};
use crate::attempt::FailureReason;
use crate::clock_monitor::ClockAnomaly;
use crate::lease::LossReason;
use crate::membership::VotingStatus;
use crate::request::{OperationId, RequestKind};
use crate::tests::world::{ALICE, AcquireOptions, BOB, TTL, World, ms};
use crate::vote::{ProbationReason, Vote};

const NO_AUTO_RENEW: AcquireOptions = AcquireOptions {
    ttl: TTL,
    want_holder_ttl: false,
    auto_renew: false,
    min_fencing_number: 0,
    max_hold_time: None,
};

/// A fenced world in which Alice has just read every node's clock once.
fn world_with_observed_clocks(nodes: usize, quorum_size: Option<usize>) -> World {
    let mut world = World::fenced_with_quorum(nodes, quorum_size, 2);
    world.run_for(ms(10_000));
    observe_clocks(&mut world, ALICE);
    world
}

/// Acquires and cancels the lock; the replies show every node's clock.
fn observe_clocks(world: &mut World, client: usize) {
    let lock = world.start_acquire_with(client, NO_AUTO_RENEW);
    world.deliver_all();
    world.cancel(client, lock);
    world.deliver_all();
    world.take_events(client);
    assert_eq!(world.key_count(), 0);
}

fn reported_jumps(world: &World, client: usize) -> Vec<(usize, i64)> {
    let reported = world.clients[client].clock_anomalies.iter().filter_map(|(node, anomaly)| match anomaly {
        ClockAnomaly::Jumped { by_micros } => Some((*node, *by_micros)),
        ClockAnomaly::DriftExceeded { .. } => None,
    });
    reported.collect()
}

fn is_on_clock_probation(world: &World, client: usize, node: usize) -> bool {
    matches!(
        world.clients[client].statuses[node],
        Some(VotingStatus::OnProbation(_, ProbationReason::ClockJump))
    )
}

fn renew(world: &mut World, lock: OperationId) {
    world.extend(ALICE, lock, TTL);
    world.deliver_all();
}

#[test]
fn a_jump_is_reported_only_past_drift_and_slack() {
    // Per second, the allowed drift is 10 ms and the slack for time services is 20 ms.
    for (by_millis, is_reported) in
        [(31, true), (29, false), (-29, false), (-31, true), (5_000, true), (-5_000, true)]
    {
        let mut world = world_with_observed_clocks(3, None);
        world.run_for(ms(1_000));
        world.shift_clock(1, by_millis);
        observe_clocks(&mut world, ALICE);
        let expected = if is_reported { vec![(1, by_millis * 1_000)] } else { vec![] };
        assert_eq!(reported_jumps(&world, ALICE), expected, "by {by_millis} ms");
        assert_eq!(is_on_clock_probation(&world, ALICE, 1), is_reported);
    }
}

#[test]
fn slow_replies_prove_no_jump() {
    for starts_with_slow_reply in [true, false] {
        let mut world = World::fenced(3);
        world.run_for(ms(10_000));
        for round in 0..6 {
            let lock = world.start_acquire_with(ALICE, NO_AUTO_RENEW);
            for node in 0..3 {
                if (round % 2 == 0) == starts_with_slow_reply {
                    // Fast request, slow reply: in the next round the clock seems to have run ahead.
                    world.deliver_request(ALICE, node);
                    world.advance_clock(ms(150));
                    world.deliver_reply(ALICE, node);
                } else {
                    world.advance_clock(ms(150));
                    world.round_trip(ALICE, node);
                }
            }
            world.cancel(ALICE, lock);
            world.deliver_all();
        }
        assert_eq!(world.clients[ALICE].clock_anomalies, []);
    }
}

#[test]
fn a_large_jump_is_reported_despite_a_slow_reply() {
    let mut world = world_with_observed_clocks(3, None);
    world.run_for(ms(1_000));
    world.shift_clock(1, 1_000);
    world.start_acquire_with(ALICE, NO_AUTO_RENEW);
    world.deliver_request(ALICE, 1);
    world.advance_clock(ms(400));
    world.deliver_reply(ALICE, 1);
    assert_eq!(reported_jumps(&world, ALICE).len(), 1);
}

#[test]
fn a_stopped_clock_is_reported_as_a_jump_back() {
    let mut world = World::fenced(3);
    world.acquire(ALICE);
    world.set_clock_drift(1, -1_000_000);
    world.run_for(ms(3_500));
    let reported = reported_jumps(&world, ALICE);
    assert!(matches!(reported[..], [(1, by_micros)] if by_micros < -3_000_000), "{reported:?}");
    assert!(is_on_clock_probation(&world, ALICE, 1) && !is_on_clock_probation(&world, ALICE, 0));
}

#[test]
fn a_drifting_clock_is_reported_once_per_max_ttl_and_keeps_voting() {
    for drift in [10_400, -10_400] {
        let mut world = World::fenced(3);
        let lock = world.acquire(ALICE);
        world.set_clock_drift(1, drift);
        world.run_for(ms(65_000));
        let reported: Vec<_> = world.clients[ALICE].clock_anomalies.clone();
        assert!((2..=3).contains(&reported.len()), "once per max ttl: {reported:?}");
        for (node, anomaly) in reported {
            let ClockAnomaly::DriftExceeded { drift_ppm: millionths } = anomaly else {
                panic!("{anomaly:?}")
            };
            assert_eq!((node, millionths.signum()), (1, drift.signum()), "{millionths}");
        }
        assert!(
            !is_on_clock_probation(&world, ALICE, 1)
                && world.is_valid(ALICE, lock)
                && world.has_key_of(1, lock)
        );
    }
}

#[test]
fn clocks_within_the_drift_are_never_reported() {
    for drift in [9_900, -9_900] {
        let mut world = World::fenced(3);
        world.acquire(ALICE);
        (0..3).for_each(|node| world.set_clock_drift(node, drift));
        world.run_for(ms(120_000));
        assert_eq!(world.clients[ALICE].clock_anomalies, []);
    }
}

#[test]
fn a_node_whose_clock_jumped_casts_no_vote_for_the_max_ttl() {
    let mut world = world_with_observed_clocks(3, None);
    world.shift_clock(1, 5_000);
    observe_clocks(&mut world, ALICE);
    assert!(is_on_clock_probation(&world, ALICE, 1));
    world.run_for(PROBATION_MINUS_1_MS);
    let lock = world.start_acquire_with(ALICE, NO_AUTO_RENEW);
    assert_eq!(world.undelivered(ALICE, 1), [], "no request is sent to it");
    world.deliver_all();
    world.cancel(ALICE, lock);
    world.deliver_all();
    world.run_for(ms(1));
    assert!(!is_on_clock_probation(&world, ALICE, 1));
    let lock = world.acquire(ALICE);
    assert!(world.has_key_of(1, lock));
    assert_eq!(reported_jumps(&world, ALICE).len(), 1, "no further jump was reported");
}

#[test]
fn a_grant_that_reveals_a_jump_does_not_count_and_is_released_with_its_attempt() {
    let mut world = world_with_observed_clocks(3, None);
    world.shift_clock(1, 5_000);
    world.set_foreign_key(0, Some(b"another owner"), Some(TTL));
    world.start_acquire_with(ALICE, NO_AUTO_RENEW);
    world.round_trip(ALICE, 1);
    world.round_trip(ALICE, 0);
    let failure = world.take_failure(ALICE).expect("one node of three is left");
    assert!(
        matches!(failure.votes[1], Vote::OnProbation { reason: ProbationReason::ClockJump, .. }),
        "{:?}",
        failure.votes
    );
    assert_eq!(world.undelivered(ALICE, 1), [RequestKind::Release], "its grant left a key");
    world.deliver_all();
    assert_eq!(
        (world.key_count(), world.pending_releases(ALICE)),
        (1, 0),
        "only the key of the other owner is left"
    );
}

#[test]
fn a_grant_that_revealed_a_jump_is_released_with_its_lock() {
    let mut world = world_with_observed_clocks(3, None);
    world.shift_clock(1, 5_000);
    let lock = world.start_acquire_with(ALICE, NO_AUTO_RENEW);
    world.deliver_all();
    assert!(world.is_valid(ALICE, lock) && world.has_key_of(1, lock), "granted by the other two");
    world.release(ALICE, lock);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn too_many_clock_jumps_fail_an_attempt_with_the_end_of_probation() {
    let mut world = world_with_observed_clocks(3, None);
    (0..2).for_each(|node| world.shift_clock(node, 5_000));
    let lock = world.start_acquire_with(ALICE, NO_AUTO_RENEW);
    world.deliver_all();
    assert!(!world.is_valid(ALICE, lock));
    assert_eq!(
        world.take_failure(ALICE).map(|failure| failure.reason),
        Some(FailureReason::OnProbation { retry_after: Some(PROBATION) })
    );
    world.run_for(PROBATION);
    world.acquire(ALICE);
}

#[test]
fn a_lock_on_all_nodes_survives_one_jump_per_spare_node() {
    for (nodes, quorum_size, spare) in [(3, None, 1), (5, None, 2), (5, Some(4), 1), (3, Some(3), 0)] {
        for by_millis in [5_000, -5_000] {
            let mut world = world_with_observed_clocks(nodes, quorum_size);
            let lock = world.acquire_with(ALICE, NO_AUTO_RENEW);
            for node in 0..=spare {
                assert!(
                    world.is_valid(ALICE, lock),
                    "{nodes} {quorum_size:?}: {node} jumped, {spare} spare nodes"
                );
                world.shift_clock(node, by_millis);
                renew(&mut world, lock);
                assert!(is_on_clock_probation(&world, ALICE, node));
            }
            assert!(!world.is_valid(ALICE, lock), "{nodes} {quorum_size:?}");
            assert_eq!(world.take_loss(ALICE), Some(LossReason::ClockJump));
            world.release(ALICE, lock);
            world.deliver_all();
            assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
        }
    }
}

#[test]
fn a_lock_on_exactly_a_quorum_is_lost_when_one_of_its_clocks_jumps() {
    for (jumped, survives) in [(0, false), (2, true)] {
        let mut world = world_with_observed_clocks(3, None);
        world.servers[2].hangs = true;
        let lock = world.acquire_with(ALICE, NO_AUTO_RENEW);
        world.servers[2].hangs = false;
        world.delete_key(2);
        world.shift_clock(jumped, 5_000);
        // Bob's attempt does not show the jump to Alice; her own renewal does.
        bob_fails_to_acquire(&mut world);
        assert!(world.is_valid(ALICE, lock));
        world.extend(ALICE, lock, TTL);
        world.round_trip(ALICE, 2);
        world.round_trip(ALICE, 2);
        (0..2).for_each(|node| assert!(world.round_trip(ALICE, node)));
        assert_eq!(world.is_valid(ALICE, lock), survives, "{jumped} jumped");
    }
}

/// Bob fails to acquire the lock while Alice holds it on two of three nodes.
fn bob_fails_to_acquire(world: &mut World) {
    let lock = world.start_acquire_with(BOB, NO_AUTO_RENEW);
    (0..3).for_each(|node| assert!(world.round_trip(BOB, node)));
    assert!(!world.is_valid(BOB, lock));
    for node in 0..3 {
        while world.round_trip(BOB, node) {}
    }
}

#[test]
fn a_renewal_that_reveals_a_jump_does_not_count() {
    let mut world = world_with_observed_clocks(3, None);
    world.disconnect(ALICE, 2);
    let lock = world.acquire_with(ALICE, NO_AUTO_RENEW);
    world.connect(ALICE, 2);
    let before = world.deadline(ALICE, lock);
    world.run_for(ms(1_000));
    world.shift_clock(1, -5_000);
    renew(&mut world, lock);
    assert_eq!(world.take_loss(ALICE), Some(LossReason::ClockJump));
    assert_eq!(world.deadline(ALICE, lock), before, "one of two granting replies does not count");
}

#[test]
fn connecting_to_a_node_observes_its_clock() {
    let mut world = world_with_observed_clocks(3, None);
    restart_client(&mut world, BOB, 0..3);
    world.run_for(ms(1_000));
    world.shift_clock(1, -5_000);
    observe_clocks(&mut world, BOB);
    assert_eq!(world.clients[BOB].clock_anomalies, [(1, ClockAnomaly::Jumped { by_micros: -5_000_000 })]);
}

#[test]
fn a_jump_before_the_first_connection_is_not_reported() {
    let mut world = world_with_observed_clocks(3, None);
    world.shift_clock(1, 5_000);
    restart_client(&mut world, BOB, 0..3);
    observe_clocks(&mut world, BOB);
    assert_eq!(world.clients[BOB].clock_anomalies, []);
    world.run_for(ms(1_000));
    world.shift_clock(1, 5_000);
    observe_clocks(&mut world, BOB);
    assert_eq!(reported_jumps(&world, BOB), [(1, 5_000_000)]);
}

#[test]
fn a_clock_jump_revokes_the_nodes_grant_in_a_running_attempt() {
    let mut world = world_with_observed_clocks(3, None);
    let lock = world.start_acquire_with(ALICE, NO_AUTO_RENEW);
    world.round_trip(ALICE, 1);
    world.shift_clock(1, 5_000);
    // A second attempt reveals the jump while two replies to the first are pending.
    let other = world.start_acquire_with(ALICE, NO_AUTO_RENEW);
    world.round_trip(ALICE, 1);
    assert!(is_on_clock_probation(&world, ALICE, 1));
    world.round_trip(ALICE, 0);
    assert!(!world.is_valid(ALICE, lock), "one of two grants comes from a node on probation");
    world.round_trip(ALICE, 2);
    assert!(world.is_valid(ALICE, lock), "now two other nodes granted it");
    world.cancel(ALICE, other);
    world.release(ALICE, lock);
    world.deliver_all();
    assert_eq!((world.key_count(), world.pending_releases(ALICE)), (0, 0));
}

#[test]
fn a_clock_jump_revokes_the_nodes_vote_in_a_running_renewal() {
    let mut world = world_with_observed_clocks(3, None);
    let lock = world.acquire_with(ALICE, NO_AUTO_RENEW);
    world.disconnect(ALICE, 2);
    let before = world.deadline(ALICE, lock);
    world.run_for(ms(1_000));
    world.extend(ALICE, lock, TTL);
    world.round_trip(ALICE, 1);
    world.shift_clock(1, 5_000);
    world.start_acquire_with(ALICE, NO_AUTO_RENEW);
    world.round_trip(ALICE, 1);
    assert!(is_on_clock_probation(&world, ALICE, 1));
    world.round_trip(ALICE, 0);
    assert_eq!(world.deadline(ALICE, lock), before, "one of two granting nodes is on probation");
}

#[test]
fn a_clock_jump_revokes_the_nodes_fencing_number_during_a_raise() {
    let mut world = world_with_observed_clocks(3, None);
    // Node 0 issued a larger fencing number, so node 1 must be raised to it.
    let lock = world.start_acquire_with(ALICE, NO_AUTO_RENEW);
    world.set_fence(0, &(u64::MAX >> 12).to_string());
    (0..2).for_each(|node| assert!(world.round_trip(ALICE, node)));
    assert_eq!(world.undelivered(ALICE, 1), [RequestKind::RaiseFence]);
    world.shift_clock(0, 5_000);
    world.start_acquire_with(ALICE, NO_AUTO_RENEW);
    world.round_trip(ALICE, 0);
    assert!(is_on_clock_probation(&world, ALICE, 0));
    world.round_trip(ALICE, 1);
    assert!(!world.is_valid(ALICE, lock), "one of two nodes with the number is on probation");
}
