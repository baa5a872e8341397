//! A wire of a given length to a node.
//!
//! The proxy of `quorlock-chaos` delays by timers of whole milliseconds, which is right for faults and too coarse for half a
//! millisecond. This one has threads that sleep, and is late by less than a tenth of one. What it costs is in the round trips
//! that are measured through it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Passes bytes on to a node, half a round trip later each way. Ends with this value, once its connections are closed.
pub(crate) struct Wire {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Wire {
    pub(crate) fn to(port: u16, round_trip: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, is_over) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let over = Arc::clone(&is_over);
        thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                // A client that finds no node behind it sees its connection closed.
                let _ = client.and_then(|client| join(client, port, round_trip / 2));
            }
        });
        Ok(Self { address, is_over })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the listener up.
        let _ = TcpStream::connect(self.address);
    }
}

fn join(client: TcpStream, port: u16, delay: Duration) -> io::Result<()> {
    let node = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    for stream in [&client, &node] {
        stream.set_nodelay(true)?;
    }
    delay_direction(client.try_clone()?, node.try_clone()?, delay);
    delay_direction(node, client, delay);
    Ok(())
}

/// One direction: who reads says when it is due, and who writes waits until then.
fn delay_direction(mut from: TcpStream, to: TcpStream, delay: Duration) {
    let (sent, to_come) = channel();
    thread::spawn(move || {
        loop {
            let mut chunk = vec![0; 16 * 1024];
            let length = match from.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // A reset ends it as a close does: there is nothing more to pass on.
                Ok(0) | Err(_) => return,
                Ok(length) => length,
            };
            chunk.truncate(length);
            if sent.send((Instant::now() + delay, chunk)).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || deliver(&to_come, to));
}

fn deliver(to_come: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    while let Ok((due, chunk)) = to_come.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&chunk).is_err() {
            break;
        }
    }
    // The other end may have closed it.
    let _ = to.shutdown(Shutdown::Both);
}
