//! Locks that are handed to another client: tickets, on their way for a random time, and their adoption.

use super::engine::{Sim, SimEvent, SimPhase, log_event};
use super::oracle::AttemptRecord;
use super::plan::{FAULTS_WITHIN_LIMITS, Fault, Profile};
use super::runner;
use super::stats::Invariant;
use super::workload::TaskState;
use crate::coordinator::HandedOverLock;
use crate::lease::RenewalPolicy;
use crate::lease_params::LeaseParams;
use crate::request::{LockSpec, OperationId, PreviousOwner, Request};
use crate::vote::Vote;

/// A lock that was handed over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    lock: OperationId,
    key: usize,
    is_fenced: bool,
    handed_over: HandedOverLock,
    made_at: u64,
}

/// All faults, and holders that often hand their lock over.
pub(super) const TICKETS: Profile = Profile { tickets: 300, ..Profile::GENERAL };
/// Keys are deleted, so that another client acquires a held lock. Then late requests of the holder set its keys again.
pub(super) const LATE_TICKETS: Profile = Profile {
    nodes: &[3],
    reconfigurations: 0,
    super_majority: 0,
    clients: (3, 4),
    plain: 0,
    mixed: 0,
    beyond_limits: 1000,
    faults: &[Fault::ConnectionReset],
    faults_beyond_limits: &[Fault::KeyDeleted],
    all_faults: true,
    slow_messages: 200,
    faults_on_send: 100,
    clock_offsets: 0,
    waiters: 0,
    far_min_numbers: 0,
    checks_redundancy: false,
    other_lists: 0,
    adjust: Some(|plan| {
        plan.key_count = 1;
        plan.max_work_percent = 30;
        plan.slow_messages = plan.slow_messages.max(50);
    }),
    ..TICKETS
};

#[test]
fn handed_over_locks_keep_every_invariant() {
    let count = super::from_env("QUORLOCK_HISTORIES").unwrap_or(2_000);
    let stats = assert_no_violation(&TICKETS, count);
    println!("{stats}");
    assert!(stats.adopted > 1_000 && stats.not_adopted > 1_000, "{} adopted", stats.adopted);
    for fault in FAULTS_WITHIN_LIMITS {
        assert!(stats.faults.contains_key(&fault), "{fault:?} was never injected");
    }
    let stats = assert_no_violation(&LATE_TICKETS, count);
    println!("{stats}");
    assert!(stats.adopted > 500 && stats.not_adopted > 500, "{} adopted", stats.adopted);
}

#[track_caller]
fn assert_no_violation(profile: &Profile, histories: u64) -> super::stats::Stats {
    let (stats, finding) = runner::run_all(0, histories, profile);
    if let Some(finding) = finding {
        panic!("{}\n{}: {:?}", runner::replay_log(finding.seed, profile), finding.seed, finding.violation);
    }
    stats
}

impl Sim<'_> {
    /// Sometimes hands the lock over to one client, or to two at once, as a copied ticket does.
    pub(super) fn hand_over(&mut self, client: usize, key: usize, id: OperationId) -> bool {
        if !self.rng.chance_permille(self.plan.tickets) {
            return false;
        }
        let now = self.now(client);
        let Some(handed_over) = self.clients[client].coordinator.hand_over(id, now) else { return false };
        log_event!(self, "client {client} hands lock {id} over");
        self.stats.tickets += 1;
        self.oracle.end_lock(id);
        let is_fenced = self.clients[client].is_fenced;
        let ticket = self.oracle.tickets.len();
        self.oracle.tickets.push(Ticket { lock: id, key, is_fenced, handed_over, made_at: self.nanos });
        let copies = if self.rng.chance_permille(300) { 2 } else { 1 };
        for _ in 0..copies {
            let adopter = self.rng.index(self.plan.client_count);
            let delay = self.rng.log_uniform(100_000, handed_over.ttl.as_nanos() as u64 * 3 / 2);
            let incarnation = self.clients[adopter].incarnation;
            self.schedule_after(delay, SimEvent::AdoptTicket { client: adopter, incarnation, ticket });
        }
        self.clients[client].tasks[key].state = TaskState::Idle;
        self.leave_queue(client, key);
        let delay = self.rng.log_uniform(100_000, 200_000_000);
        self.schedule_step(client, key, delay);
        self.run_actions(client);
        true
    }

    /// Starts an adoption, as soon as the client's task is idle.
    pub(super) fn adopt_ticket(&mut self, client: usize, ticket: usize) {
        let Ticket { lock, key, is_fenced, handed_over, made_at } = self.oracle.tickets[ticket];
        let ttl = handed_over.ttl;
        let is_over = self.nanos > made_at + 4 * ttl.as_nanos() as u64;
        // A client of the other mode rejects the ticket.
        if self.phase != SimPhase::Faults || is_over || self.clients[client].is_fenced != is_fenced {
            return;
        }
        if self.clients[client].tasks[key].state != TaskState::Idle {
            let (delay, incarnation) =
                (self.rng.log_uniform(1_000_000, 50_000_000), self.clients[client].incarnation);
            self.schedule_after(delay, SimEvent::AdoptTicket { client, incarnation, ticket });
            return;
        }
        let params = LeaseParams::new(ttl, self.plan.drift, None, self.plan.limits.reply_timeout);
        let params = params.expect("the parameters of the ticket's lock");
        let PreviousOwner { token: previous_token, .. } = handed_over.owner;
        let spec = LockSpec {
            key: self.keys[key].clone(),
            params,
            want_holder_ttl: false,
            min_fencing_number: 0,
            previous_owner: Some(Box::new(handed_over.owner)),
        };
        let auto_renew = self.rng.chance_permille(700);
        let policy = RenewalPolicy { auto_renew, max_hold_time: None };
        let (id, token) = self.oracle.next_attempt(self.profile.client_mistake, client, key);
        let incarnation = self.clients[client].incarnation;
        let record = AttemptRecord::new(client, incarnation, key, token, self.nanos, is_fenced);
        let record = AttemptRecord { ttl_range: (ttl, ttl), auto_renew, ticket: Some(ticket), ..record };
        self.oracle.records.push(record);
        self.stats.attempts += 1;
        log_event!(self, "client {client} adopts lock {lock} (#{}) as lock {id}", previous_token.hash());
        let now = self.now(client);
        let task = &mut self.clients[client].tasks[key];
        task.state = TaskState::Acquiring(id);
        // The step that the idle task had scheduled is void.
        task.step += 1;
        self.clients[client].coordinator.acquire(id, spec, policy, token, now);
        // Some tasks cancel the adoption before its outcome.
        if self.rng.chance_permille(80) {
            let delay = self.rng.below(params.attempt_timeout().as_nanos() as u64);
            self.schedule_step(client, key, delay);
        }
        self.run_actions(client);
    }

    /// Checks that a node lets an adoption take only a key of the ticket's owner.
    pub(super) fn check_adopted_key(
        &mut self,
        node: usize,
        request: &Request,
        vote: &Vote,
        owner_before: Option<&[u8]>,
    ) {
        let Some(previous_owner) = request.previous_owner.as_ref() else {
            return;
        };
        let takes_key = vote.is_grant() || matches!(vote, Vote::FencedOut { .. });
        if takes_key && owner_before != Some(&previous_owner.token.digits()[..]) {
            let owner_before = owner_before.map(String::from_utf8_lossy);
            self.report_violation(
                Invariant::OwnKeyOnly,
                &format!("an adoption took a key on node {node} that was not the ticket's: {owner_before:?}"),
            );
        }
    }

    /// Checks that no other client acquired the lock between the ticket's holder and its adopter: after the holder, and
    /// with a number between theirs. Plain locks have no numbers that would show it.
    pub(super) fn check_adoption(&mut self, id: OperationId) {
        let record = &self.oracle.records[id as usize];
        let Some(ticket) = record.ticket else { return };
        self.stats.adopted += 1;
        let previous = self.oracle.tickets[ticket].lock;
        let previous_record = &self.oracle.records[previous as usize];
        let key = record.key;
        let is_between = |other: &&OperationId| {
            let other = &self.oracle.records[**other as usize];
            let number = other.fencing_number;
            let has_number_between =
                number > previous_record.fencing_number && number < record.fencing_number;
            other.key == key && has_number_between && other.acquired_at > previous_record.acquired_at
        };
        let Some(other) = self.oracle.acquired.iter().find(is_between).copied() else { return };
        let started_at = previous_record.started_at;
        let exemption = self
            .oracle
            .fence_loss_exemption(started_at, None, &self.plan)
            .or_else(|| self.fence_loss_since(started_at))
            .or_else(|| self.oracle.moved_exemption(&[previous, other, id]));
        let message =
            format!("lock {id} was adopted from lock {previous}, and lock {other} was between them");
        self.report_breach(Invariant::ContinuousAdoption, exemption, &message);
    }
}
