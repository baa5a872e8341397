//! How the command ended, or why it could not be started.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use rustix::process::Signal;

use super::super::messages;
use super::{Ended, Stage, Supervisor, cannot_start, left_until};
use crate::exit::{self, Failure, code_of};
use crate::signals;

impl Supervisor<'_> {
    /// The outcome of a command that ended at `at` on the boot clock. `reached_kill_time`: whether the reaper
    /// killed the command at the kill time, because this process had not.
    pub(super) fn outcome(&self, at: u64, reached_kill_time: bool) -> Result<Ended, Failure> {
        // A deadline that passes after the command's end is harmless. A lock that was lost before its deadline
        // is not.
        let was_taken = !self.guard.is_valid() && left_until(self.deadline) > Duration::ZERO;
        let is_lost = matches!(self.stage, Stage::Losing | Stage::Lost)
            || reached_kill_time
            || at >= self.kill_time()
            || was_taken;
        if is_lost {
            return Err(Failure::new(
                exit::LOST,
                messages::lost(&self.args.name, "before the command had ended"),
            ));
        }
        if let Stage::EndingForTerminal { signal, .. } = self.stage {
            return Ok(Ended { code: 128 + signal.as_raw() as u8, signal: None, is_for_own_group: false });
        }
        let Some(status) = self.status else {
            // The command cannot be ended; the reaper reported that.
            return Ok(Ended { code: exit::SOFTWARE, signal: None, is_for_own_group: false });
        };
        let died_of = status.signal().and_then(Signal::from_named_raw);
        let was_sent = |signal: &Signal| self.deliveries.has_received(*signal);
        let is_for_own_group = self.had_terminal
            && died_of
                .is_some_and(|signal| matches!(signal, Signal::INT | Signal::QUIT) && !was_sent(&signal));
        let for_both =
            died_of.filter(|signal| is_for_own_group || (signals::ends_process(*signal) && was_sent(signal)));
        Ok(Ended { code: code_of(status), signal: self.signal_for_run.or(for_both), is_for_own_group })
    }

    pub(super) fn start_failure(&self, error: Option<i32>) -> Failure {
        match error {
            Some(number) => cannot_start(io::Error::from_raw_os_error(number)),
            None => {
                Failure::new(exit::LOST, messages::lost(&self.args.name, "before the command was started"))
            }
        }
    }
}
