//! The command under the lock: started in a group of its own, signalled, waited for, ended.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::process::ExitStatus;
use std::time::Duration;

use quorlock::{FencingToken, Mark};
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, kill_process_group, test_kill_process_group, waitpgid,
};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
use tokio::time::sleep;

use crate::around;
use crate::exit::{self, Failure};
use crate::reaper::Reaper;

/// A running command, and the reaper that answers for its end.
pub(crate) struct Group {
    child: Child,
    reaper: Reaper,
    foreground: bool,
}

impl Group {
    /// Starts the command.
    pub(crate) fn start(
        words: &[OsString],
        name: &str,
        token: Option<FencingToken>,
        foreground: bool,
        mark: Option<Mark>,
    ) -> Result<Self, Failure> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| Failure::new(exit::USAGE, "no command given"))?;
        let mut command = Command::new(program);
        command.args(arguments).env("QUORLOCK_NAME", name);
        let (held, by) = around::tell(mark, foreground);
        command.env(held, by);
        // Without one, what was set around us must not be taken for ours.
        command.env_remove(TOKEN).env_remove(NONCE);
        if let Some(FencingToken { number, nonce }) = token {
            command.env(TOKEN, number.to_string()).env(NONCE, format!("{nonce:032x}"));
        }
        let no_reaper = |error: io::Error| Failure::new(exit::SOFTWARE, format!("no reaper: {error}"));
        let cannot_start = |error: io::Error| {
            let code =
                if error.kind() == io::ErrorKind::NotFound { exit::NOT_FOUND } else { exit::NOT_EXECUTABLE };
            Failure::new(code, format!("{}: {error}", program.to_string_lossy()))
        };
        // Before the command: whatever becomes of us, there is somebody to end it.
        let mut reaper = Reaper::start().map_err(no_reaper)?;
        if !foreground {
            command.process_group(reaper.group() as i32);
        }
        let child = command.spawn().map_err(cannot_start)?;
        if let Some(pid) = child.id().filter(|_| foreground) {
            reaper.end_only(pid);
        }
        Ok(Self { child, reaper, foreground })
    }

    /// Waits until the command itself has ended; others of its group may still run.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Passes on a signal that was sent to us.
    pub(crate) fn pass_on(&self, signal: Signal) {
        if !(self.foreground && comes_from_terminal(signal)) {
            self.signal(signal);
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.foreground {
            // Not reaped yet, so the number is still the child's.
            if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
                let _ = kill_process(pid, signal);
            }
        } else if let Some(group) = Pid::from_raw(self.reaper.group() as i32) {
            let _ = kill_process_group(group, signal);
        }
    }

    /// Everything must be over at this moment of the boot clock, whatever becomes of us.
    pub(crate) fn end_at(&mut self, boot_nanos: u64) {
        self.reaper.end_at(boot_nanos);
    }

    /// Ends what is left of it; returns when nothing is.
    pub(crate) async fn end(mut self) {
        if self.foreground && self.child.id().is_none() {
            // The command was waited for; its number may be another's by now, and must not be killed.
            self.reaper.end_at(u64::MAX);
            return self.reaper.dismiss().await;
        }
        // By us and not only by the reaper, which may be stopped or dead itself. Until it is waited for, its number
        // is the group's and nobody else's.
        self.signal(Signal::KILL);
        let group = Pid::from_raw(self.reaper.group() as i32);
        self.reaper.end().await;
        let _ = self.child.wait().await;
        for _ in 0..LOOKS {
            let Some(group) = group else { return };
            // As the first process of a container we are the one to wait for orphans.
            while let Ok(Some(_)) = waitpgid(group, WaitOptions::NOHANG) {}
            if test_kill_process_group(group).is_err() {
                return;
            }
            sleep(LOOK).await;
        }
        // All were killed: who is still listed is dead, and nobody has waited for it.
    }
}

/// The signals that somebody may send us and means for the command.
pub(crate) struct Signals {
    listeners: Vec<(Signal, Listener)>,
}

impl Signals {
    /// Listens for them, but for those that whoever started us wants ignored: what `nohup` runs must not be ended by
    /// a hang-up, nor must its command.
    pub(crate) fn listen() -> io::Result<Self> {
        let kinds = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::TERM];
        let ignored = ignored();
        let wanted = kinds.into_iter().filter(|kind| ignored & (1 << (kind.as_raw() - 1)) == 0);
        let listeners = wanted.map(|kind| Ok((kind, signal(SignalKind::from_raw(kind.as_raw()))?)));
        Ok(Self { listeners: listeners.collect::<io::Result<_>>()? })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (kind, listener) in &mut self.listeners {
                if listener.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*kind);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Whether a command in our process group has had this signal already: what is typed goes to all of the terminal's
/// foreground group.
pub(crate) fn comes_from_terminal(signal: Signal) -> bool {
    matches!(signal, Signal::INT | Signal::QUIT) && io::stdin().is_terminal()
}

/// The ignored signals, bit n - 1 for signal n. Asking the system takes unsafe code; Linux also tells it in a file.
/// Elsewhere none are thought ignored.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

const TOKEN: &str = "QUORLOCK_FENCING_TOKEN";
const NONCE: &str = "QUORLOCK_FENCING_NONCE";
/// How long the dead may stay listed: half a second.
const LOOKS: u32 = 250;
const LOOK: Duration = Duration::from_millis(2);
