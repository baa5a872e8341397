//! Process groups and sessions by number, as far as they have one here: one from outside of a container has none.

use nix::unistd::{self, Pid as Number};
use rustix::process::{Pid, getpid};

/// The group of a process; ours, if none is named.
pub(crate) fn group_of(pid: Option<Pid>) -> Option<Pid> {
    let pid = pid.map(|pid| Number::from_raw(pid.as_raw_pid()));
    Pid::from_raw(unistd::getpgid(pid).ok()?.as_raw())
}

/// Whether we are the first process of our session.
pub(crate) fn leads_session() -> bool {
    session() == Some(getpid())
}

/// Whether the group is the one in which the session began: no shell there is above it, that sees it stop.
pub(crate) fn is_first_of_session() -> bool {
    session().is_none() || session() == group_of(None)
}

fn session() -> Option<Pid> {
    Pid::from_raw(unistd::getsid(None).ok()?.as_raw())
}
