//! The wait queues: where this process is enqueued, and which of its tasks is notified.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Driver;
use crate::node::Connection;
use quorlock_proto::fairness;
use quorlock_proto::quorum::{NodeId, NodeSet};
use quorlock_proto::request::{Key, OperationId, RequestKind};
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
        let [first, next] = self.wait_queue_nodes(&key, now);
        let node = if is_on_second { next.or(first) } else { first };
        // If no node keeps wait queues, the reply is dropped, and the caller continues without one.
        let Some(node) = node.filter(|_| self.calls.shutdown_deadline().is_none()) else { return };
        self.calls.add_enqueue(id, key.clone(), reply);
        self.coordinator.request_one(id, node, (RequestKind::Enqueue, key, waited), now);
    }

    /// Leaves the wait queue on both nodes, because this process may be on the second one. Harmless where it
    /// is not enqueued. If it is enqueued on a node that is no longer one of them, that node's notification
    /// is rejected when it comes.
    pub(super) fn dequeue(&mut self, key: &Key, now: DualTimestamp) {
        for node in self.wait_queue_nodes(key, now).into_iter().flatten() {
            self.coordinator.request_one(
                self.ids.id(),
                node,
                (RequestKind::Dequeue, key.clone(), Duration::ZERO),
                now,
            );
        }
    }

    /// Notifies the next process for a key that was freed, by a release without an owner. Waiters of this
    /// process stay enqueued.
    pub(super) fn notify_next(&mut self, key: &Key, now: DualTimestamp) {
        for node in self.nodes_to_notify(key).iter() {
            self.coordinator.request_one(
                self.ids.id(),
                node,
                (RequestKind::ReleaseAndNotify, key.clone(), Duration::ZERO),
                now,
            );
        }
    }

    /// Ends all waits and leaves all wait queues.
    pub(super) fn dequeue_all(&mut self, now: DualTimestamp) {
        for key in self.key_queues.end_waits() {
            self.dequeue(&key, now);
        }
    }

    /// Handles the node's notifications.
    pub(super) fn handle_notifications(&mut self, node: NodeId, now: DualTimestamp) {
        while let Some(notification) =
            self.links[node.index()].connection().and_then(Connection::next_notification)
        {
            if !self.key_queues.on_notified(&notification) {
                // No task here wants the key any more, so notify the next process.
                self.coordinator.request_one(
                    self.ids.id(),
                    node,
                    (RequestKind::Dequeue, notification.key, Duration::ZERO),
                    now,
                );
            }
        }
    }

    /// The nodes without this lock's key where other processes may wait for it.
    pub(super) fn waiters_on_other_nodes(
        &self,
        id: OperationId,
        now: DualTimestamp,
    ) -> Option<(Key, NodeSet)> {
        let possibly_set = self.coordinator.possibly_set_nodes(id)?;
        if possibly_set.len() == self.links.len() {
            return None;
        }
        let key = self.calls.key_of(id)?;
        let other_nodes = self.nodes_to_notify(key).without(possibly_set);
        Some((
            key.clone(),
            other_nodes.iter().filter(|node| self.coordinator.is_responsive(*node, now)).collect(),
        ))
    }

    /// Notifies, or counts, the processes that wait for a released lock on nodes without its key. No other
    /// node notifies them.
    pub(super) fn release_on_other_nodes(
        &mut self,
        key: &Key,
        nodes: NodeSet,
        hands_off_locally: bool,
        now: DualTimestamp,
    ) {
        let kind = if hands_off_locally { RequestKind::ReleaseLocal } else { RequestKind::ReleaseAndNotify };
        for node in nodes.iter() {
            let id = self.ids.id();
            self.calls.add_wait_queue_release(id, key.clone());
            self.coordinator.request_one(id, node, (kind, key.clone(), Duration::ZERO), now);
        }
    }

    /// The wait queue node of a key, and the second node, for processes that cannot reach the first.
    fn wait_queue_nodes(&self, key: &Key, now: DualTimestamp) -> [Option<NodeId>; 2] {
        let accepts_waiters = |node: NodeId| {
            self.coordinator.is_responsive(node, now) && self.links[node.index()].may_enqueue(now)
        };
        let candidates = self.voting_nodes_with_queues().filter(|(node, _)| accepts_waiters(*node));
        fairness::rendezvous_nodes(key, candidates)
    }

    /// The nodes where other processes may wait for the key: its wait queue node, or the second one if they
    /// cannot reach that. Checking all nodes would cost each of them a command per release.
    pub(super) fn nodes_to_notify(&self, key: &Key) -> NodeSet {
        // Other processes may have newer or older information on which nodes vote.
        let nodes = [
            fairness::rendezvous_nodes(key, self.voting_nodes_with_queues()),
            fairness::rendezvous_nodes(key, self.nodes_with_queues()),
        ];
        nodes.into_iter().flatten().flatten().collect()
    }

    fn voting_nodes_with_queues(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.nodes_with_queues().filter(|(node, _)| self.coordinator.may_host_wait_queues(*node))
    }

    fn nodes_with_queues(&self) -> impl Iterator<Item = (NodeId, u64)> {
        let links = self.links.iter().enumerate().map(|(node, link)| (NodeId(node as u8), link));
        links.filter_map(|(node, link)| Some((node, link.node_weight_seed()?)))
    }
}
