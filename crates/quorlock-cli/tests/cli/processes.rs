//! Processes of the system, read from `/proc`.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A process as `/proc` showed it when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// The name of its program, at most 15 bytes.
    pub(crate) comm: String,
    /// `R`, `S`, `T` (stopped), `Z`, …
    pub(crate) state: char,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// The foreground group of its terminal.
    pub(crate) foreground: i32,
    /// Processor time used, in ticks of 10 ms.
    pub(crate) ticks: u64,
    /// Its start time: with the pid, this identifies the process.
    began: u64,
}

impl Process {
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, stat) = stat.split_once(" (")?;
        let (comm, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |field: usize| fields.get(field)?.parse::<i32>().ok();
        let count = |field: usize| fields.get(field)?.parse::<u64>().ok();
        Some(Self {
            pid,
            comm: comm.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: number(1)?,
            group: number(2)?,
            session: number(3)?,
            foreground: number(5)?,
            ticks: count(11)? + count(12)?,
            began: count(19)?,
        })
    }

    /// Whether it runs or is stopped. A zombie is not alive.
    pub(crate) fn is_alive(&self) -> bool {
        self.refreshed().is_some_and(|now| !matches!(now.state, 'Z' | 'X'))
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.refreshed().is_some_and(|now| now.state == 'T')
    }

    /// The same process, read again.
    pub(crate) fn refreshed(&self) -> Option<Self> {
        Self::of(self.pid).filter(|now| now.began == self.began)
    }

    pub(crate) fn send(&self, signal: Signal) {
        if let Some(pid) = self.refreshed().and_then(|now| Pid::from_raw(now.pid)) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Its command line, as `ps` shows it.
    pub(crate) fn command_line(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
    }

    /// Whether its environment has this entry, or its working directory is in this folder.
    pub(crate) fn is_of(&self, variable: &str, folder: &Path) -> bool {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        let working_directory = || fs::read_link(format!("/proc/{}/cwd", self.pid)).unwrap_or_default();
        self.is_alive()
            && (environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
                || working_directory().as_os_str().as_bytes().starts_with(folder.as_os_str().as_bytes()))
    }
}

/// All processes, zombies too.
pub(crate) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::of).collect()
}

/// The process and all its descendants, by parent pid.
pub(crate) fn process_tree(pid: i32) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = all.iter().filter(|process| process.pid == pid).cloned().collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.pid) {
        found.extend(all.iter().filter(|process| process.parent == parent).cloned());
        next += 1;
    }
    found
}

/// The reaper that belongs to this `run`.
pub(crate) fn reaper_of(run: i32) -> Option<Process> {
    let is_reaper = |process: &Process| {
        process.comm == "lock-reaper"
            || process.command_line().contains("__reap")
            || process.command_line().contains("reaper of")
    };
    process_tree(run).into_iter().find(|process| process.parent == run && is_reaper(process))
}

/// Kills the listed processes repeatedly, until the list is empty.
pub(crate) fn kill_all(list: impl Fn() -> Vec<Process>) {
    for _ in 0..200 {
        let alive = list();
        if alive.is_empty() {
            return;
        }
        for process in alive {
            process.send(Signal::KILL);
        }
        sleep(Duration::from_millis(5));
    }
}
