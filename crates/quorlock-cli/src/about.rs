//! The time, machine and command of a run, for reports.

use std::time::{Duration, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The time, the machine and the version, as one line.
pub(crate) fn about() -> String {
    let time = clock_gettime(ClockId::Realtime);
    let now = UNIX_EPOCH + Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
    let now = humantime::format_rfc3339_seconds(now).to_string().replace('T', " ");
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let noun = if processors == 1 { "processor" } else { "processors" };
    let [name, release, machine] =
        [system.sysname(), system.release(), system.machine()].map(|text| text.to_string_lossy());
    format!(
        "{now} on {host} ({name} {release}, {machine}, {processors} {noun}), quorlock {}",
        env!("CARGO_PKG_VERSION")
    )
}

/// The command line, quoted for a shell. Arguments with a URL and commands for a password are hidden: they may contain
/// a password.
pub(crate) fn command_line(args: impl Iterator<Item = std::ffi::OsString>) -> String {
    let mut is_after_flag = false;
    let quote = |arg: std::ffi::OsString| {
        let arg = arg.to_string_lossy().into_owned();
        if std::mem::replace(&mut is_after_flag, arg == PASSWORD_COMMAND) {
            return "…".to_owned();
        }
        let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./=:,+@%".contains(char);
        let is_command = arg.strip_prefix(PASSWORD_COMMAND).is_some_and(|rest| rest.starts_with('='));
        let is_hidden = arg.contains("://") || arg.contains("unix:") || is_command;
        match arg.split_once('=') {
            Some((flag, _)) if is_hidden && flag.starts_with("--") => format!("{flag}=…"),
            _ if is_hidden => "…".to_owned(),
            _ if !arg.is_empty() && arg.chars().all(is_plain) => arg,
            _ => format!("'{}'", arg.replace('\'', "'\\''")),
        }
    };
    std::iter::once("quorlock".to_owned()).chain(args.skip(1).map(quote)).collect::<Vec<_>>().join(" ")
}

const PASSWORD_COMMAND: &str = "--password-command";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_typed_again_and_shows_no_url() {
        let args = [
            "/bin/quorlock",
            "bench",
            "--nodes",
            "redis://u:secret@h,redis://b",
            "--nodes=redis://:secret@h",
            "--password-command",
            "echo secret",
            "--password-command=echo secret",
            "a b",
            "it's",
        ];
        let line = command_line(args.into_iter().map(Into::into));
        assert_eq!(
            line,
            "quorlock bench --nodes … --nodes=… --password-command … --password-command=… 'a b' 'it'\\''s'"
        );
    }
}
