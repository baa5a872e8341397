//! A proxy that delays the bytes to and from a node.
//!
//! The proxy of `quorlock-chaos` delays by timers of whole milliseconds, which is too coarse for half a
//! millisecond. This one uses sleeping threads, and is late by less than a tenth of a millisecond. The PINGs
//! through it include its cost.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Forwards bytes to a node and back, each half a round trip later. It stops accepting when this value is
/// dropped; its threads end when their connections are closed.
pub(crate) struct DelayProxy {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
}

impl DelayProxy {
    pub(crate) fn start(port: u16, round_trip: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, is_stopped) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&is_stopped);
        thread::spawn(move || {
            for client in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // If the node cannot be reached, the client sees its connection closed.
                let _ = client.and_then(|client| connect_to_node(client, port, round_trip / 2));
            }
        });
        Ok(Self { address, is_stopped })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        // Wakes the listener up.
        let _ = TcpStream::connect(self.address);
    }
}

fn connect_to_node(client: TcpStream, port: u16, delay: Duration) -> io::Result<()> {
    let node = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    for stream in [&client, &node] {
        stream.set_nodelay(true)?;
    }
    delay_direction(client.try_clone()?, node.try_clone()?, delay);
    delay_direction(node, client, delay);
    Ok(())
}

/// Forwards one direction: one thread reads and sets the due time, another waits until then and writes.
fn delay_direction(mut from: TcpStream, to: TcpStream, delay: Duration) {
    let (sender, chunks) = channel();
    thread::spawn(move || {
        loop {
            let mut chunk = vec![0; 16 * 1024];
            let length = match from.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // A reset ends the direction like a close.
                Ok(0) | Err(_) => return,
                Ok(length) => length,
            };
            chunk.truncate(length);
            if sender.send((Instant::now() + delay, chunk)).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || write_when_due(&chunks, to));
}

fn write_when_due(chunks: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    while let Ok((due, chunk)) = chunks.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&chunk).is_err() {
            break;
        }
    }
    // The other end may have closed it.
    let _ = to.shutdown(Shutdown::Both);
}
