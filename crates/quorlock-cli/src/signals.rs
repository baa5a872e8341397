//! Signals as something to read: all that can be blocked are, and wait in a file.
//!
//! So no signal ends or stops this process but KILL and STOP, each is seen with where it came from, and the default of
//! one is a choice: [`die_of`], [`Signals::stop_ourselves`].

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
    /// It came from the system: of those that a terminal knows, because of what was typed there.
    pub(crate) is_typed: bool,
}

impl Caught {
    /// Whether it asks a process to end that does not say otherwise, and was meant to.
    pub(crate) fn ends(self) -> bool {
        Signal::from_named_raw(self.number).is_some_and(ends)
    }

    pub(crate) fn is(self, signal: Signal) -> bool {
        signal.as_raw() == self.number
    }
}

/// Blocked signals, and the file in which they wait.
pub(crate) struct Blocked {
    source: Source,
    ignored: u64,
}

impl Blocked {
    /// Blocks all in this thread, and in the threads and processes that it starts.
    pub(crate) fn all() -> io::Result<Self> {
        Self::but(&[])
    }

    fn but(left: &[Blockable]) -> io::Result<Self> {
        let mut set = SigSet::all();
        FAULTS.iter().chain(left).for_each(|signal| set.remove(*signal));
        set.thread_set_mask()?;
        Ok(Self { source: Source::of(&set)?, ignored: ignored() })
    }

    /// The next one that waits. Not one of those that the process which started us wants ignored: what `nohup` runs
    /// must not be ended by a hang-up, nor must its command.
    pub(crate) fn read(&self) -> Option<Caught> {
        loop {
            let caught = self.source.read()?;
            if !is_among(caught.number, self.ignored) {
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

/// The signals that others may send us, most of which mean what we run.
pub(crate) struct Signals {
    blocked: AsyncFd<Blocked>,
    /// Read while something else was looked for.
    kept: VecDeque<Caught>,
}

impl Signals {
    /// Listens from now on. Threads that run already are not covered, and processes that are started have all of them
    /// blocked, until they say otherwise.
    pub(crate) fn listen() -> io::Result<Self> {
        Self::of(Blocked::but(&[Blockable::SIGCHLD])?)
    }

    #[allow(
        deprecated,
        reason = "what replaces it takes unsafe code; the file is ours as long as it is registered"
    )]
    fn of(blocked: Blocked) -> io::Result<Self> {
        Ok(Self { blocked: AsyncFd::new(blocked)?, kept: VecDeque::new() })
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
        self.kept.pop_front().or_else(|| self.blocked.get_ref().read())
    }

    /// Whether the process that started us wants it ignored.
    pub(crate) fn ignores(&self, signal: Signal) -> bool {
        is_among(signal.as_raw(), self.blocked.get_ref().ignored)
    }

    /// Stops this process and its group as the terminal would. True when it went on after that; false where nothing
    /// stops us: where no shell could continue us, or the signal is ignored.
    pub(crate) fn stop_ourselves(&mut self, signal: Signal) -> bool {
        // A CONT of before tells nothing.
        self.keep_all();
        let before = self.kept.len();
        let _ = kill_current_process_group(signal);
        take(signal);
        let is_stop =
            |caught: &Caught| [Signal::TSTP, Signal::TTIN, Signal::TTOU].iter().any(|stop| caught.is(*stop));
        // A stop that comes after it takes the CONT away.
        let went_on = self.keep_all() || self.kept.iter().skip(before).any(is_stop);
        if went_on {
            // As the system does: what goes on is not to stop for what came before.
            let after = self.kept.split_off(before);
            self.kept.retain(|caught| !is_stop(caught));
            self.kept.extend(after);
        }
        went_on
    }

    /// Reads what waits, and whether CONT was among it.
    fn keep_all(&mut self) -> bool {
        let mut was_continued = false;
        while let Some(caught) = self.blocked.get_ref().read() {
            if caught.is(Signal::CONT) {
                was_continued = true;
            } else {
                self.kept.push_back(caught);
            }
        }
        was_continued
    }
}

/// The signals by which people and supervisors end a process.
pub(crate) fn ends(signal: Signal) -> bool {
    matches!(signal, Signal::HUP | Signal::INT | Signal::QUIT | Signal::TERM)
}

/// Ends this process by a signal, where that ends it: a shell that sees one die of INT leaves its loop, and does not for
/// an exit code.
pub(crate) fn die_of(signal: Signal) {
    // It is not we who are to be looked into.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = kill_process(getpid(), signal);
    take(signal);
}

/// Lets a signal that waits do what it does by default.
fn take(signal: Signal) {
    if let Ok(signal) = Blockable::try_from(signal.as_raw()) {
        let only = SigSet::from(signal);
        let _ = only.thread_unblock().and_then(|()| only.thread_block());
    }
}

/// Lets all signals through, whatever the process that started us had blocked.
pub(crate) fn unblock() {
    let _ = SigSet::empty().thread_set_mask();
}

/// Whether a set has this signal: bit n - 1 for signal n.
fn is_among(number: i32, set: u64) -> bool {
    set & (1 << (number - 1)) != 0
}

/// The ignored signals. Asking the system takes unsafe code; Linux also tells it in a file.
/// Elsewhere none are thought ignored. SIGPIPE is always among them: the Rust runtime ignores it.
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
            // The codes of what the system itself sends are positive.
            Some(Caught { number: info.ssi_signo as i32, is_typed: info.ssi_code > 0 })
        }
    }

    impl AsFd for Source {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

/// A thread that waits for them, and a pipe. Where they come from is not told: as from the terminal, if it is a kind that
/// a terminal sends and we are the ones it sends them to.
#[cfg(not(target_os = "linux"))]
mod source {
    use std::io::{self, Read, Write};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use nix::sys::signal::SigSet;

    use super::Caught;
    use crate::run::terminal::sends_to_us;

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
            Some(Caught { number, is_typed: sends_to_us(number) })
        }
    }

    impl AsFd for Source {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

/// They are of the thread that made the fault, and blocked they end the process all the same.
const FAULTS: [Blockable; 7] = [
    Blockable::SIGABRT,
    Blockable::SIGBUS,
    Blockable::SIGFPE,
    Blockable::SIGILL,
    Blockable::SIGSEGV,
    Blockable::SIGSYS,
    Blockable::SIGTRAP,
];
