//! The clients to be measured, and the parts of the bench in which they take part.

use std::env;
use std::ffi::OsString;
use std::process::Command;

use crate::Outcome;
use crate::worker::Threads;

/// A client to be measured: a program that is a [`worker`](crate::worker).
#[derive(Clone, Debug)]
pub struct Peer {
    pub(crate) name: String,
    program: Vec<OsString>,
    parts: Vec<Part>,
    /// The number of locks in a batch of a sequence.
    pub(crate) batch: usize,
    /// The server of a client that does not use Redis.
    url: Option<String>,
}

/// A part of the bench, or a variant of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One lock after the other on five nodes, on a runtime of one thread.
    OneThread,
    /// The same on a runtime of all threads; a client without that choice runs on its own threads.
    AllThreads,
    /// The same for one, three and seven nodes.
    NodeCounts,
    /// 64 tasks, each with its own lock.
    Throughput,
    /// The same with 1, 8 and 512 tasks.
    TaskCounts,
    /// 64 tasks that cancel every tenth acquire.
    Cancelled,
    /// One of five nodes dead or paused.
    Faults,
    /// The same in the first round only, for clients that take seconds or never finish.
    FaultOnce,
    /// Nodes behind a delay.
    Distance,
    /// 10,000 locks held.
    Leases,
    /// The renewal of these locks, and its effect on other locks.
    Renewals,
    /// A holder dies while another process waits.
    Takeover,
    /// Instructions, allocations, system calls.
    Work,
}

impl Peer {
    /// A client in this program.
    pub fn own(name: &str, parts: &[Part]) -> Outcome<Self> {
        Ok(Self::other(name, vec![env::current_exe()?.into()], parts))
    }

    /// A client in another program.
    #[must_use]
    pub fn other(name: &str, program: Vec<OsString>, parts: &[Part]) -> Self {
        Self { name: name.to_owned(), program, parts: parts.to_vec(), batch: 250, url: None }
    }

    /// Makes the batches small, for a slow client.
    #[must_use]
    pub fn slow(mut self) -> Self {
        self.batch = 40;
        self
    }

    /// Sets the URL of a server that is not one of the Redis nodes.
    #[must_use]
    pub fn at(mut self, url: String) -> Self {
        self.url = Some(url);
        self
    }

    pub(crate) fn takes_part_in(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// The command that starts a worker of this peer, optionally under the program `wrapper`.
    pub(crate) fn command(&self, wrapper: &[&str], threads: Threads, urls: &[String]) -> Command {
        let urls = self.url.clone().unwrap_or_else(|| urls.join(","));
        let mut words = wrapper.iter().map(OsString::from).chain(self.program.iter().cloned());
        // There is at least the peer's own program.
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(["worker", &self.name, threads.name(), &urls]);
        command
    }
}

/// The peers of a part, in an order that rotates with the round: each is first, second and last equally
/// often.
pub(crate) fn in_rotated_order(peers: &[Peer], part: Part, round: usize) -> Vec<&Peer> {
    let mut selected: Vec<&Peer> = peers.iter().filter(|peer| peer.takes_part_in(part)).collect();
    if !selected.is_empty() {
        let first = round % selected.len();
        selected.rotate_left(first);
    }
    if round % 2 == 1 {
        selected.reverse();
    }
    selected
}
