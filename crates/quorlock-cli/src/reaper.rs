//! The one who ends a group when `run` cannot: killed, stopped, or too late.
//!
//! It leads the process group that the command runs in, so the group's number stays taken as long as it lives, and it
//! cannot miss a child that was started a moment ago. It blocks on a pipe whose other end only `run` holds. What it
//! reads is the moment, by the boot clock, at which everything must be over; the end of the pipe means now.
//!
//! With `--foreground` the command is in no group of the reaper's, and is named to it right after its start.

use std::io::{self, BufRead, Read, Write};
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_current_process_group, kill_process};
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

use crate::exit::{self, Failure};

/// `run`'s side of a reaper.
pub(crate) struct Reaper {
    process: Child,
    /// The pipe: blocking and tiny lines, which always fit.
    orders: Option<std::process::ChildStdin>,
    pid: u32,
}

impl Reaper {
    /// Starts one; returns when it can be relied upon.
    pub(crate) fn start() -> io::Result<Self> {
        let mut command = std::process::Command::new(this_program()?);
        command.arg("__reap").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // It needs nothing of all that, and should hold on to no file system and no password.
        command.current_dir("/").env_clear();
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut command = Command::from(command);
        let mut process = command.spawn()?;
        let pid = process.id().unwrap_or_default();
        // Until it has said so, it is not deaf yet, and a TERM for the group would end it.
        if let Some(ready) = process.stdout.take() {
            let mut ready = std::fs::File::from(ready.into_owned_fd()?);
            ready.read_exact(&mut [0; READY.len()])?;
        }
        let orders = match process.stdin.take() {
            Some(pipe) => Some(std::process::ChildStdin::from(pipe.into_owned_fd()?)),
            None => None,
        };
        Ok(Self { process, orders, pid })
    }

    /// The group it leads.
    pub(crate) fn group(&self) -> u32 {
        self.pid
    }

    /// Everything must be over at this moment of the boot clock.
    pub(crate) fn end_at(&mut self, boot_nanos: u64) {
        self.tell(&format!("at {boot_nanos}\n"));
    }

    /// Makes it end this one process instead of its own group. The process must not have been waited for.
    pub(crate) fn end_only(&mut self, pid: u32) {
        self.tell(&format!("only {pid}\n"));
    }

    fn tell(&mut self, line: &str) {
        if let Some(orders) = &mut self.orders {
            // One who cannot hear us was killed with its group.
            let _ = orders.write_all(line.as_bytes());
        }
    }

    /// Lets it go without ending anybody.
    pub(crate) async fn dismiss(mut self) {
        let _ = self.process.kill().await;
    }

    /// Ends everything now, itself included.
    pub(crate) async fn end(mut self) {
        self.orders = None;
        let _ = self.process.wait().await;
    }
}

/// The reaper itself.
#[allow(clippy::unused_async, reason = "listening for signals needs the runtime")]
pub(crate) async fn reap() -> Result<u8, Failure> {
    // Signals for the group are not for us.
    let _deaf: Vec<Listener> =
        DEAF_TO.iter().filter_map(|kind| signal(SignalKind::from_raw(*kind)).ok()).collect();
    let said = io::stdout().write_all(READY).and_then(|()| io::stdout().flush());
    said.map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?;
    let (sender, orders) = channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Some(order) = line.ok().as_deref().and_then(Order::parse) else { break };
            if sender.send(order).is_err() {
                break;
            }
        }
    });
    let mut end_at = u64::MAX;
    let mut target = None;
    loop {
        let left = Duration::from_nanos(end_at.saturating_sub(boot_nanos()));
        match orders.recv_timeout(left.min(LOOK)) {
            Ok(Order::At(moment)) => end_at = moment,
            Ok(Order::Only(pid)) => target = Some(Target::of(pid)),
            Err(RecvTimeoutError::Timeout) if boot_nanos() < end_at => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    match target {
        Some(target) => target.kill(),
        // This ends us too.
        None => kill_current_process_group(Signal::KILL),
    }
    .map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?;
    Ok(0)
}

/// A line from `run`.
enum Order {
    /// Everything must be over at this moment of the boot clock.
    At(u64),
    /// It is only this process that must be.
    Only(Pid),
}

impl Order {
    fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ')? {
            ("at", moment) => moment.parse().ok().map(Self::At),
            ("only", pid) => pid.parse().ok().and_then(Pid::from_raw).map(Self::Only),
            _ => None,
        }
    }
}

/// The one process to end, held so that its number cannot pass to another meanwhile.
enum Target {
    #[cfg(target_os = "linux")]
    Handle(OwnedFd),
    Number(Pid),
}

impl Target {
    fn of(pid: Pid) -> Self {
        #[cfg(target_os = "linux")]
        if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) {
            return Self::Handle(handle);
        }
        Self::Number(pid)
    }

    fn kill(&self) -> rustix::io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Handle(handle) => pidfd_send_signal(handle, Signal::KILL),
            Self::Number(pid) => kill_process(*pid, Signal::KILL),
        }
    }
}

/// On Linux by a name that stays good when an upgrade has replaced the file.
pub(crate) fn this_program() -> io::Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if link.exists() { Ok(link.to_owned()) } else { std::env::current_exe() }
}

/// Now, by the clock that `Moment::boot_nanos` counts on.
pub(crate) fn boot_nanos() -> u64 {
    let now = clock_gettime(BOOT);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const BOOT: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const BOOT: ClockId = ClockId::Monotonic;

const READY: &[u8] = b"ready\n";
/// Waits stop in suspend, so the clock is looked at now and then.
const LOOK: Duration = Duration::from_millis(250);
/// HUP, INT, QUIT, USR1, USR2, TERM.
const DEAF_TO: [i32; 6] = [
    Signal::HUP.as_raw(),
    Signal::INT.as_raw(),
    Signal::QUIT.as_raw(),
    Signal::USR1.as_raw(),
    Signal::USR2.as_raw(),
    Signal::TERM.as_raw(),
];
