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
        let done = past.as_secs_f64() / of.as_secs_f64();
        let full = (done.clamp(0.0, 1.0) * WIDTH as f64) as usize;
        let line = format!(
            "{stage} [{}{}] {:3.0} of {:.0} s  {more}",
            "=".repeat(full),
            " ".repeat(WIDTH - full),
            past.as_secs_f64(),
            of.as_secs_f64(),
        );
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

/// How wide the terminal is, or would be.
pub(crate) fn columns(terminal: impl AsFd) -> usize {
    let wide = tcgetwinsize(terminal).map_or(0, |size| usize::from(size.ws_col));
    if wide == 0 { COLUMNS } else { wide }
}

/// Of a terminal that does not say.
pub(crate) const COLUMNS: usize = 80;
const WIDTH: usize = 30;
