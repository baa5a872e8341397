//! Turns the steps of operations into actions, requests and events.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::requests::{attempt_request, lease_request, single_request, survey_request};
use super::tickets::previous_key;
use super::{Action, AttemptEvent, Coordinator, LeaseEvent, Operation, OperationEvent};
use crate::attempt::AttemptStep;
use crate::fence::Fence;
use crate::lease::{Lease, LeaseStep};
use crate::pipeline::PendingRelease;
use crate::request::{Key, OperationId, RequestKind};
use crate::single_request::SingleRequestStep;
use crate::survey::SurveyStep;
use crate::time::DualTimestamp;

impl Coordinator {
    /// Polls the operation until it has no step left, then sets its alarm or ends it.
    pub(super) fn advance(&mut self, id: OperationId, now: DualTimestamp) {
        let entry = loop {
            let Some(entry) = self.operations.get_mut(&id) else { return };
            match &mut entry.operation {
                Operation::Attempt(attempt_entry) => match attempt_entry.attempt.poll() {
                    Some(AttemptStep::Request(RequestKind::Release, nodes)) => {
                        let attempt = &attempt_entry.attempt;
                        let until =
                            attempt.start().boot().plus(attempt.spec().params.ttl()).plus(RELEASE_SLACK);
                        let (key, token) = (attempt.spec().key.clone(), attempt.token());
                        let release = PendingRelease {
                            operation: id,
                            key,
                            token,
                            kind: RequestKind::Release,
                            useful_until: until,
                        };
                        self.send_or_queue_release(nodes, &release, now);
                    }
                    Some(AttemptStep::Request(kind, nodes)) => {
                        let request = attempt_request(&attempt_entry.attempt, kind);
                        self.send(request, nodes, id, 0, now);
                    }
                    Some(AttemptStep::Won) => self.start_lease(id, now),
                    Some(AttemptStep::Failed(failure)) => {
                        self.emit(id, OperationEvent::Attempt(AttemptEvent::Failed(failure)));
                    }
                    None => break entry,
                },
                Operation::Lease(lease) => match lease.poll() {
                    Some(LeaseStep::Request { kind: RequestKind::Release, nodes, .. }) => {
                        let until = lease.keys_until().plus(RELEASE_SLACK);
                        let (key, token) = (lease.key().clone(), lease.token());
                        let release = PendingRelease {
                            operation: id,
                            key,
                            token,
                            kind: lease.release_kind(),
                            useful_until: until,
                        };
                        self.send_or_queue_release(nodes, &release, now);
                    }
                    Some(LeaseStep::Request { kind, ttl, nodes, round, number_override }) => {
                        let mut request = lease_request(lease, kind, ttl);
                        request.fence = number_override.map(Fence::Number).or(request.fence);
                        if kind == RequestKind::Renew {
                            self.emit(id, OperationEvent::Lease(LeaseEvent::Renewing));
                        }
                        self.send(request, nodes, id, round, now);
                    }
                    Some(LeaseStep::Confirmed(nodes)) => {
                        self.emit(id, OperationEvent::Lease(LeaseEvent::Confirmed(nodes)));
                    }
                    Some(LeaseStep::Renewed(deadline)) => {
                        self.emit(id, OperationEvent::Lease(LeaseEvent::Renewed(deadline)));
                    }
                    Some(LeaseStep::Unconfirmed(votes)) => {
                        self.emit(id, OperationEvent::Lease(LeaseEvent::RenewalFailed(votes)));
                    }
                    Some(LeaseStep::Lost(loss)) => {
                        self.emit(id, OperationEvent::Lease(LeaseEvent::Lost(loss)));
                    }
                    Some(LeaseStep::Released(votes)) => {
                        self.emit(id, OperationEvent::Released(votes));
                    }
                    None => break entry,
                },
                Operation::Survey(survey) => match survey.poll() {
                    Some(SurveyStep::Request(kind, nodes)) => {
                        let request = survey_request(survey, kind, self.membership.is_some());
                        self.send(request, nodes, id, 0, now);
                    }
                    Some(SurveyStep::Done(votes)) => {
                        self.emit(id, OperationEvent::Surveyed(votes));
                    }
                    None => break entry,
                },
                Operation::SingleRequest(single) => match single.poll() {
                    Some(SingleRequestStep::Request(kind, node)) => {
                        let request = single_request(single, kind);
                        self.send(request, [node].into_iter().collect(), id, 0, now);
                    }
                    Some(SingleRequestStep::Done(vote)) => self.emit(id, OperationEvent::Replied(vote)),
                    None => break entry,
                },
            }
        };
        if entry.operation.is_done() {
            self.end(id);
        } else {
            entry.set_alarm(id, &mut self.alarms);
        }
    }

    /// Makes a won attempt a lease.
    fn start_lease(&mut self, id: OperationId, now: DualTimestamp) {
        let Some(entry) = self.operations.get_mut(&id) else { return };
        let Operation::Attempt(attempt_entry) = &entry.operation else { return };
        let (attempt, rounds) = (&attempt_entry.attempt, attempt_entry.attempt.rounds());
        let lease = Lease::new(attempt, attempt_entry.policy);
        let (fencing_number, deadline, confirmed) =
            (lease.fencing_number(), lease.deadline(), lease.confirmed());
        let previous = attempt.spec().previous_owner.as_ref().map(|owner| previous_key(&lease, owner.token));
        remember_number(&mut self.last_seen, lease.key(), fencing_number, now);
        entry.operation = Operation::Lease(lease);
        self.lease_count += 1;
        if let Some(release) = previous {
            self.send_or_queue_release(self.quorum.all().without(confirmed), &release, now);
        }
        let event = AttemptEvent::Won { deadline, confirmed, fencing_number, rounds };
        self.emit(id, OperationEvent::Attempt(event));
    }

    fn emit(&mut self, id: OperationId, event: OperationEvent) {
        self.actions.push_back(Action::Event(id, event));
    }
}

/// Keeps a fencing number that the client's clock has not reached, so that the next hint is above it. A
/// number that the clock has passed is not kept.
fn remember_number(last_seen: &mut BTreeMap<Key, u64>, key: &Key, number: Option<u64>, now: DualTimestamp) {
    let micros = now.wall_nanos() / 1000;
    if let Some(number) = number.filter(|number| *number >= micros) {
        last_seen.retain(|_, number| *number >= micros);
        if last_seen.len() >= MAX_REMEMBERED {
            // A number that is missing here costs a second round at worst.
            last_seen.clear();
        }
        last_seen.insert(key.clone(), number);
    }
}

/// A pending release matters while its SET may still arrive and its key may live: the ttl, and a minute of
/// network delay.
pub(super) const RELEASE_SLACK: Duration = Duration::from_secs(60);
const MAX_REMEMBERED: usize = 1024;
