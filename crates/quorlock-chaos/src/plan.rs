//! Plans the faults of a run: which, when, and where. They are drawn from a seed and kept within what the lock
//! survives.
//!
//! Faults come in overlapping groups: some hit a minority of the nodes, some hit all. After a group that left too few
//! voting nodes, a calm as long as a probation follows, so that a quorum is present again within a bounded time.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::faults::{FaultKind, Injection, PlannedFault, Sides};
use crate::seeded_rng::SeededRng;

/// The input of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) quorum: usize,
    pub(crate) kinds: BTreeSet<FaultKind>,
    /// The whole of the run.
    pub(crate) duration: Duration,
    pub(crate) ttl: Duration,
    pub(crate) max_ttl: Duration,
}

/// The parts of a node that can be broken at the same time, each by one fault.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Subsystem {
    Server,
    Network,
    Clock,
}

struct Planner {
    scope: Scope,
    rng: SeededRng,
    /// From when on a part of a node is intact.
    unbroken_from: HashMap<(usize, Subsystem), Duration>,
    /// From when on a node votes, as far as planned faults decide it: it may have lost data.
    votes_from: Vec<Duration>,
    /// From when on there is no stale key on any node.
    stale_key_until: Duration,
    /// The planned error of each clock, in microseconds.
    clock_gain_micros: Vec<i64>,
    steps: Vec<PlannedFault>,
}

/// The faults of a run, by when they begin.
pub(crate) fn plan(scope: &Scope) -> Vec<PlannedFault> {
    let mut planner = Planner {
        rng: SeededRng::of_part(scope.seed, 1),
        unbroken_from: HashMap::new(),
        votes_from: vec![Duration::ZERO; scope.nodes],
        stale_key_until: Duration::ZERO,
        clock_gain_micros: vec![0; scope.nodes],
        steps: Vec::new(),
        scope: scope.clone(),
    };
    planner.offsets();
    planner.nodes();
    planner.rng = SeededRng::of_part(scope.seed, 2);
    planner.clients();
    planner.steps.sort_by_key(|step| step.at);
    planner.steps
}

impl Planner {
    /// The last moment at which a fault may last: afterwards all nodes and clients recover.
    fn end(&self) -> Duration {
        self.scope.duration.saturating_sub(self.scope.max_ttl + QUIET_END)
    }

    /// Plans clock offsets from the start, on all nodes but one. So clients may have a quorum of them reply before, or
    /// after, the correct one.
    fn offsets(&mut self) {
        if !self.scope.kinds.contains(&FaultKind::ClockOffset) {
            return;
        }
        let right = self.rng.between(0, self.scope.nodes as u64 - 1) as usize;
        let nodes: Vec<usize> = (0..self.scope.nodes).filter(|node| *node != right).collect();
        for node in &nodes {
            self.clock_gain_micros[*node] = OFFSET_MICROS;
        }
        let act = Injection::ClockOffset { micros: OFFSET_MICROS };
        self.steps.push(PlannedFault { at: Duration::ZERO, lasts: Duration::ZERO, nodes, injection: act });
    }

    fn nodes(&mut self) {
        let is_done = |kind: &FaultKind| !kind.is_of_clients() && !kind.is_of_whole_run();
        let kinds: Vec<FaultKind> = self.scope.kinds.iter().copied().filter(is_done).collect();
        let mut bag = Vec::new();
        let mut at = FIRST;
        while !kinds.is_empty() && at < self.end() {
            // Where little time is left, as in the shortest run, faults begin at once, so that at least one fits.
            let room = self.end().saturating_sub(at + MIN_FAULT).as_millis() as u64;
            let faults = self.rng.between(1, 4);
            let mut over = at;
            for _ in 0..faults {
                let kind = self.draw_kind(&kinds, &mut bag);
                let begins = at + self.millis(0, room.min(700));
                let many = self.node_count();
                if let Some(step) = self.step(kind, begins, many) {
                    over = over.max(step.at + step.lasts);
                    self.add_probation(&step);
                    self.steps.push(step);
                }
                // Because set clocks use up the margin, nothing else is broken then.
                if kind == FaultKind::ClockJump {
                    break;
                }
            }
            // There is a quorum again, for a while at least, before the next group.
            let mut votes = self.votes_from.clone();
            votes.sort_unstable();
            at = over.max(votes[self.scope.quorum - 1]) + self.millis(300, 1200);
        }
    }

    /// Records from when on its nodes vote again.
    fn add_probation(&mut self, step: &PlannedFault) {
        let kind = step.injection.kind();
        let keeps_all = kind == FaultKind::StaleKey || subsystems(kind) == [Subsystem::Network];
        let probation = if keeps_all { Duration::ZERO } else { self.scope.max_ttl };
        let over = step.at + step.lasts + probation + PAUSE_BETWEEN / 2;
        for node in &step.nodes {
            self.votes_from[*node] = self.votes_from[*node].max(over);
        }
    }

    fn clients(&mut self) {
        let is_done = |kind: &FaultKind| kind.is_of_clients() && *kind != FaultKind::Cancel;
        let kinds: Vec<FaultKind> = self.scope.kinds.iter().copied().filter(is_done).collect();
        let mut bag = Vec::new();
        let mut at = FIRST;
        while !kinds.is_empty() && at < self.end() {
            let (draw, holds) = (self.rng.next(), self.rng.percent(60));
            let (act, lasts) = match self.draw_kind(&kinds, &mut bag) {
                FaultKind::ClientKill => (Injection::ClientKill { draw, holds }, Duration::ZERO),
                FaultKind::BlockRuntime => (Injection::BlockRuntime { draw }, self.millis(500, 2500)),
                _ => (Injection::ClientStop { draw }, self.scope.ttl + self.millis(100, 1500)),
            };
            self.steps.push(PlannedFault { at, lasts, nodes: Vec::new(), injection: act });
            at += self.millis(600, 1800);
        }
    }

    /// Draws a kind; every kind comes once before one repeats.
    fn draw_kind(&mut self, kinds: &[FaultKind], bag: &mut Vec<FaultKind>) -> FaultKind {
        if bag.is_empty() {
            bag.extend(kinds);
            self.rng.shuffle(bag);
        }
        bag.pop().expect("filled")
    }

    /// How many nodes: mostly no more than the quorum can spare, sometimes up to all.
    fn node_count(&mut self) -> usize {
        let spare = (self.scope.nodes - self.scope.quorum).max(1) as u64;
        let most = if self.rng.percent(70) { spare } else { self.scope.nodes as u64 };
        self.rng.between(1, most) as usize
    }

    fn step(&mut self, kind: FaultKind, at: Duration, many: usize) -> Option<PlannedFault> {
        let (act, mut lasts) = self.injection(kind);
        // A stale key must stay long enough that waiting clients are observed.
        if kind != FaultKind::StaleKey {
            lasts = lasts.min(self.end().saturating_sub(at).max(MIN_FAULT));
        }
        let spare = (self.scope.nodes - self.scope.quorum).max(1);
        let parts = subsystems(kind);
        let many = match kind {
            // One spare server replaces one node at a time; one clock is what the margin of a healthy lock cluster
            // allows.
            FaultKind::Failover | FaultKind::ClockJump => 1,
            FaultKind::StaleKey => spare,
            _ => many,
        };
        // Preparation and recovery take time too.
        let until = at + lasts + PAUSE_BETWEEN;
        let is_whole = |node: &usize| {
            parts.iter().all(|part| self.unbroken_from.get(&(*node, *part)).is_none_or(|whole| *whole <= at))
        };
        let mut free: Vec<usize> = (0..self.scope.nodes).filter(is_whole).collect();
        self.rng.shuffle(&mut free);
        free.truncate(many);
        free.sort_unstable();
        if free.is_empty() || at + lasts > self.end() {
            return None;
        }
        if kind == FaultKind::StaleKey {
            // With stale keys on more nodes than the quorum can spare, no lock can be granted.
            if at < self.stale_key_until {
                return None;
            }
            self.stale_key_until = until;
        }
        let act = self.clamp_clock_change(act, &free, lasts);
        for node in &free {
            self.unbroken_from.extend(parts.iter().map(|part| ((*node, *part), until)));
        }
        Some(PlannedFault { at, lasts, nodes: free, injection: act })
    }

    /// Corrects clocks that are wrong rather than setting them further off, and makes them run back. The order of
    /// fencing numbers depends on their error, up to a bound, when nodes lose data.
    fn clamp_clock_change(&mut self, act: Injection, nodes: &[usize], lasts: Duration) -> Injection {
        let gained: i64 = nodes.iter().map(|node| self.clock_gain_micros[*node]).sum();
        if let Injection::ClockJump { micros } = act
            && gained.abs() >= WRONG_CLOCK_MICROS
        {
            return Injection::ClockJump { micros: -gained.signum() * micros.abs() };
        }
        let Injection::ClockSkew { mut millionths } = act else { return act };
        if gained.signum() == millionths.signum() {
            millionths = -millionths;
        }
        for node in nodes {
            self.clock_gain_micros[*node] += lasts.as_millis() as i64 * millionths / 1_000;
        }
        Injection::ClockSkew { millionths }
    }

    fn injection(&mut self, kind: FaultKind) -> (Injection, Duration) {
        let mut lasts = self.millis(300, 2200);
        let sides = match self.rng.between(0, 3) {
            side @ 0..=1 => Sides::One(side as usize),
            _ => Sides::Both,
        };
        let lag = self.millis(50, 400);
        let coin = self.rng.percent(50);
        let act = match kind {
            FaultKind::Kill => Injection::Kill,
            FaultKind::DataLoss => Injection::DataLoss,
            FaultKind::StaleData => Injection::StaleData { lag },
            FaultKind::Pause => Injection::Pause,
            FaultKind::ClientPause => Injection::ClientPause { writes_only: coin },
            FaultKind::Flush => Injection::Flush,
            FaultKind::ScriptFlush => Injection::ScriptFlush,
            FaultKind::Failover => Injection::Failover { lag },
            FaultKind::MemoryFull => Injection::MemoryFull { policy: self.rng.pick::<&str>(&POLICIES) },
            FaultKind::Latency => {
                // Both directions together, well within the reply timeout or well beyond it.
                let delay = if coin { self.millis(1, 15) } else { self.millis(150, 400) };
                Injection::Latency { sides, delay, jitter: self.millis(1, 15) }
            }
            FaultKind::Partition => Injection::Partition { sides },
            FaultKind::AsymmetricPartition => Injection::AsymmetricPartition { sides, is_back: coin },
            FaultKind::Reset => Injection::Reset { sides },
            FaultKind::HalfOpen => Injection::HalfOpen { sides },
            FaultKind::NoRead => Injection::NoRead { sides },
            FaultKind::Truncate => Injection::Truncate { sides },
            FaultKind::StaleKey => {
                // Long enough that waiting clients are observed.
                lasts = self.millis(3_500, 5_000);
                Injection::StaleKey { ttl: coin.then_some(lasts * 2) }
            }
            FaultKind::ClockSkew => Injection::ClockSkew { millionths: if coin { SKEW } else { -SKEW } },
            FaultKind::ClockJump => {
                let by = self.rng.between(300, 500) as i64 * 1_000;
                Injection::ClockJump { micros: if coin { by } else { -by } }
            }
            FaultKind::ClockOffset
            | FaultKind::ClientStop
            | FaultKind::ClientKill
            | FaultKind::BlockRuntime
            | FaultKind::Cancel => {
                unreachable!("there from the start, or done to clients, and planned there")
            }
        };
        let is_at_once = matches!(
            kind,
            FaultKind::Flush | FaultKind::ScriptFlush | FaultKind::Reset | FaultKind::Truncate
        );
        (act, if is_at_once { Duration::ZERO } else { lasts })
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.between(from, to))
    }
}

fn subsystems(kind: FaultKind) -> &'static [Subsystem] {
    match kind {
        // The proxy disconnects its clients.
        FaultKind::MemoryFull => &[Subsystem::Server, Subsystem::Network],
        FaultKind::Latency
        | FaultKind::Partition
        | FaultKind::AsymmetricPartition
        | FaultKind::Reset
        | FaultKind::HalfOpen
        | FaultKind::NoRead
        | FaultKind::Truncate => &[Subsystem::Network],
        FaultKind::ClockSkew | FaultKind::ClockJump => &[Subsystem::Clock],
        // It does not affect what else is done to a clock.
        FaultKind::ClockOffset => &[],
        _ => &[Subsystem::Server],
    }
}

/// A shorter fault is hardly noticed.
const MIN_FAULT: Duration = Duration::from_millis(300);
/// Clients have connected by then.
const FIRST: Duration = Duration::from_secs(1);
/// After the last fault and its probation.
const QUIET_END: Duration = Duration::from_millis(1500);
/// Between two faults to one part of a node: for restarts, replicas and copies.
const PAUSE_BETWEEN: Duration = Duration::from_millis(800);
/// 10 %.
const SKEW: i64 = 100_000;
/// More than the 250 ms by which a client's clock may be ahead of a node's before the node prefers a number of its own,
/// and less than half the probation, on which the order of numbers rests.
const OFFSET_MICROS: i64 = -600_000;
/// A clock with this error is not set further off: a jump is half a second at most.
const WRONG_CLOCK_MICROS: i64 = 300_000;
const POLICIES: [&str; 8] = [
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
];
