//! The terminal we were started from: lent to the command's process group as a shell does, and taken back.
//!
//! Who uses it while another group has it is stopped by the system. So we do it with the signals that stop blocked
//! (see [`crate::signals`]), which the system takes for leave.

use std::fs::{File, OpenOptions};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

use crate::groups::group_of;

pub(crate) struct Terminal {
    tty: File,
    /// As they were before.
    modes: Termios,
    /// Our process group.
    ours: Pid,
    /// The one that has it from us. Ours, if none has.
    borrower: Pid,
}

impl Terminal {
    /// Our controlling terminal, if there is one. Nothing is done with it yet.
    pub(crate) fn open() -> Option<Self> {
        Self::open_for(group_of(None)?)
    }

    /// For a process of this group.
    pub(crate) fn open_for(ours: Pid) -> Option<Self> {
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
        let modes = tcgetattr(&tty).ok()?;
        Some(Self { tty, modes, ours, borrower: ours })
    }

    /// Whether what is typed goes to our group.
    pub(crate) fn is_ours(&self) -> bool {
        self.foreground() == Some(self.ours)
    }

    /// Whether another group has it from us.
    pub(crate) fn is_lent(&self) -> bool {
        self.borrower != self.ours && self.foreground() == Some(self.borrower)
    }

    /// Gives it to that group, if it is ours to give. True if it has it now and did not before.
    pub(crate) fn lend(&mut self, group: Pid) -> bool {
        let is_ours = self.is_ours() || self.is_lent();
        if !is_ours || self.foreground() == Some(group) || tcsetpgrp(&self.tty, group).is_err() {
            return false;
        }
        self.borrower = group;
        true
    }

    /// Another process lends it to that group.
    pub(crate) fn is_lent_to(&mut self, group: Pid) {
        self.borrower = group;
    }

    /// Whether that group has it.
    pub(crate) fn is_with(&self, group: Pid) -> bool {
        self.foreground() == Some(group)
    }

    /// Whether it was lent and not taken back. The borrower may have lent it on, or a shell above us have it meanwhile.
    pub(crate) fn was_lent(&self) -> bool {
        self.borrower != self.ours
    }

    /// Takes it back from who has it from us, and has ended. The modes too, if that could not see to them itself.
    pub(crate) fn take_back(&mut self, with_modes: bool) {
        let has_gone = |group: Pid| test_kill_process_group(group) == Err(Errno::SRCH);
        if self.was_lent() && (self.is_lent() || self.foreground().is_some_and(has_gone)) {
            let _ = tcsetpgrp(&self.tty, self.ours);
        }
        self.borrower = self.ours;
        if with_modes && self.is_ours() {
            let _ = tcsetattr(&self.tty, OptionalActions::Now, &self.modes);
        }
    }

    fn foreground(&self) -> Option<Pid> {
        tcgetpgrp(&self.tty).ok()
    }
}

/// Takes the terminal for our group, if that one has it.
pub(crate) fn borrow_from(group: Pid) {
    if let Some(mut terminal) = Terminal::open_for(group)
        && let Some(ours) = group_of(None)
        && terminal.is_ours()
    {
        terminal.lend(ours);
    }
}

/// Whether we have a controlling terminal.
pub(crate) fn is_there() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether the terminal sends such signals, and to us.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sends_to_us(number: i32) -> bool {
    use rustix::process::Signal;
    let typed = [Signal::INT, Signal::QUIT, Signal::TSTP, Signal::WINCH];
    typed.iter().any(|signal| signal.as_raw() == number)
        && Terminal::open().is_some_and(|terminal| terminal.is_ours())
}
