//! Process groups and sessions of processes. A group from outside the container has no number here.

use nix::unistd::{self, Pid as Number};
use rustix::process::{Pid, getpid};

/// The group of a process; without a pid, of this process.
pub(crate) fn group_of(pid: Option<Pid>) -> Option<Pid> {
    let pid = pid.map(|pid| Number::from_raw(pid.as_raw_pid()));
    Pid::from_raw(unistd::getpgid(pid).ok()?.as_raw())
}

/// Whether this process leads its session.
pub(crate) fn is_session_leader() -> bool {
    session() == Some(getpid())
}

/// Whether this group is the first of its session: then no shell above it can see it stop.
pub(crate) fn is_first_of_session() -> bool {
    session().is_none() || session() == group_of(None)
}

fn session() -> Option<Pid> {
    Pid::from_raw(unistd::getsid(None).ok()?.as_raw())
}
