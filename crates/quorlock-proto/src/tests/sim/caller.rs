//! What the programs do that use the locks, one task for each key and client.

use std::time::Duration;

use super::engine::{Deed, Sim, Stage, tell};
use super::oracle::Record;
use super::waiters::{Then, Wait};
use crate::attempt::FailureReason;
use crate::coordinator::{OperationEvent, OperationId};
use crate::lease::RenewalPolicy;
use crate::lease_params::LeaseParams;
use crate::quorum::NodeSet;
use crate::request::{LockSpec, RequestKind};
use crate::tests::world::ms;

/// One program that wants one key now and then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Task {
    pub(super) state: State,
    step: u32,
    pub(super) wait: Wait,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Idle,
    /// It wants a lock that others have.
    Waiting(Then),
    Trying(OperationId),
    Holding {
        id: OperationId,
        until: u64,
    },
}

impl Sim<'_> {
    /// A task goes on with what it does.
    pub(super) fn step(&mut self, who: usize, key: usize, step: u32) {
        let task = self.peers[who].tasks[key];
        if task.step != step {
            return;
        }
        match task.state {
            State::Idle if self.wants(who, key) => {
                if self.stage == Stage::Storm
                    && self.plan.waiters > 0
                    && self.chance.permille(self.plan.waiters)
                {
                    self.begin_wait(who, key);
                } else {
                    self.try_it(who, key);
                }
            }
            State::Idle => {}
            State::Waiting(then) => self.go_on_waiting(who, key, then),
            State::Trying(id) => {
                self.tally.abandoned += 1;
                self.let_go(who, key, id, true);
            }
            State::Holding { id, until } => self.work(who, key, id, until),
        }
    }

    fn wants(&self, who: usize, key: usize) -> bool {
        match self.stage {
            Stage::Storm => true,
            Stage::Calm => self.oracle.suitor == who && !self.oracle.had.contains(&key),
            Stage::Still | Stage::Over => false,
        }
    }

    pub(super) fn next_step(&mut self, who: usize, key: usize, later: u64) {
        let life = self.peers[who].life;
        let task = &mut self.peers[who].tasks[key];
        task.step += 1;
        let step = task.step;
        self.after(later, Deed::Step { who, key, life, step });
    }

    pub(super) fn try_it(&mut self, who: usize, key: usize) {
        let (least, most) = (self.plan.least_ttl.as_millis() as u64, self.plan.max_ttl.as_millis() as u64);
        let ttl = ms(self.chance.of_any_size(least, most));
        let params = LeaseParams::new(ttl, self.plan.drift, None, self.plan.limits.reply_timeout);
        let params = params.expect("terms that work");
        let (curious, auto_renew) = (self.chance.permille(300), self.chance.permille(700));
        let floor = if self.chance.permille(50) { self.oracle.largest_number } else { 0 };
        let floor = if self.plan.has_far_floors && self.chance.permille(100) {
            let ahead = self.chance.of_any_size(1_000_000, 400_000_000_000_000);
            self.sites[0].node.clock_micros(self.nanos) + ahead
        } else {
            floor
        };
        let spec = LockSpec {
            key: self.keys[key].clone(),
            params,
            want_holder_ttl: curious,
            min_fencing_number: floor,
        };
        let max_hold = self.chance.permille(80).then(|| ttl * 2);
        let policy = RenewalPolicy { auto_renew, max_hold_time: max_hold };
        let (id, token) = self.oracle.begin(self.profile.slip, who, key);
        let peer = &self.peers[who];
        let (life, is_fenced) = (peer.life, peer.is_fenced);
        let record = Record::new(who, life, key, token, self.nanos, is_fenced);
        self.oracle.records.push(Record { ttls: (ttl, ttl), auto_renew, ..record });
        self.tally.attempts += 1;
        tell!(self, "client {who} tries key {key} for {ttl:?} as lock {id}");
        let now = self.now(who);
        self.peers[who].tasks[key].state = State::Trying(id);
        self.peers[who].tasks[key].step += 1;
        self.peers[who].coordinator.acquire(id, spec, policy, token, now);
        // Some do not wait for the outcome.
        if self.stage == Stage::Storm && self.chance.permille(80) {
            let later = self.chance.below(params.attempt_timeout().as_nanos() as u64);
            self.next_step(who, key, later);
        }
        self.act(who);
    }

    fn work(&mut self, who: usize, key: usize, id: OperationId, until: u64) {
        let is_over = self.oracle.records[id as usize].is_told_lost;
        if self.nanos >= until || is_over || self.stage != Stage::Storm {
            let walks_away = self.chance.permille(100);
            self.let_go(who, key, id, walks_away);
            return;
        }
        if self.chance.permille(150) {
            let (least, most) =
                (self.plan.least_ttl.as_millis() as u64, self.plan.max_ttl.as_millis() as u64);
            let ttl = ms(self.chance.of_any_size(least, most));
            let params = LeaseParams::new(ttl, self.plan.drift, None, self.plan.limits.reply_timeout);
            let now = self.now(who);
            tell!(self, "client {who} extends lock {id} to {ttl:?}");
            self.tally.extensions += 1;
            let (least, most) = self.oracle.records[id as usize].ttls;
            self.oracle.records[id as usize].ttls = (least.min(ttl), most.max(ttl));
            self.peers[who].coordinator.extend(id, params.expect("terms that work"), now);
            self.act(who);
        } else if self.chance.permille(100) && !self.is_valid(id) {
            let now = self.now(who);
            self.peers[who].coordinator.expire(id, now);
            self.act(who);
        }
        let later = self.chance.below(until - self.nanos + 10_000_000) + 1_000_000;
        self.next_step(who, key, later);
    }

    fn let_go(&mut self, who: usize, key: usize, id: OperationId, walks_away: bool) {
        let now = self.now(who);
        tell!(self, "client {who} {} lock {id}", if walks_away { "abandons" } else { "releases" });
        if !walks_away && self.is_valid(id) {
            self.oracle.free_since.insert(key, self.nanos);
        }
        self.oracle.end(id);
        self.peers[who].tasks[key].state = State::Idle;
        self.leave_line(who, key);
        if walks_away {
            self.peers[who].coordinator.cancel(id, now);
        } else {
            self.give_up(who, key, id);
        }
        let later = self.chance.of_any_size(100_000, 200_000_000);
        self.next_step(who, key, later);
        self.act(who);
    }

    /// As `src/driver/drive/lines.rs` does it: also where the lock does not stand, those in line hear of it.
    fn give_up(&mut self, who: usize, key: usize, id: OperationId) {
        let (now, name) = (self.now(who), self.keys[key].clone());
        let coordinator = &self.peers[who].coordinator;
        let places = self.places_of(who, &name);
        let beyond: NodeSet =
            coordinator.possibly_set_nodes(id).map_or(NodeSet::EMPTY, |touched| places.without(touched));
        // Where nobody stands in line there is nobody to hear of it.
        let beyond = if self.plan.waiters > 0 { beyond } else { NodeSet::EMPTY };
        let beyond: NodeSet = beyond.iter().filter(|node| coordinator.is_responsive(*node, now)).collect();
        self.peers[who].coordinator.release(id, now);
        for node in beyond.iter() {
            let survey = self.survey();
            self.peers[who].coordinator.enqueue(
                survey,
                node,
                (RequestKind::ReleaseAndNotify, name.clone(), Duration::ZERO),
                now,
            );
        }
    }

    /// What a task hears of its lock.
    pub(super) fn tell_caller(&mut self, who: usize, id: OperationId, event: &OperationEvent) {
        if let OperationEvent::Surveyed(votes) = event {
            self.be_told_of_line(who, id, votes);
            return;
        }
        let key = self.oracle.records.get(id as usize).map_or(usize::MAX, |record| record.key);
        let Some(task) = self.peers[who].tasks.get(key).copied() else { return };
        match event {
            OperationEvent::Won { .. } if task.state == State::Trying(id) => {
                let Some(work) = self.oracle.life_left(id, self.now(who)) else { return };
                let work = self.chance.below(work * self.plan.work / 100 + 1);
                let until = self.nanos + work;
                let task = &mut self.peers[who].tasks[key];
                task.state = State::Holding { id, until };
                self.check_starvation(key);
                self.oracle.free_since.remove(&key);
                let task = &mut self.peers[who].tasks[key];
                // Nobody else in this process waits for it.
                task.wait.share.on_taken(0);
                task.wait.is_on = false;
                if self.stage == Stage::Calm {
                    self.oracle.had.insert(key);
                }
                let later = if self.chance.permille(50) { 0 } else { self.chance.below(work + 1) };
                self.next_step(who, key, later);
            }
            OperationEvent::Failed(refusal) if task.state == State::Trying(id) => {
                self.oracle.end(id);
                if task.wait.is_on {
                    self.wait_on(who, key, refusal);
                    return;
                }
                self.peers[who].tasks[key].state = State::Idle;
                let told = match refusal.reason {
                    FailureReason::Contended { retry_after } | FailureReason::OnProbation { retry_after } => {
                        retry_after
                    }
                    _ => None,
                };
                let pause = self.chance.of_any_size(1_000_000, self.plan.longest_nanos() / 4);
                let told = told.map_or(0, |span| span.as_nanos() as u64).min(self.plan.longest_nanos() / 4);
                let later = if self.chance.permille(500) { told + pause } else { pause };
                self.next_step(who, key, later);
            }
            OperationEvent::Lost(_) if matches!(task.state, State::Holding { id: held, .. } if held == id) => {
                let later = self.chance.of_any_size(100_000, 50_000_000);
                self.next_step(who, key, later);
            }
            _ => {}
        }
    }

    /// All tasks let go of what they hold or try for.
    pub(super) fn send_home(&mut self, who: usize) {
        for key in 0..self.keys.len() {
            match self.peers[who].tasks[key].state {
                State::Idle => self.next_step(who, key, 1_000_000),
                State::Waiting(_) => self.give_up_waiting(who, key),
                State::Trying(id) => self.let_go(who, key, id, true),
                State::Holding { id, .. } => self.let_go(who, key, id, false),
            }
        }
    }
}
