//! An address that can be moved from one server to another.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::Server;

/// A loopback port that forwards connections to a server, and can be [moved](Self::move_to) to another. It
/// acts like a virtual IP, a DNS name or a load balancer that is pointed at another server.
///
/// Its connections end with a [move](Self::move_to), with its drop, and when their server ends. A [`Proxy`](crate::Proxy)
/// applies changes a moment later; here a move is complete when the call returns. Nothing sent afterwards
/// reaches the previous server.
#[derive(Debug)]
pub struct MovableAddress {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    /// The port of the server; none once the address is closed.
    upstream: Option<u16>,
    /// Both ends of the forwarded connections.
    streams: Vec<TcpStream>,
}

impl MovableAddress {
    /// An address in front of this server.
    ///
    /// # Errors
    /// If the system has no port for it.
    pub fn of(server: &Server) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Mutex::new(Shared { upstream: Some(server.port()), streams: Vec::new() }));
        let thread_shared = Arc::clone(&shared);
        thread::Builder::new()
            .name("movable-address".to_owned())
            .spawn(move || accept(&listener, &thread_shared))?;
        Ok(Self { port, shared })
    }

    /// Points the address at another server. Existing connections break.
    pub fn move_to(&mut self, server: &Server) {
        self.redirect(Some(server.port()));
    }

    /// Points the address at another server. Existing connections stay with the previous one, as those of a DNS name
    /// do.
    pub fn move_new_connections_to(&mut self, server: &Server) {
        lock(&self.shared).upstream = Some(server.port());
    }

    /// Points the address at no server. Existing connections break, and new ones end at once.
    pub fn disconnect(&mut self) {
        self.redirect(Some(UNUSED_PORT));
    }

    /// The URL to dial, without a password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn redirect(&self, upstream: Option<u16>) {
        let mut shared = lock(&self.shared);
        shared.upstream = upstream;
        for stream in shared.streams.drain(..) {
            // Fails only for a connection that has ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for MovableAddress {
    fn drop(&mut self) {
        self.redirect(None);
        // Wakes the accepting thread, which then ends. If the dial fails, it has already ended.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn accept(listener: &TcpListener, shared: &Mutex<Shared>) {
    for client in listener.incoming() {
        let mut shared = lock(shared);
        let Some(upstream) = shared.upstream else { return };
        // If anything fails here, the client sees a connection that ends, as with a dead server.
        let Ok(client) = client else { continue };
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, upstream));
        let Ok(server) = TcpStream::connect(upstream) else { continue };
        if let Ok(ends) = forward(&client, &server) {
            shared.streams.extend(ends);
        }
    }
}

/// Forwards bytes both ways until one end closes. Returns both ends, so that they can be closed.
fn forward(client: &TcpStream, server: &TcpStream) -> io::Result<[TcpStream; 2]> {
    for stream in [client, server] {
        stream.set_nodelay(true)?;
    }
    for (from, to) in [(client, server), (server, client)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::Builder::new().name("movable-address".to_owned()).spawn(move || {
            // Both ends are shut down, also after an error.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        })?;
    }
    Ok([client.try_clone()?, server.try_clone()?])
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // No code panics while it holds this mutex.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No server listens at this port.
const UNUSED_PORT: u16 = 1;
