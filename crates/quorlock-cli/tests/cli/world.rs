//! What every test needs: servers, a folder, commands that cannot hang a test, and looks at processes.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{sleep, spawn};
use std::time::Duration;

use quorlock_chaos::{Fleet, Setup};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::processes::{self, Process};

/// Some servers and a folder.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    folder: TempDir,
    max_ttl: Option<&'static str>,
}

impl World {
    pub(crate) fn of(servers: usize) -> Self {
        Self::with(servers, &Setup::new())
    }

    pub(crate) fn with(servers: usize, setup: &Setup) -> Self {
        Self::undeclared_with(servers, setup, None).declared()
    }

    /// With this max ttl for all that is run.
    pub(crate) fn lasting(servers: usize, max_ttl: &'static str) -> Self {
        Self::undeclared_with(servers, &Setup::new(), Some(max_ttl)).declared()
    }

    /// Servers that were not initialized.
    pub(crate) fn undeclared(servers: usize, max_ttl: Option<&'static str>) -> Self {
        Self::undeclared_with(servers, &Setup::new(), max_ttl)
    }

    pub(crate) fn undeclared_with(servers: usize, setup: &Setup, max_ttl: Option<&'static str>) -> Self {
        let fleet = Fleet::start_with(servers, setup).expect("redis-servers");
        Self { fleet, folder: tempfile::tempdir().expect("a temp folder"), max_ttl }
    }

    fn declared(self) -> Self {
        let init = self.end(&["init"]);
        assert_eq!(init.code, Some(0), "{init:?}");
        self
    }

    /// Another program over our servers, in our folder, which finds `quorlock` and the system's `python3` by name.
    pub(crate) fn program(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new("env");
        command.args([DEFAULT_SIGNALS, name]).args(args);
        let folder = Path::new(env!("CARGO_BIN_EXE_quorlock")).parent().expect("a folder");
        let path = format!(
            "{}:/usr/bin:/bin:/usr/sbin:/sbin:{}",
            folder.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        unset(&mut command).env("PATH", path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.surround(&mut command);
        command
    }

    fn surround(&self, command: &mut Command) {
        command.env("QUORLOCK_NODES", self.fleet.nodes()).current_dir(self.folder.path());
        command.envs(self.max_ttl.map(|longest| ("QUORLOCK_MAX_TTL", longest)));
    }

    /// `quorlock` with these arguments, over our servers, in our folder.
    pub(crate) fn quorlock(&self, args: &[&str]) -> Command {
        let mut command = quorlock(args);
        self.surround(&mut command);
        command
    }

    /// Runs it to its end.
    pub(crate) fn end(&self, args: &[&str]) -> End {
        end(&mut self.quorlock(args))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// The number in this file, once it is there.
    pub(crate) fn pid_in(&self, name: &str) -> Pid {
        let mut pid = None;
        until(name, || {
            let text = fs::read_to_string(self.file(name)).unwrap_or_default();
            pid = text.strip_suffix('\n').and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
            pid.is_some()
        });
        pid.expect("a process id")
    }

    /// The process that has that number.
    pub(crate) fn process_in(&self, name: &str) -> Process {
        Process::of(self.pid_in(name).as_raw_nonzero().get()).expect("a process")
    }

    /// On how many servers the key is.
    pub(crate) fn keys(&self, name: &str) -> usize {
        let exists =
            |server: &quorlock_chaos::Server| server.command::<usize>(&["EXISTS", name]).expect("an answer");
        self.fleet.servers().iter().map(exists).sum()
    }

    /// The markers, by which nodes remember their cluster, in the order of the servers.
    pub(crate) fn markers(&self) -> Vec<Option<String>> {
        let marker =
            |server: &quorlock_chaos::Server| server.command(&["GET", "quorlock:node"]).expect("an answer");
        self.fleet.servers().iter().map(marker).collect()
    }

    /// A file with this text, for `sh`, `bash` or `python3`.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("a file");
    }

    /// The text of a file; empty as long as there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// What runs of all that was started here, known by its environment or its folder.
    pub(crate) fn running(&self) -> Vec<Process> {
        let marker = format!("QUORLOCK_NODES={}", self.fleet.nodes());
        let folder = self.folder.path();
        processes::all().into_iter().filter(|process| process.is_of(&marker, folder)).collect()
    }

    /// Waits until the lock is on no server any more.
    pub(crate) fn until_free(&self, name: &str) {
        until("the lock is free", || self.keys(name) == 0);
    }

    /// Gives the lock to another owner on all servers.
    pub(crate) fn take(&self, name: &str) {
        for server in self.fleet.servers() {
            server.command::<()>(&["SET", name, "another owner", "PX", "600000"]).expect("a key");
        }
    }
}

impl Drop for World {
    /// What a failed test leaves running ends here.
    fn drop(&mut self) {
        processes::kill_until_none(|| self.running());
    }
}

/// `quorlock`, with nothing set around it.
pub(crate) fn quorlock(args: &[&str]) -> Command {
    let mut command = program();
    unset(&mut command).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Takes away what is set around the tests.
pub(crate) fn unset(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORLOCK_") && name != "QUORLOCK_REDIS_SERVER" {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG")
}

/// The program, with no signal ignored, however the tests themselves were started: what runs in the background of a
/// script has INT and QUIT ignored, and under `nohup` HUP too.
fn program() -> Command {
    let path = env!("CARGO_BIN_EXE_quorlock");
    if !cfg!(target_os = "linux") {
        return Command::new(path);
    }
    // It becomes the program, with the same process id.
    let mut command = Command::new("env");
    command.args([DEFAULT_SIGNALS, path]);
    command
}

/// How a command ended. The code is what a shell calls it: 128 and the number of the signal that it died of.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn end(command: &mut Command) -> End {
    end_of(command.spawn().expect("a process"))
}

/// Waits for it and for the end of its output, within reason.
pub(crate) fn end_of(mut child: Child) -> End {
    let (out, err) = (text_of(child.stdout.take()), text_of(child.stderr.take()));
    let status = wait(&mut child);
    // What it leaves running may hold it open, and for ever.
    let text =
        |text: &Receiver<String>| text.recv_timeout(Duration::from_secs(10)).expect("the end of its output");
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    End { code, out: text(&out), err: text(&err) }
}

/// All of it, when it ends.
fn text_of(stream: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, text) = channel();
    spawn(move || {
        let mut all = String::new();
        if let Some(mut stream) = stream {
            stream.read_to_string(&mut all).expect("text");
        }
        let _ = sender.send(all);
    });
    text
}

pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    for _ in 0..TRIES {
        if let Some(status) = child.try_wait().expect("a look") {
            return status;
        }
        sleep(PAUSE);
    }
    // Not SIGKILL first: what it runs should go with it.
    send(child, Signal::TERM);
    sleep(PAUSE);
    let _ = child.kill();
    panic!("it does not end");
}

/// Looks again and again.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..TRIES {
        if is_so() {
            return;
        }
        sleep(PAUSE);
    }
    panic!("never came true: {what}");
}

pub(crate) fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("a signal");
}

/// Whether a process runs; a zombie does not.
pub(crate) fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// When a file was last written to, in milliseconds since 1970.
pub(crate) fn touched(file: &Path) -> u64 {
    let time = fs::metadata(file).and_then(|data| data.modified()).expect("a file");
    time.duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis() as u64
}

const DEFAULT_SIGNALS: &str = "--default-signal=HUP,INT,QUIT,TSTP,TTIN,TTOU";
const PAUSE: Duration = Duration::from_millis(10);
/// Half a minute.
const TRIES: u32 = 3000;
