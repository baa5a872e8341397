//! A state of the lock model: nodes, contenders, and the requests and replies in flight.

use std::rc::Rc;

use crate::attempt::Attempt;
use crate::lease::Lease;

use super::node::{InFlightReply, InFlightRequest, Node};

pub(crate) const MAX_NODES: usize = 5;
pub(crate) const MAX_CONTENDERS: usize = 3;

#[derive(Clone)]
pub(crate) struct State {
    /// In ticks.
    pub(crate) now: u8,
    /// Whether attempts and extensions may start in a reduced model. See `Bounds::reduced`.
    pub(crate) may_start: bool,
    pub(crate) disconnects: u8,
    pub(crate) data_losses: u8,
    pub(crate) nodes: [Node; MAX_NODES],
    pub(crate) contenders: [Contender; MAX_CONTENDERS],
    /// The requests and replies in flight between each contender and node, unordered.
    ///
    /// A connection keeps the order of its requests. But a request and its compensating release may use
    /// different connections, and an old connection may deliver late. Unordered delivery covers all of these.
    pub(crate) channels: [[Channel; MAX_NODES]; MAX_CONTENDERS],
}

/// An attempt, and the lease that it becomes when it wins. Sets of nodes and contenders are bits.
#[derive(Clone, Default)]
pub(crate) struct Contender {
    pub(crate) progress: Progress,
    /// In ticks.
    pub(crate) started_at: u8,
    /// Its fencing number; 0 while it has none.
    pub(crate) fencing_number: u32,
    /// Whether its fencing number was issued, because it won.
    pub(crate) is_number_issued: bool,
    /// The contenders whose fencing numbers were issued before it started.
    pub(crate) issued_before: u8,
    /// The nodes that counted for its fencing number when it won.
    pub(crate) counted_nodes: u8,
    /// The nodes that may have its key, as known when it won.
    pub(crate) possibly_set: u8,
    /// Whether another contender has won since it won.
    pub(crate) was_overtaken: bool,
    pub(crate) extensions: u8,
    /// The nodes on which a pending release may delete its key at any time.
    pub(crate) pending_releases: u8,
}

/// How far a contender is.
#[derive(Clone, Default)]
pub(crate) enum Progress {
    #[default]
    NotStarted,
    Attempting(Rc<Attempt>),
    Leased(Rc<Lease>),
    Ended,
}

/// What is in flight between a contender and a node.
#[derive(Clone, Copy, Default)]
pub(crate) struct Channel {
    pub(crate) requests: Multiset<InFlightRequest>,
    pub(crate) replies: Multiset<InFlightReply>,
}

/// A small multiset, kept sorted, so that equal multisets have equal items.
#[derive(Clone, Copy, Default)]
pub(crate) struct Multiset<T> {
    len: u8,
    items: [T; MAX_IN_FLIGHT],
}

impl<T: Copy + Ord + Default> Multiset<T> {
    pub(crate) fn items(&self) -> &[T] {
        &self.items[..usize::from(self.len)]
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn insert(&mut self, item: T) {
        self.items[usize::from(self.len)] = item;
        self.len += 1;
        self.sort();
    }

    pub(crate) fn remove(&mut self, index: usize) -> T {
        let item = self.items()[index];
        self.len -= 1;
        self.items[index] = self.items[usize::from(self.len)];
        self.sort();
        item
    }

    pub(crate) fn retain_map(&mut self, map: impl Fn(T) -> Option<T>) {
        let old = *self;
        self.len = 0;
        for item in old.items().iter().filter_map(|item| map(*item)) {
            self.items[usize::from(self.len)] = item;
            self.len += 1;
        }
        self.sort();
    }

    fn sort(&mut self) {
        let len = usize::from(self.len);
        self.items[..len].sort_unstable();
    }
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            now: 0,
            may_start: true,
            disconnects: 0,
            data_losses: 0,
            nodes: [Node::default(); MAX_NODES],
            contenders: std::array::from_fn(|_| Contender::default()),
            channels: [[Channel::default(); MAX_NODES]; MAX_CONTENDERS],
        }
    }
}

impl Contender {
    pub(crate) fn lease(&self) -> Option<&Lease> {
        match &self.progress {
            Progress::Leased(lease) => Some(lease),
            _ => None,
        }
    }

    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self.progress, Progress::Ended)
    }
}

const MAX_IN_FLIGHT: usize = 6;
