//! The reaper process, which ends the command if `run` cannot: killed, frozen, or too late.
//!
//! The reaper runs between `run` and the command: it starts the command, waits for it, and reports to `run`. On
//! Linux the reaper is a subreaper, so that all descendants of the command stay below it, in any group or
//! session. The reaper leads a process group and blocks all signals, so that signals to the command's group or
//! to `run`'s group neither stop nor end it. (If the command stays in the orphaned group of a script, the reaper
//! is in that group too.)
//!
//! `run` sends it the time, on the boot clock, at which everything must be over. The end of the socket
//! between them means now.

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

use quorlock::LeaseDeadline;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

pub(crate) use descendants::{Process, of as descendants_of, summary, without};
pub(crate) use process::run_main_loop;
pub(crate) use wire::{ReaperEvent, ReaperOrder, StartOrder};

use wire::MessageBuffer;

/// `run`'s side of a reaper.
pub(crate) struct ReaperHandle {
    pub(crate) pid: Pid,
    /// Whether the reaper was reaped. Then another process may have its pid.
    pub(crate) has_ended: bool,
    socket: UnixStream,
    inbox: MessageBuffer,
}

impl ReaperHandle {
    /// Starts a reaper. The variables of `environment` are set or removed for the command. The reaper leads a
    /// new group, or with `shares_group` stays in this process's group.
    pub(crate) fn start(
        name: &str,
        environment: &[(&str, Option<String>)],
        shares_group: bool,
    ) -> io::Result<Self> {
        let (run_end, reaper_end) = Pair::pair()?;
        let mut program = Command::new(this_program()?);
        program.arg0(format!("{ARG0_PREFIX}{name:?}"));
        if !shares_group {
            program.process_group(0);
        }
        program.stdin(Stdio::from(OwnedFd::from(reaper_end)));
        for (name, value) in environment {
            match value {
                Some(value) => program.env(name, value),
                None => program.env_remove(name),
            };
        }
        let pid = Pid::from_child(&program.spawn()?);
        run_end.set_nonblocking(true)?;
        Ok(Self {
            pid,
            has_ended: false,
            socket: UnixStream::from_std(run_end)?,
            inbox: MessageBuffer::default(),
        })
    }

    /// Sends the start order, with the stdin of this process.
    pub(crate) async fn send_start(&mut self, start: StartOrder) -> io::Result<()> {
        let bytes = ReaperOrder::Start(start).encode();
        let (first, rest) = bytes.split_at(1);
        let stdin = io::stdin();
        let files = [stdin.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
        // The socket is still empty.
        sendmsg(&self.socket, &[IoSlice::new(first)], &mut ancillary, SendFlags::empty())?;
        self.socket.write_all(rest).await
    }

    /// Sends an order. The order is dropped if the socket is full, because the reaper is stopped. When the reaper
    /// continues, it acts on the last kill time it received.
    pub(crate) fn send(&self, order: ReaperOrder) {
        let _ = self.socket.try_write(&order.encode());
    }

    /// The next event; none once the reaper has ended.
    ///
    /// # Cancel safety
    ///
    /// No event is lost.
    pub(crate) async fn next_event(&mut self) -> Option<ReaperEvent> {
        loop {
            if let Some(fields) = self.inbox.next() {
                return ReaperEvent::decode(fields);
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

impl Drop for ReaperHandle {
    /// Closes the socket and reaps the reaper, so that no zombie stays.
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        while !self.has_ended {
            let _ = kill_process(self.pid, Signal::CONT);
            let status = waitpid(Some(self.pid), WaitOptions::UNTRACED);
            self.has_ended = !matches!(status, Ok(Some((_, status))) if status.stopped());
        }
    }
}

/// Makes a process group that the command can join without leading it. A group leader may not start a
/// session, so `setsid` would fork a child and not wait for it. The group's first member, its anchor, ends at
/// once. Until the anchor is reaped, no other group can have its pid as a number.
pub(crate) fn new_group() -> io::Result<Pid> {
    let mut anchor = Command::new(this_program()?);
    anchor.arg(ANCHOR).process_group(0).env_clear();
    anchor.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Pid::from_child(&anchor.spawn()?))
}

/// Checks, before a lock is acquired, that /proc shows the processes that the reaper must see.
pub(crate) fn check() -> Result<(), String> {
    let own_link = std::fs::read_link("/proc/self").ok();
    match own_link.as_deref().and_then(Path::to_str) {
        _ if !cfg!(target_os = "linux") => Ok(()),
        None => Err("processes cannot be listed: /proc is missing; mount it".to_owned()),
        Some(number) if number == std::process::id().to_string() => Ok(()),
        Some(_) => {
            Err("processes cannot be listed: /proc is of another PID namespace; mount this one's (`unshare --mount-proc`)".to_owned())
        }
    }
}

/// The path of this program. On Linux it stays valid after an upgrade replaces the file.
pub(crate) fn this_program() -> io::Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if link.exists() { Ok(link.to_owned()) } else { std::env::current_exe() }
}

/// The current time on the boot clock, on which leases count, in nanoseconds.
pub(crate) fn boot_nanos() -> u64 {
    LeaseDeadline::boot_time_now().as_nanos() as u64
}

/// The start of a reaper's argument 0, by which this program recognizes that it is a reaper. The lock's name
/// follows. `ps` shows both.
pub(crate) const ARG0_PREFIX: &str = "quorlock: reaper of ";
/// The first argument of a helper process that becomes the command.
pub(crate) const BECOME: &str = "__become";
/// The second argument of that helper process, if the command is to print nothing when it cannot be executed.
pub(crate) const QUIETLY: &str = "-q";
/// The first argument of a helper process that anchors a group (see [`new_group`]).
pub(crate) const ANCHOR: &str = "__anchor";
