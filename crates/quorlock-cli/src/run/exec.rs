//! The helper process that executes the command, after signals and the terminal are set up.

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

/// Replaces this process by the command. Returns an exit code only on failure.
///
/// The arguments are the quiet flag, the reaper's pid, the group to take the terminal from, and the command.
/// As in a shell, `sh` runs a file that is not a program and names no interpreter.
pub(crate) fn exec(mut args: impl Iterator<Item = OsString>) -> u8 {
    let is_quiet = args.next().is_some_and(|word| word == QUIETLY);
    let mut pid = || Pid::from_raw(args.next()?.to_str()?.parse().ok()?);
    let (reaper, lender) = (pid(), pid());
    // The kernel kills the command if the reaper dies, because `run` may be dead too.
    #[cfg(target_os = "linux")]
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if getppid() != reaper {
        return exit::SOFTWARE;
    }
    // Before signals are unblocked, so that signals typed from now on wait for the command.
    if let Some(lender) = lender {
        terminal::borrow_from(lender);
    }
    signals::unblock();
    let program = args.next().unwrap_or_default();
    let arguments: Vec<OsString> = args.collect();
    let mut error = Command::new(&program).args(&arguments).exec();
    if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) {
        error = Command::new("/bin/sh").arg(found(&program)).args(&arguments).exec();
    }
    let Failure { code, message } = exit::not_executed(&program, &error);
    if !is_quiet {
        exit::eprint_line(&message);
    }
    code
}

/// The path of a program, looked up in PATH.
fn found(program: &OsStr) -> PathBuf {
    let named = Path::new(program);
    let path = std::env::var_os("PATH").filter(|_| named.file_name() == Some(program));
    let is_there = |file: &PathBuf| file.is_file() && access(file, Access::EXEC_OK).is_ok();
    let in_path = path.and_then(|path| std::env::split_paths(&path).map(|it| it.join(named)).find(is_there));
    in_path.unwrap_or_else(|| named.to_owned())
}
