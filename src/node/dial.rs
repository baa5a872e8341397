//! Dials a node: name lookup, connection, TLS and handshake, all within one dial timeout.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use super::address::{Address, Endpoint};
use super::connection::Connection;
use super::credentials::{Credentials, CredentialsRequest, text_of};
use super::dial_error::{DialError, DialFailure, MAYBE_NOT_TLS, MAYBE_SLOW_PROVIDER};
use super::dial_settings::DialSettings;
use super::error_reply::sanitize;
use super::handshake::handshake;
use super::server_info::ServerInfo;
use super::stream::{Stream, configure_socket};
use crate::view::{DialStep, ServerVersion};
use quorlock_proto::request::OwnerToken;
use quorlock_proto::vote::ExclusionReason;

/// A node that is ready for requests.
pub(crate) struct DialedNode {
    pub(crate) connection: Connection,
    pub(crate) server_info: ServerInfo,
    /// How long the credentials are valid, if their provider set a limit.
    pub(crate) valid_for: Option<Duration>,
}

/// The deadline of a dial, and the dial timeout for messages.
#[derive(Clone, Copy)]
struct DialDeadline {
    at: Instant,
    span: Duration,
}

/// Connects to the node and runs the handshake. `process_id` is this process's name in wait queues.
///
/// If the server rejects credentials of the provider, they may have changed just now: so the provider is asked once
/// more, and the node is dialed again at once.
pub(crate) async fn dial(
    address: &Address,
    settings: &DialSettings,
    process_id: OwnerToken,
) -> Result<DialedNode, DialFailure> {
    let mut server = None;
    let dialed = connect_and_login(address, settings, process_id, &mut server).await;
    dialed.map_err(|error| DialFailure { error, server })
}

/// Connects and runs the handshake. Records which `server` replied, because a failure may follow.
async fn connect_and_login(
    address: &Address,
    settings: &DialSettings,
    process_id: OwnerToken,
    server: &mut Option<ServerVersion>,
) -> Result<DialedNode, DialError> {
    let deadline = DialDeadline::after(settings.dial_timeout);
    let stream = connect(address, settings, deadline).await?;
    // Not before the connection is open, because a server that is down is dialed often.
    let credentials = credentials(address, settings, deadline, false).await?;
    let error = match log_in(stream, address, &credentials, settings, process_id, deadline, server).await {
        Err(error @ DialError::Excluded(ExclusionReason::AuthFailed(_))) => error,
        outcome => return outcome,
    };
    if settings.provider_for(address).is_none() {
        return Err(error);
    }
    let fresh = self::credentials(address, settings, deadline, true).await?;
    if fresh.is_same_login(&credentials) {
        // Servers count failed logins.
        return Err(error);
    }
    let stream = connect(address, settings, deadline).await?;
    log_in(stream, address, &fresh, settings, process_id, deadline, server).await
}

/// The credentials for a new login on a living connection, or why there are none.
pub(crate) async fn renewed_credentials(
    address: &Address,
    settings: &DialSettings,
    is_retry: bool,
) -> Result<Credentials, Arc<str>> {
    let deadline = DialDeadline::after(settings.dial_timeout);
    credentials(address, settings, deadline, is_retry).await.map_err(|error| match error {
        DialError::NotReady(reason) | DialError::NoReply(_, reason) => reason,
        DialError::Excluded(exclusion) => exclusion.to_string().into(),
    })
}

/// The credentials of this node: those that the provider returns now, or those of the configuration.
async fn credentials(
    address: &Address,
    settings: &DialSettings,
    deadline: DialDeadline,
    is_retry: bool,
) -> Result<Credentials, DialError> {
    let Some(provider) = settings.provider_for(address) else { return Ok(address.credentials.clone()) };
    let step = DialStep::Credentials;
    let ask = async {
        provider.ask(CredentialsRequest { node: address.to_string().into(), is_retry }).await.map_err(
            |error| DialError::NoReply(step, format!("{step}: {}", sanitize(&text_of(&error))).into()),
        )
    };
    let mut credentials = with_deadline(step, deadline, ask).await?;
    credentials.user = credentials.user.or_else(|| address.credentials.user.clone());
    Ok(credentials)
}

/// Runs the handshake on a new connection.
async fn log_in(
    stream: Stream,
    address: &Address,
    credentials: &Credentials,
    settings: &DialSettings,
    process_id: OwnerToken,
    deadline: DialDeadline,
    server: &mut Option<ServerVersion>,
) -> Result<DialedNode, DialError> {
    let mut connection = Connection::new(stream, credentials.secret());
    let login = handshake(&mut connection, address, credentials, settings, process_id, server);
    match with_deadline(DialStep::Login, deadline, login).await {
        Ok(server_info) => Ok(DialedNode { connection, server_info, valid_for: credentials.valid_for }),
        Err(DialError::Excluded(ExclusionReason::Unsupported(_))) if connection.has_read_http() => {
            Err(DialError::Excluded(ExclusionReason::Unsupported(
                "it speaks HTTP, not Redis: is the port right?".into(),
            )))
        }
        Err(error) => Err(error),
    }
}

impl DialDeadline {
    fn after(span: Duration) -> Self {
        Self { at: Instant::now() + span, span }
    }
}

/// Runs one step. At the deadline, the error names the step.
async fn with_deadline<T>(
    step: DialStep,
    deadline: DialDeadline,
    work: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    timeout_at(deadline.at, work).await.unwrap_or_else(|_| {
        let hint = match step {
            DialStep::Tls => MAYBE_NOT_TLS,
            DialStep::Credentials => MAYBE_SLOW_PROVIDER,
            _ => "",
        };
        Err(DialError::NoReply(step, format!("{step}: no reply within {:?}{hint}", deadline.span).into()))
    })
}

async fn connect(
    address: &Address,
    settings: &DialSettings,
    deadline: DialDeadline,
) -> Result<Stream, DialError> {
    match &address.endpoint {
        Endpoint::Unix(path) => {
            let stream =
                async { UnixStream::connect(path).await.map_err(|error| connect_failed(message_of(&error))) };
            with_deadline(DialStep::Connection, deadline, stream).await.map(Stream::Unix)
        }
        Endpoint::Tcp { host, port, tls } => {
            let addresses = with_deadline(DialStep::Lookup, deadline, resolve(host, *port)).await?;
            let stream =
                with_deadline(DialStep::Connection, deadline, connect_tcp(&addresses, deadline.span)).await?;
            if !*tls {
                return Ok(Stream::Tcp(stream));
            }
            with_deadline(DialStep::Tls, deadline, start_tls(stream, host, settings)).await
        }
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let step = DialStep::Lookup;
    let failed = |text: &str| DialError::NoReply(step, format!("{step}: {text}").into());
    let found: Vec<_> =
        lookup_host((host, port)).await.map_err(|error| failed(&error.to_string()))?.collect();
    if found.is_empty() { Err(failed("the host has no address")) } else { Ok(found) }
}

/// Tries the host's addresses one after another. One URL is one server, even with several addresses.
async fn connect_tcp(addresses: &[SocketAddr], span: Duration) -> Result<TcpStream, DialError> {
    let mut failures: Vec<String> = Vec::new();
    for address in addresses {
        // Each address gets an equal share of the time, so that one that drops all packets does not use it
        // up.
        let share = span / addresses.len() as u32;
        let failure = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => match configure_socket(&stream) {
                Ok(()) => return Ok(stream),
                Err(error) => message_of(&error),
            },
            Ok(Err(error)) => message_of(&error),
            Err(_) => format!("{}: no reply within {share:?}", DialStep::Connection),
        };
        if !failures.contains(&failure) {
            failures.push(failure);
        }
    }
    Err(connect_failed(failures.join(", ")))
}

fn connect_failed(text: String) -> DialError {
    DialError::NoReply(DialStep::Connection, text.into())
}

fn message_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}

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
#[allow(clippy::unused_async, reason = "the same signature as with TLS")]
async fn start_tls(_: TcpStream, _: &str, _: &DialSettings) -> Result<Stream, DialError> {
    // Unreachable: parsing rejects addresses that need TLS.
    Err(DialError::Excluded(ExclusionReason::Unsupported(
        "TLS needs the feature `tls-rustls` of this crate".into(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_timeout_names_the_step() {
        for (step, text) in [
            (DialStep::Lookup, "name lookup: no reply within 10ms"),
            (DialStep::Connection, "connection: no reply within 10ms"),
            (DialStep::Tls, "TLS handshake: no reply within 10ms: does it speak TLS? if not, use redis://"),
            (
                DialStep::Credentials,
                "credentials: no reply within 10ms: is the dial timeout too short for them?",
            ),
            (DialStep::Login, "login: no reply within 10ms"),
        ] {
            let deadline = DialDeadline::after(Duration::from_millis(10));
            let never = std::future::pending::<Result<(), DialError>>();
            assert_eq!(
                with_deadline(step, deadline, never).await,
                Err(DialError::NoReply(step, text.into()))
            );
        }
    }
}
