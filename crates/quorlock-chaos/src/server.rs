//! A redis-server process that can be killed, paused and restarted.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue, RedisResult};
use tempfile::TempDir;

use crate::port::Port;
use crate::process::Process;
use crate::{Clock, Data, NoBinary, Setup, Snapshot, locate};

/// A redis-server on a loopback port, with its own folder. Both are removed when it is dropped.
///
/// Its faults are real: SIGKILL, SIGSTOP, removed files. A server keeps its port across restarts.
#[derive(Debug)]
pub struct Server {
    setup: Setup,
    binary: PathBuf,
    port: Port,
    // `dir` is dropped before `process`, so that the watchdog of `process` has nothing left to remove.
    dir: TempDir,
    clock: Option<Clock>,
    process: Process,
}

/// Why a server did not start. No process is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no binary to start.
    #[error(transparent)]
    NoBinary(#[from] NoBinary),
    /// The system has no folder, port or process for it.
    #[error("the system has no folder, port or process for a server: {0}")]
    System(#[from] io::Error),
    /// Its folder could not be created.
    #[error("cannot create a folder for a server in {}: {error}; set TMPDIR to another folder", parent.display())]
    NoFolder {
        /// The folder in which it was to be created.
        parent: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The server ended at once, most often because it does not know one of its arguments.
    #[error("the server ended as soon as it was started; {}", quoted_log(log))]
    Ended {
        /// The server's output.
        log: String,
    },
    /// The server runs, but did not become ready in time.
    #[error("the server did not become ready ({last}); {}", quoted_log(log))]
    NotReady {
        /// The result of the last attempt to reach it.
        last: String,
        /// The server's output.
        log: String,
    },
}

impl Server {
    /// Starts a server. Returns when its process replies and has loaded its data.
    ///
    /// # Errors
    /// [`StartError`], with the server's output.
    pub fn start(setup: &Setup) -> Result<Self, StartError> {
        let binary = setup.binary.clone().map_or_else(locate, Ok)?;
        let mut folder = tempfile::Builder::new();
        let folder = folder.prefix("quorlock-");
        let parent = setup.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = folder.tempdir_in(&parent).map_err(|error| StartError::NoFolder { parent, error })?;
        let process = Process::not_started(&dir.path().canonicalize()?)?;
        let clock = setup.clocks.as_ref().map(|_| Clock::new(&dir.path().join("clock"))).transpose()?;
        let mut server = Self { setup: setup.clone(), binary, port: Port::free()?, dir, clock, process };
        fs::create_dir(server.data())?;
        let mut tries_left = START_TRIES;
        loop {
            tries_left -= 1;
            match server.launch() {
                // Another process took the port between the reservation and the server's bind.
                Err(StartError::Ended { log }) if log.contains(PORT_TAKEN) && tries_left > 0 => {
                    server.port = Port::free()?;
                }
                outcome => return outcome.map(|()| server),
            }
        }
    }

    /// Restarts the server on its port with the data given. Kills it first if it runs.
    ///
    /// # Errors
    /// [`StartError`]; the server is dead then and can be restarted.
    pub fn restart(&mut self, data: Data) -> Result<(), StartError> {
        self.kill();
        data.write_to(&self.data())?;
        self.launch()
    }

    /// Kills the server (SIGKILL), paused or not, and waits for its end. No effect on a dead server.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Pauses the server (SIGSTOP): the kernel still accepts connections and bytes for it, but no reply
    /// comes. Returns when all its threads are stopped. No effect on a dead server.
    pub fn pause(&mut self) {
        self.process.stop();
    }

    /// Resumes a paused server (SIGCONT). The server then executes the commands sent meanwhile.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// A copy of the server's current data files, for [`Data::Old`]. Without the append-only file it is
    /// empty.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn snapshot(&self) -> io::Result<Snapshot> {
        Snapshot::take(&self.data())
    }

    /// Deletes all data of the running server (FLUSHALL), without a restart.
    ///
    /// # Errors
    /// If the server does not reply.
    pub fn wipe(&self) -> RedisResult<()> {
        self.command(&["FLUSHALL"])
    }

    /// Swaps the running server's databases 0 and 1: its data is missing until the next swap.
    ///
    /// # Errors
    /// If the server does not reply.
    pub fn swap_databases(&self) -> RedisResult<()> {
        self.command(&["SWAPDB", "0", "1"])
    }

    /// Demotes the running server to a replica of `master` (REPLICAOF). Returns when it has the master's data
    /// instead of its own. The process and its connections continue.
    ///
    /// # Errors
    /// If the server does not reply, or is not a replica after 10 s.
    pub fn demote(&self, master: &Self) -> RedisResult<()> {
        self.command::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()])?;
        for _ in 0..READY_TRIES {
            let info: String = self.command(&["INFO", "replication"])?;
            if info.lines().any(|line| line == "master_link_status:up") {
                return Ok(());
            }
            thread::sleep(READY_PAUSE);
        }
        let late = io::Error::new(io::ErrorKind::TimedOut, "it has not become a replica");
        Err(late.into())
    }

    /// Promotes a replica to a master (REPLICAOF NO ONE), with its current data.
    ///
    /// # Errors
    /// If the server does not reply.
    pub fn promote(&self) -> RedisResult<()> {
        self.command(&["REPLICAOF", "NO", "ONE"])
    }

    /// Sends one command on a new connection and returns the reply. The timeout is 5 s.
    ///
    /// # Errors
    /// If the server does not reply, or replies with an error or with something that is not a `T`.
    pub fn command<T: FromRedisValue>(&self, args: &[&str]) -> RedisResult<T> {
        let mut command = redis::Cmd::new();
        for arg in args {
            command.arg(arg);
        }
        loop {
            match command.query(&mut self.connect(COMMAND_TIMEOUT)?) {
                // A signal to this process, such as a child's end, interrupts a read that has a timeout.
                Err(error) if is_interrupted(&error) => {}
                outcome => return outcome,
            }
        }
    }

    /// A new connection. Dial, reads and writes each have this timeout.
    ///
    /// # Errors
    /// If the server does not reply.
    pub fn connect(&self, timeout: Duration) -> RedisResult<Connection> {
        let connection = Client::open(self.url())?.get_connection_with_timeout(timeout)?;
        connection.set_read_timeout(Some(timeout))?;
        connection.set_write_timeout(Some(timeout))?;
        Ok(connection)
    }

    /// The loopback port, which never changes.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The URL, `redis://127.0.0.1:PORT`, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        let credentials =
            self.setup.password.as_ref().map_or(String::new(), |password| format!(":{password}@"));
        format!("redis://{credentials}127.0.0.1:{}", self.port())
    }

    /// The Unix socket, if the setup has [one](Setup::unix_socket).
    #[must_use]
    pub fn unix_socket(&self) -> Option<PathBuf> {
        self.setup.socket(self.dir())
    }

    /// The process id, until the server is killed or found dead. A restart gives a new one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// The wall clock that can be set, if the setup has [one](Setup::clocks).
    #[must_use]
    pub fn clock(&self) -> Option<&Clock> {
        self.clock.as_ref()
    }

    /// The server's folder, with its log, socket and data.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Whether the process is alive, running or paused. Reaps a dead process.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// The server's output since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Starts the process with the data in its folder. Kills it if it does not become ready.
    fn launch(&mut self) -> Result<(), StartError> {
        let outcome = self.spawn().map_err(StartError::from).and_then(|()| self.become_ready());
        if outcome.is_err() {
            self.kill();
        }
        outcome
    }

    fn spawn(&mut self) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let line = self.setup.command_line(self.port(), self.dir(), &self.data());
        let clock = self.setup.clocks.as_ref().zip(self.clock.as_ref());
        let environment = clock.map(|(library, clock)| library.environment(clock));
        self.process.start(&self.binary, line, environment.into_iter().flatten(), log)
    }

    fn become_ready(&mut self) -> Result<(), StartError> {
        let mut last = String::new();
        for _ in 0..READY_TRIES {
            if !self.is_running() {
                return Err(StartError::Ended { log: self.log() });
            }
            match self.is_ready() {
                Ok(true) => return Ok(()),
                Ok(false) => last = String::from("another process replied"),
                Err(error) => last = error.to_string(),
            }
            thread::sleep(READY_PAUSE);
        }
        Err(StartError::NotReady { last, log: self.log() })
    }

    /// Whether this process replies and has loaded its data (until then, PING is an error).
    fn is_ready(&self) -> RedisResult<bool> {
        let mut connection = self.connect(READY_TIMEOUT)?;
        let info: String = redis::cmd("INFO").arg("server").query(&mut connection)?;
        redis::cmd("PING").query::<()>(&mut connection)?;
        let own_id = self.pid().map(|pid| format!("process_id:{pid}"));
        Ok(info.lines().any(|line| Some(line) == own_id.as_deref()))
    }

    fn data(&self) -> PathBuf {
        self.dir().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.dir().join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server's output, as a part of a message.
fn is_interrupted(error: &redis::RedisError) -> bool {
    let source = error.source().and_then(|it| it.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let source = source.and_then(|it| it.downcast_ref::<io::Error>());
    source.is_some_and(|it| it.kind() == io::ErrorKind::Interrupted)
}

fn quoted_log(log: &str) -> String {
    match log.trim_end() {
        "" => "it wrote no output".to_owned(),
        log => format!("it wrote:\n{}", log.replace("quorlock-gate: 1: exec: ", "")),
    }
}

const PORT_TAKEN: &str = "Address already in use";
const START_TRIES: u32 = 5;

/// At least 10 s with the pauses.
const READY_TRIES: u32 = 2000;
const READY_PAUSE: Duration = Duration::from_millis(5);
const READY_TIMEOUT: Duration = Duration::from_secs(1);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_read_is_known() {
        let error = |kind| redis::RedisError::from(io::Error::from(kind));
        assert!(is_interrupted(&error(io::ErrorKind::Interrupted)));
        assert!(!is_interrupted(&error(io::ErrorKind::ConnectionRefused)));
    }
}
