//! Sends signals to the command and its descendants: signals that `run` passes on, TERM, and KILL.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};

use super::{LINGER, Reaper, Stage};
use crate::reaper::descendants::{self, Process};
use crate::reaper::wire::ReaperEvent;

/// Processes that could not be ended and were reported, by [`Process::id`].
#[derive(Default)]
pub(super) struct UnkillableProcesses(BTreeSet<(i32, u64)>);

impl Reaper {
    /// Sends a signal to the command and its group, or to its leftovers if it has ended.
    pub(super) fn signal(&mut self, number: i32) {
        let Some(command) = &self.command else {
            if let Some(signal) = Signal::from_named_raw(number) {
                let left = self.leftovers();
                self.signal_each(&left, signal);
            }
            return;
        };
        // The command was not reaped yet, so no other process or group has these numbers.
        let (pid, group) = (command.pid, command.group_if_member());
        let sent = match (Signal::from_named_raw(number), group) {
            (None, group) => {
                send_unnamed(number, group.map_or(pid.as_raw_pid(), |group| -group.as_raw_pid()));
                Ok(())
            }
            (Some(signal), Some(group)) => kill_process_group(group, signal),
            (Some(signal), None) => kill_process(pid, signal),
        };
        if sent == Err(Errno::PERM) {
            self.connection.send(ReaperEvent::NotPassedOn(number));
        }
    }

    /// Sends TERM to the command, because the lock is being lost.
    pub(super) fn terminate(&mut self) {
        let all = descendants::of(getpid());
        self.report_delegated_work(&all);
        // Processes that KILL will not end are reported now, while there is time to act.
        self.report_unkillable(all.into_iter().filter(|it| !it.can_be_signaled()));
        let is_out_of_reach = self.command.as_ref().is_some_and(|command| self.unkillable.has(command.pid));
        if !is_out_of_reach {
            self.signal(Signal::TERM.as_raw());
            // A stopped process would not handle TERM.
            self.signal(Signal::CONT.as_raw());
        }
    }

    /// Reports the leftovers of an ended command, and sends them TERM.
    pub(super) fn terminate_leftovers(&mut self, now: u64) {
        let left = self.leftovers();
        if left.is_empty() {
            self.stage = Stage::Leftovers { until: now + LINGER };
            return;
        }
        self.report_delegated_work(&left);
        self.connection.send(ReaperEvent::TerminatingLeftovers(descendants::summary(&left)));
        self.signal_each(&left, Signal::TERM);
        self.signal_each(&left, Signal::CONT);
        self.stage = Stage::Terminating { until: now.saturating_add(self.kill_after) };
    }

    /// Kills all living processes, repeatedly until none is left.
    pub(super) fn kill(&mut self) {
        let pause = if let Stage::Killed { pause } = self.stage {
            // A process that survives a first KILL waits for a disk or the network, which may take long.
            (pause * 2).min(LONGEST_PAUSE)
        } else {
            self.report_delegated_work(&descendants::of(getpid()));
            SHORTEST_PAUSE
        };
        self.stage = Stage::Killed { pause };
        if let Some(command) = &self.command {
            // Kill the group first, because a scan takes time.
            let sent = match command.group_if_member() {
                Some(group) => kill_process_group(group, Signal::KILL),
                None => kill_process(command.pid, Signal::KILL),
            };
            if sent == Err(Errno::PERM) {
                let process = Process::read_or_placeholder(command.pid);
                self.report_unkillable([process].into_iter());
            }
        }
        // Include processes that could not be ended before, because a program can drop its privileges.
        self.signal_each(&descendants::of(getpid()), Signal::KILL);
        self.wait_for_children();
        self.finish_if_only_unkillable_left();
    }

    /// Finishes if only unkillable processes are left. Without any process left, `wait_for_children` finishes.
    pub(super) fn finish_if_only_unkillable_left(&mut self) {
        let is_over = self.command.as_ref().is_none_or(|command| self.unkillable.has(command.pid));
        if is_over && !self.unkillable.0.is_empty() && self.leftovers().is_empty() {
            self.finish();
        }
    }

    /// The living processes, except unkillable ones.
    fn leftovers(&self) -> Vec<Process> {
        let mut all = descendants::of(getpid());
        all.retain(|it| !self.unkillable.0.contains(&it.id()));
        all
    }

    fn signal_each(&mut self, processes: &[Process], signal: Signal) {
        let not_permitted: Vec<_> =
            processes.iter().filter(|it| it.signal(signal) == Err(Errno::PERM)).cloned().collect();
        self.report_unkillable(not_permitted.into_iter());
    }

    /// Reports each unkillable process once.
    fn report_unkillable(&mut self, processes: impl Iterator<Item = Process>) {
        let new: Vec<_> = processes.filter(|it| self.unkillable.0.insert(it.id())).collect();
        if !new.is_empty() {
            self.connection
                .send(ReaperEvent::CannotEnd(descendants::summary(&new), Errno::PERM.raw_os_error()));
        }
    }

    /// Reports, once, the processes whose work is done by other processes and may go on after their end.
    fn report_delegated_work(&mut self, processes: &[Process]) {
        let delegates_work = |it: &&Process| DELEGATING_PROGRAMS.contains(&it.name.as_str());
        let delegating: Vec<_> = processes.iter().filter(delegates_work).cloned().collect();
        if !delegating.is_empty() && !self.delegated_work_reported {
            self.delegated_work_reported = true;
            self.connection.send(ReaperEvent::DelegatedWork(descendants::summary(&delegating)));
        }
    }
}

impl UnkillableProcesses {
    fn has(&self, pid: Pid) -> bool {
        self.0.iter().any(|(number, _)| *number == pid.as_raw_pid())
    }
}

/// Sends a real-time signal with the shell's `kill`, because there is no safe call for it. Waits for the
/// shell, so that the target is not reaped meanwhile, and signals stay in order.
fn send_unnamed(number: i32, target: i32) {
    let script = format!("kill -{number} {target}");
    let mut shell = Command::new("/bin/sh");
    let _ =
        shell.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Programs whose work is done by other processes. These are no descendants, and the reaper cannot end them.
const DELEGATING_PROGRAMS: [&str; 11] = [
    "at",
    "batch",
    "docker",
    "kubectl",
    "nerdctl",
    "nomad",
    "podman",
    "ssh",
    "systemctl",
    "systemd-run",
    "srun",
];
/// The time between two scans for survivors.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
