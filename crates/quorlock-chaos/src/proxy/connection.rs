//! One forwarded connection.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
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
    upstream: SocketAddr,
    rules: watch::Receiver<Rules>,
    /// The rules when it began: only later commands apply to it.
    first: Rules,
    number: u64,
}

/// Why the proxy ends it.
enum ConnectionFault {
    Reset,
    HalfOpen,
}

impl Connection {
    pub(super) fn new(
        client: TcpStream,
        upstream: SocketAddr,
        rules: watch::Receiver<Rules>,
        number: u64,
    ) -> Self {
        let first = *rules.borrow();
        Self { client, upstream, rules, first, number }
    }

    pub(super) async fn serve(mut self) {
        // If anything fails here, the client sees a connection that breaks, as with a server that is not there.
        let Ok(mut server) = TcpStream::connect(self.upstream).await else { return reset(&self.client) };
        let _ = self.client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
        let outcome = {
            let (client_reads, client_writes) = self.client.split();
            let (server_reads, server_writes) = server.split();
            let pump = |from, to, is_back| Forwarder {
                from,
                to,
                is_back,
                rules: self.rules.clone(),
                truncations: self.first.truncations,
                rng: SeededRng::of_part(self.number, u64::from(is_back)),
                queue: VecDeque::new(),
            };
            let both = async {
                let there = pump(client_reads, server_writes, false).run();
                let back = pump(server_reads, client_writes, true).run();
                tokio::try_join!(there, back)
            };
            tokio::select! {
                ended = both => Ok(ended),
                broken = until_fault(self.rules.clone(), self.first) => Err(broken),
            }
        };
        match outcome {
            Ok(Ok(_)) => {}
            // In the middle of a reply: the part that was sent must arrive, so no reset.
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
        let mut first = self.first;
        first.half_opens = u64::MAX;
        let mut nowhere = [0; 4096];
        loop {
            tokio::select! {
                read = self.client.read(&mut nowhere) => {
                    if matches!(read, Ok(0) | Err(_)) {
                        return;
                    }
                }
                _ = until_fault(self.rules.clone(), first) => return reset(&self.client),
            }
        }
    }
}

/// Resolves when a command breaks connections that began with `first`.
async fn until_fault(mut rules: watch::Receiver<Rules>, first: Rules) -> ConnectionFault {
    let is_order = |rules: &Rules| rules.resets > first.resets || rules.half_opens > first.half_opens;
    match rules.wait_for(is_order).await {
        Ok(now) if now.resets > first.resets => ConnectionFault::Reset,
        Ok(_) => ConnectionFault::HalfOpen,
        // The proxy is gone.
        Err(_) => ConnectionFault::Reset,
    }
}

/// Makes the end of this stream a reset.
fn reset(stream: &TcpStream) {
    // Fails only for a stream that has ended otherwise.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// One direction.
struct Forwarder<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    is_back: bool,
    rules: watch::Receiver<Rules>,
    truncations: u64,
    rng: SeededRng,
    /// What is on its way, and when it is to arrive.
    queue: VecDeque<(Instant, Vec<u8>)>,
}

impl Forwarder<'_> {
    async fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut is_open = true;
        loop {
            let (lane, tears) = self.current_rule();
            if !is_open && self.queue.is_empty() {
                return self.to.shutdown().await;
            }
            let reads = is_open && lane != DirectionRule::NoRead && self.queue.len() < MAX_QUEUE;
            let due = match lane {
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
                        self.forward(&bytes, tears).await?;
                    }
                }
                read = self.from.read(&mut buffer), if reads => match read? {
                    0 => is_open = false,
                    len => {
                        let due = self.due(lane);
                        self.queue.push_back((due, buffer[..len].to_vec()));
                    }
                },
            }
        }
    }

    fn current_rule(&mut self) -> (DirectionRule, u64) {
        let rules = self.rules.borrow_and_update();
        (if self.is_back { rules.link.to_client } else { rules.link.to_server }, rules.truncations)
    }

    async fn forward(&mut self, bytes: &[u8], tears: u64) -> io::Result<()> {
        if self.is_back && tears > self.truncations {
            self.to.write_all(&bytes[..bytes.len() / 2]).await?;
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.to.write_all(bytes).await
    }

    /// When what is read now is to arrive: not before what was read earlier.
    fn due(&mut self, rule: DirectionRule) -> Instant {
        let now = Instant::now();
        let DirectionRule::Delay { delay, jitter } = rule else { return now };
        let jitter = Duration::from_micros(self.rng.between(0, jitter.as_micros() as u64));
        let earliest = self.queue.back().map_or(now, |(due, _)| *due);
        (now + delay + jitter).max(earliest)
    }
}

const CHUNK: usize = 16 * 1024;
/// As much as a network would hold.
const MAX_QUEUE: usize = 256;
