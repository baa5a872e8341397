//! The settings with which a server is started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::ClockLibrary;

/// The settings of a server. Any number of servers can share them: each has its own port, folder and socket.
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
    /// A server on a loopback port that syncs every write to disk before it replies.
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

    /// The folder in which each server creates its own temporary folder. Defaults to the system's temp
    /// folder.
    pub fn dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.dir = Some(path.into());
        self
    }

    /// Whether every write is synced to an append-only file before the reply, so that a restart with kept
    /// data loses nothing. Without it, a killed server loses all data. Defaults to true.
    pub fn append_only(mut self, on: bool) -> Self {
        self.append_only = on;
        self
    }

    /// Whether the server also listens on a Unix socket in its folder. Defaults to false.
    pub fn unix_socket(mut self, on: bool) -> Self {
        self.unix_socket = on;
        self
    }

    /// The password of the server. It is not escaped in URLs, so use only letters and digits. Defaults to
    /// none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Loads this library into each server, so that its [clock](crate::Server::clock) can be set. Defaults to
    /// none: the server uses the machine's clock.
    pub fn clocks(mut self, library: &ClockLibrary) -> Self {
        self.clocks = Some(library.clone());
        self
    }

    /// Further arguments for the command line of `redis-server`. They override the settings made here;
    /// several calls add up. Defaults to none.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn socket(&self, dir: &Path) -> Option<PathBuf> {
        self.unix_socket.then(|| dir.join("redis.sock"))
    }

    /// The command line of one server. It disables snapshots and rewrites, so that only commands change data
    /// on disk, and no forked child outlives the server.
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
        // A replica does not wait for further replicas.
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
