//! The simulation engine: the event queue that runs one history over nodes, clients and connections.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::clock::ClientClocks;
use super::oracle::{Oracle, Violation};
use super::plan::{Plan, Profile};
use super::rng::SeededRng;
use super::state::{ClientHost, Connection, LinkState, NodeHost};
use super::stats::{Invariant, Stats};
use crate::marker::ClusterId;
use crate::request::{Key, OperationId};
use crate::test_util::founding::{first_roster, initialize};
use crate::test_util::node::SimulatedNode;
use crate::time::DualTimestamp;

/// One running history.
pub(super) struct Sim<'a> {
    pub(super) profile: &'a Profile,
    pub(super) plan: Plan,
    pub(super) rng: SeededRng,
    /// The true time, in nanoseconds.
    pub(super) nanos: u64,
    /// Orders events of the same time.
    sequence: u64,
    events: BinaryHeap<Reverse<(u64, u64, SimEvent)>>,
    pub(super) nodes: Vec<NodeHost>,
    pub(super) clients: Vec<ClientHost>,
    pub(super) connections: Vec<Connection>,
    pub(super) keys: Vec<Key>,
    pub(super) oracle: Oracle,
    pub(super) stats: Stats,
    pub(super) phase: SimPhase,
    pub(super) phase_until: u64,
    pub(super) recovery_started_at: u64,
    /// What happened, in text, if a log is wanted.
    pub(super) log: Option<Vec<String>>,
}

/// An event of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SimEvent {
    /// The next message of a connection reaches the node.
    NodeReceives(usize),
    /// The next message of a connection reaches the client.
    ClientReceives(usize),
    /// The client learns that its connection is closed.
    ConnectionLost(usize),
    /// The client's dial timeout.
    ConnectTimeout(usize),
    Dial {
        client: usize,
        node: usize,
        incarnation: u32,
    },
    /// The client's timer fires, unless it was set to another time since.
    Timer {
        client: usize,
        incarnation: u32,
        set_for: u64,
    },
    /// A task continues.
    TaskStep {
        client: usize,
        key: usize,
        incarnation: u32,
        step: u32,
    },
    /// A client has received a ticket.
    AdoptTicket {
        client: usize,
        incarnation: u32,
        ticket: usize,
    },
    /// A client begins to reconfigure the lock cluster.
    StartReconfiguration(usize),
    /// It dies.
    EndReconfiguration(usize),
    /// The checkers examine a lock; `is_last`: just before its deadline.
    ProbeLock {
        id: OperationId,
        deadline: u64,
        is_last: bool,
    },
    /// A random fault happens.
    InjectFault,
    /// A fault ends.
    Repair(Repair),
    /// A paused client process or machine resumes.
    ResumeClient {
        client: usize,
        corrects_wall: bool,
    },
    /// Check whether the phase is over.
    CheckPhase,
}

/// The end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Repair {
    NodeUp(usize),
    Promote(usize),
    EndErrors(usize),
    EndEviction(usize),
    SwapBack(usize),
    /// The node's clock, which was behind, is corrected.
    CorrectClock(usize),
    NodeClockRate(usize),
    ClientClockRate(usize),
    ClientUp(usize),
}

/// A phase of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SimPhase {
    /// Faults are injected, and all tasks use locks.
    Faults,
    /// All faults have ended; one client must acquire every lock.
    Recovery,
    /// No task wants a lock any more.
    Drain,
    Done,
}

/// Adds a line to the log, if a log is wanted.
macro_rules! log_event {
    ($sim:expr, $($words:tt)+) => {
        if $sim.log.is_some() {
            let message = format!($($words)+);
            $sim.push_log_line(&message);
        }
    };
}
pub(super) use log_event;

impl<'a> Sim<'a> {
    pub(super) fn new(seed: u64, profile: &'a Profile, has_log: bool) -> Self {
        let mut rng = SeededRng::new(seed);
        let plan = Plan::draw(profile, &mut rng);
        let max_node_drift = plan.max_node_drift_ppm();
        let nodes = (0..plan.quorum.nodes() + plan.reconfigurations.spares).map(|index| {
            let mut node = SimulatedNode::new(index, plan.longest_config());
            let drift_ppm = rng.pick(&[0, max_node_drift, -max_node_drift, max_node_drift / 2]);
            node.set_drift(drift_ppm, 0);
            let offset = rng.between(0, 40_000_000) as i64 - 20_000_000;
            node.jump_clock(0, offset + plan.clock_offset(&mut rng));
            node.mutant = profile.script_mistake;
            NodeHost::new(node, drift_ppm)
        });
        let nodes: Vec<NodeHost> = nodes.collect();
        let max_slowdown = plan.max_client_slowdown_ppm();
        let clients = (0..plan.client_count + plan.other_clients()).map(|client| {
            let drift_ppm = rng.pick(&[0, -max_slowdown, max_slowdown, -max_slowdown / 2]);
            let boot = rng.between(1, 1_000_000) * 1_000_000;
            let wall_offset = rng.between(0, 40_000_000) as i64 - 20_000_000;
            let wall_offset = if rng.chance_permille(profile.wrong_wall_clocks) {
                wall_offset * 100_000
            } else {
                wall_offset
            };
            let wall_offset = wall_offset + plan.clock_offset(&mut rng);
            ClientHost::new(
                &plan,
                client,
                ClientClocks::new(boot, drift_ppm, wall_offset - boot as i64),
                drift_ppm,
            )
        });
        let clients: Vec<ClientHost> = clients.collect();
        Self {
            profile,
            nanos: START,
            sequence: 0,
            events: BinaryHeap::with_capacity(64),
            nodes,
            clients,
            connections: Vec::with_capacity(32),
            keys: ["a", "b"][..plan.key_count].iter().map(Key::new).collect(),
            oracle: Oracle::default(),
            stats: Stats::default(),
            phase: SimPhase::Faults,
            phase_until: START + plan.faults_nanos,
            recovery_started_at: u64::MAX,
            log: has_log.then(Vec::new),
            plan,
            rng,
        }
    }

    /// Runs the history to its end, or to the first violation.
    pub(super) fn run(&mut self) {
        self.stats.histories = 1;
        log_event!(self, "{:?}", self.plan);
        if self.plan.is_initialized && self.plan.fenced != 0 {
            let nodes = self.nodes.iter_mut().take(self.plan.quorum.nodes());
            let nodes = nodes.map(|node_host| &mut node_host.redis);
            initialize(nodes, ClusterId::new(0xc1), self.plan.config(), START);
            let roster = Arc::new(first_roster(ClusterId::new(0xc1), self.plan.config()));
            self.oracle.record_roster(&roster, START);
            let seats = roster.seats.iter().map(|seat| seat.id);
            self.oracle.seat_of.iter_mut().zip(seats).for_each(|(seat_of, id)| *seat_of = id);
        }
        if self.plan.has_orphan_keys {
            self.insert_orphan_keys();
        }
        for client in 0..self.plan.client_count {
            self.start_client(client);
        }
        for client in self.plan.client_count..self.clients.len() {
            self.clients[client].is_dead = true;
            let delay = self.rng.below(self.plan.max_ttl_nanos());
            self.schedule_after(delay, SimEvent::StartReconfiguration(client));
        }
        if let Some(until) = self.plan.first_node_absent_until {
            self.nodes[0].is_down = true;
            self.schedule_after(until, SimEvent::Repair(Repair::NodeUp(0)));
        }
        let first = self.next_fault_delay();
        self.schedule_after(first, SimEvent::InjectFault);
        self.schedule_at(self.phase_until, SimEvent::CheckPhase);
        while self.phase != SimPhase::Done && self.oracle.violation.is_none() {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.nanos = self.nanos.max(at);
            self.stats.events += 1;
            if self.stats.events > MAX_EVENTS {
                self.report_violation(
                    Invariant::Termination,
                    &format!("{MAX_EVENTS} events, and the history has not ended"),
                );
            }
            self.handle(event);
        }
    }

    fn handle(&mut self, event: SimEvent) {
        match event {
            SimEvent::NodeReceives(conn_id) => self.node_receives(conn_id),
            SimEvent::ClientReceives(conn_id) => self.client_receives(conn_id),
            SimEvent::ConnectionLost(conn_id) => self.on_connection_lost(conn_id),
            SimEvent::ConnectTimeout(conn_id) => {
                if self.connections[conn_id].state == LinkState::Dialing {
                    self.cut_connection(conn_id, 0);
                    self.on_connection_lost(conn_id);
                }
            }
            SimEvent::Dial { client, node, incarnation } => self.dial(client, node, incarnation),
            SimEvent::Timer { client, incarnation, set_for } => {
                if self.clients[client].timer_at == Some(set_for)
                    && self.is_running_or_defer(client, incarnation, event)
                {
                    self.clients[client].timer_at = None;
                    self.on_timer(client);
                }
            }
            SimEvent::TaskStep { client, key, incarnation, step } => {
                if self.is_running_or_defer(client, incarnation, event) {
                    self.step_task(client, key, step);
                }
            }
            SimEvent::AdoptTicket { client, incarnation, ticket } => {
                if self.is_running_or_defer(client, incarnation, event) {
                    self.adopt_ticket(client, ticket);
                }
            }
            SimEvent::ProbeLock { id, deadline, is_last } => self.probe_lock(id, deadline, is_last),
            SimEvent::StartReconfiguration(client) => self.start_reconfiguration(client),
            SimEvent::EndReconfiguration(client) => self.end_reconfiguration(client),
            SimEvent::InjectFault => self.inject_random_fault(),
            SimEvent::Repair(repair) => self.repair(repair),
            SimEvent::ResumeClient { client, corrects_wall } => self.resume_client(client, corrects_wall),
            SimEvent::CheckPhase => self.check_phase_end(),
        }
    }

    pub(super) fn schedule_at(&mut self, at: u64, event: SimEvent) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    pub(super) fn schedule_after(&mut self, nanos: u64, event: SimEvent) {
        self.schedule_at(self.nanos.saturating_add(nanos), event);
    }

    /// Whether this process runs. For a paused process, the event is repeated after it resumes.
    pub(super) fn is_running_or_defer(&mut self, client: usize, incarnation: u32, event: SimEvent) -> bool {
        let client_host = &self.clients[client];
        if client_host.incarnation != incarnation || client_host.is_dead {
            return false;
        }
        let resumes_at = client_host.paused_until;
        if resumes_at > self.nanos {
            // After the pause, either replies or the timer may come first, at random.
            let delay = self.rng.below(2_000_000);
            self.schedule_at(resumes_at + delay, event);
            return false;
        }
        true
    }

    pub(super) fn now(&self, client: usize) -> DualTimestamp {
        self.clients[client].clocks.read(self.nanos)
    }

    pub(super) fn on_timer(&mut self, client: usize) {
        let now = self.now(client);
        self.clients[client].coordinator.on_wake(now);
        self.run_actions(client);
    }

    /// Starts a client's process.
    pub(super) fn start_client(&mut self, client: usize) {
        self.clients[client].is_dead = false;
        let incarnation = self.clients[client].incarnation;
        for node in self.clients[client].list.clone() {
            let delay = self.rng.below(2_000_000);
            self.schedule_after(delay, SimEvent::Dial { client, node, incarnation });
        }
        let keys = if self.clients[client].goal.is_some() { 0 } else { self.keys.len() };
        for key in 0..keys {
            let delay = self.rng.below(20_000_000);
            self.schedule_after(delay, SimEvent::TaskStep { client, key, incarnation, step: 0 });
        }
    }

    pub(super) fn push_log_line(&mut self, message: &str) {
        let millis = (self.nanos - START) as f64 / 1e6;
        if let Some(log) = &mut self.log {
            log.push(format!("{millis:>12.3} ms  {message}"));
        }
    }

    pub(super) fn report_violation(&mut self, invariant: Invariant, message: &str) {
        log_event!(self, "VIOLATION of {invariant:?}: {message}");
        self.oracle.violation.get_or_insert_with(|| Violation { invariant, message: message.to_owned() });
    }
}

/// The true time at the start of a history, in nanoseconds.
pub(super) const START: u64 = 5_000_000_000;
const MAX_EVENTS: u64 = 200_000;
