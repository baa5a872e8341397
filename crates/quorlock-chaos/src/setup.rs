//! The settings with which a server is started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::ClockLibrary;

/// How to start a server. One setup serves any number of them: port, folder and socket are each server's own.
#[derive(Clone, Debug)]
#[must_use]
pub struct Setup {
    pub(crate) binary: Option<PathBuf>,
    pub(crate) dir: Option<PathBuf>,
    append_only: bool,
    unix_socket: bool,
    pub(crate) password: Option<String>,
    pub(crate) clocks: Option<ClockLibrary>,
    args: Vec<OsString>,
}

impl Setup {
    /// A server on a loopback port that puts every write on disk before it answers.
    pub fn new() -> Self {
        Self {
            binary: None,
            dir: None,
            append_only: true,
            unix_socket: false,
            password: None,
            clocks: None,
            args: Vec::new(),
        }
    }

    /// The server binary. Defaults to what [`locate`](crate::locate) finds.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// The folder in which each server makes its own temporary one. Defaults to the system's temp folder.
    pub fn dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.dir = Some(path.into());
        self
    }

    /// Whether every write is in a synced append-only file before it is answered, so that a restart with kept data
    /// means just that. Without it a killed server forgets everything. Defaults to true.
    pub fn append_only(mut self, on: bool) -> Self {
        self.append_only = on;
        self
    }

    /// Whether the server also listens on a Unix socket in its folder. Defaults to false.
    pub fn unix_socket(mut self, on: bool) -> Self {
        self.unix_socket = on;
        self
    }

    /// The password to ask for; it goes into the URL as it stands, so keep to letters and digits.
    /// Defaults to none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Loads this library before each server, so that its [clock](crate::Server::clock) can be set. Defaults to none: the
    /// clock is the machine's.
    pub fn clocks(mut self, library: &ClockLibrary) -> Self {
        self.clocks = Some(library.clone());
        self
    }

    /// Further arguments, as on the command line of `redis-server`; they win over those made here, and calls add
    /// up. Defaults to none.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn socket(&self, dir: &Path) -> Option<PathBuf> {
        self.unix_socket.then(|| dir.join("redis.sock"))
    }

    /// The command line of one server. No snapshots and no rewrites: data changes on disk only by what clients do,
    /// and no forked child of the server outlives it.
    pub(crate) fn command_line(&self, port: u16, dir: &Path, data: &Path) -> Vec<OsString> {
        let port = port.to_string();
        let append_only = if self.append_only { "yes" } else { "no" };
        let mut line: Vec<OsString> = Vec::new();
        let mut set = |option: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            line.push(option.into());
            line.push(value.as_ref().into());
        };
        set("--port", &port);
        set("--bind", &"127.0.0.1");
        set("--dir", &data);
        set("--save", &"");
        set("--appendonly", &append_only);
        set("--appendfsync", &"always");
        set("--auto-aof-rewrite-percentage", &"0");
        // A replica need not wait for others that might come.
        set("--repl-diskless-sync-delay", &"0");
        if let Some(socket) = self.socket(dir) {
            set("--unixsocket", &socket);
        }
        if let Some(password) = &self.password {
            set("--requirepass", password);
        }
        line.extend(self.args.iter().cloned());
        line
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}
