//! An address that leads to another, blank server, while connections to the earlier one stay.

use super::helpers::{
    HEAD_START, MARKER_READ_INTERVAL, SETTLING, assert_votes_after, disconnect_from_all, epoch, is_member,
    marker, probation_left, restart_client,
};
use std::time::Duration;

use crate::mutant::{Mutant, with};
use crate::request::OperationId;
use crate::tests::world::{ALICE, AcquireOptions, BOB, MAX_TTL, World, ms};
use crate::vote::ExclusionReason;

/// Alice stays connected to the earlier server of node 1, and acquires a lock on it and node 2. Bob reaches only the
/// new server and node 0 until then, and only then enough members to give the new server the seat. Returns the
/// lock and the new server's index.
fn with_a_moved_address() -> (World, OperationId, usize) {
    let mut world = World::fenced(3);
    let server = world.move_address(1);
    restart_client(&mut world, BOB, [0, 1]);
    world.run_for(MAX_TTL * 2 / 3);
    assert!(marker(&world, server).is_some_and(|it| !it.was_member), "it has drawn a seat and waits");
    world.disconnect(ALICE, 0);
    let options = AcquireOptions { ttl: MAX_TTL, auto_renew: false, ..AcquireOptions::default() };
    let lock = world.acquire_with(ALICE, options);
    assert!(world.has_key_of(1, lock) && world.has_key_of(2, lock));
    world.connect(ALICE, 0);
    world.connect(BOB, 2);
    world.run_for(SETTLING);
    assert!(is_member(&world, server) && epoch(&world, server) == "1.1");
    (world, lock, server)
}

/// Bob tries for the lock on node 0 and the new server of node 1, until Alice's lock is over. Returns the first overlap.
fn contend_with_a_moved_address() -> Option<String> {
    let (mut world, lock, _) = with_a_moved_address();
    while world.is_valid(ALICE, lock) {
        world.run_for(ms(500));
        let attempt = world.start_acquire(BOB);
        world.deliver_all();
        if !world.is_valid(BOB, attempt) {
            world.cancel(BOB, attempt);
        }
    }
    world.overlap
}

#[test]
fn a_server_that_took_over_an_address_casts_no_vote_while_locks_of_the_earlier_one_live() {
    assert_eq!(contend_with_a_moved_address(), None);
}

#[test]
fn mutant_probation_that_counts_from_before_the_choice_of_the_roster() {
    assert!(with(Some(Mutant::ProbationBeforeChoice), contend_with_a_moved_address).is_some());
}

/// Runs until the roster has changed this often. Each client's host resolves the address of node 1 to its server here.
fn run_until(world: &mut World, changes: u32, at_address: [usize; 2]) {
    while epoch(world, 0) != format!("1.{changes}") {
        world.run_for(ms(500));
        for (client, server) in [ALICE, BOB].into_iter().zip(at_address) {
            if !world.is_connected(client, 1) {
                world.point_address(1, server);
                world.connect(client, 1);
            }
        }
    }
    world.run_for(SETTLING);
}

/// Alice's host resolves the address to the earlier server, and Bob's to the new one, so both are right for the seat.
#[test]
fn the_earlier_server_of_an_address_is_redialed_once_and_takes_the_seat_back_after_the_pause_only() {
    let (mut world, lock, server) = with_a_moved_address();
    let taken = world.now(ALICE);
    world.run_for(MARKER_READ_INTERVAL);
    assert_eq!((world.clients[ALICE].redials.clone(), epoch(&world, 1)), (vec![1], "1.1".into()));
    assert_eq!(world.clients[ALICE].exclusions, [(1, ExclusionReason::NotInRoster)], "users see why");
    world.point_address(1, 1);
    world.connect(ALICE, 1);
    world.run_for(MAX_TTL - MARKER_READ_INTERVAL - SETTLING);
    assert!(is_member(&world, server) && !is_member(&world, 1) && epoch(&world, server) == "1.1");
    assert!(marker(&world, 1).is_some_and(|it| !it.was_member), "it has drawn another seat");
    assert_eq!(world.clients[ALICE].redials, [1], "the same server would be reached again and again");
    world.release(ALICE, lock);
    world.deliver_all();
    let lock = world.acquire(ALICE);
    assert!(world.has_key_of(0, lock) && world.has_key_of(2, lock) && !world.has_key_of(1, lock));
    // They take the seat from each other after pauses that double.
    let changes: Vec<Duration> = (2..=4)
        .map(|change| {
            run_until(&mut world, change, [1, server]);
            world.now(ALICE).since(taken)
        })
        .collect();
    let pauses = [changes[0] + SETTLING, changes[1] - changes[0], changes[2] - changes[1]];
    let range = |pause| pause..pause + MARKER_READ_INTERVAL * 2;
    let expected = [MAX_TTL, MAX_TTL * 2, MAX_TTL * 4].map(range);
    assert!(expected.iter().zip(&pauses).all(|(range, it)| range.contains(it)), "{pauses:?}");
    assert!(world.is_valid(ALICE, lock), "the other two are a quorum throughout");
    // At last it leads Alice to the new one.
    world.disconnect(ALICE, 1);
    world.point_address(1, server);
    run_until(&mut world, 5, [server, server]);
    assert!(is_member(&world, server));
    assert_eq!(world.overlap, None);
}

#[test]
fn a_client_that_only_knows_the_new_server_counts_it_after_its_probation() {
    let (mut world, _, server) = with_a_moved_address();
    disconnect_from_all(&mut world, ALICE);
    restart_client(&mut world, BOB, 0..3);
    let left = probation_left(&world, server);
    assert!(left > MAX_TTL - SETTLING && left <= MAX_TTL, "from the roster's write: {left:?}");
    assert_votes_after(&mut world, BOB, 1, left + HEAD_START);
}
