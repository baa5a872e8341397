//! Common test setup: servers, a folder, commands with a time limit, and waiting for conditions.

use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
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

/// Servers of a test, and its folder.
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
        Self::uninitialized_with(servers, setup, None).initialized()
    }

    /// A lock cluster with this max ttl, set for all commands of the test.
    pub(crate) fn with_max_ttl(servers: usize, max_ttl: &'static str) -> Self {
        Self::uninitialized_with(servers, &Setup::new(), Some(max_ttl)).initialized()
    }

    /// Servers that were not initialized.
    pub(crate) fn uninitialized(servers: usize, max_ttl: Option<&'static str>) -> Self {
        Self::uninitialized_with(servers, &Setup::new(), max_ttl)
    }

    pub(crate) fn uninitialized_with(servers: usize, setup: &Setup, max_ttl: Option<&'static str>) -> Self {
        let fleet = Fleet::start_with(servers, setup).expect("redis-servers");
        Self { fleet, folder: tempfile::tempdir().expect("a temp folder"), max_ttl }
    }

    fn initialized(self) -> Self {
        let init = self.output(&["init"]);
        assert_eq!(init.code, Some(0), "{init:?}");
        self
    }

    /// Another program, with these nodes in its environment and in the test's folder. It finds `quorlock` and
    /// the system's `python3` in PATH.
    pub(crate) fn program(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new("env");
        command.args([DEFAULT_SIGNALS, name]).args(args);
        let folder = Path::new(env!("CARGO_BIN_EXE_quorlock")).parent().expect("a folder");
        let path = format!(
            "{}:/usr/bin:/bin:/usr/sbin:/sbin:{}",
            folder.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        clear_environment(&mut command).env("PATH", path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.set_environment(&mut command);
        command
    }

    fn set_environment(&self, command: &mut Command) {
        command.env("QUORLOCK_NODES", self.fleet.nodes()).current_dir(self.folder.path());
        command.envs(self.max_ttl.map(|longest| ("QUORLOCK_MAX_TTL", longest)));
    }

    /// `quorlock` with these arguments, with these nodes in its environment and in the test's folder.
    pub(crate) fn quorlock(&self, args: &[&str]) -> Command {
        let mut command = quorlock(args);
        self.set_environment(&mut command);
        command
    }

    /// Runs `quorlock` to its end.
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        output(&mut self.quorlock(args))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn has_file(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// Waits until this file has a process id, and reads it.
    pub(crate) fn read_pid(&self, name: &str) -> Pid {
        let mut pid = None;
        wait_until(name, || {
            let text = fs::read_to_string(self.file(name)).unwrap_or_default();
            pid = text.strip_suffix('\n').and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
            pid.is_some()
        });
        pid.expect("a process id")
    }

    /// The process whose id is in this file.
    pub(crate) fn read_process(&self, name: &str) -> Process {
        Process::of(self.read_pid(name).as_raw_nonzero().get()).expect("a process")
    }

    /// The number of servers that have the key.
    pub(crate) fn key_count(&self, name: &str) -> usize {
        let exists =
            |server: &quorlock_chaos::Server| server.command::<usize>(&["EXISTS", name]).expect("a reply");
        self.fleet.servers().iter().map(exists).sum()
    }

    /// The markers, in the order of the servers.
    pub(crate) fn markers(&self) -> Vec<Option<String>> {
        let marker =
            |server: &quorlock_chaos::Server| server.command(&["GET", "quorlock:node"]).expect("a reply");
        self.fleet.servers().iter().map(marker).collect()
    }

    /// Writes a file with this text, such as a script for `sh`, `bash` or `python3`.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("a file");
    }

    /// The text of a file; empty if there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// The living processes of this test, recognized by their environment or working directory.
    pub(crate) fn running(&self) -> Vec<Process> {
        let marker = format!("QUORLOCK_NODES={}", self.fleet.nodes());
        let folder = self.folder.path();
        processes::all().into_iter().filter(|process| process.is_of(&marker, folder)).collect()
    }

    /// Waits until no server has the key.
    pub(crate) fn wait_until_free(&self, name: &str) {
        wait_until("the lock is free", || self.key_count(name) == 0);
    }

    /// Waits until the lock was renewed twice. One renewal may have been under way.
    pub(crate) fn wait_until_renewed(&self, name: &str) {
        for _ in 0..2 {
            let mut shortest = i64::MAX;
            wait_until("the lock is renewed", || {
                let left: i64 = self.fleet[0].command(&["PTTL", name]).expect("a reply");
                assert!(left > 0, "the lock has expired");
                shortest = shortest.min(left);
                left > shortest
            });
        }
    }

    /// Sets the key to another owner's value on all servers.
    pub(crate) fn set_other_owner(&self, name: &str) {
        for server in self.fleet.servers() {
            server.command::<()>(&["SET", name, "another owner", "PX", "600000"]).expect("a key");
        }
    }
}

impl Drop for World {
    /// Kills processes that a failed test has left running.
    fn drop(&mut self) {
        processes::kill_all(|| self.running());
    }
}

/// `quorlock` without inherited settings, in a process group of its own. The group of all tests may be orphaned. Then
/// the end of any of its processes would send HUP and CONT to the rest, if one that a test has stopped were among them.
pub(crate) fn quorlock(args: &[&str]) -> Command {
    let mut command = program();
    clear_environment(&mut command).args(args).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Removes settings that the test process has inherited.
pub(crate) fn clear_environment(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORLOCK_") && name != "QUORLOCK_REDIS_SERVER" {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG")
}

/// The program, with default signal handling. The tests may have inherited ignored signals: INT and QUIT in
/// the background of a script, HUP under `nohup`.
fn program() -> Command {
    let path = env!("CARGO_BIN_EXE_quorlock");
    if !cfg!(target_os = "linux") {
        return Command::new(path);
    }
    // `env` becomes the program, with the same process id.
    let mut command = Command::new("env");
    command.args([DEFAULT_SIGNALS, path]);
    command
}

/// The exit code and output of a command. After a signal the code is 128 + its number, as in a shell.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn output(command: &mut Command) -> Output {
    output_of(command.spawn().expect("a process"))
}

/// Waits for the process and for the end of its output, with time limits.
pub(crate) fn output_of(mut child: Child) -> Output {
    let (out, err) = (read_all(child.stdout.take()), read_all(child.stderr.take()));
    let status = wait(&mut child);
    // A process that it has left running may hold the pipe open forever.
    let text =
        |text: &Receiver<String>| text.recv_timeout(Duration::from_secs(10)).expect("the end of its output");
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Output { code, stdout: text(&out), stderr: text(&err) }
}

/// Reads a stream to its end on a thread.
fn read_all(stream: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, text) = channel();
    spawn(move || {
        let mut all = String::new();
        if let Some(mut stream) = stream {
            stream.read_to_string(&mut all).expect("UTF-8");
        }
        let _ = sender.send(all);
    });
    text
}

pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    for _ in 0..TRIES {
        if let Some(status) = child.try_wait().expect("a status") {
            return status;
        }
        sleep(PAUSE);
    }
    // TERM first, so that its command ends too.
    send(child, Signal::TERM);
    sleep(PAUSE);
    let _ = child.kill();
    panic!("the process does not end");
}

/// Polls a condition until it is true, for 30 s at most.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..TRIES {
        if condition() {
            return;
        }
        sleep(PAUSE);
    }
    panic!("timeout: {what}");
}

/// The JSON on stdout.
pub(crate) fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The findings of `doctor` below the line of this node.
pub(crate) fn findings_of(report: &Output, world: &World, index: usize) -> String {
    let address = format!("127.0.0.1:{} ", world.fleet[index].port());
    let lines = report.stdout.lines().skip_while(|line| !line.contains(&address)).skip(1);
    lines.take_while(|line| line.starts_with(' ')).collect()
}

pub(crate) fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("a signal");
}

/// Whether a process is alive. A zombie is not.
pub(crate) fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// The modification time of a file, in milliseconds since 1970.
pub(crate) fn modified_at(file: &Path) -> u64 {
    let time = fs::metadata(file).and_then(|data| data.modified()).expect("a file");
    time.duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis() as u64
}

const DEFAULT_SIGNALS: &str = "--default-signal=HUP,INT,QUIT,TSTP,TTIN,TTOU";
const PAUSE: Duration = Duration::from_millis(10);
/// 30 s in all.
const TRIES: u32 = 3000;
