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
    session_of(None) == Some(getpid())
}

/// Whether the group is the one in which the session began: no shell there is above it, that sees it stop.
pub(crate) fn is_first_of_session() -> bool {
    session_of(None).is_none() || session_of(None) == group_of(None)
}

/// The session of a process; ours, if none is named.
pub(crate) fn session_of(pid: Option<Pid>) -> Option<Pid> {
    let pid = pid.map(|pid| Number::from_raw(pid.as_raw_pid()));
    Pid::from_raw(unistd::getsid(pid).ok()?.as_raw())
}
