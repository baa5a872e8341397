//! A progress bar: one line on stderr that is redrawn, on a terminal only.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::termios::tcgetwinsize;

/// The progress line.
pub(crate) struct Bar {
    shows: bool,
}

impl Bar {
    /// Shows only if wanted, and if stderr is a terminal.
    pub(crate) fn new(is_wanted: bool) -> Self {
        Self { shows: is_wanted && io::stderr().is_terminal() }
    }

    pub(crate) fn draw(&mut self, stage: &str, past: Duration, of: Duration, more: &str) {
        if !self.shows {
            return;
        }
        let line = line(stage, past, of, more);
        // A line that wraps cannot be redrawn.
        let room = columns(io::stderr()) - 1;
        self.put(&format!("\r\x1b[K{}", line.chars().take(room).collect::<String>()));
    }

    pub(crate) fn clear(&mut self) {
        if self.shows {
            self.put("\r\x1b[K");
        }
    }

    /// Stops drawing if the terminal is gone.
    fn put(&mut self, text: &str) {
        let mut err = io::stderr();
        self.shows = err.write_all(text.as_bytes()).and_then(|()| err.flush()).is_ok();
    }
}

/// Without a bar if the duration is unknown.
fn line(stage: &str, past: Duration, of: Duration, more: &str) -> String {
    let (past, of) = (past.as_secs_f64(), of.as_secs_f64());
    if of == 0.0 {
        return format!("{stage}, {past:.0} s  {more}");
    }
    let full = ((past / of).clamp(0.0, 1.0) * WIDTH as f64) as usize;
    let [done, left] = [("=", full), (" ", WIDTH - full)].map(|(sign, count)| sign.repeat(count));
    format!("{stage} [{done}{left}] {past:3.0} of {of:.0} s  {more}")
}

/// The width of the terminal in columns, or the default.
pub(crate) fn columns(terminal: impl AsFd) -> usize {
    let wide = tcgetwinsize(terminal).map_or(0, |size| usize::from(size.ws_col));
    if wide == 0 { COLUMNS } else { wide }
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
        let [none, two, four] = [0, 2, 4].map(Duration::from_secs);
        assert_eq!(line("settling", two, none, "7 faults"), "settling, 2 s  7 faults");
        let half = line("chaos", two, four, "");
        assert_eq!(half, format!("chaos [{}{}]   2 of 4 s  ", "=".repeat(15), " ".repeat(15)));
        assert!(line("chaos", four, two, "").contains(&"=".repeat(30)));
    }
}
