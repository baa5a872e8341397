//! Plans the faults of a run: which, when, and where. They are drawn from a seed and kept within what the
//! lock survives.
//!
//! Faults come in overlapping groups: some hit a minority of the nodes, some hit all. The next group begins
//! when a quorum votes again, after probation at the latest, so that every outage has a bounded duration. While an
//! address is moved or a node exchanged, fewer nodes lose data: see [`limits`].

mod limits;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::faults::{FaultKind, Injection, Interruption, PlannedFault, Sides};
use crate::seeded_rng::SeededRng;

/// The input of a plan.
#[derive(Clone, Debug)]
pub(crate) struct PlanInput {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) quorum: usize,
    pub(crate) kinds: BTreeSet<FaultKind>,
    /// The duration of the whole run.
    pub(crate) duration: Duration,
    pub(crate) ttl: Duration,
    pub(crate) max_ttl: Duration,
}

/// The parts of a node. Each can have one fault at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Subsystem {
    Server,
    Network,
    Clock,
}

struct Planner {
    input: PlanInput,
    rng: SeededRng,
    /// When the last planned fault of each subsystem is over.
    unbroken_from: HashMap<(usize, Subsystem), Duration>,
    /// When each node votes again after its planned faults and their probation.
    votes_from: Vec<Duration>,
    /// When the nodes of the last planned address move vote again.
    moved_until: Duration,
    /// When the last planned reconfiguration has ended.
    reconfigured_by: Duration,
    /// When the last planned stale key is removed.
    stale_key_until: Duration,
    /// The planned error of each clock, in microseconds.
    clock_gain_micros: Vec<i64>,
    faults: Vec<PlannedFault>,
}

/// The faults of a run, ordered by start time.
pub(crate) fn plan(input: &PlanInput) -> Vec<PlannedFault> {
    let mut planner = Planner {
        rng: SeededRng::for_part(input.seed, 1),
        unbroken_from: HashMap::new(),
        votes_from: vec![Duration::ZERO; input.nodes],
        moved_until: Duration::ZERO,
        reconfigured_by: Duration::ZERO,
        stale_key_until: Duration::ZERO,
        clock_gain_micros: vec![0; input.nodes],
        faults: Vec::new(),
        input: input.clone(),
    };
    planner.plan_clock_offsets();
    planner.plan_node_faults();
    planner.rng = SeededRng::for_part(input.seed, 2);
    planner.plan_client_faults();
    planner.faults.sort_by_key(|fault| fault.at);
    planner.faults
}

impl Planner {
    /// When the last fault must have ended: afterwards all nodes and clients recover.
    fn end(&self) -> Duration {
        self.input.duration.saturating_sub(self.input.max_ttl + QUIET_END)
    }

    /// Plans clock offsets from the start, on all nodes but one, so that quorums with and without the correct
    /// clock occur.
    fn plan_clock_offsets(&mut self) {
        if !self.input.kinds.contains(&FaultKind::ClockOffset) {
            return;
        }
        let correct = self.rng.between(0, self.input.nodes as u64 - 1) as usize;
        let nodes: Vec<usize> = (0..self.input.nodes).filter(|node| *node != correct).collect();
        for node in &nodes {
            self.clock_gain_micros[*node] = OFFSET_MICROS;
        }
        let injection = Injection::ClockOffset { micros: OFFSET_MICROS };
        self.faults.push(PlannedFault { at: Duration::ZERO, duration: Duration::ZERO, nodes, injection });
    }

    fn plan_node_faults(&mut self) {
        let is_planned = |kind: &FaultKind| !kind.is_of_clients() && !kind.is_of_whole_run();
        let kinds: Vec<FaultKind> = self.input.kinds.iter().copied().filter(is_planned).collect();
        let (mut bag, mut unplanned) = (Vec::new(), Vec::new());
        let mut at = FIRST_FAULT_AT;
        while !kinds.is_empty() && at < self.end() {
            // Kinds for which there was no node or no time come next.
            if at >= self.reconfigured_by {
                bag.append(&mut unplanned);
            }
            // If little time is left, as in the shortest run, faults begin at once, so that at least one
            // fits.
            let time_left = self.end().saturating_sub(at + MIN_FAULT).as_millis() as u64;
            let group_size = self.rng.between(1, 4);
            let mut group_end = at;
            for _ in 0..group_size {
                let kind = self.draw_kind(&kinds, &mut bag);
                let begins_at = at + self.millis(0, time_left.min(700));
                let count = self.draw_node_count();
                if let Some(fault) = self.plan_fault(kind, begins_at, count) {
                    // A reconfiguration goes on under the next groups, of faults without data loss.
                    if kind != FaultKind::Reconfiguration {
                        group_end = group_end.max(fault.at + fault.duration);
                    }
                    self.add_probation(&fault);
                    self.faults.push(fault);
                } else if !unplanned.contains(&kind) {
                    unplanned.push(kind);
                }
                // A clock jump uses up the spare nodes, so it ends the group.
                if kind == FaultKind::ClockJump {
                    break;
                }
            }
            // A quorum votes again for a while before the next group.
            let mut votes_from = self.votes_from.clone();
            votes_from.sort_unstable();
            at = group_end.max(votes_from[self.input.quorum - 1]) + self.millis(300, 1200);
        }
    }

    /// Records when the nodes of a fault vote again.
    fn add_probation(&mut self, fault: &PlannedFault) {
        let kind = fault.injection.kind();
        let keeps_data = kind == FaultKind::StaleKey || subsystems(kind) == [Subsystem::Network];
        let probation = if keeps_data { Duration::ZERO } else { self.input.max_ttl };
        let votes_from = fault.at + fault.duration + probation + PAUSE_BETWEEN / 2;
        for node in &fault.nodes {
            self.votes_from[*node] = self.votes_from[*node].max(votes_from);
        }
        if kind == FaultKind::AddressMove {
            self.moved_until = self.moved_until.max(votes_from);
        }
        if kind == FaultKind::Reconfiguration {
            self.reconfigured_by = self.reconfigured_by.max(votes_from);
        }
    }

    fn plan_client_faults(&mut self) {
        let is_planned = |kind: &FaultKind| kind.is_of_clients() && *kind != FaultKind::Cancel;
        let kinds: Vec<FaultKind> = self.input.kinds.iter().copied().filter(is_planned).collect();
        let mut bag = Vec::new();
        let mut at = FIRST_FAULT_AT;
        while !kinds.is_empty() && at < self.end() {
            let (draw, is_holder) = (self.rng.next(), self.rng.draw_chance(60));
            let (injection, duration) = match self.draw_kind(&kinds, &mut bag) {
                FaultKind::ClientKill => (Injection::ClientKill { draw, is_holder }, Duration::ZERO),
                FaultKind::BlockRuntime => (Injection::BlockRuntime { draw }, self.millis(500, 2500)),
                _ => (Injection::ClientStop { draw }, self.input.ttl + self.millis(100, 1500)),
            };
            self.faults.push(PlannedFault { at, duration, nodes: Vec::new(), injection });
            at += self.millis(600, 1800);
        }
    }

    /// Draws a kind from a bag that is refilled when it is empty: every kind comes once before one repeats.
    fn draw_kind(&mut self, kinds: &[FaultKind], bag: &mut Vec<FaultKind>) -> FaultKind {
        if bag.is_empty() {
            bag.extend(kinds);
            self.rng.shuffle(bag);
        }
        bag.pop().expect("filled")
    }

    /// Draws the number of nodes to hit: mostly no more than the quorum can spare, sometimes up to all.
    fn draw_node_count(&mut self) -> usize {
        let spare = (self.input.nodes - self.input.quorum).max(1) as u64;
        let max = if self.rng.draw_chance(70) { spare } else { self.input.nodes as u64 };
        self.rng.between(1, max) as usize
    }

    /// Plans one fault on nodes that are free for it. None if there is no such node, or too little time.
    fn plan_fault(&mut self, kind: FaultKind, at: Duration, count: usize) -> Option<PlannedFault> {
        let (injection, mut duration) = self.injection(kind);
        let at = self.earliest(kind, at)?;
        // A stale key must stay long enough that waiting clients are observed. A reconfiguration takes its time.
        if !matches!(kind, FaultKind::StaleKey | FaultKind::Reconfiguration) {
            duration = duration.min(self.end().saturating_sub(at).max(MIN_FAULT));
        }
        let spare = (self.input.nodes - self.input.quorum).max(1);
        let hit = subsystems(kind);
        let count = match kind {
            // One spare server replaces one node at a time; a healthy lock has one spare node for one wrong
            // clock.
            FaultKind::Failover | FaultKind::ClockJump | FaultKind::Reconfiguration => 1,
            FaultKind::StaleKey => spare,
            _ => count,
        };
        // Preparation and recovery take time too.
        let until = at + duration + PAUSE_BETWEEN;
        let is_free = |node: &usize| {
            hit.iter().all(|subsystem| {
                self.unbroken_from.get(&(*node, *subsystem)).is_none_or(|until| *until <= at)
            })
        };
        let mut free: Vec<usize> = (0..self.input.nodes).filter(is_free).collect();
        self.rng.shuffle(&mut free);
        self.limit_data_loss(kind, at, &mut free);
        free.truncate(count);
        free.sort_unstable();
        if free.is_empty() || at + duration > self.end() {
            return None;
        }
        if kind == FaultKind::StaleKey {
            // Stale keys on more nodes than the quorum can spare would prevent every grant.
            if at < self.stale_key_until {
                return None;
            }
            self.stale_key_until = until;
        }
        let injection = self.clamp_clock_change(injection, &free, duration);
        for node in &free {
            self.unbroken_from.extend(hit.iter().map(|subsystem| ((*node, *subsystem), until)));
        }
        Some(PlannedFault { at, duration, nodes: free, injection })
    }

    fn injection(&mut self, kind: FaultKind) -> (Injection, Duration) {
        let mut duration = self.millis(300, 2200);
        let sides = match self.rng.between(0, 3) {
            side @ 0..=1 => Sides::One(side as usize),
            _ => Sides::Both,
        };
        let lag = self.millis(50, 400);
        let coin = self.rng.draw_chance(50);
        let injection = match kind {
            FaultKind::Kill => Injection::Kill,
            FaultKind::DataLoss => Injection::DataLoss,
            FaultKind::StaleData => Injection::StaleData { lag },
            FaultKind::Pause => Injection::Pause,
            FaultKind::ClientPause => Injection::ClientPause { writes_only: coin },
            FaultKind::Flush => Injection::Flush,
            FaultKind::ScriptFlush => Injection::ScriptFlush,
            FaultKind::Failover => Injection::Failover { lag },
            FaultKind::AddressMove => {
                // Up to past the probation of the server that has the address now.
                duration = self.millis(500, 4_000);
                Injection::AddressMove { reset_side: usize::from(coin) }
            }
            FaultKind::Reconfiguration => {
                let max_ttl_ms = self.input.max_ttl.as_millis() as u64;
                let (after, is_return) = (self.millis(0, max_ttl_ms * 5 / 4), self.rng.draw_chance(50));
                let interruption = coin.then_some(Interruption { after, is_return });
                // Before each of the two exchanges, earlier locks end; after it, there is a probation.
                duration = 4 * self.input.max_ttl + RECONFIGURATION_PAUSES;
                duration += interruption.map_or(Duration::ZERO, |interruption| interruption.after);
                Injection::Reconfiguration { interruption }
            }
            FaultKind::MemoryFull => Injection::MemoryFull { policy: self.rng.pick::<&str>(&POLICIES) },
            FaultKind::Latency => {
                // Both directions together are well below the reply timeout, or well above it.
                let delay = if coin { self.millis(1, 15) } else { self.millis(150, 400) };
                Injection::Latency { sides, delay, jitter: self.millis(1, 15) }
            }
            FaultKind::Partition => Injection::Partition { sides },
            FaultKind::AsymmetricPartition => Injection::AsymmetricPartition { sides, blocks_replies: coin },
            FaultKind::Reset => Injection::Reset { sides },
            FaultKind::HalfOpen => Injection::HalfOpen { sides },
            FaultKind::NoRead => Injection::NoRead { sides },
            FaultKind::Truncate => Injection::Truncate { sides },
            FaultKind::StaleKey => {
                duration = self.millis(3_500, 5_000);
                Injection::StaleKey { ttl: coin.then_some(duration * 2) }
            }
            FaultKind::ClockSkew => Injection::ClockSkew { ppm: if coin { SKEW_PPM } else { -SKEW_PPM } },
            FaultKind::ClockJump => {
                let micros = self.rng.between(300, 500) as i64 * 1_000;
                Injection::ClockJump { micros: if coin { micros } else { -micros } }
            }
            FaultKind::ClockOffset
            | FaultKind::ClientStop
            | FaultKind::ClientKill
            | FaultKind::BlockRuntime
            | FaultKind::Cancel => {
                unreachable!("planned by plan_clock_offsets or plan_client_faults")
            }
        };
        let is_instant = matches!(
            kind,
            FaultKind::Flush | FaultKind::ScriptFlush | FaultKind::Reset | FaultKind::Truncate
        );
        (injection, if is_instant { Duration::ZERO } else { duration })
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.between(from, to))
    }
}

fn subsystems(kind: FaultKind) -> &'static [Subsystem] {
    match kind {
        // The proxy disconnects its clients then.
        FaultKind::MemoryFull => &[Subsystem::Server, Subsystem::Network],
        FaultKind::Latency
        | FaultKind::Partition
        | FaultKind::AsymmetricPartition
        | FaultKind::Reset
        | FaultKind::HalfOpen
        | FaultKind::NoRead
        | FaultKind::Truncate => &[Subsystem::Network],
        FaultKind::ClockSkew | FaultKind::ClockJump => &[Subsystem::Clock],
        FaultKind::AddressMove | FaultKind::Reconfiguration => &[Subsystem::Server, Subsystem::Clock],
        // It does not prevent other clock faults.
        FaultKind::ClockOffset => &[],
        _ => &[Subsystem::Server],
    }
}

/// Clients hardly notice a shorter fault.
const MIN_FAULT: Duration = Duration::from_millis(300);
/// Clients have connected by then.
const FIRST_FAULT_AT: Duration = Duration::from_secs(1);
/// The time without faults after the last fault and its probation.
const QUIET_END: Duration = Duration::from_millis(1500);
/// The pause between two faults of one subsystem, for restarts, replicas and copies.
const PAUSE_BETWEEN: Duration = Duration::from_millis(800);
/// The time between the two exchanges of a reconfiguration, and for their steps.
const RECONFIGURATION_PAUSES: Duration = Duration::from_millis(1_500);
/// By how much a skewed clock runs fast or slow: 10 %.
const SKEW_PPM: i64 = 100_000;
/// More than the 250 ms by which a client's clock may be ahead of a node's before the node uses its own
/// fencing number. Less than half the probation, on which the order of fencing numbers depends.
const OFFSET_MICROS: i64 = -600_000;
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
