//! The last step on the way to the command: a process of ours that becomes it.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Pid, getppid};
#[cfg(target_os = "linux")]
use rustix::process::{Signal, set_parent_process_death_signal};

use super::terminal;
use crate::exit::{self, Failure};
use crate::reaper::QUIETLY;
use crate::signals;

/// Becomes it. Returns, with the exit code, if that cannot be.
///
/// The words are whether to be quiet, the reaper's number, the group to take the terminal from, and the command. As by a
/// shell, a file that is no program and names no interpreter is read by `sh`.
pub(crate) fn become_it(mut words: impl Iterator<Item = OsString>) -> u8 {
    let is_quiet = words.next().is_some_and(|word| word == QUIETLY);
    let mut pid = || Pid::from_raw(words.next()?.to_str()?.parse().ok()?);
    let (reaper, lender) = (pid(), pid());
    // If the reaper is killed, and `run` too, nothing else ends the command.
    #[cfg(target_os = "linux")]
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if getppid() != reaper {
        return exit::SOFTWARE;
    }
    // While signals are blocked: what is typed from now on waits until the command hears it.
    if let Some(lender) = lender {
        terminal::borrow_from(lender);
    }
    signals::unblock();
    let program = words.next().unwrap_or_default();
    let arguments: Vec<OsString> = words.collect();
    let mut error = Command::new(&program).args(&arguments).exec();
    if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) {
        error = Command::new("/bin/sh").arg(found(&program)).args(&arguments).exec();
    }
    let Failure { code, message: words } = exit::not_executed(&program, &error);
    if !is_quiet {
        exit::eprint_line(&words);
    }
    code
}

/// Where a program is that was named without a folder.
fn found(program: &OsStr) -> PathBuf {
    let named = Path::new(program);
    let path = std::env::var_os("PATH").filter(|_| named.file_name() == Some(program));
    let is_there = |file: &PathBuf| file.is_file() && access(file, Access::EXEC_OK).is_ok();
    let in_path = path.and_then(|path| std::env::split_paths(&path).map(|it| it.join(named)).find(is_there));
    in_path.unwrap_or_else(|| named.to_owned())
}
