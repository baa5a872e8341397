//! One redis-server process.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue, RedisResult};
use tempfile::TempDir;

use crate::port::Port;
use crate::process::Process;
use crate::{Clock, Data, NoBinary, Setup, Snapshot, locate};

/// A running redis-server on a loopback port, with a folder of its own; both go when it is dropped.
///
/// Every fault here is a real one: SIGKILL, SIGSTOP, files taken away. A server keeps its port for life.
#[derive(Debug)]
pub struct Server {
    setup: Setup,
    binary: PathBuf,
    port: Port,
    // The order of these two counts: the folder goes first, then the watchdog has nothing left to remove.
    dir: TempDir,
    clock: Option<Clock>,
    process: Process,
}

/// Why a server did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no binary to start.
    #[error(transparent)]
    NoBinary(#[from] NoBinary),
    /// A folder, a port or a process was refused by the system.
    #[error("the system refused what a server needs: {0}")]
    System(#[from] io::Error),
    /// No folder could be made for it.
    #[error("no folder for a server in {}: {error} (TMPDIR says where)", parent.display())]
    NoFolder {
        /// Where it was to be.
        parent: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The server ended at once: most often it does not know one of its arguments.
    #[error("the server ended as soon as it was started; {}", quoted_log(log))]
    Ended {
        /// All that it wrote.
        log: String,
    },
    /// The server runs, but did not become ready in time.
    #[error("the server did not answer as it should ({last}); {}", quoted_log(log))]
    NotReady {
        /// The result of the last try to talk to it.
        last: String,
        /// All that it wrote.
        log: String,
    },
}

impl Server {
    /// Starts a server and returns when it answers: this very process, with its data loaded.
    ///
    /// # Errors
    /// [`StartError`], with the server's own words if it had any.
    pub fn start(setup: &Setup) -> Result<Self, StartError> {
        let binary = setup.binary.clone().map_or_else(locate, Ok)?;
        let mut folder = tempfile::Builder::new();
        let folder = folder.prefix("quorlock-");
        let parent = setup.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = folder.tempdir_in(&parent).map_err(|error| StartError::NoFolder { parent, error })?;
        let process = Process::none(&dir.path().canonicalize()?)?;
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

    /// Starts the server again on its port with the data given; kills it first if it runs.
    ///
    /// # Errors
    /// [`StartError`]; the server is dead then and may be restarted once more.
    pub fn restart(&mut self, data: Data) -> Result<(), StartError> {
        self.kill();
        data.write_to(&self.data())?;
        self.launch()
    }

    /// Kills the server at once (SIGKILL), paused or not, and returns when it is gone. Does nothing to a dead one.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops the server (SIGSTOP): the kernel still accepts connections and bytes for it, but no reply comes. Returns
    /// when the last of its threads stands still. Does nothing to a dead one.
    pub fn pause(&mut self) {
        self.process.stop();
    }

    /// Resumes a paused server (SIGCONT), with all that has been sent to it meanwhile.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// A copy of the server's data files as they are now, for [`Data::Old`]. Without the append-only file there are
    /// none to copy.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn snapshot(&self) -> io::Result<Snapshot> {
        Snapshot::take(&self.data())
    }

    /// Makes the running server forget everything (FLUSHALL), without a restart.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn wipe(&self) -> RedisResult<()> {
        self.command(&["FLUSHALL"])
    }

    /// Swaps the running server's databases 0 and 1: its data are gone, and come back with the next swap.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn swap_databases(&self) -> RedisResult<()> {
        self.command(&["SWAPDB", "0", "1"])
    }

    /// Demotes the running server to a replica of `master` (REPLICAOF), and returns when it has that one's data in
    /// place of its own. The process goes on, and so do its connections.
    ///
    /// # Errors
    /// If the server does not answer, or has not become a replica in 10 s and more.
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

    /// Promotes a replica to a master (REPLICAOF NO ONE), with the data that it has.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn promote(&self) -> RedisResult<()> {
        self.command(&["REPLICAOF", "NO", "ONE"])
    }

    /// Sends one command on a connection of its own and returns the answer. Gives up after 5 s.
    ///
    /// # Errors
    /// If the server does not answer, answers with an error, or with what is no `T`.
    pub fn command<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query(&mut self.connect(COMMAND_TIMEOUT)?)
    }

    /// A connection whose dialing, reads and writes each give up after `patience`.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn connect(&self, patience: Duration) -> RedisResult<Connection> {
        let connection = Client::open(self.url())?.get_connection_with_timeout(patience)?;
        connection.set_read_timeout(Some(patience))?;
        connection.set_write_timeout(Some(patience))?;
        Ok(connection)
    }

    /// The loopback port, the same for life.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `redis://127.0.0.1:PORT`, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        let login = self.setup.password.as_ref().map_or(String::new(), |password| format!(":{password}@"));
        format!("redis://{login}127.0.0.1:{}", self.port())
    }

    /// The Unix socket, if the setup asked for one.
    #[must_use]
    pub fn unix_socket(&self) -> Option<PathBuf> {
        self.setup.socket(self.dir())
    }

    /// The process id, until the server is killed or found dead; a restart gives a new one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Its wall clock, if the setup [asked for one](Setup::clocks) that can be set.
    #[must_use]
    pub fn clock(&self) -> Option<&Clock> {
        self.clock.as_ref()
    }

    /// The server's own folder: its log, its socket, its data.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Whether there is a process; a paused one counts.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// All that the server wrote since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Starts the process on what its folder holds; leaves none behind unless it became ready.
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
                Ok(false) => last = String::from("another process answers"),
                Err(error) => last = error.to_string(),
            }
            thread::sleep(READY_PAUSE);
        }
        Err(StartError::NotReady { last, log: self.log() })
    }

    /// Whether this process replies, and serves: PING is an error while data is being loaded.
    fn is_ready(&self) -> RedisResult<bool> {
        let mut connection = self.connect(READY_TIMEOUT)?;
        let info: String = redis::cmd("INFO").arg("server").query(&mut connection)?;
        redis::cmd("PING").query::<()>(&mut connection)?;
        let ours = self.pid().map(|pid| format!("process_id:{pid}"));
        Ok(info.lines().any(|line| Some(line) == ours.as_deref()))
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

/// The server's output for a message, or that there was none.
fn quoted_log(log: &str) -> String {
    match log.trim_end() {
        "" => "it wrote no output".to_owned(),
        log => format!("it wrote:\n{}", log.replace("quorlock-gate: 1: exec: ", "")),
    }
}

const PORT_TAKEN: &str = "Address already in use";
const START_TRIES: u32 = 5;

/// 10 s and more, since every try takes some time of its own.
const READY_TRIES: u32 = 2000;
const READY_PAUSE: Duration = Duration::from_millis(5);
const READY_TIMEOUT: Duration = Duration::from_secs(1);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
