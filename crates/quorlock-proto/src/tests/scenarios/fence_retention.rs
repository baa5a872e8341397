//! Fence retention: fencing numbers grow although nodes delete unused fences after an hour.
//!
//! They grow however far the node clocks are apart, and when clocks are set back. Each client is a new
//! process, as `quorlock run` is, so it knows the past only from the nodes.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::fencing::take_fencing_number_and_rounds;
use super::helpers::{SETTLING, is_member, marker, restart_client};
use crate::coordinator::OperationEvent;
use crate::lease::LossReason;
use crate::marker::default_retention;
use crate::mutant::{Mutant, with};
use crate::request::RequestKind;
use crate::test_util::node::ScriptMutant;
use crate::tests::world::{ALICE, AcquireOptions, BOB, MAX_TTL, World, ms};
use crate::vote::Vote;

const NODES: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);

/// A new client connects to the nodes, may acquire the lock, and may forget the key.
#[derive(Clone, Debug)]
struct Visit {
    /// The time since the previous visit.
    after: Duration,
    /// The node that the client cannot reach; `NODES` for none.
    unreachable_node: usize,
    acquires: bool,
    /// Whether it then forgets the key.
    forgets: bool,
    /// Before the visit, this node's clock is set back by this much.
    set_back: Option<(usize, Duration)>,
}

fn visits(sets_back: bool) -> impl Strategy<Value = Vec<Visit>> {
    let minutes = |limit: u64| (0..limit).prop_map(|minutes| Duration::from_secs(minutes * 60 + 1));
    // With set-backs, each marker is read often enough. Most visits acquire nothing, so that fences expire.
    let (after, acquires) = if sets_back { (minutes(20), 0.2) } else { (minutes(300), 1.0) };
    let set_back = prop::option::weighted(0.1, (0..NODES, minutes(300)));
    let flags = (prop::bool::weighted(acquires), prop::bool::weighted(0.3));
    let visit = (after, 0..=NODES, flags, set_back).prop_map(
        move |(after, unreachable_node, (acquires, forgets), set_back)| {
            // Forgetting shortens the time for which a set-back is covered.
            let (set_back, forgets) = (set_back.filter(|_| sets_back), forgets && !sets_back);
            Visit { after, unreachable_node, acquires, forgets, set_back }
        },
    );
    prop::collection::vec(visit, 1..100)
}

fn clock_offsets() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(-26 * 3600..26 * 3600_i64, NODES)
}

/// Runs the visits. Returns the number of locks, or the first two fencing numbers out of order.
fn run_visits(ahead_secs: &[i64], visits: &[Visit], mistake: Option<ScriptMutant>) -> Result<usize, String> {
    let mut world = World::unconnected(NODES, None, 1, Some(MAX_TTL));
    for (node, ahead) in ahead_secs.iter().enumerate() {
        world.shift_clock(node, ahead * 1_000);
        world.servers[node].node.mutant = mistake;
    }
    world.initialize_nodes();
    // Later times than that in the marker, so that it shows no set-back.
    world.advance_clock(HOUR * 100);
    let (mut numbers, mut since_reading) = (Vec::new(), [Duration::MAX; NODES]);
    for visit in visits {
        world.advance_clock(visit.after);
        since_reading = since_reading.map(|since_reading| since_reading.saturating_add(visit.after));
        if let Some((node, by)) = visit.set_back {
            // A marker reading detects a set-back by the time that the previous reading noted.
            if since_reading[node] < default_retention(MAX_TTL) / 2 - ms(1_000) {
                world.shift_clock(node, -(by.as_millis() as i64));
                since_reading[node] = Duration::MAX;
            }
        }
        replace_client(&mut world, visit.unreachable_node);
        (0..NODES)
            .filter(|node| *node != visit.unreachable_node)
            .for_each(|node| since_reading[node] = Duration::ZERO);
        if visit.acquires {
            let lock = world.start_acquire(ALICE);
            world.deliver_all();
            if let Some((number, _)) = take_fencing_number_and_rounds(&mut world, ALICE) {
                numbers.push(number);
                world.release(ALICE, lock);
                world.deliver_all();
            }
        }
        if visit.forgets {
            world.survey(ALICE, RequestKind::Forget);
            world.deliver_all();
        }
    }
    match numbers.windows(2).find(|pair| pair[1] <= pair[0]) {
        Some(pair) => Err(format!("{} after {}", pair[1], pair[0])),
        None => Ok(numbers.len()),
    }
}

/// One client, and initialized nodes whose clocks are ahead by this many milliseconds.
fn world_with_clocks_ahead(ahead_millis: &[i64]) -> World {
    let mut world = World::unconnected(NODES, None, 1, Some(MAX_TTL));
    ahead_millis.iter().enumerate().for_each(|(node, ahead)| world.shift_clock(node, *ahead));
    world.initialize_nodes();
    (0..NODES).for_each(|node| world.connect(ALICE, node));
    world.deliver_all();
    world
}

/// Replaces the client by a new one that connects to all nodes but this one.
fn replace_client(world: &mut World, unreachable_node: usize) {
    restart_client(world, ALICE, (0..NODES).filter(|node| *node != unreachable_node));
    world.deliver_all();
    // A server whose clock was set back needs another seat.
    if (0..NODES).any(|node| node != unreachable_node && !is_member(world, node)) {
        world.run_for(SETTLING);
    }
}

proptest! {
    #[test]
    fn fencing_numbers_grow_however_far_clocks_are_apart(ahead in clock_offsets(), visits in visits(false)) {
        prop_assert_eq!(run_visits(&ahead, &visits, None), Ok(visits.len()), "one lock per client");
    }

    #[test]
    fn fencing_numbers_grow_although_clocks_are_set_back(ahead in clock_offsets(), visits in visits(true)) {
        let outcome = run_visits(&ahead, &visits, None);
        prop_assert!(outcome.is_ok(), "{:?}", outcome);
    }
}

/// Asserts that one of 1000 deterministic random runs detects the mistake.
fn assert_caught(sets_back: bool, mistake: Option<ScriptMutant>, mutant: Option<Mutant>) {
    let (mut runner, inputs) = (TestRunner::deterministic(), (clock_offsets(), visits(sets_back)));
    let detected = (0..1_000).find_map(|after| {
        let (ahead, visits) = inputs.new_tree(&mut runner).expect("a run").current();
        let outcome = with(mutant, || run_visits(&ahead, &visits, mistake));
        outcome.err().map(|message| (after, message))
    });
    println!("detected after {:?}", detected.expect("the mistake is detected"));
}

#[test]
fn mutant_future_fence_forgotten() {
    assert_caught(false, Some(ScriptMutant::HighestAheadNotStored), None);
}

#[test]
fn mutant_set_back_ignored() {
    assert_caught(true, None, Some(Mutant::IgnoresClockSetBack));
}

/// The counterexample to a fixed retention time. No clock is set back.
#[test]
fn a_fence_in_the_future_is_kept_until_the_clocks_have_passed_it() {
    let visit = |after, unreachable_node| Visit {
        after,
        unreachable_node,
        acquires: true,
        forgets: false,
        set_back: None,
    };
    let visits = [visit(HOUR, 2), visit(HOUR * 11 / 10, 0)];
    assert_eq!(run_visits(&[7_200, 0, 0], &visits, None), Ok(2));
    assert!(run_visits(&[7_200, 0, 0], &visits, Some(ScriptMutant::HighestAheadNotStored)).is_err());
}

#[test]
fn a_clock_set_back_far_continues_from_its_last_noted_time() {
    let mut world = World::fenced(NODES);
    world.run_for(ms(31_000));
    let before = world.servers[0].node.clock_micros(world.now(ALICE).boot_nanos());
    world.shift_clock(0, -2 * 3_600_000);
    replace_client(&mut world, NODES);
    let base = marker(&world, 0).expect("a marker").base_micros;
    assert!(
        base <= before && before - base < 10_000_000,
        "the base {base} is the last noted time, shortly before {before}"
    );
    assert_eq!(marker(&world, 1).map(|marker| marker.base_micros), Some(0));
    // A set-back of less than half the retention time does not move the base.
    let mut world = World::fenced(NODES);
    world.advance_clock(HOUR);
    replace_client(&mut world, NODES);
    world.shift_clock(0, -1_000_000);
    replace_client(&mut world, NODES);
    assert_eq!(marker(&world, 0).map(|marker| marker.base_micros), Some(0));
}

/// The counterexample to retention by the node clock alone.
#[test]
fn fencing_numbers_grow_after_a_set_back_although_the_fence_has_expired() {
    let marker_reading =
        Visit { after: HOUR / 6, unreachable_node: NODES, acquires: false, forgets: false, set_back: None };
    let mut visits = vec![Visit { unreachable_node: 2, acquires: true, ..marker_reading.clone() }];
    visits.extend((0..8).map(|_| marker_reading.clone()));
    visits.push(Visit {
        unreachable_node: 1,
        acquires: true,
        set_back: Some((0, HOUR * 2)),
        ..marker_reading.clone()
    });
    // The server with the set-back takes another seat, for which all nodes are needed, and is on probation.
    visits.push(Visit { after: MAX_TTL, ..marker_reading.clone() });
    visits.push(Visit { unreachable_node: 1, acquires: true, after: MAX_TTL * 2, ..marker_reading });
    let run = || run_visits(&[36_000, 0, 0], &visits, None);
    assert_eq!(run(), Ok(2));
    assert!(with(Some(Mutant::IgnoresClockSetBack), run).is_err());
}

#[test]
fn a_forgotten_fence_is_deleted_once_all_clocks_have_passed_it() {
    let mut world = world_with_clocks_ahead(&[0, 1_000, 0]);
    let lock = world.acquire(ALICE);
    world.survey(ALICE, RequestKind::Forget);
    world.deliver_all();
    let survey_votes = world.take_events(ALICE).into_iter().find_map(|event| match event {
        OperationEvent::Surveyed(votes) => Some(votes),
        _ => None,
    });
    assert!(
        survey_votes.is_some_and(|votes| votes.iter().all(|vote| matches!(vote, Vote::HeldByOther { .. })))
    );
    let before = world.fencing_number(ALICE, lock);
    world.release(ALICE, lock);
    world.deliver_all();
    world.survey(ALICE, RequestKind::Forget);
    world.deliver_all();
    assert!((0..NODES).all(|node| world.fence(node) == Some(before)), "no clock has passed the fence");
    // A lock acquired meanwhile keeps the fence.
    let lock = world.acquire(ALICE);
    assert!(world.fencing_number(ALICE, lock) > before);
    world.release(ALICE, lock);
    world.run_for(MAX_TTL * 3);
    assert!((0..NODES).all(|node| world.fence(node).is_some()));
    world.survey(ALICE, RequestKind::Forget);
    world.deliver_all();
    assert!((0..NODES).all(|node| world.fence(node).is_none()));
}

#[test]
fn a_connected_client_does_not_count_the_reply_that_reveals_a_set_back() {
    let mut world = world_with_clocks_ahead(&[36_000_000, 0, 0]);
    world.disconnect(ALICE, 2);
    let lock = world.acquire(ALICE);
    let before = world.fencing_number(ALICE, lock);
    world.release(ALICE, lock);
    world.connect(ALICE, 2);
    world.run_for(HOUR * 4 / 3);
    assert_eq!((world.fence(0), world.fence(1)), (None, None), "both fences have expired after 80 minutes");
    world.disconnect(ALICE, 1);
    world.shift_clock(0, -7_200_000);
    let lock = world.start_acquire(ALICE);
    world.deliver_all();
    assert_eq!(
        take_fencing_number_and_rounds(&mut world, ALICE),
        None,
        "the reply that reveals the set-back does not count"
    );
    world.cancel(ALICE, lock);
    world.run_for(MAX_TTL);
    assert!(!is_member(&world, 0), "two of the members are needed to give it another seat");
    world.connect(ALICE, 1);
    world.run_for(MAX_TTL * 3);
    let lock = world.acquire(ALICE);
    assert!(world.fencing_number(ALICE, lock) > before);
}

/// One clock was far ahead for a moment. Fencing numbers continue from there; retention stays the usual.
#[test]
fn one_clock_far_ahead_does_not_prolong_retention() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let mut world = world_with_clocks_ahead(&[0, YEAR.as_millis() as i64, 0]);
    let lock = world.acquire(ALICE);
    let before = world.fencing_number(ALICE, lock);
    world.release(ALICE, lock);
    world.deliver_all();
    world.shift_clock(1, -(YEAR.as_millis() as i64));
    restart_client(&mut world, ALICE, 0..NODES);
    world.run_for(MAX_TTL * 3);
    assert!((0..NODES).all(|node| world.fence(node).is_some()));
    world.survey(ALICE, RequestKind::Forget);
    world.deliver_all();
    world.run_for(MAX_TTL * 2);
    assert!(
        (0..NODES).all(|node| world.fence(node).is_none()),
        "deleted within the max ttl after the request to forget"
    );
    let lock = world.acquire(ALICE);
    assert!(world.fencing_number(ALICE, lock) > before);
    world.release(ALICE, lock);
    world.deliver_all();
    world.run_for(HOUR + ms(1_000));
    assert!(
        (0..NODES).all(|node| world.fence(node).is_none()),
        "deleted within an hour without a request to forget"
    );
}

#[test]
fn a_force_released_and_forgotten_lock_is_not_reacquired_by_its_old_holder() {
    let mut world = World::fenced(NODES);
    let lock = world.acquire_with(ALICE, AcquireOptions { ttl: MAX_TTL, ..AcquireOptions::default() });
    world.run_for(MAX_TTL * 2);
    world.take_events(ALICE);
    for kind in [RequestKind::ForceRelease, RequestKind::Forget] {
        world.survey(BOB, kind);
        world.deliver_all();
    }
    world.run_for(MAX_TTL);
    assert!(!world.is_valid(ALICE, lock));
    assert_eq!((world.take_loss(ALICE), world.key_count()), (Some(LossReason::TakenByOthers), 0));
}
