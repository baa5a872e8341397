//! A fleet: several servers, the N independent masters of a lock.

use std::ops::{Index, IndexMut};
use std::thread;

use crate::{Server, Setup, StartError};

/// Independent servers, counted from 0; all of them go when the fleet is dropped.
///
/// Faults are done to one server at a time, by its place: `fleet[2].kill()`.
#[derive(Debug)]
pub struct Fleet {
    servers: Vec<Server>,
}

impl Fleet {
    /// Starts `n` servers as [`Setup::new`] describes them, all at once; returns when every one answers.
    ///
    /// # Errors
    /// The first [`StartError`]; the servers that did start are gone again by then.
    pub fn start(n: usize) -> Result<Self, StartError> {
        Self::start_with(n, &Setup::new())
    }

    /// Starts `n` servers that follow `setup`, all at once; returns when every one answers.
    ///
    /// # Errors
    /// The first [`StartError`]; the servers that did start are gone again by then.
    ///
    /// # Panics
    /// If the system refuses a thread to start a server from.
    pub fn start_with(n: usize, setup: &Setup) -> Result<Self, StartError> {
        let servers: Result<_, _> = thread::scope(|scope| {
            let starts: Vec<_> = (0..n).map(|_| scope.spawn(|| Server::start(setup))).collect();
            starts.into_iter().map(|start| start.join().expect("starting a server does not panic")).collect()
        });
        Ok(Self { servers: servers? })
    }

    /// The URL of every server, in order.
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

    /// The servers, in order, to do faults to.
    #[must_use]
    pub fn servers_mut(&mut self) -> &mut [Server] {
        &mut self.servers
    }

    /// The servers, each on its own from here on.
    #[must_use]
    pub fn into_servers(self) -> Vec<Server> {
        self.servers
    }

    /// How many servers there are, dead ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether this is the fleet of no servers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }
}

impl Index<usize> for Fleet {
    type Output = Server;

    fn index(&self, place: usize) -> &Server {
        &self.servers[place]
    }
}

impl IndexMut<usize> for Fleet {
    fn index_mut(&mut self, place: usize) -> &mut Server {
        &mut self.servers[place]
    }
}
