//! A proxy before a server: a network that can be broken, with an address for each side of a partition.

mod connection;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::Server;
use connection::Connection;

/// Forwards connections to a server. It has one address for each side. Each side has its own network, so that some
/// clients reach the server while others do not.
///
/// Everything here is done in user space, by one thread: no privileges, no other tools.
#[derive(Debug)]
pub struct Proxy {
    sides: Vec<Side>,
    thread: Option<JoinHandle<()>>,
    /// Its drop ends the thread.
    stop: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Side {
    port: u16,
    rules: watch::Sender<Rules>,
}

/// How a network treats traffic. Changes in quick succession may be applied as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkRules {
    /// From clients to the server.
    pub to_server: DirectionRule,
    /// From the server to clients.
    pub to_client: DirectionRule,
}

/// How one direction treats traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectionRule {
    /// Forwards it.
    #[default]
    Forward,
    /// Forwards it later, in order.
    Delay {
        /// The least delay.
        delay: Duration,
        /// The largest additional delay.
        jitter: Duration,
    },
    /// Reads and keeps it, and forwards it when the direction is open again: as TCP does when packets are lost.
    HoldBack,
    /// Does not read it, until the sender's buffers are full.
    NoRead,
}

/// Rules for connections: some lasting, some applied once, to the existing connections.
#[derive(Clone, Copy, Debug, Default)]
struct Rules {
    link: LinkRules,
    /// How many times so far.
    resets: u64,
    half_opens: u64,
    truncations: u64,
}

impl Proxy {
    /// A proxy before this server, with so many sides.
    ///
    /// # Errors
    ///
    /// If the system has no ports or no thread for it.
    pub fn in_front_of(server: &Server, sides: usize) -> io::Result<Self> {
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        let listeners = (0..sides).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let mut doors = Vec::new();
        let mut sides = Vec::new();
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let (rules, watched) = watch::channel(Rules::default());
            sides.push(Side { port: listener.local_addr()?.port(), rules });
            doors.push((listener, watched));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new().name("proxy".to_owned()).spawn(move || {
            runtime.block_on(async {
                for (listener, rules) in doors {
                    tokio::spawn(serve(listener, upstream, rules));
                }
                // An error means that the other end is gone, which is the signal to end.
                let _ = ended.await;
            });
        })?;
        Ok(Self { sides, thread: Some(thread), stop: Some(end) })
    }

    /// The URL for clients of one side. It has no password.
    #[must_use]
    pub fn url(&self, side: usize) -> String {
        format!("redis://127.0.0.1:{}", self.sides[side].port)
    }

    /// How many sides there are.
    #[must_use]
    pub fn sides(&self) -> usize {
        self.sides.len()
    }

    /// Sets the rules of one side, for queued traffic too.
    pub fn set(&self, side: usize, flow: LinkRules) {
        self.sides[side].rules.send_modify(|rules| rules.link = flow);
    }

    /// Resets the connections of one side (RST, both ends). New ones can be made.
    pub fn reset(&self, side: usize) {
        self.sides[side].rules.send_modify(|rules| rules.resets += 1);
    }

    /// Orphans the client connections of one side: the server's ends are reset, theirs stay open and silent. New ones
    /// can be made, and [`reset`](Self::reset) ends the old.
    pub fn half_open(&self, side: usize) {
        self.sides[side].rules.send_modify(|rules| rules.half_opens += 1);
    }

    /// Ends each connection of one side in the middle of the server's next reply.
    pub fn truncate(&self, side: usize) {
        self.sides[side].rules.send_modify(|rules| rules.truncations += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // The thread's panic was reported on stderr.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, rules: watch::Receiver<Rules>) {
    // Both fail only without the runtime that this runs on.
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    for number in 0.. {
        // For example, no file descriptors are left: the client sees a slow dial.
        let Ok((client, _)) = listener.accept().await else { continue };
        tokio::spawn(Connection::new(client, upstream, rules.clone(), number).serve());
    }
}

impl LinkRules {
    /// Nothing is broken.
    pub const OPEN: Self = Self { to_server: DirectionRule::Forward, to_client: DirectionRule::Forward };
    /// Nothing arrives, in either direction.
    pub const CUT: Self = Self { to_server: DirectionRule::HoldBack, to_client: DirectionRule::HoldBack };

    /// Delayed, in both directions.
    #[must_use]
    pub const fn delayed(delay: Duration, jitter: Duration) -> Self {
        Self {
            to_server: DirectionRule::Delay { delay, jitter },
            to_client: DirectionRule::Delay { delay, jitter },
        }
    }
}
