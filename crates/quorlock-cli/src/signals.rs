//! Reads signals from a file descriptor: all signals that can be blocked are blocked (signalfd on Linux).
//!
//! So only KILL and STOP end or stop this process, each signal is read with its origin, and its default
//! action is taken explicitly: [`die_of`], [`Signals::stop_own_group`].

pub(crate) mod handled;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::signal::{SigSet, Signal as Blockable};
use rustix::process::{
    Resource, Rlimit, Signal, getpid, kill_current_process_group, kill_process, setrlimit,
};
use tokio::io::unix::AsyncFd;

use source::Source;

/// A signal that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caught {
    pub(crate) number: i32,
    /// Whether the signal came from the kernel. A terminal signal from the kernel was typed there.
    pub(crate) is_typed: bool,
}

impl Caught {
    /// Whether it is a signal by which people and supervisors end a process.
    pub(crate) fn ends_process(self) -> bool {
        Signal::from_named_raw(self.number).is_some_and(ends_process)
    }

    pub(crate) fn is(self, signal: Signal) -> bool {
        signal.as_raw() == self.number
    }
}

/// Blocked signals, and the file descriptor to read them from.
pub(crate) struct Blocked {
    source: Source,
    ignored: u64,
}

impl Blocked {
    /// Blocks all in this thread, and in the threads and processes that it starts.
    pub(crate) fn all() -> io::Result<Self> {
        Self::all_except(&[])
    }

    fn all_except(exceptions: &[Blockable]) -> io::Result<Self> {
        let mut set = SigSet::all();
        FAULTS.iter().chain(exceptions).for_each(|signal| set.remove(*signal));
        set.thread_set_mask()?;
        Ok(Self { source: Source::of(&set)?, ignored: ignored() })
    }

    /// The next pending signal. Skips signals that the parent process ignores: `nohup` must protect this
    /// process and its command from HUP.
    pub(crate) fn read(&self) -> Option<Caught> {
        loop {
            let caught = self.source.read()?;
            if !contains_signal(caught.number, self.ignored) {
                return Some(caught);
            }
        }
    }
}

impl AsFd for Blocked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl AsRawFd for Blocked {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// The signals sent to this process, most of which are for the command.
pub(crate) struct Signals {
    blocked: AsyncFd<Blocked>,
    /// Read while searching for another signal.
    queued: VecDeque<Caught>,
}

impl Signals {
    /// Starts listening. Running threads are not covered. Child processes start with all signals blocked.
    pub(crate) fn listen() -> io::Result<Self> {
        Self::of(Blocked::all_except(&[Blockable::SIGCHLD])?)
    }

    #[allow(
        deprecated,
        reason = "its replacement needs unsafe code; `AsyncFd` owns the file as long as it is registered"
    )]
    fn of(blocked: Blocked) -> io::Result<Self> {
        Ok(Self { blocked: AsyncFd::new(blocked)?, queued: VecDeque::new() })
    }

    /// The next signal.
    ///
    /// # Cancel safety
    ///
    /// None is lost.
    pub(crate) async fn next(&mut self) -> Caught {
        loop {
            if let Some(caught) = self.try_next() {
                return caught;
            }
            match self.blocked.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// The next signal, if one waits.
    pub(crate) fn try_next(&mut self) -> Option<Caught> {
        self.queued.pop_front().or_else(|| self.blocked.get_ref().read())
    }

    /// Whether the parent process ignores this signal.
    pub(crate) fn ignores(&self, signal: Signal) -> bool {
        contains_signal(signal.as_raw(), self.blocked.get_ref().ignored)
    }

    /// Stops this process and its group as the terminal would. Returns true after it was continued; false if
    /// nothing stopped it, because no shell could continue it, or the signal is ignored.
    pub(crate) fn stop_own_group(&mut self, signal: Signal) -> bool {
        // An earlier CONT does not count.
        self.queue_pending();
        let before = self.queued.len();
        let _ = kill_current_process_group(signal);
        take_default_action(signal);
        let is_stop =
            |caught: &Caught| [Signal::TSTP, Signal::TTIN, Signal::TTOU].iter().any(|stop| caught.is(*stop));
        // A later stop discards the pending CONT.
        let went_on = self.queue_pending() || self.queued.iter().skip(before).any(is_stop);
        if went_on {
            // As the kernel does: a continued process discards earlier stops.
            let after = self.queued.split_off(before);
            self.queued.retain(|caught| !is_stop(caught));
            self.queued.extend(after);
        }
        went_on
    }

    /// Reads all pending signals. Returns whether CONT was among them.
    fn queue_pending(&mut self) -> bool {
        let mut was_continued = false;
        while let Some(caught) = self.blocked.get_ref().read() {
            if caught.is(Signal::CONT) {
                was_continued = true;
            } else {
                self.queued.push_back(caught);
            }
        }
        was_continued
    }
}

/// The signals by which people and supervisors end a process.
pub(crate) fn ends_process(signal: Signal) -> bool {
    matches!(signal, Signal::HUP | Signal::INT | Signal::QUIT | Signal::TERM)
}

/// Ends this process by a signal, if that ends it. A shell leaves its loop if a child dies of INT, but not
/// for an exit code.
pub(crate) fn die_of(signal: Signal) {
    // No core dump of this process: the command may have left one.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = kill_process(getpid(), signal);
    take_default_action(signal);
}

/// Takes the default action of a pending signal.
fn take_default_action(signal: Signal) {
    if let Ok(signal) = Blockable::try_from(signal.as_raw()) {
        let only = SigSet::from(signal);
        let _ = only.thread_unblock().and_then(|()| only.thread_block());
    }
}

/// Unblocks all signals, also those that the parent process had blocked.
pub(crate) fn unblock() {
    let _ = SigSet::empty().thread_set_mask();
}

/// Whether a set has this signal: bit n - 1 for signal n.
fn contains_signal(number: i32, set: u64) -> bool {
    set & (1 << (number - 1)) != 0
}

/// The ignored signals. The system call takes unsafe code, so Linux's /proc is read. Elsewhere none count as
/// ignored. SIGPIPE is always among them: the Rust runtime ignores it.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(target_os = "linux")]
mod source {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd};

    use nix::sys::signal::SigSet;
    use nix::sys::signalfd::{SfdFlags, SignalFd};

    use super::Caught;

    pub(super) struct Source(SignalFd);

    impl Source {
        pub(super) fn of(set: &SigSet) -> io::Result<Self> {
            Ok(Self(SignalFd::with_flags(set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
        }

        pub(super) fn read(&self) -> Option<Caught> {
            let info = self.0.read_signal().ok().flatten()?;
            // Signals from the kernel have positive codes.
            Some(Caught { number: info.ssi_signo as i32, is_typed: info.ssi_code > 0 })
        }
    }

    impl AsFd for Source {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

/// A thread that waits for signals, and a pipe. Their origin is unknown: they count as typed if a terminal
/// sends such signals, and this group is in the foreground.
#[cfg(not(target_os = "linux"))]
mod source {
    use std::io::{self, Read, Write};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use nix::sys::signal::SigSet;

    use super::Caught;
    use crate::run::terminal::sends_to_own_group;

    pub(super) struct Source(UnixStream);

    impl Source {
        pub(super) fn of(set: &SigSet) -> io::Result<Self> {
            let (ours, mut theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let set = *set;
            thread::Builder::new().name("signals".to_owned()).spawn(move || {
                while let Ok(signal) = set.wait() {
                    if theirs.write_all(&[signal as i32 as u8]).is_err() {
                        break;
                    }
                }
            })?;
            Ok(Self(ours))
        }

        pub(super) fn read(&self) -> Option<Caught> {
            let mut byte = [0];
            (&self.0).read_exact(&mut byte).ok()?;
            let number = i32::from(byte[0]);
            Some(Caught { number, is_typed: sends_to_own_group(number) })
        }
    }

    impl AsFd for Source {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

/// Signals of faults. They are for the faulting thread, and end the process even if blocked.
const FAULTS: [Blockable; 7] = [
    Blockable::SIGABRT,
    Blockable::SIGBUS,
    Blockable::SIGFPE,
    Blockable::SIGILL,
    Blockable::SIGSEGV,
    Blockable::SIGSYS,
    Blockable::SIGTRAP,
];
