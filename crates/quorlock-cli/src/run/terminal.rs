//! The controlling terminal: lent to the command's process group as a shell does, and taken back.
//!
//! The kernel stops a process that uses the terminal from a background group, unless TTIN and TTOU are
//! blocked. In this program they are blocked (see [`crate::signals`]).

use std::fs::{File, OpenOptions};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

use crate::groups::group_of;

pub(crate) struct Terminal {
    tty: File,
    /// The modes before the command.
    modes: Termios,
    /// This process group.
    own_group: Pid,
    /// The group that has the terminal on loan, or this one.
    borrower: Pid,
}

impl Terminal {
    /// Opens the controlling terminal, if there is one, and changes nothing.
    pub(crate) fn open() -> Option<Self> {
        Self::open_for(group_of(None)?)
    }

    /// Opens the controlling terminal for a process of this group, if there is one.
    pub(crate) fn open_for(own_group: Pid) -> Option<Self> {
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
        let modes = tcgetattr(&tty).ok()?;
        Some(Self { tty, modes, own_group, borrower: own_group })
    }

    /// Whether this group is in the foreground.
    pub(crate) fn is_in_foreground(&self) -> bool {
        self.foreground() == Some(self.own_group)
    }

    /// Whether the borrower is in the foreground.
    pub(crate) fn is_lent(&self) -> bool {
        self.borrower != self.own_group && self.foreground() == Some(self.borrower)
    }

    /// Puts a group in the foreground, if this group or the borrower is there now. Returns whether the
    /// foreground group has changed.
    pub(crate) fn lend(&mut self, group: Pid) -> bool {
        let is_in_foreground = self.is_in_foreground() || self.is_lent();
        if !is_in_foreground || self.foreground() == Some(group) || tcsetpgrp(&self.tty, group).is_err() {
            return false;
        }
        self.borrower = group;
        true
    }

    /// Records that another process lent the terminal to that group.
    pub(crate) fn record_loan_to(&mut self, group: Pid) {
        self.borrower = group;
    }

    /// Whether that group is in the foreground.
    pub(crate) fn is_foreground_group(&self, group: Pid) -> bool {
        self.foreground() == Some(group)
    }

    /// Whether the terminal was lent and not taken back. The borrower may have lent it to a third group, or a
    /// shell may have it meanwhile.
    pub(crate) fn was_lent(&self) -> bool {
        self.borrower != self.own_group
    }

    /// Takes the terminal back from the borrower, or from a group that has ended. With `with_modes`, restores
    /// the modes too.
    pub(crate) fn take_back(&mut self, with_modes: bool) {
        let has_gone = |group: Pid| test_kill_process_group(group) == Err(Errno::SRCH);
        if self.was_lent() && (self.is_lent() || self.foreground().is_some_and(has_gone)) {
            let _ = tcsetpgrp(&self.tty, self.own_group);
        }
        self.borrower = self.own_group;
        if with_modes && self.is_in_foreground() {
            let _ = tcsetattr(&self.tty, OptionalActions::Now, &self.modes);
        }
    }

    fn foreground(&self) -> Option<Pid> {
        tcgetpgrp(&self.tty).ok()
    }
}

/// Takes the terminal for this group, if that group has it.
pub(crate) fn borrow_from(group: Pid) {
    if let Some(mut terminal) = Terminal::open_for(group)
        && let Some(own_group) = group_of(None)
        && terminal.is_in_foreground()
    {
        terminal.lend(own_group);
    }
}

/// Whether there is a controlling terminal.
pub(crate) fn is_there() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether the terminal sends this signal to this group.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sends_to_own_group(number: i32) -> bool {
    use rustix::process::Signal;
    let typed = [Signal::INT, Signal::QUIT, Signal::TSTP, Signal::WINCH];
    typed.iter().any(|signal| signal.as_raw() == number)
        && Terminal::open().is_some_and(|terminal| terminal.is_in_foreground())
}
