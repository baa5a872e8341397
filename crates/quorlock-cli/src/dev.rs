//! `quorlock dev`: a command with redis-servers of its own.

use std::ffi::OsString;

use quorlock_chaos::Fleet;
use rustix::process::{Pid, kill_process};
use tokio::process::Command;

use crate::args::DevArgs;
use crate::exit::{self, Failure, code_of};
use crate::group::{Signals, comes_from_terminal};

pub(crate) async fn dev(args: DevArgs) -> Result<u8, Failure> {
    let mut signals =
        Signals::listen().map_err(|error| Failure::new(exit::SOFTWARE, format!("no signals: {error}")))?;
    let fleet = Fleet::start(usize::from(args.count))
        .map_err(|error| Failure::new(exit::NO_QUORUM, error.to_string()))?;
    let words = if args.command.is_empty() { vec![shell()] } else { args.command };
    if !args.quiet {
        let (count, nodes) = (fleet.len(), fleet.nodes());
        exit::say(&format!("{count} redis-servers until the command ends: QUORLOCK_NODES={nodes}"));
    }
    // In our own group: it may be a shell that wants the terminal.
    let mut command = Command::new(&words[0]);
    // What was set for other nodes must not meet these.
    for setting in ELSEWHERE {
        command.env_remove(setting);
    }
    command.args(&words[1..]).env("QUORLOCK_NODES", fleet.nodes());
    let mut child = command.spawn().map_err(|error| {
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        let code = if is_missing { exit::NOT_FOUND } else { exit::NOT_EXECUTABLE };
        Failure::new(code, format!("{}: {error}", words[0].to_string_lossy()))
    })?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            signal = signals.next() => {
                if !comes_from_terminal(signal)
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

const ELSEWHERE: [&str; 6] = [
    "QUORLOCK_CONFIG",
    "QUORLOCK_USERNAME",
    "QUORLOCK_PASSWORD",
    "QUORLOCK_PASSWORD_FILE",
    "QUORLOCK_KEY_PREFIX",
    "QUORLOCK_QUORUM",
];
