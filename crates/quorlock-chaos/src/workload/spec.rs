//! The commands to a client process.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A command, one line on a client's standard input. The end of the input ends the client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClientCommand {
    /// The first command.
    Begin(Box<ClientSpec>),
    /// Blocks the runtime.
    Block {
        /// The duration in milliseconds.
        millis: u64,
    },
}

/// The specification of a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClientSpec {
    /// Its number in the history.
    pub(crate) process: u32,
    pub(crate) seed: u64,
    pub(crate) urls: Vec<String>,
    /// The nodes' names: each side of the network reaches them under other addresses.
    pub(crate) node_names: Vec<String>,
    /// The number of its tasks.
    pub(crate) tasks: u32,
    /// The names of all locks.
    pub(crate) keys: Vec<String>,
    pub(crate) ttl_ms: u64,
    pub(crate) max_ttl_ms: u64,
    pub(crate) reply_timeout_ms: u64,
    pub(crate) drift: f64,
    pub(crate) is_fenced: bool,
    /// Whether its driver has a dedicated thread.
    pub(crate) has_thread: bool,
    /// The percentage of locks, of those that are not held for very long, that it holds for longer than their
    /// ttl.
    pub(crate) long_holds: u64,
    /// The percentage of locks that it holds for about three ttls: long enough for a node without the key to
    /// get it.
    pub(crate) very_long_holds: u64,
    /// Whether it sometimes drops futures.
    pub(crate) cancels: bool,
    /// The wait timeouts in milliseconds, all equally likely.
    pub(crate) waits_ms: Vec<u64>,
    /// The folder of the protected stores.
    pub(crate) stores: PathBuf,
}
