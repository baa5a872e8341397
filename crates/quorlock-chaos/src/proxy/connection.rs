//! Forwards one connection of a client to the server.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{DirectionRule, Rules};
use crate::seeded_rng::SeededRng;

/// A client, and the rules that apply to it.
pub(super) struct Connection {
    client: TcpStream,
    rules: watch::Receiver<Rules>,
    /// The rules when it began: only later resets, half-opens and truncations apply to it.
    initial: Rules,
    number: u64,
}

/// The fault with which the proxy ends a connection.
enum ConnectionFault {
    Reset,
    HalfOpen,
}

impl Connection {
    pub(super) fn new(client: TcpStream, rules: watch::Receiver<Rules>, number: u64) -> Self {
        let initial = *rules.borrow();
        Self { client, rules, initial, number }
    }

    pub(super) async fn serve(mut self) {
        // If anything fails here, the client sees a connection that ends, as with a dead server.
        let upstream = (Ipv4Addr::LOCALHOST, self.initial.upstream);
        let Ok(mut server) = TcpStream::connect(upstream).await else { return reset(&self.client) };
        let _ = self.client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
        let outcome = {
            let (client_reads, client_writes) = self.client.split();
            let (server_reads, server_writes) = server.split();
            let forwarder = |from, to, to_client| Forwarder {
                from,
                to,
                to_client,
                rules: self.rules.clone(),
                truncations: self.initial.truncations,
                rng: SeededRng::for_part(self.number, u64::from(to_client)),
                queue: VecDeque::new(),
            };
            let both = async {
                let requests = forwarder(client_reads, server_writes, false).run();
                let replies = forwarder(server_reads, client_writes, true).run();
                tokio::try_join!(requests, replies)
            };
            tokio::select! {
                ended = both => Ok(ended),
                fault = until_fault(self.rules.clone(), self.initial) => Err(fault),
            }
        };
        match outcome {
            Ok(Ok(_)) => {}
            // A truncated reply: its first half must arrive, so the client's end is not reset.
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => reset(&server),
            Ok(Err(_)) | Err(ConnectionFault::Reset) => {
                reset(&self.client);
                reset(&server);
            }
            Err(ConnectionFault::HalfOpen) => {
                reset(&server);
                drop(server);
                self.discard_input().await;
            }
        }
    }

    /// Reads and discards what the client sends, until it closes or the connection is reset.
    async fn discard_input(mut self) {
        let mut initial = self.initial;
        initial.half_opens = u64::MAX;
        let mut discarded = [0; 4096];
        loop {
            tokio::select! {
                read = self.client.read(&mut discarded) => {
                    if matches!(read, Ok(0) | Err(_)) {
                        return;
                    }
                }
                _ = until_fault(self.rules.clone(), initial) => return reset(&self.client),
            }
        }
    }
}

/// Resolves when a reset or half-open fault hits connections that began with the rules `initial`.
async fn until_fault(mut rules: watch::Receiver<Rules>, initial: Rules) -> ConnectionFault {
    let is_fault = |rules: &Rules| rules.resets > initial.resets || rules.half_opens > initial.half_opens;
    match rules.wait_for(is_fault).await {
        Ok(now) if now.resets > initial.resets => ConnectionFault::Reset,
        Ok(_) => ConnectionFault::HalfOpen,
        // The proxy was dropped.
        Err(_) => ConnectionFault::Reset,
    }
}

/// Makes this stream end with a reset when it is closed.
fn reset(stream: &TcpStream) {
    // Fails only for a stream that has already ended.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Forwards one direction of a connection.
struct Forwarder<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    to_client: bool,
    rules: watch::Receiver<Rules>,
    truncations: u64,
    rng: SeededRng,
    /// Queued bytes, and when they are due.
    queue: VecDeque<(Instant, Vec<u8>)>,
}

impl Forwarder<'_> {
    async fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut is_open = true;
        loop {
            let (rule, truncations) = self.current_rule();
            if !is_open && self.queue.is_empty() {
                return self.to.shutdown().await;
            }
            let reads = is_open && rule != DirectionRule::NoRead && self.queue.len() < MAX_QUEUE;
            let due = match rule {
                DirectionRule::HoldBack | DirectionRule::NoRead => None,
                // Delayed traffic is forwarded at once when the direction is open again.
                DirectionRule::Forward => self.queue.front().map(|_| Instant::now()),
                DirectionRule::Delay { .. } => self.queue.front().map(|(due, _)| *due),
            };
            tokio::select! {
                changed = self.rules.changed() => {
                    changed.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some((_, bytes)) = self.queue.pop_front() {
                        self.forward(&bytes, truncations).await?;
                    }
                }
                read = self.from.read(&mut buffer), if reads => match read? {
                    0 => is_open = false,
                    len => {
                        let due = self.due(rule);
                        self.queue.push_back((due, buffer[..len].to_vec()));
                    }
                },
            }
        }
    }

    fn current_rule(&mut self) -> (DirectionRule, u64) {
        let rules = self.rules.borrow_and_update();
        (if self.to_client { rules.link.to_client } else { rules.link.to_server }, rules.truncations)
    }

    async fn forward(&mut self, bytes: &[u8], truncations: u64) -> io::Result<()> {
        if self.to_client && truncations > self.truncations {
            self.to.write_all(&bytes[..bytes.len() / 2]).await?;
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.to.write_all(bytes).await
    }

    /// When bytes that are read now are due: not before bytes that were read earlier.
    fn due(&mut self, rule: DirectionRule) -> Instant {
        let now = Instant::now();
        let DirectionRule::Delay { delay, jitter } = rule else { return now };
        let jitter = Duration::from_micros(self.rng.between(0, jitter.as_micros() as u64));
        let earliest = self.queue.back().map_or(now, |(due, _)| *due);
        (now + delay + jitter).max(earliest)
    }
}

const CHUNK: usize = 16 * 1024;
/// The longest queue of a direction, in chunks: 4 MiB.
const MAX_QUEUE: usize = 256;
