//! A fleet: several independent servers, the N masters of a lock cluster.

use std::ops::{Index, IndexMut};
use std::thread;

use crate::{Server, Setup, StartError};

/// Independent servers, counted from 0. They end when the fleet is dropped.
///
/// Faults are injected into one server, by its index: `fleet[2].kill()`.
#[derive(Debug)]
pub struct Fleet {
    servers: Vec<Server>,
}

impl Fleet {
    /// Starts `n` servers with the settings of [`Setup::new`], all at once. Returns when all are ready.
    ///
    /// # Errors
    /// The first [`StartError`]; the servers that did start have ended by then.
    pub fn start(n: usize) -> Result<Self, StartError> {
        Self::start_with(n, &Setup::new())
    }

    /// Starts `n` servers with the settings of `setup`, all at once. Returns when all are ready.
    ///
    /// # Errors
    /// The first [`StartError`]; the servers that did start have ended by then.
    ///
    /// # Panics
    /// If a thread cannot be started.
    pub fn start_with(n: usize, setup: &Setup) -> Result<Self, StartError> {
        let servers: Result<_, _> = thread::scope(|scope| {
            let starts: Vec<_> = (0..n).map(|_| scope.spawn(|| Server::start(setup))).collect();
            starts.into_iter().map(|start| start.join().expect("starting a server does not panic")).collect()
        });
        Ok(Self { servers: servers? })
    }

    /// The URLs of the servers, in order.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Server::url).collect()
    }

    /// The URLs joined by commas, as the environment variable `QUORLOCK_NODES` takes them.
    #[must_use]
    pub fn nodes(&self) -> String {
        self.urls().join(",")
    }

    /// The servers, in order.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The servers, in order, mutable for faults.
    #[must_use]
    pub fn servers_mut(&mut self) -> &mut [Server] {
        &mut self.servers
    }

    /// Takes the fleet apart: each server then ends when it is dropped itself.
    #[must_use]
    pub fn into_servers(self) -> Vec<Server> {
        self.servers
    }

    /// The number of servers, including dead ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether the fleet has no servers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }
}

impl Index<usize> for Fleet {
    type Output = Server;

    fn index(&self, index: usize) -> &Server {
        &self.servers[index]
    }
}

impl IndexMut<usize> for Fleet {
    fn index_mut(&mut self, index: usize) -> &mut Server {
        &mut self.servers[index]
    }
}
