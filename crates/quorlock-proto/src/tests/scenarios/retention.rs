//! Numbers grow although nodes forget them after an hour: however far clocks are apart, and when they are set back.
//!
//! Every client is a new one that knows nothing, as `quorlock run` is: all that tells it of the past is on the nodes.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::fencing::won;
use super::memory::{marker, meet_again};
use crate::coordinator::OperationEvent;
use crate::lease::LossReason;
use crate::marker::default_retention;
use crate::mutant::{Mutant, with};
use crate::request::RequestKind;
use crate::test_util::node::ScriptMutant;
use crate::tests::world::{ALICE, BOB, MAX_TTL, Wish, World, ms};
use crate::vote::Vote;

const NODES: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);

/// A client comes after a while, looks at the nodes that it reaches, and may take the lock.
#[derive(Clone, Debug)]
struct Visit {
    after: Duration,
    /// The node that it does not reach, if there is one of this number.
    misses: usize,
    takes: bool,
    /// It has the name forgotten, after that.
    forgets: bool,
    /// Before it comes, this node's clock is set back by so much.
    set_back: Option<(usize, Duration)>,
}

fn visits(sets_back: bool) -> impl Strategy<Value = Vec<Visit>> {
    let minutes = |most: u64| (0..most).prop_map(|minutes| Duration::from_secs(minutes * 60 + 1));
    // Where clocks are set, each node is looked at often enough, and most visits leave the fences to run out.
    let (after, takes) = if sets_back { (minutes(20), 0.2) } else { (minutes(300), 1.0) };
    let set_back = prop::option::weighted(0.1, (0..NODES, minutes(300)));
    let chances = (prop::bool::weighted(takes), prop::bool::weighted(0.3));
    let visit =
        (after, 0..=NODES, chances, set_back).prop_map(move |(after, misses, (takes, forgets), set_back)| {
            // A name that is forgotten sooner is known for less long after its clock was set back.
            let (set_back, forgets) = (set_back.filter(|_| sets_back), forgets && !sets_back);
            Visit { after, misses, takes, forgets, set_back }
        });
    prop::collection::vec(visit, 1..100)
}

fn apart() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(-26 * 3600..26 * 3600_i64, NODES)
}

/// Lives it through. How many locks were had, or two numbers that are not in order.
fn live(ahead_secs: &[i64], visits: &[Visit], mistake: Option<ScriptMutant>) -> Result<usize, String> {
    let mut world = World::unconnected(NODES, None, 1, Some(MAX_TTL));
    for (node, ahead) in ahead_secs.iter().enumerate() {
        world.set_clock(node, ahead * 1_000);
        world.servers[node].node.mutant = mistake;
    }
    world.declare();
    // The time in the marker shows no set-back.
    world.pass(HOUR * 100);
    let (mut numbers, mut unseen) = (Vec::new(), [Duration::MAX; NODES]);
    for visit in visits {
        world.pass(visit.after);
        unseen = unseen.map(|unseen| unseen.saturating_add(visit.after));
        if let Some((node, by)) = visit.set_back {
            // A set-back is seen by a look at what the last one noted.
            if unseen[node] < default_retention(MAX_TTL) / 2 - ms(1_000) {
                world.set_clock(node, -(by.as_millis() as i64));
                unseen[node] = Duration::MAX;
            }
        }
        begin_again(&mut world, visit.misses);
        (0..NODES).filter(|node| *node != visit.misses).for_each(|node| unseen[node] = Duration::ZERO);
        if visit.takes {
            let lock = world.acquire(ALICE);
            world.drive();
            if let Some((number, _)) = won(&mut world, ALICE) {
                numbers.push(number);
                world.release(ALICE, lock);
                world.drive();
            }
        }
        if visit.forgets {
            world.survey(ALICE, RequestKind::Forget);
            world.drive();
        }
    }
    match numbers.windows(2).find(|pair| pair[1] <= pair[0]) {
        Some(pair) => Err(format!("{} after {}", pair[1], pair[0])),
        None => Ok(numbers.len()),
    }
}

/// A client, and nodes whose clocks are ahead by so many milliseconds.
fn apart_by(ahead_millis: &[i64]) -> World {
    let mut world = World::unconnected(NODES, None, 1, Some(MAX_TTL));
    ahead_millis.iter().enumerate().for_each(|(node, ahead)| world.set_clock(node, *ahead));
    world.declare();
    (0..NODES).for_each(|node| world.connect(ALICE, node));
    world.drive();
    world
}

/// Another client, which reaches all nodes but this.
fn begin_again(world: &mut World, misses: usize) {
    meet_again(world, ALICE, (0..NODES).filter(|node| *node != misses));
    world.drive();
}

proptest! {
    #[test]
    fn numbers_grow_however_far_clocks_are_apart(ahead in apart(), visits in visits(false)) {
        prop_assert_eq!(live(&ahead, &visits, None), Ok(visits.len()), "every client had the lock");
    }

    #[test]
    fn numbers_grow_though_clocks_are_set_back(ahead in apart(), visits in visits(true)) {
        let had = live(&ahead, &visits, None);
        prop_assert!(had.is_ok(), "{:?}", had);
    }
}

/// After so many random lives, always the same ones.
fn is_caught(sets_back: bool, mistake: Option<ScriptMutant>, mutant: Option<Mutant>) {
    let (mut runner, lives) = (TestRunner::deterministic(), (apart(), visits(sets_back)));
    let caught = (0..1_000).find_map(|after| {
        let (ahead, visits) = lives.new_tree(&mut runner).expect("a life").current();
        let outcome = with(mutant, || live(&ahead, &visits, mistake));
        outcome.err().map(|words| (after, words))
    });
    println!("caught after {:?}", caught.expect("the mistake is caught"));
}

#[test]
fn mutant_high_forgotten() {
    is_caught(false, Some(ScriptMutant::HighestAheadNotStored), None);
}

#[test]
fn mutant_set_back_ignored() {
    is_caught(true, None, Some(Mutant::IgnoresClockSetBack));
}

/// The counterexample to the simple rule: no clock is ever set.
#[test]
fn a_number_of_a_node_two_hours_ahead_is_kept_until_clocks_have_passed_it() {
    let visit = |after, misses| Visit { after, misses, takes: true, forgets: false, set_back: None };
    let visits = [visit(HOUR, 2), visit(HOUR * 11 / 10, 0)];
    assert_eq!(live(&[7_200, 0, 0], &visits, None), Ok(2));
    assert!(live(&[7_200, 0, 0], &visits, Some(ScriptMutant::HighestAheadNotStored)).is_err());
}

#[test]
fn a_clock_that_is_set_back_far_begins_where_it_had_come() {
    let mut world = World::fenced(NODES);
    world.live(ms(31_000));
    let before = world.servers[0].node.clock_micros(world.now(ALICE).boot_nanos());
    world.set_clock(0, -2 * 3_600_000);
    begin_again(&mut world, NODES);
    let base = marker(&world, 0).expect("a marker").base_micros;
    assert!(
        base <= before && before - base < 10_000_000,
        "{base} is where it was noted last, {before} where it was"
    );
    assert_eq!(marker(&world, 1).map(|marker| marker.base_micros), Some(0));
    // Less than half of what fences are kept for is none of its business.
    let mut world = World::fenced(NODES);
    world.pass(HOUR);
    begin_again(&mut world, NODES);
    world.set_clock(0, -1_000_000);
    begin_again(&mut world, NODES);
    assert_eq!(marker(&world, 0).map(|marker| marker.base_micros), Some(0));
}

/// The counterexample to retention by the clock alone.
#[test]
fn what_a_node_gave_before_its_clock_was_set_back_is_known_when_its_fence_is_gone() {
    let looks = Visit { after: HOUR / 6, misses: NODES, takes: false, forgets: false, set_back: None };
    let mut visits = vec![Visit { misses: 2, takes: true, ..looks.clone() }];
    visits.extend((0..8).map(|_| looks.clone()));
    visits.push(Visit { misses: 1, takes: true, set_back: Some((0, HOUR * 2)), ..looks.clone() });
    // The node is on probation, so that the last one has to come again.
    visits.push(Visit { misses: 1, takes: true, after: MAX_TTL * 2, ..looks });
    let live = || live(&[36_000, 0, 0], &visits, None);
    assert_eq!(live(), Ok(2));
    assert!(with(Some(Mutant::IgnoresClockSetBack), live).is_err());
}

#[test]
fn a_name_that_is_forgotten_is_gone_when_clocks_have_passed_its_number() {
    let mut world = apart_by(&[0, 1_000, 0]);
    let lock = world.hold(ALICE);
    world.survey(ALICE, RequestKind::Forget);
    world.drive();
    let surveyed = world.event(ALICE).into_iter().find_map(|event| match event {
        OperationEvent::Surveyed(votes) => Some(votes),
        _ => None,
    });
    assert!(surveyed.is_some_and(|votes| votes.iter().all(|vote| matches!(vote, Vote::HeldByOther { .. }))));
    let before = world.number(ALICE, lock);
    world.release(ALICE, lock);
    world.drive();
    world.survey(ALICE, RequestKind::Forget);
    world.drive();
    assert!((0..NODES).all(|node| world.fence(node) == Some(before)), "no clock has passed it");
    // Taken again meanwhile, it is kept as ever.
    let lock = world.hold(ALICE);
    assert!(world.number(ALICE, lock) > before);
    world.release(ALICE, lock);
    world.live(MAX_TTL * 3);
    assert!((0..NODES).all(|node| world.fence(node).is_some()));
    world.survey(ALICE, RequestKind::Forget);
    world.drive();
    assert!((0..NODES).all(|node| world.fence(node).is_none()));
}

#[test]
fn a_client_that_stays_sees_a_clock_that_is_set_back_in_the_very_answer() {
    let mut world = apart_by(&[36_000_000, 0, 0]);
    world.cut(ALICE, 2);
    let lock = world.hold(ALICE);
    let before = world.number(ALICE, lock);
    world.release(ALICE, lock);
    world.live(HOUR * 4 / 3);
    assert_eq!((world.fence(0), world.fence(1)), (None, None), "80 minutes later");
    world.cut(ALICE, 1);
    world.connect(ALICE, 2);
    world.drive();
    world.set_clock(0, -7_200_000);
    let lock = world.acquire(ALICE);
    world.drive();
    assert_eq!(won(&mut world, ALICE), None, "the answer that shows it is no vote");
    world.abandon(ALICE, lock);
    world.live(MAX_TTL * 3);
    let lock = world.hold(ALICE);
    assert!(world.number(ALICE, lock) > before);
}

/// One clock was far ahead for a moment. Numbers go on from there, and names are remembered for no longer than ever.
#[test]
fn a_clock_that_was_far_ahead_once_makes_nothing_last() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let mut world = apart_by(&[0, YEAR.as_millis() as i64, 0]);
    let lock = world.hold(ALICE);
    let before = world.number(ALICE, lock);
    world.release(ALICE, lock);
    world.drive();
    world.set_clock(1, -(YEAR.as_millis() as i64));
    meet_again(&mut world, ALICE, 0..NODES);
    world.live(MAX_TTL * 3);
    assert!((0..NODES).all(|node| world.fence(node).is_some()));
    world.survey(ALICE, RequestKind::Forget);
    world.drive();
    world.live(MAX_TTL * 2);
    assert!(
        (0..NODES).all(|node| world.fence(node).is_none()),
        "forgotten within the max ttl, at the latest"
    );
    let lock = world.hold(ALICE);
    assert!(world.number(ALICE, lock) > before);
    world.release(ALICE, lock);
    world.drive();
    world.live(HOUR + ms(1_000));
    assert!((0..NODES).all(|node| world.fence(node).is_none()), "and else within the hour");
}

#[test]
fn a_holder_whose_lock_was_broken_does_not_come_back_when_the_name_is_forgotten() {
    let mut world = World::fenced(NODES);
    let lock = world.hold_as(ALICE, Wish { ttl: MAX_TTL, ..Wish::default() });
    world.live(MAX_TTL * 2);
    world.event(ALICE);
    for phase in [RequestKind::ForceRelease, RequestKind::Forget] {
        world.survey(BOB, phase);
        world.drive();
    }
    world.live(MAX_TTL);
    assert!(!world.is_valid(ALICE, lock));
    assert_eq!((world.loss(ALICE), world.keys()), (Some(LossReason::TakenByOthers), 0));
}
