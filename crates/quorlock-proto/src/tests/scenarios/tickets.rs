//! A held lock on its way to another client: who can adopt it, how often, and what an adoption proves.

mod leftovers;

use super::helpers::SETTLING;
use crate::attempt::{AttemptFailure, FailureReason};
use crate::coordinator::HandedOverLock;
use crate::request::{Key, OperationId, PreviousOwner, RequestKind};
use crate::test_util::node::DataKey;
use crate::tests::world::{ALICE, BOB, KEY, MAX_TTL, TTL, World, ms};
use crate::vote::Vote;

/// A world of each mode.
fn worlds(nodes: usize) -> [World; 2] {
    [World::new(nodes), World::fenced(nodes)]
}

/// Alice acquires the lock and hands it over.
fn handed_over(world: &mut World) -> (OperationId, PreviousOwner) {
    let lock = world.acquire(ALICE);
    world.advance_clock(ms(1));
    let HandedOverLock { owner, ttl, deadline } = world.hand_over(ALICE, lock).expect("held");
    assert_eq!((ttl, deadline), (TTL, world.deadline(ALICE, lock)));
    assert!(!world.is_valid(ALICE, lock), "the holder ends at once");
    (lock, owner)
}

/// Bob's adoption with everything in flight delivered: his lock, or why he has none.
fn adopt(world: &mut World, previous: PreviousOwner) -> Result<OperationId, AttemptFailure> {
    let adoption = world.start_adoption(BOB, previous);
    world.deliver_all();
    if world.is_valid(BOB, adoption) {
        return Ok(adoption);
    }
    Err(world.take_failure(BOB).expect("an outcome"))
}

fn nodes_with_key_of(world: &World, lock: OperationId) -> usize {
    (0..world.servers.len()).filter(|node| world.has_key_of(*node, lock)).count()
}

#[test]
fn a_lock_is_adopted_by_another_client() {
    for nodes in [1, 3, 4, 5] {
        for mut world in worlds(nodes) {
            let (lock, previous) = handed_over(&mut world);
            // The previous process renews no more and releases no key.
            world.run_for(TTL * 6 / 10);
            assert_eq!(nodes_with_key_of(&world, lock), nodes);
            let adopted = adopt(&mut world, previous).expect("a quorum of its keys is there");
            assert_eq!(nodes_with_key_of(&world, adopted), nodes);
            if let Some(number) = previous.fencing_number {
                assert!(world.fencing_number(BOB, adopted) > number);
            }
            // The new lease renews itself like any other.
            world.run_for(TTL * 3);
            assert!(world.is_valid(BOB, adopted) && world.overlap.is_none());
            world.release(BOB, adopted);
            world.deliver_all();
            assert_eq!(world.key_count(), 0);
            world.acquire(ALICE);
        }
    }
}

#[test]
fn a_lock_can_be_handed_on_again() {
    for mut world in worlds(3) {
        let (_, mut previous) = handed_over(&mut world);
        let mut last_number = previous.fencing_number;
        for _ in 0..3 {
            let adopted = adopt(&mut world, previous).expect("held");
            world.advance_clock(ms(1));
            previous = world.hand_over(BOB, adopted).expect("held").owner;
            assert!(previous.fencing_number > last_number || last_number.is_none());
            last_number = previous.fencing_number;
        }
    }
}

/// Each node runs the requests in its own order.
#[test]
fn one_of_two_adopters_gets_the_lock_at_most() {
    for nodes in [3, 4, 5] {
        for order in 0..1_u32 << nodes {
            for mut world in worlds(nodes) {
                let (lock, previous) = handed_over(&mut world);
                let adoptions = [ALICE, BOB].map(|client| world.start_adoption(client, previous));
                for node in 0..nodes {
                    let first = (order >> node & 1) as usize;
                    assert!(world.deliver_request(first, node) && world.deliver_request(1 - first, node));
                }
                world.deliver_all();
                let winners: Vec<usize> = [ALICE, BOB]
                    .into_iter()
                    .filter(|client| world.is_valid(*client, adoptions[*client]))
                    .collect();
                let firsts = [nodes - order.count_ones() as usize, order.count_ones() as usize];
                let expected: Vec<usize> = [ALICE, BOB]
                    .into_iter()
                    .filter(|client| world.quorum().is_met(firsts[*client]))
                    .collect();
                assert_eq!(winners, expected, "{nodes} nodes, order {order:b}");
                assert!(world.overlap.is_none());
                for client in [ALICE, BOB].into_iter().filter(|client| !winners.contains(client)) {
                    let failure = world.take_failure(client).expect("it failed");
                    assert_eq!(failure.reason, FailureReason::NotHeld);
                    // What it took from the ticket's lock is released.
                    assert_eq!(nodes_with_key_of(&world, adoptions[client]), 0);
                    assert_eq!(world.pending_releases(client), 0);
                }
                assert_eq!(nodes_with_key_of(&world, lock), 0);
            }
        }
    }
}

#[test]
fn a_lock_that_has_ended_is_not_adopted() {
    for mut world in worlds(3) {
        let (_, previous) = handed_over(&mut world);
        world.run_for(TTL + ms(1));
        let failure = adopt(&mut world, previous).expect_err("expired");
        assert_eq!(failure.reason, FailureReason::NotHeld);
        assert_eq!(failure.votes[..2], vec![Vote::NotHeld; 2]);
        assert_eq!((world.key_count(), world.pending_releases(BOB)), (0, 0));
        // Another client has it by now.
        let lock = world.acquire(ALICE);
        assert_eq!(adopt(&mut world, previous).expect_err("held by another").reason, FailureReason::NotHeld);
        assert!(world.is_valid(ALICE, lock) && nodes_with_key_of(&world, lock) == 3);
    }
}

#[test]
fn a_missing_key_is_no_grant() {
    for (nodes, missing) in [(3, 1), (3, 2), (5, 2), (5, 3), (4, 1), (4, 2)] {
        for mut world in worlds(nodes) {
            let (lock, previous) = handed_over(&mut world);
            (0..missing).for_each(|node| world.delete_key(node));
            let outcome = adopt(&mut world, previous);
            if !world.quorum().is_met(nodes - missing) {
                assert_eq!(outcome.expect_err("no quorum").reason, FailureReason::NotHeld);
                assert_eq!((world.key_count(), nodes_with_key_of(&world, lock)), (0, 0));
                continue;
            }
            let adopted = outcome.expect("a quorum of its keys is there");
            assert_eq!(nodes_with_key_of(&world, adopted), nodes - missing);
            // The renewals set the missing keys again.
            world.run_for(TTL);
            assert_eq!(nodes_with_key_of(&world, adopted), nodes);
        }
    }
}

#[test]
fn a_lost_lock_is_not_handed_over() {
    for mut world in worlds(3) {
        let lock = world.acquire(ALICE);
        (0..3).for_each(|node| world.disconnect(ALICE, node));
        // Its timer has not fired, but its deadline has passed.
        world.advance_clock(TTL);
        assert_eq!(world.hand_over(ALICE, lock), None);
        world.wake(ALICE);
        assert!(world.take_loss(ALICE).is_some());
        assert_eq!(world.hand_over(ALICE, lock), None);
        world.release(ALICE, lock);
        assert_eq!(world.hand_over(ALICE, lock), None);
    }
}

/// A renewal is in flight when the lock is handed over. Each node runs it before or after the adoption.
#[test]
fn a_renewal_of_the_previous_holder_does_not_affect_an_adoption() {
    for order in 0..1_u32 << 3 {
        for mut world in worlds(3) {
            let lock = world.acquire(ALICE);
            world.run_timers_for(TTL / 3 + ms(1));
            assert_eq!(world.undelivered(ALICE, 0), [RequestKind::Renew]);
            let previous = world.hand_over(ALICE, lock).expect("held").owner;
            world.take_events(ALICE);
            let adopted = world.start_adoption(BOB, previous);
            for node in 0..3 {
                let clients = if order >> node & 1 == 0 { [ALICE, BOB] } else { [BOB, ALICE] };
                assert!(clients.into_iter().all(|client| world.deliver_request(client, node)));
            }
            world.deliver_all();
            assert!(world.is_valid(BOB, adopted) && nodes_with_key_of(&world, adopted) == 3);
            assert!(world.is_nothing_in_flight(ALICE) && world.take_events(ALICE).is_empty());
        }
    }
}

#[test]
fn late_requests_of_the_previous_holder_are_rejected() {
    for mut world in worlds(3) {
        let lock = world.acquire(ALICE);
        world.run_timers_for(TTL / 3 + ms(1));
        let previous = world.hand_over(ALICE, lock).expect("held").owner;
        // The renewals were written to connections that break now; they arrive after the adoption.
        (0..3).for_each(|node| world.disconnect_leaving(ALICE, node, 1));
        let adopted = adopt(&mut world, previous).expect("held");
        let before: Vec<_> = (0..3).map(|node| (world.fence(node), world.remaining_ttl(node))).collect();
        (0..3).for_each(|node| assert!(world.deliver_orphan(node)));
        let after: Vec<_> = (0..3).map(|node| (world.fence(node), world.remaining_ttl(node))).collect();
        assert_eq!(before, after);
        world.run_for(TTL * 2);
        assert!(world.is_valid(BOB, adopted) && nodes_with_key_of(&world, adopted) == 3);
    }
}

/// After the ticket's lock has ended on a quorum, another client has it. Then late requests of the previous holder
/// set its keys on so many nodes that a quorum has them.
fn with_a_gap(mut world: World) -> (World, PreviousOwner) {
    let lock = world.start_acquire(ALICE);
    (0..3).for_each(|node| assert!(world.round_trip(ALICE, node)));
    assert!(world.is_valid(ALICE, lock), "granted by three of five");
    (3..5).for_each(|node| world.disconnect_leaving(ALICE, node, 1));
    world.run_for(ms(3_300));
    world.run_timers_for(ms(34));
    // The renewal reaches only one node.
    while world.round_trip(ALICE, 0) {}
    (0..3).for_each(|node| world.disconnect(ALICE, node));
    let previous = world.hand_over(ALICE, lock).expect("valid until its old deadline").owner;
    world.run_for(TTL * 7 / 10);
    assert!(world.has_key_of(0, lock) && world.key_count() == 1, "the keys of the other nodes have expired");
    let between = world.acquire(BOB);
    world.release(BOB, between);
    world.deliver_all();
    (3..5).for_each(|node| assert!(world.deliver_orphan(node)));
    assert_eq!(nodes_with_key_of(&world, lock), 3, "a quorum has the keys of the previous holder");
    (world, previous)
}

#[test]
fn a_lock_that_another_client_had_in_between_is_not_adopted() {
    let (mut world, previous) = with_a_gap(World::fenced(5));
    let failure = adopt(&mut world, previous).expect_err("another client had it");
    assert_eq!(failure.reason, FailureReason::NotHeld);
    let larger = failure.votes.iter().filter(|vote| matches!(vote, Vote::FencedOut { .. })).count();
    assert!(larger >= 1, "{:?}", failure.votes);
    assert_eq!(world.key_count(), 0);
}

/// Plain locks have no number that would show it. Still at most one client holds the lock.
#[test]
fn in_plain_mode_late_requests_can_hide_that_another_client_had_the_lock() {
    let (mut world, previous) = with_a_gap(World::new(5));
    let adopted = adopt(&mut world, previous).expect("a quorum has the keys");
    assert!(world.overlap.is_none());
    world.run_for(TTL * 2);
    assert!(world.is_valid(BOB, adopted) && nodes_with_key_of(&world, adopted) == 5);
}

#[test]
fn a_node_with_a_larger_fence_counts_after_the_first_renewal() {
    let mut world = World::fenced(3);
    let (_, previous) = handed_over(&mut world);
    let number = previous.fencing_number.expect("fenced");
    // A failed attempt of another client left it.
    world.set_fence(2, &(number + 1).to_string());
    world.disconnect(BOB, 0);
    let failure = adopt(&mut world, previous).expect_err("only one node proves it");
    assert_eq!(failure.reason, FailureReason::NoQuorum);

    let mut world = World::fenced(3);
    let (_, previous) = handed_over(&mut world);
    world.set_fence(2, &(number + 1).to_string());
    let adopted = adopt(&mut world, previous).expect("two nodes prove it");
    assert_eq!(nodes_with_key_of(&world, adopted), 3);
    world.run_for(TTL / 3);
    assert_eq!(world.fence(2), Some(world.fencing_number(BOB, adopted)));
    world.disconnect(BOB, 0);
    world.run_for(TTL * 2);
    assert!(world.is_valid(BOB, adopted), "the third node counts");
}

#[test]
fn a_failed_adoption_releases_what_it_took() {
    for mut world in worlds(3) {
        let (lock, previous) = handed_over(&mut world);
        (1..3).for_each(|node| world.servers[node].hangs = true);
        let adoption = world.start_adoption(BOB, previous);
        world.deliver_all();
        world.run_for(ms(600));
        let failure = world.take_failure(BOB).expect("one grant is no quorum");
        assert_eq!(failure.reason, FailureReason::NoQuorum);
        assert_eq!((nodes_with_key_of(&world, adoption), nodes_with_key_of(&world, lock)), (0, 2));
        // The late requests of the failed adoption, each with its release behind it.
        (1..3).for_each(|node| world.servers[node].hangs = false);
        world.deliver_all();
        assert_eq!((world.key_count(), world.pending_releases(BOB)), (0, 0));
    }
}

/// The nodes that were not reached still have the keys.
#[test]
fn an_adoption_can_be_repeated_while_a_quorum_has_the_keys() {
    for mut world in worlds(3) {
        let (_, previous) = handed_over(&mut world);
        (0..3).for_each(|node| world.disconnect(BOB, node));
        let failure = adopt(&mut world, previous).expect_err("no node is connected");
        assert_eq!(failure.reason, FailureReason::NoQuorum);
        (0..3).for_each(|node| world.connect(BOB, node));
        world.deliver_all();
        adopt(&mut world, previous).expect("the keys are there");
    }
}

#[test]
fn a_cancelled_adoption_leaves_no_key() {
    for delivered in 0..=3 {
        for mut world in worlds(3) {
            let (lock, previous) = handed_over(&mut world);
            let adoption = world.start_adoption(BOB, previous);
            (0..delivered).for_each(|node| assert!(world.deliver_request(BOB, node)));
            world.cancel(BOB, adoption);
            world.deliver_all();
            assert_eq!((nodes_with_key_of(&world, adoption), world.pending_releases(BOB)), (0, 0));
            assert_eq!(nodes_with_key_of(&world, lock), 0, "each request was sent, and its release");
        }
    }
}

#[test]
fn a_node_on_probation_does_not_count() {
    let mut world = World::fenced(3);
    let (lock, previous) = handed_over(&mut world);
    // The keys survive, but the node cannot prove that.
    for node in 0..2 {
        let data = world.servers[node].node.data().clone();
        world.restart(node, data);
        world.connect(BOB, node);
    }
    world.run_for(SETTLING);
    let failure = adopt(&mut world, previous).expect_err("one node votes");
    assert!(matches!(failure.reason, FailureReason::OnProbation { .. }), "{failure:?}");
    assert!(world.has_key_of(0, lock) && world.has_key_of(1, lock));
    world.run_for(MAX_TTL + ms(1_000));
    assert_eq!(adopt(&mut world, previous).expect_err("expired").reason, FailureReason::NotHeld);
}

#[test]
fn a_late_grant_counts_for_the_adopted_lock() {
    for mut world in worlds(3) {
        let (_, previous) = handed_over(&mut world);
        let adopted = world.start_adoption(BOB, previous);
        (0..2).for_each(|node| assert!(world.round_trip(BOB, node)));
        // With fences, a raise may follow.
        assert!(world.is_valid(BOB, adopted), "two of three");
        world.deliver_all();
        assert_eq!(nodes_with_key_of(&world, adopted), 3);
        world.disconnect(BOB, 0);
        world.run_for(TTL * 2);
        assert!(world.is_valid(BOB, adopted));
    }
}

/// A node's clock is an hour behind, so that it gives another number.
#[test]
fn an_adoption_raises_the_fences_to_its_number() {
    for behind in 0..3 {
        let clocks: Vec<i64> = (0..3).map(|node| if node == behind { 0 } else { 3_600_000 }).collect();
        let mut world = super::fencing::world_with_clocks_ahead(3, None, &clocks);
        let (_, previous) = handed_over(&mut world);
        let adopted = adopt(&mut world, previous).expect("held");
        world.run_for(TTL);
        let number = world.fencing_number(BOB, adopted);
        assert!(number > previous.fencing_number.expect("fenced"));
        assert_eq!((0..3).map(|node| world.fence(node)).collect::<Vec<_>>(), vec![Some(number); 3]);
    }
}

/// The nodes may have dropped their numbers, and their clocks may be behind the number of the ticket.
#[test]
fn an_adopted_lock_has_a_larger_number_than_its_ticket_whatever_the_nodes_know() {
    for is_fence_lost in [false, true] {
        let mut world = World::fenced(3);
        let (_, previous) = handed_over(&mut world);
        if is_fence_lost {
            let fence = DataKey::Fence(Key::new(KEY));
            (0..3).for_each(|node| drop(world.servers[node].node.data_mut().remove(&fence)));
        }
        let number = previous.fencing_number.expect("fenced") + 3_600_000_000;
        let adopted = adopt(&mut world, PreviousOwner { fencing_number: Some(number), ..previous });
        assert_eq!(world.fencing_number(BOB, adopted.expect("held")), number + 1);
    }
}
