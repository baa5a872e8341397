//! The reaper process itself: starts the command, waits for it, and ends all of its processes.

mod ending;
mod run_connection;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, getpid, getppid, wait};
#[cfg(not(target_os = "linux"))]
use rustix::process::{Signal, kill_process_group};

use super::wire::{ReaperEvent, ReaperOrder, StartOrder};
use super::{BECOME, QUIETLY, boot_nanos, this_program};
use crate::groups::group_of;
use crate::run::terminal::Terminal;
use crate::signals::Blocked;
use ending::UnkillableProcesses;
use run_connection::RunConnection;

/// Runs the reaper's main loop until all of the command's processes have ended and all events are written. A
/// reaper that cannot begin exits, and `run` sees the closed socket.
pub(crate) fn run_main_loop() -> u8 {
    Reaper::begin().map_or(crate::exit::SOFTWARE, |mut reaper| {
        while !reaper.is_done || reaper.connection.has_unwritten() {
            reaper.poll_once();
        }
        0
    })
}

struct Reaper {
    connection: RunConnection,
    signals: Blocked,
    alarm: Alarm,
    /// When to kill everything, on the boot clock.
    kill_time: u64,
    /// The time between TERM and KILL for leftovers, in nanoseconds.
    kill_after: u64,
    /// The command, until it is reaped.
    command: Option<UnreapedCommand>,
    stage: Stage,
    /// The terminal, which the reaper takes back if `run` has ended and cannot do so.
    terminal: Option<Terminal>,
    unkillable: UnkillableProcesses,
    /// Whether [`ReaperEvent::DelegatedWork`] was sent.
    delegated_work_reported: bool,
    /// Whether the kill time passed while processes were left.
    reached_kill_time: bool,
    /// Whether [`ReaperEvent::Done`] or [`ReaperEvent::Failed`] was queued for `run`.
    is_done: bool,
}

/// A command that runs, or has ended and was not reaped yet. Until then no other process can get its pid.
struct UnreapedCommand {
    pid: Pid,
    /// The command's own group, which gets all signals for the command. None if the command is in the group of
    /// `run`.
    group: Option<Pid>,
}

impl UnreapedCommand {
    /// The command's own group, unless the command has left it. A group that has a member cannot be another
    /// group with the same number.
    fn group_if_member(&self) -> Option<Pid> {
        self.group.filter(|_| group_of(Some(self.pid)) == self.group)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// The command runs, or was not started yet.
    Working,
    /// The command has ended. The leftovers have until this time to end by themselves.
    Leftovers { until: u64 },
    /// The leftovers got TERM, and have until this time to end.
    Terminating { until: u64 },
    /// All living processes were sent KILL. The next scan for survivors is after this pause.
    Killed { pause: Duration },
}

impl Reaper {
    fn begin() -> io::Result<Self> {
        let signals = Blocked::all()?;
        #[cfg(target_os = "linux")]
        {
            rustix::process::set_child_subreaper(Some(getpid()))?;
            rustix::thread::set_name(COMM_NAME)?;
        }
        Ok(Self {
            connection: RunConnection::on_stdin()?,
            signals,
            alarm: Alarm::new()?,
            kill_time: u64::MAX,
            kill_after: 0,
            command: None,
            stage: Stage::Working,
            // The terminal of `run`.
            terminal: getppid().and_then(|run| Terminal::open_for(group_of(Some(run))?)),
            unkillable: UnkillableProcesses::default(),
            delegated_work_reported: false,
            reached_kill_time: false,
            is_done: false,
        })
    }

    /// Waits for an event or a timer, and handles it.
    fn poll_once(&mut self) {
        self.sleep();
        // Ignore signals to the reaper, but empty the descriptor, so that `poll` waits. Signals for the command
        // come as orders.
        while self.signals.read().is_some() {}
        self.connection.write();
        self.handle_orders();
        self.wait_for_children();
        if self.is_done {
            return;
        }
        let now = boot_nanos();
        match self.stage {
            Stage::Killed { .. } => self.kill(),
            _ if self.kill_time <= now => {
                self.reached_kill_time = true;
                self.kill();
            }
            Stage::Leftovers { until } | Stage::Terminating { until } if now < until => {
                self.finish_if_only_unkillable_left();
            }
            Stage::Leftovers { .. } => self.terminate_leftovers(now),
            Stage::Terminating { .. } => self.kill(),
            Stage::Working => {}
        }
    }

    fn sleep(&self) {
        let next = match self.stage {
            Stage::Working => self.kill_time,
            Stage::Leftovers { until } | Stage::Terminating { until } => until.min(self.kill_time),
            Stage::Killed { pause } => boot_nanos() + pause.as_nanos() as u64,
        };
        self.alarm.set(next);
        let left = Duration::from_nanos(next.saturating_sub(boot_nanos())).min(LONGEST_SLEEP);
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut files = vec![PollFd::new(&self.signals, PollFlags::IN)];
        files.extend(self.connection.poll());
        files.extend(self.alarm.poll());
        let _ = poll(&mut files, Some(&timeout));
    }

    /// Executes the orders of `run`. If `run` has ended, kills everything.
    fn handle_orders(&mut self) {
        if !self.connection.read() {
            self.kill();
        }
        while let Some(order) = self.connection.next() {
            match order {
                ReaperOrder::Start(start) if self.connection.is_open() => self.start(&start),
                ReaperOrder::KillAt(time) => self.kill_time = time,
                ReaperOrder::Signal(number) => self.signal(number),
                ReaperOrder::Term => self.terminate(),
                // Without `run`, the command must not start.
                ReaperOrder::Start(_) | ReaperOrder::Kill => self.kill(),
            }
        }
    }

    fn start(&mut self, start: &StartOrder) {
        self.kill_time = start.kill_time;
        self.kill_after = start.kill_after;
        self.terminal = self.terminal.take().filter(|_| !start.is_shared);
        let stdin = self.connection.take_stdin();
        let failed = if start.kill_time <= boot_nanos() {
            ReaperEvent::Failed(None)
        } else {
            match spawn(start, stdin) {
                Ok(pid) => {
                    let group = start.group.unwrap_or(pid);
                    if let Some(terminal) = &mut self.terminal {
                        terminal.record_loan_to(group);
                    }
                    self.command = Some(UnreapedCommand { pid, group: (!start.is_shared).then_some(group) });
                    self.connection.send(ReaperEvent::Started(pid));
                    // Leave the working directory, so that its file system can be unmounted. The command has
                    // inherited it already.
                    let _ = rustix::process::chdir("/");
                    return;
                }
                Err(error) => ReaperEvent::Failed(Some(error.raw_os_error().unwrap_or_default())),
            }
        };
        self.connection.send(failed);
        self.is_done = true;
    }

    /// Reaps the command, and orphans that became children of the reaper.
    fn wait_for_children(&mut self) {
        loop {
            match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) => {
                    let Some(command) = self.command.take_if(|command| command.pid == pid) else { continue };
                    if let Some(signal) = status.stopping_signal() {
                        self.command = Some(command);
                        self.connection.send(ReaperEvent::Stopped(signal));
                        continue;
                    }
                    self.connection.send(ReaperEvent::Exited(status.as_raw()));
                    if self.stage == Stage::Working {
                        self.stage = Stage::Leftovers { until: boot_nanos() + LINGER };
                    }
                    // Where descendants cannot be found, kill the group: its number
                    // stays taken while it has members.
                    #[cfg(not(target_os = "linux"))]
                    let _ = command.group.map(|group| kill_process_group(group, Signal::KILL));
                }
                Err(Errno::CHILD) if self.stage != Stage::Working => {
                    self.finish();
                    break;
                }
                Ok(None) | Err(_) => break,
            }
        }
    }

    fn finish(&mut self) {
        if self.is_done {
            return;
        }
        if !self.connection.is_open()
            && let Some(terminal) = &mut self.terminal
        {
            terminal.take_back(true);
        }
        self.connection
            .send(ReaperEvent::Done { at: boot_nanos(), reached_kill_time: self.reached_kill_time });
        self.is_done = true;
    }
}

/// Starts a helper process that unblocks the signals and becomes the command (see `run::exec`).
fn spawn(start: &StartOrder, stdin: Option<OwnedFd>) -> io::Result<Pid> {
    let number = |pid: Option<Pid>| pid.map_or(0, Pid::as_raw_pid).to_string();
    let mut helper = Command::new(this_program()?);
    // Any word other than the quiet flag means not quiet.
    helper.arg(BECOME).arg(if start.is_quiet { QUIETLY } else { "--" });
    helper.arg(number(Some(getpid()))).arg(number(start.takes_terminal_from)).args(&start.command);
    match start.group {
        Some(group) => drop(helper.process_group(group.as_raw_pid())),
        None if start.is_shared => {}
        None => drop(helper.process_group(0)),
    }
    helper.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
    Ok(Pid::from_child(&helper.spawn()?))
}

/// A timer on the boot clock, which also runs while the machine is suspended. Other systems than Linux use
/// only the timeout of `poll`, which does not.
struct Alarm {
    #[cfg(target_os = "linux")]
    timer: OwnedFd,
}

#[cfg(target_os = "linux")]
impl Alarm {
    fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        Ok(Self { timer: timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)? })
    }

    fn set(&self, time: u64) {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, timerfd_settime};
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = Timespec { tv_sec: (time / SECOND) as i64, tv_nsec: (time % SECOND) as i64 };
        let at = Itimerspec { it_interval: never, it_value };
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &at);
    }

    #[allow(clippy::unnecessary_wraps, reason = "other systems have no timer")]
    fn poll(&self) -> Option<PollFd<'_>> {
        Some(PollFd::new(&self.timer, PollFlags::IN))
    }
}

#[cfg(not(target_os = "linux"))]
impl Alarm {
    #[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    fn set(&self, _: u64) {}

    fn poll(&self) -> Option<PollFd<'_>> {
        None
    }
}

/// The reaper's `comm` name, shown by `ps`. It is not the program's name, so that `pkill quorlock` leaves the
/// reaper alive.
#[cfg(target_os = "linux")]
const COMM_NAME: &std::ffi::CStr = c"lock-reaper";
/// The time for leftovers to end by themselves before they get TERM, in nanoseconds. A reader of a pipe, for
/// example, ends when it sees the end of the pipe.
const LINGER: u64 = 200_000_000;
#[cfg(target_os = "linux")]
const SECOND: u64 = 1_000_000_000;
/// The longest time without a check of the clock.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
