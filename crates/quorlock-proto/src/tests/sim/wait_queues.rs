//! The wait queues that nodes keep: `lua/{enqueue,dequeue,release_notify,notify_next}.lua`, over the data of the simulated node.

use std::fmt::Write as _;
use std::time::Duration;

use super::engine::{Sim, tell};
use super::parts::{ToClient, Way};
use crate::fairness;
use crate::quorum::{NodeId, NodeSet};
use crate::request::{Key, Request, RequestKind};
use crate::test_util::node::{DataKey, DataValue};
use crate::vote::Vote;

/// Who waits, by process and life, with the score of the sorted set: since when, or as a negative one when called.
type Queue = Vec<(i64, (usize, u32))>;

impl Sim<'_> {
    pub(super) fn queue_at(&mut self, node: usize, who: usize, request: &Request) -> Vote {
        match request.kind {
            RequestKind::Enqueue => self.enqueue_at(node, who, &request.key, request.ttl),
            _ => self.dequeue_at(node, who, &request.key),
        }
    }

    fn enqueue_at(&mut self, node: usize, who: usize, key: &Key, waited: Duration) -> Vote {
        let now = self.sites[node].node.clock_micros(self.nanos) as i64;
        let name = (who, self.peers[who].life);
        let mut line = self.queue_of(node, key);
        let held = self.sites[node].node.unexpired(&DataKey::Lock(key.clone()), self.nanos);
        let mut left =
            held.map(|entry| entry.expires.map(|at| Duration::from_millis(at - now as u64 / 1000)));
        if left.is_none() {
            let called =
                line.first().filter(|(score, head)| *head != name && *score < 0).map(|(score, _)| *score);
            let ago = called.map(|called| now + called).filter(|ago| (0..=CALL_GRACE).contains(ago));
            left = ago.map(|ago| Some(Duration::from_micros((CALL_GRACE - ago) as u64)));
        }
        let place = line.iter().find(|(_, other)| *other == name).map(|(score, _)| *score);
        let was_called = place.is_some_and(|score| score < 0);
        if place.is_none() || was_called && left.is_some() {
            put(&mut line, name, now - waited.as_micros() as i64);
        }
        self.store_queue(node, key, &line);
        if left.is_none() {
            if was_called || !self.call_next(node, key, Some(name), true) {
                let mut line = self.queue_of(node, key);
                put(&mut line, name, -now);
                self.store_queue(node, key, &line);
                return Vote::NotHeld;
            }
            left = Some(Some(Duration::from_micros(CALL_GRACE as u64)));
        }
        Vote::HeldByOther { remaining: left.flatten() }
    }

    fn dequeue_at(&mut self, node: usize, who: usize, key: &Key) -> Vote {
        let name = (who, self.peers[who].life);
        let mut line = self.queue_of(node, key);
        let was_called = line.iter().any(|(score, other)| *other == name && *score < 0);
        line.retain(|(_, other)| *other != name);
        let is_next = line.first().is_some_and(|(score, _)| *score >= 0);
        self.store_queue(node, key, &line);
        let is_free = self.sites[node].node.unexpired(&DataKey::Lock(key.clone()), self.nanos).is_none();
        let calls = was_called || is_free && is_next;
        if calls && self.call_next(node, key, None, false) { Vote::Granted } else { Vote::NotHeld }
    }

    /// The lock was given up by a process that had it, whatever stood there.
    pub(super) fn hand_over_at(&mut self, node: usize, who: usize, key: &Key) {
        let calls = self.places_of(who, key).contains(NodeId(node as u8));
        if calls && self.call_next(node, key, Some((who, self.peers[who].life)), false) {
            let place = self.keys.iter().position(|other| other == key);
            if let Some(task) = place.and_then(|place| self.peers[who].tasks.get_mut(place)) {
                task.wait.share.on_other_waiters();
            }
        }
    }

    /// Where others may stand in line for this key, as far as this client knows.
    pub(super) fn places_of(&self, who: usize, key: &Key) -> NodeSet {
        fairness::rendezvous_nodes(key.as_str(), self.line_keepers(who)).into_iter().flatten().collect()
    }

    /// Whether another was called. For who found the key free that may be the caller itself, which needs no call.
    fn call_next(&mut self, node: usize, key: &Key, caller: Option<(usize, u32)>, is_found: bool) -> bool {
        loop {
            let mut line = self.queue_of(node, key);
            let Some((score, name)) = line.first().copied() else { return false };
            if score > 0 && is_found && caller == Some(name) {
                return false;
            }
            let (who, which) = name;
            let place = self.keys.iter().position(|other| other == key).unwrap_or_default();
            let wire = self.peers[who].wires[node].filter(|wire| self.conns[*wire].state == Way::Up);
            let hears = self.peers[who].life == which && !self.peers[who].is_dead;
            if score > 0
                && hears
                && let Some(wire) = wire
            {
                let has_others = is_found || line.len() > 1 || caller != Some(name);
                tell!(self, "node {node} calls client {who} for key {place}");
                self.tally.calls += 1;
                self.answer(wire, ToClient::Call { key: place, has_others, is_found });
                put(&mut line, name, -(self.sites[node].node.clock_micros(self.nanos) as i64));
                self.store_queue(node, key, &line);
                return true;
            }
            line.remove(0);
            self.store_queue(node, key, &line);
        }
    }

    /// The nodes that this client may stand in line on.
    pub(super) fn line_keepers(&self, who: usize) -> impl Iterator<Item = (NodeId, u64)> {
        let wires = self.peers[who].wires.iter().enumerate();
        wires.filter_map(move |(node, wire)| {
            let conn = &self.conns[(*wire)?];
            (conn.state == Way::Up).then_some((NodeId(node as u8), seed_of(node, conn.run)))
        })
    }

    /// On the nodes that keep the queue, as many as a quorum can do without.
    pub(super) fn set_stale_keys(&mut self) {
        let spare = self.plan.quorum.nodes() - self.plan.quorum.needed();
        for key in self.keys.clone() {
            let nodes = (0..self.sites.len()).map(|node| (NodeId(node as u8), seed_of(node, 0)));
            for node in fairness::rendezvous_nodes(key.as_str(), nodes).into_iter().flatten().take(spare) {
                let stale = DataValue { value: Some(STALE.to_vec()), expires: None };
                self.sites[node.index()].node.data_mut().insert(DataKey::Lock(key.clone()), stale);
            }
        }
    }

    pub(super) fn remove_stale_keys(&mut self) {
        for site in &mut self.sites {
            site.node.data_mut().retain(|_, entry| entry.value.as_deref() != Some(STALE));
        }
    }

    pub(super) fn queue_of(&self, node: usize, key: &Key) -> Queue {
        let entry = self.sites[node].node.unexpired(&DataKey::WaitQueue(key.clone()), self.nanos);
        let text =
            entry.and_then(|entry| std::str::from_utf8(entry.value.as_deref()?).ok()).unwrap_or_default();
        let place = |words: &str| {
            let mut words = words.split(' ');
            let score = words.next()?.parse().ok()?;
            Some((score, (words.next()?.parse().ok()?, words.next()?.parse().ok()?)))
        };
        text.lines().filter_map(place).collect()
    }

    fn store_queue(&mut self, node: usize, key: &Key, line: &Queue) {
        let mut text = String::new();
        for (score, (who, life)) in line {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{score} {who} {life}");
        }
        let node = &mut self.sites[node].node;
        let expires = Some(node.clock_micros(self.nanos) / 1000 + LINE_LIFE);
        node.data_mut()
            .insert(DataKey::WaitQueue(key.clone()), DataValue { value: Some(text.into_bytes()), expires });
    }
}

fn seed_of(node: usize, run: u32) -> u64 {
    fairness::node_weight_seed(&format!("n{node}r{run}"))
}

fn put(line: &mut Queue, name: (usize, u32), score: i64) {
    line.retain(|(_, other)| *other != name);
    line.push((score, name));
    line.sort_unstable();
}

const STALE: &[u8] = b"nobody's";
/// In microseconds, and milliseconds: as `src/node/script.rs` has them.
const CALL_GRACE: i64 = 100_000;
const LINE_LIFE: u64 = 10_000;
