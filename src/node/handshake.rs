//! The first words with a server: login, name, database, `INFO`, scripts, all in one write.

use std::future::poll_fn;
use std::io;

use redis::{Cmd, Value, cmd};

use super::address::Address;
use super::connection::Connection;
use super::decode::{fences, marker_reading};
use super::dial::{DialError, DialStep, DialSettings};
use super::error_reply::ErrorReply;
use super::reply::Reply;
use super::script;
use super::server_info::ServerInfo;
use crate::host::clock;
use quorlock_proto::request::OwnerToken;
use quorlock_proto::vote::ExclusionReason;

/// What a step of the handshake is for, and so what its failure means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Login,
    /// For people who look at the server; nothing depends on it.
    SetName,
    /// The protocol's third version, in which a server may speak without being asked.
    UpgradeProtocol,
    Database,
    Info,
    LoadScript,
    /// Whether we may run scripts at all: a node that grants locks and refuses their release must not vote.
    ProbeEval,
    /// The same by their hash; no matter, where they are sent in full.
    ProbeEvalSha,
    /// What the node remembers of its cluster.
    ReadMarker,
}

/// Why no reply can be had any more.
enum ReplyError {
    Broken(io::Error),
    /// Bytes that are no reply.
    Garbage,
}

/// Introduces us, and learns whom we speak to.
pub(super) async fn handshake(
    connection: &mut Connection,
    address: &Address,
    settings: &DialSettings,
    waiter: OwnerToken,
) -> Result<ServerInfo, DialError> {
    let steps = steps(address, settings);
    for (_, command) in &steps {
        connection.queue(&command.get_packed_command());
    }
    let sent = clock::now();
    let may_want_tls = address.is_plain_tcp();
    let written = poll_fn(|cx| connection.poll_flush(cx)).await;
    written.map_err(|error| ReplyError::Broken(error).into_dial_error(may_want_tls))?;
    let (mut profile, mut first_look, mut first_fences) = (None, None, None);
    // A cluster member refuses SELECT, a Sentinel our scripts. INFO says what they are, so it is heard first.
    let mut later = None;
    let mut is_upgraded = address.uses_resp3;
    for (place, (step, _)) in steps.iter().enumerate() {
        // Once it has answered, it speaks what we speak.
        let may_want_tls = may_want_tls && place == 0;
        let reply = next_reply(connection).await.map_err(|failure| failure.into_dial_error(may_want_tls))?;
        match (step, reply) {
            // Some servers speak before they are asked, so this may stand where any answer is due.
            (_, Reply::Error(complaint)) if is_transient(&complaint) => {
                return Err(DialError::Failed(complaint.text()));
            }
            (_, Reply::Error(complaint)) if complaint.has_code("DENIED") => {
                let words = "it is in protected mode: set a password there, or have it listen on its address";
                return Err(DialError::Excluded(ExclusionReason::AuthFailed(words.into())));
            }
            (Step::UpgradeProtocol, reply) => is_upgraded = !matches!(reply, Reply::Error(_)),
            (Step::SetName, _) => {}
            (Step::LoadScript, Reply::Error(complaint))
                if complaint.is_permission_denied() || complaint.is_no_such_command() =>
            {
                connection.set_eval_only();
            }
            (Step::ProbeEvalSha, Reply::Error(_)) if connection.eval_only() => {}
            // Plain locks have no key of ours. It was the key alone that was denied, so the script would have run.
            (Step::ProbeEval | Step::ProbeEvalSha, Reply::Error(complaint)) if complaint.is_key_denied() => {}
            (step, Reply::Error(complaint)) => {
                let refusal = dial_error(*step, &complaint);
                if matches!(step, Step::Login | Step::SetName | Step::UpgradeProtocol | Step::Info) {
                    return Err(refusal);
                }
                // What may pass says nothing, where something else does not.
                if matches!(
                    (&later, &refusal),
                    (None, _) | (Some(DialError::Failed(_)), DialError::Excluded(_))
                ) {
                    later = Some(refusal);
                }
            }
            (Step::Info, reply) => {
                let text = text_of(&reply).ok_or_else(|| not_redis(false))?;
                profile = Some(ServerInfo::parse(&text, sent, clock::now()));
            }
            (Step::ReadMarker, reply) => {
                first_look = Some(marker_reading(&reply).map_err(|_| not_redis(false))?);
                first_fences = fences(&reply);
            }
            (Step::Login | Step::Database | Step::LoadScript | Step::ProbeEval | Step::ProbeEvalSha, _) => {}
        }
    }
    let mut profile = profile.ok_or_else(|| not_redis(false))?;
    (profile.marker, profile.fences) = (first_look, first_fences);
    match profile.exclusion() {
        Some(exclusion) => return Err(DialError::Excluded(exclusion)),
        None if profile.is_loading() => return Err(DialError::Failed("it is still loading its data".into())),
        None => {}
    }
    if let Some(refusal) = later {
        return Err(refusal);
    }
    if is_upgraded {
        probe_wait_queue(connection, &mut profile, waiter)
            .await
            .map_err(|failure| failure.into_dial_error(false))??;
    } else {
        profile.wait_queue_unsupported = Some("it does not speak the protocol's third version".to_owned());
    }
    Ok(profile)
}

/// What an error reply to this step means.
fn dial_error(step: Step, complaint: &ErrorReply) -> DialError {
    let words = complaint.text();
    if let Some(why) = complaint.unsupported_reason() {
        DialError::Excluded(ExclusionReason::Unsupported(why))
    } else if complaint.is_auth_failure() || step == Step::Login {
        DialError::Excluded(ExclusionReason::AuthFailed(words))
    } else if complaint.is_permission_denied() {
        let right = match step {
            Step::Info => NEEDS_INFO,
            Step::ProbeEval | Step::ProbeEvalSha => "grant the user +eval and +evalsha",
            Step::ReadMarker => NEEDS_READ_MARKER,
            _ => "grant the user +select",
        };
        DialError::Excluded(ExclusionReason::PermissionDenied(format!("{words} ({right})").into()))
    } else if step == Step::Database {
        DialError::Excluded(ExclusionReason::Unsupported(words))
    } else {
        DialError::Failed(words)
    }
}

/// Finds out whether the node can keep lines for us; if not, why. A client that may not be notified polls, as
/// anybody does who waits for a lock of others. It is the first time that the node is asked to write.
async fn probe_wait_queue(
    connection: &mut Connection,
    profile: &mut ServerInfo,
    waiter: OwnerToken,
) -> Result<Result<(), DialError>, ReplyError> {
    for text in script::QUEUE_SOURCES {
        connection.queue(&cmd("SCRIPT").arg("LOAD").arg(*text).get_packed_command());
    }
    let trial = script::wait_queue_probe(waiter);
    // A subscription is confirmed by a push, which is no reply, and refused by an error, which is one.
    let certain = trial.len() - 1;
    for command in trial.iter().chain(&[script::probe_cleanup()]) {
        connection.queue(&command.get_packed_command());
    }
    poll_fn(|cx| connection.poll_flush(cx)).await.map_err(ReplyError::Broken)?;
    for _ in script::QUEUE_SOURCES {
        // A user that may not load scripts sends their source.
        next_reply(connection).await?;
    }
    for place in 0.. {
        match next_reply(connection).await? {
            Reply::Error(complaint) if is_transient(&complaint) => {
                return Ok(Err(DialError::Failed(complaint.text())));
            }
            // The end, which a user without our own keys may not run, but is known to.
            Reply::Error(complaint) if place >= certain && complaint.is_key_denied() => break,
            Reply::Error(complaint) => {
                let words = complaint.text();
                if complaint.is_write_rejected() {
                    // It may take them again soon, and this connection may last for months.
                    profile.write_error.get_or_insert(words);
                    continue;
                }
                let lacks_rights = complaint.is_permission_denied();
                profile.wait_queue_unsupported.get_or_insert_with(|| {
                    if lacks_rights { format!("{words} ({NEEDS_QUEUE})") } else { words.to_string() }
                });
            }
            reply if text_of(&reply).as_deref() == Some("end") => break,
            _ => {}
        }
    }
    if profile.wait_queue_unsupported.is_none() {
        connection.set_supports_wait_queue();
    }
    Ok(Ok(()))
}

fn steps(address: &Address, settings: &DialSettings) -> Vec<(Step, Cmd)> {
    let mut steps = Vec::new();
    let login = &address.credentials;
    // A user without a password still is who we are: a `nopass` user takes any, all others are told.
    let who = match (login.user.as_deref(), login.password.as_deref()) {
        (None, None) => None,
        (user, password) => Some((user, password.unwrap_or_default())),
    };
    if address.uses_resp3 {
        let mut hello = cmd("HELLO");
        hello.arg(3);
        if let Some((user, password)) = &who {
            hello.arg("AUTH").arg(user.unwrap_or("default")).arg(*password);
        }
        steps.push((Step::Login, hello));
    } else if let Some((user, password)) = &who {
        let mut auth = cmd("AUTH");
        if let Some(user) = user {
            auth.arg(*user);
        }
        auth.arg(*password);
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
    // All sections at once: 6.2 cannot be asked for two of them.
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
    /// What it means before the connection is ready. It `may_want_tls` as long as it has not answered.
    fn into_dial_error(self, may_want_tls: bool) -> DialError {
        let error = match self {
            Self::Garbage => return not_redis(may_want_tls),
            Self::Broken(error) => error,
        };
        // With TLS 1.3 a server refuses our certificate only after it has accepted the connection.
        #[cfg(feature = "tls-rustls")]
        if let Some(exclusion) = super::tls::exclusion(&error) {
            return DialError::Excluded(exclusion);
        }
        let hint =
            if may_want_tls { format!(" before its first answer: {MAYBE_WANTS_TLS}") } else { String::new() };
        DialError::Unreachable(DialStep::Login, format!("{error}{hint}").into())
    }
}

fn text_of(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Other(Value::BulkString(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Reply::Other(Value::VerbatimString { text, .. }) => Some(text.clone()),
        _ => None,
    }
}

const NEEDS_INFO: &str = "grant the user +info: without it no client can tell that a server was restarted, demoted or \
                          replaced, and so may have forgotten locks";
const NEEDS_READ_MARKER: &str = "grant the user +eval, +evalsha, +info, +time, +get and +set, and the keys `quorlock:*`; or \
                          do without fencing and probation (option `plain`)";
const NEEDS_QUEUE: &str = "grant the user +subscribe, +publish, +zadd, +zrange, +zrem, +zscore, +pexpire, +pttl, \
                           +time, and the keys and the channels `quorlock:waiters:*`";

fn not_redis(may_want_tls: bool) -> DialError {
    let hint = if may_want_tls { format!(": {MAYBE_WANTS_TLS}") } else { String::new() };
    DialError::Excluded(ExclusionReason::Unsupported(
        format!("it does not speak the Redis protocol{hint}").into(),
    ))
}

const MAYBE_WANTS_TLS: &str = "does it want TLS? use rediss://";

/// Whether it may be different soon, whatever step it answers.
fn is_transient(complaint: &ErrorReply) -> bool {
    ["LOADING", "MASTERDOWN", "BUSY"].iter().any(|code| complaint.has_code(code)) || complaint.is_too_many_clients()
}
