//! What goes wrong with a node: its process, its data, its clock.

use super::engine::{Deed, Repair, Sim, tell};
use super::parts::{Peer, Way};
use super::plan::Fault;
use super::tally::Cause;
use crate::marker::Marker;
use crate::test_util::node::{Data, DataKey, EPOCH};

impl Sim<'_> {
    pub(super) fn restart(&mut self, fault: Fault, node: usize) -> bool {
        let site = &mut self.sites[node];
        if site.is_down {
            return false;
        }
        let data = match fault {
            Fault::Restart => site.node.data().clone(),
            Fault::RestartOldCopy | Fault::RestartBehind => site.copy.clone().unwrap_or_default(),
            _ => Data::new(),
        };
        site.node.restart(data);
        site.run += 1;
        site.is_down = true;
        site.is_replica = false;
        site.frozen_until = 0;
        (site.swapped, site.marker_at_reset) = (None, None);
        tell!(self, "node {node}: {fault:?}");
        self.forgets(node, fault != Fault::Restart);
        for place in 0..self.conns.len() {
            if self.conns[place].node == node && self.conns[place].state != Way::Cut {
                self.sever(place, 0);
                let later = self.way();
                self.after(later, Deed::Break(place));
            }
        }
        let span = self.span();
        self.after(span, Deed::Repair(Repair::NodeUp(node)));
        if fault == Fault::RestartBehind && self.sites[node].clock_behind_by == 0 {
            self.start_clock_behind(node, span);
        }
        true
    }

    /// Its clock is behind when it comes up, and is set right soon after: before anybody may vote there who knew it.
    fn start_clock_behind(&mut self, node: usize, up_after: u64) {
        let longest = self.plan.longest_nanos();
        let by = self.chance.of_any_size(longest / 4, 4 * longest);
        (self.sites[node].clock_behind_by, self.sites[node].clock_behind_since) = (by as i64, self.nanos);
        self.set_node_clock(node, -(by as i64));
        let later = up_after + self.chance.of_any_size(1_000_000, longest);
        self.after(later, Deed::Repair(Repair::ClockBehind(node)));
    }

    pub(super) fn set_clock_right(&mut self, node: usize) {
        let by = std::mem::take(&mut self.sites[node].clock_behind_by);
        if by == 0 {
            return;
        }
        self.set_node_clock(node, by);
        let since = self.sites[node].clock_behind_since;
        let is_early = self.nanos < since + self.plan.least_probation();
        if self.plan.is_all_fenced() && is_early && self.oracle.hurt_since(node, since).is_none() {
            // No key was laid there since. Only those who go by its clock alone take its probation to be over, and only
            // where the clock of the client that marked it was wrong too, or theirs is.
            if !self.do_walls_agree() {
                self.oracle.hurt(node, self.nanos, Cause::ClockBehindAtStart);
            }
        } else {
            self.oracle.hurt(node, self.nanos, Cause::NodeClock);
        }
    }

    /// Whether the wall clocks of clients are right all the time, by less than half of what two may differ by.
    fn do_walls_agree(&self) -> bool {
        let is_off = |peer: &Peer| {
            let wall = peer.clocks.read(self.nanos).wall_nanos();
            wall.abs_diff(EPOCH + self.nanos) > self.plan.longest_nanos() / 50
        };
        let meddling = [Fault::WallSet, Fault::VmStopUnseen, Fault::SlowClient, Fault::Suspend];
        !self.plan.faults.iter().any(|fault| meddling.contains(fault)) && !self.peers.iter().any(is_off)
    }

    /// Its memory is full.
    pub(super) fn evict(&mut self, node: usize) {
        let slots: Vec<DataKey> = self.sites[node].node.data().keys().cloned().collect();
        let (mut gone, mut forgot) = (Vec::new(), false);
        for slot in slots
            .into_iter()
            .filter(|slot| !matches!(slot, DataKey::Marker | DataKey::Clock | DataKey::HighestAheadOfClock))
        {
            if self.chance.permille(600) {
                forgot |= matches!(slot, DataKey::Fence(_));
                gone.push(slot);
            }
        }
        if gone.is_empty() {
            return;
        }
        tell!(self, "node {node} evicts {gone:?}");
        self.sites[node].node.evict(&gone);
        self.forgets(node, forgot);
        let window = self.plan.look_window();
        if self.sites[node].evicts_since.saturating_add(window) >= self.nanos {
            // Those that have not looked since let it vote.
            self.oracle.hurt(node, self.nanos + window, Cause::EvictedUnseen);
        }
    }

    /// What it counted is gone, and with it perhaps the only trace of what it evicted.
    pub(super) fn reset_stats(&mut self, node: usize) -> bool {
        let was_told = !self.marker_agrees(node);
        self.sites[node].node.reset_stats();
        // The database that is swapped away will be back with its own.
        let away = self.sites[node].swapped.as_ref().map(|data| data.get(&DataKey::Marker)?.value.clone());
        self.sites[node].marker_at_reset = away.unwrap_or_else(|| self.marker_of(node));
        self.note_founders();
        tell!(self, "node {node}'s statistics are reset");
        if was_told && !self.sites[node].eviction_was_recorded {
            self.excuse_reset(node);
        }
        true
    }

    /// Where the marker agrees with what the node is, although it has forgotten: counts are as they were when the marker
    /// was written, and nobody has written it again since they were reset.
    fn excuse_reset(&mut self, node: usize) {
        let marker = self.marker_of(node);
        if marker.is_some() && marker == self.sites[node].marker_at_reset && self.marker_agrees(node) {
            tell!(self, "nothing tells any more that node {node} has forgotten");
            self.oracle.hurt(node, self.nanos, Cause::StatisticsReset);
        }
    }

    /// Whether its marker was written by just what it is now, or is when it evicts no more.
    fn marker_agrees(&self, node: usize) -> bool {
        let text = self.marker_of(node);
        let marker = text.and_then(|text| Marker::parse(std::str::from_utf8(&text).ok()?));
        let mut node = self.sites[node].node.clone();
        node.evicts = false;
        marker.is_some_and(|marker| marker.incarnation == node.incarnation())
    }

    fn marker_of(&self, node: usize) -> Option<Vec<u8>> {
        self.sites[node].node.data().get(&DataKey::Marker)?.value.clone()
    }

    /// The database that it had is there again.
    pub(super) fn swap_back(&mut self, node: usize) {
        let Some(data) = self.sites[node].swapped.take() else { return };
        tell!(self, "node {node}'s databases are swapped back");
        self.sites[node].node.swap(data);
        self.forgets(node, true);
        self.excuse_reset(node);
        // Those that have not looked since find the marker that they know.
        let until = self.nanos + self.plan.look_window();
        self.oracle.hurt(node, until, Cause::RoleUnseen);
    }

    pub(super) fn forget(&mut self, fault: Fault, node: usize) -> bool {
        if self.sites[node].is_down {
            return false;
        }
        match fault {
            Fault::Flush => {
                tell!(self, "node {node} is flushed");
                let site = &mut self.sites[node];
                site.node.flush();
                site.swapped = site.swapped.take().map(|_| Data::new());
                self.forgets(node, true);
            }
            Fault::Swap => {
                if self.sites[node].swapped.is_some() {
                    return false;
                }
                tell!(self, "node {node}'s databases are swapped: it has nothing");
                self.sites[node].swapped = Some(self.sites[node].node.swap(Data::new()));
                self.forgets(node, true);
                return self.repair_after(Repair::Swap(node));
            }
            Fault::KeyDeleted => {
                let key = self.keys[self.chance.place(self.keys.len())].clone();
                let slot = DataKey::Lock(key.clone());
                if !self.sites[node].node.data().contains_key(&slot) {
                    return false;
                }
                // Every other time by a break, which also makes the fence a larger number that nobody was given.
                let is_break = self.nanos % 2 == 1;
                self.sites[node].node.force_release(&key, is_break, self.nanos);
                tell!(self, "an operator deletes {slot:?} on node {node}; a break: {is_break}");
                self.oracle.hurt(node, self.nanos, Cause::KeyDeleted);
            }
            Fault::Replica => {
                let site = &mut self.sites[node];
                if site.is_replica {
                    return false;
                }
                site.is_replica = true;
                tell!(self, "node {node} is made a replica");
                return self.repair_after(Repair::Master(node));
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
        let marker = data.get(&DataKey::Marker).and_then(|entry| entry.value.as_deref());
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
        self.excuse_reset(node);
        self.note_trouble(node, now);
        self.note_founders();
    }

    pub(super) fn disturb_clock(&mut self, fault: Fault, node: usize) -> bool {
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
                self.repair_after(Repair::NodeRate(node));
            }
        }
        true
    }

    fn set_node_clock(&mut self, node: usize, by: i64) {
        tell!(self, "node {node}'s clock is set by {} ms", by as f64 / 1e6);
        let site = &mut self.sites[node];
        site.node.jump_clock(self.nanos, by);
        self.note_trouble(node, self.nanos);
        self.note_error(node);
    }

    pub(super) fn set_node_haste(&mut self, node: usize, haste: i64) {
        tell!(self, "node {node}'s clock now runs {haste} millionths too fast");
        self.note_error(node);
        let now = self.nanos;
        self.sites[node].node.set_drift(haste, now);
    }

    pub(super) fn note_error(&mut self, node: usize) {
        let error = self.sites[node].error(self.nanos);
        self.oracle.error(error);
    }
}
