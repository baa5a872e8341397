//! The workload: one task per client and key, which acquires, extends and releases locks.

use std::time::Duration;

use super::engine::{Sim, SimEvent, SimPhase, log_event};
use super::oracle::AttemptRecord;
use super::waiters::{WaitState, WaitStep};
use crate::attempt::FailureReason;
use crate::coordinator::{AttemptEvent, LeaseEvent, OperationEvent};
use crate::lease::RenewalPolicy;
use crate::lease_params::LeaseParams;
use crate::quorum::NodeSet;
use crate::request::{LockSpec, OperationId, RequestKind};
use crate::tests::world::ms;

/// A task that acquires one key again and again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Task {
    pub(super) state: TaskState,
    pub(super) step: u32,
    pub(super) wait: WaitState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TaskState {
    #[default]
    Idle,
    /// It waits for a lock that others hold.
    Waiting(WaitStep),
    Acquiring(OperationId),
    Holding {
        id: OperationId,
        until: u64,
    },
}

impl Sim<'_> {
    /// Continues a task, unless a later step replaced this one.
    pub(super) fn step_task(&mut self, client: usize, key: usize, step: u32) {
        let task = self.clients[client].tasks[key];
        if task.step != step {
            return;
        }
        match task.state {
            TaskState::Idle if self.wants_lock(client, key) => {
                if self.phase == SimPhase::Faults
                    && self.plan.waiters > 0
                    && self.rng.chance_permille(self.plan.waiters)
                {
                    self.start_waiting(client, key);
                } else {
                    self.start_attempt(client, key);
                }
            }
            TaskState::Idle => {}
            TaskState::Waiting(wait_step) => self.continue_waiting(client, key, wait_step),
            TaskState::Acquiring(id) => {
                self.stats.cancelled += 1;
                self.end_lock(client, key, id, true);
            }
            TaskState::Holding { id, until } => self.continue_work(client, key, id, until),
        }
    }

    fn wants_lock(&self, client: usize, key: usize) -> bool {
        match self.phase {
            SimPhase::Faults => true,
            SimPhase::Recovery => {
                self.oracle.recovery_client == client && !self.oracle.acquired_keys.contains(&key)
            }
            SimPhase::Drain | SimPhase::Done => false,
        }
    }

    pub(super) fn schedule_step(&mut self, client: usize, key: usize, delay: u64) {
        let incarnation = self.clients[client].incarnation;
        let task = &mut self.clients[client].tasks[key];
        task.step += 1;
        let step = task.step;
        self.schedule_after(delay, SimEvent::TaskStep { client, key, incarnation, step });
    }

    pub(super) fn start_attempt(&mut self, client: usize, key: usize) {
        let ttl = self.draw_ttl(client);
        let params = LeaseParams::new(ttl, self.plan.drift, None, self.plan.limits.reply_timeout);
        let params = params.expect("valid lease parameters");
        let (want_holder_ttl, auto_renew) = (self.rng.chance_permille(300), self.rng.chance_permille(700));
        let min_fencing_number =
            if self.rng.chance_permille(50) { self.oracle.largest_fencing_number } else { 0 };
        let min_fencing_number = if self.plan.has_far_min_numbers && self.rng.chance_permille(100) {
            let ahead = self.rng.log_uniform(1_000_000, 400_000_000_000_000);
            self.nodes[0].redis.clock_micros(self.nanos) + ahead
        } else {
            min_fencing_number
        };
        let name = self.keys[key].clone();
        let spec = LockSpec { key: name, params, want_holder_ttl, min_fencing_number, previous_owner: None };
        let max_hold_time = self.rng.chance_permille(80).then(|| ttl * 2);
        let policy = RenewalPolicy { auto_renew, max_hold_time };
        let (id, token) = self.oracle.next_attempt(self.profile.client_mistake, client, key);
        let client_host = &self.clients[client];
        let (incarnation, is_fenced) = (client_host.incarnation, client_host.is_fenced);
        let record = AttemptRecord::new(client, incarnation, key, token, self.nanos, is_fenced);
        self.oracle.records.push(AttemptRecord { ttl_range: (ttl, ttl), auto_renew, ..record });
        self.stats.attempts += 1;
        log_event!(self, "client {client} requests key {key} for {ttl:?} as lock {id}");
        let now = self.now(client);
        self.clients[client].tasks[key].state = TaskState::Acquiring(id);
        self.clients[client].tasks[key].step += 1;
        self.clients[client].coordinator.acquire(id, spec, policy, token, now);
        // Some tasks cancel the attempt before its outcome.
        if self.phase == SimPhase::Faults && self.rng.chance_permille(80) {
            let delay = self.rng.below(params.attempt_timeout().as_nanos() as u64);
            self.schedule_step(client, key, delay);
        }
        self.run_actions(client);
    }

    /// Draws a TTL: where the max TTL may change, sometimes one that is too long.
    fn draw_ttl(&mut self, client: usize) -> Duration {
        let (min, max) =
            (self.plan.min_ttl.as_millis() as u64, self.plan.largest_max_ttl().as_millis() as u64);
        let ttl = ms(self.rng.log_uniform(min, max));
        let is_cut =
            self.plan.reconfigures() && (self.phase != SimPhase::Faults || self.rng.chance_permille(900));
        if is_cut { ttl.min(self.clients[client].coordinator.max_ttl()) } else { ttl }
    }

    fn continue_work(&mut self, client: usize, key: usize, id: OperationId, until: u64) {
        let is_over = self.oracle.records[id as usize].is_loss_reported;
        if self.nanos >= until || is_over || self.phase != SimPhase::Faults {
            let cancels = self.rng.chance_permille(100);
            self.end_lock(client, key, id, cancels);
            return;
        }
        if self.plan.tickets > 0 && self.hand_over(client, key, id) {
            return;
        }
        if self.rng.chance_permille(150) {
            let ttl = self.draw_ttl(client);
            let params = LeaseParams::new(ttl, self.plan.drift, None, self.plan.limits.reply_timeout);
            let now = self.now(client);
            log_event!(self, "client {client} extends lock {id} to {ttl:?}");
            self.stats.extensions += 1;
            let (min, max) = self.oracle.records[id as usize].ttl_range;
            self.oracle.records[id as usize].ttl_range = (min.min(ttl), max.max(ttl));
            self.clients[client].coordinator.extend(id, params.expect("valid lease parameters"), now);
            self.run_actions(client);
        } else if self.rng.chance_permille(100) && !self.is_valid(id) {
            let now = self.now(client);
            self.clients[client].coordinator.expire(id, now);
            self.run_actions(client);
        }
        let delay = self.rng.below(until - self.nanos + 10_000_000) + 1_000_000;
        self.schedule_step(client, key, delay);
    }

    fn end_lock(&mut self, client: usize, key: usize, id: OperationId, cancels: bool) {
        let now = self.now(client);
        log_event!(self, "client {client} {} lock {id}", if cancels { "cancels" } else { "releases" });
        if !cancels && self.is_valid(id) {
            self.oracle.free_since.insert(key, self.nanos);
        }
        self.oracle.end_lock(id);
        self.clients[client].tasks[key].state = TaskState::Idle;
        self.leave_queue(client, key);
        if cancels {
            self.clients[client].coordinator.cancel(id, now);
        } else {
            self.release(client, key, id);
        }
        let delay = self.rng.log_uniform(100_000, 200_000_000);
        self.schedule_step(client, key, delay);
        self.run_actions(client);
    }

    /// Releases as `src/driver/event_loop` does. Queue nodes without the lock's key also get the
    /// notification.
    fn release(&mut self, client: usize, key: usize, id: OperationId) {
        let (now, name) = (self.now(client), self.keys[key].clone());
        let coordinator = &self.clients[client].coordinator;
        let queue_nodes = self.queue_nodes_of(client, &name);
        let notify_only: NodeSet =
            coordinator.possibly_set_nodes(id).map_or(NodeSet::EMPTY, |touched| queue_nodes.without(touched));
        // Without waiters, no process needs a notification.
        let notify_only = if self.plan.waiters > 0 { notify_only } else { NodeSet::EMPTY };
        let notify_only: NodeSet =
            notify_only.iter().filter(|node| coordinator.is_responsive(*node, now)).collect();
        self.clients[client].coordinator.release(id, now);
        for node in notify_only.iter() {
            let id = self.next_request_id();
            self.clients[client].coordinator.request_one(
                id,
                node,
                (RequestKind::ReleaseAndNotify, name.clone(), Duration::ZERO),
                now,
            );
        }
    }

    /// Delivers an operation's event to the task that owns the lock.
    pub(super) fn deliver_to_task(&mut self, client: usize, id: OperationId, event: &OperationEvent) {
        if let OperationEvent::Replied(vote) = event {
            self.on_queue_reply(client, id, vote);
            return;
        }
        let key = self.oracle.records.get(id as usize).map_or(usize::MAX, |record| record.key);
        let Some(task) = self.clients[client].tasks.get(key).copied() else { return };
        match event {
            OperationEvent::Attempt(AttemptEvent::Won { .. }) if task.state == TaskState::Acquiring(id) => {
                let Some(work) = self.oracle.time_to_deadline(id, self.now(client)) else { return };
                let work = self.rng.below(work * self.plan.max_work_percent / 100 + 1);
                let until = self.nanos + work;
                let task = &mut self.clients[client].tasks[key];
                task.state = TaskState::Holding { id, until };
                self.check_starvation(key);
                self.oracle.free_since.remove(&key);
                let task = &mut self.clients[client].tasks[key];
                // No other task of this process waits for the key.
                task.wait.cohort.on_acquired(0);
                task.wait.is_waiting = false;
                if self.phase == SimPhase::Recovery {
                    self.oracle.acquired_keys.insert(key);
                }
                let delay = if self.rng.chance_permille(50) { 0 } else { self.rng.below(work + 1) };
                self.schedule_step(client, key, delay);
            }
            OperationEvent::Attempt(AttemptEvent::Failed(failure))
                if task.state == TaskState::Acquiring(id) =>
            {
                self.oracle.end_lock(id);
                self.stats.not_adopted += u64::from(self.oracle.records[id as usize].ticket.is_some());
                if task.wait.is_waiting {
                    self.on_attempt_failed(client, key, failure);
                    return;
                }
                self.clients[client].tasks[key].state = TaskState::Idle;
                let hint = match failure.reason {
                    FailureReason::Contended { retry_after } | FailureReason::OnProbation { retry_after } => {
                        retry_after
                    }
                    _ => None,
                };
                let pause = self.rng.log_uniform(1_000_000, self.plan.max_ttl_nanos() / 4);
                let hint = hint.map_or(0, |span| span.as_nanos() as u64).min(self.plan.max_ttl_nanos() / 4);
                let delay = if self.rng.chance_permille(500) { hint + pause } else { pause };
                self.schedule_step(client, key, delay);
            }
            OperationEvent::Lease(LeaseEvent::Lost(_)) if matches!(task.state, TaskState::Holding { id: held, .. } if held == id) =>
            {
                let delay = self.rng.log_uniform(100_000, 50_000_000);
                self.schedule_step(client, key, delay);
            }
            _ => {}
        }
    }

    /// Ends every attempt, wait and lock of a client's tasks.
    pub(super) fn stop_all_tasks(&mut self, client: usize) {
        for key in 0..self.keys.len() {
            match self.clients[client].tasks[key].state {
                TaskState::Idle => self.schedule_step(client, key, 1_000_000),
                TaskState::Waiting(_) => self.stop_waiting(client, key),
                TaskState::Acquiring(id) => self.end_lock(client, key, id, true),
                TaskState::Holding { id, .. } => self.end_lock(client, key, id, false),
            }
        }
    }
}
