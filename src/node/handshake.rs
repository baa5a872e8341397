//! The handshake with a server: login, name, database, `INFO` and scripts, all in one write.

use std::future::poll_fn;
use std::io;

use redis::{Cmd, Value, cmd};

use super::address::Address;
use super::connection::Connection;
use super::credentials::Credentials;
use super::decode::decode_marker;
use super::dial_error::DialError;
use super::dial_settings::DialSettings;
use super::error_reply::ErrorReply;
use super::reply::Reply;
use super::script;
use super::server_info::ServerInfo;
use crate::host::clock;
use crate::view::{DialStep, ServerVersion};
use quorlock_proto::request::OwnerToken;
use quorlock_proto::vote::ExclusionReason;

/// A step of the handshake. It determines what an error reply means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Login,
    /// `CLIENT SETNAME`, for operators; nothing depends on it.
    SetName,
    /// `HELLO 3`: RESP3, in which a server can push messages.
    UpgradeProtocol,
    Database,
    Info,
    LoadScript,
    /// Whether this user may run scripts. A node that grants locks but rejects their release must not vote.
    ProbeEval,
    /// Whether this user may run scripts by hash. Ignored where scripts are sent as source.
    ProbeEvalSha,
    /// The node's marker.
    ReadMarker,
    /// `TIME`, which scripts run too. A proxy that understands Redis may reject it, because it has no key.
    ProbeProxy,
}

/// Why no more replies can be read.
enum ReplyError {
    Broken(io::Error),
    /// The bytes are no reply.
    Garbage,
}

/// Runs the handshake. Returns what the server reported, or why it cannot be used. Records which `server` it is.
pub(super) async fn handshake(
    connection: &mut Connection,
    address: &Address,
    credentials: &Credentials,
    settings: &DialSettings,
    process_id: OwnerToken,
    server: &mut Option<ServerVersion>,
) -> Result<ServerInfo, DialError> {
    let steps = steps(address, credentials, settings);
    for (_, command) in &steps {
        connection.queue(&command.get_packed_command());
    }
    let sent = clock::now();
    let may_want_tls = address.is_plain_tcp();
    let written = poll_fn(|cx| connection.poll_flush(cx)).await;
    written.map_err(|error| ReplyError::Broken(error).into_dial_error(may_want_tls))?;
    let (mut info, mut marker, mut fences_of_node) = (None, None, None);
    // A Redis Cluster member rejects SELECT, a Sentinel rejects scripts. INFO explains why, so defer other
    // errors until after INFO.
    let mut deferred_error = None;
    let mut is_upgraded = address.uses_resp3;
    let mut rejects_time = false;
    for (index, (step, _)) in steps.iter().enumerate() {
        // After its first reply, TLS is not the problem.
        let may_want_tls = may_want_tls && index == 0;
        let reply = next_reply(connection).await.map_err(|failure| failure.into_dial_error(may_want_tls))?;
        match (step, reply) {
            // Some servers send an error before any request, so it may come in the place of any reply.
            (_, Reply::Error(error)) if is_transient(&error) => {
                return Err(DialError::NotReady(error.text()));
            }
            (_, Reply::Error(error)) if error.has_code("DENIED") => {
                let reason =
                    "it is in protected mode: set a password there, or have it listen on its address";
                return Err(DialError::Excluded(ExclusionReason::AuthFailed(reason.into())));
            }
            (Step::UpgradeProtocol, reply) => is_upgraded = !matches!(reply, Reply::Error(_)),
            (Step::SetName, _) => {}
            (Step::ProbeProxy, reply) => {
                rejects_time = matches!(reply, Reply::Error(error) if error.is_no_such_command());
            }
            (Step::LoadScript, Reply::Error(error))
                if error.is_permission_denied() || error.is_no_such_command() =>
            {
                connection.set_eval_only();
            }
            (Step::ProbeEvalSha, Reply::Error(_)) if connection.eval_only() => {}
            // Only the key was denied, so scripts are allowed. Plain locks do not use this key.
            (Step::ProbeEval | Step::ProbeEvalSha, Reply::Error(error)) if error.is_key_denied() => {}
            (step, Reply::Error(error)) => {
                let dial_error = dial_error(*step, &error);
                if matches!(step, Step::Login | Step::SetName | Step::UpgradeProtocol | Step::Info) {
                    return Err(dial_error);
                }
                // A permanent error takes precedence over a transient one.
                if matches!(
                    (&deferred_error, &dial_error),
                    (None, _) | (Some(DialError::NotReady(_)), DialError::Excluded(_))
                ) {
                    deferred_error = Some(dial_error);
                }
            }
            (Step::Info, reply) => {
                let text = bulk_text(&reply).ok_or_else(|| not_redis(false))?;
                let parsed = ServerInfo::parse(&text, sent, clock::now());
                *server = Some(parsed.server());
                info = Some(parsed);
            }
            (Step::ReadMarker, reply) => {
                let decoded = decode_marker(&reply);
                marker = Some((decoded.reading.map_err(|_| not_redis(false))?, clock::now()));
                fences_of_node = decoded.fences;
            }
            (Step::Login | Step::Database | Step::LoadScript | Step::ProbeEval | Step::ProbeEvalSha, _) => {}
        }
    }
    let mut info = info.ok_or_else(|| not_redis(false))?;
    info.fences = fences_of_node;
    if let Some((reading, received)) = marker {
        info.set_marker(reading, received);
    }
    match info.exclusion() {
        Some(exclusion) => return Err(DialError::Excluded(exclusion)),
        None if info.is_loading() => return Err(DialError::NotReady("it is still loading its data".into())),
        None => {}
    }
    if let Some(dial_error) = deferred_error {
        return Err(dial_error);
    }
    // Its scripts have run TIME and INFO.
    if let Some(reading) = &info.marker
        && (rejects_time || !info.is_of(&reading.incarnation))
    {
        return Err(DialError::Excluded(ExclusionReason::Unsupported(IS_PROXY.into())));
    }
    if is_upgraded {
        probe_wait_queue(connection, &mut info, process_id)
            .await
            .map_err(|failure| failure.into_dial_error(false))??;
    } else {
        info.wait_queue_unsupported = Some("it does not speak the protocol's third version".to_owned());
    }
    connection.end_handshake();
    Ok(info)
}

/// The dial error for an error reply to this step.
fn dial_error(step: Step, error: &ErrorReply) -> DialError {
    let text = error.text();
    if let Some(reason) = error.unsupported_reason() {
        DialError::Excluded(ExclusionReason::Unsupported(reason))
    } else if error.is_auth_failure() || step == Step::Login {
        DialError::Excluded(ExclusionReason::AuthFailed(text))
    } else if error.is_permission_denied() {
        let permission = match step {
            Step::Info => NEEDS_INFO,
            Step::ProbeEval | Step::ProbeEvalSha => "grant the user +eval and +evalsha",
            Step::ReadMarker => NEEDS_READ_MARKER,
            _ => "grant the user +select",
        };
        DialError::Excluded(ExclusionReason::PermissionDenied(format!("{text} ({permission})").into()))
    } else if step == Step::Database {
        DialError::Excluded(ExclusionReason::Unsupported(text))
    } else {
        DialError::NotReady(text)
    }
}

/// Checks whether the node can keep wait queues for this client, and records why not. A client that cannot be
/// notified polls instead. This is the first write to the node.
async fn probe_wait_queue(
    connection: &mut Connection,
    info: &mut ServerInfo,
    process_id: OwnerToken,
) -> Result<Result<(), DialError>, ReplyError> {
    for text in script::QUEUE_SOURCES {
        connection.queue(&cmd("SCRIPT").arg("LOAD").arg(*text).get_packed_command());
    }
    let probes = script::wait_queue_probe(process_id);
    // A subscription is confirmed by a push, which is no reply. An error is a reply.
    let certain_replies = probes.len() - 1;
    for command in probes.iter().chain(&[script::probe_cleanup()]) {
        connection.queue(&command.get_packed_command());
    }
    poll_fn(|cx| connection.poll_flush(cx)).await.map_err(ReplyError::Broken)?;
    for _ in script::QUEUE_SOURCES {
        // Ignore errors: a user that may not load scripts sends their source.
        next_reply(connection).await?;
    }
    for index in 0.. {
        match next_reply(connection).await? {
            Reply::Error(error) if is_transient(&error) => {
                return Ok(Err(DialError::NotReady(error.text())));
            }
            // The cleanup, which a user without this library's keys may not run, also ends the probe.
            Reply::Error(error) if index >= certain_replies && error.is_key_denied() => break,
            Reply::Error(error) => {
                let text = error.text();
                if error.is_write_rejected() {
                    // The server may accept writes again soon, and this connection may last for months.
                    info.write_error.get_or_insert(text);
                    continue;
                }
                let is_denied = error.is_permission_denied();
                info.wait_queue_unsupported.get_or_insert_with(|| {
                    if is_denied { format!("{text} ({NEEDS_QUEUE})") } else { text.to_string() }
                });
            }
            reply if bulk_text(&reply).as_deref() == Some("end") => break,
            _ => {}
        }
    }
    if info.wait_queue_unsupported.is_none() {
        connection.set_supports_wait_queue();
    }
    Ok(Ok(()))
}

/// The command that logs in; `None` if there is no user and no password.
pub(super) fn login_command(credentials: &Credentials) -> Option<Cmd> {
    let (user, password) = credentials.login()?;
    let mut auth = cmd("AUTH");
    if let Some(user) = user {
        auth.arg(user);
    }
    auth.arg(password);
    Some(auth)
}

fn steps(address: &Address, credentials: &Credentials, settings: &DialSettings) -> Vec<(Step, Cmd)> {
    let mut steps = Vec::new();
    if address.uses_resp3 {
        let mut hello = cmd("HELLO");
        hello.arg(3);
        if let Some((user, password)) = credentials.login() {
            hello.arg("AUTH").arg(user.unwrap_or("default")).arg(password);
        }
        steps.push((Step::Login, hello));
    } else if let Some(auth) = login_command(credentials) {
        steps.push((Step::Login, auth));
    }
    if !address.uses_resp3 {
        let mut upgrade = cmd("HELLO");
        upgrade.arg(3);
        steps.push((Step::UpgradeProtocol, upgrade));
    }
    let mut set_name = cmd("CLIENT");
    set_name.arg("SETNAME").arg(&settings.client_name);
    steps.push((Step::SetName, set_name));
    if address.database != 0 {
        let mut select = cmd("SELECT");
        select.arg(address.database);
        steps.push((Step::Database, select));
    }
    // All sections at once: Redis 6.2 does not accept two.
    steps.push((Step::Info, cmd("INFO")));
    for text in script::sources(settings.is_fenced) {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(*text);
        steps.push((Step::LoadScript, load));
    }
    let [run, by_hash] = script::permission_probes();
    steps.push((Step::ProbeEval, run));
    steps.push((Step::ProbeEvalSha, by_hash));
    if settings.is_fenced {
        steps.push((Step::ReadMarker, script::first_read_marker()));
        steps.push((Step::ProbeProxy, cmd("TIME")));
    }
    steps
}

async fn next_reply(connection: &mut Connection) -> Result<Reply, ReplyError> {
    loop {
        if let Some(reply) = connection.next_reply().map_err(|_| ReplyError::Garbage)? {
            return Ok(reply);
        }
        poll_fn(|cx| connection.poll_read(cx)).await.map_err(ReplyError::Broken)?;
    }
}

impl ReplyError {
    /// The dial error for a failure before the connection is ready. The server `may_want_tls` until its first
    /// reply.
    fn into_dial_error(self, may_want_tls: bool) -> DialError {
        let error = match self {
            Self::Garbage => return not_redis(may_want_tls),
            Self::Broken(error) => error,
        };
        // With TLS 1.3 a server rejects the client certificate only after the TLS handshake.
        #[cfg(feature = "tls-rustls")]
        if let Some(exclusion) = super::tls::exclusion(&error) {
            return DialError::Excluded(exclusion);
        }
        let hint =
            if may_want_tls { format!(" before its first reply: {MAYBE_WANTS_TLS}") } else { String::new() };
        DialError::NoReply(DialStep::Login, format!("{error}{hint}").into())
    }
}

fn bulk_text(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Other(Value::BulkString(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Reply::Other(Value::VerbatimString { text, .. }) => Some(text.clone()),
        _ => None,
    }
}

const NEEDS_INFO: &str = "grant the user +info: without it no client can tell that a server was restarted, demoted or \
                          replaced, and so may have forgotten locks";
const NEEDS_READ_MARKER: &str = "grant the user +eval, +evalsha, +info, +time, +get and +set, and the keys `quorlock:*`; or \
                          do without fencing and probation (`Mode::Plain`, `--mode plain`)";
const NEEDS_QUEUE: &str = "grant the user +subscribe, +publish, +zadd, +zrange, +zrem, +zscore, +pexpire, +pttl, \
                           +time, and the keys and the channels `quorlock:waiters:*`";

/// Its connections may outlive a server that is restarted, so no vote would notice a restart.
pub(crate) const IS_PROXY: &str = "a proxy that understands Redis replies in the place of the server, and hides that the server was \
                        restarted: name the server's own address, or a TCP proxy for this one server; or use plain \
                        mode (`Mode::Plain`, `--mode plain`), which has neither fencing nor probation";

fn not_redis(may_want_tls: bool) -> DialError {
    let hint = if may_want_tls { format!(": {MAYBE_WANTS_TLS}") } else { String::new() };
    DialError::Excluded(ExclusionReason::Unsupported(
        format!("it does not speak the Redis protocol{hint}").into(),
    ))
}

const MAYBE_WANTS_TLS: &str = "does it want TLS? use rediss://";

/// Whether the error may pass soon, in any step.
fn is_transient(error: &ErrorReply) -> bool {
    ["LOADING", "MASTERDOWN", "BUSY"].iter().any(|code| error.has_code(code)) || error.is_too_many_clients()
}
