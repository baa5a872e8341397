//! Where the password is from: a variable, or a file or a command that are read for each login.

mod command;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use quorlock::RedlockBuilder;
use quorlock::node::{Credentials, CredentialsProvider, CredentialsRequest};

use crate::config::Origin;
use crate::exit::Failure;
pub(crate) use command::{SHELL, exec_shell};

/// Where the password is from.
pub(crate) enum Password {
    Fixed(String),
    File(PasswordFile),
    Command(command::PasswordCommand),
}

/// A file that is read for each login.
#[derive(Clone)]
pub(crate) struct PasswordFile {
    path: PathBuf,
    origin: Origin,
}

impl Password {
    /// Reads the file once, so that a wrong one is found before any node is dialed. A pipe, which can be read only
    /// once, has a password that never changes.
    pub(crate) fn in_file(path: &Path, origin: &Origin) -> Result<Self, Failure> {
        let password = read(path).map_err(|cause| origin.invalid(cause))?;
        let is_file = fs::metadata(path).is_ok_and(|data| data.is_file());
        let file = PasswordFile { path: path.to_owned(), origin: origin.clone() };
        Ok(if is_file { Self::File(file) } else { Self::Fixed(password) })
    }

    pub(crate) fn of_command(command: &str, origin: &Origin) -> Self {
        Self::Command(command::PasswordCommand::new(command, origin.clone()))
    }

    /// Sets it for the client.
    pub(crate) fn set(self, builder: RedlockBuilder) -> RedlockBuilder {
        match self {
            Self::Fixed(password) => builder.password(password),
            Self::File(file) => builder.credentials(file),
            Self::Command(command) => builder.credentials(command),
        }
    }
}

impl CredentialsProvider for PasswordFile {
    async fn credentials(&self, _: CredentialsRequest) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
        let Self { path, origin } = self.clone();
        // Not on this thread, which renews locks: the file may be on a server that does not reply.
        let read = tokio::task::spawn_blocking(move || read(&path)).await?;
        Ok(Credentials::new(read.map_err(|cause| format!("{origin}: {cause}"))?))
    }
}

fn read(path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    match without_line_end(&text) {
        "" => Err("the file is empty; leave this out if no password is needed".to_owned()),
        password => Ok(password.to_owned()),
    }
}

/// Removes the line end that editors and `echo` add to a password, also if a file becomes a variable.
pub(crate) fn without_line_end(password: &str) -> &str {
    password.trim_end_matches(['\r', '\n'])
}
