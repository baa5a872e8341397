//! Test fixture: simulated nodes, clients with a coordinator each, their connections, and one clock.
//!
//! Nothing happens by itself. [`World::deliver_request`] delivers one request, [`World::deliver_reply`] one
//! reply, [`World::round_trip`] both, [`World::deliver_all`] everything in flight. [`World::advance_clock`]
//! only moves the clock. [`World::run_timers_for`] also fires timers; [`World::run_for`] also delivers.

mod clients;
mod connections;
mod node_changes;
mod observations;
mod operations;
mod server;
mod tickets;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use server::Server;

use crate::clock_monitor::ClockAnomaly;
use crate::coordinator::{Action, AttemptEvent, Coordinator, LeaseEvent, Limits, OperationEvent};
use crate::lease_params::{Drift, LeaseParams};
use crate::marker::{ClusterId, LockClusterConfig};
use crate::membership::{Membership, ReconfigurationState, VotingStatus};
use crate::quorum::Quorum;
use crate::request::{Key, OperationId, OwnerToken};
use crate::roster::RosterView;
use crate::test_util::founding::{initialize, node_list};
use crate::test_util::node::{DataKey, Reply, SentRequest};
use crate::time::{BootTime, DualTimestamp};
use crate::vote::ExclusionReason;

pub(crate) const ALICE: usize = 0;
pub(crate) const BOB: usize = 1;
pub(crate) const KEY: &str = "orders:42";

pub(crate) const TTL: Duration = Duration::from_secs(10);
/// The max ttl of fenced worlds.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(30);
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_millis(500);
pub(crate) const REDIAL_AFTER: Duration = Duration::from_secs(2);
/// How long a lease of [`TTL`] is valid: 10 s less 1 % drift, less 2 ms.
pub(crate) const VALIDITY_TIME: Duration = Duration::from_millis(9_898);
/// How long before its deadline a loss is reported.
pub(crate) const LOSS_LEAD_TIME: Duration = Duration::from_millis(10);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) struct World {
    nanos: u64,
    last_id: OperationId,
    quorum: Quorum,
    pub(crate) servers: Vec<Server>,
    /// The server that each node's address leads to, by its index in `servers`.
    addresses: Vec<usize>,
    last_client_id: u64,
    pub(crate) clients: Vec<Client>,
    /// Describes the first two locks that were valid at once. Must stay `None`.
    pub(crate) overlap: Option<String>,
}

/// One process with a coordinator.
pub(crate) struct Client {
    pub(crate) coordinator: Coordinator,
    connections: Vec<Connection>,
    events: Vec<(OperationId, OperationEvent)>,
    leases: BTreeMap<OperationId, LeaseRecord>,
    pub(crate) redials: Vec<usize>,
    /// The nodes' exclusions, in the order of their reports.
    pub(crate) exclusions: Vec<(usize, ExclusionReason)>,
    /// The last reported voting status of each node.
    pub(crate) statuses: Vec<Option<VotingStatus>>,
    /// How many status changes were reported.
    pub(crate) status_changes: usize,
    /// The reported rosters.
    pub(crate) rosters: Vec<RosterView>,
    /// The reported clock anomalies, with their node.
    pub(crate) clock_anomalies: Vec<(usize, ClockAnomaly)>,
    /// How many nodes its list has; the others are spare.
    listed: usize,
    /// How far its reconfiguration is.
    pub(crate) progress: Option<ReconfigurationState>,
    /// Whether the coordinator reads the markers of the nodes.
    is_fenced: bool,
    wall_offset_nanos: i64,
    /// While true, the client's timers do not fire and it receives no replies.
    pub(crate) is_paused: bool,
}

#[derive(Default)]
struct Connection {
    is_up: bool,
    /// Its server, by its index in the world.
    server: usize,
    requests: VecDeque<SentRequest>,
    replies: VecDeque<Reply>,
}

/// What the client knows of one lease.
struct LeaseRecord {
    fencing_number: Option<u64>,
    deadline: DualTimestamp,
    has_ended: bool,
}

/// Options of an acquire; the default is a lock of [`TTL`] with auto-renewal.
#[derive(Clone, Copy)]
pub(crate) struct AcquireOptions {
    pub(crate) ttl: Duration,
    pub(crate) want_holder_ttl: bool,
    pub(crate) auto_renew: bool,
    pub(crate) min_fencing_number: u64,
    pub(crate) max_hold_time: Option<Duration>,
}

impl Default for AcquireOptions {
    fn default() -> Self {
        Self {
            ttl: TTL,
            want_holder_ttl: false,
            auto_renew: true,
            min_fencing_number: 0,
            max_hold_time: None,
        }
    }
}

impl World {
    /// Two clients without fencing, connected to this many nodes.
    pub(crate) fn new(nodes: usize) -> Self {
        Self::with_quorum(nodes, None, 2)
    }

    pub(crate) fn with_quorum(nodes: usize, quorum_size: Option<usize>, clients: usize) -> Self {
        let mut world = Self::unconnected(nodes, quorum_size, clients, None);
        world.connect_all();
        world
    }

    /// Two clients with fencing and probation, connected to this many freshly initialized nodes.
    pub(crate) fn fenced(nodes: usize) -> Self {
        Self::fenced_with_quorum(nodes, None, 2)
    }

    pub(crate) fn fenced_with_quorum(nodes: usize, quorum_size: Option<usize>, clients: usize) -> Self {
        let mut world = Self::unconnected(nodes, quorum_size, clients, Some(MAX_TTL));
        world.initialize_nodes();
        world.connect_all();
        world.deliver_all();
        world
    }

    /// Nodes without data and without connections; fenced, if a max ttl is given.
    pub(crate) fn unconnected(
        nodes: usize,
        quorum_size: Option<usize>,
        clients: usize,
        max_ttl: Option<Duration>,
    ) -> Self {
        let quorum = Quorum::new(nodes, quorum_size).expect("a valid quorum");
        let limits = Limits { reply_timeout: REPLY_TIMEOUT, redial_after: REDIAL_AFTER };
        let new_client = |client: usize| {
            let coordinator = match max_ttl {
                Some(max_ttl) => {
                    let drift = Drift::new(0.01).expect("a valid drift");
                    let members = Membership::new(
                        LockClusterConfig::new(quorum, max_ttl),
                        drift,
                        node_list(nodes),
                        client as u64 + 1,
                        true,
                    );
                    Coordinator::fenced(quorum, limits, members)
                }
                None => Coordinator::new(quorum, limits),
            };
            Client::new(coordinator, max_ttl.is_some(), nodes)
        };
        let new_server = |index| Server::new(index, quorum);
        Self {
            nanos: 5_000_000_000,
            last_id: 0,
            quorum,
            servers: (0..nodes).map(new_server).collect(),
            addresses: (0..nodes).collect(),
            last_client_id: clients as u64,
            clients: (0..clients).map(new_client).collect(),
            overlap: None,
        }
    }

    pub(crate) fn connect_all(&mut self) {
        for client in 0..self.clients.len() {
            (0..self.nodes()).for_each(|node| self.connect(client, node));
            self.wake(client);
        }
    }

    /// Initializes the nodes as a new lock cluster, as `quorlock init` does.
    pub(crate) fn initialize_nodes(&mut self) {
        let config = LockClusterConfig::new(self.quorum, MAX_TTL);
        let members = self.quorum.nodes();
        let nodes = self.servers.iter_mut().take(members).map(|server| &mut server.node);
        initialize(nodes, ClusterId::new(0xc1), config, self.nanos);
    }

    // Clocks.

    /// Advances the clock and fires each client's timers when they are due. Delivers nothing.
    pub(crate) fn run_timers_for(&mut self, span: Duration) {
        let until = self.nanos + span.as_nanos() as u64;
        for wake_ups in 0.. {
            assert!(wake_ups < 100_000, "a client requests endless wake-ups");
            let awake = self.clients.iter().filter(|client| !client.is_paused);
            let next = awake.filter_map(|client| client.coordinator.next_wake()).min();
            let Some(next) = next.map(BootTime::nanos) else { break };
            if next > until {
                break;
            }
            self.nanos = self.nanos.max(next);
            self.wake_all();
        }
        self.nanos = until;
        self.wake_all();
    }

    /// Advances the clock, fires timers, and delivers everything in flight every 100 ms.
    pub(crate) fn run_for(&mut self, span: Duration) {
        let mut remaining = span;
        while !remaining.is_zero() {
            let step = remaining.min(ms(100));
            self.run_timers_for(step);
            self.deliver_all();
            remaining -= step;
        }
    }

    /// Advances the clock only; no timer fires.
    pub(crate) fn advance_clock(&mut self, span: Duration) {
        self.nanos += span.as_nanos() as u64;
    }

    /// Moves one client's wall clock by this many milliseconds.
    pub(crate) fn shift_wall_clock(&mut self, client: usize, by_millis: i64) {
        self.clients[client].wall_offset_nanos += by_millis * 1_000_000;
    }

    pub(crate) fn wake(&mut self, client: usize) {
        let now = self.now(client);
        self.clients[client].coordinator.on_wake(now);
        self.perform_actions(client);
    }

    fn wake_all(&mut self) {
        for client in 0..self.clients.len() {
            if !self.clients[client].is_paused {
                self.wake(client);
            }
        }
    }

    fn perform_actions(&mut self, client: usize) {
        while let Some(action) = self.clients[client].coordinator.poll() {
            match action {
                Action::Send { request, nodes, as_text } => {
                    for node in nodes.iter() {
                        let connection = &self.clients[client].connections[node.index()];
                        // As in the driver, requests decided before the connection broke are not sent.
                        if connection.is_up {
                            let badge = self.clients[client].coordinator.expected_marker(node).cloned();
                            let command = SentRequest {
                                request: request.clone(),
                                as_text,
                                expected_marker: badge,
                                write: None,
                            };
                            self.clients[client].connections[node.index()].requests.push_back(command);
                        }
                    }
                }
                Action::ReadMarker { node, write, as_text } => {
                    let connection = &mut self.clients[client].connections[node.index()];
                    if connection.is_up {
                        connection.requests.push_back(SentRequest {
                            request: connections::marker_request(),
                            as_text,
                            expected_marker: None,
                            write,
                        });
                    }
                }
                Action::Reconfiguring(progress) => self.clients[client].progress = Some(progress),
                Action::RosterChanged(view) => self.clients[client].rosters.push(view),
                Action::VotingStatus(node, voting_status) => {
                    if let VotingStatus::Excluded(reason) = &voting_status {
                        self.clients[client].exclusions.push((node.index(), reason.clone()));
                    }
                    self.clients[client].statuses[node.index()] = Some(voting_status);
                    self.clients[client].status_changes += 1;
                }
                Action::ClockAnomaly(node, anomaly) => {
                    self.clients[client].clock_anomalies.push((node.index(), anomaly));
                }
                Action::Redial(node) => {
                    self.clients[client].redials.push(node.index());
                    self.disconnect(client, node.index());
                }
                Action::Event(id, event) => self.record_event(client, id, event),
            }
        }
    }

    fn record_event(&mut self, client: usize, id: OperationId, event: OperationEvent) {
        let leases = &mut self.clients[client].leases;
        match &event {
            OperationEvent::Attempt(AttemptEvent::Won { deadline, fencing_number, .. }) => {
                leases.insert(
                    id,
                    LeaseRecord { fencing_number: *fencing_number, deadline: *deadline, has_ended: false },
                );
                self.check_mutual_exclusion();
            }
            OperationEvent::Lease(LeaseEvent::Renewed(deadline)) => {
                if let Some(lease) = leases.get_mut(&id) {
                    lease.deadline = *deadline;
                }
                self.check_mutual_exclusion();
            }
            OperationEvent::Lease(LeaseEvent::Lost(_)) => {
                if let Some(lease) = leases.get_mut(&id) {
                    lease.has_ended = true;
                }
            }
            _ => {}
        }
        self.clients[client].events.push((id, event));
    }

    /// Records two locks that are valid at once. Called wherever validity can begin, so it misses no overlap.
    fn check_mutual_exclusion(&mut self) {
        let mut valid = Vec::new();
        for (index, client) in self.clients.iter().enumerate() {
            valid.extend(client.leases.keys().filter(|id| self.is_valid(index, **id)).map(|id| (index, *id)));
        }
        if valid.len() > 1 {
            let at = self.nanos;
            self.overlap.get_or_insert_with(|| format!("at {at} ns: (client, lock) {valid:?} at once"));
        }
    }

    pub(crate) const fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// How many nodes each client has in its list.
    pub(crate) const fn nodes(&self) -> usize {
        self.addresses.len()
    }

    /// The id of a new client.
    pub(crate) const fn next_client_id(&mut self) -> u64 {
        self.last_client_id += 1;
        self.last_client_id
    }
}

impl Client {
    /// Advances the wall clock relative to the boot clock.
    pub(crate) fn advance_wall_clock(&mut self, span: Duration) {
        self.wall_offset_nanos += span.as_nanos() as i64;
    }
}

/// The key under test.
fn lock_slot() -> DataKey {
    DataKey::Lock(Key::new(KEY))
}

/// The owner token of an attempt, unique per attempt.
pub(crate) fn owner_token(id: OperationId) -> OwnerToken {
    OwnerToken::new(u128::from(id) << 64 | 0xfeed)
}

pub(crate) fn lease_params(ttl: Duration) -> LeaseParams {
    let drift = Drift::new(0.01).expect("a valid drift");
    LeaseParams::new(ttl, drift, None, REPLY_TIMEOUT).expect("valid lease parameters")
}
