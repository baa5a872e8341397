//! The world of the models: what can happen, and what must never come of it.

use std::time::Duration;

use crate::lease_params::{Drift, LeaseParams};
use crate::marker::{ClusterId, Incarnation, LockClusterConfig, Marker};
use crate::quorum::Quorum;
use crate::request::RequestKind;
use crate::time::DualTimestamp;
use crate::vote::Vote;

use super::bounds::{Bounds, Clock, Memory, Numbers, Slip};
use super::canon::{Places, swaps};
use super::node::{Command, Said, phase};
use super::state::{Stage, State, Wire};

pub(crate) struct World {
    pub(crate) bounds: Bounds,
    pub(crate) quorum: Quorum,
    pub(crate) params: LeaseParams,
    pub(crate) extend_terms: Vec<LeaseParams>,
    /// When a node votes that has had its data since such a tick, by the shipped marker.
    votes_from: Vec<u64>,
    /// The ways to name the clients.
    pub(crate) swaps: Vec<Places>,
}

/// Something that happens. Rows are attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Start {
        row: u8,
    },
    /// A question reaches its node, which may choose a number.
    Arrive {
        row: u8,
        node: u8,
        place: u8,
        number: u32,
    },
    /// A pending release reaches its node.
    PendingRelease {
        row: u8,
        node: u8,
    },
    Answer {
        row: u8,
        node: u8,
        place: u8,
    },
    /// The connection breaks: no answer will come, but what was sent may still arrive.
    Cut {
        row: u8,
        node: u8,
    },
    /// A timer goes off.
    Wake {
        row: u8,
    },
    LetGo {
        row: u8,
    },
    Extend {
        row: u8,
        params: u8,
    },
    /// The key goes, where there is no time to say when.
    Expire {
        node: u8,
    },
    Forget {
        node: u8,
    },
    Tick,
}

/// What is worth seeing on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Two attempts were open at once.
    Rivals,
    Won,
    /// It took a second round.
    TwoRounds,
    /// The number was raised, and the client never heard of it.
    RaiseUnheard,
    /// A first question ran after its attempt was over.
    LateGrant,
    /// A straggler had a larger number than the lock.
    Straggler,
    /// A lock was handed out while the last holder had not let go.
    Stale,
    Refused,
    /// An extension moved a deadline.
    Moved,
    Retaken,
    Lost,
    /// A question of before the node forgot came after.
    Changed,
    Doubted,
    /// A node voted again after it had forgotten.
    VotesAgain,
    /// A key was taken again past a larger number that was given to nobody.
    RetakenPast,
    /// A node with our key and a larger number was found to count.
    Cleared,
}

impl World {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let quorum = Quorum::new(bounds.nodes, bounds.need).expect("a quorum");
        let ttl = if let Clock::Ticks { ttl, .. } = bounds.clock { ttl } else { 100 };
        let params = |ticks: u8| {
            let drift = Drift::new(0.0).expect("no drift");
            let patience = Some(Duration::from_millis(1));
            LeaseParams::new(TICK * u32::from(ticks), drift, patience, TICK).expect("terms that work")
        };
        let marker = |tick: u8| Marker {
            cluster: ClusterId::new(1),
            config: LockClusterConfig::new(quorum, TICK * u32::from(ttl)),
            incarnation: Incarnation::new("run:data"),
            since_micros: wide_of(micros(tick)),
            written_micros: 0,
            base_micros: 0,
        };
        Self {
            bounds,
            quorum,
            params: params(ttl),
            extend_terms: bounds.extend_to.iter().map(|ticks| params(*ticks)).collect(),
            votes_from: (0..=bounds.horizon()).map(|tick| marker(tick).votes_from_micros()).collect(),
            swaps: swaps(bounds.attempts, bounds.slip),
        }
    }

    /// What the owner of an attempt's keys is called; 0 is nobody.
    pub(crate) fn owner(&self, row: usize) -> u8 {
        let reused = self.bounds.slip == Some(Slip::ReusesToken);
        1 + if reused { self.bounds.client(row) as u8 } else { row as u8 }
    }

    pub(crate) fn is_timed(&self) -> bool {
        self.bounds.clock != Clock::None
    }

    /// A number as the machines know it.
    pub(crate) fn wide(&self, number: u32) -> u64 {
        if self.bounds.numbers == Numbers::Clocks { wide_of(number) } else { u64::from(number) }
    }

    pub(crate) fn narrow(&self, number: u64) -> u32 {
        let base = if self.bounds.numbers == Numbers::Clocks { WALL_MICROS } else { 0 };
        u32::try_from(number - base).expect("a number of this model")
    }

    /// Whether a node that has had its data since then may vote.
    pub(crate) fn may_vote(&self, state: &State, node: usize) -> bool {
        wide_of(micros(state.now)) >= self.floor(state, node)
    }

    fn floor(&self, state: &State, node: usize) -> u64 {
        let node = &state.nodes[node];
        let is_marked = self.bounds.memory == Memory::Marked && node.life > 0;
        if is_marked { self.votes_from[usize::from(node.since)] } else { 0 }
    }

    /// The number that goes with a question.
    pub(crate) const fn number_of(state: &State, row: usize, command: Command) -> u32 {
        if command.past > 0 { command.past } else { state.rows[row].number }
    }

    /// The number that a grant installs by the script, when clocks agree.
    pub(crate) fn number_by_clock(&self, state: &State, row: usize, node: usize) -> u32 {
        let now = micros(state.now);
        let fence = state.nodes[node].fence;
        let last = if fence == 0 { now - TOLERANCE } else { fence };
        let base = u32::try_from(self.floor(state, node).saturating_sub(WALL_MICROS)).expect("a tick");
        let hint = micros(state.rows[row].start);
        if hint > last && hint > base && hint <= now + TOLERANCE { hint } else { last.max(base) + 1 }
    }

    pub(crate) fn moment(tick: u8) -> DualTimestamp {
        let span = TICK * u32::from(tick);
        DualTimestamp::new(BOOT_NANOS, WALL_MICROS * 1000 + u64::from(FIRST_MICROS) * 1000).plus(span)
    }

    /// Every number that still matters, sorted.
    pub(crate) fn numbers(&self, state: &State) -> Vec<u32> {
        if !self.bounds.is_fenced() {
            return Vec::new();
        }
        let mut numbers: Vec<u32> = state.nodes.iter().map(|node| node.fence).collect();
        for (row, wires) in state.rows.iter().zip(&state.wires) {
            let in_use =
                |wire: &Wire| wire.commands.items().iter().any(|it| phase(it.phase) != RequestKind::Acquire);
            if row.is_issued || !row.is_over() || wires.iter().any(in_use) {
                numbers.push(row.number);
            }
            if let Stage::Open(attempt) = &row.stage
                && attempt.fencing_number().is_none()
            {
                let votes = attempt.round().votes();
                numbers.extend(votes.filter_map(|vote| match vote {
                    Vote::Fenced(number) => Some(self.narrow(*number)),
                    _ => None,
                }));
            }
            for reply in wires.iter().flat_map(|wire| wire.replies.items()) {
                if let Said::Fenced(number) = reply.said {
                    numbers.push(number);
                }
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|number| *number > 0);
        numbers
    }
}

pub(crate) fn name(row: usize) -> char {
    char::from(b'a' + row as u8)
}

const fn micros(tick: u8) -> u32 {
    FIRST_MICROS + tick as u32 * TICK.as_micros() as u32
}

const fn wide_of(micros: u32) -> u64 {
    WALL_MICROS + micros as u64
}

/// The shortest ttl there is. A deadline lies 2 ms before the ttl is over, between two ticks: a lock is over at the
/// very tick at which its first key may go.
pub(crate) const TICK: Duration = Duration::from_millis(10);
const BOOT_NANOS: u64 = 1_000_000_000_000;
const WALL_MICROS: u64 = 1_700_000_000_000_000;
const FIRST_MICROS: u32 = 1_000_000;
/// As in `acquire_fenced.lua`.
const TOLERANCE: u32 = 250_000;
