//! The callers' side of the driver: commands come in, results go out.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::{Span, debug_span};

use super::command::{DriverCommand, ExtendOutcome, ShutdownRemainder, SurveyResult};
use super::record::{LeaseEntry, PendingCall, PendingRenewal, ReplyTo};
use super::shared_lease::SharedLease;
use super::yield_policy::YieldPolicy;
use crate::host::entropy;
use crate::observe::{Event, Events};
use quorlock_proto::coordinator::{Coordinator, OperationEvent, OperationId};
use quorlock_proto::fence::FencingToken;
use quorlock_proto::lease::LossReason;
use quorlock_proto::marker::ClusterId;
use quorlock_proto::quorum::NodeId;
use quorlock_proto::request::Key;
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::{KeyOwner, Vote};

/// The callers of the driver, and the operation that each of them waits for.
pub(super) struct PendingCalls {
    events: Events,
    /// Callers that wait for a result.
    calls: ById<PendingCall>,
    /// Held locks.
    leases: ById<LeaseEntry>,
    /// Running renewals, if a caller or a span waits for them.
    renewals: ById<PendingRenewal>,
    shutdown: Option<ShutdownState>,
    yield_policy: YieldPolicy,
}

type ById<T> = HashMap<OperationId, T, BuildHasherDefault<IdHasher>>;

/// Hashes operation ids. They come from a counter of this process, so no attacker can choose colliding ids. The default
/// hasher's protection against that would cost more than all other work done here.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only ids are hashed; this is for completeness.
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
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
            calls: HashMap::default(),
            leases: HashMap::default(),
            renewals: HashMap::default(),
            shutdown: None,
            yield_policy: YieldPolicy::default(),
        }
    }

    /// Whether the driver should let the callers run first.
    pub(super) fn should_yield_to_callers(&mut self, boot_nanos: u64) -> bool {
        self.yield_policy.should_yield(self.calls.len(), boot_nanos)
    }

    /// The key of an operation.
    pub(super) fn key_of(&self, id: OperationId) -> Option<&Key> {
        let record = self.calls.get(&id).map(|record| &record.key);
        record.or_else(|| self.leases.get(&id).map(|keeper| keeper.0.key()))
    }

    pub(super) fn handle_command(
        &mut self,
        command: DriverCommand,
        coordinator: &mut Coordinator,
        now: DualTimestamp,
    ) {
        match command {
            // During a shutdown, reject new work by dropping its reply: the caller gets `Closed`.
            DriverCommand::Acquire { .. }
            | DriverCommand::Survey { .. }
            | DriverCommand::Initialize { .. }
                if self.shutdown.is_some() => {}
            DriverCommand::Acquire { id, spec, policy, reply } => {
                self.calls.insert(id, PendingCall::new(spec.key.clone(), ReplyTo::Acquiring(reply)));
                if spec.min_fencing_number > 0 {
                    self.events.emit(&Event::MinFencingNumberSet {
                        key: spec.key.as_str(),
                        number: spec.min_fencing_number,
                    });
                }
                coordinator.acquire(id, spec, policy, entropy::token(), now);
            }
            DriverCommand::Cancel(id) => self.cancel(id, coordinator, now),
            DriverCommand::Extend { id, params, reply } => {
                if coordinator.extend(id, params, now) && self.leases.contains_key(&id) {
                    self.renewals.entry(id).or_default().extending(reply);
                } else {
                    let _ = reply.send(ExtendOutcome::Lost);
                }
            }
            DriverCommand::Release { id, hands_off_locally, reply } => {
                if let Some(keeper) = self.leases.remove(&id) {
                    self.renewals.remove(&id);
                    self.calls
                        .insert(id, PendingCall::new(keeper.0.key().clone(), ReplyTo::Releasing(reply)));
                    if hands_off_locally {
                        coordinator.release_to_next(id, now);
                    } else {
                        coordinator.release(id, now);
                    }
                }
            }
            DriverCommand::Survey { id, kind: phase, key, reply } => {
                self.calls.insert(id, PendingCall::new(key.clone(), ReplyTo::Surveying(reply)));
                coordinator.survey(id, phase, key, now);
            }
            DriverCommand::Initialize { id, is_forced, reply } => {
                self.calls.insert(id, PendingCall::new(Key::new(""), ReplyTo::Initializing(reply)));
                coordinator.initialize(id, ClusterId::new(entropy::nonce()), is_forced, now);
            }
            // These commands need the links, and the driver has handled them before.
            DriverCommand::Enqueue { .. }
            | DriverCommand::NotifyNext { .. }
            | DriverCommand::Dequeue { .. } => {}
            DriverCommand::Shutdown { deadline, reply } => {
                self.begin_shutdown(deadline, coordinator, now);
                if let Some(closing) = &mut self.shutdown {
                    closing.replies.push(reply);
                }
            }
        }
    }

    pub(super) fn enqueue(&mut self, id: OperationId, key: Key, node: NodeId, reply: oneshot::Sender<Vote>) {
        self.calls.insert(id, PendingCall::new(key, ReplyTo::Enqueuing(node, reply)));
    }

    /// No caller waits for it, but its reply shows whether other processes want the key.
    pub(super) fn record_late_release(&mut self, id: OperationId, key: Key) {
        self.calls.insert(id, PendingCall::new(key, ReplyTo::Releasing(None)));
    }

    /// Starts a shutdown: rejects new work. It ends when all operations and pending releases are done, or at the
    /// deadline. A second call can only bring the deadline forward.
    pub(super) fn begin_shutdown(
        &mut self,
        deadline: DualTimestamp,
        coordinator: &mut Coordinator,
        now: DualTimestamp,
    ) {
        if let Some(closing) = &mut self.shutdown {
            closing.deadline = closing.deadline.earlier(deadline);
            return;
        }
        self.shutdown = Some(ShutdownState { deadline, replies: Vec::new() });
        let waiting: Vec<OperationId> = (self.calls.iter())
            .filter(|(_, record)| matches!(record.caller, ReplyTo::Acquiring(_)))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.cancel(id, coordinator, now);
        }
    }

    pub(super) fn shutdown_deadline(&self) -> Option<DualTimestamp> {
        self.shutdown.as_ref().map(|closing| closing.deadline)
    }

    /// Whether a shutdown has nothing left to wait for.
    pub(super) fn is_shutdown_done(&self, coordinator: &Coordinator, now: DualTimestamp) -> bool {
        self.shutdown.as_ref().is_some_and(|closing| {
            now.is_due(closing.deadline)
                || (!coordinator.is_busy() && coordinator.pending_releases().next().is_none())
        })
    }

    /// Ends the shutdown: marks the remaining locks as lost and reports what was not released.
    pub(super) fn finish_shutdown(self, coordinator: &Coordinator) {
        // Skip locks that were already released, even if their release came too late.
        for LeaseEntry(hold) in self.leases.values().filter(|keeper| keeper.0.mark_lost()) {
            self.events.emit(&Event::Lost { key: hold.key().as_str(), reason: LossReason::ClientClosed });
        }
        for reply in self.shutdown.into_iter().flat_map(|closing| closing.replies) {
            let undone = coordinator.pending_releases().map(|(node, key)| (node, key.clone())).collect();
            let _ = reply.send(ShutdownRemainder {
                pending_releases: undone,
                held_keys: coordinator.held_keys().cloned().collect(),
            });
        }
    }

    pub(super) fn notify(
        &mut self,
        id: OperationId,
        event: OperationEvent,
        coordinator: &mut Coordinator,
        now: DualTimestamp,
    ) {
        match event {
            OperationEvent::Surveyed(votes) => self.on_survey_done(id, votes, coordinator),
            OperationEvent::Declared(declared) => {
                let Some(record) = self.calls.remove(&id) else { return };
                if let ReplyTo::Initializing(reply) = record.caller {
                    let _ = reply.send(declared);
                }
            }
            OperationEvent::Refused(refusal) => {
                let Some(record) = self.calls.remove(&id) else { return };
                self.events.emit(&Event::AcquireFailed { key: record.key.as_str(), reason: &refusal.reason });
                if let ReplyTo::Acquiring(reply) = record.caller {
                    self.yield_policy.on_reply_sent();
                    let _ = reply.send(Err(refusal));
                }
            }
            OperationEvent::Released(votes) => {
                let Some(record) = self.calls.remove(&id) else { return };
                let confirmed = votes.iter().filter(|vote| vote.confirms_release());
                self.events.emit(&Event::Released { key: record.key.as_str(), nodes: confirmed.count() });
                if let ReplyTo::Releasing(Some(reply)) = record.caller {
                    self.yield_policy.on_reply_sent();
                    let _ = reply.send(votes);
                }
            }
            OperationEvent::Won { deadline, confirmed, number, rounds } => {
                let Some(PendingCall { key, caller: ReplyTo::Acquiring(reply) }) = self.calls.remove(&id)
                else {
                    return;
                };
                let token = number.map(|number| FencingToken { number, nonce: entropy::nonce() });
                let hold = Arc::new(SharedLease::new(key, deadline, confirmed, token));
                self.leases.insert(id, LeaseEntry(Arc::clone(&hold)));
                self.yield_policy.on_reply_sent();
                if reply.send(Ok(Arc::clone(&hold))).is_err() {
                    // The caller dropped its future at the moment of success.
                    return self.cancel(id, coordinator, now);
                }
                let (nodes, remaining) = (confirmed.len(), now.until(deadline));
                let key = hold.key().as_str();
                if let Some(mark) = coordinator.owner_hash(id) {
                    self.events.emit(&Event::Acquired { key, nodes, remaining, number, rounds, owner: mark });
                }
            }
            OperationEvent::Confirmed(_)
            | OperationEvent::Renewing
            | OperationEvent::Renewed(_)
            | OperationEvent::Unconfirmed(_)
            | OperationEvent::Lost(_) => {
                self.notify_holder(id, event, coordinator, now);
            }
        }
    }

    fn notify_holder(
        &mut self,
        id: OperationId,
        event: OperationEvent,
        coordinator: &mut Coordinator,
        now: DualTimestamp,
    ) {
        let Some(LeaseEntry(hold)) = self.leases.get(&id) else { return };
        let key = hold.key().as_str();
        let mut end_renewal = |outcome: &dyn Fn() -> ExtendOutcome| {
            self.renewals.remove(&id).map_or_else(Span::none, |renewing| renewing.end(outcome))
        };
        match event {
            OperationEvent::Confirmed(nodes) => return hold.confirm(nodes),
            OperationEvent::Renewing => {
                let span = debug_span!(target: "quorlock::lock", "renew", key);
                if !span.is_disabled() {
                    self.renewals.entry(id).or_default().begin(span);
                }
                return;
            }
            OperationEvent::Renewed(deadline) => {
                hold.renew(deadline);
                let span = end_renewal(&|| ExtendOutcome::Renewed(deadline));
                let remaining = now.until(deadline);
                span.in_scope(|| self.events.emit(&Event::Renewed { key, remaining }));
            }
            OperationEvent::Unconfirmed(votes) => {
                let span = end_renewal(&|| ExtendOutcome::NoQuorum(votes.clone()));
                let remaining = now.until(hold.deadline());
                span.in_scope(|| self.events.emit(&Event::RenewalFailed { key, remaining }));
            }
            OperationEvent::Lost(loss) => {
                hold.mark_lost();
                let span = end_renewal(&|| ExtendOutcome::Lost);
                span.in_scope(|| self.events.emit(&Event::Lost { key, reason: loss }));
            }
            OperationEvent::Won { .. }
            | OperationEvent::Refused(_)
            | OperationEvent::Released(_)
            | OperationEvent::Surveyed(_)
            | OperationEvent::Declared(_) => {}
        }
        if hold.is_lost() {
            // The guard's own check saw the deadline pass before the replies came. The loss is final: nothing restores
            // the lock.
            coordinator.expire(id, now);
        }
    }

    fn on_survey_done(&mut self, id: OperationId, votes: Vec<Vote>, coordinator: &Coordinator) {
        let Some(PendingCall { key, caller }) = self.calls.remove(&id) else { return };
        if let ReplyTo::Enqueuing(node, reply) = caller {
            // The caller may have left.
            let _ = reply.send(votes[node.index()].clone());
            return;
        }
        let is_ours = |vote: &Vote| match vote {
            Vote::Inspected(sighting) => match sighting.holder {
                KeyOwner::Owner(mark) => coordinator.is_own_hash(&key, mark),
                _ => false,
            },
            _ => false,
        };
        let ours = votes.iter().map(is_ours).collect();
        if let ReplyTo::Surveying(reply) = caller {
            let _ = reply.send(SurveyResult { votes, ours });
        }
    }

    fn cancel(&mut self, id: OperationId, coordinator: &mut Coordinator, now: DualTimestamp) {
        self.calls.remove(&id);
        self.leases.remove(&id);
        self.renewals.remove(&id);
        coordinator.abandon(id, now);
    }
}
