//! How far something is: one line on stderr that is written anew, on a terminal only.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::termios::tcgetwinsize;

/// The line.
pub(crate) struct Bar {
    shows: bool,
}

impl Bar {
    /// One that shows only if it is wanted, and there is a terminal to show it on.
    pub(crate) fn new(is_wanted: bool) -> Self {
        Self { shows: is_wanted && io::stderr().is_terminal() }
    }

    pub(crate) fn draw(&mut self, stage: &str, past: Duration, of: Duration, more: &str) {
        if !self.shows {
            return;
        }
        let line = line(stage, past, of, more);
        // A line that is broken in two cannot be written anew.
        let room = columns(io::stderr()) - 1;
        self.put(&format!("\r\x1b[K{}", line.chars().take(room).collect::<String>()));
    }

    pub(crate) fn clear(&mut self) {
        if self.shows {
            self.put("\r\x1b[K");
        }
    }

    /// A terminal that is gone is no reason to stop.
    fn put(&mut self, text: &str) {
        let mut err = io::stderr();
        self.shows = err.write_all(text.as_bytes()).and_then(|()| err.flush()).is_ok();
    }
}

/// Without a bar where nobody knows how long it takes.
fn line(stage: &str, past: Duration, of: Duration, more: &str) -> String {
    let (past, of) = (past.as_secs_f64(), of.as_secs_f64());
    if of == 0.0 {
        return format!("{stage}, {past:.0} s  {more}");
    }
    let full = ((past / of).clamp(0.0, 1.0) * WIDTH as f64) as usize;
    let [done, left] = [("=", full), (" ", WIDTH - full)].map(|(sign, count)| sign.repeat(count));
    format!("{stage} [{done}{left}] {past:3.0} of {of:.0} s  {more}")
}

/// How wide the terminal is, or would be.
pub(crate) fn columns(terminal: impl AsFd) -> usize {
    let wide = tcgetwinsize(terminal).map_or(0, |size| usize::from(size.ws_col));
    if wide == 0 { COLUMNS } else { wide }
}

/// How wide a line on stdout may be: on a terminal alone is there a limit.
pub(crate) fn room() -> usize {
    if io::stdout().is_terminal() { columns(io::stdout()) } else { usize::MAX }
}

/// Of a terminal that does not say.
pub(crate) const COLUMNS: usize = 80;
const WIDTH: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_known_end_is_told_without_one() {
        let [none, two, four] = [0, 2, 4].map(Duration::from_secs);
        assert_eq!(line("settling", two, none, "7 faults"), "settling, 2 s  7 faults");
        let half = line("chaos", two, four, "");
        assert_eq!(half, format!("chaos [{}{}]   2 of 4 s  ", "=".repeat(15), " ".repeat(15)));
        assert!(line("chaos", four, two, "").contains(&"=".repeat(30)));
    }
}
