//! The history of a run: one list of events, recorded by all clients and the run, on one clock.
//!
//! Client processes write their events to standard output, one line of JSON each. The run that started them
//! adds its own events (settings, faults) and sorts all by time. All processes read the boot clock of one
//! machine, which is never set.

mod fault;
mod sample;
mod settings;

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use quorlock::LeaseDeadline;
use serde::{Deserialize, Serialize};

pub use fault::{Effect, Fault};
pub use sample::KeySample;
pub use settings::{NegativeControl, Settings};

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
        /// The number of the process. A process that replaces a killed one has a new number.
        process: u32,
        /// The number of the task in its process.
        task: u32,
        /// The number of the task's attempt. Each begins with [`EventKind::Waiting`]. A later event of its
        /// lock, such as a loss signal after the next attempt has begun, carries this number too.
        attempt: u32,
    },
}

/// What happened. Times are nanoseconds of the boot clock, unless stated otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The run begins, with these settings. The first event of every history.
    Settings(Settings),
    /// The run is about to inject a fault.
    Fault(Fault),
    /// The fault is applied on all its nodes: an instant effect (a clock that is set) happened before this.
    FaultApplied {
        /// The fault's id.
        fault: u64,
    },
    /// The run is about to end the fault: an instant effect (a clock that is corrected) happens after this.
    FaultEnding {
        /// The fault's id.
        fault: u64,
    },
    /// The fault has ended. A fault without duration (a flush) ends at once.
    FaultEnded {
        /// The fault's id.
        fault: u64,
    },
    /// The run found a lock's key on a node at the end, long after the last request for it.
    KeyLeft {
        /// The number of the node.
        node: usize,
        /// The name of the key.
        key: String,
        /// The remaining ttl, as `PTTL` returns it: negative if the key has none.
        ttl_ms: i64,
    },
    /// The run sampled a node, bypassing the network faults, to see the owners of the locks' keys.
    Sampled {
        /// The number of the node.
        node: usize,
        /// When the request was sent. The sample is from one moment between then and the time of this event.
        requested_at: u64,
        /// The samples, by key. A key that is missing here has neither an owner nor a fence there.
        keys: BTreeMap<String, KeySample>,
    },
    /// A client's view of a node has changed.
    NodeViewChanged {
        /// The number of the node.
        node: usize,
        /// The new view.
        view: NodeView,
    },
    /// A client thread that only sleeps was woken late: the machine gave the process no CPU time.
    RuntimeStalled {
        /// The delay in milliseconds, up to now.
        millis: u64,
    },
    /// A task requests a lock. Recorded before the request.
    Waiting {
        /// The lock's keys, usually one.
        keys: Vec<String>,
        /// The kind of lock.
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
        /// The nonce of the fencing token.
        nonce: Option<String>,
        /// How many nodes may lose the key early without harm.
        spare_nodes: i32,
    },
    /// The task checked whether its lock is valid. The time is from *before* the check.
    Validated {
        /// Whether the lock was valid.
        valid: bool,
        /// The lock's deadline, read after the check.
        deadline: u64,
        /// How many nodes may lose the key early without harm.
        spare_nodes: i32,
    },
    /// The task received the loss signal.
    Lost {
        /// The cause, if known.
        reason: String,
    },
    /// The release begins. Recorded before it is sent.
    Releasing,
    /// The release is complete.
    Released {
        /// Whether a quorum confirmed it.
        confirmed: bool,
    },
    /// The lock was not granted, for an expected reason.
    Failed {
        /// The reason.
        reason: FailureReason,
    },
    /// The task dropped the future that acquires or releases.
    Cancelled,
    /// The task wrote to a protected store and received its reply.
    Wrote {
        /// The name of the store.
        store: String,
        /// The store's count of writes: the order in which it executed them.
        position: u64,
        /// The fencing number sent to the store; none if the store checks none.
        fencing_number: Option<u64>,
        /// The nonce of the fencing token.
        nonce: Option<String>,
        /// Whether the store accepted it.
        accepted: bool,
    },
    /// An unexpected error.
    UnexpectedError {
        /// The error's message.
        message: String,
    },
    /// A thread or task panicked.
    Panicked {
        /// The panic message.
        message: String,
    },
    /// The actor's last event: a task has ended normally, or the run is over.
    Finished,
}

/// The kind of a lock: it decides which other locks it excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockKind {
    /// Excludes all others.
    Mutex,
    /// Excludes all others: the writer of a read/write lock.
    Write,
    /// Allows other readers.
    Read,
    /// One of several permits: up to `of` may be held at once.
    Permit {
        /// The limit.
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
    /// It is up, but casts no vote yet.
    OnProbation {
        /// The end of probation.
        until: u64,
    },
    /// It cannot serve this client.
    Excluded,
}

/// Why a lock was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// Other clients hold it.
    Contended,
    /// Too few nodes replied.
    NoQuorum,
    /// Too many nodes are on probation.
    OnProbation,
    /// Too many nodes are excluded.
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
    /// The input failed.
    #[error("cannot read the history: {0}")]
    Io(#[from] io::Error),
    /// A line is not an event.
    #[error("line {line} of the history is no event ({cause}): {text}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// The text of the line.
        text: String,
        /// The JSON error.
        cause: serde_json::Error,
    },
}

impl Event {
    /// An event that happens right now.
    #[must_use]
    pub fn now(actor: Actor, kind: EventKind) -> Self {
        Self { at: now(), actor, kind }
    }

    /// The event as one line of JSON, without the line's end.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "it holds only strings, numbers and lists of them")]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("every event can be written as JSON")
    }
}

impl History {
    /// The history of these events, given in any order.
    #[must_use]
    pub fn new(mut events: Vec<Event>) -> Self {
        // The sort is stable: events of one writer at the same nanosecond keep their order.
        events.sort_by_key(|event| event.at);
        Self { events }
    }

    /// Reads a history of one event per line. A last line without an end is skipped: its writer was killed in
    /// the middle of it.
    ///
    /// # Errors
    ///
    /// If the input cannot be read, or a line is not an event.
    pub fn read(mut from: impl BufRead) -> Result<Self, ParseHistoryError> {
        let mut events = Vec::new();
        let mut text = String::new();
        for line in 1.. {
            text.clear();
            from.read_line(&mut text)?;
            let Some(event) = text.strip_suffix('\n') else { break };
            let event = serde_json::from_str(event);
            events.push(event.map_err(|cause| ParseHistoryError::Line {
                line,
                text: text.clone(),
                cause,
            })?);
        }
        Ok(Self::new(events))
    }

    /// The events, ordered by time.
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
    LeaseDeadline::boot_time_now().as_nanos() as u64
}
