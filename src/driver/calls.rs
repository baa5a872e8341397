//! Pending calls: passes commands of callers to the coordinator, and results of operations to their callers.

mod hand_over;

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::{Span, debug_span};

use super::by_id::ById;
use super::command::{DriverCommand, ExtendOutcome, ShutdownRemainder, SurveyResult};
use super::shared_lease::SharedLease;
use super::yield_policy::YieldPolicy;
use crate::host::entropy;
use crate::observe::{Event, Events};
use quorlock_proto::attempt::AttemptFailure;
use quorlock_proto::coordinator::{AttemptEvent, Coordinator, LeaseEvent, OperationEvent};
use quorlock_proto::fence::FencingToken;
use quorlock_proto::lease::LossReason;
use quorlock_proto::marker::ClusterId;
use quorlock_proto::membership::InitResult;
use quorlock_proto::request::{Key, OperationId};
use quorlock_proto::time::{BootTime, DualTimestamp};
use quorlock_proto::vote::{KeyOwner, Vote};

/// The driver's record of operations by id: callers that wait, and held locks.
pub(super) struct PendingCalls {
    events: Events,
    /// Running attempts, releases, surveys, enqueues and initializations. A release may have no waiting
    /// caller.
    calls: ById<PendingCall>,
    /// Held locks, and lost ones that are not released yet.
    leases: ById<LeaseEntry>,
    /// Running renewals with a waiting extension or a tracing span.
    renewals: ById<PendingRenewal>,
    shutdown: Option<ShutdownState>,
    yield_policy: YieldPolicy,
}

/// An operation with a key, and where its result goes.
struct PendingCall {
    key: Key,
    caller: ReplyTo,
}

/// The kind of an operation, and where its result goes.
enum ReplyTo {
    /// An attempt.
    Acquiring(oneshot::Sender<Result<Arc<SharedLease>, AttemptFailure>>),
    /// A release; `None` if no caller waits for it.
    Releasing(Option<oneshot::Sender<Vec<Vote>>>),
    /// A survey of a key.
    Surveying(oneshot::Sender<SurveyResult>),
    /// An enqueue.
    Enqueuing(oneshot::Sender<Vote>),
    /// The initialization of a lock cluster.
    Initializing(oneshot::Sender<InitResult>),
}

/// A held or lost lock. There may be thousands, so an entry is one pointer.
struct LeaseEntry(Arc<SharedLease>);

impl Drop for LeaseEntry {
    /// Marks the lock as lost, because nothing renews it without this entry. Does nothing to a released lock.
    fn drop(&mut self) {
        self.0.mark_lost(LossReason::ClientClosed);
    }
}

/// A running renewal: the extensions that wait for its outcome, and its tracing span.
struct PendingRenewal {
    extending: Vec<oneshot::Sender<ExtendOutcome>>,
    span: Span,
}

impl PendingRenewal {
    /// Sends the outcome to every waiting extension, and returns the span. `outcome` makes one value per
    /// extension, because most renewals have none, and an outcome may own the nodes' votes.
    fn end(self, outcome: impl Fn() -> ExtendOutcome) -> Span {
        for reply in self.extending {
            let _ = reply.send(outcome());
        }
        self.span
    }
}

impl Default for PendingRenewal {
    fn default() -> Self {
        Self { extending: Vec::new(), span: Span::none() }
    }
}

/// A running shutdown.
struct ShutdownState {
    deadline: DualTimestamp,
    replies: Vec<oneshot::Sender<ShutdownRemainder>>,
}

impl PendingCalls {
    pub(super) fn new(events: Events) -> Self {
        Self {
            events,
            calls: ById::default(),
            leases: ById::default(),
            renewals: ById::default(),
            shutdown: None,
            yield_policy: YieldPolicy::default(),
        }
    }

    /// Decides whether the driver yields first, so that the callers can send their next commands.
    pub(super) fn decide_yield(&mut self, now: BootTime) -> bool {
        self.yield_policy.decide_yield(self.calls.len(), now)
    }

    /// The key of a pending call or a held lock.
    pub(super) fn key_of(&self, id: OperationId) -> Option<&Key> {
        let key = self.calls.get(&id).map(|call| &call.key);
        key.or_else(|| self.leases.get(&id).map(|lease| lease.0.key()))
    }

    pub(super) fn handle_command(
        &mut self,
        command: DriverCommand,
        coordinator: &mut Coordinator,
        now: DualTimestamp,
    ) {
        match command {
            // During a shutdown, drop the reply of new work: its caller gets `Closed`.
            DriverCommand::Acquire { .. }
            | DriverCommand::Survey { .. }
            | DriverCommand::Initialize { .. }
                if self.shutdown.is_some() => {}
            DriverCommand::Acquire { id, mut spec, policy, is_ttl_shortened, reply } => {
                if is_ttl_shortened {
                    spec.params = spec.params.at_most(coordinator.max_ttl());
                }
                self.calls
                    .insert(id, PendingCall { key: spec.key.clone(), caller: ReplyTo::Acquiring(reply) });
                coordinator.acquire(id, spec, policy, entropy::owner_token(), now);
            }
            DriverCommand::Cancel(id) => self.cancel(id, coordinator, now),
            DriverCommand::Abandon(id) => {
                self.leases.remove(&id);
                self.renewals.remove(&id);
                coordinator.abandon(id);
            }
            DriverCommand::HandOver { id, reply } => self.hand_over(id, reply, coordinator, now),
            DriverCommand::Extend { id, params, reply } => {
                if coordinator.extend(id, params, now) && self.leases.contains_key(&id) {
                    self.renewals.entry(id).or_default().extending.push(reply);
                } else {
                    let _ = reply.send(ExtendOutcome::Lost);
                }
            }
            DriverCommand::Release { id, hands_off_locally, reply } => {
                if let Some(lease) = self.leases.remove(&id) {
                    self.renewals.remove(&id);
                    let key = lease.0.key().clone();
                    self.calls.insert(id, PendingCall { key, caller: ReplyTo::Releasing(reply) });
                    if hands_off_locally {
                        coordinator.release_to_local_task(id, now);
                    } else {
                        coordinator.release(id, now);
                    }
                }
            }
            DriverCommand::Survey { id, kind, key, reply } => {
                self.calls.insert(id, PendingCall { key: key.clone(), caller: ReplyTo::Surveying(reply) });
                coordinator.survey(id, kind, key, now);
            }
            DriverCommand::Initialize { id, mode, reply } => {
                // The lock cluster is initialized, not a key, so the key is empty.
                self.calls
                    .insert(id, PendingCall { key: Key::new(""), caller: ReplyTo::Initializing(reply) });
                coordinator.initialize(id, ClusterId::new(entropy::nonce()), mode, now);
            }
            // `Driver::handle_commands` handles these itself, because they need the links. They never get
            // here.
            DriverCommand::Enqueue { .. }
            | DriverCommand::NotifyNext { .. }
            | DriverCommand::Dequeue { .. } => {}
            DriverCommand::Shutdown { deadline, reply } => {
                self.begin_shutdown(deadline, coordinator, now);
                if let Some(shutdown) = &mut self.shutdown {
                    shutdown.replies.push(reply);
                }
            }
        }
    }

    pub(super) fn add_enqueue(&mut self, id: OperationId, key: Key, reply: oneshot::Sender<Vote>) {
        self.calls.insert(id, PendingCall { key, caller: ReplyTo::Enqueuing(reply) });
    }

    /// Remembers the key of a release that goes to a node without the lock's key, for its wait queue. `key_of`
    /// needs the key when the node's reply arrives. The entry ends with `Replied`; no caller waits for it.
    pub(super) fn add_wait_queue_release(&mut self, id: OperationId, key: Key) {
        self.calls.insert(id, PendingCall { key, caller: ReplyTo::Releasing(None) });
    }

    /// Starts a shutdown, which rejects new work and cancels all attempts. It ends when no operation and no
    /// pending release is left, or at the deadline. A second call can only bring the deadline forward.
    pub(super) fn begin_shutdown(
        &mut self,
        deadline: DualTimestamp,
        coordinator: &mut Coordinator,
        now: DualTimestamp,
    ) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.deadline = shutdown.deadline.earlier(deadline);
            return;
        }
        self.shutdown = Some(ShutdownState { deadline, replies: Vec::new() });
        let attempts: Vec<OperationId> = (self.calls.iter())
            .filter(|(_, call)| matches!(call.caller, ReplyTo::Acquiring(_)))
            .map(|(id, _)| *id)
            .collect();
        for id in attempts {
            self.cancel(id, coordinator, now);
        }
    }

    pub(super) fn shutdown_deadline(&self) -> Option<DualTimestamp> {
        self.shutdown.as_ref().map(|shutdown| shutdown.deadline)
    }

    /// Whether a shutdown has nothing left to wait for.
    pub(super) fn is_shutdown_done(&self, coordinator: &Coordinator, now: DualTimestamp) -> bool {
        self.shutdown.as_ref().is_some_and(|shutdown| {
            now.is_due(shutdown.deadline)
                || (!coordinator.is_busy() && coordinator.pending_releases().next().is_none())
        })
    }

    /// Ends the shutdown: marks the remaining locks as lost and reports what was not released.
    pub(super) fn finish_shutdown(self, coordinator: &Coordinator) {
        // Skip locks that were already released, even if their release came too late.
        for LeaseEntry(lease) in
            self.leases.values().filter(|lease| lease.0.mark_lost(LossReason::ClientClosed))
        {
            self.events.emit(&Event::Lost { key: lease.key().clone(), reason: LossReason::ClientClosed });
        }
        for reply in self.shutdown.into_iter().flat_map(|shutdown| shutdown.replies) {
            let pending_releases =
                coordinator.pending_releases().map(|(node, key)| (node, key.clone())).collect();
            let _ = reply.send(ShutdownRemainder {
                pending_releases,
                held_keys: coordinator.held_keys().cloned().collect(),
            });
        }
    }

    /// Handles an event of an operation: sends the result to the caller and emits the public event.
    pub(super) fn on_operation_event(
        &mut self,
        id: OperationId,
        event: OperationEvent,
        coordinator: &mut Coordinator,
        now: DualTimestamp,
    ) {
        match event {
            OperationEvent::Attempt(event) => self.on_attempt_event(id, event, coordinator, now),
            OperationEvent::Lease(event) => self.on_lease_event(id, event, coordinator, now),
            OperationEvent::Released(votes) => {
                let Some(call) = self.calls.remove(&id) else { return };
                let confirmed = votes.iter().filter(|vote| vote.confirms_release());
                self.events.emit(&Event::Released { key: call.key.clone(), nodes: confirmed.count() });
                if let ReplyTo::Releasing(Some(reply)) = call.caller {
                    self.yield_policy.on_reply_sent();
                    let _ = reply.send(votes);
                }
            }
            OperationEvent::Surveyed(votes) => {
                let Some(PendingCall { key, caller: ReplyTo::Surveying(reply) }) = self.calls.remove(&id)
                else {
                    return;
                };
                let _ = reply.send(survey_result(&key, votes, coordinator));
            }
            OperationEvent::Replied(vote) => {
                if let Some(PendingCall { caller: ReplyTo::Enqueuing(reply), .. }) = self.calls.remove(&id) {
                    let _ = reply.send(vote);
                }
            }
            OperationEvent::Initialized(result) => {
                if let Some(PendingCall { caller: ReplyTo::Initializing(reply), .. }) = self.calls.remove(&id)
                {
                    let _ = reply.send(result);
                }
            }
        }
    }

    fn on_attempt_event(
        &mut self,
        id: OperationId,
        event: AttemptEvent,
        coordinator: &mut Coordinator,
        now: DualTimestamp,
    ) {
        let Some(PendingCall { key, caller: ReplyTo::Acquiring(reply) }) = self.calls.remove(&id) else {
            return;
        };
        self.yield_policy.on_reply_sent();
        match event {
            AttemptEvent::Failed(failure) => {
                self.events.emit(&Event::AcquireFailed { key, reason: failure.reason });
                let _ = reply.send(Err(failure));
            }
            AttemptEvent::Won { deadline, confirmed, fencing_number, rounds } => {
                let (Some(owner), Some(ttl)) = (coordinator.owner_hash(id), coordinator.lease_ttl(id)) else {
                    return;
                };
                let token = fencing_number.map(|number| FencingToken { number, nonce: entropy::nonce() });
                let lease = Arc::new(SharedLease::new(key.clone(), (deadline, ttl), confirmed, owner, token));
                self.leases.insert(id, LeaseEntry(Arc::clone(&lease)));
                if reply.send(Ok(lease)).is_err() {
                    // The caller dropped its future at the moment of success.
                    return self.cancel(id, coordinator, now);
                }
                let (nodes, remaining) = (confirmed.len(), now.until(deadline));
                self.events.emit(&Event::Acquired { key, nodes, remaining, fencing_number, rounds, owner });
            }
        }
    }

    fn on_lease_event(
        &mut self,
        id: OperationId,
        event: LeaseEvent,
        coordinator: &mut Coordinator,
        now: DualTimestamp,
    ) {
        let Some(LeaseEntry(lease)) = self.leases.get(&id) else { return };
        let key = || lease.key().clone();
        let mut end_renewal = |outcome: &dyn Fn() -> ExtendOutcome| {
            self.renewals.remove(&id).map_or_else(Span::none, |renewal| renewal.end(outcome))
        };
        match event {
            LeaseEvent::Confirmed(nodes) => return lease.confirm(nodes),
            LeaseEvent::Renewing => {
                let span = debug_span!(target: "quorlock::lock", "renew", key = %lease.key());
                if !span.is_disabled() {
                    self.renewals.entry(id).or_default().span = span;
                }
                return;
            }
            LeaseEvent::Renewed(deadline) => {
                lease.renew(deadline, coordinator.lease_ttl(id).unwrap_or_else(|| lease.ttl()));
                let span = end_renewal(&|| ExtendOutcome::Renewed(deadline));
                let remaining = now.until(deadline);
                span.in_scope(|| self.events.emit(&Event::Renewed { key: key(), remaining }));
            }
            LeaseEvent::RenewalFailed(votes) => {
                let span = end_renewal(&|| ExtendOutcome::NoQuorum(votes.clone()));
                let remaining = now.until(lease.deadline());
                span.in_scope(|| self.events.emit(&Event::RenewalFailed { key: key(), remaining }));
            }
            LeaseEvent::Lost(reason) => {
                lease.mark_lost(reason);
                let span = end_renewal(&|| ExtendOutcome::Lost);
                span.in_scope(|| self.events.emit(&Event::Lost { key: key(), reason }));
            }
        }
        if lease.is_lost() {
            // The lease is lost: the guard saw the deadline pass before these replies, or the coordinator
            // just reported the loss. In the second case this does nothing.
            coordinator.expire(id, now);
        }
    }

    /// Ends an operation without a result, and releases what it acquired.
    fn cancel(&mut self, id: OperationId, coordinator: &mut Coordinator, now: DualTimestamp) {
        self.calls.remove(&id);
        self.leases.remove(&id);
        self.renewals.remove(&id);
        coordinator.cancel(id, now);
    }
}

fn survey_result(key: &Key, votes: Vec<Vote>, coordinator: &Coordinator) -> SurveyResult {
    let is_ours = |vote: &Vote| match vote {
        Vote::Inspected(state) => match state.holder {
            KeyOwner::Owner(owner_hash) => coordinator.is_own_hash(key, owner_hash),
            _ => false,
        },
        _ => false,
    };
    let is_ours_per_node = votes.iter().map(is_ours).collect();
    SurveyResult { votes, is_ours_per_node }
}
