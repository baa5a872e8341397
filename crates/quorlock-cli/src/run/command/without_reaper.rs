//! Without the reaper: what the command has started has come down to `run` itself.

use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, getpid, kill_process, waitpid};
use tokio::time::sleep;

use super::{Ended, Supervisor, left_until, nanos};
use crate::exit::{self, Failure};
use crate::reaper::{Process, ReaperEvent, boot_nanos, descendants_of, summary, without};

impl Supervisor<'_> {
    /// The reaper was killed, so that nothing ends the rest if we are killed too: we end it now.
    pub(super) async fn without_reaper(&mut self) -> Result<Ended, Failure> {
        // Only when it has ended altogether are its children ours. It does not read what we say any more.
        if !self.reaper.has_ended {
            let _ = kill_process(self.reaper.pid, Signal::KILL);
            let _ = waitpid(Some(self.reaper.pid), WaitOptions::empty());
            self.reaper.has_ended = true;
        }
        if self.command.is_none() {
            return Err(super::cannot_start("the reaper has ended"));
        }
        self.send_all(Signal::TERM);
        self.eprint("the reaper was killed, and the command with it: what that has started gets TERM");
        let mut kill_at = boot_nanos().saturating_add(nanos(self.args.kill_after));
        let (mut looks, mut is_told) = (0, false);
        while looks < LOOKS {
            tokio::select! {
                biased;
                caught = self.signals.next() => if caught.ends() {
                    kill_at = 0;
                },
                () = sleep(super::REST) => {}
            }
            self.wait_for_children();
            if boot_nanos() >= kill_at || left_until(self.deadline) <= self.lead || !self.guard.is_valid() {
                self.send_all(Signal::KILL);
            }
            let (left, out_of_reach) = self.rest();
            if !out_of_reach.is_empty() && !is_told {
                self.on_event(ReaperEvent::CannotEnd(summary(&out_of_reach), Errno::PERM.raw_os_error()));
                is_told = true;
            }
            let command_lives = out_of_reach.iter().any(|it| Some(it.pid) == self.command);
            // What ends while it is looked for may hide what it has started.
            let is_over = left.is_empty() && !(command_lives && self.guard.is_valid());
            looks = if is_over { looks + 1 } else { 0 };
            self.deadline = self.guard.deadline().boot_nanos();
        }
        let words = format!("{}: the command was killed with its reaper", exit::lock(&self.args.name));
        Err(Failure::new(exit::SOFTWARE, words))
    }

    /// What is below us and not a stranger's: what can be signalled, and what cannot.
    fn rest(&self) -> (Vec<Process>, Vec<Process>) {
        let all = without(descendants_of(getpid()), &self.unrelated);
        all.into_iter().partition(Process::can_be_signalled)
    }

    fn send_all(&self, signal: Signal) {
        for process in self.rest().0 {
            let _ = process.signal(signal).and_then(|()| process.signal(Signal::CONT));
        }
    }
}

/// So many times in a row nothing is found before nothing is there.
const LOOKS: u32 = 3;
