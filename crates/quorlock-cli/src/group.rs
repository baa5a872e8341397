//! The command under the lock: started in a group of its own, signalled, waited for, ended.

use std::ffi::OsString;
use std::io;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

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
    pub(crate) fn start(words: &[OsString], name: &str, foreground: bool) -> Result<Self, Failure> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| Failure::new(exit::USAGE, "no command given"))?;
        let mut command = Command::new(program);
        command.args(arguments).env("QUORLOCK_NAME", name);
        let no_reaper = |error: io::Error| Failure::new(exit::SOFTWARE, format!("no reaper: {error}"));
        let cannot_start = |error: io::Error| {
            let code =
                if error.kind() == io::ErrorKind::NotFound { exit::NOT_FOUND } else { exit::NOT_EXECUTABLE };
            Failure::new(code, format!("{}: {error}", program.to_string_lossy()))
        };
        if foreground {
            let child = command.spawn().map_err(cannot_start)?;
            let reaper = Reaper::start(child.id()).map_err(no_reaper)?;
            return Ok(Self { child, reaper, foreground });
        }
        let reaper = Reaper::start(None).map_err(no_reaper)?;
        command.process_group(reaper.group() as i32);
        let child = command.spawn().map_err(cannot_start)?;
        Ok(Self { child, reaper, foreground })
    }

    /// Waits until the command itself has ended; others of its group may still run.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Passes a signal on.
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

    /// Ends what is left of it.
    pub(crate) async fn end(mut self) {
        if self.foreground && self.child.id().is_none() {
            // The command was waited for; its number may be another's by now, and must not be killed.
            self.reaper.end_at(u64::MAX);
            return self.reaper.dismiss().await;
        }
        self.reaper.end().await;
        let _ = self.child.wait().await;
    }
}

/// The signals that somebody may send us and means for the command.
pub(crate) struct Signals {
    listeners: Vec<(Signal, Listener)>,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        let kinds = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::TERM];
        let listeners = kinds.map(|kind| Ok((kind, signal(SignalKind::from_raw(kind.as_raw()))?)));
        Ok(Self { listeners: listeners.into_iter().collect::<io::Result<_>>()? })
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
