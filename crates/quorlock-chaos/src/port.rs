//! Reserves a free loopback port for a server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A port that was free. On Linux it is reserved for its server, also while that server is dead.
///
/// The system may give an ephemeral port without a listener to another process. A client that dials a dead
/// server may even get it as its *own* end and talk to itself. On Linux, a socket that is bound but never
/// listens prevents both. Servers set `SO_REUSEADDR`, so they can still listen there, and dialing a dead one
/// is refused as usual. Other systems let only one of the two bind. There the port can be lost, and the start
/// is retried.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _socket: Option<Socket>,
}

impl Port {
    pub(crate) fn free() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // The option is set only after the bind, so that the system picks no port in use elsewhere.
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.set_reuse_address(true)?;
        let address = socket.local_addr()?.as_socket_ipv4();
        let number = address.ok_or_else(|| io::Error::other("not an IPv4 address"))?.port();
        Ok(Self { number, _socket: cfg!(target_os = "linux").then_some(socket) })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
