//! Reserves a loopback port for a server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A port that was free. On Linux it is reserved for its server, also while that server is dead.
///
/// An ephemeral port without a listener is at risk: another process may be given it. A client that keeps dialing a dead
/// server may even be given it as its *own* end and talk to itself. On Linux a socket that is bound, but never listens,
/// rules both out and still lets a server that sets `SO_REUSEADDR` (they all do) listen there. Dialing it is refused,
/// just as if nothing were there. Other systems let only one of the two bind, so there the port can be lost, and the
/// start is tried again.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _held: Option<Socket>,
}

impl Port {
    pub(crate) fn free() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Bound to port 0 before the option is set: so the system picks no port that others share.
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.set_reuse_address(true)?;
        let address = socket.local_addr()?.as_socket_ipv4();
        let number = address.ok_or_else(|| io::Error::other("not an IPv4 address"))?.port();
        Ok(Self { number, _held: cfg!(target_os = "linux").then_some(socket) })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
