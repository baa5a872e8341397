//! A progress bar: one line on stderr that is redrawn, on a terminal only.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::termios::tcgetwinsize;

/// The progress line.
pub(crate) struct Bar {
    is_shown: bool,
}

impl Bar {
    /// Shows only if wanted, and if stderr is a terminal.
    pub(crate) fn new(is_wanted: bool) -> Self {
        Self { is_shown: is_wanted && io::stderr().is_terminal() }
    }

    pub(crate) fn draw(&mut self, stage: &str, elapsed: Duration, total: Duration, details: &str) {
        if !self.is_shown {
            return;
        }
        let line = line(stage, elapsed, total, details);
        // A line that wraps cannot be redrawn.
        let room = columns(io::stderr()) - 1;
        self.write(&format!("\r\x1b[K{}", line.chars().take(room).collect::<String>()));
    }

    pub(crate) fn clear(&mut self) {
        if self.is_shown {
            self.write("\r\x1b[K");
        }
    }

    /// Stops drawing if the terminal is gone.
    fn write(&mut self, text: &str) {
        let mut err = io::stderr();
        self.is_shown = err.write_all(text.as_bytes()).and_then(|()| err.flush()).is_ok();
    }
}

/// Without a bar if the duration is unknown.
fn line(stage: &str, elapsed: Duration, total: Duration, details: &str) -> String {
    let (elapsed, total) = (elapsed.as_secs_f64(), total.as_secs_f64());
    if total == 0.0 {
        return format!("{stage}, {elapsed:.0} s  {details}");
    }
    let filled = ((elapsed / total).clamp(0.0, 1.0) * WIDTH as f64) as usize;
    let [done, rest] = [("=", filled), (" ", WIDTH - filled)].map(|(char, count)| char.repeat(count));
    format!("{stage} [{done}{rest}] {elapsed:3.0} of {total:.0} s  {details}")
}

/// The width of the terminal in columns, or the default.
pub(crate) fn columns(terminal: impl AsFd) -> usize {
    let width = tcgetwinsize(terminal).map_or(0, |size| usize::from(size.ws_col));
    if width == 0 { COLUMNS } else { width }
}

/// The longest line on stdout: limited only on a terminal.
pub(crate) fn room() -> usize {
    if io::stdout().is_terminal() { columns(io::stdout()) } else { usize::MAX }
}

/// The width if the terminal does not report one.
pub(crate) const COLUMNS: usize = 80;
const WIDTH: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_duration_is_shown_without_a_bar() {
        let [unknown, two_seconds, four_seconds] = [0, 2, 4].map(Duration::from_secs);
        assert_eq!(line("settling", two_seconds, unknown, "7 faults"), "settling, 2 s  7 faults");
        let half = line("chaos", two_seconds, four_seconds, "");
        assert_eq!(half, format!("chaos [{}{}]   2 of 4 s  ", "=".repeat(15), " ".repeat(15)));
        assert!(line("chaos", four_seconds, two_seconds, "").contains(&"=".repeat(30)));
    }
}
