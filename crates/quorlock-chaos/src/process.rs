//! The process of a server: started behind a gate, watched by a watchdog, signalled by its id.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::watchdog::Watchdog;

/// At most one process at a time, and the watchdog that ends it and removes its folder if this process cannot.
#[derive(Debug)]
pub(crate) struct Process {
    child: Option<Child>,
    watchdog: Watchdog,
}

impl Process {
    /// No process yet; from here on, the folder is removed for certain.
    pub(crate) fn none(folder: &Path) -> io::Result<Self> {
        Ok(Self { child: None, watchdog: Watchdog::for_folder(folder)? })
    }

    /// Starts it, with its output added to `log`. There must be none before; after an error there may be one to kill.
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
            // Ctrl-C goes to the terminal's process group; a program in that group must not lose its servers before it
            // ends.
            .process_group(0)
            .spawn()?;
        let (pid, gate) = (child.id(), child.stdin.take());
        self.child = Some(child);
        self.watchdog.watch(pid)?;
        gate.map_or(Ok(()), |mut gate| gate.write_all(b"go\n"))
    }

    /// Kills it, stopped or not, and returns when it is gone.
    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Fails only for a process that has ended by itself.
        let _ = child.kill();
        self.watchdog.forget();
        let _ = child.wait();
    }

    /// Returns when the last of its threads stands still, or it is dead.
    pub(crate) fn stop(&self) {
        let Some(pid) = self.signal(Signal::STOP) else { return };
        // NOWAIT leaves a process that died instead to be reaped by a later wait.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), stopped));
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Its id, unless it was killed or found dead.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(crate) fn is_running(&mut self) -> bool {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            self.watchdog.forget();
            self.child = None;
        }
        self.child.is_some()
    }

    /// A child is not reaped while its handle is held, so its id is surely its own.
    fn signal(&self, signal: Signal) -> Option<Pid> {
        let pid = Pid::from_child(self.child.as_ref()?);
        kill_process(pid, signal).is_ok().then_some(pid)
    }
}

/// The process waits here until the watchdog knows its id, then becomes the server. If this process dies in between,
/// the read fails, and the child ends too. So no server ever runs without cleanup.
const GATE: &str = r#"read -r go && exec "$@" </dev/null"#;
