//! Tasks that wait for a lock: what `src/lock/acquire.rs` does, with one task per process and key.

use std::time::Duration;

use super::engine::{Sim, SimPhase, log_event};
use super::stats::Invariant;
use super::workload::TaskState;
use crate::attempt::{AttemptFailure, FailureReason};
use crate::backoff;
use crate::fairness::{self, Cohort, FailedAttempt, NextAction, QueueNodeTrust, TrustDecision};
use crate::quorum::NodeId;
use crate::request::{OperationId, RequestKind};
use crate::vote::Vote;

/// The state of one wait, from the first attempt to the lock or the wait timeout.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WaitState {
    pub(super) is_waiting: bool,
    pub(super) cohort: Cohort,
    since: u64,
    until: u64,
    rechecks: u32,
    trust: QueueNodeTrust,
    failures: u32,
    retry_after: Option<Duration>,
    pending_request: Option<OperationId>,
    /// When it next attempts the lock although the queue node reports it taken; when it did so last; whether
    /// it does so now.
    distrusts_at: u64,
    distrusted_at: u64,
    is_distrust_attempt: bool,
    /// Whether it does so because votes may have been split. That counts as a normal attempt.
    suspects_split_votes: bool,
    /// Its normal attempts while the lock was held without faults.
    attempts_while_held: u32,
}

/// The next step of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitStep {
    Enqueue,
    /// A node has been sent the enqueue request.
    AwaitReply,
    /// It is in the wait queue, and rechecks if no notification comes.
    AwaitNotification,
    Acquire,
}

impl Sim<'_> {
    pub(super) fn start_waiting(&mut self, client: usize, key: usize) {
        self.stats.waits += 1;
        let max_ttl = self.plan.max_ttl_nanos();
        let until = self.nanos + self.rng.log_uniform(max_ttl / 2, 6 * max_ttl);
        let distrusts_at =
            self.nanos + QueueNodeTrust::initial_held_report_trust(self.rng.next_u64()).as_nanos() as u64;
        let wait = &mut self.clients[client].tasks[key].wait;
        *wait = WaitState {
            is_waiting: true,
            cohort: wait.cohort,
            since: self.nanos,
            until,
            distrusts_at,
            ..WaitState::default()
        };
        let next = wait.cohort.next_action();
        self.schedule_action(client, key, next);
    }

    fn schedule_action(&mut self, client: usize, key: usize, next: NextAction) {
        match next {
            NextAction::Acquire => self.schedule_wait_step(client, key, WaitStep::Acquire, Duration::ZERO),
            NextAction::Enqueue => self.schedule_wait_step(client, key, WaitStep::Enqueue, Duration::ZERO),
            NextAction::Wait => self.await_notification(client, key),
        }
    }

    fn schedule_wait_step(&mut self, client: usize, key: usize, wait_step: WaitStep, delay: Duration) {
        self.clients[client].tasks[key].state = TaskState::Waiting(wait_step);
        self.schedule_step(client, key, delay.as_nanos() as u64);
    }

    fn await_notification(&mut self, client: usize, key: usize) {
        let WaitState { cohort, rechecks, retry_after, distrusts_at, .. } =
            self.clients[client].tasks[key].wait;
        let limit = cohort.recheck_delay(rechecks, retry_after, self.rng.next_u64());
        let distrusts_in = Duration::from_nanos(distrusts_at.saturating_sub(self.nanos));
        self.schedule_wait_step(client, key, WaitStep::AwaitNotification, limit.min(distrusts_in));
    }

    fn backoff_delay(&mut self, client: usize, key: usize) -> Duration {
        let WaitState { failures, retry_after, .. } = self.clients[client].tasks[key].wait;
        backoff::retry(failures, retry_after, self.rng.next_u64())
    }

    pub(super) fn continue_waiting(&mut self, client: usize, key: usize, wait_step: WaitStep) {
        self.check_starvation(key);
        let wait = &self.clients[client].tasks[key].wait;
        if self.phase != SimPhase::Faults {
            return self.stop_waiting(client, key);
        }
        if self.nanos >= wait.until {
            // The last attempt starts at the wait timeout.
            return self.start_attempt(client, key);
        }
        match wait_step {
            WaitStep::Acquire => self.start_attempt(client, key),
            WaitStep::AwaitReply => {}
            WaitStep::Enqueue => self.enqueue(client, key),
            WaitStep::AwaitNotification => match wait.cohort.next_action_while_contended() {
                NextAction::Acquire => self.start_attempt(client, key),
                // The queue node may be wrong.
                NextAction::Wait if self.nanos >= wait.distrusts_at => {
                    self.attempt_despite_queue(client, key);
                }
                // The holder may have crashed without a notification.
                NextAction::Wait | NextAction::Enqueue => self.enqueue(client, key),
            },
        }
    }

    fn attempt_despite_queue(&mut self, client: usize, key: usize) {
        let wait = &mut self.clients[client].tasks[key].wait;
        wait.trust.on_wait_ended(false);
        let is_too_soon = wait.distrusted_at + MIN_DISTRUST_NANOS > self.nanos;
        if !wait.suspects_split_votes {
            wait.distrusted_at = self.nanos;
            wait.is_distrust_attempt = true;
        }
        if is_too_soon && !wait.suspects_split_votes {
            self.report_violation(
                Invariant::NoPolling,
                &format!("client {client} distrusts the wait queue again too soon"),
            );
        }
        self.start_attempt(client, key);
    }

    fn enqueue(&mut self, client: usize, key: usize) {
        let (now, name) = (self.now(client), self.keys[key].clone());
        self.clients[client].tasks[key].wait.cohort.on_enqueued();
        let coordinator = &self.clients[client].coordinator;
        let responsive =
            self.queue_node_candidates(client).filter(|(node, _)| coordinator.is_responsive(*node, now));
        let [first, next] = fairness::rendezvous_nodes(&name, responsive);
        let is_on_second = self.clients[client].tasks[key].wait.trust.uses_second_node();
        let Some(node) = next.filter(|_| is_on_second).or(first) else {
            return self.on_queue_position(client, key, None);
        };
        let id = self.next_request_id();
        let wait = &mut self.clients[client].tasks[key].wait;
        wait.pending_request = Some(id);
        let waited = Duration::from_nanos(self.nanos - wait.since);
        self.clients[client].tasks[key].state = TaskState::Waiting(WaitStep::AwaitReply);
        self.clients[client].coordinator.request_one(id, node, (RequestKind::Enqueue, name, waited), now);
        self.run_actions(client);
    }

    pub(super) const fn next_request_id(&mut self) -> OperationId {
        self.oracle.request_count += 1;
        FIRST_REQUEST_ID + self.oracle.request_count
    }

    pub(super) fn on_queue_reply(&mut self, client: usize, id: OperationId, vote: &Vote) {
        let is_pending = |key: &usize| self.clients[client].tasks[*key].wait.pending_request == Some(id);
        let Some(key) = (0..self.keys.len()).find(is_pending) else { return };
        self.clients[client].tasks[key].wait.pending_request = None;
        if self.clients[client].tasks[key].state == TaskState::Waiting(WaitStep::AwaitReply) {
            let position = matches!(vote, Vote::HeldByOther { .. } | Vote::NotHeld).then_some(vote);
            self.on_queue_position(client, key, position);
        }
    }

    fn on_queue_position(&mut self, client: usize, key: usize, vote: Option<&Vote>) {
        let wait = &mut self.clients[client].tasks[key].wait;
        match vote {
            Some(Vote::HeldByOther { remaining }) => {
                wait.retry_after = *remaining;
                wait.rechecks += 1;
                wait.trust.on_wait_ended(false);
                // A notification may have arrived meanwhile.
                match wait.cohort.next_action_while_contended() {
                    NextAction::Acquire => {
                        self.schedule_wait_step(client, key, WaitStep::Acquire, Duration::ZERO);
                    }
                    NextAction::Wait | NextAction::Enqueue => self.await_notification(client, key),
                }
            }
            Some(_) => {
                wait.cohort.on_found_free(wait.rechecks > 0, 0);
                self.end_wait(client, key, true);
            }
            None => {
                wait.cohort.on_queue_lost();
                wait.trust.on_wait_ended(false);
                let pause = self.backoff_delay(client, key);
                self.schedule_wait_step(client, key, WaitStep::Acquire, pause);
            }
        }
    }

    /// An attempt of this wait failed.
    pub(super) fn on_attempt_failed(&mut self, client: usize, key: usize, failure: &AttemptFailure) {
        let wait = &mut self.clients[client].tasks[key].wait;
        let failed = FailedAttempt {
            votes_may_be_split: failure.votes_may_be_split(),
            was_at_head: wait.cohort.on_attempt_failed(),
        };
        (wait.failures, wait.rechecks) = (wait.failures + 1, 0);
        wait.retry_after = match failure.reason {
            FailureReason::Contended { retry_after } | FailureReason::OnProbation { retry_after } => {
                retry_after
            }
            // A waiting task adopts no lock, so it never gets `NotHeld`.
            FailureReason::NoQuorum
            | FailureReason::TooLate
            | FailureReason::NodesExcluded
            | FailureReason::NotHeld => None,
        };
        let random = self.rng.next_u64();
        let wait = &mut self.clients[client].tasks[key].wait;
        let distrusts_in = wait.trust.on_attempt_failed(failed, wait.retry_after, random);
        wait.distrusts_at = self.nanos + distrusts_in.as_nanos() as u64;
        wait.suspects_split_votes = failed != FailedAttempt::default();
        if self.nanos >= wait.until {
            return self.stop_waiting(client, key);
        }
        if matches!(failure.reason, FailureReason::Contended { .. }) {
            let next = wait.cohort.next_action_while_contended();
            self.check_polling(client, key);
            self.schedule_action(client, key, next);
        } else {
            let pause = self.backoff_delay(client, key);
            self.schedule_wait_step(client, key, WaitStep::Acquire, pause);
        }
    }

    pub(super) fn stop_waiting(&mut self, client: usize, key: usize) {
        self.clients[client].tasks[key].state = TaskState::Idle;
        self.leave_queue(client, key);
        let delay = self.rng.log_uniform(100_000, 200_000_000);
        self.schedule_step(client, key, delay);
        self.run_actions(client);
    }

    /// No task of this process wants the key any more.
    pub(super) fn leave_queue(&mut self, client: usize, key: usize) {
        let wait = &mut self.clients[client].tasks[key].wait;
        wait.is_waiting = false;
        if wait.cohort.on_idle() {
            self.dequeue(client, key, None);
        }
    }

    fn dequeue(&mut self, client: usize, key: usize, node: Option<NodeId>) {
        let (now, name) = (self.now(client), self.keys[key].clone());
        let coordinator = &self.clients[client].coordinator;
        let responsive =
            self.queue_node_candidates(client).filter(|(node, _)| coordinator.is_responsive(*node, now));
        let queue_nodes =
            node.map_or_else(|| fairness::rendezvous_nodes(&name, responsive), |node| [Some(node), None]);
        for node in queue_nodes.into_iter().flatten() {
            let id = self.next_request_id();
            self.clients[client].coordinator.request_one(
                id,
                node,
                (RequestKind::Dequeue, name.clone(), Duration::ZERO),
                now,
            );
        }
    }

    /// Handles a node's notification. `has_others`: other processes wait too. `is_from_waiter`: a waiter
    /// caused it, not a release.
    pub(super) fn on_notified_by(
        &mut self,
        client: usize,
        node: usize,
        key: usize,
        (has_others, is_from_waiter): (bool, bool),
    ) {
        let id = self.clients[client].id_of(node);
        let task = &mut self.clients[client].tasks[key];
        match task.state {
            TaskState::Idle => return self.dequeue(client, key, id),
            _ => task.wait.cohort.on_notified(has_others, is_from_waiter, 0),
        }
        if task.state == TaskState::Waiting(WaitStep::AwaitNotification) {
            self.end_wait(client, key, is_from_waiter);
        }
    }

    /// Ends a wait. `is_free`: a waiter found the key free; otherwise a release notified the process.
    fn end_wait(&mut self, client: usize, key: usize, is_free: bool) {
        let (wait_step, pause) = match self.clients[client].tasks[key].wait.trust.on_wait_ended(is_free) {
            TrustDecision::Acquire => (WaitStep::Acquire, Duration::ZERO),
            TrustDecision::AcquireAfterPause => (WaitStep::Acquire, self.backoff_delay(client, key)),
            TrustDecision::EnqueueOnOtherNode => {
                self.clients[client].tasks[key].wait.cohort.on_free_reports_distrusted();
                (WaitStep::Enqueue, Duration::ZERO)
            }
        };
        self.schedule_wait_step(client, key, wait_step, pause);
    }

    /// A connection is closed, and with it perhaps a position in a wait queue.
    pub(super) fn on_queue_lost_by(&mut self, client: usize) {
        for key in 0..self.keys.len() {
            let task = &mut self.clients[client].tasks[key];
            task.wait.cohort.on_queue_lost();
            if task.state == TaskState::Waiting(WaitStep::AwaitNotification) {
                self.schedule_wait_step(client, key, WaitStep::AwaitNotification, Duration::ZERO);
            }
        }
    }

    /// Checks that a released lock does not stay free while a task waits for it.
    pub(super) fn check_starvation(&mut self, key: usize) {
        let (Some(free_since), Some(millis)) =
            (self.oracle.free_since.get(&key), self.profile.max_handoff_millis)
        else {
            return;
        };
        let is_starving = |client: &usize| {
            let task = &self.clients[*client].tasks[key];
            task.wait.is_waiting && self.nanos > (*free_since).max(task.wait.since) + millis * 1_000_000
        };
        if self.phase == SimPhase::Faults
            && let Some(client) = (0..self.clients.len()).find(is_starving)
        {
            let message =
                format!("client {client} waits for key {key}, which no client has had for {millis} ms");
            self.report_violation(Invariant::NoStarvation, &message);
        }
    }

    /// Checks that waiting tasks do not attempt again and again a lock that is held and renewed without
    /// faults.
    fn check_polling(&mut self, client: usize, key: usize) {
        if std::mem::take(&mut self.clients[client].tasks[key].wait.is_distrust_attempt) {
            return;
        }
        let is_undisturbed = |id: &OperationId| {
            let record = &self.oracle.records[*id as usize];
            record.key == key && self.is_valid(*id) && self.undisturbed_nodes(*id).len() == self.nodes.len()
        };
        let since = self.clients[client].disturbed_until.iter().max().copied().unwrap_or_default();
        let is_link_undisturbed = since + self.plan.max_ttl_nanos() < self.nanos;
        if !self.profile.checks_polling
            || !is_link_undisturbed
            || !self.oracle.unreleased.iter().any(is_undisturbed)
        {
            return;
        }
        let wait = &mut self.clients[client].tasks[key].wait;
        wait.attempts_while_held += 1;
        let attempts = wait.attempts_while_held;
        log_event!(
            self,
            "client {client} attempted key {key} without success, {attempts} times without a fault"
        );
        if attempts > MAX_ATTEMPTS_WHILE_HELD {
            self.report_violation(
                Invariant::NoPolling,
                &format!("client {client} attempted {attempts} times a lock that is held"),
            );
        }
    }
}

const MAX_ATTEMPTS_WHILE_HELD: u32 = 6;
/// As in `backoff.rs`.
const MIN_DISTRUST_NANOS: u64 = 800_000_000;
/// Ids of single requests must differ from attempt ids.
const FIRST_REQUEST_ID: OperationId = 1 << 40;
