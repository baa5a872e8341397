//! The machine of a measurement.

use std::process::Command;
use std::{env, fs, thread};

use quorlock_chaos::Fleet;

use crate::Outcome;

/// Processors, operating system and Redis version.
pub fn machine(fleet: &Fleet) -> Outcome<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| -> Option<String> {
        let value = text.lines().find(|line| line.starts_with(name))?.split_once(':')?.1;
        Some(value.trim().to_owned())
    };
    let info: String = fleet[0].command(&["INFO", "server"])?;
    Ok(format!(
        "{} × {}, {} {}; Redis {} on loopback",
        thread::available_parallelism()?,
        field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown CPU".to_owned()),
        env::consts::OS,
        read("/proc/sys/kernel/osrelease").trim(),
        field(&info, "redis_version").unwrap_or_default(),
    ))
}

/// The load average of the last minute.
#[must_use]
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// Today's date in UTC, by which tables are named.
#[must_use]
pub fn today() -> Option<String> {
    first_output_line("date", &["-u", "+%Y-%m-%d"])
}

/// The first line of a program's output, if the program is installed.
pub(crate) fn first_output_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}
