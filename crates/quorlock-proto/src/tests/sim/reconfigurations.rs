//! Reconfigurations: clients that change the nodes, the quorum or the max TTL while others lock.
//!
//! At a time at most two clients reconfigure. Each has a goal, and ends at a random moment; another one follows. After
//! all faults have ended, a last one must reach the list of the client that acquires every lock.

use std::time::Duration;

use super::engine::{Sim, SimEvent, SimPhase, log_event};
use super::plan::{MAX_NODES, Plan};
use super::rng::SeededRng;
use super::situations::Situation;
use crate::marker::LockClusterConfig;
use crate::membership::{Membership, NextStep, ReconfigurationState};
use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::roster::reconfiguration::Reconfiguration;
use crate::roster::{ListHash, NodeList};

/// What the lock cluster of a history may become.
#[derive(Clone, Debug, Default)]
pub(super) struct Reconfigurations {
    /// None in a history without reconfigurations.
    pub(super) goals: Vec<Goal>,
    /// The nodes that are in no list at first.
    pub(super) spares: usize,
    /// The nodes in the list of each client that locks.
    lists: Vec<NodeSet>,
    /// How long a client reconfigures on average, in nanoseconds.
    run_nanos: u64,
}

/// What one client makes of the lock cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    pub(super) from: NodeSet,
    pub(super) to: NodeSet,
    pub(super) quorum: Option<usize>,
    pub(super) max_ttl: Option<Duration>,
}

impl Goal {
    /// Its membership, for a client that dials these nodes.
    pub(super) fn membership(&self, plan: &Plan, list: &[usize], client: u64) -> (Quorum, Membership) {
        let names: Vec<String> = list.iter().map(|node| node_name(*node)).collect();
        let all = NodeList::new(&names);
        let local = |nodes: NodeSet| -> NodeSet {
            let is_in = |index: &usize| nodes.contains(NodeId(list[*index] as u8));
            (0..list.len()).filter(is_in).map(|index| NodeId(index as u8)).collect()
        };
        let goal = Reconfiguration::new(names, (local(self.from), local(self.to)), self.quorum, self.max_ttl);
        let quorum = Quorum::new(self.from.len(), None).expect("a quorum");
        let config = LockClusterConfig::new(quorum, plan.max_ttl).with_retention(plan.config().retention());
        let members = Membership::reconfiguring(config, plan.drift, all, client, (goal, false));
        (quorum.listing(list.len()), members)
    }

    /// The nodes that its client dials.
    pub(super) fn list(&self) -> Vec<usize> {
        hosts(self.from.or(self.to))
    }
}

impl Plan {
    /// The nodes that are listed at first.
    pub(super) fn first_list(&self) -> NodeSet {
        self.quorum.all()
    }

    /// The nodes in this client's list.
    pub(super) fn list_of(&self, client: usize) -> Vec<usize> {
        hosts(self.reconfigurations.lists.get(client).copied().unwrap_or_else(|| self.first_list()))
    }

    pub(super) const fn reconfigures(&self) -> bool {
        !self.reconfigurations.goals.is_empty()
    }

    /// How many clients there are beside those that lock: two that reconfigure. At the end, one of them has the list in
    /// force.
    pub(super) const fn other_clients(&self) -> usize {
        if self.reconfigures() { 2 } else { 0 }
    }

    /// The longest max TTL that may be in force.
    pub(super) fn largest_max_ttl(&self) -> Duration {
        self.max_ttls().max().unwrap_or(self.max_ttl)
    }

    pub(super) fn longest_ttl_nanos(&self) -> u64 {
        self.largest_max_ttl().as_nanos() as u64
    }

    pub(super) fn shortest_max_ttl_nanos(&self) -> u64 {
        self.max_ttls().min().unwrap_or(self.max_ttl).as_nanos() as u64
    }

    fn max_ttls(&self) -> impl Iterator<Item = Duration> {
        self.reconfigurations.goals.iter().filter_map(|goal| goal.max_ttl).chain([self.max_ttl])
    }

    pub(super) fn draw_reconfigurations(&mut self, rng: &mut SeededRng) {
        let first = self.first_list();
        let spares = (MAX_NODES - first.len()).min(3);
        let goal = self.draw_goal(first, spares, rng);
        let back = Goal { to: first, max_ttl: goal.max_ttl.map(|_| self.max_ttl), quorum: None, ..goal };
        let other = if rng.chance_permille(500) { back } else { self.draw_goal(first, spares, rng) };
        let goals = if rng.chance_permille(400) { vec![goal, other] } else { vec![goal] };
        let lists = (0..self.client_count).map(|_| if rng.chance_permille(500) { first } else { goal.to });
        self.reconfigurations = Reconfigurations {
            spares,
            lists: lists.collect(),
            run_nanos: rng.log_uniform(self.max_ttl_nanos() / 4, 6 * self.max_ttl_nanos()),
            goals,
        };
        self.fenced = (1 << self.client_count) - 1;
        self.is_initialized = true;
        (self.has_misconfigured_client, self.has_other_list, self.has_orphan_keys) = (false, false, false);
        self.first_node_absent_until = None;
        self.faults_nanos = self.faults_nanos.max(self.max_ttl_nanos() * rng.between(3, 8));
    }

    fn draw_goal(&self, first: NodeSet, spares: usize, rng: &mut SeededRng) -> Goal {
        let (nodes, mut to) = (first.len(), first);
        let is_of_settings = rng.chance_permille(250);
        if !is_of_settings {
            let removed = rng.below(nodes as u64 + 1) as usize;
            let added = match rng.below(3) {
                // As many as are removed: an exchange.
                0 | 1 => removed.max(1).min(spares),
                _ => rng.below(spares as u64 + 1) as usize,
            };
            (0..removed).for_each(|_| to.remove(NodeId(rng.index(nodes) as u8)));
            (nodes..nodes + added).for_each(|node| to.insert(NodeId(node as u8)));
            if to.is_empty() {
                to.insert(NodeId(0));
            }
        }
        let majority = to.len() / 2 + 1;
        let quorum = match rng.below(4) {
            0 => Some(majority),
            1 => Some((majority + 1).min(to.len())),
            _ => None,
        };
        let changes_ttl = rng.chance_permille(if is_of_settings { 700 } else { 200 });
        let max_ttl =
            changes_ttl.then(|| if rng.chance_permille(600) { self.max_ttl / 2 } else { self.max_ttl * 2 });
        Goal { from: first, to, quorum, max_ttl }
    }
}

impl Sim<'_> {
    /// A client begins to reconfigure, if it does not do so yet.
    pub(super) fn start_reconfiguration(&mut self, client: usize) {
        if self.phase != SimPhase::Faults {
            return;
        }
        let goals = &self.plan.reconfigurations.goals;
        let index = usize::from(goals.len() > 1 && self.rng.chance_permille(400));
        let mut goal = goals[index];
        // A person may know either list as the one in force.
        if let Some(other) = goals.get(1 - index).filter(|_| self.rng.chance_permille(400)) {
            goal.from = other.to;
        }
        if self.clients[client].is_dead {
            self.run_reconfiguration(client, goal);
        }
        let run = self.plan.reconfigurations.run_nanos;
        let duration = self.rng.log_uniform(1_000_000, 2 * run);
        self.schedule_after(duration, SimEvent::EndReconfiguration(client));
    }

    pub(super) fn run_reconfiguration(&mut self, client: usize, goal: Goal) {
        log_event!(self, "client {client} reconfigures from {:?}: {goal:?}", goal.from);
        let client_host = &mut self.clients[client];
        (client_host.goal, client_host.list) = (Some(goal), goal.list());
        client_host.reset_process(&self.plan);
        self.start_client(client);
    }

    /// The client that reconfigures dies. Another one follows later.
    pub(super) fn end_reconfiguration(&mut self, client: usize) {
        if self.phase != SimPhase::Faults {
            return;
        }
        self.crash_client(client);
        let pause = self.rng.log_uniform(1_000_000, 2 * self.plan.max_ttl_nanos());
        self.schedule_after(pause, SimEvent::StartReconfiguration(client));
    }

    pub(super) fn on_reconfiguration_progress(&mut self, client: usize, progress: ReconfigurationState) {
        log_event!(
            self,
            "client {client} sees roster {} of {:?} in force; next: {:?}",
            progress.roster.epoch,
            self.clients[client].hosts(progress.nodes),
            progress.next
        );
        let was_done = self.clients[client].progress.as_ref().is_some_and(|it| it.next == NextStep::Done);
        if progress.next == NextStep::Done && !was_done && !progress.roster.is_founding() {
            self.stats.count_situation(Situation::ReconfigurationDone);
        }
        self.clients[client].progress = Some(progress);
    }

    /// Counts what has been interrupted.
    pub(super) fn note_interruption(&mut self, client: usize) {
        let client_host = &self.clients[client];
        if client_host.goal.is_none() || client_host.is_dead {
            return;
        }
        let records: Vec<_> = (0..self.nodes.len()).filter_map(|node| self.record_of(node)).collect();
        let process = client_host.process();
        if records.iter().any(|it| it.promised.is_some_and(|ballot| ballot.client == process)) {
            self.stats.count_situation(Situation::InterruptedInBallot);
        }
        let is_done = client_host.progress.as_ref().is_some_and(|it| it.next == NextStep::Done);
        if !is_done && self.oracle.rosters.len() > 1 {
            self.stats.count_situation(Situation::InterruptedBetweenSteps);
        }
    }

    /// The nodes of the list with this hash.
    pub(super) fn nodes_of_list(&self, list: ListHash) -> Option<NodeSet> {
        let mut all = (1..1_u16 << self.nodes.len()).map(NodeSet::from_bits);
        all.find(|nodes| list_of(&hosts(*nodes)).hash() == list)
    }
}

/// The list of these nodes.
pub(super) fn list_of(nodes: &[usize]) -> NodeList {
    NodeList::new(&nodes.iter().map(|node| node_name(*node)).collect::<Vec<_>>())
}

fn node_name(node: usize) -> String {
    format!("node {node}")
}

fn hosts(nodes: NodeSet) -> Vec<usize> {
    nodes.iter().map(NodeId::index).collect()
}
