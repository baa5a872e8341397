//! A proxy in front of a server that injects network faults, with one address for each side of a partition.

mod connection;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::Server;
use connection::Connection;

/// Forwards connections to a server. It has one address and one set of rules for each side, so that some
/// clients reach the server while others do not.
///
/// It runs in user space, on one thread: it needs no privileges and no other tools.
#[derive(Debug)]
pub struct Proxy {
    sides: Vec<Side>,
    thread: Option<JoinHandle<()>>,
    /// Ends the thread when it is dropped.
    stop: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Side {
    port: u16,
    rules: watch::Sender<Rules>,
}

/// How a side treats traffic. Changes in quick succession may be applied as one.
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
        /// The minimum delay.
        delay: Duration,
        /// The maximum additional delay.
        jitter: Duration,
    },
    /// Reads and queues it, and forwards it when the direction is open again, like TCP when packets are lost.
    HoldBack,
    /// Does not read it, so that the sender's buffers fill up.
    NoRead,
}

/// The rules of a side. `link` applies to all traffic; each increment of a counter applies once, to the
/// connections that exist then.
#[derive(Clone, Copy, Debug, Default)]
struct Rules {
    /// The port of the server to which new connections go.
    upstream: u16,
    link: LinkRules,
    resets: u64,
    half_opens: u64,
    truncations: u64,
}

impl Proxy {
    /// A proxy in front of this server, with this many sides.
    ///
    /// # Errors
    ///
    /// If the system has no free ports, or no thread can be started.
    pub fn in_front_of(server: &Server, sides: usize) -> io::Result<Self> {
        let listeners = (0..sides).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let mut servers = Vec::new();
        let mut sides = Vec::new();
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let (rules, receiver) = watch::channel(Rules { upstream: server.port(), ..Rules::default() });
            sides.push(Side { port: listener.local_addr()?.port(), rules });
            servers.push((listener, receiver));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("proxy".to_owned()).spawn(move || {
            runtime.block_on(async {
                for (listener, rules) in servers {
                    tokio::spawn(serve(listener, rules));
                }
                // The sender is never used: its drop is the signal to end.
                let _ = stopped.await;
            });
        })?;
        Ok(Self { sides, thread: Some(thread), stop: Some(stop) })
    }

    /// The URL for clients of one side. It has no password.
    #[must_use]
    pub fn url(&self, side: usize) -> String {
        format!("redis://127.0.0.1:{}", self.sides[side].port)
    }

    /// The number of sides.
    #[must_use]
    pub fn sides(&self) -> usize {
        self.sides.len()
    }

    /// Sets the rules of one side, also for queued traffic.
    pub fn set(&self, side: usize, link: LinkRules) {
        self.sides[side].rules.send_modify(|rules| rules.link = link);
    }

    /// Points all sides at another server. Existing connections stay with the previous one, as those of a DNS
    /// name do.
    pub fn move_new_connections_to(&self, server: &Server) {
        for side in &self.sides {
            side.rules.send_modify(|rules| rules.upstream = server.port());
        }
    }

    /// Resets the connections of one side (RST, both ends). New connections work.
    pub fn reset(&self, side: usize) {
        self.sides[side].rules.send_modify(|rules| rules.resets += 1);
    }

    /// Makes the connections of one side half-open: the server's ends are reset, the clients' ends stay open
    /// without replies. New connections work, and [`reset`](Self::reset) ends the old ones.
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

async fn serve(listener: TcpListener, rules: watch::Receiver<Rules>) {
    // Fails only outside a runtime.
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    for connection in 0.. {
        // An error, such as too many open files, looks like a slow dial to the client.
        let Ok((client, _)) = listener.accept().await else { continue };
        tokio::spawn(Connection::new(client, rules.clone(), connection).serve());
    }
}

impl LinkRules {
    /// Traffic is forwarded, in both directions.
    pub const OPEN: Self = Self { to_server: DirectionRule::Forward, to_client: DirectionRule::Forward };
    /// Nothing arrives, in either direction.
    pub const PARTITIONED: Self =
        Self { to_server: DirectionRule::HoldBack, to_client: DirectionRule::HoldBack };

    /// Traffic is delayed, in both directions.
    #[must_use]
    pub const fn delayed(delay: Duration, jitter: Duration) -> Self {
        Self {
            to_server: DirectionRule::Delay { delay, jitter },
            to_client: DirectionRule::Delay { delay, jitter },
        }
    }
}
