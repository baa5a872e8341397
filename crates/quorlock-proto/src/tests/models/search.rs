//! An explicit-state model checker: explores every reachable state of a model.
//!
//! A visited state is kept as a fingerprint of 64 bits, so tens of millions fit into a few hundred megabytes.
//! Any two of n states share one with a probability of n²/2⁶⁵, which is 1 in 100 000 for 20 million states.
//! An exploration is deterministic, and so are its counts.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A transition system: an initial state, and events that lead from one state to the next.
pub(crate) trait Model {
    type State: Clone;
    type Event: Copy;

    fn initial_state(&self) -> Self::State;
    /// Appends the events that are enabled in the state.
    fn enabled_events(&self, state: &Self::State, events: &mut Vec<Self::Event>);
    /// The state after the event, or the invariant that the event violates.
    fn step(
        &self,
        state: &Self::State,
        event: Self::Event,
        coverage: &mut Coverage,
    ) -> Result<Self::State, String>;
    /// Equal for states that have the same future, except for names.
    fn fingerprint(&self, state: &Self::State) -> u64;
    /// The event for a trace; `after` is `None` if the event violated an invariant.
    fn describe(&self, before: &Self::State, event: Self::Event, after: Option<&Self::State>) -> String;
}

/// The order in which states are explored. It does not change the result of a complete exploration.
///
/// Depth-first needs less memory; breadth-first finds the shortest trace of a violation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchOrder {
    DepthFirst,
    BreadthFirst,
}

/// How many times an exploration met each situation, by the situation's number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage([u64; 20]);

impl Coverage {
    pub(crate) fn record(&mut self, situation: usize) {
        self.0[situation] += 1;
    }

    pub(crate) fn count(&self, situation: usize) -> u64 {
        self.0[situation]
    }
}

/// The result of an exploration.
pub(crate) struct Exploration {
    pub(crate) states: u64,
    pub(crate) steps: u64,
    /// The most events on the path to a state.
    pub(crate) depth: u32,
    pub(crate) coverage: Coverage,
    pub(crate) violation: Option<Violation>,
    pub(crate) elapsed: Duration,
}

/// A violated invariant.
pub(crate) struct Violation {
    /// Begins with the invariant's number.
    pub(crate) message: String,
    /// The events that led to it.
    pub(crate) trace: Vec<String>,
}

/// The last event of a path, linked to the events before.
struct TraceStep<E> {
    event: E,
    before: Option<Rc<TraceStep<E>>>,
}

/// A state whose successors are not yet explored, the path to it, and the path's length.
type FrontierEntry<M> = (<M as Model>::State, Option<Rc<TraceStep<<M as Model>::Event>>>, u32);

/// Explores until every state was visited, or an invariant is violated.
#[allow(clippy::disallowed_methods, reason = "the elapsed time is only printed")]
pub(crate) fn explore<M: Model>(model: &M, name: &str, order: SearchOrder) -> Exploration {
    let started = Instant::now();
    let mut last_progress = started;
    let mut exploration = Exploration {
        states: 1,
        steps: 0,
        depth: 0,
        coverage: Coverage::default(),
        violation: None,
        elapsed: Duration::ZERO,
    };
    let first = model.initial_state();
    let mut visited: HashSet<u64, BuildHasherDefault<IdentityHasher>> = HashSet::default();
    visited.insert(model.fingerprint(&first));
    let mut frontier: VecDeque<FrontierEntry<M>> = VecDeque::new();
    frontier.push_back((first, None, 0));
    let mut events = Vec::new();
    loop {
        let next = if order == SearchOrder::DepthFirst { frontier.pop_back() } else { frontier.pop_front() };
        let Some((state, last_step, depth)) = next else { break };
        exploration.depth = exploration.depth.max(depth);
        events.clear();
        model.enabled_events(&state, &mut events);
        for event in events.iter().copied() {
            exploration.steps += 1;
            let next_step = || Some(Rc::new(TraceStep { event, before: last_step.clone() }));
            match model.step(&state, event, &mut exploration.coverage) {
                Ok(after) => {
                    if visited.insert(model.fingerprint(&after)) {
                        exploration.states += 1;
                        frontier.push_back((after, next_step(), depth + 1));
                    }
                }
                Err(message) => {
                    exploration.violation =
                        Some(Violation { message, trace: describe_trace(model, next_step()) });
                    exploration.elapsed = started.elapsed();
                    return exploration;
                }
            }
        }
        if exploration.states.is_multiple_of(1024) && last_progress.elapsed() > PROGRESS_INTERVAL {
            last_progress = Instant::now();
            let rate = exploration.states as f64 / started.elapsed().as_secs_f64();
            eprintln!("{name}: {} states so far, {rate:.0} states/s", exploration.states);
        }
    }
    exploration.elapsed = started.elapsed();
    exploration
}

/// Explores a model to the end. It must violate no invariant, have this number of states and meet each situation.
#[track_caller]
pub(crate) fn check_complete<M: Model>(model: &M, name: &str, states: u64, situations: &[usize]) {
    let exploration = explore(model, name, SearchOrder::DepthFirst);
    if let Some(violation) = exploration.violation {
        panic!("{name}: {}\n    {}", violation.message, violation.trace.join("\n    "));
    }
    println!(
        "{name}: {} states, {} steps, depth {}, {:?}",
        exploration.states, exploration.steps, exploration.depth, exploration.elapsed
    );
    for situation in situations {
        assert!(exploration.coverage.count(*situation) > 0, "{name}: no state has situation {situation}");
    }
    assert_eq!(
        exploration.states, states,
        "{name}: the model has changed: check it, then change this number"
    );
}

/// Whether the long explorations are wanted.
pub(crate) fn is_long() -> bool {
    std::env::var("QUORLOCK_LONG").as_deref() == Ok("1")
}

fn describe_trace<M: Model>(model: &M, mut last_step: Option<Rc<TraceStep<M::Event>>>) -> Vec<String> {
    let mut events = Vec::new();
    while let Some(trace_step) = last_step.take() {
        events.push(trace_step.event);
        last_step.clone_from(&trace_step.before);
    }
    let mut state = model.initial_state();
    let mut trace = Vec::new();
    for event in events.into_iter().rev() {
        let after = model.step(&state, event, &mut Coverage::default()).ok();
        trace.push(model.describe(&state, event, after.as_ref()));
        if let Some(after) = after {
            state = after;
        }
    }
    trace
}

/// Passes fingerprints through, which are already hashes.
#[derive(Default)]
pub(crate) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed")
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
