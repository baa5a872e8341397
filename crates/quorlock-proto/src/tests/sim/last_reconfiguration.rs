//! The last reconfiguration: after all faults have ended, a client finishes what others began.
//!
//! Another client has the list in force, as it takes one to give servers without memory their seats.

use std::sync::Arc;

use super::engine::{Sim, log_event};
use super::reconfigurations::{Goal, list_of};
use super::stats::Cause;
use crate::membership::NextStep;
use crate::quorum::{NodeId, NodeSet};
use crate::roster::Roster;

impl Sim<'_> {
    /// The clients that reconfigure during the faults have ended.
    pub(super) fn end_reconfigurations(&mut self) {
        for client in self.plan.client_count..self.clients.len() {
            self.crash_client(client);
        }
    }

    /// Whether the last reconfiguration has reached its goal.
    pub(super) fn is_reconfigured(&self) -> bool {
        let is_done = self.clients.get(self.plan.client_count).and_then(|it| it.progress.as_ref());
        !self.plan.reconfigures()
            || self.stats.reinitialized > 0
            || is_done.is_some_and(|it| it.next == NextStep::Done)
    }

    /// Starts the two clients again with the list in force, when it has changed.
    pub(super) fn continue_reconfiguration(&mut self) {
        if !self.plan.reconfigures() || self.oracle.reinitializations > 0 {
            return;
        }
        let Some(latest) = self.latest_roster() else { return };
        if self.oracle.last_list.replace(latest.list) == Some(latest.list) {
            return;
        }
        let Some(from) = self.nodes_of_list(latest.list) else { return };
        let to =
            self.clients[self.oracle.recovery_client].list.iter().map(|node| NodeId(*node as u8)).collect();
        let (first, second) = (self.plan.client_count, self.plan.client_count + 1);
        let goal = self.clients[first].goal.filter(|_| !self.clients[first].is_dead);
        if goal.is_none_or(|goal| goal.to != to || !is_on_the_way(&goal, from)) {
            self.crash_client(first);
            self.run_reconfiguration(first, Goal { from, to, quorum: None, max_ttl: None });
        }
        log_event!(self, "client {second} has the list in force, {from:?}");
        self.crash_client(second);
        let client_host = &mut self.clients[second];
        (client_host.goal, client_host.list) = (None, from.iter().map(NodeId::index).collect());
        client_host.reset_process(&self.plan);
        self.start_client(second);
    }

    /// Whether no client can give the servers in force their seats: they have lost the roster, or have accepted a step
    /// after one that is lost, or are the remains of two lock clusters.
    pub(super) fn is_reconfigured_cluster_lost(&self) -> bool {
        let Some(latest) = self.latest_roster() else { return true };
        let Some(nodes) = self.nodes_of_list(latest.list) else { return true };
        let knows = |node: NodeId| self.roster_in_data(node.index()).is_some_and(|it| it == latest);
        // A step that follows a roster which no server has in its data any more.
        let is_of_lost = |it: &Roster| it.list != latest.list && it.epoch != latest.epoch.after_change();
        let has_accepted = |node: NodeId| {
            self.record_of(node.index()).and_then(|it| it.accepted).is_some_and(|(_, it)| is_of_lost(&it))
        };
        nodes.iter().any(has_accepted)
            || self.oracle.roster_exemption == Some(Cause::SecondLockCluster)
            || !nodes.iter().any(knows)
    }

    /// Whether the client has the list in force. Otherwise it gives no server a seat.
    pub(super) fn has_list_in_force(&self, client: usize) -> bool {
        let list = list_of(&self.clients[client].list).hash();
        !self.plan.reconfigures() || self.latest_roster().is_some_and(|it| it.list == list)
    }

    /// The roster in force: the latest in any server's data.
    pub(super) fn latest_roster(&self) -> Option<Arc<Roster>> {
        (0..self.nodes.len()).filter_map(|node| self.roster_in_data(node)).max_by_key(|it| it.epoch)
    }
}

fn is_on_the_way(goal: &Goal, nodes: NodeSet) -> bool {
    goal.from.and(goal.to).without(nodes).is_empty() && nodes.without(goal.from.or(goal.to)).is_empty()
}
