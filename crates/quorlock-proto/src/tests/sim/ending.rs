//! How a history comes to its end: everything is mended, somebody has every lock, and nothing is left behind.

use super::engine::{Deed, Repair, Sim, Stage, tell};
use super::parts::Way;
use super::plan::Fault;
use super::tally::Invariant;
use crate::marker::{ClusterId, Marker};
use crate::test_util::node::DataKey;

impl Sim<'_> {
    pub(super) fn repair(&mut self, repair: Repair) {
        if let Repair::NodeUp(node) | Repair::Master(node) | Repair::Errors(node) | Repair::Evicts(node) =
            repair
        {
            self.note_trouble(node, self.nanos);
        }
        match repair {
            Repair::NodeUp(node) => {
                if std::mem::take(&mut self.sites[node].is_down) {
                    tell!(self, "node {node} is up");
                }
            }
            Repair::Master(node) => {
                if std::mem::take(&mut self.sites[node].is_replica) {
                    tell!(self, "node {node} is a master again");
                    self.change_role(node);
                }
            }
            Repair::Errors(node) => {
                if std::mem::take(&mut self.sites[node].errors) > 0 {
                    self.could_not_look(node, self.sites[node].errors_since);
                }
            }
            Repair::Evicts(node) => {
                self.sites[node].node.evicts = false;
                self.sites[node].evicts_since = u64::MAX;
                self.note_founders();
            }
            Repair::Swap(node) => self.swap_back(node),
            Repair::ClockBehind(node) => self.set_clock_right(node),
            Repair::NodeRate(node) => {
                let haste = self.sites[node].haste;
                self.set_node_haste(node, haste);
                self.oracle.heal_node(node, self.nanos);
            }
            Repair::ClientRate(who) => {
                let haste = self.peers[who].haste;
                self.peers[who].clocks.set_haste(haste, self.nanos);
                self.oracle.heal_client(who, self.nanos);
                self.look_again(who);
            }
            Repair::ClientUp(who) => {
                if self.peers[who].is_dead {
                    tell!(self, "client {who} is back");
                    self.bring_up(who);
                }
            }
        }
    }

    pub(super) fn end_stage(&mut self) {
        match self.stage {
            Stage::Storm => self.calm_down(),
            Stage::Calm if self.oracle.had.len() == self.keys.len() => {
                tell!(self, "every lock was had");
                self.fall_still();
            }
            Stage::Calm if self.nanos >= self.stage_until => {
                let words = "all has been well for long, and a lock could not be had";
                self.violate(Invariant::Liveness, words);
            }
            Stage::Calm => {
                self.watch_cluster();
                self.after(STAGE_LOOK, Deed::Stage);
            }
            Stage::Still if self.is_quiet() => self.look_around(),
            Stage::Still if self.nanos >= self.stage_until => {
                let owed: usize =
                    self.peers.iter().map(|peer| peer.coordinator.pending_releases().count()).sum();
                let words = format!("nobody wants anything, and somebody is still at it ({owed} undos owed)");
                self.violate(Invariant::Clean, &words);
            }
            Stage::Still => self.after(STAGE_LOOK, Deed::Stage),
            Stage::Over => {}
        }
    }

    /// Everything is mended, and everybody lets go.
    fn calm_down(&mut self) {
        tell!(self, "from here on nothing goes wrong any more");
        self.stage = Stage::Calm;
        self.remove_stale_keys();
        for node in 0..self.sites.len() {
            let ends = [
                Repair::NodeUp,
                Repair::Master,
                Repair::Errors,
                Repair::Evicts,
                Repair::Swap,
                Repair::ClockBehind,
            ];
            for end in ends {
                self.repair(end(node));
            }
            self.sites[node].frozen_until = 0;
            self.note_error(node);
            if self.plan.faults.contains(&Fault::FastNode) {
                self.repair(Repair::NodeRate(node));
            }
        }
        self.oracle.suitor = self.chance.place(self.peers.len());
        if self.peers[self.oracle.suitor].is_stranger {
            self.oracle.suitor = 0;
        }
        for who in 0..self.peers.len() {
            let peer = &mut self.peers[who];
            peer.no_way_out.fill(0);
            peer.no_way_in.fill(0);
            if peer.frozen_until > self.nanos {
                peer.frozen_until = self.nanos;
                self.go_on(who, true);
            }
            if self.plan.faults.contains(&Fault::SlowClient) {
                self.repair(Repair::ClientRate(who));
            }
            if self.peers[who].is_dead {
                self.repair(Repair::ClientUp(who));
            }
            self.send_home(who);
        }
        self.calm_at = self.nanos;
        self.stage_until = self.nanos + self.bound();
        self.after(STAGE_LOOK, Deed::Stage);
    }

    /// What is under way, the longest life of a key, a look, a probation, one more where only then a clock is
    /// found to have jumped, and some.
    fn bound(&self) -> u64 {
        let calm = 8 * self.plan.longest_nanos() + self.plan.look_window() * 2 + 2_000_000_000;
        // Keys that came from a node whose clock was ahead.
        calm + 2 * self.oracle.worst_error
    }

    /// So many nodes forgot at once that no client knows which cluster they are: then somebody must, once all locks
    /// are over.
    fn watch_cluster(&mut self) {
        let is_time = self.nanos >= self.calm_at + 3 * self.plan.longest_nanos();
        if self.plan.fenced == 0 || self.tally.declared > 0 || !is_time {
            return;
        }
        if !self.is_cluster_lost() {
            if self.oracle.declarations > 0 {
                // Some node was out of reach for the answer, and did as it was told.
                self.on_declared();
            }
            return;
        }
        let who =
            (0..self.peers.len()).find(|who| self.peers[*who].is_fenced && !self.peers[*who].is_stranger);
        let Some(who) = who else { return };
        tell!(self, "no client knows which cluster it is: client {who} declares a new one");
        self.oracle.declarations += 1;
        let now = self.now(who);
        self.peers[who].coordinator.initialize(u64::MAX, ClusterId::new(0xc2), true, now);
        self.act(who);
    }

    fn is_cluster_lost(&self) -> bool {
        let marker = |node: usize| {
            let entry = self.sites[node].node.data().get(&DataKey::Marker)?;
            Marker::parse(std::str::from_utf8(entry.value.as_deref()?).ok()?)
        };
        let markers: Vec<Option<Marker>> = (0..self.sites.len()).map(marker).collect();
        let blank = markers.iter().filter(|marker| marker.is_none()).count();
        let config = self.plan.config();
        let ours = || markers.iter().flatten().filter(|marker| marker.config == config);
        let need = self.plan.quorum.needed();
        let enough = need.min(markers.len() - 1).max(1);
        // Who has forgotten is taken back, who belongs to another cluster is not.
        let is_found = ours().any(|one| {
            let count = ours().filter(|other| other.cluster == one.cluster).count();
            count >= enough && count + blank >= need
        });
        !is_found && blank < markers.len()
    }

    /// The nodes are a new cluster, and whoever said so knows that there is nothing to forget.
    pub(super) fn on_declared(&mut self) {
        self.tally.declared += 1;
        self.oracle.forgive();
        self.stage_until = self.nanos + self.bound();
    }

    fn fall_still(&mut self) {
        self.stage = Stage::Still;
        (0..self.peers.len()).for_each(|who| self.send_home(who));
        self.stage_until = self.nanos + self.bound() + 10_000_000_000;
        self.after(STAGE_LOOK, Deed::Stage);
    }

    /// Whether nothing is under way but looks, nothing owed, and nobody at anything.
    fn is_quiet(&self) -> bool {
        let boards = self.peers.iter().all(|peer| {
            let coordinator = &peer.coordinator;
            !coordinator.is_busy() && coordinator.pending_releases().next().is_none()
        });
        boards && self.conns.iter().all(|conn| conn.state != Way::Cut || conn.to_node.is_empty())
    }

    /// After the longest life of a key, and of what keys may have been sent back in time, only our own are left.
    fn look_around(&mut self) {
        self.nanos += self.plan.longest_nanos() * 5 / 2 + 2 * self.oracle.worst_error;
        for node in 0..self.sites.len() {
            let left = self.keys.iter().map(|key| DataKey::Lock(key.clone()));
            let left =
                left.filter(|slot| self.sites[node].node.unexpired(slot, self.nanos).is_some()).count();
            if left > 0 {
                self.violate(Invariant::Clean, &format!("{left} keys are left on node {node}"));
            }
            // Where nothing went wrong, whoever stood in line was called, or has left.
            let waits = self.keys.iter().any(|key| !self.queue_of(node, key).is_empty());
            if self.profile.faults.is_empty() && self.profile.beyond == 0 && waits {
                self.violate(Invariant::Clean, &format!("clients stand in line on node {node}"));
            }
        }
        self.stage = Stage::Over;
    }
}

const STAGE_LOOK: u64 = 20_000_000;
