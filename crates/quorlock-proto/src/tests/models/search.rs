//! Walks every state that a model can reach.
//!
//! A state is kept only while its successors are made; what stays of it is a fingerprint of 64 bits, so tens of
//! millions fit into some hundred megabytes. Two different states of one walk of n share a fingerprint with a chance
//! of n²/2⁶⁵ (one in a hundred thousand for 20 million); the walk is the same on every run, and so are its counts.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Something that has states, and goes from one to the next by events.
pub(crate) trait Model {
    type State: Clone;
    type Event: Copy;

    fn first(&self) -> Self::State;
    /// What can happen next.
    fn events(&self, state: &Self::State, events: &mut Vec<Self::Event>);
    /// The state after that, or which promise it breaks.
    fn step(
        &self,
        state: &Self::State,
        event: Self::Event,
        sights: &mut Sights,
    ) -> Result<Self::State, String>;
    /// Equal for states that have the same future, up to names.
    fn fingerprint(&self, state: &Self::State) -> u64;
    /// The event in words; `after` is the state that it led to, if it led to one.
    fn words(&self, before: &Self::State, event: Self::Event, after: Option<&Self::State>) -> String;
}

/// Which state comes next: of a walk to the end it does not matter, and depth first needs little memory; breadth
/// first finds the shortest way to a violation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Depth,
    Breadth,
}

/// How often something worth seeing happened on the way, by its number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sights([u64; 20]);

impl Sights {
    pub(crate) fn see(&mut self, sight: usize) {
        self.0[sight] += 1;
    }

    pub(crate) fn count(&self, sight: usize) -> u64 {
        self.0[sight]
    }
}

/// What a walk found.
pub(crate) struct Walk {
    pub(crate) states: u64,
    pub(crate) steps: u64,
    /// The longest way that was gone.
    pub(crate) depth: u32,
    pub(crate) sights: Sights,
    pub(crate) violation: Option<Violation>,
    pub(crate) took: Duration,
}

pub(crate) struct Violation {
    pub(crate) broken: String,
    /// How it came to that, in words.
    pub(crate) trace: Vec<String>,
}

struct Trail<E> {
    event: E,
    before: Option<Rc<Trail<E>>>,
}

/// A state whose successors are not made yet, how it was come to, and by how many events.
type Ahead<M> = (<M as Model>::State, Option<Rc<Trail<<M as Model>::Event>>>, u32);

/// Walks until every state was seen, or a promise is broken.
#[allow(clippy::disallowed_methods, reason = "how long a walk took is shown, and decides nothing")]
pub(crate) fn walk<M: Model>(model: &M, name: &str, order: Order) -> Walk {
    let began = Instant::now();
    let mut shown = began;
    let mut walk = Walk {
        states: 1,
        steps: 0,
        depth: 0,
        sights: Sights::default(),
        violation: None,
        took: Duration::ZERO,
    };
    let first = model.first();
    let mut seen: HashSet<u64, BuildHasherDefault<AsIs>> = HashSet::default();
    seen.insert(model.fingerprint(&first));
    let mut ahead: VecDeque<Ahead<M>> = VecDeque::new();
    ahead.push_back((first, None, 0));
    let mut events = Vec::new();
    loop {
        let next = if order == Order::Depth { ahead.pop_back() } else { ahead.pop_front() };
        let Some((state, trail, depth)) = next else { break };
        walk.depth = walk.depth.max(depth);
        events.clear();
        model.events(&state, &mut events);
        for event in events.iter().copied() {
            walk.steps += 1;
            let link = || Some(Rc::new(Trail { event, before: trail.clone() }));
            match model.step(&state, event, &mut walk.sights) {
                Ok(after) => {
                    if seen.insert(model.fingerprint(&after)) {
                        walk.states += 1;
                        ahead.push_back((after, link(), depth + 1));
                    }
                }
                Err(broken) => {
                    walk.violation = Some(Violation { broken, trace: retell(model, link()) });
                    walk.took = began.elapsed();
                    return walk;
                }
            }
        }
        if walk.states.is_multiple_of(1024) && shown.elapsed() > PROGRESS {
            shown = Instant::now();
            let rate = walk.states as f64 / began.elapsed().as_secs_f64();
            eprintln!("{name}: {} states so far, {rate:.0} states/s", walk.states);
        }
    }
    walk.took = began.elapsed();
    walk
}

fn retell<M: Model>(model: &M, mut trail: Option<Rc<Trail<M::Event>>>) -> Vec<String> {
    let mut events = Vec::new();
    while let Some(link) = trail.take() {
        events.push(link.event);
        trail.clone_from(&link.before);
    }
    let mut state = model.first();
    let mut trace = Vec::new();
    for event in events.into_iter().rev() {
        let after = model.step(&state, event, &mut Sights::default()).ok();
        trace.push(model.words(&state, event, after.as_ref()));
        if let Some(after) = after {
            state = after;
        }
    }
    trace
}

/// Fingerprints are hashes already.
#[derive(Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are kept")
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

const PROGRESS: Duration = Duration::from_secs(5);
