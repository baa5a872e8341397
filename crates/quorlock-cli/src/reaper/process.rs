//! The reaper itself: starts the command, waits for it, and ends all that came of it.

use std::collections::BTreeSet;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, kill_process_group, set_child_subreaper, wait,
};

use super::descendants::{self, Process};
use super::wire::{Inbox, News, Order, Start};
use super::{BECOME, QUIETLY, boot_nanos, this_program};
use crate::groups::group_of;
use crate::run::terminal::Terminal;
use crate::signals::Blocked;

/// Is the reaper until everything is over. What keeps it from beginning, it says by ending.
pub(crate) fn reap() -> u8 {
    let begun = Reaper::begin();
    begun.map_or(crate::exit::SOFTWARE, |mut reaper| {
        while !reaper.is_done {
            reaper.turn();
        }
        0
    })
}

struct Reaper {
    /// To `run`. None when that has ended.
    run: Option<UnixStream>,
    inbox: Inbox,
    stdin: Option<OwnedFd>,
    signals: Blocked,
    /// Moments of the boot clock.
    end_at: u64,
    kill_after: u64,
    command: Option<Running>,
    stage: Stage,
    /// Given back if `run` cannot do it.
    terminal: Option<Terminal>,
    /// What could not be ended, and was told.
    unkillable: BTreeSet<i32>,
    is_done: bool,
}

/// A command that has not been waited for, so that its numbers are its own.
struct Running {
    pid: Pid,
    /// Its own: all of it gets what the command gets. None if it is in `run`'s.
    group: Option<Pid>,
}

impl Running {
    /// Its own group, if it is still in it: then the number is nobody else's.
    fn living_group(&self) -> Option<Pid> {
        self.group.filter(|_| group_of(Some(self.pid)) == self.group)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// The command runs, or was not started yet.
    Working,
    /// It has ended, and what it left has until this moment to end by itself.
    Lingering { until: u64 },
    /// What it left was asked to end, and has until this moment.
    Asked { until: u64 },
    /// All was killed.
    Killed,
}

impl Reaper {
    fn begin() -> io::Result<Self> {
        let signals = Blocked::all()?;
        #[cfg(target_os = "linux")]
        {
            set_child_subreaper(Some(getpid()))?;
            rustix::thread::set_name(c"quorlock-reaper")?;
        }
        let run = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        run.set_nonblocking(true)?;
        Ok(Self {
            run: Some(run),
            inbox: Inbox::default(),
            stdin: None,
            signals,
            end_at: u64::MAX,
            kill_after: 0,
            command: None,
            stage: Stage::Working,
            // It is ours if it is `run`'s.
            terminal: getppid().and_then(|run| Terminal::open_for(group_of(Some(run))?)),
            unkillable: BTreeSet::new(),
            is_done: false,
        })
    }

    /// Waits for something, and sees to it.
    fn turn(&mut self) {
        self.sleep();
        while self.signals.read().is_some() {}
        self.hear();
        self.wait_for_children();
        let now = boot_nanos();
        match self.stage {
            Stage::Killed => self.kill(),
            _ if self.end_at <= boot_nanos() => self.kill(),
            Stage::Lingering { until } | Stage::Asked { until } if now < until => {
                self.finish_but_for_unkillable();
            }
            Stage::Lingering { .. } => self.ask_what_is_left(now),
            Stage::Asked { .. } => self.kill(),
            Stage::Working => {}
        }
    }

    fn sleep(&self) {
        let next = match self.stage {
            Stage::Working => self.end_at,
            Stage::Lingering { until } | Stage::Asked { until } => until.min(self.end_at),
            Stage::Killed => 0,
        };
        let left = Duration::from_nanos(next.saturating_sub(boot_nanos()));
        let left = if self.stage == Stage::Killed { DEATH } else { left.min(LOOK) };
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut files = vec![PollFd::new(&self.signals, PollFlags::IN)];
        files.extend(self.run.as_ref().map(|run| PollFd::new(run, PollFlags::IN)));
        let _ = poll(&mut files, Some(&timeout));
    }

    /// Takes in what `run` says. Its end means now.
    fn hear(&mut self) {
        let mut bytes = vec![0; 1 << 16];
        while let Some(run) = &self.run {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut files = RecvAncillaryBuffer::new(&mut space);
            let heard = recvmsg(run, &mut [IoSliceMut::new(&mut bytes)], &mut files, RecvFlags::CMSG_CLOEXEC);
            for message in files.drain() {
                if let RecvAncillaryMessage::ScmRights(mut files) = message {
                    self.stdin = files.next();
                }
            }
            match heard.map(|heard| heard.bytes) {
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => {
                    self.run = None;
                    self.kill();
                }
                Ok(count) => self.inbox.take_in(&bytes[..count]),
            }
        }
        while let Some(words) = self.inbox.next() {
            match Order::decode(words) {
                Some(Order::Start(start)) if self.run.is_some() => self.start(&start),
                Some(Order::EndAt(moment)) => self.end_at = moment,
                Some(Order::Signal(number)) => self.signal(number),
                Some(Order::Term) => self.term(),
                Some(Order::Start(_) | Order::Kill) | None => self.kill(),
            }
        }
    }

    fn start(&mut self, start: &Start) {
        self.end_at = start.end_at;
        self.kill_after = start.kill_after;
        self.terminal = self.terminal.take().filter(|_| !start.is_shared);
        if let (Some(terminal), Some(group)) = (&mut self.terminal, start.group) {
            terminal.lend_to(group);
        }
        let stdin = self.stdin.take();
        if start.end_at <= boot_nanos() {
            self.tell(News::Failed(None));
            self.is_done = true;
            return;
        }
        match spawn(start, stdin) {
            Ok(pid) => {
                self.command = Some(Running { pid, group: start.group.filter(|_| !start.is_shared) });
                self.tell(News::Started(pid));
                // It is not to keep a file system busy, now that the command has the folder from it.
                let _ = rustix::process::chdir("/");
            }
            Err(error) => {
                self.tell(News::Failed(Some(error.raw_os_error().unwrap_or_default())));
                self.is_done = true;
            }
        }
    }

    /// Of the command, and of all that was given to us because its parent had ended.
    fn wait_for_children(&mut self) {
        loop {
            match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) => {
                    if self.command.as_ref().is_none_or(|command| command.pid != pid) {
                        continue;
                    }
                    if let Some(signal) = status.stopping_signal() {
                        self.tell(News::Stopped(signal));
                        continue;
                    }
                    self.tell(News::Exited(status.as_raw()));
                    let command = self.command.take();
                    if self.stage == Stage::Working {
                        self.stage = Stage::Lingering { until: boot_nanos() + LINGER };
                    }
                    // Where nothing tells what is left, the group is: it has its number as long as it has members.
                    if !cfg!(target_os = "linux") {
                        let group = command.and_then(|command| command.group);
                        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
                    }
                }
                Err(Errno::CHILD) if self.stage != Stage::Working => {
                    self.finish();
                    break;
                }
                Ok(None) | Err(_) => break,
            }
        }
    }

    /// To the command and its group, and when that is gone to what it left.
    fn signal(&mut self, number: i32) {
        let Some(command) = &self.command else {
            if let Some(signal) = Signal::from_named_raw(number) {
                let left = self.left();
                self.signal_each(&left, signal);
            }
            return;
        };
        // Not waited for yet, so the number is still its own; and its group's, as long as it is in it.
        let pid = command.pid;
        let sent = match (Signal::from_named_raw(number), command.living_group()) {
            (None, group) => {
                send_unnamed(number, group.map_or(pid.as_raw_pid(), |group| -group.as_raw_pid()));
                Ok(())
            }
            (Some(signal), Some(group)) => kill_process_group(group, signal),
            (Some(signal), None) => kill_process(pid, signal),
        };
        if let Err(error @ Errno::PERM) = sent {
            let all = descendants::of(getpid());
            self.cannot_end(all.into_iter().filter(|it| it.pid == pid).collect(), error);
        }
    }

    fn term(&mut self) {
        self.signal(Signal::TERM.as_raw());
        // Who was stopped would not hear it.
        self.signal(Signal::CONT.as_raw());
        // What will not be killed either is told now, while there is time to do something.
        let all = descendants::of(getpid()).into_iter();
        let (out_of_reach, error) = (all.filter(|it| !it.can_be_signalled()).collect(), Errno::PERM);
        self.cannot_end(out_of_reach, error);
    }

    fn ask_what_is_left(&mut self, now: u64) {
        let left = self.left();
        if left.is_empty() {
            self.stage = Stage::Lingering { until: now + LINGER };
            return;
        }
        self.tell(News::Left(descendants::in_words(&left)));
        self.signal_each(&left, Signal::TERM);
        self.signal_each(&left, Signal::CONT);
        self.stage = Stage::Asked { until: now.saturating_add(self.kill_after) };
    }

    /// Kills all that live, again and again until none does.
    fn kill(&mut self) {
        if let Some(command) = &self.command {
            // All at once, before any of them is found.
            let _ = match command.living_group() {
                Some(group) => kill_process_group(group, Signal::KILL),
                None => kill_process(command.pid, Signal::KILL),
            };
        }
        let left = self.left();
        if self.stage != Stage::Killed {
            self.stage = Stage::Killed;
            let is_elsewhere = |it: &&Process| ELSEWHERE.contains(&it.name.as_str());
            let elsewhere: Vec<_> = left.iter().filter(is_elsewhere).cloned().collect();
            if !elsewhere.is_empty() {
                self.tell(News::Elsewhere(descendants::in_words(&elsewhere)));
            }
        }
        // Also what could not be ended before: a program can give up its rights.
        self.signal_each(&descendants::of(getpid()), Signal::KILL);
        self.wait_for_children();
        self.finish_but_for_unkillable();
    }

    /// Once only what cannot be ended is left. That nothing at all is, waiting for children tells.
    fn finish_but_for_unkillable(&mut self) {
        let is_unkillable = |command: &Running| self.unkillable.contains(&command.pid.as_raw_pid());
        let is_over = self.command.as_ref().is_none_or(is_unkillable);
        if is_over && !self.unkillable.is_empty() && self.left().is_empty() {
            self.finish();
        }
    }

    /// What lives, but for what cannot be ended.
    fn left(&self) -> Vec<Process> {
        let mut all = descendants::of(getpid());
        all.retain(|it| !self.unkillable.contains(&it.pid.as_raw_pid()));
        all
    }

    fn signal_each(&mut self, processes: &[Process], signal: Signal) {
        for process in processes {
            if let Err(error @ Errno::PERM) = process.signal(signal) {
                self.cannot_end(vec![process.clone()], error);
            }
        }
    }

    /// Tells it once.
    fn cannot_end(&mut self, mut processes: Vec<Process>, error: Errno) {
        processes.retain(|it| self.unkillable.insert(it.pid.as_raw_pid()));
        if !processes.is_empty() {
            self.tell(News::CannotEnd(descendants::in_words(&processes), error.raw_os_error()));
        }
    }

    fn finish(&mut self) {
        if self.run.is_none()
            && let Some(terminal) = &mut self.terminal
        {
            terminal.take_back(true);
        }
        if !self.is_done {
            self.tell(News::Done);
        }
        self.is_done = true;
    }

    /// One who has ended hears nothing, and a few words always fit.
    fn tell(&mut self, news: News) {
        if let Some(run) = &mut self.run {
            let _ = run.write_all(&news.encode());
        }
    }
}

/// By way of a process of ours, which lets the signals through that are blocked here, and becomes the command.
fn spawn(start: &Start, stdin: Option<OwnedFd>) -> io::Result<Pid> {
    let mut command = Command::new(this_program()?);
    command.arg(BECOME).arg(if start.is_quiet { QUIETLY } else { "--" }).args(&start.command);
    if let Some(group) = start.group {
        command.process_group(group.as_raw_pid());
    }
    command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
    Ok(Pid::from_child(&command.spawn()?))
}

/// A real-time signal, for which there is no name and no safe call: by the shell's.
fn send_unnamed(number: i32, target: i32) {
    let script = format!("kill -{number} {target}");
    // It is waited for with all the others.
    let _ = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::null()).spawn();
}

/// Programs whose work is done by others, who live on when these are ended.
const ELSEWHERE: [&str; 11] = [
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
/// How long what the command leaves may take to end by itself before it is asked to: who reads from it sees its end
/// first. In nanoseconds.
const LINGER: u64 = 200_000_000;
/// Waits stop in suspend, so the clock is looked at now and then.
const LOOK: Duration = Duration::from_millis(250);
/// Between two looks at whether all is dead.
const DEATH: Duration = Duration::from_millis(2);
