//! How things go wrong.

use super::engine::{Deed, Mend, Sim, Stage, tell};
use super::parts::Way;
use super::plan::Fault;
use super::tally::Cause;
use crate::node::{Data, Slot};
use crate::protocol::marker::Marker;

impl Sim<'_> {
    pub(super) fn gap(&mut self) -> u64 {
        self.chance.below(self.plan.gap.saturating_mul(2)) + 1
    }

    pub(super) fn go_wrong(&mut self) {
        if self.stage != Stage::Storm {
            return;
        }
        let later = self.gap();
        self.after(later, Deed::Fault);
        if self.plan.faults.is_empty() {
            return;
        }
        let (node, who) = (self.chance.place(self.sites.len()), self.chance.place(self.peers.len()));
        if self.chance.permille(250) {
            self.sites[node].copy = Some(self.sites[node].node.data().clone());
        }
        self.go_wrong_at(node, who);
    }

    /// Something goes wrong just here and now.
    pub(super) fn go_wrong_at(&mut self, node: usize, who: usize) {
        if self.plan.faults.is_empty() || self.stage != Stage::Storm {
            return;
        }
        let fault = self.plan.faults[self.chance.place(self.plan.faults.len())];
        if self.inflict(fault, node, who) {
            *self.tally.faults.entry(fault).or_default() += 1;
        }
    }

    /// False where it cannot be done now.
    fn inflict(&mut self, fault: Fault, node: usize, who: usize) -> bool {
        match fault {
            Fault::Cut | Fault::Partition => self.disturb_way(fault, node, who),
            Fault::Pause
            | Fault::Suspend
            | Fault::VmStop
            | Fault::VmStopUnseen
            | Fault::ClientCrash
            | Fault::WallSet
            | Fault::SlowClient => self.disturb_client(fault, who),
            Fault::Restart | Fault::RestartEmpty | Fault::RestartOldCopy => self.restart(fault, node),
            Fault::Flush | Fault::RoleChange | Fault::Replica | Fault::KeyDeleted => self.forget(fault, node),
            Fault::SmallJump | Fault::JumpBack | Fault::JumpForth | Fault::FastNode => {
                self.disturb_clock(fault, node)
            }
            Fault::Freeze => {
                let span = self.span();
                self.sites[node].frozen_until = self.nanos + span;
                tell!(self, "node {node} stands still for {} ms", span / 1_000_000);
                true
            }
            Fault::ScriptFlush => {
                tell!(self, "node {node} forgets its scripts");
                self.sites[node].node.flush_scripts();
                true
            }
            Fault::Errors => {
                if self.sites[node].errors == 0 {
                    self.sites[node].errors_since = self.nanos;
                }
                self.sites[node].errors = self.chance.pick(&[100, 500, 1000]);
                tell!(self, "node {node} answers {} of 1000 commands with an error", self.sites[node].errors);
                self.mend_after(Mend::Errors(node))
            }
            Fault::Evicts => {
                let site = &mut self.sites[node];
                site.node.evicts = true;
                site.evicts_since = site.evicts_since.min(self.nanos);
                tell!(self, "node {node} is told to evict keys");
                self.mend_after(Mend::Evicts(node))
            }
        }
    }

    fn disturb_way(&mut self, fault: Fault, node: usize, who: usize) -> bool {
        if fault == Fault::Partition {
            let until = self.nanos + self.span();
            let side = self.chance.below(3);
            let peer = &mut self.peers[who];
            if side != 1 {
                peer.no_way_out[node] = until;
            }
            if side != 2 {
                peer.no_way_in[node] = until;
            }
            tell!(
                self,
                "nothing goes {} client {who} and node {node} until {} ms",
                ["between", "back between", "forth between"][side as usize],
                (until - super::engine::START) / 1_000_000
            );
            return true;
        }
        let Some(place) = self.peers[who].wires[node] else { return false };
        let under_way = self.conns[place].to_node.len();
        let ghosts = self.chance.place(under_way + 1);
        tell!(
            self,
            "the connection of client {who} to node {node} breaks; {ghosts} of {under_way} commands under way still arrive"
        );
        self.sever(place, ghosts);
        let later = self.way();
        self.after(later, Deed::Break(place));
        true
    }

    fn disturb_client(&mut self, fault: Fault, who: usize) -> bool {
        let peer = &self.peers[who];
        if peer.is_dead || peer.frozen_until > self.nanos {
            return false;
        }
        let span = self.span();
        let millis = span / 1_000_000;
        match fault {
            Fault::Pause | Fault::Suspend | Fault::VmStop | Fault::VmStopUnseen => {
                let is_blind = self.profile.slip == Some(super::plan::Slip::SuspendBlind);
                let stops = match fault {
                    Fault::Pause => false,
                    Fault::Suspend => is_blind,
                    _ => true,
                };
                if stops {
                    self.peers[who].clocks.stop(self.nanos);
                }
                self.peers[who].is_stopped = fault != Fault::Pause;
                self.peers[who].frozen_since = self.nanos;
                self.peers[who].frozen_until = self.nanos + span;
                tell!(self, "client {who}: {fault:?} for {millis} ms");
                self.after(span, Deed::Go { who, is_shown: fault != Fault::VmStopUnseen });
            }
            Fault::ClientCrash => {
                tell!(self, "client {who} dies, and comes back after {millis} ms");
                self.oracle.end_all_of(who);
                for place in 0..self.conns.len() {
                    if self.conns[place].who == who && self.conns[place].state != Way::Cut {
                        let ghosts = self.chance.place(self.conns[place].to_node.len() + 1);
                        self.sever(place, ghosts);
                    }
                }
                self.peers[who].life += 1;
                self.peers[who].is_dead = true;
                self.peers[who].begin_anew(&self.plan);
                self.after(span, Deed::Mend(Mend::ClientUp(who)));
            }
            Fault::WallSet => {
                let by = self.chance.of_any_size(1_000_000, 10_000_000_000) as i64;
                let by = if self.chance.permille(500) { -by } else { by };
                tell!(self, "client {who}'s wall clock is set by {} ms", by / 1_000_000);
                let peer = &mut self.peers[who];
                peer.clocks.set_wall(by);
                peer.was_set_back |= by < 0;
                peer.undisturbed_since = self.nanos;
                if by < 0 && peer.has_stood {
                    // What the clock showed of that is gone.
                    self.oracle.mislead(who, self.nanos, Cause::VmStop);
                }
                self.look_anew(who);
            }
            Fault::SlowClient => {
                let haste = -(self.plan.drift_millionths * self.chance.between(2, 4) as i64).min(700_000);
                tell!(self, "client {who}'s clocks run slow by {haste} millionths");
                self.peers[who].clocks.set_haste(haste, self.nanos);
                self.oracle.mislead(who, u64::MAX, Cause::ClientClock);
                self.look_anew(who);
                self.mend_after(Mend::ClientRate(who));
            }
            _ => return false,
        }
        true
    }

    /// A stopped process or machine goes on.
    pub(super) fn go_on(&mut self, who: usize, is_shown: bool) {
        let peer = &mut self.peers[who];
        if peer.frozen_until > self.nanos {
            // It was stopped anew meanwhile, and goes on later.
            return;
        }
        let is_asleep = self.profile.slip == Some(super::plan::Slip::SuspendBlind);
        let stood = peer.clocks.start(self.nanos);
        peer.undisturbed_since = self.nanos;
        peer.is_stopped = false;
        if stood > 0 && !is_asleep {
            if is_shown {
                peer.clocks.set_wall(stood as i64);
            }
            peer.has_stood = true;
            if !is_shown || peer.was_set_back {
                self.oracle.mislead(who, self.nanos, Cause::VmStop);
            }
        }
        tell!(self, "client {who} goes on");
        let since = self.peers[who].frozen_since;
        (0..self.sites.len()).for_each(|node| self.could_not_look(node, since));
        self.look_anew(who);
    }

    /// Errors were all that a look was answered with, or a client that should have looked stood still.
    pub(super) fn could_not_look(&mut self, node: usize, since: u64) {
        self.oracle.prolong_unseen(node, since, self.nanos + self.plan.look_window());
        let site = &mut self.sites[node];
        if site.evicts_since < u64::MAX {
            site.evicts_since = self.nanos;
        }
    }

    fn restart(&mut self, fault: Fault, node: usize) -> bool {
        let site = &mut self.sites[node];
        if site.is_down {
            return false;
        }
        let data = match fault {
            Fault::Restart => site.node.data().clone(),
            Fault::RestartOldCopy => site.copy.clone().unwrap_or_default(),
            _ => Data::new(),
        };
        site.node.restart(data);
        site.run += 1;
        site.is_down = true;
        site.is_replica = false;
        site.frozen_until = 0;
        tell!(self, "node {node}: {fault:?}");
        self.forgets(node, fault != Fault::Restart);
        for place in 0..self.conns.len() {
            if self.conns[place].node == node && self.conns[place].state != Way::Cut {
                self.sever(place, 0);
                let later = self.way();
                self.after(later, Deed::Break(place));
            }
        }
        self.mend_after(Mend::NodeUp(node))
    }

    fn forget(&mut self, fault: Fault, node: usize) -> bool {
        if self.sites[node].is_down {
            return false;
        }
        match fault {
            Fault::Flush => {
                tell!(self, "node {node} is flushed");
                self.sites[node].node.data_mut().clear();
                self.forgets(node, true);
            }
            Fault::KeyDeleted => {
                let key = self.keys[self.chance.place(self.keys.len())].clone();
                let slot = Slot::Lock(key);
                if self.sites[node].node.data_mut().remove(&slot).is_none() {
                    return false;
                }
                tell!(self, "somebody deletes {slot:?} on node {node}");
                self.oracle.hurt(node, self.nanos, Cause::KeyDeleted);
            }
            Fault::Replica => {
                let site = &mut self.sites[node];
                if site.is_replica {
                    return false;
                }
                site.is_replica = true;
                tell!(self, "node {node} is made a replica");
                return self.mend_after(Mend::Master(node));
            }
            _ => {
                tell!(self, "node {node} is made a replica and a master again, in no time");
                self.change_role(node);
            }
        }
        true
    }

    /// The node has the data of another, or of itself at some other time.
    pub(super) fn change_role(&mut self, node: usize) {
        let other = self.chance.place(self.sites.len());
        let data = match self.chance.below(3) {
            0 => Data::new(),
            1 => self.sites[other].node.data().clone(),
            _ => self.sites[node].copy.clone().unwrap_or_default(),
        };
        // A client that has not looked since may take it for the node that it knew.
        let marker = data.get(&Slot::Marker).and_then(|entry| entry.value.as_deref());
        let marker = marker.and_then(|text| Marker::parse(std::str::from_utf8(text).ok()?));
        let is_own =
            marker.is_some_and(|marker| marker.incarnation.as_str().starts_with(&format!("n{node}r")));
        self.sites[node].node.change_role(data);
        self.forgets(node, true);
        if is_own {
            let until = self.nanos + self.plan.look_window();
            self.oracle.hurt(node, until, Cause::RoleUnseen);
        }
    }

    fn forgets(&mut self, node: usize, forgot: bool) {
        let now = self.nanos;
        self.oracle.change(node, now, forgot);
    }

    fn disturb_clock(&mut self, fault: Fault, node: usize) -> bool {
        let longest = self.plan.longest_nanos();
        let site = &mut self.sites[node];
        match fault {
            Fault::SmallJump => {
                // Half of the drift is left for it, once in the life of a key.
                if site.jumped_at.is_some_and(|at| at + longest * 3 / 2 > self.nanos) {
                    return false;
                }
                let least = self.plan.least_ttl.as_nanos() as i64;
                let by = least / 1_000_000 * self.plan.drift_millionths / 2;
                site.jumped_at = Some(self.nanos);
                self.set_node_clock(node, by);
            }
            Fault::JumpBack => {
                if site.has_jumped_back {
                    return false;
                }
                site.has_jumped_back = true;
                let by = self.chance.of_any_size(1_000_000, longest / 2) as i64;
                self.set_node_clock(node, -by);
            }
            Fault::JumpForth => {
                let by = self.chance.of_any_size(20_000_000, 4 * longest) as i64;
                self.set_node_clock(node, by);
                self.oracle.hurt(node, self.nanos, Cause::NodeClock);
            }
            _ => {
                let haste = self.plan.drift_millionths * self.chance.between(3, 10) as i64;
                self.set_node_haste(node, haste);
                self.oracle.hurt(node, u64::MAX, Cause::NodeClock);
                self.mend_after(Mend::NodeRate(node));
            }
        }
        true
    }

    fn set_node_clock(&mut self, node: usize, by: i64) {
        tell!(self, "node {node}'s clock is set by {} ms", by as f64 / 1e6);
        let site = &mut self.sites[node];
        site.node.jump(self.nanos, by);
        self.note_error(node);
    }

    pub(super) fn set_node_haste(&mut self, node: usize, haste: i64) {
        tell!(self, "node {node}'s clock now runs {haste} millionths too fast");
        self.note_error(node);
        let now = self.nanos;
        self.sites[node].node.set_haste(haste, now);
    }

    pub(super) fn note_error(&mut self, node: usize) {
        let error = self.sites[node].error(self.nanos);
        self.oracle.error(error);
    }

    /// How long something lasts: from a moment to longer than any lock.
    fn span(&mut self) -> u64 {
        self.chance.of_any_size(1_000_000, self.plan.longest_nanos() * 2)
    }

    fn mend_after(&mut self, mend: Mend) -> bool {
        let span = self.span();
        self.after(span, Deed::Mend(mend));
        true
    }
}
