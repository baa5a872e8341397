//! Finds all descendants of a process, in any group or session.
//!
//! On Linux, descendants are found by their parents: an orphan becomes a child of the nearest subreaper above
//! it, so no process leaves the tree. On other systems none are found, and only the group is ended.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::stat::{self, ProcessStat};

/// A living process, not a zombie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    parent: i32,
    /// The name of its program.
    pub(crate) name: String,
    /// Its start time: the same pid with another start time is another process.
    began: u64,
}

impl Process {
    /// Sends a signal, unless another process has the pid by now.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        #[cfg(target_os = "linux")]
        if let Ok(handle) = pidfd_open(self.pid, PidfdFlags::empty()) {
            // The pidfd is of the process that has the pid now. Its start time shows whether it is the same.
            if read(self.pid).is_none_or(|now| now.began != self.began) {
                return Ok(());
            }
            return ignore_missing(pidfd_send_signal(handle, signal));
        }
        ignore_missing(kill_process(self.pid, signal))
    }

    /// The process with this pid, with a general name if it cannot be read.
    pub(crate) fn read_or_placeholder(pid: Pid) -> Self {
        let unknown = || Self { pid, parent: 0, name: "the command".to_owned(), began: 0 };
        read(pid).unwrap_or_else(unknown)
    }

    /// Its pid and start time, together unique.
    pub(crate) fn id(&self) -> (i32, u64) {
        (self.pid.as_raw_pid(), self.began)
    }

    /// Whether this process may send signals to it. False for another user's process.
    pub(crate) fn can_be_signaled(&self) -> bool {
        test_kill_process(self.pid) != Err(Errno::PERM)
    }
}

/// All living descendants, parents before children.
///
/// A process that ends during a scan hides its children until they have another parent. So the scan is
/// repeated while it finds ended processes that the last one did not.
pub(crate) fn of(root: Pid) -> Vec<Process> {
    let mut ended_before = BTreeSet::new();
    loop {
        let (found, ended) = scan(root);
        if ended.is_subset(&ended_before) {
            return found;
        }
        ended_before.extend(ended);
    }
}

/// The living descendants, and the pids of those that have ended.
fn scan(root: Pid) -> (Vec<Process>, BTreeSet<i32>) {
    let mut table = None;
    let (mut found, mut ended): (Vec<Process>, _) = (Vec::new(), BTreeSet::new());
    let mut next = 0;
    let mut parent = root;
    loop {
        // A kernel without lists of children: read all processes, once.
        let children = children(parent).unwrap_or_else(|| {
            let table = table.get_or_insert_with(all);
            table.iter().filter(|it| it.parent == parent.as_raw_pid()).map(|it| it.pid).collect()
        });
        for pid in children {
            match read(pid) {
                Some(process) => found.push(process),
                None => drop(ended.insert(pid.as_raw_pid())),
            }
        }
        match found.get(next) {
            Some(process) => parent = process.pid,
            None => return (found, ended),
        }
        next += 1;
    }
}

/// The children, listed by the kernel for each thread. The list may miss some while others end, so callers
/// repeat until none is left.
fn children(pid: Pid) -> Option<Vec<Pid>> {
    let threads = match fs::read_dir(format!("/proc/{}/task", pid.as_raw_pid())) {
        Ok(threads) => threads,
        // The process has ended.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Vec::new()),
        Err(_) => return None,
    };
    let mut children = Vec::new();
    for thread in threads.filter_map(Result::ok) {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => {
                children.extend(list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && thread.path().exists() => return None,
            Err(_) => {}
        }
    }
    Some(children)
}

fn all() -> Vec<Process> {
    let listed = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    listed.filter_map(|entry| read(Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?)).collect()
}

/// Removes these processes and their descendants.
pub(crate) fn without(processes: Vec<Process>, left_out: &BTreeSet<(i32, u64)>) -> Vec<Process> {
    let mut parents = BTreeSet::new();
    let mut is_excluded_or_child = |it: &Process| {
        let is_excluded = left_out.contains(&it.id()) || parents.contains(&it.parent);
        if is_excluded {
            parents.insert(it.pid.as_raw_pid());
        }
        is_excluded
    };
    processes.into_iter().filter(|it| !is_excluded_or_child(it)).collect()
}

/// A summary for people: the count, and a few names with pids.
pub(crate) fn summary(processes: &[Process]) -> String {
    let names = processes.iter().take(SHOWN).map(|it| format!("{} {}", it.name, it.pid.as_raw_pid()));
    let names = names.collect::<Vec<_>>().join(", ");
    match processes.len() {
        1 => format!("1 process ({names})"),
        count if count <= SHOWN => format!("{count} processes ({names})"),
        count => format!("{count} processes ({names} and {} more)", count - SHOWN),
    }
}

/// Reads a process; none if it has ended.
fn read(pid: Pid) -> Option<Process> {
    let ProcessStat { name, parent, began, has_ended } = stat::of(&pid.as_raw_pid().to_string())?;
    (!has_ended).then_some(Process { pid, parent, name, began })
}

fn ignore_missing(sent: Result<(), Errno>) -> Result<(), Errno> {
    if sent == Err(Errno::SRCH) { Ok(()) } else { sent }
}

const SHOWN: usize = 5;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::process::getpid;

    use super::*;

    #[test]
    fn all_living_descendants_are_found_and_no_ended_ones() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 600 & echo ready; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = [0; 6];
        io::Read::read_exact(shell.stdout.as_mut().expect("a pipe"), &mut line).expect("a line");
        // The child is a second `sh` until it has executed `sleep`.
        while of(Pid::from_child(&shell)).iter().any(|it| it.name == "sh") {
            std::thread::yield_now();
        }
        let own_descendants = of(getpid());
        let descendants = of(Pid::from_child(&shell));
        assert_eq!(descendants.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["sleep"]);
        assert!(descendants.iter().all(|it| own_descendants.contains(it)), "{own_descendants:?}");
        assert_eq!(summary(&descendants), format!("1 process (sleep {})", descendants[0].pid.as_raw_pid()));
        assert_eq!(all().iter().filter(|it| it.parent == shell.id() as i32).count(), 1);
        for process in
            descendants.iter().chain(own_descendants.iter().filter(|it| it.pid == Pid::from_child(&shell)))
        {
            process.signal(Signal::KILL).expect("a signal");
        }
        // Not reaped yet, so it is a zombie and does not count.
        while of(getpid()).iter().any(|it| it.pid == Pid::from_child(&shell)) {
            std::thread::yield_now();
        }
        shell.wait().expect("an end");
    }

    #[test]
    fn a_process_with_the_same_pid_and_another_start_time_gets_no_signal() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("a process");
        let found = read(Pid::from_child(&child)).expect("a process");
        let earlier = Process { began: found.began - 1, ..found.clone() };
        earlier.signal(Signal::KILL).expect("no error");
        assert_eq!(read(Pid::from_child(&child)), Some(found));
        child.kill().expect("a signal");
        child.wait().expect("an end");
    }
}
