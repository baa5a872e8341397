//! Writes events: one line of JSON each on standard output.

use std::io::{self, Write as _};
use std::panic;
use std::process;

use crate::history::{self, Actor, Event, EventKind};

/// The event writer of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventWriter {
    process: u32,
    task: u32,
    attempt: u32,
}

impl EventWriter {
    pub(super) const fn new(process: u32, task: u32) -> Self {
        Self { process, task, attempt: 0 }
    }

    /// Later events belong to the next attempt.
    pub(super) const fn next_attempt(&mut self) {
        self.attempt += 1;
    }

    pub(super) fn write(&self, what: EventKind) {
        self.write_at(history::now(), what);
    }

    /// Records an event that happened at that time.
    pub(super) fn write_at(&self, at: u64, what: EventKind) {
        let who = Actor::Client { process: self.process, task: self.task, attempt: self.attempt };
        let line = Event { at, actor: who, kind: what }.line() + "\n";
        let mut out = io::stdout().lock();
        if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
            // The output is closed: the run is gone, so this client ends.
            process::exit(1);
        }
    }
}

/// Makes every panic an event too.
pub(super) fn report_panics(process: u32) {
    let earlier = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        EventWriter::new(process, 0).write(EventKind::Panicked { message: panic.to_string() });
        earlier(panic);
    }));
}
