//! Test fixture: simulated nodes, clients with a coordinator each, their connections, and one clock.
//!
//! Nothing happens by itself. [`World::deliver_request`] delivers one request, [`World::deliver_reply`] one
//! reply, [`World::round_trip`] both, [`World::deliver_all`] everything in flight. [`World::advance_clock`]
//! only moves the clock. [`World::run_timers_for`] also fires timers; [`World::run_for`] also delivers.
//!
//! It is past 400 lines because nodes, clients and connections of one world change each other's state.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::attempt::AttemptFailure;
use crate::clock_monitor::ClockAnomaly;
use crate::coordinator::{Action, Coordinator, Limits, OperationEvent, OperationId};
use crate::lease::{LossReason, RenewalPolicy};
use crate::lease_params::{Drift, LeaseParams};
use crate::marker::{ClusterId, LockClusterConfig, Marker};
use crate::membership::{InitResult, MarkerWrite, Membership, VotingStatus};
use crate::quorum::{NodeId, Quorum};
use crate::request::{Key, LockSpec, OwnerToken, Request, RequestKind};
use crate::test_util::node::{Data, DataKey, DataValue, EPOCH, Reply, SentRequest, SimulatedNode};
use crate::time::DualTimestamp;
use crate::vote::{ExclusionReason, Vote};

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
    pub(crate) clients: Vec<Client>,
    /// Describes the first two locks that were valid at once. Must stay `None`.
    pub(crate) overlap: Option<String>,
}

/// One simulated Redis master.
pub(crate) struct Server {
    pub(crate) node: SimulatedNode,
    /// While true, the node leaves requests unprocessed in their connections.
    pub(crate) hangs: bool,
    /// Replies to the next commands, which the node does not run.
    pub(crate) canned_replies: VecDeque<Vote>,
    /// Commands that can still arrive although their connection is lost, one queue per connection.
    orphaned_commands: VecDeque<VecDeque<SentRequest>>,
}

/// One process with a coordinator.
pub(crate) struct Client {
    pub(crate) coordinator: Coordinator,
    connections: Vec<Connection>,
    events: Vec<(OperationId, OperationEvent)>,
    leases: BTreeMap<OperationId, LeaseRecord>,
    pub(crate) redials: Vec<usize>,
    /// The last reported voting status of each node.
    pub(crate) statuses: Vec<Option<VotingStatus>>,
    /// How many status changes were reported.
    pub(crate) status_changes: usize,
    /// The reported clock anomalies, with their node.
    pub(crate) clock_anomalies: Vec<(usize, ClockAnomaly)>,
    /// Whether the coordinator reads the markers of the nodes.
    is_fenced: bool,
    wall_offset_nanos: i64,
    /// While true, the client's timers do not fire and it receives no replies.
    pub(crate) is_paused: bool,
}

#[derive(Default)]
struct Connection {
    is_up: bool,
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
        let new_client = || Client {
            coordinator: match max_ttl {
                Some(max_ttl) => {
                    let drift = Drift::new(0.01).expect("a valid drift");
                    let members = Membership::new(LockClusterConfig::new(quorum, max_ttl), drift, true);
                    Coordinator::fenced(quorum, limits, members)
                }
                None => Coordinator::new(quorum, limits),
            },
            is_fenced: max_ttl.is_some(),
            connections: (0..nodes).map(|_| Connection::default()).collect(),
            events: Vec::new(),
            leases: BTreeMap::new(),
            redials: Vec::new(),
            statuses: vec![None; nodes],
            status_changes: 0,
            clock_anomalies: Vec::new(),
            wall_offset_nanos: 0,
            is_paused: false,
        };
        let new_server = |index| Server {
            node: SimulatedNode::new(index, LockClusterConfig::new(quorum, MAX_TTL)),
            hangs: false,
            canned_replies: VecDeque::new(),
            orphaned_commands: VecDeque::new(),
        };
        Self {
            nanos: 5_000_000_000,
            last_id: 0,
            quorum,
            servers: (0..nodes).map(new_server).collect(),
            clients: (0..clients).map(|_| new_client()).collect(),
            overlap: None,
        }
    }

    pub(crate) fn connect_all(&mut self) {
        for client in 0..self.clients.len() {
            (0..self.servers.len()).for_each(|node| self.connect(client, node));
            self.wake(client);
        }
    }

    /// Initializes the nodes as a new lock cluster, as `quorlock init` does.
    pub(crate) fn initialize_nodes(&mut self) {
        let identity = Marker::identity(ClusterId::new(0xc1), LockClusterConfig::new(self.quorum, MAX_TTL));
        for server in &mut self.servers {
            let write = MarkerWrite {
                replaces: None,
                identity: identity.clone(),
                backdate: MAX_TTL,
                written_micros: 0,
                base_micros: 0,
            };
            server.node.read_marker(Some(&write), self.nanos);
        }
    }

    // Clocks.

    pub(crate) fn now(&self, client: usize) -> DualTimestamp {
        let wall =
            EPOCH.saturating_add(self.nanos).saturating_add_signed(self.clients[client].wall_offset_nanos);
        DualTimestamp::new(self.nanos, wall)
    }

    /// Advances the clock and fires each client's timers when they are due. Delivers nothing.
    pub(crate) fn run_timers_for(&mut self, span: Duration) {
        let until = self.nanos + span.as_nanos() as u64;
        for wake_ups in 0.. {
            assert!(wake_ups < 100_000, "a client requests endless wake-ups");
            let awake = self.clients.iter().filter(|client| !client.is_paused);
            let Some(next) = awake.filter_map(|client| client.coordinator.next_wake()).min() else { break };
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

    // Operations.

    pub(crate) fn start_acquire(&mut self, client: usize) -> OperationId {
        self.start_acquire_with(client, AcquireOptions::default())
    }

    pub(crate) fn start_acquire_with(&mut self, client: usize, options: AcquireOptions) -> OperationId {
        self.last_id += 1;
        let (id, now) = (self.last_id, self.now(client));
        let spec = LockSpec {
            key: Key::new(KEY),
            params: lease_params(options.ttl),
            want_holder_ttl: options.want_holder_ttl,
            min_fencing_number: options.min_fencing_number,
        };
        let policy = RenewalPolicy { auto_renew: options.auto_renew, max_hold_time: options.max_hold_time };
        self.clients[client].coordinator.acquire(id, spec, policy, owner_token(id), now);
        self.perform_actions(client);
        id
    }

    /// Acquires the lock and asserts success.
    pub(crate) fn acquire(&mut self, client: usize) -> OperationId {
        self.acquire_with(client, AcquireOptions::default())
    }

    pub(crate) fn acquire_with(&mut self, client: usize, options: AcquireOptions) -> OperationId {
        let id = self.start_acquire_with(client, options);
        self.deliver_all();
        assert!(self.is_valid(client, id), "the lock is free");
        self.take_events(client);
        id
    }

    pub(crate) fn cancel(&mut self, client: usize, id: OperationId) {
        let now = self.now(client);
        if let Some(lease) = self.clients[client].leases.get_mut(&id) {
            lease.has_ended = true;
        }
        self.clients[client].coordinator.cancel(id, now);
        self.perform_actions(client);
    }

    pub(crate) fn release(&mut self, client: usize, id: OperationId) -> bool {
        let now = self.now(client);
        if let Some(lease) = self.clients[client].leases.get_mut(&id) {
            lease.has_ended = true;
        }
        let is_known = self.clients[client].coordinator.release(id, now);
        self.perform_actions(client);
        is_known
    }

    pub(crate) fn extend(&mut self, client: usize, id: OperationId, ttl: Duration) -> bool {
        let now = self.now(client);
        let is_held = self.clients[client].coordinator.extend(id, lease_params(ttl), now);
        self.perform_actions(client);
        is_held
    }

    pub(crate) fn survey(&mut self, client: usize, kind: RequestKind) -> OperationId {
        self.last_id += 1;
        let (id, now) = (self.last_id, self.now(client));
        self.clients[client].coordinator.survey(id, kind, Key::new(KEY), now);
        self.perform_actions(client);
        id
    }

    /// Initializes the nodes as a new lock cluster over the client's own connections.
    pub(crate) fn initialize_as(
        &mut self,
        client: usize,
        cluster_id: u128,
        is_forced: bool,
    ) -> Option<InitResult> {
        self.last_id += 1;
        let (id, now) = (self.last_id, self.now(client));
        self.clients[client].coordinator.initialize(id, ClusterId::new(cluster_id), is_forced, now);
        self.perform_actions(client);
        self.deliver_all();
        self.take_events(client).into_iter().find_map(|event| match event {
            OperationEvent::Initialized(declared) => Some(declared),
            _ => None,
        })
    }

    // Connections.

    pub(crate) fn connect(&mut self, client: usize, node: usize) {
        let now = self.now(client);
        let connection = &mut self.clients[client].connections[node];
        if connection.is_up {
            return;
        }
        connection.is_up = true;
        // The handshake loads the scripts and reads the marker.
        self.servers[node].node.load_scripts();
        if self.clients[client].is_fenced {
            let reading = self.servers[node].node.read_marker(None, self.nanos);
            self.clients[client].coordinator.on_handshake(NodeId(node as u8), reading, now, now);
        }
        self.clients[client].coordinator.on_up(NodeId(node as u8), now);
        self.perform_actions(client);
    }

    /// Breaks the connection; undelivered requests are lost.
    pub(crate) fn disconnect(&mut self, client: usize, node: usize) {
        self.disconnect_leaving(client, node, 0);
    }

    /// Breaks the connection; its first `orphans` undelivered commands can still reach the node later.
    pub(crate) fn disconnect_leaving(&mut self, client: usize, node: usize, orphans: usize) {
        let sent = self.drop_connection(client, node);
        self.servers[node].orphaned_commands.push_back(sent.into_iter().take(orphans).collect());
        let now = self.now(client);
        self.clients[client].coordinator.on_down(NodeId(node as u8), "cut".into(), now);
        self.perform_actions(client);
    }

    pub(crate) fn exclude(&mut self, client: usize, node: usize, exclusion: ExclusionReason) {
        self.drop_connection(client, node);
        let now = self.now(client);
        self.clients[client].coordinator.on_excluded(NodeId(node as u8), exclusion, now);
        self.perform_actions(client);
    }

    fn drop_connection(&mut self, client: usize, node: usize) -> VecDeque<SentRequest> {
        let connection = &mut self.clients[client].connections[node];
        connection.is_up = false;
        connection.replies.clear();
        std::mem::take(&mut connection.requests)
    }

    pub(crate) fn is_connected(&self, client: usize, node: usize) -> bool {
        self.clients[client].connections[node].is_up
    }

    /// The node runs the oldest undelivered command of this connection. False if there is none.
    pub(crate) fn deliver_request(&mut self, client: usize, node: usize) -> bool {
        let connection = &mut self.clients[client].connections[node];
        let Some(command) = connection.requests.pop_front() else { return false };
        let reply = self.servers[node].run(&command, self.nanos);
        connection.replies.push_back(reply);
        true
    }

    /// The client receives the oldest reply of this connection. False if there is none.
    pub(crate) fn deliver_reply(&mut self, client: usize, node: usize) -> bool {
        let Some(reply) = self.clients[client].connections[node].replies.pop_front() else { return false };
        let now = self.now(client);
        let (coordinator, node) = (&mut self.clients[client].coordinator, NodeId(node as u8));
        match reply {
            Reply::Marker(reading) => coordinator.on_marker_reading(node, reading, now),
            Reply::Vote(vote, clock) => {
                if let Some(micros) = clock {
                    coordinator.on_node_time(node, micros, now);
                }
                assert!(coordinator.on_reply(node, vote, now).is_some(), "a reply without a request");
            }
        }
        self.perform_actions(client);
        true
    }

    /// Delivers one request and its reply.
    pub(crate) fn round_trip(&mut self, client: usize, node: usize) -> bool {
        self.deliver_request(client, node) && self.deliver_reply(client, node)
    }

    /// Delivers everything in flight at once. Hanging nodes and paused clients receive nothing.
    pub(crate) fn deliver_all(&mut self) {
        let mut has_delivered = true;
        while has_delivered {
            has_delivered = false;
            for client in 0..self.clients.len() {
                for node in 0..self.servers.len() {
                    has_delivered |= !self.servers[node].hangs && self.deliver_request(client, node);
                    has_delivered |= !self.clients[client].is_paused && self.deliver_reply(client, node);
                }
            }
        }
        self.wake_all();
    }

    /// Delivers one command of a lost connection. False if there is none.
    pub(crate) fn deliver_orphan(&mut self, node: usize) -> bool {
        let server = &mut self.servers[node];
        server.orphaned_commands.retain(|commands| !commands.is_empty());
        let Some(mut commands) = server.orphaned_commands.pop_front() else { return false };
        if let Some(command) = commands.pop_front() {
            let _ = server.run(&command, self.nanos);
        }
        // Rotate: commands keep their order within a connection, but not between connections.
        server.orphaned_commands.push_back(commands);
        true
    }

    // Inspection.

    /// The kinds of the requests that were sent to the node and have not reached it.
    pub(crate) fn undelivered(&self, client: usize, node: usize) -> Vec<RequestKind> {
        self.clients[client].connections[node].requests.iter().map(|command| command.request.kind).collect()
    }

    pub(crate) fn undelivered_commands(
        &self,
        client: usize,
        node: usize,
    ) -> impl Iterator<Item = &SentRequest> {
        self.clients[client].connections[node].requests.iter()
    }

    pub(crate) fn is_nothing_in_flight(&self, client: usize) -> bool {
        self.clients[client]
            .connections
            .iter()
            .all(|connection| connection.requests.is_empty() && connection.replies.is_empty())
    }

    /// The events of this client since the last call.
    pub(crate) fn take_events(&mut self, client: usize) -> Vec<OperationEvent> {
        std::mem::take(&mut self.clients[client].events).into_iter().map(|(_, event)| event).collect()
    }

    pub(crate) fn take_failure(&mut self, client: usize) -> Option<AttemptFailure> {
        self.take_events(client).into_iter().find_map(|event| match event {
            OperationEvent::Failed(failure) => Some(failure),
            _ => None,
        })
    }

    pub(crate) fn take_loss(&mut self, client: usize) -> Option<LossReason> {
        self.take_events(client).into_iter().find_map(|event| match event {
            OperationEvent::Lost(loss) => Some(loss),
            _ => None,
        })
    }

    pub(crate) fn take_release_votes(&mut self, client: usize) -> Option<Vec<Vote>> {
        self.take_events(client).into_iter().find_map(|event| match event {
            OperationEvent::Released(votes) => Some(votes),
            _ => None,
        })
    }

    pub(crate) fn is_valid(&self, client: usize, id: OperationId) -> bool {
        let now = self.now(client);
        self.clients[client]
            .leases
            .get(&id)
            .is_some_and(|lease| !lease.has_ended && !now.is_past(lease.deadline))
    }

    /// The fencing number of a lock that was acquired.
    pub(crate) fn fencing_number(&self, client: usize, id: OperationId) -> u64 {
        self.clients[client].leases[&id].fencing_number.expect("a fenced lock")
    }

    /// The fence of the key on this node, if there is one.
    pub(crate) fn fence(&self, node: usize) -> Option<u64> {
        let entry = self.servers[node].node.unexpired(&DataKey::Fence(Key::new(KEY)), self.nanos)?;
        std::str::from_utf8(entry.value.as_deref()?).ok()?.parse().ok()
    }

    pub(crate) fn deadline(&self, client: usize, id: OperationId) -> DualTimestamp {
        self.clients[client].leases[&id].deadline
    }

    /// How many nodes hold the key.
    pub(crate) fn key_count(&self) -> usize {
        self.servers.iter().filter(|server| server.node.unexpired(&lock_slot(), self.nanos).is_some()).count()
    }

    /// Whether the key on this node holds this attempt's owner token.
    pub(crate) fn has_key_of(&self, node: usize, id: OperationId) -> bool {
        let living = self.servers[node].node.unexpired(&lock_slot(), self.nanos);
        living.is_some_and(|entry| entry.value.as_deref() == Some(&owner_token(id).digits()))
    }

    /// The remaining ttl of the key on this node.
    pub(crate) fn remaining_ttl(&self, node: usize) -> Option<Duration> {
        self.servers[node].node.remaining_ttl(&lock_slot(), self.nanos)
    }

    /// The number of unconfirmed releases, over all nodes.
    pub(crate) fn pending_releases(&self, client: usize) -> usize {
        self.clients[client].coordinator.pending_releases().count()
    }

    // Faults.

    /// Deletes the key on this node.
    pub(crate) fn delete_key(&mut self, node: usize) {
        self.servers[node].node.data_mut().remove(&lock_slot());
    }

    /// Sets the fence of the key on this node.
    pub(crate) fn set_fence(&mut self, node: usize, fence: &str) {
        let entry = DataValue { value: Some(fence.into()), expires: None };
        self.servers[node].node.data_mut().insert(DataKey::Fence(Key::new(KEY)), entry);
    }

    /// Deletes all data of the node, as `FLUSHALL` does; connections stay.
    pub(crate) fn flush(&mut self, node: usize) {
        self.servers[node].node.data_mut().clear();
    }

    /// Restarts the node's server with this data; its connections break.
    pub(crate) fn restart(&mut self, node: usize, data: Data) {
        for client in 0..self.clients.len() {
            if self.is_connected(client, node) {
                self.disconnect(client, node);
            }
        }
        self.servers[node].node.restart(data);
    }

    /// Makes the node a replica of a server with this data, and a master again.
    pub(crate) fn change_role(&mut self, node: usize, data: Data) {
        self.servers[node].node.change_role(data);
    }

    /// Moves the node's clock by this many milliseconds.
    pub(crate) fn shift_clock(&mut self, node: usize, by_millis: i64) {
        self.servers[node].node.jump_clock(self.nanos, by_millis * 1_000_000);
    }

    /// From now on the node's clock runs faster than the world's by this many millionths.
    pub(crate) fn set_clock_drift(&mut self, node: usize, millionths: i64) {
        self.servers[node].node.set_drift(millionths, self.nanos);
    }

    pub(crate) fn flush_scripts(&mut self, node: usize) {
        self.servers[node].node.flush_scripts();
    }

    /// Sets a key of another owner with this ttl; without `value`, a key of another type.
    pub(crate) fn set_foreign_key(&mut self, node: usize, value: Option<&[u8]>, ttl: Option<Duration>) {
        let server = &mut self.servers[node].node;
        let expires = ttl.map(|ttl| server.clock_micros(self.nanos) / 1000 + ttl.as_millis() as u64);
        server.data_mut().insert(lock_slot(), DataValue { value: value.map(<[u8]>::to_vec), expires });
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
                        let (key, token) = (Key::new(""), OwnerToken::new(0));
                        let request = Request {
                            kind: RequestKind::ReadMarker,
                            key,
                            token,
                            ttl: Duration::ZERO,
                            fence: None,
                        };
                        connection.requests.push_back(SentRequest {
                            request,
                            as_text,
                            expected_marker: None,
                            write,
                        });
                    }
                }
                Action::VotingStatus(node, voting_status) => {
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
            OperationEvent::Won { deadline, fencing_number, .. } => {
                leases.insert(
                    id,
                    LeaseRecord { fencing_number: *fencing_number, deadline: *deadline, has_ended: false },
                );
                self.check_mutual_exclusion();
            }
            OperationEvent::Renewed(deadline) => {
                if let Some(lease) = leases.get_mut(&id) {
                    lease.deadline = *deadline;
                }
                self.check_mutual_exclusion();
            }
            OperationEvent::Lost(_) => {
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
}

impl Client {
    /// Advances the wall clock relative to the boot clock.
    pub(crate) fn advance_wall_clock(&mut self, span: Duration) {
        self.wall_offset_nanos += span.as_nanos() as i64;
    }
}

impl Server {
    fn run(&mut self, command: &SentRequest, nanos: u64) -> Reply {
        match self.canned_replies.pop_front() {
            Some(reply) if command.request.kind == RequestKind::ReadMarker => Reply::Marker(Err(reply)),
            Some(reply) => Reply::Vote(reply, None),
            None => self.node.run(command, nanos),
        }
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
