//! `quorlock dev`: runs a command with temporary redis-servers.

use std::ffi::OsString;

use quorlock::Redlock;
use quorlock::error::{ConnectError, InitError};
use quorlock_chaos::Fleet;
use rustix::process::{Pid, kill_process};
use tokio::process::Command;

use crate::args::DevArgs;
use crate::config::{MAX_TTL, variables};
use crate::exit::{self, Failure, code_of};
use crate::signals::handled::{Handled, is_typed};

pub(crate) async fn dev(args: DevArgs) -> Result<u8, Failure> {
    let mut signals = Handled::listen()
        .map_err(|error| Failure::new(exit::SOFTWARE, format!("signals are not available: {error}")))?;
    let max_ttl = args.max_ttl.unwrap_or(MAX_TTL);
    // Checked before servers are started.
    let check = Redlock::builder().nodes(["redis://127.0.0.1"]).max_ttl(max_ttl).check();
    check.map_err(|invalid| Failure::new(exit::USAGE, format!("--max-ttl: {invalid}")))?;
    let fleet = Fleet::start(usize::from(args.count)).map_err(|error| exit::no_servers(&error))?;
    // New servers need no probation.
    let initialized = Redlock::builder().nodes(fleet.urls()).max_ttl(max_ttl).initialize().await;
    initialized.map_err(|error| {
        let is_invalid = matches!(error, InitError::Connect(ConnectError::InvalidInput(_)));
        Failure::new(if is_invalid { exit::USAGE } else { exit::NO_QUORUM }, error.to_string())
    })?;
    let command_line = if args.command.is_empty() { vec![shell()] } else { args.command };
    if !args.quiet {
        let (count, nodes) = (fleet.len(), fleet.nodes());
        let max_ttl_text = humantime::format_duration(max_ttl);
        let servers = if count == 1 { "1 redis-server".to_owned() } else { format!("{count} redis-servers") };
        exit::eprint_line(&format!(
            "{servers}, one lock cluster with a max ttl of {max_ttl_text}, until the command ends: QUORLOCK_NODES={nodes}"
        ));
    }
    // In the same process group, because it may be a shell that uses the terminal.
    let mut command = Command::new(&command_line[0]);
    // Settings for other nodes must not apply to these.
    for variable in variables() {
        command.env_remove(variable);
    }
    command.args(&command_line[1..]).env("QUORLOCK_NODES", fleet.nodes());
    if args.max_ttl.is_some() {
        command.env("QUORLOCK_MAX_TTL", humantime::format_duration(max_ttl).to_string());
    }
    let mut child = command.spawn().map_err(|error| exit::not_executed(&command_line[0], &error))?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            signal = signals.next() => {
                if !is_typed(signal)
                    && let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid as i32))
                {
                    let _ = kill_process(pid, signal);
                }
            }
        }
    };
    drop(fleet);
    status.map(code_of).map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))
}

fn shell() -> OsString {
    std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())
}
