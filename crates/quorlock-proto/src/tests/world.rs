//! A small world: simulated nodes, clients with a board each, a wire between every two, and one clock to turn.
//!
//! Nothing happens by itself. A command travels by [`World::deliver`], its answer by [`World::answer`], both by
//! [`World::step`], and everything that can by [`World::drive`]. Time passes by [`World::sleep`], where everybody is
//! woken when they asked for it, or by [`World::pass`], where nobody is.
//!
//! It is past 400 lines because nodes, clients, links and the clock of one world change each other's state.

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
/// Of the fenced worlds.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(30);
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_millis(500);
pub(crate) const REDIAL_AFTER: Duration = Duration::from_secs(2);
/// How long a lease of [`TTL`] may be trusted: 10 s less 1 %, less 2 ms.
pub(crate) const TRUSTED: Duration = Duration::from_millis(9_898);
/// How long before its deadline a loss is reported.
pub(crate) const LEAD: Duration = Duration::from_millis(10);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) struct World {
    nanos: u64,
    ids: OperationId,
    quorum: Quorum,
    pub(crate) servers: Vec<Server>,
    pub(crate) clients: Vec<Client>,
    /// Two locks that were valid at once, in words. Histories must leave it empty.
    pub(crate) overlap: Option<String>,
}

/// One simulated Redis master.
pub(crate) struct Server {
    pub(crate) node: SimulatedNode,
    /// Takes commands and does nothing, until it is let go on.
    pub(crate) hangs: bool,
    /// What it answers to the next commands instead of running them.
    pub(crate) excuses: VecDeque<Vote>,
    /// Commands of connections that were cut, still on their way.
    ghosts: VecDeque<VecDeque<SentRequest>>,
}

/// One process with a board.
pub(crate) struct Client {
    pub(crate) coordinator: Coordinator,
    wires: Vec<Wire>,
    event: Vec<(OperationId, OperationEvent)>,
    holds: BTreeMap<OperationId, Hold>,
    pub(crate) redials: Vec<usize>,
    /// How each node stands, as far as it was told.
    pub(crate) statuses: Vec<Option<VotingStatus>>,
    /// How often it was told.
    pub(crate) changes: usize,
    /// What it was told of clocks.
    pub(crate) oddities: Vec<(usize, ClockAnomaly)>,
    /// Whether its board asks nodes what they remember.
    is_fenced: bool,
    wall_ahead: i64,
    /// Neither woken nor given answers.
    pub(crate) is_paused: bool,
}

#[derive(Default)]
struct Wire {
    is_up: bool,
    sent: VecDeque<SentRequest>,
    answers: VecDeque<Reply>,
}

/// What a guard knows.
struct Hold {
    number: Option<u64>,
    deadline: DualTimestamp,
    is_over: bool,
}

/// What is asked for, if not the usual.
#[derive(Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) ttl: Duration,
    pub(crate) curious: bool,
    pub(crate) auto_renew: bool,
    pub(crate) floor: u64,
    pub(crate) max_hold: Option<Duration>,
}

impl Default for Wish {
    fn default() -> Self {
        Self { ttl: TTL, curious: false, auto_renew: true, floor: 0, max_hold: None }
    }
}

impl World {
    /// Two clients, all connected to these many nodes.
    pub(crate) fn new(nodes: usize) -> Self {
        Self::with(nodes, None, 2)
    }

    pub(crate) fn with(nodes: usize, need: Option<usize>, clients: usize) -> Self {
        let mut world = Self::unconnected(nodes, need, clients, None);
        world.connect_all();
        world
    }

    /// Two clients with fencing and probation, all connected to these many nodes, which were declared fresh.
    pub(crate) fn fenced(nodes: usize) -> Self {
        Self::fenced_with(nodes, None, 2)
    }

    pub(crate) fn fenced_with(nodes: usize, need: Option<usize>, clients: usize) -> Self {
        let mut world = Self::unconnected(nodes, need, clients, Some(MAX_TTL));
        world.declare();
        world.connect_all();
        world.drive();
        world
    }

    /// Nodes that no client has met and that remember nothing; fenced, if a max ttl is given.
    pub(crate) fn unconnected(
        nodes: usize,
        need: Option<usize>,
        clients: usize,
        max_ttl: Option<Duration>,
    ) -> Self {
        let quorum = Quorum::new(nodes, need).expect("a quorum that works");
        let limits = Limits { reply_timeout: REPLY_TIMEOUT, redial_after: REDIAL_AFTER };
        let client = || Client {
            coordinator: match max_ttl {
                Some(max_ttl) => {
                    let drift = Drift::new(0.01).expect("a usual drift");
                    let members = Membership::new(LockClusterConfig::new(quorum, max_ttl), drift, true);
                    Coordinator::fenced(quorum, limits, members)
                }
                None => Coordinator::new(quorum, limits),
            },
            is_fenced: max_ttl.is_some(),
            wires: (0..nodes).map(|_| Wire::default()).collect(),
            event: Vec::new(),
            holds: BTreeMap::new(),
            redials: Vec::new(),
            statuses: vec![None; nodes],
            changes: 0,
            oddities: Vec::new(),
            wall_ahead: 0,
            is_paused: false,
        };
        let server = |place| Server {
            node: SimulatedNode::new(place, LockClusterConfig::new(quorum, MAX_TTL)),
            hangs: false,
            excuses: VecDeque::new(),
            ghosts: VecDeque::new(),
        };
        Self {
            nanos: 5_000_000_000,
            ids: 0,
            quorum,
            servers: (0..nodes).map(server).collect(),
            clients: (0..clients).map(|_| client()).collect(),
            overlap: None,
        }
    }

    pub(crate) fn connect_all(&mut self) {
        for who in 0..self.clients.len() {
            (0..self.servers.len()).for_each(|node| self.connect(who, node));
            self.wake(who);
        }
    }

    /// An operator declares the nodes a new cluster, as `quorlock init` does.
    pub(crate) fn declare(&mut self) {
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

    pub(crate) fn now(&self, who: usize) -> DualTimestamp {
        let wall = EPOCH.saturating_add(self.nanos).saturating_add_signed(self.clients[who].wall_ahead);
        DualTimestamp::new(self.nanos, wall)
    }

    /// Time passes, and each client is woken at the time that it asked for. Nothing is delivered.
    pub(crate) fn sleep(&mut self, span: Duration) {
        let until = self.nanos + span.as_nanos() as u64;
        for wakes in 0.. {
            assert!(wakes < 100_000, "a client wants to be woken without end");
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

    /// Time passes, and all that travels meanwhile arrives.
    pub(crate) fn live(&mut self, span: Duration) {
        let mut left = span;
        while !left.is_zero() {
            let step = left.min(ms(100));
            self.sleep(step);
            self.drive();
            left -= step;
        }
    }

    /// Time passes, and no client notices.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.nanos += span.as_nanos() as u64;
    }

    /// An operator sets one client's wall clock.
    pub(crate) fn set_wall(&mut self, who: usize, ahead_millis: i64) {
        self.clients[who].wall_ahead += ahead_millis * 1_000_000;
    }

    pub(crate) fn wake(&mut self, who: usize) {
        let now = self.now(who);
        self.clients[who].coordinator.on_wake(now);
        self.act(who);
    }

    fn wake_all(&mut self) {
        for who in 0..self.clients.len() {
            if !self.clients[who].is_paused {
                self.wake(who);
            }
        }
    }

    // Orders.

    pub(crate) fn acquire(&mut self, who: usize) -> OperationId {
        self.acquire_as(who, Wish::default())
    }

    pub(crate) fn acquire_as(&mut self, who: usize, wish: Wish) -> OperationId {
        self.ids += 1;
        let (id, now) = (self.ids, self.now(who));
        let spec = LockSpec {
            key: Key::new(KEY),
            params: params(wish.ttl),
            want_holder_ttl: wish.curious,
            min_fencing_number: wish.floor,
        };
        let policy = RenewalPolicy { auto_renew: wish.auto_renew, max_hold_time: wish.max_hold };
        self.clients[who].coordinator.acquire(id, spec, policy, token(id), now);
        self.act(who);
        id
    }

    /// Acquires, and all goes well.
    pub(crate) fn hold(&mut self, who: usize) -> OperationId {
        self.hold_as(who, Wish::default())
    }

    pub(crate) fn hold_as(&mut self, who: usize, wish: Wish) -> OperationId {
        let id = self.acquire_as(who, wish);
        self.drive();
        assert!(self.is_valid(who, id), "nothing stands in the way");
        self.event(who);
        id
    }

    pub(crate) fn abandon(&mut self, who: usize, id: OperationId) {
        let now = self.now(who);
        if let Some(hold) = self.clients[who].holds.get_mut(&id) {
            hold.is_over = true;
        }
        self.clients[who].coordinator.cancel(id, now);
        self.act(who);
    }

    pub(crate) fn release(&mut self, who: usize, id: OperationId) -> bool {
        let now = self.now(who);
        if let Some(hold) = self.clients[who].holds.get_mut(&id) {
            hold.is_over = true;
        }
        let is_known = self.clients[who].coordinator.release(id, now);
        self.act(who);
        is_known
    }

    pub(crate) fn extend(&mut self, who: usize, id: OperationId, ttl: Duration) -> bool {
        let now = self.now(who);
        let is_held = self.clients[who].coordinator.extend(id, params(ttl), now);
        self.act(who);
        is_held
    }

    pub(crate) fn survey(&mut self, who: usize, phase: RequestKind) -> OperationId {
        self.ids += 1;
        let (id, now) = (self.ids, self.now(who));
        self.clients[who].coordinator.survey(id, phase, Key::new(KEY), now);
        self.act(who);
        id
    }

    /// Declares the nodes a new cluster, by its own connections.
    pub(crate) fn declare_as(&mut self, who: usize, cluster: u128, is_forced: bool) -> Option<InitResult> {
        self.ids += 1;
        let (id, now) = (self.ids, self.now(who));
        self.clients[who].coordinator.initialize(id, ClusterId::new(cluster), is_forced, now);
        self.act(who);
        self.drive();
        self.event(who).into_iter().find_map(|event| match event {
            OperationEvent::Initialized(declared) => Some(declared),
            _ => None,
        })
    }

    // The wires.

    pub(crate) fn connect(&mut self, who: usize, node: usize) {
        let now = self.now(who);
        let wire = &mut self.clients[who].wires[node];
        if wire.is_up {
            return;
        }
        wire.is_up = true;
        // The handshake loads the scripts, and asks what the node remembers.
        self.servers[node].node.load_scripts();
        if self.clients[who].is_fenced {
            let reading = self.servers[node].node.read_marker(None, self.nanos);
            self.clients[who].coordinator.on_handshake(NodeId(node as u8), reading, now, now);
        }
        self.clients[who].coordinator.on_up(NodeId(node as u8), now);
        self.act(who);
    }

    /// The connection breaks; what was not delivered never will be.
    pub(crate) fn cut(&mut self, who: usize, node: usize) {
        self.cut_after(who, node, 0);
    }

    /// The connection breaks; the first `ghosts` commands on it still reach the node, some day.
    pub(crate) fn cut_after(&mut self, who: usize, node: usize, ghosts: usize) {
        let sent = self.unplug(who, node);
        self.servers[node].ghosts.push_back(sent.into_iter().take(ghosts).collect());
        let now = self.now(who);
        self.clients[who].coordinator.on_down(NodeId(node as u8), "cut".into(), now);
        self.act(who);
    }

    pub(crate) fn exclude(&mut self, who: usize, node: usize, exclusion: ExclusionReason) {
        self.unplug(who, node);
        let now = self.now(who);
        self.clients[who].coordinator.on_excluded(NodeId(node as u8), exclusion, now);
        self.act(who);
    }

    fn unplug(&mut self, who: usize, node: usize) -> VecDeque<SentRequest> {
        let wire = &mut self.clients[who].wires[node];
        wire.is_up = false;
        wire.answers.clear();
        std::mem::take(&mut wire.sent)
    }

    pub(crate) fn is_up(&self, who: usize, node: usize) -> bool {
        self.clients[who].wires[node].is_up
    }

    /// The node runs the oldest command on this wire. False if there is none.
    pub(crate) fn deliver(&mut self, who: usize, node: usize) -> bool {
        let wire = &mut self.clients[who].wires[node];
        let Some(command) = wire.sent.pop_front() else { return false };
        let answer = self.servers[node].run(&command, self.nanos);
        wire.answers.push_back(answer);
        true
    }

    /// The client hears the oldest answer on this wire. False if there is none.
    pub(crate) fn answer(&mut self, who: usize, node: usize) -> bool {
        let Some(answer) = self.clients[who].wires[node].answers.pop_front() else { return false };
        let now = self.now(who);
        let (coordinator, node) = (&mut self.clients[who].coordinator, NodeId(node as u8));
        match answer {
            Reply::Marker(reading) => coordinator.on_marker_reading(node, reading, now),
            Reply::Vote(vote, clock) => {
                if let Some(micros) = clock {
                    coordinator.on_node_time(node, micros, now);
                }
                assert!(
                    coordinator.on_reply(node, vote, now).is_some(),
                    "an answer to nothing that was asked"
                );
            }
        }
        self.act(who);
        true
    }

    /// One command there and its answer back.
    pub(crate) fn step(&mut self, who: usize, node: usize) -> bool {
        self.deliver(who, node) && self.answer(who, node)
    }

    /// Everything that can travel does, in no time. Nodes that hang do nothing, paused clients hear nothing.
    pub(crate) fn drive(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            for who in 0..self.clients.len() {
                for node in 0..self.servers.len() {
                    moved |= !self.servers[node].hangs && self.deliver(who, node);
                    moved |= !self.clients[who].is_paused && self.answer(who, node);
                }
            }
        }
        self.wake_all();
    }

    /// A command of some connection that was cut arrives. False if none is on its way.
    pub(crate) fn ghost(&mut self, node: usize) -> bool {
        let server = &mut self.servers[node];
        server.ghosts.retain(|stream| !stream.is_empty());
        let Some(mut stream) = server.ghosts.pop_front() else { return false };
        if let Some(command) = stream.pop_front() {
            let _ = server.run(&command, self.nanos);
        }
        // The next one is of another connection: each keeps its order, together they have none.
        server.ghosts.push_back(stream);
        true
    }

    // Looking.

    /// What was sent to the node on this wire and has not reached it.
    pub(crate) fn wire(&self, who: usize, node: usize) -> Vec<RequestKind> {
        self.clients[who].wires[node].sent.iter().map(|command| command.request.kind).collect()
    }

    pub(crate) fn commands(&self, who: usize, node: usize) -> impl Iterator<Item = &SentRequest> {
        self.clients[who].wires[node].sent.iter()
    }

    pub(crate) fn is_nothing_sent(&self, who: usize) -> bool {
        self.clients[who].wires.iter().all(|wire| wire.sent.is_empty() && wire.answers.is_empty())
    }

    /// What this client was told since it was last asked.
    pub(crate) fn event(&mut self, who: usize) -> Vec<OperationEvent> {
        std::mem::take(&mut self.clients[who].event).into_iter().map(|(_, event)| event).collect()
    }

    pub(crate) fn refusal(&mut self, who: usize) -> Option<AttemptFailure> {
        self.event(who).into_iter().find_map(|event| match event {
            OperationEvent::Failed(refusal) => Some(refusal),
            _ => None,
        })
    }

    pub(crate) fn loss(&mut self, who: usize) -> Option<LossReason> {
        self.event(who).into_iter().find_map(|event| match event {
            OperationEvent::Lost(loss) => Some(loss),
            _ => None,
        })
    }

    pub(crate) fn released(&mut self, who: usize) -> Option<Vec<Vote>> {
        self.event(who).into_iter().find_map(|event| match event {
            OperationEvent::Released(votes) => Some(votes),
            _ => None,
        })
    }

    pub(crate) fn is_valid(&self, who: usize, id: OperationId) -> bool {
        let now = self.now(who);
        self.clients[who].holds.get(&id).is_some_and(|hold| !hold.is_over && !now.is_past(hold.deadline))
    }

    /// The fencing number of a lock that was won.
    pub(crate) fn number(&self, who: usize, id: OperationId) -> u64 {
        self.clients[who].holds[&id].number.expect("a fenced lock")
    }

    /// The fence of the key on this node, if there is one.
    pub(crate) fn fence(&self, node: usize) -> Option<u64> {
        let entry = self.servers[node].node.unexpired(&DataKey::Fence(Key::new(KEY)), self.nanos)?;
        std::str::from_utf8(entry.value.as_deref()?).ok()?.parse().ok()
    }

    pub(crate) fn deadline(&self, who: usize, id: OperationId) -> DualTimestamp {
        self.clients[who].holds[&id].deadline
    }

    /// In how many nodes the key stands.
    pub(crate) fn keys(&self) -> usize {
        self.servers.iter().filter(|server| server.node.unexpired(&lock(), self.nanos).is_some()).count()
    }

    /// Whether the key on this node is of this attempt.
    pub(crate) fn has(&self, node: usize, id: OperationId) -> bool {
        let living = self.servers[node].node.unexpired(&lock(), self.nanos);
        living.is_some_and(|entry| entry.value.as_deref() == Some(&token(id).digits()))
    }

    /// For how much longer the key on this node lives.
    pub(crate) fn life(&self, node: usize) -> Option<Duration> {
        self.servers[node].node.remaining_ttl(&lock(), self.nanos)
    }

    /// How many undos are not known done, over all nodes.
    pub(crate) fn undone(&self, who: usize) -> usize {
        self.clients[who].coordinator.pending_releases().count()
    }

    // Meddling.

    /// The node's key is gone.
    pub(crate) fn wipe(&mut self, node: usize) {
        self.servers[node].node.data_mut().remove(&lock());
    }

    /// The node has this fence for the key.
    pub(crate) fn set_fence(&mut self, node: usize, fence: &str) {
        let entry = DataValue { value: Some(fence.into()), expires: None };
        self.servers[node].node.data_mut().insert(DataKey::Fence(Key::new(KEY)), entry);
    }

    /// Everything on the node is gone, and no client notices: `FLUSHALL`.
    pub(crate) fn flush(&mut self, node: usize) {
        self.servers[node].node.data_mut().clear();
    }

    /// The node's process dies, and another comes up that knows this.
    pub(crate) fn restart(&mut self, node: usize, data: Data) {
        for who in 0..self.clients.len() {
            if self.is_up(who, node) {
                self.cut(who, node);
            }
        }
        self.servers[node].node.restart(data);
    }

    /// The node is made a replica of a server who has this, and a master again.
    pub(crate) fn change_role(&mut self, node: usize, data: Data) {
        self.servers[node].node.change_role(data);
    }

    /// The node's clock is set, by so many milliseconds.
    pub(crate) fn set_clock(&mut self, node: usize, by_millis: i64) {
        self.servers[node].node.jump_clock(self.nanos, by_millis * 1_000_000);
    }

    /// From now on the node's clock runs this much faster than ours, in millionths.
    pub(crate) fn set_haste(&mut self, node: usize, millionths: i64) {
        self.servers[node].node.set_drift(millionths, self.nanos);
    }

    pub(crate) fn flush_scripts(&mut self, node: usize) {
        self.servers[node].node.flush_scripts();
    }

    /// Another owner's key, for this long; of another type if `value` is none.
    pub(crate) fn plant(&mut self, node: usize, value: Option<&[u8]>, life: Option<Duration>) {
        let server = &mut self.servers[node].node;
        let expires = life.map(|life| server.clock_micros(self.nanos) / 1000 + life.as_millis() as u64);
        server.data_mut().insert(lock(), DataValue { value: value.map(<[u8]>::to_vec), expires });
    }

    fn act(&mut self, who: usize) {
        while let Some(action) = self.clients[who].coordinator.poll() {
            match action {
                Action::Send { request, nodes, as_text } => {
                    for node in nodes.iter() {
                        let wire = &self.clients[who].wires[node.index()];
                        // As the driver does: what was decided before the connection broke is not sent.
                        if wire.is_up {
                            let badge = self.clients[who].coordinator.expected_marker(node).cloned();
                            let command = SentRequest {
                                request: request.clone(),
                                as_text,
                                expected_marker: badge,
                                write: None,
                            };
                            self.clients[who].wires[node.index()].sent.push_back(command);
                        }
                    }
                }
                Action::ReadMarker { node, write, as_text } => {
                    let wire = &mut self.clients[who].wires[node.index()];
                    if wire.is_up {
                        let (key, token) = (Key::new(""), OwnerToken::new(0));
                        let request = Request {
                            kind: RequestKind::ReadMarker,
                            key,
                            token,
                            ttl: Duration::ZERO,
                            fence: None,
                        };
                        wire.sent.push_back(SentRequest { request, as_text, expected_marker: None, write });
                    }
                }
                Action::VotingStatus(node, voting_status) => {
                    self.clients[who].statuses[node.index()] = Some(voting_status);
                    self.clients[who].changes += 1;
                }
                Action::ClockAnomaly(node, anomaly) => {
                    self.clients[who].oddities.push((node.index(), anomaly));
                }
                Action::Redial(node) => {
                    self.clients[who].redials.push(node.index());
                    self.cut(who, node.index());
                }
                Action::Event(id, event) => self.hear(who, id, event),
            }
        }
    }

    fn hear(&mut self, who: usize, id: OperationId, event: OperationEvent) {
        let holds = &mut self.clients[who].holds;
        match &event {
            OperationEvent::Won { deadline, fencing_number: number, .. } => {
                holds.insert(id, Hold { number: *number, deadline: *deadline, is_over: false });
                self.check_exclusion();
            }
            OperationEvent::Renewed(deadline) => {
                if let Some(hold) = holds.get_mut(&id) {
                    hold.deadline = *deadline;
                }
                self.check_exclusion();
            }
            OperationEvent::Lost(_) => {
                if let Some(hold) = holds.get_mut(&id) {
                    hold.is_over = true;
                }
            }
            _ => {}
        }
        self.clients[who].event.push((id, event));
    }

    /// Validity begins only where this is called from, so no overlap goes unseen.
    fn check_exclusion(&mut self) {
        let mut valid = Vec::new();
        for (who, client) in self.clients.iter().enumerate() {
            valid.extend(client.holds.keys().filter(|id| self.is_valid(who, **id)).map(|id| (who, *id)));
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
    /// The wall clock gains a little on the boot clock.
    pub(crate) fn creep(&mut self, span: Duration) {
        self.wall_ahead += span.as_nanos() as i64;
    }
}

impl Server {
    fn run(&mut self, command: &SentRequest, nanos: u64) -> Reply {
        match self.excuses.pop_front() {
            Some(excuse) if command.request.kind == RequestKind::ReadMarker => Reply::Marker(Err(excuse)),
            Some(excuse) => Reply::Vote(excuse, None),
            None => self.node.run(command, nanos),
        }
    }
}

/// Where the lock of all stories stands.
fn lock() -> DataKey {
    DataKey::Lock(Key::new(KEY))
}

/// Every attempt has a token of its own.
pub(crate) fn token(id: OperationId) -> OwnerToken {
    OwnerToken::new(u128::from(id) << 64 | 0xfeed)
}

pub(crate) fn params(ttl: Duration) -> LeaseParams {
    let drift = Drift::new(0.01).expect("a usual drift");
    LeaseParams::new(ttl, drift, None, REPLY_TIMEOUT).expect("terms that work")
}
