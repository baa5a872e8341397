//! That the short forms of states leave out nothing but names.
//!
//! A model is walked once more with every bit of every machine told apart. If two states with different futures had
//! one short form, one of the two would be left out of the usual walk, and most likely what comes after it. So the
//! usual walk must find just as many short forms as the states of this one have.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

use super::bounds::{Bounds, Numbers};
use super::print::Print;
use super::runs::{probation, renewal};
use super::search::{Model, Order, Sights, walk};
use super::state::{Stage, State};
use super::world::{Event, World};

struct Whole {
    world: World,
    short_forms: RefCell<HashSet<u64>>,
}

impl Model for Whole {
    type State = State;
    type Event = Event;

    fn first(&self) -> State {
        self.world.first()
    }

    fn events(&self, state: &State, events: &mut Vec<Event>) {
        self.world.events(state, events);
    }

    fn step(&self, state: &State, event: Event, sights: &mut Sights) -> Result<State, String> {
        self.world.step(state, event, sights)
    }

    fn fingerprint(&self, state: &State) -> u64 {
        self.short_forms.borrow_mut().insert(self.world.fingerprint(state));
        let mut print = Print::new();
        (state.now, state.is_fresh, state.cuts, state.forgets).hash(&mut print);
        for node in &state.nodes {
            (node.owner, node.expires, node.fence, node.life, node.since).hash(&mut print);
        }
        for (row, wires) in state.rows.iter().zip(&state.wires) {
            match &row.stage {
                Stage::Waiting => print.write_u8(1),
                Stage::Open(attempt) => attempt.hash(&mut print),
                Stage::Held(lease) => lease.hash(&mut print),
                Stage::Over => print.write_u8(2),
            }
            (row.start, row.number, row.is_issued, row.earlier, row.counted, row.touched).hash(&mut print);
            (row.was_passed, row.extensions, row.undone).hash(&mut print);
            for wire in wires {
                wire.commands.items().hash(&mut print);
                wire.replies.items().hash(&mut print);
            }
        }
        print.finish()
    }

    fn words(&self, before: &State, event: Event, after: Option<&State>) -> String {
        self.world.words(before, event, after)
    }
}

fn check(name: &str, bounds: Bounds) {
    let whole = Whole { world: World::new(bounds), short_forms: RefCell::default() };
    let every = walk(&whole, name, Order::Depth);
    let usual = walk(&World::new(bounds), name, Order::Depth);
    let short_forms = whole.short_forms.borrow().len() as u64;
    eprintln!("{name}: {} states, {short_forms} short forms, walk of {}", every.states, usual.states);
    assert!(every.violation.is_none() && usual.violation.is_none());
    assert!(every.states > 2 * short_forms, "{name}: nothing was left out");
    assert_eq!(short_forms, usual.states, "{name}: the short forms leave out too much");
}

/// The tick, and the numbers and deadlines of the locks that are held then.
type Locks = (u8, Vec<(u32, u64)>);

/// Watches which locks are handed out, and when they end, on the way.
struct Watched {
    world: World,
    locks: RefCell<HashSet<Locks>>,
}

impl Model for Watched {
    type State = State;
    type Event = Event;

    fn first(&self) -> State {
        self.world.first()
    }

    fn events(&self, state: &State, events: &mut Vec<Event>) {
        self.world.events(state, events);
    }

    fn step(&self, state: &State, event: Event, sights: &mut Sights) -> Result<State, String> {
        self.world.step(state, event, sights)
    }

    fn fingerprint(&self, state: &State) -> u64 {
        let leases = state.rows.iter().filter_map(|row| Some((row, row.lease()?)));
        let mut locks: Vec<_> =
            leases.map(|(row, lease)| (row.number, lease.deadline().boot_nanos())).collect();
        locks.sort_unstable();
        self.locks.borrow_mut().insert((state.now, locks));
        self.world.fingerprint(state)
    }

    fn words(&self, before: &State, event: Event, after: Option<&State>) -> String {
        self.world.words(before, event, after)
    }
}

/// All that is left out are states with fewer locks.
fn compare(name: &str, whole: Bounds) {
    let [whole, lean] = [false, true].map(|is_lean| {
        let world = World::new(Bounds { is_lean, ..whole });
        let watched = Watched { world, locks: RefCell::default() };
        let walk = walk(&watched, name, Order::Depth);
        assert!(walk.violation.is_none());
        (walk.states, watched.locks.into_inner())
    });
    eprintln!("{name}: {} states, {} lean; {} combinations of locks", whole.0, lean.0, whole.1.len());
    assert!(lean.0 < whole.0, "{name}: nothing was left out");
    assert!(lean.1.is_subset(&whole.1), "{name}: locks that there are not");
    let is_in = |(now, locks): &Locks| {
        let has_all = |other: &[(u32, u64)]| locks.iter().all(|lock| other.contains(lock));
        lean.1.iter().any(|(then, other)| now == then && has_all(other))
    };
    assert!(whole.1.iter().all(is_in), "{name}: what was left out led to other locks");
}

#[test]
fn lean_models_hand_out_as_many_locks_and_no_others() {
    compare("fencing, next numbers", Bounds::fencing(3, &[1, 1], Numbers::Next(1)));
    compare("plain", Bounds::timed(&[1, 1], 2, 2));
    compare("fenced", probation(1, 1, 0));
    compare("extension", renewal(1, &[1], 0));
}

#[test]
fn short_forms_leave_out_only_names() {
    check("lean fencing, 2 nodes, any numbers", Bounds::lean(2, &[1, 1], Numbers::Any));
    check("lean fencing, two numbers", Bounds::lean(3, &[1, 1], Numbers::Next(2)));
    check("plain", Bounds::timed(&[1, 1], 1, 1));
    check("fenced", probation(1, 1, 0));
    check("extension", renewal(1, &[1], 0));
}
