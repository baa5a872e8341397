//! The wait queues of simulated nodes: what `lua/{enqueue,dequeue,release_notify,notify_next}.lua` do with
//! their data.

use std::fmt::Write as _;
use std::time::Duration;

use super::engine::{Sim, log_event};
use super::state::{LinkState, ToClient};
use crate::fairness;
use crate::quorum::{NodeId, NodeSet};
use crate::request::{Key, Request, RequestKind};
use crate::test_util::node::{DataKey, DataValue};
use crate::vote::Vote;

/// Waiting processes, by client and incarnation, ordered by score. The score is the time of arrival, or the
/// negated time of the notification.
type Queue = Vec<(i64, (usize, u32))>;

impl Sim<'_> {
    pub(super) fn run_queue_request(&mut self, node: usize, client: usize, request: &Request) -> Vote {
        match request.kind {
            RequestKind::Enqueue => self.enqueue_at(node, client, &request.key, request.ttl),
            _ => self.dequeue_at(node, client, &request.key),
        }
    }

    fn enqueue_at(&mut self, node: usize, client: usize, key: &Key, waited: Duration) -> Vote {
        let now = self.nodes[node].redis.clock_micros(self.nanos) as i64;
        let process = (client, self.clients[client].incarnation);
        let mut queue = self.wait_queue(node, key);
        let held = self.nodes[node].redis.unexpired(&DataKey::Lock(key.clone()), self.nanos);
        let mut remaining =
            held.map(|entry| entry.expires.map(|at| Duration::from_millis(at - now as u64 / 1000)));
        if remaining.is_none() {
            let head_score =
                queue.first().filter(|(score, head)| *head != process && *score < 0).map(|(score, _)| *score);
            let age =
                head_score.map(|score| now + score).filter(|age| (0..=NOTIFY_GRACE_MICROS).contains(age));
            remaining = age.map(|age| Some(Duration::from_micros((NOTIFY_GRACE_MICROS - age) as u64)));
        }
        let score = queue.iter().find(|(_, other)| *other == process).map(|(score, _)| *score);
        let was_notified = score.is_some_and(|score| score < 0);
        if score.is_none() || was_notified && remaining.is_some() {
            set_score(&mut queue, process, now - waited.as_micros() as i64);
        }
        self.store_queue(node, key, &queue);
        if remaining.is_none() {
            if was_notified || !self.notify_next(node, key, Some(process), true) {
                let mut queue = self.wait_queue(node, key);
                set_score(&mut queue, process, -now);
                self.store_queue(node, key, &queue);
                return Vote::NotHeld;
            }
            remaining = Some(Some(Duration::from_micros(NOTIFY_GRACE_MICROS as u64)));
        }
        Vote::HeldByOther { remaining: remaining.flatten() }
    }

    fn dequeue_at(&mut self, node: usize, client: usize, key: &Key) -> Vote {
        let process = (client, self.clients[client].incarnation);
        let mut queue = self.wait_queue(node, key);
        let was_notified = queue.iter().any(|(score, other)| *other == process && *score < 0);
        queue.retain(|(_, other)| *other != process);
        let is_next = queue.first().is_some_and(|(score, _)| *score >= 0);
        self.store_queue(node, key, &queue);
        let is_free = self.nodes[node].redis.unexpired(&DataKey::Lock(key.clone()), self.nanos).is_none();
        let notifies = was_notified || is_free && is_next;
        if notifies && self.notify_next(node, key, None, false) { Vote::Granted } else { Vote::NotHeld }
    }

    /// A holder released the lock: notifies the first waiter, whatever key the node has.
    pub(super) fn release_notify_at(&mut self, node: usize, client: usize, key: &Key) {
        let id = self.clients[client].id_of(node);
        let notifies = id.is_some_and(|id| self.queue_nodes_of(client, key).contains(id));
        if notifies && self.notify_next(node, key, Some((client, self.clients[client].incarnation)), false) {
            let key_index = self.keys.iter().position(|other| other == key);
            if let Some(task) = key_index.and_then(|key_index| self.clients[client].tasks.get_mut(key_index))
            {
                task.wait.cohort.on_others_waiting();
            }
        }
    }

    /// The nodes with the key's wait queues, as far as this client knows.
    pub(super) fn queue_nodes_of(&self, client: usize, key: &Key) -> NodeSet {
        fairness::rendezvous_nodes(key, self.queue_node_candidates(client)).into_iter().flatten().collect()
    }

    /// Notifies the first process that can receive it; false if there is none. If a waiter found the key free
    /// and is first itself, it needs no notification.
    fn notify_next(
        &mut self,
        node: usize,
        key: &Key,
        caller: Option<(usize, u32)>,
        is_from_waiter: bool,
    ) -> bool {
        loop {
            let mut queue = self.wait_queue(node, key);
            let Some((score, process)) = queue.first().copied() else { return false };
            if score > 0 && is_from_waiter && caller == Some(process) {
                return false;
            }
            let (client, incarnation) = process;
            let key_index = self.keys.iter().position(|other| other == key).unwrap_or_default();
            let conn_id = self.clients[client].conn_ids[node]
                .filter(|conn_id| self.connections[*conn_id].state == LinkState::Up);
            let is_alive = self.clients[client].incarnation == incarnation && !self.clients[client].is_dead;
            if score > 0
                && is_alive
                && let Some(conn_id) = conn_id
            {
                let has_others = is_from_waiter || queue.len() > 1 || caller != Some(process);
                log_event!(self, "node {node} notifies client {client} of key {key_index}");
                self.stats.notifications += 1;
                self.send_to_client(
                    conn_id,
                    ToClient::Notification { key: key_index, has_others, is_from_waiter },
                );
                set_score(&mut queue, process, -(self.nodes[node].redis.clock_micros(self.nanos) as i64));
                self.store_queue(node, key, &queue);
                return true;
            }
            queue.remove(0);
            self.store_queue(node, key, &queue);
        }
    }

    /// The nodes whose wait queues this client can use, with their weight seeds for rendezvous hashing.
    pub(super) fn queue_node_candidates(&self, client: usize) -> impl Iterator<Item = (NodeId, u64)> {
        let client_host = &self.clients[client];
        client_host.list.iter().enumerate().filter_map(move |(index, node)| {
            let conn = &self.connections[client_host.conn_ids[*node]?];
            (conn.state == LinkState::Up).then_some((NodeId(index as u8), node_seed(*node, conn.server_run)))
        })
    }

    /// Sets keys without an owner on nodes with wait queues: on as many as a quorum can spare.
    pub(super) fn insert_orphan_keys(&mut self) {
        let spare = self.plan.quorum.nodes() - self.plan.quorum.needed();
        for key in self.keys.clone() {
            let nodes = (0..self.nodes.len()).map(|node| (NodeId(node as u8), node_seed(node, 0)));
            for node in fairness::rendezvous_nodes(&key, nodes).into_iter().flatten().take(spare) {
                let orphan = DataValue { value: Some(ORPHAN.to_vec()), expires: None };
                self.nodes[node.index()].redis.data_mut().insert(DataKey::Lock(key.clone()), orphan);
            }
        }
    }

    pub(super) fn remove_orphan_keys(&mut self) {
        for node_host in &mut self.nodes {
            node_host.redis.data_mut().retain(|_, entry| entry.value.as_deref() != Some(ORPHAN));
        }
    }

    pub(super) fn wait_queue(&self, node: usize, key: &Key) -> Queue {
        let entry = self.nodes[node].redis.unexpired(&DataKey::WaitQueue(key.clone()), self.nanos);
        let text =
            entry.and_then(|entry| std::str::from_utf8(entry.value.as_deref()?).ok()).unwrap_or_default();
        let parse_entry = |line: &str| {
            let mut fields = line.split(' ');
            let score = fields.next()?.parse().ok()?;
            Some((score, (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)))
        };
        text.lines().filter_map(parse_entry).collect()
    }

    fn store_queue(&mut self, node: usize, key: &Key, queue: &Queue) {
        let mut text = String::new();
        for (score, (client, incarnation)) in queue {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{score} {client} {incarnation}");
        }
        let node = &mut self.nodes[node].redis;
        let expires = Some(node.clock_micros(self.nanos) / 1000 + QUEUE_TTL_MILLIS);
        node.data_mut()
            .insert(DataKey::WaitQueue(key.clone()), DataValue { value: Some(text.into_bytes()), expires });
    }
}

fn node_seed(node: usize, server_run: u32) -> u64 {
    fairness::node_weight_seed(&format!("n{node}r{server_run}"))
}

fn set_score(queue: &mut Queue, process: (usize, u32), score: i64) {
    queue.retain(|(_, other)| *other != process);
    queue.push((score, process));
    queue.sort_unstable();
}

const ORPHAN: &[u8] = b"no owner";
/// As in `src/node/script.rs`.
const NOTIFY_GRACE_MICROS: i64 = 100_000;
const QUEUE_TTL_MILLIS: u64 = 10_000;
