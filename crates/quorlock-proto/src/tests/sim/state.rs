//! State of a running history: nodes, clients and connections.

use std::collections::VecDeque;
use std::fmt;

use super::clock::ClientClocks;
use super::plan::Plan;
use super::reconfigurations::{Goal, list_of};
use super::workload::Task;
use crate::coordinator::Coordinator;
use crate::marker::{LockClusterConfig, MarkerReading};
use crate::membership::{Membership, ReconfigurationState};
use crate::quorum::{NodeId, NodeSet};
use crate::roster::NodeList;
use crate::test_util::node::{Data, Reply, SentRequest, SimulatedNode};
use crate::time::DualTimestamp;

/// A node and the machine it runs on.
#[allow(clippy::struct_excessive_bools, reason = "each is read by itself")]
pub(super) struct NodeHost {
    pub(super) redis: SimulatedNode,
    /// The server that had the address before, and its run; connections to it stay.
    pub(super) ghost: Option<(SimulatedNode, u32)>,
    /// Counts the server's processes; a connection belongs to one of them.
    pub(super) server_run: u32,
    pub(super) is_down: bool,
    pub(super) is_replica: bool,
    pub(super) paused_until: u64,
    /// In permille: commands that get an error reply.
    pub(super) error_permille: u64,
    pub(super) errors_since: u64,
    pub(super) evicts_since: u64,
    /// Since it evicts, a fenced client has read the marker and had the time to record the eviction there.
    pub(super) eviction_was_recorded: bool,
    /// The marker at the last reset of the statistics.
    pub(super) marker_at_reset: Option<Vec<u8>>,
    /// The data that `SWAPDB` moved away.
    pub(super) swapped_out: Option<Data>,
    /// By how many nanoseconds its clock is behind since the restart, and since when.
    pub(super) clock_behind_by: i64,
    pub(super) clock_behind_since: u64,
    /// Data of an earlier time.
    pub(super) saved_copy: Option<Data>,
    /// A fault affected it until then.
    pub(super) disturbed_until: u64,
    pub(super) drift_ppm: i64,
    pub(super) was_clock_set_back: bool,
    pub(super) jumped_at: Option<u64>,
}

/// A client's process and the machine it runs on. Vectors have one entry per node.
#[allow(clippy::struct_excessive_bools, reason = "each is read by itself")]
pub(super) struct ClientHost {
    pub(super) coordinator: Coordinator,
    /// Counts the client's processes.
    pub(super) incarnation: u32,
    pub(super) is_dead: bool,
    pub(super) clocks: ClientClocks,
    pub(super) conn_ids: Vec<Option<usize>>,
    /// A fault affected the link to the node, or the client's view of the node, until then.
    pub(super) disturbed_until: Vec<u64>,
    /// Whether this process lets the node vote.
    pub(super) is_voting: Vec<bool>,
    /// Since when this process has known the node as a member; `u64::MAX`: never.
    pub(super) known_since: Vec<u64>,
    /// No message arrives at the node, or from it, before this.
    pub(super) to_node_blocked_until: Vec<u64>,
    pub(super) from_node_blocked_until: Vec<u64>,
    pub(super) timer_at: Option<u64>,
    pub(super) paused_since: u64,
    pub(super) paused_until: u64,
    /// Since when the process has run without a pause or a change of its clocks.
    pub(super) undisturbed_since: u64,
    pub(super) is_stopped: bool,
    pub(super) was_wall_set_back: bool,
    /// Its boot clock has been stopped at least once.
    pub(super) was_clock_stopped: bool,
    pub(super) drift_ppm: i64,
    pub(super) tasks: Vec<Task>,
    pub(super) is_fenced: bool,
    pub(super) is_misconfigured: bool,
    /// The nodes of its list. The coordinator knows each by its position.
    pub(super) list: Vec<usize>,
    /// What it makes of the lock cluster, if it reconfigures it, and how far it is.
    pub(super) goal: Option<Goal>,
    pub(super) progress: Option<ReconfigurationState>,
    /// Its list names one node by another name.
    pub(super) has_other_list: bool,
    /// The number of the process: each has its own, over all clients.
    processes: u64,
}

/// One connection. Its two queues keep the order of the messages.
pub(super) struct Connection {
    pub(super) client: usize,
    pub(super) incarnation: u32,
    pub(super) node: usize,
    pub(super) server_run: u32,
    pub(super) state: LinkState,
    pub(super) to_node: VecDeque<ToNode>,
    pub(super) to_client: VecDeque<ToClient>,
    pub(super) last_arrival_at_node: u64,
    pub(super) last_arrival_at_client: u64,
    /// When the client dialed, by its own clocks.
    pub(super) dialed_at: DualTimestamp,
    /// A marker was read on it since the node evicts.
    pub(super) marker_read_while_evicting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    Dialing,
    Up,
    Cut,
}

pub(super) enum ToNode {
    Hello,
    SentRequest(SentRequest),
}

pub(super) enum ToClient {
    Accepted(MarkerReading),
    IsReplica,
    ConnectionRefused,
    /// Notifies the first waiting process. If `is_from_waiter`, a waiter found the key free and caused this;
    /// otherwise a release did.
    Notification {
        key: usize,
        has_others: bool,
        is_from_waiter: bool,
    },
    Reply(Reply),
}

impl NodeHost {
    pub(super) fn new(redis: SimulatedNode, drift_ppm: i64) -> Self {
        Self {
            redis,
            ghost: None,
            server_run: 0,
            is_down: false,
            is_replica: false,
            paused_until: 0,
            error_permille: 0,
            errors_since: 0,
            evicts_since: u64::MAX,
            eviction_was_recorded: false,
            marker_at_reset: None,
            swapped_out: None,
            clock_behind_by: 0,
            clock_behind_since: 0,
            saved_copy: None,
            disturbed_until: 0,
            drift_ppm,
            was_clock_set_back: false,
            jumped_at: None,
        }
    }

    /// The servers that answer its connections.
    pub(super) fn servers(&self) -> impl Iterator<Item = &SimulatedNode> {
        [&self.redis].into_iter().chain(self.ghost.as_ref().map(|(ghost, _)| ghost))
    }

    /// The same. They have one clock, as their address had.
    pub(super) fn servers_mut(&mut self) -> impl Iterator<Item = &mut SimulatedNode> {
        [&mut self.redis].into_iter().chain(self.ghost.as_mut().map(|(ghost, _)| ghost))
    }

    /// How far its clock is from true time, in nanoseconds.
    pub(super) fn clock_error(&self, nanos: u64) -> u64 {
        (self.redis.clock_micros(nanos) * 1000).abs_diff(crate::test_util::node::EPOCH + nanos)
    }
}

impl ClientHost {
    pub(super) fn new(plan: &Plan, client: usize, clocks: ClientClocks, drift_ppm: i64) -> Self {
        let nodes = plan.quorum.nodes() + plan.reconfigurations.spares;
        let is_misconfigured = plan.has_misconfigured_client && client == plan.client_count - 1;
        let mut client_host = Self {
            coordinator: Coordinator::new(plan.quorum, plan.limits),
            processes: 1_000_000 * client as u64,
            incarnation: 0,
            is_dead: false,
            clocks,
            conn_ids: vec![None; nodes],
            disturbed_until: vec![0; nodes],
            is_voting: vec![false; nodes],
            known_since: vec![u64::MAX; nodes],
            to_node_blocked_until: vec![0; nodes],
            from_node_blocked_until: vec![0; nodes],
            timer_at: None,
            paused_since: 0,
            paused_until: 0,
            undisturbed_since: 0,
            is_stopped: false,
            was_wall_set_back: false,
            was_clock_stopped: false,
            drift_ppm,
            tasks: Vec::new(),
            is_fenced: plan.is_fenced(client),
            is_misconfigured,
            list: plan.list_of(client),
            goal: None,
            progress: None,
            has_other_list: plan.has_other_list && client == plan.client_count - 1,
        };
        client_host.reset_process(plan);
        client_host
    }

    /// The node that the coordinator knows by this position.
    pub(super) fn host(&self, node: NodeId) -> usize {
        self.list[node.index()]
    }

    /// These nodes, which the coordinator knows by their positions.
    pub(super) fn hosts(&self, nodes: NodeSet) -> NodeSet {
        nodes.iter().map(|node| NodeId(self.host(node) as u8)).collect()
    }

    /// The position of a node that it dials.
    pub(super) fn id_of(&self, node: usize) -> Option<NodeId> {
        self.list.iter().position(|host| *host == node).map(|index| NodeId(index as u8))
    }

    /// The number of the process.
    pub(super) const fn process(&self) -> u64 {
        self.processes
    }

    /// Replaces the process by a new one without any state.
    pub(super) fn reset_process(&mut self, plan: &Plan) {
        self.coordinator = if let Some(goal) = &self.goal {
            self.processes += 1;
            let (quorum, members) = goal.membership(plan, &self.list, self.processes);
            Coordinator::fenced(quorum, plan.limits, members)
        } else if self.is_fenced {
            let max_ttl = if self.is_misconfigured { plan.other_max_ttl() } else { plan.max_ttl };
            let quorum = plan.quorum_of(self.list.len());
            let config = LockClusterConfig::new(quorum, max_ttl).with_retention(plan.config().retention());
            let list = if self.has_other_list { other_list(self.list.len()) } else { list_of(&self.list) };
            self.processes += 1;
            // All servers that clients of one list reach may be without memory, while others serve those of another.
            let may_found = !plan.reconfigures();
            let members = Membership::new(config, plan.drift, list, self.processes, may_found);
            Coordinator::fenced(quorum, plan.limits, members)
        } else {
            Coordinator::new(plan.quorum, plan.limits)
        };
        self.conn_ids.fill(None);
        self.known_since.fill(u64::MAX);
        self.is_voting.fill(!self.is_fenced);
        self.timer_at = None;
        self.progress = None;
        self.tasks = (0..plan.key_count).map(|_| Task::default()).collect();
    }
}

/// [`list_of`] all with another name of the last node, and the same order.
fn other_list(nodes: usize) -> NodeList {
    let name = |node| if node + 1 == nodes { format!("node {node}a") } else { format!("node {node}") };
    NodeList::new(&(0..nodes).map(name).collect::<Vec<_>>())
}

impl fmt::Debug for ToNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello => f.write_str("Hello"),
            Self::SentRequest(command) => command.request.kind.fmt(f),
        }
    }
}
