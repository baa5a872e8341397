//! From an address to a connection that may vote, within a time-out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::address::{Address, Place};
use super::connection::Connection;
use super::handshake::shake_hands;
use super::profile::Profile;
use super::stream::{Stream, tune};
use crate::protocol::claim::Token;
use crate::protocol::vote::Bar;

/// What every dial of a client has in common.
pub(crate) struct Settings {
    /// Bounds name look-up, connecting, TLS and handshake together.
    pub(crate) connect_timeout: Duration,
    pub(crate) client_name: String,
    /// Whether nodes are asked what they remember.
    pub(crate) is_guarded: bool,
    #[cfg(feature = "tls-rustls")]
    /// Only where an address needs it: reading the system's authorities takes time.
    pub(crate) tls: Option<super::tls::Tls>,
}

/// A server that is ready for questions.
pub(crate) struct Ready {
    pub(crate) connection: Connection,
    pub(crate) profile: Profile,
}

/// Why a server is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Somebody must mend it first.
    Barred(Bar),
    /// It may be different soon.
    Down(Arc<str>),
}

/// Connects and introduces us, by the name that others call us by.
pub(crate) async fn dial(address: &Address, settings: &Settings, waiter: Token) -> Result<Ready, Refusal> {
    let ready = async {
        let mut connection = Connection::new(connect(address, settings).await?);
        let profile = shake_hands(&mut connection, address, settings, waiter).await?;
        Ok(Ready { connection, profile })
    };
    let Ok(outcome) = timeout(settings.connect_timeout, ready).await else {
        return Err(Refusal::Down(format!("no answer within {:?}", settings.connect_timeout).into()));
    };
    outcome
}

async fn connect(address: &Address, settings: &Settings) -> Result<Stream, Refusal> {
    match &address.place {
        Place::Unix(path) => {
            let stream = UnixStream::connect(path).await;
            stream.map(Stream::Unix).map_err(|error| down(&error))
        }
        Place::Tcp { host, port, tls } => {
            let stream = connect_tcp(host, *port, settings).await.map_err(|error| down(&error))?;
            if *tls { wrap(stream, host, settings).await } else { Ok(Stream::Tcp(stream)) }
        }
    }
}

/// Tries the host's addresses one after another: one URL is one server, however many addresses it has.
async fn connect_tcp(host: &str, port: u16, settings: &Settings) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    for address in &addresses {
        // Each has its share of the time, so that one that swallows everything leaves some to the next.
        let share = settings.connect_timeout / addresses.len() as u32;
        let timed_out = io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection");
        match timeout(share, TcpStream::connect(address)).await.unwrap_or(Err(timed_out)) {
            Ok(stream) => {
                tune(&stream)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(feature = "tls-rustls")]
async fn wrap(stream: TcpStream, host: &str, settings: &Settings) -> Result<Stream, Refusal> {
    match &settings.tls {
        Some(tls) => tls.wrap(stream, host).await.map(|stream| Stream::Tls(Box::new(stream))),
        None => Err(Refusal::Barred(Bar::Unfit("TLS was not set up for this client".into()))),
    }
}

#[cfg(not(feature = "tls-rustls"))]
#[allow(clippy::unused_async, reason = "the twin of a function that waits")]
async fn wrap(_: TcpStream, _: &str, _: &Settings) -> Result<Stream, Refusal> {
    // Addresses that need TLS are refused when they are read.
    Err(Refusal::Barred(Bar::Unfit("TLS needs the feature `tls-rustls` of this crate".into())))
}

/// What a broken connection means before it is ready.
pub(super) fn down(error: &io::Error) -> Refusal {
    // With TLS 1.3 a server refuses our certificate only after it has accepted the connection.
    #[cfg(feature = "tls-rustls")]
    if let Some(bar) = super::tls::bar(error) {
        return Refusal::Barred(bar);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Refusal::Down("connection refused".into()),
        _ => Refusal::Down(error.to_string().into()),
    }
}
