//! What a client is told.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A line on a client's standard input. The input's end means: come to an end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// First of all.
    Begin(Box<Spec>),
    /// Block the runtime for so long.
    Block {
        /// Milliseconds.
        millis: u64,
    },
}

/// What a client is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// Its number in the history.
    pub(crate) process: u32,
    pub(crate) seed: u64,
    pub(crate) urls: Vec<String>,
    /// How many tasks it has.
    pub(crate) tasks: u32,
    /// The locks that there are.
    pub(crate) keys: Vec<String>,
    pub(crate) ttl_ms: u64,
    pub(crate) max_ttl_ms: u64,
    pub(crate) reply_timeout_ms: u64,
    pub(crate) drift: f64,
    pub(crate) is_fenced: bool,
    /// Whether its locks are renewed on a thread of their own.
    pub(crate) has_thread: bool,
    /// How many, out of a hundred of the others, it holds for longer than their ttl.
    pub(crate) long_holds: u64,
    /// How many, out of a hundred, it holds for some three ttls and more: so long that a node without the key had its time
    /// to get it.
    pub(crate) lasting_holds: u64,
    /// Whether it drops futures now and then.
    pub(crate) drops: bool,
    /// How long it may wait for a lock, in milliseconds, one as likely as the other.
    pub(crate) waits_ms: Vec<u64>,
    /// The folder of the protected stores.
    pub(crate) stores: PathBuf,
}
