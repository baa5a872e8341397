//! Starts, signals and kills the process of a server.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::watchdog::Watchdog;

/// At most one server process at a time. Its watchdog kills it and removes its folder if this process cannot.
#[derive(Debug)]
pub(crate) struct Process {
    child: Option<Child>,
    watchdog: Watchdog,
}

impl Process {
    /// No server process yet. From now on the watchdog removes the folder.
    pub(crate) fn not_started(folder: &Path) -> io::Result<Self> {
        Ok(Self { child: None, watchdog: Watchdog::for_folder(folder)? })
    }

    /// Starts the process, with its output appended to `log`. There must be none yet. After an error there
    /// may be one to kill.
    pub(crate) fn start(
        &mut self,
        binary: &Path,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: impl IntoIterator<Item = (&'static str, PathBuf)>,
        log: File,
    ) -> io::Result<()> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", GATE, "quorlock-gate"])
            .arg(binary)
            .args(args)
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C goes to the terminal's process group. A program in that group may still need its
            // servers.
            .process_group(0)
            .spawn()?;
        let (pid, gate) = (child.id(), child.stdin.take());
        self.child = Some(child);
        self.watchdog.watch(pid)?;
        gate.map_or(Ok(()), |mut gate| gate.write_all(b"go\n"))
    }

    /// Kills the process, stopped or not, and waits for its end.
    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Fails only for a process that has ended by itself.
        let _ = child.kill();
        self.watchdog.forget();
        let _ = child.wait();
    }

    /// Stops the process. Returns when all its threads are stopped, or it is dead.
    pub(crate) fn stop(&self) {
        let Some(pid) = self.signal(Signal::STOP) else { return };
        // With NOWAIT, a process that died instead stays a zombie until a later wait.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), stopped));
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// The process id, unless the process was killed or found dead.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether the process is alive, running or paused. Reaps a dead process.
    pub(crate) fn is_running(&mut self) -> bool {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            self.watchdog.forget();
            self.child = None;
        }
        self.child.is_some()
    }

    /// Sends a signal. The id belongs to this child, because only a wait on its handle reaps it.
    fn signal(&self, signal: Signal) -> Option<Pid> {
        let pid = Pid::from_child(self.child.as_ref()?);
        kill_process(pid, signal).is_ok().then_some(pid)
    }
}

/// The child waits in this shell script until the watchdog knows its id, then executes the server. If this
/// process dies before, the read fails and the child ends too. So no server runs without a watchdog.
const GATE: &str = r#"read -r go && exec "$@" </dev/null"#;
