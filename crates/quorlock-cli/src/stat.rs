//! Parses `/proc/PID/stat`.

use std::fs;

pub(crate) struct ProcessStat {
    /// The name of its program.
    pub(crate) name: String,
    pub(crate) parent: i32,
    /// Its start time, in ticks since the boot. The same pid with another start time is another process.
    pub(crate) began: u64,
    /// Whether the process has ended and was not reaped.
    pub(crate) has_ended: bool,
}

/// Reads the process with this number, or this one as `self`.
pub(crate) fn of(process: &str) -> Option<ProcessStat> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name is in brackets and may contain any character.
    let (head, rest) = stat.rsplit_once(") ")?;
    let name = head.split_once(" (")?.1;
    // The third field of the line is the first here.
    let fields: Vec<&str> = rest.split(' ').collect();
    // If other threads run, only its main thread has ended.
    let has_ended = matches!(*fields.first()?, "Z" | "X" | "x") && matches!(*fields.get(17)?, "0" | "1");
    Some(ProcessStat {
        // Control characters must not reach a terminal.
        name: name.chars().map(|char| if char.is_control() { '?' } else { char }).collect(),
        parent: fields.get(1)?.parse().ok()?,
        began: fields.get(19)?.parse().ok()?,
        has_ended,
    })
}
