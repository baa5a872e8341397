//! A lock comes to stand on every node that is well, and stays there.

use std::time::Duration;

use super::fencing::{AHEAD, apart};
use crate::protocol::board::News;
use crate::protocol::lease::Loss;
use crate::protocol::time::Moment;
use crate::world::{ALICE, BOB, LONGEST_TTL, TTL, Wish, World, ms};

/// Bob tries and is refused, and everything of his attempt is heard of.
fn try_in_vain(world: &mut World) {
    let attempt = world.acquire(BOB);
    world.drive();
    assert!(!world.is_valid(BOB, attempt));
}

fn stands_everywhere(world: &World, lock: u64) -> bool {
    (0..world.quorum().nodes()).all(|node| world.has(node, lock))
}

/// Cuts one node off for good, and looks whether the lock lives on without it.
fn outlives(mut world: World, lock: u64, node: usize) -> bool {
    world.cut(ALICE, node);
    world.live(TTL * 2);
    world.is_valid(ALICE, lock)
}

#[test]
fn a_late_grant_with_a_larger_number_of_its_own_counts_after_the_next_renewal() {
    for ahead in [1_000, 3_600_000] {
        for late in 0..3 {
            let clocks: Vec<i64> = (0..3).map(|node| if node == late { ahead } else { 0 }).collect();
            let mut world = apart(3, None, &clocks);
            let lock = world.acquire(ALICE);
            for node in (0..3).filter(|node| *node != late) {
                world.step(ALICE, node);
            }
            assert!(world.is_valid(ALICE, lock), "two of three");
            world.drive();
            assert!(world.is_nothing_sent(ALICE), "a lock that is given up at once costs no renewal");
            world.live(ms(100));
            assert!(world.fence(late) > Some(world.number(ALICE, lock)), "its clock is ahead");
            for away in (0..3).filter(|node| *node != late) {
                let world_without = || -> World {
                    let mut world = apart(3, None, &clocks);
                    let again = world.acquire(ALICE);
                    assert_eq!(again, lock);
                    (0..3).filter(|node| *node != late).for_each(|node| assert!(world.step(ALICE, node)));
                    world.drive();
                    world.live(ms(100));
                    world
                };
                assert!(outlives(world_without(), lock, away), "{ahead} ms, {late} late, {away} away");
            }
            world.live(TTL * 3);
            assert!(stands_everywhere(&world, lock) && world.is_valid(ALICE, lock));
        }
    }
}

#[test]
fn a_grant_that_only_was_late_counts_like_any_other() {
    let mut world = apart(3, None, &[0; 3]);
    let lock = world.acquire(ALICE);
    (0..2).for_each(|node| assert!(world.step(ALICE, node)));
    world.pass(ms(400));
    world.drive();
    assert!(world.fence(2) > Some(world.number(ALICE, lock)), "more than the tolerance late");
    world.live(TTL * 3);
    assert!(stands_everywhere(&world, lock));
    assert!(outlives(world, lock, 0));
}

#[test]
fn a_key_that_went_missing_is_taken_again_past_rivals_who_came_to_nothing() {
    for node in 0..3 {
        let mut world = World::guarded(3);
        let lock = world.hold(ALICE);
        world.wipe(node);
        world.pass(ms(1));
        try_in_vain(&mut world);
        assert!(world.fence(node) > Some(world.number(ALICE, lock)) && !world.has(node, lock));
        world.sleep(TTL / 3 + ms(1));
        world.drive();
        assert!(!world.has(node, lock), "the node told its number, and it may be somebody's");
        world.wake(ALICE);
        world.drive();
        assert!(world.has(node, lock), "the next renewal, at once, showed that it is nobody's");
        assert!(outlives(world, lock, (node + 1) % 3));
    }
}

#[test]
fn a_rival_who_keeps_on_trying_cannot_keep_a_node_from_the_holder() {
    let mut world = World::guarded(5);
    let lock = world.hold(ALICE);
    world.wipe(4);
    for _ in 0..40 {
        world.live(ms(250));
        try_in_vain(&mut world);
    }
    assert!(stands_everywhere(&world, lock) && world.is_valid(ALICE, lock));
}

#[test]
fn what_a_later_holder_was_given_is_not_gone_past() {
    // Two keys are lost at once, which no lock of three survives; whoever comes next is given the lock.
    let mut world = World::guarded(3);
    let lock = world.hold_as(ALICE, Wish::default());
    (1..3).for_each(|node| world.wipe(node));
    world.pass(ms(1));
    let later = world.hold(BOB);
    world.release(BOB, later);
    for _ in 0..3 {
        world.live(TTL / 2);
    }
    assert_eq!(world.loss(ALICE), Some(Loss::Expired));
    assert!(!world.is_valid(ALICE, lock) && !(1..3).any(|node| world.has(node, lock)));
}

#[test]
fn a_larger_number_told_by_a_late_grant_is_not_taken_for_nobodys_after_another_had_the_lock() {
    // Alice has nodes 0 and 1; her question to 2 is under way. Her key on 1 is lost, Bob has the lock and gives it
    // back, and only then does her question reach node 2.
    let mut world = World::guarded(3);
    world.sleep(ms(1));
    let lock = world.acquire(ALICE);
    (0..2).for_each(|node| assert!(world.step(ALICE, node)));
    world.wipe(1);
    world.pass(ms(1));
    let later = world.acquire(BOB);
    (0..3).for_each(|node| while world.step(BOB, node) {});
    assert!(world.is_valid(BOB, later));
    world.release(BOB, later);
    (0..3).for_each(|node| while world.step(BOB, node) {});
    world.drive();
    assert!(world.has(2, lock), "her late question took the key");
    let deadline: Moment = world.deadline(ALICE, lock);
    world.live(TTL * 2);
    assert_eq!(world.loss(ALICE), Some(Loss::Expired), "one node of three is not enough");
    assert_eq!(world.deadline(ALICE, lock), deadline);
}

#[test]
fn clocks_that_differ_cost_no_node() {
    for nodes in [3, 5] {
        for (turn, away) in (0..nodes).enumerate() {
            let mut world = apart(nodes, None, &AHEAD[..nodes]);
            // Locks of before have left numbers of their own.
            for _ in 0..turn {
                let lock = world.hold(BOB);
                world.release(BOB, lock);
                world.live(ms(1));
            }
            let lock = world.hold(ALICE);
            world.live(TTL * 3);
            assert!(stands_everywhere(&world, lock), "{nodes} nodes, turn {turn}");
            assert!(outlives(world, lock, away));
        }
    }
}

#[test]
fn a_node_that_votes_again_is_taken_at_once_and_not_at_the_next_renewal() {
    for node in 0..3 {
        let mut world = World::guarded(3);
        let lock = world.hold(ALICE);
        let data = world.servers[node].node.data().clone();
        world.restart(node, data);
        (0..2).for_each(|who| world.connect(who, node));
        world.wipe(node);
        world.live(LONGEST_TTL - ms(100));
        assert!(!world.has(node, lock) && world.is_valid(ALICE, lock), "it is on probation");
        // Well before a renewal would be due.
        world.live(ms(500));
        assert!(world.has(node, lock), "node {node}");
    }
}

#[test]
fn a_rival_who_comes_between_each_time_does_not_make_the_holder_renew_without_end() {
    let mut world = World::guarded(3);
    let lock = world.hold(ALICE);
    world.wipe(2);
    world.sleep(TTL / 3 + ms(1));
    let mut renewals = 0;
    for _ in 0..200 {
        // Bob's vain attempt is on node 2 right before anything of Alice's.
        try_by_steps(&mut world);
        (0..3).for_each(|node| while world.step(ALICE, node) {});
        world.wake(ALICE);
        let is_renewal = |news: &News| matches!(news, News::Renewing);
        renewals += world.news(ALICE).iter().filter(|news| is_renewal(news)).count();
    }
    assert!((10..30).contains(&renewals), "{renewals}");
    assert!(world.is_valid(ALICE, lock));
    // When he has gone, the next regular renewals have the node back.
    world.live(TTL);
    assert!(stands_everywhere(&world, lock));
}

/// As [`try_in_vain`], while what is under way of Alice's stays so.
fn try_by_steps(world: &mut World) {
    world.pass(Duration::from_micros(10));
    let attempt = world.acquire(BOB);
    (0..3).for_each(|node| while world.step(BOB, node) {});
    assert!(!world.is_valid(BOB, attempt));
}
