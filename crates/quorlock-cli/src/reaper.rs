//! The one who ends the command when `run` cannot: killed, frozen, or too late.
//!
//! It is a process between `run` and the command: it starts the command, waits for it, and tells `run` what becomes of
//! it. On Linux it is a subreaper, so that whatever the command starts stays below it, in whatever group or session. It
//! is in a process group of its own with all signals blocked, so that no signal to the command's group or to `run`'s
//! stops or ends it. (But for a command that stays in the group of a script which no shell is above of: then it is in that
//! too.) `run` tells it the moment, by the boot clock, at which everything must be over; the end of the
//! socket between them means now.

mod descendants;
mod process;
mod wire;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Pair;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

pub(crate) use descendants::{Process, of as descendants_of, summary, without};
pub(crate) use process::reap;
pub(crate) use wire::{ReaperCommand, ReaperEvent, StartCommand};

use wire::MessageBuffer;

/// `run`'s side of a reaper.
pub(crate) struct Reaper {
    pub(crate) pid: Pid,
    /// It was waited for, and its number may be another's.
    pub(crate) has_ended: bool,
    socket: UnixStream,
    inbox: MessageBuffer,
}

impl Reaper {
    /// Starts one. The command that it will start has these variables in its environment, or has not.
    /// It is in a group of its own, unless it is to stay in ours with the command.
    pub(crate) fn start(
        name: &str,
        environment: &[(&str, Option<String>)],
        hands_on_group: bool,
    ) -> io::Result<Self> {
        let (ours, theirs) = Pair::pair()?;
        let mut command = Command::new(this_program()?);
        command.arg0(format!("{REAPER_OF}{name:?}"));
        if !hands_on_group {
            command.process_group(0);
        }
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let pid = Pid::from_child(&command.spawn()?);
        ours.set_nonblocking(true)?;
        Ok(Self {
            pid,
            has_ended: false,
            socket: UnixStream::from_std(ours)?,
            inbox: MessageBuffer::default(),
        })
    }

    /// Makes it start the command, with our stdin.
    pub(crate) async fn send_start(&mut self, start: StartCommand) -> io::Result<()> {
        let bytes = ReaperCommand::Start(start).encode();
        let (first, rest) = bytes.split_at(1);
        let stdin = io::stdin();
        let files = [stdin.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
        // The socket is empty as yet.
        sendmsg(&self.socket, &[IoSlice::new(first)], &mut ancillary, SendFlags::empty())?;
        self.socket.write_all(rest).await
    }

    /// What does not fit, because the reaper was stopped and hears nothing, is not said: it goes by what it heard last.
    pub(crate) fn send(&self, order: ReaperCommand) {
        let _ = self.socket.try_write(&order.encode());
    }

    /// What it tells next; nothing once it has ended.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(crate) async fn next_event(&mut self) -> Option<ReaperEvent> {
        loop {
            if let Some(words) = self.inbox.next() {
                return ReaperEvent::decode(words);
            }
            self.socket.readable().await.ok()?;
            let mut bytes = [0; 4096];
            match self.socket.try_read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.inbox.extend(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Reaper {
    /// Waits for its end, which has come or comes now: what nobody waits for stays in the list of processes.
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        while !self.has_ended {
            let _ = kill_process(self.pid, Signal::CONT);
            let status = waitpid(Some(self.pid), WaitOptions::UNTRACED);
            self.has_ended = !matches!(status, Ok(Some((_, status))) if status.stopped());
        }
    }
}

/// A process group that the command can join without leading it: one that leads a group may not begin a session, and
/// `setsid` then leaves its work to a child that it does not wait for. Its first member ends at once, and the number stays
/// taken until it is waited for.
pub(crate) fn new_group() -> io::Result<Pid> {
    let mut command = Command::new(this_program()?);
    command.arg(ANCHOR).process_group(0).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Pid::from_child(&command.spawn()?))
}

/// Whether the processes of this system can be seen, as the reaper must see them. Asked before a lock is taken.
pub(crate) fn check() -> Result<(), String> {
    let seen = std::fs::read_link("/proc/self").ok();
    match seen.as_deref().and_then(Path::to_str) {
        _ if !cfg!(target_os = "linux") => Ok(()),
        None => Err("there is no /proc, by which processes are found: mount it".to_owned()),
        Some(number) if number == std::process::id().to_string() => Ok(()),
        Some(_) => {
            Err("/proc is that of another PID namespace: mount ours (`unshare --mount-proc`)".to_owned())
        }
    }
}

/// On Linux by a name that stays good when an upgrade has replaced the file.
pub(crate) fn this_program() -> io::Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if link.exists() { Ok(link.to_owned()) } else { std::env::current_exe() }
}

/// Now, by the clock that `DualTimestamp::boot_nanos` counts on.
pub(crate) fn boot_nanos() -> u64 {
    let now = clock_gettime(BOOT);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const BOOT: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const BOOT: ClockId = ClockId::Monotonic;

/// What a reaper is called, and so known by: the lock's name follows, and no argument, for people to see in `ps`.
pub(crate) const REAPER_OF: &str = "quorlock: reaper of ";
/// What the program is called with to become the command, and to be the first of a group.
pub(crate) const BECOME: &str = "__become";
pub(crate) const QUIETLY: &str = "-q";
pub(crate) const ANCHOR: &str = "__anchor";
