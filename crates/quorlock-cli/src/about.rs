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

/// The command line, quoted for a shell. Arguments with a URL are hidden: they may contain a password.
pub(crate) fn command_line(args: impl Iterator<Item = std::ffi::OsString>) -> String {
    let quote = |arg: std::ffi::OsString| {
        let arg = arg.to_string_lossy().into_owned();
        let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./=:,+@%".contains(char);
        let is_url = arg.contains("://") || arg.contains("unix:");
        match arg.split_once('=') {
            Some((flag, _)) if is_url && flag.starts_with("--") => format!("{flag}=…"),
            _ if is_url => "…".to_owned(),
            _ if !arg.is_empty() && arg.chars().all(is_plain) => arg,
            _ => format!("'{}'", arg.replace('\'', "'\\''")),
        }
    };
    std::iter::once("quorlock".to_owned()).chain(args.skip(1).map(quote)).collect::<Vec<_>>().join(" ")
}

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
            "a b",
            "it's",
        ];
        let line = command_line(args.into_iter().map(Into::into));
        assert_eq!(line, "quorlock bench --nodes … --nodes=… 'a b' 'it'\\''s'");
    }
}
