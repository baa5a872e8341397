//! The first words with a server: login, name, database, `INFO`, scripts, all in one write.

use std::future::poll_fn;
use std::io;

use redis::{Cmd, Value, cmd};

use super::address::Address;
use super::connection::Connection;
use super::dial::Refusal;
use super::profile::Profile;
use super::reply::Reply;
use super::script;
use crate::host::clock;
use crate::protocol::vote::Bar;

/// What a step of the handshake is for, and so what its failure means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Login,
    /// For people who look at the server; nothing depends on it.
    Courtesy,
    Database,
    Info,
    Script,
}

/// Introduces us, and learns whom we speak to.
pub(super) async fn shake_hands(
    connection: &mut Connection,
    address: &Address,
    client_name: &str,
) -> Result<Profile, Refusal> {
    let steps = steps(address, client_name);
    for (_, command) in &steps {
        connection.queue(&command.get_packed_command());
    }
    let sent = clock::now();
    poll_fn(|cx| connection.poll_flush(cx)).await.map_err(|error| down(&error))?;
    let mut profile = None;
    for (step, _) in &steps {
        match (step, next_reply(connection).await?) {
            (Step::Courtesy, _) => {}
            (Step::Script, Reply::Error(complaint)) if complaint.is_no_permission() => {
                connection.set_sends_text();
            }
            (step, Reply::Error(complaint)) => {
                let words = complaint.words();
                return Err(if complaint.is_login() || *step == Step::Login {
                    Refusal::Barred(Bar::Login(words))
                } else if complaint.is_no_permission() {
                    let right = if *step == Step::Info { "+info" } else { "+select" };
                    Refusal::Barred(Bar::NoPermission(format!("{words} (grant the user {right})").into()))
                } else if *step == Step::Database {
                    Refusal::Barred(Bar::Unfit(words))
                } else {
                    Refusal::Down(words)
                });
            }
            (Step::Info, reply) => {
                let text = text_of(&reply).ok_or_else(not_redis)?;
                profile = Some(Profile::read(&text, sent, clock::now()));
            }
            (Step::Login | Step::Database | Step::Script, _) => {}
        }
    }
    let profile = profile.ok_or_else(not_redis)?;
    match profile.bar() {
        Some(bar) => Err(Refusal::Barred(bar)),
        None if profile.is_loading() => Err(Refusal::Down("it is still loading its data".into())),
        None => Ok(profile),
    }
}

fn steps(address: &Address, client_name: &str) -> Vec<(Step, Cmd)> {
    let mut steps = Vec::new();
    let login = &address.login;
    if address.resp3 {
        let mut hello = cmd("HELLO");
        hello.arg(3);
        if let Some(password) = &login.password {
            hello.arg("AUTH").arg(login.user.as_deref().unwrap_or("default")).arg(password);
        }
        steps.push((Step::Login, hello));
    } else if let Some(password) = &login.password {
        let mut auth = cmd("AUTH");
        if let Some(user) = &login.user {
            auth.arg(user);
        }
        auth.arg(password);
        steps.push((Step::Login, auth));
    }
    let mut set_name = cmd("CLIENT");
    set_name.arg("SETNAME").arg(client_name);
    steps.push((Step::Courtesy, set_name));
    if address.database != 0 {
        let mut select = cmd("SELECT");
        select.arg(address.database);
        steps.push((Step::Database, select));
    }
    // All sections at once: 6.2 cannot be asked for two of them.
    steps.push((Step::Info, cmd("INFO")));
    for text in script::texts() {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(text);
        steps.push((Step::Script, load));
    }
    steps
}

async fn next_reply(connection: &mut Connection) -> Result<Reply, Refusal> {
    loop {
        if let Some(reply) = connection.next_reply().map_err(|_| not_redis())? {
            return Ok(reply);
        }
        poll_fn(|cx| connection.poll_read(cx)).await.map_err(|error| down(&error))?;
    }
}

fn text_of(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Other(Value::BulkString(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Reply::Other(Value::VerbatimString { text, .. }) => Some(text.clone()),
        _ => None,
    }
}

fn not_redis() -> Refusal {
    Refusal::Barred(Bar::Unfit("it does not speak the Redis protocol (or wants TLS: rediss://)".into()))
}

fn down(error: &io::Error) -> Refusal {
    Refusal::Down(error.to_string().into())
}
