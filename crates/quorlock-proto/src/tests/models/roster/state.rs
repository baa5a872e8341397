//! The state of the model.

use std::sync::Arc;

use crate::marker::LockClusterConfig;
use crate::roster::proposer::Proposer;
use crate::roster::record::{Record, RecordWrite};
use crate::roster::server_view::ServerView;
use crate::roster::{ListHash, Roster};

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) servers: Vec<Server>,
    /// The server behind each address.
    pub(super) addresses: Vec<u8>,
    pub(super) clients: Vec<Client>,
    pub(super) delayed: Option<Delayed>,
    pub(super) lockers: Vec<Locker>,
    pub(super) now: u8,
    pub(super) next_seat: u64,
    pub(super) restarts: u8,
    pub(super) moves: u8,
    pub(super) joins: u8,
    pub(super) outages: u8,
    pub(super) delays: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub(super) is_up: bool,
    pub(super) record: Option<Record>,
    pub(super) hint: Option<Arc<Roster>>,
    /// When it votes, or when its data began, in ticks.
    pub(super) time: u8,
    /// The locker that has the key, and when the key expires.
    pub(super) key: Option<(u8, u8)>,
}

/// A client that acquires the lock, and then renews it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Locker {
    /// The roster of the running round, its start, and the servers that granted.
    pub(super) round: Option<(Arc<Roster>, u8, u8)>,
    /// Until when its lock is valid; 0 without a lock.
    pub(super) valid_until: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub(super) proposer: Proposer,
    pub(super) views: Vec<ServerView>,
    /// The server of each connection.
    pub(super) connections: Vec<u8>,
    /// The list and settings of the roster that it follows, and since when.
    pub(super) shape: (Option<(ListHash, LockClusterConfig)>, u8),
}

/// A write that is under way.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Delayed {
    pub(super) server: u8,
    pub(super) expected: Option<Record>,
    pub(super) write: RecordWrite,
}
