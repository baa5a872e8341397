//! Changes of the nodes of a world: data, restarts, roles and clocks.

use std::time::Duration;

use super::server::Server;
use super::{KEY, World, lock_slot};
use crate::request::Key;
use crate::test_util::node::{Data, DataKey, DataValue};

impl World {
    /// Deletes the key on this node.
    pub(crate) fn delete_key(&mut self, node: usize) {
        self.servers[node].node.data_mut().remove(&lock_slot());
    }

    /// Sets the fence of the key on this node.
    pub(crate) fn set_fence(&mut self, node: usize, fence: &str) {
        let entry = DataValue { value: Some(fence.into()), expires: None };
        self.servers[node].node.data_mut().insert(DataKey::Fence(Key::new(KEY)), entry);
    }

    /// Deletes all data of the node, as `FLUSHALL` does; connections stay.
    pub(crate) fn flush(&mut self, node: usize) {
        self.servers[node].node.data_mut().clear();
    }

    /// Restarts the node's server with this data; its connections break.
    pub(crate) fn restart(&mut self, node: usize, data: Data) {
        for client in 0..self.clients.len() {
            if self.is_connected(client, node) {
                self.disconnect(client, node);
            }
        }
        self.servers[node].node.restart(data);
    }

    /// From now on the node's address leads to another, blank server. Connections to the earlier one stay.
    /// Returns the server's index.
    pub(crate) fn move_address(&mut self, node: usize) -> usize {
        let server = self.servers.len();
        self.servers.push(Server::new(server, self.quorum));
        self.point_address(node, server);
        server
    }

    /// From now on the node's address leads to this server.
    pub(crate) fn point_address(&mut self, node: usize, server: usize) {
        self.addresses[node] = server;
    }

    /// The node evicts a key, which changes its count.
    pub(crate) fn evict_a_key(&mut self, node: usize) {
        self.set_foreign_key(node, Some(b"another's"), Some(Duration::from_secs(60)));
        self.servers[node].node.evict(&[lock_slot()]);
    }

    /// Makes the node a replica of a server with this data, and a master again.
    pub(crate) fn change_role(&mut self, node: usize, data: Data) {
        self.servers[node].node.change_role(data);
    }

    /// Moves the node's clock by this many milliseconds.
    pub(crate) fn shift_clock(&mut self, node: usize, by_millis: i64) {
        self.servers[node].node.jump_clock(self.nanos, by_millis * 1_000_000);
    }

    /// From now on the node's clock runs faster than the world's by this many millionths.
    pub(crate) fn set_clock_drift(&mut self, node: usize, millionths: i64) {
        self.servers[node].node.set_drift(millionths, self.nanos);
    }

    pub(crate) fn flush_scripts(&mut self, node: usize) {
        self.servers[node].node.flush_scripts();
    }

    /// Sets a key of another owner with this ttl; without `value`, a key of another type.
    pub(crate) fn set_foreign_key(&mut self, node: usize, value: Option<&[u8]>, ttl: Option<Duration>) {
        let server = &mut self.servers[node].node;
        let expires = ttl.map(|ttl| server.clock_micros(self.nanos) / 1000 + ttl.as_millis() as u64);
        server.data_mut().insert(lock_slot(), DataValue { value: value.map(<[u8]>::to_vec), expires });
    }
}
