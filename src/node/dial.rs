//! From an address to a connection that may vote, step by step, within a time-out.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use super::address::{Address, Endpoint};
use super::connection::Connection;
use super::handshake::handshake;
use super::server_info::ServerInfo;
use super::stream::{Stream, configure_socket};
use quorlock_proto::request::OwnerToken;
use quorlock_proto::vote::ExclusionReason;

/// What every dial of a client has in common.
pub(crate) struct DialSettings {
    /// Bounds name look-up, connecting, TLS and handshake together.
    pub(crate) dial_timeout: Duration,
    pub(crate) client_name: String,
    /// Whether nodes are asked what they remember.
    pub(crate) is_fenced: bool,
    #[cfg(feature = "tls-rustls")]
    /// Only where an address needs it: reading the system's authorities takes time.
    pub(crate) tls: Option<super::tls::Tls>,
}

/// A server that is ready for questions.
pub(crate) struct DialedNode {
    pub(crate) connection: Connection,
    pub(crate) server_info: ServerInfo,
}

/// Why a server is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialError {
    /// It must be fixed first.
    Excluded(ExclusionReason),
    /// It may be different soon: it said so itself.
    Failed(Arc<str>),
    /// Nothing of use came back in this step.
    Unreachable(DialStep, Arc<str>),
}

/// A step on the way to a node, each of which can fail in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DialStep {
    /// The host's name is looked up.
    Lookup,
    /// A connection is made.
    Connection,
    /// TLS is agreed on.
    Tls,
    /// The first questions are asked: login, `INFO`, scripts.
    Login,
}

impl fmt::Display for DialStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lookup => "name look-up",
            Self::Connection => "connection",
            Self::Tls => "TLS handshake",
            Self::Login => "login",
        })
    }
}

/// When a dial must be through, and how long it had.
#[derive(Clone, Copy)]
struct DialDeadline {
    at: Instant,
    span: Duration,
}

/// Connects and introduces us, by the name that others call us by.
pub(crate) async fn dial(
    address: &Address,
    settings: &DialSettings,
    waiter: OwnerToken,
) -> Result<DialedNode, DialError> {
    let span = settings.dial_timeout;
    let end = DialDeadline { at: Instant::now() + span, span };
    let mut connection = Connection::new(connect(address, settings, end).await?, address.credentials.secret());
    let hands = handshake(&mut connection, address, settings, waiter);
    match with_deadline(DialStep::Login, end, hands).await {
        Ok(profile) => Ok(DialedNode { connection, server_info: profile }),
        Err(DialError::Excluded(ExclusionReason::Unsupported(_))) if connection.has_read_http() => {
            Err(DialError::Excluded(ExclusionReason::Unsupported(
                "it answers HTTP, not Redis: is the port right?".into(),
            )))
        }
        Err(refusal) => Err(refusal),
    }
}

/// Does this before the end, or says in which step the time was over.
async fn with_deadline<T>(
    step: DialStep,
    end: DialDeadline,
    work: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    timeout_at(end.at, work).await.unwrap_or_else(|_| {
        let hint = if step == DialStep::Tls { MAYBE_NOT_TLS } else { "" };
        Err(DialError::Unreachable(step, format!("{step}: no answer within {:?}{hint}", end.span).into()))
    })
}

async fn connect(address: &Address, settings: &DialSettings, end: DialDeadline) -> Result<Stream, DialError> {
    match &address.endpoint {
        Endpoint::Unix(path) => {
            let stream =
                async { UnixStream::connect(path).await.map_err(|error| connect_failed(message_of(&error))) };
            with_deadline(DialStep::Connection, end, stream).await.map(Stream::Unix)
        }
        Endpoint::Tcp { host, port, tls } => {
            let addresses = with_deadline(DialStep::Lookup, end, resolve(host, *port)).await?;
            let stream = with_deadline(DialStep::Connection, end, connect_tcp(&addresses, end.span)).await?;
            if !*tls {
                return Ok(Stream::Tcp(stream));
            }
            with_deadline(DialStep::Tls, end, start_tls(stream, host, settings)).await
        }
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let step = DialStep::Lookup;
    let failed = |words: &str| DialError::Unreachable(step, format!("{step}: {words}").into());
    let found: Vec<_> =
        lookup_host((host, port)).await.map_err(|error| failed(&error.to_string()))?.collect();
    if found.is_empty() { Err(failed("the host has no address")) } else { Ok(found) }
}

/// Tries the host's addresses one after another: one URL is one server, however many addresses it has.
async fn connect_tcp(addresses: &[SocketAddr], span: Duration) -> Result<TcpStream, DialError> {
    let mut failures: Vec<String> = Vec::new();
    for address in addresses {
        // Each has its share of the time, so that one that swallows everything leaves some to the next.
        let share = span / addresses.len() as u32;
        let failure = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => match configure_socket(&stream) {
                Ok(()) => return Ok(stream),
                Err(error) => message_of(&error),
            },
            Ok(Err(error)) => message_of(&error),
            Err(_) => format!("{}: no answer within {share:?}", DialStep::Connection),
        };
        if !failures.contains(&failure) {
            failures.push(failure);
        }
    }
    Err(connect_failed(failures.join(", ")))
}

fn connect_failed(words: String) -> DialError {
    DialError::Unreachable(DialStep::Connection, words.into())
}

fn message_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}

/// What a failure in the TLS handshake may mean.
pub(super) const MAYBE_NOT_TLS: &str = ": does it speak TLS? if not, use redis://";

#[cfg(feature = "tls-rustls")]
async fn start_tls(stream: TcpStream, host: &str, settings: &DialSettings) -> Result<Stream, DialError> {
    match &settings.tls {
        Some(tls) => tls.connect(stream, host).await.map(|stream| Stream::Tls(Box::new(stream))),
        None => Err(DialError::Excluded(ExclusionReason::Unsupported(
            "TLS was not set up for this client".into(),
        ))),
    }
}

#[cfg(not(feature = "tls-rustls"))]
#[allow(clippy::unused_async, reason = "the twin of a function that waits")]
async fn wrap(_: TcpStream, _: &str, _: &DialSettings) -> Result<Stream, DialError> {
    // Addresses that need TLS are refused when they are read.
    Err(DialError::Excluded(ExclusionReason::Unsupported(
        "TLS needs the feature `tls-rustls` of this crate".into(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_timeout_names_the_step() {
        for (step, words) in [
            (DialStep::Lookup, "name look-up: no answer within 10ms"),
            (DialStep::Connection, "connection: no answer within 10ms"),
            (DialStep::Tls, "TLS handshake: no answer within 10ms: does it speak TLS? if not, use redis://"),
            (DialStep::Login, "login: no answer within 10ms"),
        ] {
            let span = Duration::from_millis(10);
            let end = DialDeadline { at: Instant::now() + span, span };
            let never = std::future::pending::<Result<(), DialError>>();
            assert_eq!(with_deadline(step, end, never).await, Err(DialError::Unreachable(step, words.into())));
        }
    }
}
