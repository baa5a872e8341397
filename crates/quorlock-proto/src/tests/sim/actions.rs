//! Runs the actions that coordinators request, and delivers their events.

use std::time::Duration;

use super::engine::{Sim, SimEvent, log_event};
use super::situations::Situation;
use super::state::ToNode;
use crate::coordinator::{Action, AttemptEvent, LeaseEvent, OperationEvent};
use crate::membership::{InitResult, VotingStatus};
use crate::request::{OperationId, OwnerToken, Request, RequestKind};
use crate::test_util::node::SentRequest;

impl Sim<'_> {
    pub(super) fn run_actions(&mut self, client: usize) {
        while let Some(action) = self.clients[client].coordinator.poll() {
            match action {
                Action::Send { request, nodes, as_text } => {
                    for node in nodes.iter() {
                        let client_host = &self.clients[client];
                        let host = client_host.host(node);
                        let Some(conn_id) = client_host.conn_ids[host] else { continue };
                        let badge = client_host.coordinator.expected_marker(node).cloned();
                        let command = SentRequest {
                            request: request.clone(),
                            as_text,
                            expected_marker: badge,
                            write: None,
                        };
                        self.send_to_node(conn_id, ToNode::SentRequest(command));
                        self.inject_fault_on_send(host, client);
                    }
                }
                Action::ReadMarker { node, write, as_text } => {
                    let (is_write, host) = (write.is_some(), self.clients[client].host(node));
                    if let Some(conn_id) = self.clients[client].conn_ids[host] {
                        let request = Request { kind: RequestKind::ReadMarker, ..self.marker_request() };
                        self.send_to_node(
                            conn_id,
                            ToNode::SentRequest(SentRequest {
                                request,
                                as_text,
                                expected_marker: None,
                                write,
                            }),
                        );
                    }
                    if is_write {
                        self.inject_fault_on_send(host, client);
                    }
                }
                Action::Reconfiguring(progress) => self.on_reconfiguration_progress(client, progress),
                Action::RosterChanged(view) => {
                    log_event!(self, "client {client} follows the roster {}", view.epoch);
                    if !view.same_list {
                        self.stats.count_situation(Situation::OtherListFollowed);
                    }
                }
                Action::VotingStatus(node, voting_status) => {
                    let host = self.clients[client].host(node);
                    self.clients[client].is_voting[host] = voting_status == VotingStatus::Voting;
                    self.mark_link_disturbed(client, host, self.nanos);
                    log_event!(self, "to client {client}, node {host} is {voting_status:?}");
                }
                Action::ClockAnomaly(node, anomaly) => {
                    let host = self.clients[client].host(node);
                    log_event!(self, "client {client} sees node {host}: {anomaly:?}");
                }
                Action::Redial(node) => {
                    let host = self.clients[client].host(node);
                    // The coordinator has dropped this connection already.
                    if let Some(conn_id) = self.clients[client].conn_ids[host] {
                        let late_count = self.rng.index(self.connections[conn_id].to_node.len() + 1);
                        self.cut_connection(conn_id, late_count);
                    }
                    self.drop_connection(client, host);
                    log_event!(self, "client {client} redials its connection to node {host}");
                }
                Action::Event(id, event) => self.on_operation_event(client, id, &event),
            }
        }
        self.note_known_nodes(client);
        self.set_timer(client);
    }

    /// Injects a fault just after a request was sent, in some of the cases.
    fn inject_fault_on_send(&mut self, node: usize, client: usize) {
        if self.plan.faults_on_send > 0 && self.rng.chance_permille(self.plan.faults_on_send) {
            self.inject_fault_at(node, client);
        }
    }

    fn marker_request(&self) -> Request {
        let key = self.keys[0].clone();
        Request {
            kind: RequestKind::ReadMarker,
            key,
            token: OwnerToken::new(0),
            ttl: Duration::ZERO,
            fence: None,
            previous_owner: None,
        }
    }

    fn on_operation_event(&mut self, client: usize, id: OperationId, event: &OperationEvent) {
        match event {
            OperationEvent::Attempt(AttemptEvent::Won { deadline, confirmed, fencing_number, rounds }) => {
                let confirmed = self.clients[client].hosts(*confirmed);
                log_event!(
                    self,
                    "client {client} has lock {id}, fencing number {fencing_number:?}, on {confirmed:?}, in {rounds} rounds"
                );
                self.on_acquired(id, *deadline, confirmed, *fencing_number, *rounds);
            }
            OperationEvent::Attempt(AttemptEvent::Failed(failure)) => {
                log_event!(self, "client {client} does not get lock {id}: {:?}", failure.reason);
            }
            OperationEvent::Lease(LeaseEvent::Confirmed(nodes)) => {
                let nodes = self.clients[client].hosts(*nodes);
                self.on_confirmed(id, nodes);
            }
            OperationEvent::Lease(LeaseEvent::Renewed(deadline)) => {
                log_event!(self, "client {client} has renewed lock {id}");
                self.on_renewed(id, *deadline);
            }
            OperationEvent::Lease(LeaseEvent::RenewalFailed(votes)) => {
                self.stats.unconfirmed += 1;
                log_event!(self, "client {client} could not renew lock {id}: {votes:?}");
            }
            OperationEvent::Lease(LeaseEvent::Lost(loss)) => {
                log_event!(self, "client {client} learns that lock {id} is lost: {loss:?}");
                self.on_lost(id, *loss);
            }
            OperationEvent::Released(_) => self.stats.released += 1,
            OperationEvent::Lease(LeaseEvent::Renewing)
            | OperationEvent::Surveyed(_)
            | OperationEvent::Replied(_) => {}
            OperationEvent::Initialized(result) => {
                log_event!(self, "client {client} initialized the lock cluster: {result:?}");
                self.oracle.init_was_rejected = matches!(result, InitResult::Rejected(_));
                if *result == InitResult::Initialized {
                    self.on_reinitialized();
                }
            }
        }
        self.deliver_to_task(client, id, event);
    }

    pub(super) fn reset_timer(&mut self, client: usize) {
        self.clients[client].timer_at = None;
        self.set_timer(client);
    }

    fn set_timer(&mut self, client: usize) {
        let client_host = &self.clients[client];
        let reading =
            client_host.coordinator.has_leases().then(|| self.now(client).plus(CLOCK_CHECK_INTERVAL).boot());
        let Some(due) = [client_host.coordinator.next_wake(), reading].into_iter().flatten().min() else {
            return;
        };
        let at = client_host.clocks.true_time_at(due.nanos()).max(self.nanos) + self.plan.timer_delay;
        if client_host.timer_at.is_none_or(|other| at < other) {
            let incarnation = client_host.incarnation;
            self.clients[client].timer_at = Some(at);
            self.schedule_at(at, SimEvent::Timer { client, incarnation, set_for: at });
        }
    }
}

/// As often as the driver reads its clock while a lock is held.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
