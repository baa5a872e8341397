//! The command whose output is the password.

use std::error::Error;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use quorlock::node::{Credentials, CredentialsProvider, CredentialsRequest};
#[cfg(target_os = "linux")]
use rustix::process::set_parent_process_death_signal;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::config::{Origin, variable};
use crate::reaper::this_program;
use crate::signals;

/// A command for the shell that is run for each login. The first line of its output is the password.
pub(crate) struct PasswordCommand {
    command: String,
    origin: Origin,
}

/// Kills a running command with all processes of its group when it is dropped.
struct RunningGroup(Option<Pid>);

impl PasswordCommand {
    pub(super) fn new(command: &str, origin: Origin) -> Self {
        Self { command: command.to_owned(), origin }
    }

    async fn run(&self, node: &str) -> Result<String, String> {
        let mut shell = Command::new(this_program().map_err(|error| error.to_string())?);
        shell.arg(SHELL).arg(&self.command).process_group(0);
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The URLs may contain passwords.
        for secret in ["password", "nodes"] {
            shell.env_remove(variable(secret));
        }
        shell.env("QUORLOCK_NODE", node);
        let mut child = shell.spawn().map_err(|error| format!("cannot be started: {error}"))?;
        let mut group = RunningGroup(child.id().and_then(|id| Pid::from_raw(id as i32)));
        let (output, errors) = tokio::join!(read(child.stdout.take()), read(child.stderr.take()));
        if output.len() as u64 == MAX_OUTPUT {
            return Err("its output is too long".to_owned());
        }
        let output = String::from_utf8(output).map_err(|_| "its output is not valid UTF-8")?;
        let (output, status) = output.rsplit_once('\n').ok_or("it was killed")?;
        // From here on another process may have its id.
        group.0 = None;
        let password = output.lines().next().unwrap_or_default();
        match status {
            "0" if password.is_empty() => Err("its output has no password in the first line".to_owned()),
            "0" => Ok(password.to_owned()),
            status => {
                let errors = self.without_secrets(&String::from_utf8_lossy(&errors), password, status);
                let separator = if errors.is_empty() { "" } else { ": " };
                Err(format!("exit code {status}{separator}{errors}"))
            }
        }
    }

    /// The last lines that the command wrote to stderr.
    fn without_secrets(&self, errors: &str, password: &str, status: &str) -> String {
        let lines: Vec<&str> = errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let mut text = lines[lines.len().saturating_sub(ERROR_LINES)..].join("; ");
        // The shell repeats what is no command, and that may be a password.
        let is_no_command = ["126", "127"].contains(&status);
        let words = self.command.split_whitespace().filter(|_| is_no_command);
        for secret in words.chain([password]).filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, "…");
        }
        text
    }
}

impl CredentialsProvider for PasswordCommand {
    async fn credentials(
        &self,
        request: CredentialsRequest,
    ) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
        let password = self.run(&request.node).await.map_err(|cause| format!("{}: {cause}", self.origin))?;
        Ok(Credentials::new(password))
    }
}

impl Drop for RunningGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads to the end, or to the limit.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // After an error, the output is what was read.
        let _ = pipe.take(MAX_OUTPUT).read_to_end(&mut bytes).await;
    }
    bytes
}

/// Replaces this process by a shell that runs the command. Returns an exit code only on failure.
///
/// The shell writes the exit code of the command behind its output, because `quorlock run` waits for all children
/// and discards their status. It also starts children with all signals blocked, and some shells leave them so.
pub(crate) fn exec_shell(command: Option<&OsString>) -> u8 {
    #[cfg(target_os = "linux")]
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    signals::unblock();
    let error = std::process::Command::new("/bin/sh").args(["-c", WITH_STATUS, "sh"]).args(command).exec();
    eprintln!("/bin/sh: {error}");
    crate::exit::NOT_EXECUTABLE
}

const WITH_STATUS: &str = r#"/bin/sh -c -- "$1"; printf '\n%d' "$?""#;
/// The first argument of the helper process that becomes this shell.
pub(crate) const SHELL: &str = "__shell";
const MAX_OUTPUT: u64 = 1 << 16;
const ERROR_LINES: usize = 3;
