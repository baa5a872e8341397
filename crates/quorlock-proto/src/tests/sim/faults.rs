//! How things go wrong.

use super::engine::{Deed, Repair, Sim, Stage, tell};
use super::parts::Way;
use super::plan::Fault;
use super::tally::Cause;

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
            Fault::Restart | Fault::RestartEmpty | Fault::RestartOldCopy | Fault::RestartBehind => {
                self.restart(fault, node)
            }
            Fault::Flush | Fault::RoleChange | Fault::Replica | Fault::Swap | Fault::KeyDeleted => {
                self.forget(fault, node)
            }
            Fault::ResetStat => self.reset_stats(node),
            Fault::SmallJump | Fault::JumpBack | Fault::JumpForth | Fault::FastNode => {
                self.disturb_clock(fault, node)
            }
            Fault::Freeze => {
                let span = self.span();
                self.sites[node].frozen_until = self.nanos + span;
                self.note_trouble(node, self.nanos + span);
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
                self.repair_after(Repair::Errors(node))
            }
            Fault::Evicts => {
                let site = &mut self.sites[node];
                site.eviction_was_recorded &= site.node.evicts;
                site.node.evicts = true;
                site.evicts_since = site.evicts_since.min(self.nanos);
                tell!(self, "node {node} is configured to evict keys");
                self.note_trouble(node, self.nanos);
                self.note_founders();
                if self.chance.permille(700) {
                    self.evict(node);
                }
                self.repair_after(Repair::Evicts(node))
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
            self.note_trouble_between(who, node, until);
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
        self.note_trouble_between(who, node, self.nanos);
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
                self.peers[who].begin_again(&self.plan);
                self.after(span, Deed::Repair(Repair::ClientUp(who)));
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
                self.look_again(who);
            }
            Fault::SlowClient => {
                let haste = -(self.plan.drift_millionths * self.chance.between(2, 4) as i64).min(700_000);
                tell!(self, "client {who}'s clocks run slow by {haste} millionths");
                self.peers[who].clocks.set_haste(haste, self.nanos);
                self.oracle.mislead(who, u64::MAX, Cause::ClientClock);
                self.look_again(who);
                self.repair_after(Repair::ClientRate(who));
            }
            _ => return false,
        }
        true
    }

    /// A stopped process or machine goes on.
    pub(super) fn go_on(&mut self, who: usize, is_shown: bool) {
        let peer = &mut self.peers[who];
        if peer.frozen_until > self.nanos {
            // It was stopped again meanwhile, and goes on later.
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
        self.look_again(who);
    }

    /// Errors were all that a look was answered with, or a client that should have looked stood still.
    pub(super) fn could_not_look(&mut self, node: usize, since: u64) {
        self.oracle.prolong_unseen(node, since, self.nanos + self.plan.look_window());
        let site = &mut self.sites[node];
        if site.evicts_since < u64::MAX {
            site.evicts_since = self.nanos;
        }
    }

    /// How long something lasts: from a moment to longer than any lock.
    pub(super) fn span(&mut self) -> u64 {
        self.chance.of_any_size(1_000_000, self.plan.longest_nanos() * 2)
    }

    pub(super) fn repair_after(&mut self, repair: Repair) -> bool {
        let span = self.span();
        self.after(span, Deed::Repair(repair));
        true
    }
}
