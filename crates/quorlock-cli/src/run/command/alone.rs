//! Without the reaper: the command, and all that it has started, have come down to `run` itself.

use rustix::io::Errno;
use rustix::process::{Signal, getpid};
use tokio::time::sleep;

use super::{Ended, REST, Stage, Watch, left_until};
use crate::exit::{self, Failure};
use crate::reaper::{News, boot_nanos, descendants_of, in_words};

impl Watch<'_> {
    /// The reaper was killed, so that nothing ends the command if we are too: we end it now.
    pub(super) async fn without_reaper(&mut self) -> Result<Ended, Failure> {
        self.say(
            "the reaper was killed, which ends the command if this process cannot: the command gets TERM",
        );
        let kill_at = boot_nanos().saturating_add(self.args.kill_after.as_nanos() as u64);
        let mut signal = Signal::TERM;
        loop {
            self.wait_for_children();
            let left = descendants_of(getpid());
            let (out_of_reach, left): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|it| !it.can_be_signalled());
            if left.is_empty() {
                if !out_of_reach.is_empty() {
                    let names = in_words(&out_of_reach);
                    self.hear(News::CannotEnd(names, Errno::PERM.raw_os_error()));
                }
                break;
            }
            let deadline = self.guard.deadline().boot_nanos();
            if boot_nanos() >= kill_at || left_until(deadline) <= self.lead || !self.guard.is_valid() {
                signal = Signal::KILL;
            }
            if signal == Signal::KILL || self.stage == Stage::Working {
                for process in &left {
                    let _ = process.signal(signal).and_then(|()| process.signal(Signal::CONT));
                }
                self.stage = Stage::Losing;
            }
            sleep(REST).await;
        }
        let words =
            format!("{}: the command was ended, because its reaper was killed", exit::lock(&self.args.name));
        Err(Failure::new(exit::SOFTWARE, words))
    }
}
