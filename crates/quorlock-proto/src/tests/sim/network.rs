//! The simulated network. Each connection keeps the order of its messages; different connections do not.

use std::collections::VecDeque;

use super::engine::{Sim, SimEvent, SimPhase, log_event};
use super::plan::ClientMistake;
use super::state::{Connection, LinkState, NodeHost, ToClient, ToNode};
use crate::request::RequestKind;
use crate::test_util::node::{Reply, ScriptMutant, SentRequest};
use crate::vote::{ExclusionReason, ReplyFailure, Vote};

impl Sim<'_> {
    pub(super) fn dial(&mut self, client: usize, node: usize, incarnation: u32) {
        let event = SimEvent::Dial { client, node, incarnation };
        if !self.is_running_or_defer(client, incarnation, event)
            || self.clients[client].conn_ids[node].is_some()
        {
            return;
        }
        self.clients[client].conn_ids[node] = Some(self.connections.len());
        self.connections.push(Connection {
            client,
            incarnation,
            node,
            server_run: 0,
            state: LinkState::Dialing,
            to_node: VecDeque::new(),
            to_client: VecDeque::new(),
            last_arrival_at_node: self.nanos,
            last_arrival_at_client: self.nanos,
            dialed_at: self.now(client),
            marker_read_while_evicting: false,
        });
        let dial_timeout = self.plan.limits.redial_after.as_nanos() as u64;
        self.schedule_after(dial_timeout, SimEvent::ConnectTimeout(self.connections.len() - 1));
        self.send_to_node(self.connections.len() - 1, ToNode::Hello);
    }

    pub(super) fn send_to_node(&mut self, conn_id: usize, message: ToNode) {
        let delay = self.message_delay();
        let conn = &mut self.connections[conn_id];
        if conn.state == LinkState::Cut {
            return;
        }
        let unblocked_at = self.clients[conn.client].to_node_blocked_until[conn.node];
        let at = (self.nanos + delay).max(conn.last_arrival_at_node).max(unblocked_at);
        conn.last_arrival_at_node = at;
        conn.to_node.push_back(message);
        self.note_slow_message(conn_id, at);
        self.schedule_at(at, SimEvent::NodeReceives(conn_id));
    }

    pub(super) fn send_to_client(&mut self, conn_id: usize, reply: ToClient) {
        let delay = self.message_delay();
        let conn = &mut self.connections[conn_id];
        let unblocked_at = self.clients[conn.client].from_node_blocked_until[conn.node];
        let at = (self.nanos + delay).max(conn.last_arrival_at_client).max(unblocked_at);
        conn.last_arrival_at_client = at;
        conn.to_client.push_back(reply);
        self.note_slow_message(conn_id, at);
        self.schedule_at(at, SimEvent::ClientReceives(conn_id));
    }

    /// Draws the delay of a message, in nanoseconds.
    pub(super) fn message_delay(&mut self) -> u64 {
        if self.phase == SimPhase::Faults
            && self.plan.slow_messages > 0
            && self.rng.chance_permille(self.plan.slow_messages)
        {
            let max_delay = 3 * self.plan.max_ttl_nanos();
            return self.rng.log_uniform(self.plan.latency, max_delay);
        }
        self.plan.latency / 2 + self.rng.below(self.plan.latency)
    }

    pub(super) fn node_receives(&mut self, conn_id: usize) {
        let conn = &self.connections[conn_id];
        let (node, client) = (conn.node, conn.client);
        let node_host = &self.nodes[node];
        if node_host.paused_until > self.nanos {
            self.schedule_at(node_host.paused_until, SimEvent::NodeReceives(conn_id));
            return;
        }
        let (server_run, is_down, evicts) = (node_host.server_run, node_host.is_down, node_host.redis.evicts);
        let ghost_run = node_host.ghost.as_ref().map(|(_, run)| *run);
        let has_list_in_force = !evicts || self.has_list_in_force(client);
        let conn = &mut self.connections[conn_id];
        let is_ghost = ghost_run == Some(conn.server_run);
        let Some(message) = conn.to_node.pop_front() else { return };
        let is_late = conn.state == LinkState::Cut;
        let reads_marker = matches!(&message, ToNode::SentRequest(command) if command.request.kind == RequestKind::ReadMarker);
        if (reads_marker || matches!(message, ToNode::Hello)) && !is_down {
            let client_host = &self.clients[client];
            // A client that reads the marker a second time has the first reading and has acted on it.
            let is_second_read = conn.marker_read_while_evicting
                && !is_late
                && has_list_in_force
                && client_host.is_fenced
                && !client_host.is_misconfigured;
            self.nodes[node].eviction_was_recorded |= evicts && is_second_read;
            conn.marker_read_while_evicting = evicts;
            // This write starts a probation for the eviction.
            let is_reported = matches!(&message, ToNode::SentRequest(command) if command.write.is_some());
            self.nodes[node].eviction_was_recorded &= evicts || !is_reported;
        }
        match message {
            ToNode::Hello if is_late => {}
            ToNode::Hello if is_down => self.send_to_client(conn_id, ToClient::ConnectionRefused),
            ToNode::Hello => {
                conn.server_run = server_run;
                let node_host = &mut self.nodes[node];
                node_host.redis.load_scripts();
                let reading = node_host.redis.read_marker(None, self.nanos);
                let reply =
                    if node_host.is_replica { ToClient::IsReplica } else { ToClient::Accepted(reading) };
                self.send_to_client(conn_id, reply);
            }
            // Bytes for an ended server process are lost.
            ToNode::SentRequest(_) if is_down || conn.server_run != server_run && !is_ghost => {}
            ToNode::SentRequest(command) => {
                self.stats.late_commands += u64::from(is_late);
                self.swap_ghost(node, is_ghost);
                let reply = self.execute(node, client, &command, is_late);
                self.swap_ghost(node, is_ghost);
                if is_ghost && command.write.is_some() && self.plan.reconfigures() {
                    // It may have got the seat of a server without an address.
                    self.note_moved_members();
                }
                if !is_late {
                    self.send_to_client(conn_id, ToClient::Reply(reply));
                } else if self.profile.client_mistake == Some(ClientMistake::ReplyOfOldConnection) {
                    self.reply_on_new_connection(client, node, reply);
                }
            }
        }
    }

    /// The mistake: a reply of the broken connection is delivered on the next connection.
    fn reply_on_new_connection(&mut self, client: usize, node: usize, reply: Reply) {
        if let Some(next) = self.clients[client].conn_ids[node]
            && self.connections[next].state == LinkState::Up
        {
            self.send_to_client(next, ToClient::Reply(reply));
        }
    }

    fn execute(&mut self, node: usize, client: usize, command: &SentRequest, is_late: bool) -> Reply {
        let NodeHost { is_replica, error_permille, .. } = self.nodes[node];
        let request = &command.request;
        let error = if is_replica {
            Some("READONLY")
        } else if error_permille > 0 && self.rng.chance_permille(error_permille) {
            Some("BUSY")
        } else {
            None
        };
        if let Some(error) = error {
            let failure = Vote::Unknown(ReplyFailure::TransientError(error.into()));
            log_event!(self, "node {node} replies to client {client}'s {:?} with {error}", request.kind);
            return match request.kind {
                RequestKind::ReadMarker => Reply::Marker(Err(failure)),
                _ => Reply::Vote(failure, None),
            };
        }
        let previous_owner = self.key_before(node, request);
        let record_before = command.write.as_ref().and_then(|_| self.record_of(node));
        let reply = match request.kind {
            RequestKind::Enqueue | RequestKind::Dequeue => {
                Reply::Vote(self.run_queue_request(node, client, request), None)
            }
            _ => self.nodes[node].redis.run(command, self.nanos),
        };
        if let Some(write) = &command.write {
            self.check_roster(node, client, (write, record_before));
        }
        let notifies = match &reply {
            Reply::Vote(Vote::Granted, _) => true,
            Reply::Vote(Vote::NotHeld | Vote::HeldByOther { .. }, _) => {
                self.nodes[node].redis.mutant != Some(ScriptMutant::NotifiesForOwnKeyOnly)
            }
            _ => false,
        };
        if request.kind == RequestKind::ReleaseAndNotify && notifies {
            self.release_notify_at(node, client, &request.key);
        }
        if self.log.is_some() {
            let late = if is_late { ", late" } else { "" };
            let result = match &reply {
                Reply::Vote(vote, _) => format!("{vote}"),
                Reply::Marker(Ok(reading)) => format!("{:?}, {:?}", reading.marker, reading.record),
                Reply::Marker(Err(failure)) => format!("{failure}"),
            };
            let lock = self
                .oracle
                .attempt_with_token(request.token)
                .map_or(String::new(), |id| format!(" for lock {id}"));
            log_event!(
                self,
                "node {node} executes client {client}'s {:?}{lock}{late}: {result}",
                request.kind
            );
        }
        self.note_executed(node, client, command, &reply, previous_owner);
        reply
    }

    pub(super) fn client_receives(&mut self, conn_id: usize) {
        let conn = &self.connections[conn_id];
        let (client, node, incarnation) = (conn.client, conn.node, conn.incarnation);
        if conn.state == LinkState::Cut
            || !self.is_running_or_defer(client, incarnation, SimEvent::ClientReceives(conn_id))
        {
            return;
        }
        let Some(id) = self.clients[client].id_of(node) else { return };
        let now = self.now(client);
        let conn = &mut self.connections[conn_id];
        let Some(reply) = conn.to_client.pop_front() else { return };
        let client_host = &mut self.clients[client];
        match reply {
            ToClient::Accepted(reading) => {
                conn.state = LinkState::Up;
                let dialed_at = conn.dialed_at;
                client_host.disturbed_until[node] = client_host.disturbed_until[node].max(self.nanos);
                if client_host.is_fenced {
                    client_host.coordinator.on_handshake(id, reading, dialed_at, now);
                }
                client_host.coordinator.on_up(id, now);
                log_event!(self, "client {client} is connected to node {node}");
            }
            ToClient::IsReplica => {
                self.drop_connection(client, node);
                self.clients[client].coordinator.on_excluded(id, ExclusionReason::Replica, now);
            }
            ToClient::ConnectionRefused => {
                self.drop_connection(client, node);
                self.clients[client].coordinator.on_down(id, "not listening".into(), now);
            }
            ToClient::Notification { key, has_others, is_from_waiter } => {
                self.on_notified_by(client, node, key, (has_others, is_from_waiter));
            }
            ToClient::Reply(Reply::Marker(reading)) => {
                let is_replica = matches!(&reading, Err(Vote::Unknown(ReplyFailure::TransientError(error))) if &**error == "READONLY");
                client_host.coordinator.on_marker_reading(id, reading, now);
                if is_replica {
                    self.run_actions(client);
                    self.close_connection(client, node, "a replica");
                }
            }
            ToClient::Reply(Reply::Vote(vote, clock)) => self.on_vote_reply(client, node, vote, clock),
        }
        self.run_actions(client);
    }

    fn on_vote_reply(&mut self, client: usize, node: usize, vote: Vote, clock: Option<u64>) {
        let Some(id) = self.clients[client].id_of(node) else { return };
        let now = self.now(client);
        let coordinator = &mut self.clients[client].coordinator;
        let vote = match vote {
            Vote::Unknown(ReplyFailure::TransientError(_))
                if self.profile.client_mistake == Some(ClientMistake::ErrorCountsAsGrant) =>
            {
                let is_fenced = coordinator.next_reply_kind(id) == Some(RequestKind::Acquire)
                    && coordinator.expected_marker(id).is_some();
                let micros = now.wall_nanos() / 1000;
                if is_fenced { Vote::Fenced(micros) } else { Vote::Granted }
            }
            vote => vote,
        };
        let is_replica =
            matches!(&vote, Vote::Unknown(ReplyFailure::TransientError(error)) if &**error == "READONLY");
        if let Some(micros) = clock {
            coordinator.on_node_time(id, micros, now);
        }
        coordinator.on_reply(id, vote, now);
        if is_replica {
            self.run_actions(client);
            self.close_connection(client, node, "a replica");
        }
    }

    /// Closes the connection on the client's side.
    fn close_connection(&mut self, client: usize, node: usize, reason: &str) {
        if let Some(conn_id) = self.clients[client].conn_ids[node] {
            log_event!(self, "client {client} closes its connection to node {node}: {reason}");
            self.cut_connection(conn_id, 0);
            self.drop_connection(client, node);
            let now = self.now(client);
            if let Some(id) = self.clients[client].id_of(node) {
                self.clients[client].coordinator.on_down(id, reason.into(), now);
            }
            self.run_actions(client);
        }
    }

    /// Closes the connection; the first `late_count` requests in flight still arrive.
    pub(super) fn cut_connection(&mut self, conn_id: usize, late_count: usize) {
        let conn = &mut self.connections[conn_id];
        conn.state = LinkState::Cut;
        conn.to_node.truncate(late_count);
    }

    pub(super) fn drop_connection(&mut self, client: usize, node: usize) {
        self.mark_link_disturbed(client, node, self.nanos);
        self.on_queue_lost_by(client);
        if let Some(conn_id) = self.clients[client].conn_ids[node].take() {
            self.connections[conn_id].state = LinkState::Cut;
        }
        let longest_pause = (self.plan.max_ttl_nanos() / 20).max(100_000_000);
        let (incarnation, delay) =
            (self.clients[client].incarnation, self.rng.log_uniform(1_000_000, longest_pause));
        self.schedule_after(delay, SimEvent::Dial { client, node, incarnation });
    }

    pub(super) fn on_connection_lost(&mut self, conn_id: usize) {
        let Connection { client, node, incarnation, .. } = self.connections[conn_id];
        if !self.is_running_or_defer(client, incarnation, SimEvent::ConnectionLost(conn_id))
            || self.clients[client].conn_ids[node] != Some(conn_id)
        {
            return;
        }
        self.drop_connection(client, node);
        let now = self.now(client);
        if let Some(id) = self.clients[client].id_of(node) {
            self.clients[client].coordinator.on_down(id, "cut".into(), now);
        }
        log_event!(self, "client {client} learns that its connection to node {node} is closed");
        self.run_actions(client);
    }
}
