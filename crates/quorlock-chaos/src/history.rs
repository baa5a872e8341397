//! The history of a run: one list of events, recorded by all clients and the run, on one clock.
//!
//! Client processes write their events to their standard output, one line of JSON each. The run that started them adds
//! its own (settings, faults) and sorts all by time. That works because all of them read the boot clock of one machine,
//! which is the same in every process and is never set.

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

/// An event: what happened, when, and which actor recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds on the boot clock, as [`now`] reads them.
    pub at: u64,
    /// The actor that recorded it.
    pub actor: Actor,
    /// What happened.
    pub kind: EventKind,
}

/// The actor that records an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The run: the process that starts servers and clients, and injects faults.
    Run,
    /// A task of a client process.
    Client {
        /// Which process, counted by the run; a process started in place of a killed one has a number of its own.
        process: u32,
        /// Which of its tasks.
        task: u32,
        /// The number of the task's attempt. Each begins with [`EventKind::Waiting`]. A later event of its lock (a loss
        /// signal after the next attempt has begun) still carries this number.
        attempt: u32,
    },
}

/// What happened. Times are nanoseconds of the boot clock where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The run begins, with these settings. Its first event.
    Settings(Settings),
    /// The run is about to inject a fault.
    Fault(Fault),
    /// The fault is applied on all its nodes: an instant effect (a clock that is set) happened before this.
    FaultApplied {
        /// Which fault.
        fault: u64,
    },
    /// The run is about to end the fault: an instant effect (a clock that is corrected) happens after this.
    FaultEnding {
        /// Which fault.
        fault: u64,
    },
    /// The fault has ended. Faults that pass by themselves (a flush) end at once.
    FaultEnded {
        /// Which fault.
        fault: u64,
    },
    /// At the end, long after the last client wanted the key, the run found a lock's key on a node.
    KeyLeft {
        /// Which node.
        node: usize,
        /// Its name there.
        key: String,
        /// The rest of its ttl, as `PTTL` returns it: negative if it has none.
        ttl_ms: i64,
    },
    /// The run sampled a node, bypassing the network faults, to see the owners of the locks' keys.
    Sampled {
        /// Which node.
        node: usize,
        /// When it asked. What it saw was so at one moment between then and the time of this event.
        requested_at: u64,
        /// What it saw, by key. A key that is not named here has neither an owner nor a fence there.
        keys: BTreeMap<String, KeySample>,
    },
    /// A client's view of a node has changed.
    NodeViewChanged {
        /// Which node.
        node: usize,
        /// The new view.
        view: NodeView,
    },
    /// A client thread that only sleeps was woken late by this much: the machine gave the process no CPU time.
    RuntimeStalled {
        /// Milliseconds, until now.
        millis: u64,
    },
    /// A task requests a lock. Recorded before the request.
    Waiting {
        /// The lock's keys, usually one.
        keys: Vec<String>,
        /// What kind of lock.
        kind: LockKind,
        /// The lock's ttl.
        ttl_ms: u64,
        /// The wait timeout.
        wait_ms: u64,
    },
    /// The lock was granted. Recorded after the grant.
    Granted {
        /// The deadline of the lock.
        deadline: u64,
        /// The fencing number; none in plain mode.
        fencing_number: Option<u64>,
        /// The nonce of the number.
        nonce: Option<String>,
        /// How many nodes may lose the key early without harm.
        spare_nodes: i32,
    },
    /// The task checked whether its lock is valid. The time is from *before* the check.
    Validated {
        /// The lock's answer.
        valid: bool,
        /// Its deadline, read after the answer.
        deadline: u64,
        /// How many nodes may lose the key early without harm.
        spare_nodes: i32,
    },
    /// The loss signal came.
    Lost {
        /// What is known of the cause.
        reason: String,
    },
    /// The release begins. Recorded before it is sent.
    Releasing,
    /// The release was answered.
    Released {
        /// Whether a quorum has confirmed it.
        confirmed: bool,
    },
    /// The lock was not granted, for an expected reason.
    Failed {
        /// Which.
        reason: FailureReason,
    },
    /// The task dropped the future that acquires or releases.
    Abandoned,
    /// It wrote to the protected store, which answered.
    Wrote {
        /// Which store.
        store: String,
        /// The store's own count of writes, which is the order in which it executed them.
        position: u64,
        /// The number sent to the store; none if it checks none.
        fencing_number: Option<u64>,
        /// The nonce of the number.
        nonce: Option<String>,
        /// Whether the store accepted it.
        accepted: bool,
    },
    /// An unexpected error.
    UnexpectedError {
        /// The error's message.
        message: String,
    },
    /// Something panicked.
    Panicked {
        /// Its message.
        message: String,
    },
    /// The actor's last event: a task has ended normally, or the run is over.
    Finished,
}

/// The kind of a lock, as far as it decides which other locks it excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockKind {
    /// Excludes all others.
    Mutex,
    /// Excludes all others: the writer of a read/write lock.
    Write,
    /// Allows other readers.
    Read,
    /// Allows this many at once, this one included.
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

/// Why a lock was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// Others hold it.
    Contended,
    /// Too few nodes answered.
    NoQuorum,
    /// Too many nodes are on probation.
    OnProbation,
    /// Too many nodes may not serve.
    NodesExcluded,
    /// The grant came too late to be useful.
    TooLate,
}

/// All events, ordered by time.
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
    #[error("line {line} of the history is no event ({cause}): {text}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// Its text.
        text: String,
        /// What is wrong with it.
        cause: serde_json::Error,
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
        // The sort is stable: events of one writer at the same nanosecond keep their order.
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
            events.push(event.map_err(|why| ParseHistoryError::Line {
                line,
                text: text.clone(),
                cause: why,
            })?);
        }
        Ok(Self::new(events))
    }

    /// The events, in the order of time.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The run's settings, if they were recorded.
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
