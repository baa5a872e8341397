//! A watchdog process that cleans up if this process is killed.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A shell that reads from a pipe whose other end only this process has. When this process ends in any way,
/// the pipe closes. Then the watchdog kills the last process that it was given, and removes the folder.
///
/// A process id may be reused once its process was reaped. So the watchdog must forget a process *before*
/// that process is reaped, and it reads all its input before it acts.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    /// Present until the drop.
    stdin: Option<ChildStdin>,
}

impl Watchdog {
    pub(crate) fn for_folder(folder: &Path) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "quorlock-watchdog"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the terminal's process group: the watchdog must not be in it.
            .process_group(0)
            .spawn()?;
        let stdin = shell.stdin.take();
        Ok(Self { shell, stdin })
    }

    pub(crate) fn watch(&mut self, pid: u32) -> io::Result<()> {
        self.send(&format!("{pid}\n"))
    }

    /// Forgets the process, so that there is none to kill. If the write fails, the watchdog is dead and kills
    /// nothing.
    pub(crate) fn forget(&mut self) {
        let _ = self.send("\n");
    }

    fn send(&mut self, line: &str) -> io::Result<()> {
        self.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(line.as_bytes()))
    }
}

impl Drop for Watchdog {
    /// Closes the pipe, and waits until the watchdog has cleaned up.
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.shell.wait();
    }
}

/// `$1` is the folder. The last line on stdin is the process id to kill, or empty for none.
const SCRIPT: &str = r#"
    trap '' HUP INT TERM
    pid=
    while read -r line; do pid=$line; done
    [ -z "$pid" ] || kill -9 "$pid"
    rm -rf -- "$1"
"#;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn it_kills_only_the_last_process_that_was_not_forgotten() {
        let folder = tempfile::tempdir().expect("a temp folder");
        let mut children: Vec<Child> = (0..2)
            .map(|_| Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("a process"))
            .collect();
        for child in &children {
            let mut watchdog = Watchdog::for_folder(folder.path()).expect("a watchdog");
            watchdog.watch(child.id()).expect("a write");
            watchdog.forget();
        }
        let mut watchdog = Watchdog::for_folder(folder.path()).expect("a watchdog");
        for child in &children {
            assert!(rustix::process::test_kill_process(rustix::process::Pid::from_child(child)).is_ok());
            watchdog.watch(child.id()).expect("a write");
        }
        assert!(!fs::exists(folder.path()).expect("a status"), "the first drop removed the folder");
        drop(watchdog);
        assert_eq!(children[1].wait().expect("an end").signal(), Some(9));
        assert!(children[0].try_wait().expect("a status").is_none(), "only the last one is killed");
        children[0].kill().expect("a kill");
        children[0].wait().expect("an end");
    }
}
