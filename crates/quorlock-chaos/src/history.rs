//! What happened: one list of events, told by everybody who had a part in it, on one clock.
//!
//! Client processes write their events to their standard output, one line of JSON each; the run that started them
//! adds its own (settings, faults) and sorts all by time. That works because all of them read the boot clock
//! of one machine, which is the same in every process and is never set.

mod fault;
mod sample;
mod settings;

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

pub use fault::{Effect, Fault};
pub use sample::KeySample;
pub use settings::{Control, Settings};

/// Something that happened, when, and who tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds on the boot clock, as [`now`] reads them.
    pub at: u64,
    /// Who tells it.
    pub actor: Actor,
    /// What happened.
    pub kind: EventKind,
}

/// Who tells of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The run: whoever starts servers and clients, and breaks them.
    Run,
    /// A task of a client process.
    Client {
        /// Which process, counted by the run; a process started in place of a killed one has a number of its own.
        process: u32,
        /// Which of its tasks.
        task: u32,
        /// The task's how-manieth try for a lock. Each begins with [`EventKind::Waiting`]; what is said of a lock later (a
        /// lost signal that comes when the next try has begun) still carries the number of its own.
        attempt: u32,
    },
}

/// What happened. Times are nanoseconds of the boot clock where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The run begins, on these terms. Its first event.
    Settings(Settings),
    /// The run is about to break something.
    Fault(Fault),
    /// It has done so on all nodes that it hits: what happens at once (a clock that is set) happened before this.
    FaultApplied {
        /// Which fault.
        fault: u64,
    },
    /// The run is about to mend that: what happens at once (a clock that is set right) happens after this.
    FaultEnding {
        /// Which fault.
        fault: u64,
    },
    /// The run has mended the fault of that number. Faults that pass by themselves (a flush) are healed at once.
    FaultEnded {
        /// Which fault.
        fault: u64,
    },
    /// At the end, when nobody has wanted the key for long, the run found a lock's key on a node.
    KeyLeft {
        /// Which node.
        node: usize,
        /// Its name there.
        key: String,
        /// What is left of its time, as `PTTL` tells it: negative if it has none.
        ttl_ms: i64,
    },
    /// The run looked at a node, past what is between it and the clients, to see whose the locks' keys are.
    Sampled {
        /// Which node.
        node: usize,
        /// When it asked. What it saw was so at one moment between then and the time of this event.
        asked: u64,
        /// What it saw, by key. A key that is not named here has neither an owner nor a fence there.
        keys: BTreeMap<String, KeySample>,
    },
    /// How a client sees a node, told when that changes.
    NodeViewChanged {
        /// Which node.
        node: usize,
        /// How it stands.
        view: NodeView,
    },
    /// A thread of the client that does nothing but sleep was woken so much too late: the machine had no time for the
    /// process.
    Overslept {
        /// Milliseconds, until now.
        millis: u64,
    },
    /// A task asks for a lock. Told before it asks.
    Waiting {
        /// The lock's keys, usually one.
        keys: Vec<String>,
        /// What kind of lock.
        kind: LockKind,
        /// The lock's ttl.
        ttl_ms: u64,
        /// How long it is ready to wait.
        wait_ms: u64,
    },
    /// It was given the lock. Told once it has it.
    Granted {
        /// Until when it may rely on it.
        deadline: u64,
        /// The fencing number; none in plain mode.
        number: Option<u64>,
        /// What goes with the number.
        nonce: Option<String>,
        /// How many nodes may lose the key early without harm.
        margin: i32,
    },
    /// It asked its lock whether it is valid. The time is from *before* it asked.
    Looked {
        /// The lock's answer.
        valid: bool,
        /// Its deadline, read after the answer.
        deadline: u64,
        /// How many nodes may lose the key early without harm.
        margin: i32,
    },
    /// The lost signal came.
    Lost {
        /// In words, what is known of the cause.
        how: String,
    },
    /// It gives the lock up. Told before it does.
    Releasing,
    /// The release was answered.
    Released {
        /// Whether a quorum has confirmed it.
        confirmed: bool,
    },
    /// It was not given the lock, for a reason that is part of the game.
    Refused {
        /// Which.
        why: FailureReason,
    },
    /// It walked away: the future that acquires or releases was dropped.
    Abandoned,
    /// It wrote to the protected store, which answered.
    Wrote {
        /// Which store.
        store: String,
        /// The store's own count of what it was asked, which is the order in which it was done.
        place: u64,
        /// The number shown to the store; none if it does not ask for one.
        number: Option<u64>,
        /// What goes with the number.
        nonce: Option<String>,
        /// Whether the store took it.
        accepted: bool,
    },
    /// Something failed in a way that nobody has planned for.
    Errored {
        /// The error's words.
        words: String,
    },
    /// Something panicked.
    Panicked {
        /// Its words.
        words: String,
    },
    /// Whoever tells this has nothing more to tell: a task has ended in good order, or the run is over. Its last event.
    Finished,
}

/// What kind of lock a task asks for, as far as it matters who else may hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockKind {
    /// Nobody else.
    Mutex,
    /// Nobody else: the writer of a read/write lock.
    Write,
    /// Other readers.
    Read,
    /// So many at once, this one included.
    Permit {
        /// How many.
        of: u32,
    },
}

/// How a client sees a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeView {
    /// It votes.
    Up,
    /// It is not connected.
    Down,
    /// It is up and casts no vote until then.
    OnProbation {
        /// Until when.
        until: u64,
    },
    /// It may not serve.
    Excluded,
}

/// Why a lock was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// Others have it.
    Contended,
    /// Too few nodes answered.
    NoQuorum,
    /// Too many nodes are on probation.
    OnProbation,
    /// Too many nodes may not serve.
    NodesExcluded,
    /// It came too late to be of use.
    TooLate,
}

/// Everything that happened, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    events: Vec<Event>,
}

/// Why a history could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ParseHistoryError {
    /// It could not be read at all.
    #[error("cannot read the history: {0}")]
    Io(#[from] io::Error),
    /// A line is no event.
    #[error("line {line} of the history is no event ({why}): {text}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// Its text.
        text: String,
        /// What is wrong with it.
        why: serde_json::Error,
    },
}

impl Event {
    /// Something that happens right now.
    #[must_use]
    pub fn now(actor: Actor, kind: EventKind) -> Self {
        Self { at: now(), actor, kind }
    }

    /// The event as one line of JSON, without the line's end.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "strings, numbers and lists of them are all it holds")]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("an event has nothing that JSON cannot say")
    }
}

impl History {
    /// The history of these events, which may come in any order.
    #[must_use]
    pub fn new(mut events: Vec<Event>) -> Self {
        // Stable: what one teller told at the same nanosecond stays as it was told.
        events.sort_by_key(|event| event.at);
        Self { events }
    }

    /// Reads a history of one event a line. A last line without an end is left out: its writer was killed in the
    /// middle of it.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or a line is no event.
    pub fn read(mut from: impl BufRead) -> Result<Self, ParseHistoryError> {
        let mut events = Vec::new();
        let mut text = String::new();
        for line in 1.. {
            text.clear();
            from.read_line(&mut text)?;
            let Some(event) = text.strip_suffix('\n') else { break };
            let event = serde_json::from_str(event);
            events.push(event.map_err(|why| ParseHistoryError::Line { line, text: text.clone(), why })?);
        }
        Ok(Self::new(events))
    }

    /// The events, in the order of time.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The run's settings, if it told them.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        self.events.iter().find_map(|event| match &event.kind {
            EventKind::Settings(settings) => Some(settings),
            _ => None,
        })
    }
}

/// Nanoseconds on the boot clock, which all processes of this machine share.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(BOOT);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const BOOT: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const BOOT: ClockId = ClockId::Monotonic;
