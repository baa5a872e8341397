//! The command under the lock: started, watched, and over before the lock is.

mod jobs;
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

use quorlock::{Guard, OwnerHash, Redlock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait, waitpid};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::messages;
use super::terminal::{self, Terminal};
use crate::args::RunArgs;
use crate::exit::{self, Failure, code_of};
use crate::groups::{group_of, is_first_of_session};
use crate::reaper::{
    self, Process, Reaper, ReaperCommand, ReaperEvent, StartCommand, boot_nanos, descendants_of,
};
use crate::signals::{self, Signals};

/// How the command ended, of which nothing is left.
pub(crate) struct Ended {
    /// As an exit code.
    pub(crate) code: u8,
    /// The signal that it died of, if that was meant for us too.
    pub(crate) signal: Option<Signal>,
    /// It was typed where only the command got it, and is our group's too.
    pub(crate) is_our_groups: bool,
}

/// Runs the command to its end, which comes before the lock's. The reaper is ending then, too.
pub(crate) async fn run(
    args: &RunArgs,
    (guard, mark): (&Guard, Option<OwnerHash>),
    redlock: &Redlock,
    ttl: Duration,
    signals: &mut Signals,
) -> Result<(Ended, Reaper), Failure> {
    let mut watch = Supervisor::begin(args, (guard, mark), redlock, ttl, signals)?;
    let outcome = watch.run_to_end().await;
    watch.give_back_terminal();
    Ok((outcome?, watch.reaper))
}

struct Supervisor<'a> {
    args: &'a RunArgs,
    guard: &'a Guard,
    redlock: &'a Redlock,
    signals: &'a mut Signals,
    children: Listener,
    reaper: Reaper,
    terminal: Option<Terminal>,
    /// Another in our group was to be stopped because it used the terminal.
    group_wants_terminal: bool,
    /// Our group, if the command takes the terminal from there as it starts.
    takes_terminal_from: Option<Pid>,
    /// The command's process group, and whether that is ours.
    group: Option<Pid>,
    is_shared: bool,
    /// Children of ours that are not of the command.
    unrelated: BTreeSet<(i32, u64)>,
    command: Option<Pid>,
    /// Of the command, once it has ended.
    status: Option<ExitStatus>,
    /// What was sent to us and passed on.
    passed_on: BTreeSet<i32>,
    /// What was sent to us after the command's end.
    meant_for_us: Option<Signal>,
    /// When it ended, the command had the terminal from us.
    had_terminal: bool,
    stage: Stage,
    deadline: u64,
    /// How long before the deadline the command gets TERM, and KILL.
    grace: Duration,
    lead: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Working,
    /// The lock is being lost: TERM was sent, or KILL.
    Losing,
    Lost,
    /// The command needs a terminal that nobody can give it.
    Stuck {
        signal: Signal,
        kill_at: u64,
    },
}

impl<'a> Supervisor<'a> {
    fn begin(
        args: &'a RunArgs,
        (guard, mark): (&'a Guard, Option<OwnerHash>),
        redlock: &'a Redlock,
        ttl: Duration,
        signals: &'a mut Signals,
    ) -> Result<Self, Failure> {
        let failed = |error: io::Error| cannot_start(error);
        // If the reaper is killed, what it has started is ours to end.
        #[cfg(target_os = "linux")]
        rustix::process::set_child_subreaper(Some(getpid())).map_err(|error| failed(error.into()))?;
        // What was here before us: who has become `run` may have started something.
        let strangers = descendants_of(getpid()).iter().map(Process::id).collect();
        // Where a use of the terminal in the background does not stop the command, nothing tells us to lend it; and one
        // from outside of a container cannot be lent.
        let cannot_lend = signals.ignores(Signal::TTIN) || group_of(None).is_none();
        let is_shared = args.foreground || cannot_lend && terminal::is_there();
        // Before there is a child whose stop could be missed.
        let children = signal(SignalKind::child()).map_err(failed)?;
        let environment = messages::environment(&args.name, guard.fencing_token(), mark);
        // A group that no shell is above of is stopped by no terminal, and must not become one that is: a parent of the
        // command outside of the group would make it so, and at its end the system would hang up on all that is stopped there.
        let hands_on_group = is_shared && is_first_of_session();
        // First, because it takes the longest.
        let reaper = Reaper::start(&args.name, &environment, hands_on_group).map_err(failed)?;
        let begins_session =
            args.command.iter().any(|word| Path::new(word).file_name() == Some("setsid".as_ref()));
        let group = match () {
            () if is_shared => group_of(None),
            () if begins_session => Some(reaper::new_group().map_err(failed)?),
            () => None,
        };
        let lead = KILL_LEAD.min(ttl / 10);
        let terminal = Terminal::open();
        // One whose input or output goes elsewhere may have others beside it that use the terminal: it gets that when
        // it wants it.
        let is_alone = !is_pipe(io::stdin()) && !is_pipe(io::stdout()) && !is_shared && !begins_session;
        let is_ours = terminal.as_ref().is_some_and(Terminal::is_ours);
        let borrows_from = group_of(None).filter(|_| is_alone && is_ours);
        Ok(Self {
            args,
            guard,
            redlock,
            signals,
            children,
            reaper,
            terminal,
            group_wants_terminal: false,
            takes_terminal_from: borrows_from,
            group,
            is_shared,
            unrelated: strangers,
            command: None,
            status: None,
            passed_on: BTreeSet::new(),
            meant_for_us: None,
            had_terminal: false,
            stage: Stage::Working,
            deadline: guard.deadline().boot_nanos(),
            grace: args.kill_after.min(ttl / 3).max(lead),
            lead,
        })
    }

    async fn run_to_end(&mut self) -> Result<Ended, Failure> {
        if !self.guard.is_valid() {
            return Err(Failure::new(
                exit::LOST,
                messages::lost(&self.args.name, "before the command was started"),
            ));
        }
        let start = StartCommand {
            end_at: self.kill_at(),
            group: self.group,
            is_shared: self.is_shared,
            takes_terminal_from: self.takes_terminal_from,
            kill_after: nanos(self.args.kill_after),
            is_quiet: self.args.quiet,
            command: self.args.command.clone(),
        };
        let ordered = self.reaper.send_start(start).await;
        ordered
            .map_err(|error| Failure::new(exit::SOFTWARE, format!("the reaper does not hear: {error}")))?;
        let (at, was_late) = loop {
            let look = self.check_deadline().await;
            tokio::select! {
                biased;
                news = self.reaper.next_event() => match news {
                    Some(ReaperEvent::Done { at, was_late }) => break (at, was_late),
                    Some(ReaperEvent::Failed(error)) => return Err(self.not_started(error)),
                    Some(news) => self.on_event(news),
                    None => return self.without_reaper().await,
                },
                caught = self.signals.next() => self.pass_on(caught),
                _ = self.children.recv() => self.wait_for_children(),
                () = sleep(look) => {}
                () = self.guard.lost(), if self.stage == Stage::Working => {}
            }
        };
        // What was typed for both of us may wait here yet.
        while let Some(caught) = self.signals.try_next() {
            self.pass_on(caught);
        }
        self.ended(at, was_late)
    }

    /// Sees to it that the end comes in time. Returns how long nothing need be done.
    async fn check_deadline(&mut self) -> Duration {
        // Once it was told to end, a renewal that gets through after all changes nothing; nor does one that is seen too
        // late, because we were stopped meanwhile: the reaper goes by the deadline it was told.
        let renewed = self.guard.deadline().boot_nanos();
        let is_ending = matches!(self.stage, Stage::Losing | Stage::Lost);
        if !is_ending && renewed != self.deadline && left_until(self.deadline) > self.lead {
            self.deadline = renewed;
            self.reaper.send(ReaperCommand::EndAt(self.kill_at()));
        }
        let left = left_until(self.deadline);
        if self.stage == Stage::Lost {
            return LONGEST_SLEEP;
        }
        if left <= self.lead || !self.guard.is_valid() {
            self.reaper.send(ReaperCommand::Kill);
            self.stage = Stage::Lost;
            return LONGEST_SLEEP;
        }
        if let Stage::Stuck { signal, kill_at } = self.stage
            && kill_at <= boot_nanos()
        {
            self.reaper.send(ReaperCommand::Kill);
            self.stage = Stage::Stuck { signal, kill_at: u64::MAX };
        }
        if self.stage == Stage::Losing {
            return left.saturating_sub(self.lead).clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
        }
        if left <= self.grace {
            self.reaper.send(ReaperCommand::Term);
            self.stage = Stage::Losing;
            let nodes = timeout(SHORTEST_SLEEP, self.redlock.node_status()).await.unwrap_or_default();
            self.eprint(&messages::losing(&nodes, left.saturating_sub(self.lead)));
        }
        left.saturating_sub(self.grace).clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
    }

    fn on_event(&mut self, news: ReaperEvent) {
        match news {
            ReaperEvent::Started(pid) => {
                self.command = Some(pid);
                let group = *self.group.get_or_insert(pid);
                if let Some(terminal) = self.terminal.as_mut().filter(|_| self.takes_terminal_from.is_some())
                {
                    terminal.is_lent_to(group);
                }
                self.wait_for_children();
            }
            ReaperEvent::Stopped(number) => self.stopped(number),
            ReaperEvent::Exited(status) => {
                self.status = Some(ExitStatus::from_raw(status));
                self.had_terminal = self.terminal.as_ref().is_some_and(Terminal::is_lent);
                // What it has left runs in the background, and what is typed is for us.
                self.give_back_terminal();
            }
            ReaperEvent::Left(names) => self.eprint(&format!(
                "the command has ended, and left {names} still running: TERM now, KILL after {}",
                humantime::format_duration(self.args.kill_after)
            )),
            ReaperEvent::CannotEnd(names, error) => {
                let error = io::Error::from_raw_os_error(error);
                self.eprint(&format!("{names} cannot be ended, and would run on without the lock: {error}"));
            }
            ReaperEvent::Elsewhere(names) => {
                self.eprint(&format!(
                    "ending {names}, but not what others do for it: that may run on without the lock"
                ));
            }
            ReaperEvent::NotPassedOn(number) => {
                let name = Signal::from_named_raw(number).map_or("a signal", messages::name_of);
                self.eprint(&format!("{name} cannot be passed on: {}", io::Error::from(Errno::PERM)));
            }
            ReaperEvent::Done { .. } | ReaperEvent::Failed(_) => {}
        }
    }

    /// For whatever was given to us because its parent has ended: as the first process of a container, that is all
    /// that is.
    fn wait_for_children(&mut self) {
        // The first of the group must stand until the command has joined it.
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

    /// At this moment of the boot clock; late, if the reaper ended it because the time was up, in our stead.
    fn ended(&self, at: u64, was_late: bool) -> Result<Ended, Failure> {
        // A deadline that passed since then tells nothing; a lock that was lost before it does.
        let was_taken = !self.guard.is_valid() && left_until(self.deadline) > Duration::ZERO;
        let is_lost = matches!(self.stage, Stage::Losing | Stage::Lost)
            || was_late
            || at >= self.kill_at()
            || was_taken;
        if is_lost {
            return Err(Failure::new(
                exit::LOST,
                messages::lost(&self.args.name, "before the command had ended"),
            ));
        }
        if let Stage::Stuck { signal, .. } = self.stage {
            return Ok(Ended { code: 128 + signal.as_raw() as u8, signal: None, is_our_groups: false });
        }
        let Some(status) = self.status else {
            // It cannot be ended: that was said.
            return Ok(Ended { code: exit::SOFTWARE, signal: None, is_our_groups: false });
        };
        let died_of = status.signal().and_then(Signal::from_named_raw);
        let was_sent = |signal: &Signal| self.passed_on.contains(&signal.as_raw());
        let is_our_groups = self.had_terminal
            && died_of
                .is_some_and(|signal| matches!(signal, Signal::INT | Signal::QUIT) && !was_sent(&signal));
        let for_both = died_of.filter(|signal| is_our_groups || (signals::ends(*signal) && was_sent(signal)));
        Ok(Ended { code: code_of(status), signal: self.meant_for_us.or(for_both), is_our_groups })
    }

    fn not_started(&mut self, error: Option<i32>) -> Failure {
        match error {
            Some(number) => cannot_start(io::Error::from_raw_os_error(number)),
            None => {
                Failure::new(exit::LOST, messages::lost(&self.args.name, "before the command was started"))
            }
        }
    }

    /// When the reaper kills everything, whatever becomes of us.
    fn kill_at(&self) -> u64 {
        self.deadline.saturating_sub(nanos(self.lead))
    }

    /// Without waiting for who reads it: a pager that stands still must not keep us from renewing what the reaper knows.
    fn eprint(&self, words: &str) {
        if self.args.quiet {
            return;
        }
        let line = format!("{}: {words}", exit::lock(&self.args.name));
        let stderr = io::stderr();
        let mut file = [PollFd::new(&stderr, PollFlags::OUT)];
        if poll(&mut file, Some(&NOW)).is_ok_and(|count| count > 0) {
            exit::eprint_line(&line);
        } else {
            drop(thread::Builder::new().spawn(move || exit::eprint_line(&line)));
        }
    }
}

fn cannot_start(error: impl Display) -> Failure {
    Failure::new(exit::SOFTWARE, format!("the command cannot be started: {error}"))
}

/// Whether it is a pipe or a socket, on whose other side somebody may use the same terminal.
fn is_pipe(file: impl AsFd) -> bool {
    let kind = fstat(file).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}

/// A span past the end of time has none.
fn nanos(span: Duration) -> u64 {
    span.as_nanos().try_into().unwrap_or(u64::MAX)
}

fn left_until(deadline: u64) -> Duration {
    Duration::from_nanos(deadline.saturating_sub(boot_nanos()))
}

/// How long before the deadline everything is killed.
const KILL_LEAD: Duration = Duration::from_millis(200);
const SHORTEST_SLEEP: Duration = Duration::from_millis(2);
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Between two looks at what is still to be ended.
const REST: Duration = Duration::from_millis(10);
