//! A holder's process, as its parent controls it.

use std::env;
use std::time::Duration;

use quorlock_chaos::Fleet;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::Outcome;
use crate::account::Rule;
use crate::holder::FLAG;

/// The process is killed when this is dropped, even if it is stopped.
pub(crate) struct Process {
    name: String,
    child: Child,
    pid: Pid,
}

impl Process {
    /// Starts this program again as a holder that makes these changes. If `pauses`, it stops itself before
    /// the first.
    pub(crate) fn start(
        fleet: &Fleet,
        rule: Rule,
        name: &str,
        changes: &[i64],
        pauses: bool,
    ) -> Outcome<Self> {
        let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
        let child = Command::new(env::current_exe()?)
            .args([FLAG, &fleet.nodes(), rule.name(), name, &changes.join(","), &pauses.to_string()])
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        Ok(Self { name: name.to_owned(), child, pid: pid.ok_or("a process without an id")? })
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(&self) -> Outcome<()> {
        // `NOWAIT` keeps the status, which `end` reads.
        let options =
            WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        loop {
            match waitid(WaitId::Pid(self.pid), options)? {
                Some(status) if status.stopped() => return Ok(()),
                Some(_) => return Err(format!("{} ended before the pause", self.name).into()),
                None => sleep(Duration::from_millis(5)).await,
            }
        }
    }

    pub(crate) fn resume(&self) -> Outcome<()> {
        Ok(kill_process(self.pid, Signal::CONT)?)
    }

    /// Waits for its end. An exit code other than 0 is an error.
    pub(crate) async fn end(mut self) -> Outcome<()> {
        let status = self.child.wait().await?;
        status.success().then_some(()).ok_or_else(|| format!("{} failed: {status}", self.name).into())
    }
}
