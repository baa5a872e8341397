//! The turning of a history: one queue of what happens when, nodes, clients with their boards, and the ways between.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::clock::ClientClocks;
use super::oracle::{Oracle, Violation};
use super::plan::{Plan, Profile};
use super::rng::SeededRng;
use super::state::{ClientHost, Connection, LinkState, NodeHost};
use super::stats::{Invariant, Stats};
use crate::coordinator::OperationId;
use crate::marker::{ClusterId, Marker};
use crate::membership::MarkerWrite;
use crate::request::Key;
use crate::test_util::node::Node;
use crate::time::DualTimestamp;

/// One history on its way.
pub(super) struct Sim<'a> {
    pub(super) profile: &'a Profile,
    pub(super) plan: Plan,
    pub(super) rng: SeededRng,
    /// True time.
    pub(super) nanos: u64,
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
    /// What happened in words, where a log is wanted.
    pub(super) log: Option<Vec<String>>,
}

/// What happens at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SimEvent {
    /// The next message of a connection reaches the node.
    NodeReceives(usize),
    /// The next answer reaches the client.
    ClientReceives(usize),
    /// The client hears that its connection is gone.
    ConnectionLost(usize),
    /// The client does not wait any longer for a connection.
    ConnectTimeout(usize),
    Dial {
        client: usize,
        node: usize,
        incarnation: u32,
    },
    /// A timer rings, unless it was set again since.
    Timer {
        client: usize,
        incarnation: u32,
        set_for: u64,
    },
    /// A caller goes on with what it does.
    TaskStep {
        client: usize,
        key: usize,
        incarnation: u32,
        step: u32,
    },
    /// Somebody looks whether a lock is as it should be; last, just before its deadline.
    ProbeLock {
        id: OperationId,
        deadline: u64,
        is_last: bool,
    },
    /// Something goes wrong.
    InjectFault,
    /// A thing that went wrong is over.
    Repair(Repair),
    /// A stopped machine goes on.
    ResumeClient {
        client: usize,
        corrects_wall: bool,
    },
    /// Is the phase over?
    CheckPhase,
}

/// What is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Repair {
    NodeUp(usize),
    Promote(usize),
    EndErrors(usize),
    EndEviction(usize),
    SwapBack(usize),
    /// Its clock was behind.
    CorrectClock(usize),
    NodeClockRate(usize),
    ClientClockRate(usize),
    ClientUp(usize),
}

/// How far the history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SimPhase {
    /// Things go wrong.
    Faults,
    /// Nothing does any more, and one client tries to have every lock.
    Recovery,
    /// No client wants anything any more.
    Drain,
    Done,
}

/// Writes down what happened, where a log is wanted.
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
        let nodes = (0..plan.quorum.nodes()).map(|index| {
            let mut node = Node::new(index, plan.config());
            let drift_ppm = rng.pick(&[0, max_node_drift, -max_node_drift, max_node_drift / 2]);
            node.set_haste(drift_ppm, 0);
            let set_off = rng.between(0, 40_000_000) as i64 - 20_000_000;
            node.jump(0, set_off + plan.clock_offset(&mut rng));
            node.mistake = profile.script_mistake;
            NodeHost::new(node, drift_ppm)
        });
        let nodes: Vec<NodeHost> = nodes.collect();
        let max_slowdown = plan.max_client_slowdown_ppm();
        let clients = (0..plan.client_count).map(|client| {
            let drift_ppm = rng.pick(&[0, -max_slowdown, max_slowdown, -max_slowdown / 2]);
            let boot = rng.between(1, 1_000_000) * 1_000_000;
            let off = rng.between(0, 40_000_000) as i64 - 20_000_000;
            let off = if rng.chance_permille(profile.wrong_wall_clocks) { off * 100_000 } else { off };
            let off = off + plan.clock_offset(&mut rng);
            ClientHost::new(&plan, client, ClientClocks::new(boot, drift_ppm, off - boot as i64), drift_ppm)
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
            keys: ["a", "b"][..plan.key_count].iter().map(|name| Key::new(name)).collect(),
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

    /// Runs it to its end.
    pub(super) fn run(&mut self) {
        self.stats.histories = 1;
        log_event!(self, "{:?}", self.plan);
        if self.plan.is_initialized && self.plan.fenced != 0 {
            let identity = Marker::identity(ClusterId::new(0xc1), self.plan.config());
            for node_host in &mut self.nodes {
                let backdate = self.plan.max_ttl;
                let write = MarkerWrite {
                    replaces: None,
                    identity: identity.clone(),
                    backdate,
                    written_micros: 0,
                    base_micros: 0,
                };
                node_host.redis.read_marker(Some(&write), START);
            }
        }
        self.note_possible_cluster_id();
        if self.plan.has_orphan_keys {
            self.insert_orphan_keys();
        }
        for client in 0..self.clients.len() {
            self.start_client(client);
        }
        let first = self.next_fault_delay();
        self.schedule_after(first, SimEvent::InjectFault);
        self.schedule_at(self.phase_until, SimEvent::CheckPhase);
        while self.phase != SimPhase::Done && self.oracle.violation.is_none() {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.nanos = self.nanos.max(at);
            self.stats.events += 1;
            if self.stats.events > MOST_EVENTS {
                self.report_violation(Invariant::Termination, &format!("{MOST_EVENTS} events, and no end"));
            }
            self.handle(event);
        }
    }

    fn handle(&mut self, event: SimEvent) {
        match event {
            SimEvent::NodeReceives(conn) => self.node_receives(conn),
            SimEvent::ClientReceives(conn) => self.client_receives(conn),
            SimEvent::ConnectionLost(conn) => self.on_connection_lost(conn),
            SimEvent::ConnectTimeout(conn) => {
                if self.connections[conn].state == LinkState::Dialing {
                    self.cut_connection(conn, 0);
                    self.on_connection_lost(conn);
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
            SimEvent::ProbeLock { id, deadline, is_last } => self.probe_lock(id, deadline, is_last),
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

    /// Whether this process lives and runs; if it only stands still, the event comes again when it goes on.
    pub(super) fn is_running_or_defer(&mut self, client: usize, incarnation: u32, event: SimEvent) -> bool {
        let client_host = &self.clients[client];
        if client_host.incarnation != incarnation || client_host.is_dead {
            return false;
        }
        let thaws = client_host.frozen_until;
        if thaws > self.nanos {
            // What it then sees first, answers or the time, is a matter of rng.
            let delay = self.rng.below(2_000_000);
            self.schedule_at(thaws + delay, event);
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

    /// A process of this client begins.
    pub(super) fn start_client(&mut self, client: usize) {
        self.clients[client].is_dead = false;
        let incarnation = self.clients[client].incarnation;
        for node in 0..self.nodes.len() {
            let delay = self.rng.below(2_000_000);
            self.schedule_after(delay, SimEvent::Dial { client, node, incarnation });
        }
        for key in 0..self.keys.len() {
            let delay = self.rng.below(20_000_000);
            self.schedule_after(delay, SimEvent::TaskStep { client, key, incarnation, step: 0 });
        }
    }

    // Words.

    pub(super) fn push_log_line(&mut self, message: &str) {
        let millis = (self.nanos - START) as f64 / 1e6;
        if let Some(log) = &mut self.log {
            log.push(format!("{millis:>12.3} ms  {message}"));
        }
    }

    pub(super) fn report_violation(&mut self, invariant: Invariant, message: &str) {
        log_event!(self, "AGAINST {invariant:?}: {message}");
        self.oracle.violation.get_or_insert_with(|| Violation { invariant, message: message.to_owned() });
    }
}

/// True time at the beginning.
pub(super) const START: u64 = 5_000_000_000;
const MOST_EVENTS: u64 = 200_000;
