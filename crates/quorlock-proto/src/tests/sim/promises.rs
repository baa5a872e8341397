//! What clients come to believe, held against what is true: every promise is checked here.

use super::engine::{Deed, Sim, tell};
use super::excuses::can_forget;
use super::oracle::{Record, both};
use super::tally::{Cause, Invariant};
use crate::coordinator::OperationId;
use crate::lease::LossReason;
use crate::quorum::NodeSet;
use crate::time::DualTimestamp;

impl Sim<'_> {
    pub(super) fn on_won(
        &mut self,
        id: OperationId,
        deadline: DualTimestamp,
        confirmed: NodeSet,
        number: Option<u64>,
        rounds: u8,
    ) {
        self.tally.acquired += 1;
        self.tally.numbered += u64::from(number.is_some());
        self.tally.in_two_rounds += u64::from(rounds > 1);
        let (stood, robbed) = (self.nodes_with_key(id), self.robbed_of(id));
        let record = &mut self.oracle.records[id as usize];
        record.won_at = Some(self.nanos);
        (record.deadline, record.confirmed, record.number, record.ground) =
            (Some(deadline), confirmed, number, both(stood.or(robbed), confirmed));
        for (mark, numbered) in record.marks.iter().zip(&mut record.numbered) {
            *numbered = (number.is_some() && mark.number == number).then_some(mark.place);
        }
        self.oracle.largest_number = self.oracle.largest_number.max(number.unwrap_or(0));
        self.check_numbers(id);
        self.check_members(id);
        self.check_standing(id);
        self.check_confirmed(id);
        self.check_exclusion(id);
        self.overtake(id);
        self.oracle.open.push(id);
        self.oracle.won.push(id);
        self.watch(id);
    }

    pub(super) fn on_renewed(&mut self, id: OperationId, deadline: DualTimestamp) {
        self.tally.renewed += 1;
        let (stood, robbed) = (self.nodes_with_key(id), self.robbed_of(id));
        let record = &mut self.oracle.records[id as usize];
        // A shorter extension leaves the deadline as it was, and with it what the lock stands on.
        if record.deadline != Some(deadline) {
            (record.deadline, record.ground) = (Some(deadline), both(stood.or(robbed), record.confirmed));
        }
        let record = &self.oracle.records[id as usize];
        if let Some((at, other, excuse)) = record.overtaken {
            let start = record.start;
            let votes_after = record.confirmed.iter().all(|node| record.marks[node.index()].voted_at > at);
            let is_later = self.oracle.records[other as usize].number > record.number;
            // Fences keep a node from such a vote, whatever clocks do. Before that it may well have given one.
            let is_fenced = self.plan.is_all_fenced() && votes_after && is_later;
            let forgot = self.oracle.amnesty(start, None, &self.plan).or_else(|| self.forgotten(start));
            let excuse = if is_fenced { forgot } else { excuse.or_else(|| self.excuse(id, other)) };
            let words = format!("lock {id} was renewed, and another client had it meanwhile");
            self.breach(Invariant::Continuity, excuse, &words);
        }
        self.check_members(id);
        self.check_standing(id);
        self.check_confirmed(id);
        self.check_exclusion(id);
        self.watch(id);
    }

    pub(super) fn on_confirmed(&mut self, id: OperationId, nodes: NodeSet) {
        self.oracle.confirm(id, nodes);
        self.check_confirmed(id);
    }

    pub(super) fn on_lost(&mut self, id: OperationId, loss: LossReason) {
        self.tally.lost(loss);
        self.oracle.records[id as usize].is_told_lost = true;
    }

    /// This client's clocks were changed: its locks may be valid again, and its timers ring at other times.
    pub(super) fn look_again(&mut self, who: usize) {
        self.set_alarm_again(who);
        for id in self.oracle.open.clone() {
            if self.oracle.records[id as usize].who == who {
                self.check_exclusion(id);
                self.watch(id);
            }
        }
    }

    /// Looks again somewhen before its deadline, and just before that.
    fn watch(&mut self, id: OperationId) {
        let record = &self.oracle.records[id as usize];
        let (Some(deadline), who) = (record.deadline, record.who) else { return };
        let clocks = self.peers[who].clocks;
        let boot = deadline.boot_nanos().min(clocks.boot_of_wall(deadline.wall_nanos()));
        let last = clocks.when(boot).saturating_sub(2_000).max(self.nanos);
        let deadline = deadline.boot_nanos();
        let some = self.nanos + self.chance.below(last - self.nanos + 1);
        self.at(some, Deed::Probe { id, deadline, is_last: false });
        self.at(last, Deed::Probe { id, deadline, is_last: true });
    }

    pub(super) fn probe(&mut self, id: OperationId, deadline: u64, is_last: bool) {
        let record = &self.oracle.records[id as usize];
        if record.deadline.is_none_or(|now| now.boot_nanos() != deadline) || !self.is_valid(id) {
            return;
        }
        self.tally.probes += 1;
        let (who, start, since) = (record.who, record.start, record.won_at.unwrap_or_default());
        self.check_standing(id);
        self.check_confirmed(id);
        self.check_redundancy(id);
        let peer = &self.peers[who];
        // The signal comes ten milliseconds, or a tenth of the ttl, ahead. To hear it the process must have run.
        let ran = peer.frozen_until <= self.nanos && peer.undisturbed_since + 8_000_000 < self.nanos;
        let had_time = since + 3_000_000 < self.nanos;
        // Its clock may have been slowed down since this look was planned.
        let left = self.oracle.life_left(id, self.now(who));
        if is_last
            && left.is_some_and(|left| left < 100_000)
            && ran
            && had_time
            && peer.undisturbed_since < start
        {
            self.violate(
                Invariant::Signal,
                &format!("lock {id} is at its deadline, and no loss was reported"),
            );
        }
    }

    // The promises.

    fn check_standing(&mut self, id: OperationId) {
        if !self.is_valid(id) {
            return;
        }
        let record = &self.oracle.records[id as usize];
        let stands = self.nodes_with_key(id);
        let at_least = stands.or(both(record.ground, self.robbed_of(id)));
        if self.plan.quorum.is_met(at_least.len()) {
            return;
        }
        let excuse = self.oracle.misled_since(record.who, record.start);
        self.breach(
            Invariant::Standing,
            excuse,
            &format!("lock {id} is valid and stands on {stands:?} only"),
        );
    }

    /// What the margin counts, and what is counted where a clock jumped: a node is confirmed only if the key there lives
    /// for as long as the lock.
    fn check_confirmed(&mut self, id: OperationId) {
        if !self.is_valid(id) {
            return;
        }
        let record = &self.oracle.records[id as usize];
        let bare = record.confirmed.without(self.lasting(id).or(self.robbed_of(id)));
        if bare.is_empty() {
            return;
        }
        let excuse = self.oracle.misled_since(record.who, record.start);
        let words = format!("lock {id} is confirmed on {bare:?}, where its key does not live as long as it");
        self.breach(Invariant::Confirmed, excuse, &words);
    }

    fn check_exclusion(&mut self, id: OperationId) {
        if !self.is_valid(id) {
            return;
        }
        let key = self.oracle.records[id as usize].key;
        for other in self.oracle.open.clone() {
            if other != id && self.oracle.records[other as usize].key == key && self.is_valid(other) {
                let (first, second) = self.in_order(other, id);
                let excuse = self.excuse(first, second);
                self.breach(
                    Invariant::Exclusion,
                    excuse,
                    &format!("locks {first} and {second} are valid at once"),
                );
            }
        }
    }

    fn in_order(&self, one: OperationId, other: OperationId) -> (OperationId, OperationId) {
        let won_at = |id: OperationId| self.oracle.records[id as usize].won_at;
        if won_at(one) <= won_at(other) { (one, other) } else { (other, one) }
    }

    /// Why the second may have been won while the first was still believed in, if it may: the holder's clocks were
    /// wrong, or on every node that could have refused something was done to the first one's key.
    fn excuse(&self, first: OperationId, second: OperationId) -> Option<Cause> {
        let (first, second) = (&self.oracle.records[first as usize], &self.oracle.records[second as usize]);
        // Either may be the one that is believed in for too long.
        let misled = |record: &Record| self.oracle.misled_since(record.who, record.start);
        if let Some(cause) = misled(first).or_else(|| misled(second)) {
            return Some(cause);
        }
        let mut why = None;
        for node in both(first.ground, second.ground).iter() {
            let node = node.index();
            let since = first.start.min(second.start);
            let misled =
                |by: &Record| self.oracle.misled_by_clock_since(node, since, by.marks[node].known_since);
            let misled = misled(first).or_else(|| misled(second));
            let hurt = self.oracle.hurt_since(node, since).or(misled);
            let forgot = !self.plan.is_all_fenced() && self.oracle.changed_at[node] >= since;
            why = Some(hurt.or(forgot.then_some(Cause::Forgot))?);
        }
        why
    }

    /// The locks that this one comes after, as the nodes see it.
    fn overtake(&mut self, id: OperationId) {
        let record = &self.oracle.records[id as usize];
        let (key, who) = (record.key, record.who);
        for other in self.oracle.open.clone() {
            let record = &self.oracle.records[other as usize];
            if record.key == key && (record.who, other) != (who, id) && record.overtaken.is_none() {
                let excuse = self.excuse(other, id);
                self.oracle.records[other as usize].overtaken = Some((self.nanos, id, excuse));
            }
        }
    }

    /// Whether so many nodes lost their fences that a lock may be renewed although another was won after it.
    fn forgotten(&self, since: u64) -> Option<Cause> {
        let forgot = self.oracle.forgot_since(since);
        can_forget(forgot.len(), &self.plan).then_some(Cause::Forgot)
    }

    fn check_numbers(&mut self, id: OperationId) {
        if self.oracle.records[id as usize].number.is_none() {
            return;
        }
        (0..self.sites.len()).for_each(|node| self.note_error(node));
        let late = &self.oracle.records[id as usize];
        let Some(number) = late.number else { return };
        let mut found: Vec<(Invariant, Option<Cause>, String)> = Vec::new();
        for other in &self.oracle.won {
            let early = &self.oracle.records[*other as usize];
            let Some(earlier) = early.number.filter(|_| early.key == late.key) else { continue };
            // Whoever is won first may have been asked for last.
            let (since, largest) = (early.start.min(late.start), earlier.max(number));
            let amnesty = || self.oracle.amnesty(since, Some(largest), &self.plan);
            if earlier == number {
                let words = format!("locks {other} and {id} both have the number {number}");
                found.push((Invariant::Unique, amnesty(), words));
                continue;
            }
            if early.won_at < Some(late.start) && earlier > number {
                let words = format!(
                    "lock {id} was asked for after lock {other} was won, and has the smaller number: {number} < {earlier}"
                );
                found.push((Invariant::RealTime, amnesty(), words));
            }
            let shared =
                early.numbered.iter().zip(&late.numbered).filter_map(|(one, two)| Some(((*one)?, (*two)?)));
            for (one, two) in shared {
                if (one < two) != (earlier < number) {
                    let words = format!(
                        "locks {other} and {id} have numbers in another order than their grants: {earlier}, {number}"
                    );
                    found.push((Invariant::LockOrder, amnesty(), words));
                }
            }
            // Whoever was won later holds what the other held before, unless clocks cost somebody a key.
            if earlier > number {
                let excuse =
                    amnesty().or_else(|| self.excuse(*other, id)).or_else(|| self.excuse(id, *other));
                let words = format!(
                    "lock {id} was won after lock {other}, and has the smaller number: {number} < {earlier}"
                );
                found.push((Invariant::LockOrder, excuse, words));
            }
        }
        for (invariant, excuse, words) in found {
            self.breach(invariant, excuse, &words);
        }
    }

    fn check_members(&mut self, id: OperationId) {
        let record = &self.oracle.records[id as usize];
        if !record.is_fenced {
            return;
        }
        let window = self.plan.look_window();
        for node in record.confirmed.iter() {
            let site = &self.sites[node.index()];
            let may_evict = site.errors == 0 && site.evicts_since.saturating_add(window) < record.start;
            if record.marks[node.index()].is_doubtful || may_evict {
                let what = if may_evict { "may evict keys" } else { "may have forgotten" };
                let words = format!("lock {id} counts on node {}, which {what}", node.0);
                // Slow clocks look late.
                let excuse = self.oracle.misled_since(record.who, record.start.saturating_sub(4 * window));
                self.breach(Invariant::Membership, excuse, &words);
                return;
            }
        }
    }

    pub(super) fn breach(&mut self, invariant: Invariant, excuse: Option<Cause>, words: &str) {
        match excuse {
            Some(cause) => {
                tell!(self, "({words}: {cause:?})");
                *self.tally.expected.entry((invariant, cause)).or_default() += 1;
            }
            None => self.violate(invariant, words),
        }
    }
}
