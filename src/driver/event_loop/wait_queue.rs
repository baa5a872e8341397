//! Lines: where this process stands, and who of it is called.

use std::time::Duration;

use tokio::sync::oneshot;

use super::super::command::QueueEvent;
use super::Driver;
use crate::node::Connection;
use quorlock_proto::coordinator::OperationId;
use quorlock_proto::fairness;
use quorlock_proto::quorum::{NodeId, NodeSet};
use quorlock_proto::request::{Key, RequestKind};
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::Vote;

impl Driver {
    pub(super) fn enqueue(
        &mut self,
        id: OperationId,
        (key, waited, is_on_second): (Key, Duration, bool),
        reply: oneshot::Sender<Vote>,
        now: DualTimestamp,
    ) {
        let [first, next] = self.queues_of(&key, now);
        let place = if is_on_second { next.or(first) } else { first };
        // Where no node keeps lines the reply is dropped, and whoever asked goes on without.
        let Some(node) = place.filter(|_| self.calls.shutdown_deadline().is_none()) else { return };
        self.calls.enqueue(id, key.clone(), node, reply);
        self.coordinator.enqueue(id, node, (RequestKind::Enqueue, key, waited), now);
    }

    /// On both nodes, for we may have stepped aside; harmless where we do not stand in line. Where we do and another node
    /// has the line by now, the old one calls us in vain and hears so.
    pub(super) fn dequeue(&mut self, key: &Key, now: DualTimestamp) {
        for node in self.queues_of(key, now).into_iter().flatten() {
            self.coordinator.enqueue(
                self.ids.id(),
                node,
                (RequestKind::Dequeue, key.clone(), Duration::ZERO),
                now,
            );
        }
    }

    /// Of a key that was made free: a release by nobody's token. Those of us who wait stay in line.
    pub(super) fn notify_next(&mut self, key: &Key, now: DualTimestamp) {
        for node in self.queues_to_notify(key).iter() {
            self.coordinator.enqueue(
                self.ids.id(),
                node,
                (RequestKind::ReleaseAndNotify, key.clone(), Duration::ZERO),
                now,
            );
        }
    }

    /// Nobody waits any more, and nothing of us stays.
    pub(super) fn dequeue_all(&mut self, now: DualTimestamp) {
        for key in self.listener.drain() {
            self.dequeue(&key, now);
        }
    }

    /// Passes on what the node said by itself.
    pub(super) fn handle_notifications(&mut self, node: NodeId, now: DualTimestamp) {
        while let Some(call) = self.links[node.index()].connection().and_then(Connection::next_notification) {
            let (has_others, is_found) = (call.has_others, call.is_found);
            if !self.listener.on_event(QueueEvent::Notified { key: &call.key, has_others, is_found }) {
                // Nobody here wants it any more: it is the next one's.
                self.coordinator.enqueue(
                    self.ids.id(),
                    node,
                    (RequestKind::Dequeue, call.key, Duration::ZERO),
                    now,
                );
            }
        }
    }

    /// Where others may stand in line for a lock of ours that does not stand there itself.
    pub(super) fn waiters_on_other_nodes(
        &self,
        id: OperationId,
        now: DualTimestamp,
    ) -> Option<(Key, NodeSet)> {
        let touched = self.coordinator.touched(id)?;
        if touched.len() == self.links.len() {
            return None;
        }
        let key = self.calls.key_of(id)?;
        let beyond = self.queues_to_notify(key).without(touched);
        Some((key.clone(), beyond.iter().filter(|node| self.coordinator.has_replied(*node, now)).collect()))
    }

    /// A lock is given up: those who wait for it there are called, or told of. They hear of it from no other node.
    pub(super) fn release_on_other_nodes(
        &mut self,
        key: &Key,
        nodes: NodeSet,
        hands_off_locally: bool,
        now: DualTimestamp,
    ) {
        let phase = if hands_off_locally { RequestKind::ReleaseLocal } else { RequestKind::ReleaseAndNotify };
        for node in nodes.iter() {
            let id = self.ids.id();
            self.calls.record_late_release(id, key.clone());
            self.coordinator.enqueue(id, node, (phase, key.clone(), Duration::ZERO), now);
        }
    }

    /// The node with the line for a key, and the one where those stand who cannot reach it.
    fn queues_of(&self, key: &Key, now: DualTimestamp) -> [Option<NodeId>; 2] {
        let takes_lines = |node: NodeId| {
            self.coordinator.has_replied(node, now) && self.links[node.index()].may_enqueue(now)
        };
        let answering = self.voting_queue_nodes().filter(|(node, _)| takes_lines(*node));
        fairness::rendezvous_nodes(key.as_str(), answering)
    }

    /// Where others may stand in line for the key: on the node with its line, or on the next if they cannot reach that.
    /// To look on all nodes would cost each of them a command for each release.
    pub(super) fn queues_to_notify(&self, key: &Key) -> NodeSet {
        // Others may know better, or not yet, which nodes vote.
        let places = [
            fairness::rendezvous_nodes(key.as_str(), self.voting_queue_nodes()),
            fairness::rendezvous_nodes(key.as_str(), self.queue_nodes()),
        ];
        places.into_iter().flatten().flatten().collect()
    }

    fn voting_queue_nodes(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.queue_nodes().filter(|(node, _)| self.coordinator.may_keep_queues(*node))
    }

    fn queue_nodes(&self) -> impl Iterator<Item = (NodeId, u64)> {
        let links = self.links.iter().enumerate().map(|(place, link)| (NodeId(place as u8), link));
        links.filter_map(|(node, link)| Some((node, link.node_weight_seed()?)))
    }
}
