//! From what a machine says to what is done about it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::requests::{attempt_request, lease_request, survey_request};
use super::{Action, Coordinator, Operation, OperationEvent, OperationId};
use crate::attempt::AttemptStep;
use crate::fence::Fence;
use crate::lease::{Lease, LeaseStep};
use crate::pipeline::PendingRelease;
use crate::request::{Key, RequestKind};
use crate::survey::SurveyStep;
use crate::time::DualTimestamp;

impl Coordinator {
    /// Takes the machine's steps until it has none, then sets its alarm, or ends it.
    pub(super) fn advance(&mut self, id: OperationId, now: DualTimestamp) {
        let entry = loop {
            let Some(entry) = self.operations.get_mut(&id) else { return };
            match &mut entry.operation {
                Operation::Attempt(bid) => match bid.attempt.poll() {
                    Some(AttemptStep::Request(RequestKind::Release, nodes)) => {
                        let attempt = &bid.attempt;
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
                    Some(AttemptStep::Request(phase, nodes)) => {
                        let request = attempt_request(&bid.attempt, phase);
                        self.send(request, nodes, id, 0, now);
                    }
                    Some(AttemptStep::Won) => {
                        let lease = Lease::new(&bid.attempt, bid.policy);
                        let (number, rounds) = (lease.number(), bid.attempt.rounds());
                        let (deadline, confirmed) = (lease.deadline(), lease.confirmed());
                        let event =
                            OperationEvent::Won { deadline, confirmed, fencing_number: number, rounds };
                        remember(&mut self.last_seen, lease.key(), number, now);
                        entry.operation = Operation::Lease(lease);
                        self.lease_count += 1;
                        self.actions.push_back(Action::Event(id, event));
                    }
                    Some(AttemptStep::Lost(refusal)) => {
                        self.actions.push_back(Action::Event(id, OperationEvent::Failed(refusal)));
                    }
                    None => break entry,
                },
                Operation::Lease(lease) => match lease.poll() {
                    Some(LeaseStep::Request { phase: RequestKind::Release, nodes, .. }) => {
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
                    Some(LeaseStep::Request { phase, ttl, nodes, round, past }) => {
                        let mut request = lease_request(lease, phase, ttl);
                        request.fence = past.map(Fence::Number).or(request.fence);
                        if phase == RequestKind::Renew {
                            self.actions.push_back(Action::Event(id, OperationEvent::Renewing));
                        }
                        self.send(request, nodes, id, round, now);
                    }
                    Some(LeaseStep::Confirmed(nodes)) => {
                        self.actions.push_back(Action::Event(id, OperationEvent::Confirmed(nodes)));
                    }
                    Some(LeaseStep::Renewed(deadline)) => {
                        self.actions.push_back(Action::Event(id, OperationEvent::Renewed(deadline)));
                    }
                    Some(LeaseStep::Unconfirmed(votes)) => {
                        self.actions.push_back(Action::Event(id, OperationEvent::RenewalFailed(votes)));
                    }
                    Some(LeaseStep::Lost(loss)) => {
                        self.actions.push_back(Action::Event(id, OperationEvent::Lost(loss)));
                    }
                    Some(LeaseStep::Released(votes)) => {
                        self.actions.push_back(Action::Event(id, OperationEvent::Released(votes)));
                    }
                    None => break entry,
                },
                Operation::Survey(survey) => match survey.poll() {
                    Some(SurveyStep::Request(phase, nodes)) => {
                        let request = survey_request(survey, phase, self.membership.is_some());
                        self.send(request, nodes, id, 0, now);
                    }
                    Some(SurveyStep::Done(votes)) => {
                        self.actions.push_back(Action::Event(id, OperationEvent::Surveyed(votes)));
                    }
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
}

/// Keeps a number that our clock has not reached, so that the next hint is above it. All others the clock is above.
fn remember(last_seen: &mut BTreeMap<Key, u64>, key: &Key, number: Option<u64>, now: DualTimestamp) {
    let micros = now.wall_nanos() / 1000;
    if let Some(number) = number.filter(|number| *number >= micros) {
        last_seen.retain(|_, number| *number >= micros);
        if last_seen.len() >= MAX_REMEMBERED {
            // A forgotten number costs a second round at worst.
            last_seen.clear();
        }
        last_seen.insert(key.clone(), number);
    }
}

/// An undo matters while a SET may still arrive and its key live: the ttl, and a minute for what the network kept.
const RELEASE_SLACK: Duration = Duration::from_secs(60);
const MAX_REMEMBERED: usize = 1024;
