//! What a history is made of while it goes on: nodes and clients with their machines, and the ways between them.

use std::collections::VecDeque;
use std::fmt;

use super::caller::Task;
use super::clock::Clocks;
use super::plan::Plan;
use crate::coordinator::Coordinator;
use crate::marker::{LockClusterConfig, MarkerReading};
use crate::membership::Membership;
use crate::test_util::node::{Data, Reply, SentRequest, SimulatedNode};
use crate::time::DualTimestamp;

/// A node and the machine it runs on.
#[allow(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub(super) struct Site {
    pub(super) node: SimulatedNode,
    /// Which process: a connection belongs to one of them.
    pub(super) run: u32,
    pub(super) is_down: bool,
    pub(super) is_replica: bool,
    pub(super) frozen_until: u64,
    /// Of a thousand commands, those answered with an error.
    pub(super) errors: u64,
    pub(super) errors_since: u64,
    pub(super) evicts_since: u64,
    /// Since it evicts somebody looked who takes nodes in, and had the time to write that down.
    pub(super) eviction_was_recorded: bool,
    /// What it remembered of its cluster when its statistics were reset.
    pub(super) marker_at_reset: Option<Vec<u8>>,
    /// The database that it had before it was swapped.
    pub(super) swapped: Option<Data>,
    /// By how much its clock is to be set forth, to be right, and since when.
    pub(super) clock_behind_by: i64,
    pub(super) clock_behind_since: u64,
    /// Some data that it had.
    pub(super) copy: Option<Data>,
    /// Something was wrong with it until then.
    pub(super) trouble_until: u64,
    pub(super) haste: i64,
    pub(super) has_jumped_back: bool,
    pub(super) jumped_at: Option<u64>,
}

/// A client's process and the machine it runs on.
#[allow(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub(super) struct Peer {
    pub(super) coordinator: Coordinator,
    /// Which process.
    pub(super) life: u32,
    pub(super) is_dead: bool,
    pub(super) clocks: Clocks,
    pub(super) wires: Vec<Option<usize>>,
    /// Something was wrong with the way to a node, or with what is thought of it, until then.
    pub(super) trouble_until: Vec<u64>,
    /// Whether a node votes, as far as this process knows.
    pub(super) votes: Vec<bool>,
    /// Since when this process has known a node as a member; `u64::MAX` for never.
    pub(super) known_since: Vec<u64>,
    /// Nothing goes to, or comes from, a node before this.
    pub(super) no_way_out: Vec<u64>,
    pub(super) no_way_in: Vec<u64>,
    pub(super) wakes_at: Option<u64>,
    pub(super) frozen_since: u64,
    pub(super) frozen_until: u64,
    /// Since when it runs on without a break, and nobody set its clock.
    pub(super) undisturbed_since: u64,
    pub(super) is_stopped: bool,
    pub(super) was_set_back: bool,
    /// Its boot clock stood still once.
    pub(super) has_stood: bool,
    pub(super) haste: i64,
    pub(super) tasks: Vec<Task>,
    pub(super) is_fenced: bool,
    pub(super) is_stranger: bool,
}

/// One connection.
pub(super) struct Conn {
    pub(super) who: usize,
    pub(super) life: u32,
    pub(super) node: usize,
    pub(super) run: u32,
    pub(super) state: Way,
    pub(super) to_node: VecDeque<Message>,
    pub(super) to_client: VecDeque<ToClient>,
    pub(super) out_clear: u64,
    pub(super) in_clear: u64,
    /// When the client dialed, by its own clocks.
    pub(super) asked: DualTimestamp,
    /// On it came a look since the node evicts.
    pub(super) looked_while_evicting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Dialing,
    Up,
    Cut,
}

pub(super) enum Message {
    Hello,
    Command(SentRequest),
}

pub(super) enum ToClient {
    Met(MarkerReading),
    Replica,
    NotListening,
    /// The next in line for a key is called; whether others wait behind it, and whether nobody gave the key up.
    Call {
        key: usize,
        has_others: bool,
        is_found: bool,
    },
    Reply(Reply),
}

impl Site {
    pub(super) fn new(node: SimulatedNode, haste: i64) -> Self {
        Self {
            node,
            run: 0,
            is_down: false,
            is_replica: false,
            frozen_until: 0,
            errors: 0,
            errors_since: 0,
            evicts_since: u64::MAX,
            eviction_was_recorded: false,
            marker_at_reset: None,
            swapped: None,
            clock_behind_by: 0,
            clock_behind_since: 0,
            copy: None,
            trouble_until: 0,
            haste,
            has_jumped_back: false,
            jumped_at: None,
        }
    }

    /// How far its clock is off.
    pub(super) fn error(&self, nanos: u64) -> u64 {
        (self.node.clock_micros(nanos) * 1000).abs_diff(crate::test_util::node::EPOCH + nanos)
    }
}

impl Peer {
    pub(super) fn new(plan: &Plan, who: usize, clocks: Clocks, haste: i64) -> Self {
        let nodes = plan.quorum.nodes();
        let is_stranger = plan.has_stranger && who == plan.clients - 1;
        let mut peer = Self {
            coordinator: Coordinator::new(plan.quorum, plan.limits),
            life: 0,
            is_dead: false,
            clocks,
            wires: vec![None; nodes],
            trouble_until: vec![0; nodes],
            votes: vec![false; nodes],
            known_since: vec![u64::MAX; nodes],
            no_way_out: vec![0; nodes],
            no_way_in: vec![0; nodes],
            wakes_at: None,
            frozen_since: 0,
            frozen_until: 0,
            undisturbed_since: 0,
            is_stopped: false,
            was_set_back: false,
            has_stood: false,
            haste,
            tasks: Vec::new(),
            is_fenced: plan.is_fenced(who),
            is_stranger,
        };
        peer.begin_again(plan);
        peer
    }

    /// A new process, which knows nothing.
    pub(super) fn begin_again(&mut self, plan: &Plan) {
        self.coordinator = if self.is_fenced {
            let longest = if self.is_stranger { plan.max_ttl * 2 } else { plan.max_ttl };
            let config =
                LockClusterConfig::new(plan.quorum, longest).with_retention(plan.config().retention());
            let members = Membership::new(config, plan.drift, true);
            Coordinator::fenced(plan.quorum, plan.limits, members)
        } else {
            Coordinator::new(plan.quorum, plan.limits)
        };
        self.wires.fill(None);
        self.known_since.fill(u64::MAX);
        self.votes.fill(!self.is_fenced);
        self.wakes_at = None;
        self.tasks = (0..plan.keys).map(|_| Task::default()).collect();
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello => f.write_str("Hello"),
            Self::Command(command) => command.request.kind.fmt(f),
        }
    }
}
