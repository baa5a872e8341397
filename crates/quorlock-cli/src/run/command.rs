//! Supervises the command: starts it, watches the lock's deadline, and ends the command before the lock
//! expires.

mod delivery;
mod jobs;
mod outcome;
mod without_reaper;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use quorlock::{Guard, Redlock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait, waitpid};
use tokio::signal::unix::{Signal as SignalListener, SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::messages;
use super::terminal::{self, Terminal};
use crate::args::RunArgs;
use crate::exit::{self, Failure};
use crate::groups::{group_of, is_first_of_session};
use crate::reaper::{
    self, Process, ReaperEvent, ReaperHandle, ReaperOrder, StartOrder, boot_nanos, descendants_of,
};
use crate::signals::Signals;
use delivery::Deliveries;

/// How the command ended. No process of the command is left, except unkillable ones.
pub(crate) struct Ended {
    /// The exit code of `quorlock run`.
    pub(crate) code: u8,
    /// The signal that this process is to die of: one that the command died of, or one that came after the
    /// command's end.
    pub(crate) signal: Option<Signal>,
    /// Whether the signal must also go to this process's group. The terminal sent it to the command's group
    /// only, because that group was in the foreground.
    pub(crate) is_for_own_group: bool,
}

/// Runs the command to its end, before the lock expires. Returns the reaper, which ends when it is dropped.
pub(crate) async fn run(
    args: &RunArgs,
    guard: &Guard,
    redlock: &Redlock,
    signals: &mut Signals,
) -> Result<(Ended, ReaperHandle), Failure> {
    let mut supervisor = Supervisor::begin(args, guard, redlock, signals)?;
    let outcome = supervisor.run_to_end().await;
    supervisor.give_back_terminal();
    Ok((outcome?, supervisor.reaper))
}

struct Supervisor<'a> {
    args: &'a RunArgs,
    guard: &'a Guard,
    redlock: &'a Redlock,
    signals: &'a mut Signals,
    /// Receives CHLD.
    child_signals: SignalListener,
    reaper: ReaperHandle,
    terminal: Option<Terminal>,
    /// Whether another process of this process's group was stopped because it used the terminal.
    group_wants_terminal: bool,
    /// This process's group, if the command takes the terminal from that group when the command starts.
    takes_terminal_from: Option<Pid>,
    /// The command's process group.
    group: Option<Pid>,
    /// Whether the command is in this process's group.
    is_shared: bool,
    /// Descendants of this process that do not belong to the command.
    unrelated_processes: BTreeSet<(i32, u64)>,
    command: Option<Pid>,
    /// The status of the command, once it has ended.
    status: Option<ExitStatus>,
    deliveries: Deliveries,
    /// The first signal that came for this process after the command's end.
    signal_for_run: Option<Signal>,
    /// Whether the command had the terminal when the command ended.
    had_terminal: bool,
    stage: Stage,
    /// The last deadline of the lock that was seen in time, on the boot clock.
    deadline: u64,
    margins: Margins,
}

/// How long before the lock's deadline the command is ended. Margins are parts of the ttl, because renewals are:
/// with a margin of an earlier, longer ttl the end would come before the next renewal.
#[derive(Clone, Copy, PartialEq)]
struct Margins {
    /// How long before the deadline the command gets TERM.
    grace: Duration,
    /// How long before the deadline the command gets KILL.
    lead: Duration,
}

impl Margins {
    fn of(ttl: Duration, kill_after: Duration) -> Self {
        let lead = KILL_LEAD.min(ttl / 10);
        Self { grace: kill_after.min(ttl / 3).max(lead), lead }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Working,
    /// The lock is being lost, and TERM was sent.
    Losing,
    /// The lock is lost, or is about to expire, and KILL was sent.
    Lost,
    /// The command was stopped because it needs the terminal and cannot get it. TERM was sent.
    EndingForTerminal {
        /// The signal that stopped the command.
        signal: Signal,
        /// When KILL is due, on the boot clock.
        send_kill_at: u64,
    },
}

impl<'a> Supervisor<'a> {
    fn begin(
        args: &'a RunArgs,
        guard: &'a Guard,
        redlock: &'a Redlock,
        signals: &'a mut Signals,
    ) -> Result<Self, Failure> {
        // If the reaper is killed, its children become children of this process, which ends them.
        #[cfg(target_os = "linux")]
        rustix::process::set_child_subreaper(Some(getpid()))
            .map_err(|error| cannot_start(io::Error::from(error)))?;
        // Children from before this program was executed in this process do not belong to the command.
        let unrelated = descendants_of(getpid()).iter().map(Process::id).collect();
        // If TTIN is ignored, a command that uses the terminal in the background is not stopped, so this process
        // would not know when to lend the terminal. A terminal from outside of the container cannot be lent.
        let cannot_lend = signals.ignores(Signal::TTIN) || group_of(None).is_none();
        let is_shared = args.foreground || cannot_lend && terminal::is_there();
        // Before the first child, so that no stop is missed.
        let children = signal(SignalKind::child()).map_err(cannot_start)?;
        let environment = messages::environment(&args.name, guard.fencing_token(), guard.owner_hash());
        // Keep the reaper in this group, because the first group of a session is orphaned: the terminal does
        // not stop such a group. With a reaper outside, the group would not be orphaned. At the reaper's end
        // the kernel would then send HUP to all stopped processes of the group.
        let reaper_shares_group = is_shared && is_first_of_session();
        // Started first, because it takes the longest.
        let reaper =
            ReaperHandle::start(&args.name, &environment, reaper_shares_group).map_err(cannot_start)?;
        let begins_session =
            args.command.iter().any(|word| Path::new(word).file_name() == Some("setsid".as_ref()));
        let group = match () {
            () if is_shared => group_of(None),
            () if begins_session => Some(reaper::new_group().map_err(cannot_start)?),
            () => None,
        };
        let terminal = Terminal::open();
        // In a pipeline, other processes may use the terminal. Then the command gets the terminal only when the
        // command uses it.
        let is_alone = !is_pipe(io::stdin()) && !is_pipe(io::stdout()) && !is_shared && !begins_session;
        let is_in_foreground = terminal.as_ref().is_some_and(Terminal::is_in_foreground);
        let takes_terminal_from = group_of(None).filter(|_| is_alone && is_in_foreground);
        Ok(Self {
            args,
            guard,
            redlock,
            signals,
            child_signals: children,
            reaper,
            terminal,
            group_wants_terminal: false,
            takes_terminal_from,
            group,
            is_shared,
            unrelated_processes: unrelated,
            command: None,
            status: None,
            deliveries: Deliveries::new(is_shared),
            signal_for_run: None,
            had_terminal: false,
            stage: Stage::Working,
            deadline: nanos(guard.deadline().boot_time()),
            margins: Margins::of(guard.ttl(), args.kill_after),
        })
    }

    async fn run_to_end(&mut self) -> Result<Ended, Failure> {
        if !self.guard.is_valid() {
            return Err(Failure::new(
                exit::LOST,
                messages::lost(&self.args.name, "before the command was started"),
            ));
        }
        let start = StartOrder {
            kill_time: self.kill_time(),
            group: self.group,
            is_shared: self.is_shared,
            takes_terminal_from: self.takes_terminal_from,
            kill_after: nanos(self.args.kill_after),
            is_quiet: self.args.quiet,
            command: self.args.command.clone(),
        };
        let sent = self.reaper.send_start(start).await;
        sent.map_err(|error| Failure::new(exit::SOFTWARE, format!("the reaper does not respond: {error}")))?;
        let (at, reached_kill_time) = loop {
            let sleep_for = self.check_deadline().await;
            tokio::select! {
                biased;
                event = self.reaper.next_event() => match event {
                    Some(ReaperEvent::Done { at, reached_kill_time }) => break (at, reached_kill_time),
                    Some(ReaperEvent::Failed(error)) => return Err(self.start_failure(error)),
                    Some(event) => self.on_event(event),
                    None => return self.end_without_reaper().await,
                },
                caught = self.signals.next() => self.pass_on(caught),
                _ = self.child_signals.recv() => self.wait_for_children(),
                () = sleep(sleep_for) => {}
                // In any other stage the command is being ended already.
                _ = self.guard.lost(), if self.stage == Stage::Working => {}
            }
        };
        // Signals typed for both processes may still be queued.
        while let Some(caught) = self.signals.try_next() {
            self.pass_on(caught);
        }
        self.outcome(at, reached_kill_time)
    }

    /// Sends TERM and KILL in time. Returns the time until the next check.
    async fn check_deadline(&mut self) -> Duration {
        // Ignore a renewal after TERM. Ignore it also if this process was stopped and sees it only after the
        // old kill time: the reaper kills at the last kill time that it received.
        let deadline = nanos(self.guard.deadline().boot_time());
        let renewed = (deadline, Margins::of(self.guard.ttl(), self.args.kill_after));
        let is_ending = matches!(self.stage, Stage::Losing | Stage::Lost);
        let is_new = renewed != (self.deadline, self.margins);
        if !is_ending && is_new && left_until(self.deadline) > self.margins.lead {
            (self.deadline, self.margins) = renewed;
            self.reaper.send(ReaperOrder::KillAt(self.kill_time()));
        }
        let left = left_until(self.deadline);
        if self.stage == Stage::Lost {
            return LONGEST_SLEEP;
        }
        if left <= self.margins.lead || !self.guard.is_valid() {
            self.reaper.send(ReaperOrder::Kill);
            self.stage = Stage::Lost;
            return LONGEST_SLEEP;
        }
        if let Stage::EndingForTerminal { signal, send_kill_at: kill_at } = self.stage
            && kill_at <= boot_nanos()
        {
            self.reaper.send(ReaperOrder::Kill);
            self.stage = Stage::EndingForTerminal { signal, send_kill_at: u64::MAX };
        }
        if self.stage == Stage::Losing {
            return left.saturating_sub(self.margins.lead).clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
        }
        if left <= self.margins.grace {
            self.reaper.send(ReaperOrder::Term);
            self.stage = Stage::Losing;
            let nodes = timeout(SHORTEST_SLEEP, self.redlock.node_status()).await.unwrap_or_default();
            self.eprint(&messages::losing(&nodes, left.saturating_sub(self.margins.lead)));
        }
        left.saturating_sub(self.margins.grace).clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
    }

    fn on_event(&mut self, event: ReaperEvent) {
        match event {
            ReaperEvent::Started(pid) => {
                self.pass_on_waiting();
                self.command = Some(pid);
                let group = *self.group.get_or_insert(pid);
                if let Some(terminal) = self.terminal.as_mut().filter(|_| self.takes_terminal_from.is_some())
                {
                    terminal.record_loan_to(group);
                }
                self.wait_for_children();
            }
            ReaperEvent::Stopped(number) => self.handle_stop(number),
            ReaperEvent::Exited(status) => {
                self.status = Some(ExitStatus::from_raw(status));
                self.had_terminal = self.terminal.as_ref().is_some_and(Terminal::is_lent);
                // The command's leftovers run in the background now, and typed signals are for this process.
                self.give_back_terminal();
            }
            ReaperEvent::TerminatingLeftovers(names) => self.eprint(&format!(
                "the command has ended, and left {names} still running: TERM now, KILL after {}",
                humantime::format_duration(self.args.kill_after)
            )),
            ReaperEvent::CannotEnd(names, error) => {
                let error = io::Error::from_raw_os_error(error);
                self.eprint(&format!("{names} cannot be ended, and would run on without the lock: {error}"));
            }
            ReaperEvent::DelegatedWork(names) => {
                self.eprint(&format!(
                    "ending {names}; work that other processes do for them (such as a container daemon) may run on without the lock"
                ));
            }
            ReaperEvent::NotPassedOn(number) => {
                let name = Signal::from_named_raw(number).map_or("a signal", messages::name_of);
                self.eprint(&format!("{name} cannot be passed on: {}", io::Error::from(Errno::PERM)));
            }
            ReaperEvent::Done { .. } | ReaperEvent::Failed(_) => {}
        }
    }

    /// Reaps orphans that became children of this process: in a container, all orphans.
    fn wait_for_children(&mut self) {
        // The group's anchor (its first member, see `new_group`) must not be reaped before the command has
        // joined the group. Until then, wait only for the reaper.
        if self.command.is_none() {
            let status = waitpid(Some(self.reaper.pid), WaitOptions::NOHANG | WaitOptions::UNTRACED);
            if let Ok(Some((pid, status))) = status {
                self.on_reaper_status(pid, status.stopped());
            }
            return;
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            if pid == self.reaper.pid {
                self.on_reaper_status(pid, status.stopped());
            } else if Some(pid) == self.command && !status.stopped() {
                self.status = Some(ExitStatus::from_raw(status.as_raw()));
            }
        }
    }

    fn on_reaper_status(&mut self, pid: Pid, is_stopped: bool) {
        if is_stopped {
            let _ = kill_process(pid, Signal::CONT);
        } else {
            self.reaper.has_ended = true;
        }
    }

    /// The time on the boot clock at which the reaper kills everything, even without an order.
    fn kill_time(&self) -> u64 {
        self.deadline.saturating_sub(nanos(self.margins.lead))
    }

    /// Prints a line without blocking. A stopped pager must not block this process, which sends the reaper its
    /// kill times.
    fn eprint(&self, message: &str) {
        if self.args.quiet {
            return;
        }
        let line = format!("{}: {message}", exit::lock(&self.args.name));
        let stderr = io::stderr();
        let mut file = [PollFd::new(&stderr, PollFlags::OUT)];
        if poll(&mut file, Some(&NO_WAIT)).is_ok_and(|count| count > 0) {
            exit::eprint_line(&line);
        } else {
            drop(thread::Builder::new().spawn(move || exit::eprint_line(&line)));
        }
    }
}

fn cannot_start(error: impl Display) -> Failure {
    Failure::new(exit::SOFTWARE, format!("the command cannot be started: {error}"))
}

/// Whether a file is a pipe or a socket: a process at the other end may use the same terminal.
fn is_pipe(file: impl AsFd) -> bool {
    let kind = fstat(file).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}

/// A duration in nanoseconds, saturating.
fn nanos(span: Duration) -> u64 {
    span.as_nanos().try_into().unwrap_or(u64::MAX)
}

fn left_until(deadline: u64) -> Duration {
    Duration::from_nanos(deadline.saturating_sub(boot_nanos()))
}

/// How long before the deadline everything is killed, at most.
const KILL_LEAD: Duration = Duration::from_millis(200);
const SHORTEST_SLEEP: Duration = Duration::from_millis(2);
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// A poll timeout of zero.
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// The time between two scans for processes to end.
const LEFTOVER_INTERVAL: Duration = Duration::from_millis(10);
