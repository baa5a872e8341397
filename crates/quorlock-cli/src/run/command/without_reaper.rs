//! Ends the command's processes if the reaper was killed: then they are children of this process.

use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, getpid, kill_process, waitpid};
use tokio::time::sleep;

use super::{Ended, Supervisor, left_until, nanos};
use crate::exit::{self, Failure};
use crate::reaper::{Process, ReaperEvent, boot_nanos, descendants_of, summary, without};

impl Supervisor<'_> {
    /// Ends the command's processes, because without the reaper they would outlive this process if it is killed.
    pub(super) async fn end_without_reaper(&mut self) -> Result<Ended, Failure> {
        // The reaper no longer reads orders. Its children become children of this process when it has ended.
        if !self.reaper.has_ended {
            let _ = kill_process(self.reaper.pid, Signal::KILL);
            let _ = waitpid(Some(self.reaper.pid), WaitOptions::empty());
            self.reaper.has_ended = true;
        }
        if self.command.is_none() {
            return Err(super::cannot_start("the reaper has ended"));
        }
        self.send_all(Signal::TERM);
        self.eprint("the reaper was killed, and the command with it: the processes it has started get TERM");
        let mut send_kill_at = boot_nanos().saturating_add(nanos(self.args.kill_after));
        let (mut empty_scans, mut is_reported) = (0, false);
        while empty_scans < EMPTY_SCANS {
            tokio::select! {
                biased;
                caught = self.signals.next() => if caught.ends_process() {
                    send_kill_at = 0;
                },
                () = sleep(super::LEFTOVER_INTERVAL) => {}
            }
            self.wait_for_children();
            if boot_nanos() >= send_kill_at
                || left_until(self.deadline) <= self.margins.lead
                || !self.guard.is_valid()
            {
                self.send_all(Signal::KILL);
            }
            let (left, out_of_reach) = self.command_processes();
            if !out_of_reach.is_empty() && !is_reported {
                self.on_event(ReaperEvent::CannotEnd(summary(&out_of_reach), Errno::PERM.raw_os_error()));
                is_reported = true;
            }
            let command_lives = out_of_reach.iter().any(|it| Some(it.pid) == self.command);
            // A process that ends during a scan may hide its children.
            let is_over = left.is_empty() && !(command_lives && self.guard.is_valid());
            empty_scans = if is_over { empty_scans + 1 } else { 0 };
            self.deadline = nanos(self.guard.deadline().boot_time());
        }
        let message = format!("{}: the command was killed with its reaper", exit::lock(&self.args.name));
        Err(Failure::new(exit::SOFTWARE, message))
    }

    /// The command's processes: those that can be signaled, and those that cannot.
    fn command_processes(&self) -> (Vec<Process>, Vec<Process>) {
        let all = without(descendants_of(getpid()), &self.unrelated_processes);
        all.into_iter().partition(Process::can_be_signaled)
    }

    fn send_all(&self, signal: Signal) {
        for process in self.command_processes().0 {
            let _ = process.signal(signal).and_then(|()| process.signal(Signal::CONT));
        }
    }
}

/// The number of empty scans in a row that prove that no process is left.
const EMPTY_SCANS: u32 = 3;
