//! `/proc/PID/stat`: what the system tells of a process in one line.

use std::fs;

pub(crate) struct Stat {
    /// What its program is called.
    pub(crate) name: String,
    pub(crate) parent: i32,
    /// When it began, in ticks since the boot: the same number with another beginning is another process.
    pub(crate) began: u64,
    /// It has ended and was not waited for.
    pub(crate) has_ended: bool,
}

/// Of a process by its number, or of this one as `self`.
pub(crate) fn of(process: &str) -> Option<Stat> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name stands in brackets and may hold anything.
    let (head, rest) = stat.rsplit_once(") ")?;
    let name = head.split_once(" (")?.1;
    // The third field of the line is the first here.
    let fields: Vec<&str> = rest.split(' ').collect();
    // While other threads run, it only looks dead.
    let has_ended = matches!(*fields.first()?, "Z" | "X" | "x") && matches!(*fields.get(17)?, "0" | "1");
    Some(Stat {
        // It goes to a terminal.
        name: name.chars().map(|char| if char.is_control() { '?' } else { char }).collect(),
        parent: fields.get(1)?.parse().ok()?,
        began: fields.get(19)?.parse().ok()?,
        has_ended,
    })
}
