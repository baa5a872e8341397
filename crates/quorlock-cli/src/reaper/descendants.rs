//! The processes that a process has started, and those that these have: whatever group or session they are in.
//!
//! On Linux they are found by their parents: a process whose parent has ended is given to the nearest subreaper above
//! it, so that nothing leaves the tree. Elsewhere nothing is found here, and only the group is ended.

use std::collections::BTreeMap;
use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

/// A living process: one that has ended and was not waited for does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    parent: i32,
    /// What its program is called.
    pub(crate) name: String,
    /// When it began: the same number with another beginning is another process.
    began: u64,
}

impl Process {
    /// Sends it a signal, if it is the one that was found.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        #[cfg(target_os = "linux")]
        if let Ok(handle) = pidfd_open(self.pid, PidfdFlags::empty()) {
            // The handle holds the process that has the number now; its beginning tells whether that is ours.
            if read(self.pid).is_none_or(|now| now.began != self.began) {
                return Ok(());
            }
            return gone_is_fine(pidfd_send_signal(handle, signal));
        }
        gone_is_fine(kill_process(self.pid, signal))
    }

    /// False if it is another user's.
    pub(crate) fn can_be_signalled(&self) -> bool {
        test_kill_process(self.pid) != Err(Errno::PERM)
    }
}

/// All that live, parents before their children.
pub(crate) fn of(root: Pid) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    let listed = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = listed.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    for process in pids.filter_map(read) {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut parents = vec![root.as_raw_pid()];
    while let Some(parent) = parents.pop() {
        for process in children.remove(&parent).into_iter().flatten() {
            parents.push(process.pid.as_raw_pid());
            found.push(process);
        }
    }
    found
}

/// In words: a few by name and number, and how many more.
pub(crate) fn in_words<'a>(processes: impl Iterator<Item = &'a Process>) -> String {
    let all: Vec<_> = processes.map(|it| format!("{} {}", it.name, it.pid.as_raw_pid())).collect();
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// As `/proc/PID/stat` has it. The name stands in brackets and may hold anything.
fn read(pid: Pid) -> Option<Process> {
    let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (head, rest) = stat.rsplit_once(") ")?;
    let name = head.split_once(" (")?.1;
    let fields: Vec<&str> = rest.split(' ').collect();
    // The third field of the line is the first here. While other threads run, it only looks dead.
    let is_dead = matches!(*fields.first()?, "Z" | "X" | "x") && matches!(*fields.get(17)?, "0" | "1");
    let process = Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        // It goes to a terminal.
        name: name.chars().map(|char| if char.is_control() { '?' } else { char }).collect(),
        began: fields.get(19)?.parse().ok()?,
    };
    (!is_dead).then_some(process)
}

fn gone_is_fine(sent: Result<(), Errno>) -> Result<(), Errno> {
    if sent == Err(Errno::SRCH) { Ok(()) } else { sent }
}

const SHOWN: usize = 5;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::process::getpid;

    use super::*;

    #[test]
    fn children_and_theirs_are_found_and_the_dead_are_not() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 600 & echo ready; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = [0; 6];
        std::io::Read::read_exact(shell.stdout.as_mut().expect("a pipe"), &mut line).expect("a line");
        let me = of(getpid());
        let family = of(Pid::from_child(&shell));
        assert_eq!(family.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["sleep"]);
        assert!(family.iter().all(|it| me.contains(it)), "{me:?}");
        assert_eq!(in_words(family.iter()), format!("sleep {}", family[0].pid.as_raw_pid()));
        for process in family.iter().chain(me.iter().filter(|it| it.pid == Pid::from_child(&shell))) {
            process.signal(Signal::KILL).expect("a signal");
        }
        // Not waited for yet, it is dead all the same.
        while of(getpid()).iter().any(|it| it.pid == Pid::from_child(&shell)) {
            std::thread::yield_now();
        }
        shell.wait().expect("an end");
    }

    #[test]
    fn a_process_that_has_the_number_of_another_gets_nothing() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("a process");
        let found = read(Pid::from_child(&child)).expect("a process");
        let before = Process { began: found.began - 1, ..found.clone() };
        before.signal(Signal::KILL).expect("no error");
        assert_eq!(read(Pid::from_child(&child)), Some(found));
        child.kill().expect("a signal");
        child.wait().expect("an end");
    }
}
