//! The connections of a world: what is in flight, and its delivery.

use std::collections::VecDeque;
use std::time::Duration;

use super::World;
use crate::quorum::NodeId;
use crate::request::{Key, OwnerToken, Request, RequestKind};
use crate::test_util::node::{Reply, SentRequest};
use crate::vote::ExclusionReason;

impl World {
    pub(crate) fn connect(&mut self, client: usize, node: usize) {
        let now = self.now(client);
        let is_listed = node < self.clients[client].listed;
        let connection = &mut self.clients[client].connections[node];
        if connection.is_up || !is_listed {
            return;
        }
        let server = self.addresses[node];
        (connection.is_up, connection.server) = (true, server);
        // The handshake loads the scripts and reads the marker.
        self.servers[server].node.load_scripts();
        if self.clients[client].is_fenced {
            let reading = self.servers[server].node.read_marker(None, self.nanos);
            self.clients[client].coordinator.on_handshake(NodeId(node as u8), reading, now, now);
        }
        self.clients[client].coordinator.on_up(NodeId(node as u8), now);
        self.perform_actions(client);
    }

    /// Breaks the connection; undelivered requests are lost.
    pub(crate) fn disconnect(&mut self, client: usize, node: usize) {
        self.disconnect_leaving(client, node, 0);
    }

    /// Breaks the connection; its first `orphans` undelivered commands can still reach the node later.
    pub(crate) fn disconnect_leaving(&mut self, client: usize, node: usize, orphans: usize) {
        let sent = self.drop_connection(client, node);
        let server = self.clients[client].connections[node].server;
        self.servers[server].orphaned_commands.push_back(sent.into_iter().take(orphans).collect());
        let now = self.now(client);
        self.clients[client].coordinator.on_down(NodeId(node as u8), "cut".into(), now);
        self.perform_actions(client);
    }

    pub(crate) fn exclude(&mut self, client: usize, node: usize, exclusion: ExclusionReason) {
        self.drop_connection(client, node);
        let now = self.now(client);
        self.clients[client].coordinator.on_excluded(NodeId(node as u8), exclusion, now);
        self.perform_actions(client);
    }

    pub(super) fn drop_connection(&mut self, client: usize, node: usize) -> VecDeque<SentRequest> {
        let connection = &mut self.clients[client].connections[node];
        connection.is_up = false;
        connection.replies.clear();
        // A status of an earlier connection says nothing.
        self.clients[client].statuses[node] = None;
        std::mem::take(&mut self.clients[client].connections[node].requests)
    }

    pub(crate) fn is_connected(&self, client: usize, node: usize) -> bool {
        self.clients[client].connections[node].is_up
    }

    /// The node runs the oldest undelivered command of this connection. False if there is none.
    pub(crate) fn deliver_request(&mut self, client: usize, node: usize) -> bool {
        let connection = &mut self.clients[client].connections[node];
        let Some(command) = connection.requests.pop_front() else { return false };
        let reply = self.servers[connection.server].run(&command, self.nanos);
        connection.replies.push_back(reply);
        true
    }

    /// The client receives the oldest reply of this connection. False if there is none.
    pub(crate) fn deliver_reply(&mut self, client: usize, node: usize) -> bool {
        let Some(reply) = self.clients[client].connections[node].replies.pop_front() else { return false };
        let now = self.now(client);
        let (coordinator, node) = (&mut self.clients[client].coordinator, NodeId(node as u8));
        match reply {
            Reply::Marker(reading) => coordinator.on_marker_reading(node, reading, now),
            Reply::Vote(vote, clock) => {
                if let Some(micros) = clock {
                    coordinator.on_node_time(node, micros, now);
                }
                assert!(coordinator.on_reply(node, vote, now).is_some(), "a reply without a request");
            }
        }
        self.perform_actions(client);
        true
    }

    /// Delivers one request and its reply.
    pub(crate) fn round_trip(&mut self, client: usize, node: usize) -> bool {
        self.deliver_request(client, node) && self.deliver_reply(client, node)
    }

    /// Delivers everything in flight at once. Hanging nodes and paused clients receive nothing.
    pub(crate) fn deliver_all(&mut self) {
        let mut has_delivered = true;
        while has_delivered {
            has_delivered = false;
            for client in 0..self.clients.len() {
                for node in 0..self.nodes() {
                    let server = self.clients[client].connections[node].server;
                    has_delivered |= !self.servers[server].hangs && self.deliver_request(client, node);
                    has_delivered |= !self.clients[client].is_paused && self.deliver_reply(client, node);
                }
            }
        }
        self.wake_all();
    }

    /// Delivers one command of a lost connection. False if there is none.
    pub(crate) fn deliver_orphan(&mut self, node: usize) -> bool {
        let server = &mut self.servers[node];
        server.orphaned_commands.retain(|commands| !commands.is_empty());
        let Some(mut commands) = server.orphaned_commands.pop_front() else { return false };
        if let Some(command) = commands.pop_front() {
            let _ = server.run(&command, self.nanos);
        }
        // Rotate: commands keep their order within a connection, but not between connections.
        server.orphaned_commands.push_back(commands);
        true
    }

    /// The kinds of the requests that were sent to the node and have not reached it.
    pub(crate) fn undelivered(&self, client: usize, node: usize) -> Vec<RequestKind> {
        self.clients[client].connections[node].requests.iter().map(|command| command.request.kind).collect()
    }

    pub(crate) fn undelivered_commands(
        &self,
        client: usize,
        node: usize,
    ) -> impl Iterator<Item = &SentRequest> {
        self.clients[client].connections[node].requests.iter()
    }

    pub(crate) fn is_nothing_in_flight(&self, client: usize) -> bool {
        self.clients[client]
            .connections
            .iter()
            .all(|connection| connection.requests.is_empty() && connection.replies.is_empty())
    }
}

pub(super) fn marker_request() -> Request {
    let (key, token) = (Key::new(""), OwnerToken::new(0));
    let kind = RequestKind::ReadMarker;
    Request { kind, key, token, ttl: Duration::ZERO, fence: None, previous_owner: None }
}
