//! Writes events to standard output, one line of JSON each.

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

    /// Begins the next attempt: later events carry its number.
    pub(super) const fn next_attempt(&mut self) {
        self.attempt += 1;
    }

    pub(super) fn write(&self, kind: EventKind) {
        self.write_at(history::now(), kind);
    }

    /// Writes an event that happened at that time.
    pub(super) fn write_at(&self, at: u64, kind: EventKind) {
        let actor = Actor::Client { process: self.process, task: self.task, attempt: self.attempt };
        let line = Event { at, actor, kind }.line() + "\n";
        let mut out = io::stdout().lock();
        if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
            // The output is closed: the run has ended, so this client ends.
            process::exit(1);
        }
    }
}

/// Writes an event for every panic.
pub(super) fn report_panics(process: u32) {
    let earlier = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        EventWriter::new(process, 0).write(EventKind::Panicked { message: panic.to_string() });
        earlier(panic);
    }));
}
