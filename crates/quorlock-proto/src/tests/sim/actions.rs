//! What boards want done, and what they tell.

use std::time::Duration;

use super::engine::{Deed, Sim, tell};
use super::parts::Message;
use crate::coordinator::{Action, OperationEvent, OperationId};
use crate::membership::{InitResult, VotingStatus};
use crate::request::{OwnerToken, Request, RequestKind};
use crate::test_util::node::SentRequest;

impl Sim<'_> {
    pub(super) fn act(&mut self, who: usize) {
        while let Some(action) = self.peers[who].coordinator.poll() {
            match action {
                Action::Send { request, nodes, as_text } => {
                    for node in nodes.iter() {
                        let peer = &self.peers[who];
                        let Some(place) = peer.wires[node.index()] else { continue };
                        let badge = peer.coordinator.expected_marker(node).cloned();
                        let command = SentRequest {
                            request: request.clone(),
                            as_text,
                            expected_marker: badge,
                            write: None,
                        };
                        self.send(place, Message::Command(command));
                        if self.plan.ill_timed > 0 && self.chance.permille(self.plan.ill_timed) {
                            self.go_wrong_at(node.index(), who);
                        }
                    }
                }
                Action::ReadMarker { node, write, as_text } => {
                    if let Some(write) = &write {
                        self.check_write(who, node.index(), write);
                    }
                    if let Some(place) = self.peers[who].wires[node.index()] {
                        let request = Request { kind: RequestKind::ReadMarker, ..self.no_ask() };
                        self.send(
                            place,
                            Message::Command(SentRequest { request, as_text, expected_marker: None, write }),
                        );
                    }
                }
                Action::VotingStatus(node, voting_status) => {
                    self.peers[who].votes[node.index()] = voting_status == VotingStatus::Voting;
                    self.note_trouble_between(who, node.index(), self.nanos);
                    tell!(self, "to client {who}, node {} stands as {voting_status:?}", node.0);
                }
                Action::ClockAnomaly(node, anomaly) => {
                    tell!(self, "client {who} sees node {}: {anomaly:?}", node.0);
                }
                Action::Redial(node) => {
                    // The board has let go of it already.
                    if let Some(place) = self.peers[who].wires[node.index()] {
                        let ghosts = self.chance.place(self.conns[place].to_node.len() + 1);
                        self.sever(place, ghosts);
                    }
                    self.drop_wire(who, node.index());
                    tell!(self, "client {who} gives up its connection to node {}", node.0);
                }
                Action::Event(id, event) => self.be_told(who, id, &event),
            }
        }
        self.note_known_nodes(who);
        self.set_alarm(who);
    }

    fn no_ask(&self) -> Request {
        let key = self.keys[0].clone();
        Request {
            kind: RequestKind::ReadMarker,
            key,
            token: OwnerToken::new(0),
            ttl: Duration::ZERO,
            fence: None,
        }
    }

    fn be_told(&mut self, who: usize, id: OperationId, event: &OperationEvent) {
        match event {
            OperationEvent::Won { deadline, confirmed, fencing_number: number, rounds } => {
                tell!(
                    self,
                    "client {who} has lock {id}, number {number:?}, on {confirmed:?}, in {rounds} rounds"
                );
                self.on_won(id, *deadline, *confirmed, *number, *rounds);
            }
            OperationEvent::Failed(refusal) => {
                tell!(self, "client {who} is refused lock {id}: {:?}", refusal.reason);
            }
            OperationEvent::Confirmed(nodes) => self.on_confirmed(id, *nodes),
            OperationEvent::Renewed(deadline) => {
                tell!(self, "client {who} has renewed lock {id}");
                self.on_renewed(id, *deadline);
            }
            OperationEvent::RenewalFailed(votes) => {
                self.tally.unconfirmed += 1;
                tell!(self, "client {who} could not renew lock {id}: {votes:?}");
            }
            OperationEvent::Lost(loss) => {
                tell!(self, "client {who} is told that lock {id} is lost: {loss:?}");
                self.on_lost(id, *loss);
            }
            OperationEvent::Released(_) => self.tally.released += 1,
            OperationEvent::Renewing | OperationEvent::Surveyed(_) => {}
            OperationEvent::Initialized(declared) => {
                tell!(self, "client {who}'s declaration: {declared:?}");
                if *declared == InitResult::Initialized {
                    self.on_declared();
                }
            }
        }
        self.tell_caller(who, id, event);
    }

    pub(super) fn set_alarm_again(&mut self, who: usize) {
        self.peers[who].wakes_at = None;
        self.set_alarm(who);
    }

    fn set_alarm(&mut self, who: usize) {
        let peer = &self.peers[who];
        let reading = peer.coordinator.has_leases().then(|| self.now(who).plus(CLOCK_LOOK).boot_nanos());
        let Some(due) = [peer.coordinator.next_wake(), reading].into_iter().flatten().min() else { return };
        let at = peer.clocks.when(due).max(self.nanos) + self.plan.timer_late;
        if peer.wakes_at.is_none_or(|other| at < other) {
            let life = peer.life;
            self.peers[who].wakes_at = Some(at);
            self.at(at, Deed::Wake { who, life, set_for: at });
        }
    }
}

/// As the driver does while a lock is held.
const CLOCK_LOOK: Duration = Duration::from_secs(1);
