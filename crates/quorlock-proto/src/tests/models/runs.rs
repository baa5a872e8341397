//! The walks, to their ends, with the numbers of states they must have.

use super::bounds::{Begins, Bounds, Memory, Numbers};
use super::search::{Order, walk};
use super::world::{Sight, World};

/// A model by name, and how many states it has.
type Run = (&'static str, Bounds, u64);

/// Locks of `ttl` ticks, extended once.
pub(crate) const fn renewal(ttl: u8, extend_to: &'static [u8], horizon: u8) -> Bounds {
    Bounds { extensions: 1, extend_to, ..Bounds::timed_lean(&[1, 1], ttl, horizon) }
}

/// Fenced locks on nodes that forget.
pub(crate) const fn probation(forgets: u8, ttl: u8, horizon: u8) -> Bounds {
    Bounds {
        forgets,
        memory: Memory::Marked,
        numbers: Numbers::Clocks,
        stands: false,
        ..Bounds::timed_lean(&[1, 1], ttl, horizon)
    }
}

/// The same, extended once.
const fn fenced_renewal(forgets: u8, ttl: u8, extend_to: &'static [u8], horizon: u8) -> Bounds {
    Bounds { extensions: 1, extend_to, ..probation(forgets, ttl, horizon) }
}

/// Plain locks on more nodes than a majority, which forget and vote on.
const fn blank(nodes: usize, need: usize, forgets: u8, ttl: u8, horizon: u8) -> Bounds {
    let plain = Bounds::timed_lean(&[1, 1], ttl, horizon);
    Bounds { nodes, need: Some(need), forgets, memory: Memory::Blank, stands: false, ..plain }
}

/// Walks them all; the long ones only if asked to. Whatever is to be seen must have been seen in one of the short.
fn explore(short: &[Run], long: &[Run], to_see: &[Sight]) {
    let is_long = std::env::var("QUORLOCK_LONG").is_ok_and(|value| value == "1");
    let long = long.iter().filter(|_| is_long);
    let (mut missing, mut changed) = (to_see.to_vec(), Vec::new());
    for (name, bounds, states) in short.iter().chain(long) {
        let walk = walk(&World::new(*bounds), name, Order::Depth);
        let rate = walk.states as f64 / walk.took.as_secs_f64();
        eprintln!(
            "{name}: {} states, {} steps, depth {}, {:.1?}, {rate:.0} states/s",
            walk.states, walk.steps, walk.depth, walk.took
        );
        if let Some(violation) = walk.violation {
            panic!("{name}: {}\n    {}", violation.broken, violation.trace.join("\n    "));
        }
        if walk.states != *states {
            changed.push(format!("{name}: {} states, and {states} before", walk.states));
        }
        missing.retain(|sight| walk.sights.count(*sight as usize) == 0);
    }
    assert!(changed.is_empty(), "the models have other states:\n{}", changed.join("\n"));
    assert_eq!(missing, [], "some of what the models are for was never seen");
}

#[test]
fn fencing_needs_no_clock() {
    let short: &[Run] = &[
        ("fencing, 3 nodes, 2 attempts, next numbers", Bounds::fencing(3, &[1, 1], Numbers::Next(1)), 46_781),
        ("lean fencing, 3 nodes, 2 attempts, any numbers", Bounds::lean(3, &[1, 1], Numbers::Any), 24_450),
        (
            "lean fencing, 5 nodes, 2 attempts, next numbers",
            Bounds::lean(5, &[1, 1], Numbers::Next(1)),
            13_031,
        ),
        (
            "lean fencing, 3 nodes, 3 attempts, next numbers",
            Bounds::lean(3, &[1, 1, 1], Numbers::Next(1)),
            90_388,
        ),
        (
            "fencing, 3 nodes, 2 attempts, next numbers, 1 cut",
            Bounds { cuts: 1, ..Bounds::fencing(3, &[1, 1], Numbers::Next(1)) },
            137_020,
        ),
    ];
    let long: &[Run] = &[
        ("fencing, 3 nodes, 2 attempts, any numbers", Bounds::fencing(3, &[1, 1], Numbers::Any), 1_469_869),
        (
            "lean fencing, 3 nodes, 3 attempts, two numbers",
            Bounds::lean(3, &[1, 1, 1], Numbers::Next(2)),
            9_323_435,
        ),
    ];
    explore(
        short,
        long,
        &[
            Sight::Rivals,
            Sight::TwoRounds,
            Sight::RaiseUnheard,
            Sight::LateGrant,
            Sight::Straggler,
            Sight::Stale,
        ],
    );
}

#[test]
fn fencing_survives_forgetting() {
    let forgets = |forgets, bounds: Bounds| Bounds { forgets, ..bounds };
    let blank = |nodes, need, forgets, numbers| Bounds {
        need: Some(need),
        forgets,
        memory: Memory::Blank,
        ..Bounds::lean(nodes, &[1, 1], numbers)
    };
    let short: &[Run] = &[
        (
            "lean fencing, 3 nodes, 2 attempts, any numbers, 1 forgets and is ahead",
            forgets(1, Bounds::lean(3, &[1, 1], Numbers::Any)),
            171_320,
        ),
        ("lean fencing, 3 of 3, next numbers, 2 forget", blank(3, 3, 2, Numbers::Next(1)), 5_320),
        ("lean fencing, 4 of 5, next numbers, 2 forget", blank(5, 4, 2, Numbers::Next(1)), 188_678),
    ];
    let long: &[Run] = &[
        ("lean fencing, 3 of 3, any numbers, 2 forget", blank(3, 3, 2, Numbers::Any), 643_475),
        (
            "lean fencing, 3 nodes, 3 attempts, next numbers, 2 forget and are ahead",
            forgets(2, Bounds::lean(3, &[1, 1, 1], Numbers::Next(1))),
            17_369_842,
        ),
    ];
    explore(short, long, &[Sight::TwoRounds, Sight::Stale]);
}

#[test]
fn at_most_one_lock_is_valid() {
    let short: &[Run] = &[
        ("plain, 1+1 attempts, ttl 2, 3 ticks, whole", Bounds::timed(&[1, 1], 2, 3), 92_366),
        ("plain, 2+1 attempts, ttl 1, 1 tick", Bounds::timed_lean(&[2, 1], 1, 1), 289_785),
        ("plain, 1+1+1 attempts, ttl 1, 1 tick", Bounds::timed_lean(&[1, 1, 1], 1, 1), 208_275),
    ];
    let long: &[Run] = &[
        ("plain, 2+1 attempts, ttl 2, 2 ticks", Bounds::timed_lean(&[2, 1], 2, 2), 1_174_702),
        ("plain, 2+1 attempts, ttl 2, 3 ticks", Bounds::timed_lean(&[2, 1], 2, 3), 3_318_090),
        ("plain, 1+1+1 attempts, ttl 2, 3 ticks", Bounds::timed_lean(&[1, 1, 1], 2, 3), 3_608_199),
        ("plain, 1+1 attempts, ttl 3, 6 ticks, whole", Bounds::timed(&[1, 1], 3, 6), 1_063_038),
    ];
    explore(short, long, &[Sight::Rivals, Sight::LateGrant, Sight::Stale, Sight::Refused, Sight::Lost]);
}

#[test]
fn a_lock_that_is_extended_was_never_away() {
    let short: &[Run] = &[
        ("extension, ttl 1, 2 ticks", renewal(1, &[1], 2), 830_928),
        ("fenced extension, ttl 1, 1 tick", fenced_renewal(0, 1, &[1], 1), 584_127),
        ("fenced extension, ttl 2, 2 ticks", fenced_renewal(0, 2, &[2], 2), 4_735_545),
    ];
    let long: &[Run] = &[
        ("extension, ttl 2, 2 ticks", renewal(2, &[2], 2), 1_759_761),
        ("fenced extension, ttl 1, 1 tick, 1 forgets", fenced_renewal(1, 1, &[1], 1), 5_092_849),
        ("fenced extension, ttl 2, 2 ticks, 1 forgets", fenced_renewal(1, 2, &[2], 2), 33_861_026),
        ("extension, ttl 2, 3 ticks", renewal(2, &[2], 3), 7_823_137),
        ("extension, ttl 2, shorter and longer, 2 ticks", renewal(2, &[1, 3], 2), 4_795_183),
    ];
    explore(short, long, &[Sight::Moved, Sight::Retaken, Sight::Lost, Sight::Stale]);
}

#[test]
fn nodes_that_forgot_wait_until_it_cannot_matter() {
    let short: &[Run] = &[("fenced, ttl 1, 2 ticks, 1 forgets", probation(1, 1, 2), 906_614)];
    let long: &[Run] = &[
        ("fenced, ttl 1, 2 ticks, 2 forget", probation(2, 1, 2), 3_672_947),
        ("fenced, ttl 2, 3 ticks, 1 forgets", probation(1, 2, 3), 2_993_510),
    ];
    explore(short, long, &[Sight::Changed, Sight::Doubted, Sight::VotesAgain, Sight::TwoRounds]);
}

#[test]
fn more_than_a_majority_may_forget() {
    let short: &[Run] = &[
        ("plain, 3 of 3, ttl 1, 1 tick, 1 forgets", blank(3, 3, 1, 1, 1), 8_585),
        ("plain, 3 of 3, ttl 1, 1 tick, 2 forget", blank(3, 3, 2, 1, 1), 16_348),
        ("plain, 3 of 3, ttl 2, 3 ticks, 2 forget", blank(3, 3, 2, 2, 3), 190_966),
    ];
    let long: &[Run] = &[("plain, 4 of 5, ttl 1, 1 tick, 2 forget", blank(5, 4, 2, 1, 1), 566_321)];
    explore(short, long, &[Sight::Rivals, Sight::Refused]);
}

/// A lock on two of three nodes, whose question to the third is under way still; there, a rival's vain attempt has left
/// a larger number. Extended so often, beside another rival.
const fn outranked(forgets: u8, extensions: u8, horizon: u8) -> Bounds {
    let fenced = probation(forgets, 2, horizon);
    Bounds { attempts: &[1, 1, 1], extensions, extend_to: &[2], begins: Begins::OutrankedOnOne, ..fenced }
}

#[test]
fn a_node_with_a_larger_number_counts_again_only_where_nobody_was_given_it() {
    let short: &[Run] = &[("outranked on one, extended twice, 2 ticks", outranked(0, 2, 2), 797_428)];
    let long: &[Run] = &[
        ("outranked on one, extended twice, 2 ticks, 1 forgets", outranked(1, 2, 2), 4_317_708),
        ("outranked on one, extended three times, 2 ticks", outranked(0, 3, 2), 19_673_584),
    ];
    explore(short, long, &[Sight::RetakenPast, Sight::Cleared, Sight::Moved]);
}
