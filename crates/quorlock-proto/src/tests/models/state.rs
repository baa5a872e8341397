//! One state of the world: nodes, attempts with what became of them, and all that is on its way.

use std::rc::Rc;

use crate::attempt::Attempt;
use crate::lease::Lease;

use super::node::{Command, Node, Reply};

pub(crate) const MOST_NODES: usize = 5;
pub(crate) const MOST_ROWS: usize = 3;

#[derive(Clone)]
pub(crate) struct State {
    /// In ticks.
    pub(crate) now: u8,
    /// Whether nothing but starts happened since a number was handed out. Told in lean models only.
    pub(crate) is_fresh: bool,
    pub(crate) cuts: u8,
    pub(crate) forgets: u8,
    pub(crate) nodes: [Node; MOST_NODES],
    /// One for each attempt.
    pub(crate) rows: [Row; MOST_ROWS],
    /// What is on its way between an attempt and a node, in no order.
    ///
    /// A connection keeps the order of what is sent on it, but those of an attempt and its undo may go over different
    /// ones, and what was sent on an old one may arrive late. Any order is more than connections can do.
    pub(crate) wires: [[Wire; MOST_NODES]; MOST_ROWS],
}

/// One attempt, and the lease that it became.
#[derive(Clone, Default)]
pub(crate) struct Row {
    pub(crate) stage: Stage,
    /// When it began, in ticks.
    pub(crate) start: u8,
    /// Its fencing number; 0 while it has none.
    pub(crate) number: u32,
    /// Whether that number was handed out.
    pub(crate) is_issued: bool,
    /// The locks that were handed out before it began.
    pub(crate) earlier: u8,
    /// The nodes that its number stood upon when it was handed out.
    pub(crate) counted: u8,
    /// Where its key may stand, as known when it won.
    pub(crate) touched: u8,
    /// Whether another client was given the lock since.
    pub(crate) was_passed: bool,
    pub(crate) extensions: u8,
    /// Where its key may be deleted any time from now on.
    pub(crate) undone: u8,
}

#[derive(Clone, Default)]
pub(crate) enum Stage {
    #[default]
    Waiting,
    Open(Rc<Attempt>),
    Held(Rc<Lease>),
    Over,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Wire {
    pub(crate) commands: Bag<Command>,
    pub(crate) replies: Bag<Reply>,
}

/// A few things in no order: kept sorted, so that equal bags are equal.
#[derive(Clone, Copy, Default)]
pub(crate) struct Bag<T> {
    len: u8,
    items: [T; MOST_ON_A_WIRE],
}

impl<T: Copy + Ord + Default> Bag<T> {
    pub(crate) fn items(&self) -> &[T] {
        &self.items[..usize::from(self.len)]
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn put(&mut self, item: T) {
        self.items[usize::from(self.len)] = item;
        self.len += 1;
        self.sort();
    }

    pub(crate) fn take(&mut self, place: usize) -> T {
        let item = self.items()[place];
        self.len -= 1;
        self.items[place] = self.items[usize::from(self.len)];
        self.sort();
        item
    }

    pub(crate) fn retain_map(&mut self, keep: impl Fn(T) -> Option<T>) {
        let old = *self;
        self.len = 0;
        for item in old.items().iter().filter_map(|item| keep(*item)) {
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
            is_fresh: true,
            cuts: 0,
            forgets: 0,
            nodes: [Node::default(); MOST_NODES],
            rows: std::array::from_fn(|_| Row::default()),
            wires: [[Wire::default(); MOST_NODES]; MOST_ROWS],
        }
    }
}

impl Row {
    pub(crate) fn lease(&self) -> Option<&Lease> {
        match &self.stage {
            Stage::Held(lease) => Some(lease),
            _ => None,
        }
    }

    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }
}

const MOST_ON_A_WIRE: usize = 6;
