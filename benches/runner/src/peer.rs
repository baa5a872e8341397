//! Who is measured, and in what.

use std::env;
use std::ffi::OsString;
use std::process::Command;

use crate::Outcome;
use crate::worker::Threads;

/// A client to be measured: a program that speaks the lines of [`worker`](crate::worker).
#[derive(Clone, Debug)]
pub struct Peer {
    pub(crate) name: String,
    program: Vec<OsString>,
    parts: Vec<Part>,
    /// How many locks it takes in a turn of a sequence.
    pub(crate) turn: usize,
    /// For what is no lock over Redis: where it finds its server.
    url: Option<String>,
}

/// What may be measured of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One lock after the other on five nodes, on a runtime of one thread.
    OneThread,
    /// The same on a runtime of all threads; a client without that choice runs on its own threads.
    AllThreads,
    /// The same for one, three and seven nodes.
    Nodes,
    /// 64 tasks, each with a lock of its own.
    Rush,
    /// The same with 1, 8 and 512 tasks.
    Tasks,
    /// A rush in which callers walk away.
    Cancel,
    /// One of five nodes dead or paused.
    Faults,
    /// The same, once, for clients that reply late or never.
    FaultOnce,
    /// Nodes far away.
    Distance,
    /// 10,000 locks held.
    Leases,
    /// The renewal of those, and what others notice of it.
    Renewals,
    /// A holder dies, another waits.
    Takeover,
    /// Instructions, allocations, system calls.
    Work,
}

impl Peer {
    /// A client in this very program.
    pub fn own(name: &str, parts: &[Part]) -> Outcome<Self> {
        Ok(Self::other(name, vec![env::current_exe()?.into()], parts))
    }

    /// A client in another program.
    #[must_use]
    pub fn other(name: &str, program: Vec<OsString>, parts: &[Part]) -> Self {
        Self { name: name.to_owned(), program, parts: parts.to_vec(), turn: 250, url: None }
    }

    /// One so slow that fewer locks must do.
    #[must_use]
    pub fn slow(mut self) -> Self {
        self.turn = 40;
        self
    }

    /// One that has a server of its own.
    #[must_use]
    pub fn at(mut self, url: String) -> Self {
        self.url = Some(url);
        self
    }

    pub(crate) fn takes_part_in(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// What a worker of this peer is started with, behind other programs that may look at it.
    pub(crate) fn command(&self, before: &[&str], threads: Threads, urls: &[String]) -> Command {
        let urls = self.url.clone().unwrap_or_else(|| urls.join(","));
        let mut words = before.iter().map(OsString::from).chain(self.program.iter().cloned());
        // There is always the peer's own program.
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(["worker", &self.name, threads.name(), &urls]);
        command
    }
}

/// The peers of a part, in an order that changes with the round: each comes first, second and last equally often.
pub(crate) fn in_turn(peers: &[Peer], part: Part, round: usize) -> Vec<&Peer> {
    let mut those: Vec<&Peer> = peers.iter().filter(|peer| peer.takes_part_in(part)).collect();
    if !those.is_empty() {
        let first = round % those.len();
        those.rotate_left(first);
    }
    if round % 2 == 1 {
        those.reverse();
    }
    those
}
