//! A model of rosters: every order in which clients read, propose and write, while servers lose their memory,
//! become unreachable, and addresses move to other servers.
//!
//! The clients run the shipped `Proposer`. Each keeps what it read last from each address, and its connections
//! stay with the server that an address pointed to. A write is carried out at once, or late, after any other events.
//!
//! Lockers acquire and renew one lock. Each round is under one roster that some server carries. Time passes in ticks,
//! and members vote by the time of their marker, as the shipped `time_of` sets it.
//!
//! Invariants: at most one lock is valid (R0). The lock cluster has one id, and one roster for each epoch (R1). At most one roster has a quorum of
//! servers that vote under it (R2). No two servers have one seat (R3), and a seat that was given away never returns (R4).
//!
//! An address moves to another server only while a quorum of the members of the latest roster keep their memory and
//! address, and no member loses either before a later roster.

mod checks;
mod clients;
mod lockers;
mod runs;
mod servers;
mod state;

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::marker::{ClusterId, LockClusterConfig};
use crate::quorum::Quorum;
use crate::roster::proposer::Proposer;
use crate::roster::record::{Record, RecordWrite};
use crate::roster::server_view::ServerView;
use crate::roster::{Epoch, Roster, Seat, SeatId};

use super::hashers::FingerprintHasher;
use super::search::{Coverage, Model};
use checks::{Situation, describe_write};
use state::{Client, Delayed, Locker, Server, State};

/// Which list of nodes a client has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nodes {
    Listed,
    /// All but the last, and another.
    Other,
    /// These, each named by its index. It sees no other server.
    These(&'static [u8]),
    /// It reconfigures the lock cluster: to these nodes, each named by its index, with this quorum.
    Reconfigures(&'static [u8], Option<usize>),
}
use Nodes::{Listed as LIST, Other as OTHER_LIST};

/// What has happened before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Blank,
    Founded,
    /// A reconfiguration has exchanged the last node for a spare one, while the last did not reply. The others have
    /// accepted that, and no server has learned it. The first locker has the lock, by the last two nodes.
    Removed,
}

#[derive(Clone, Copy)]
struct RosterModel {
    nodes: usize,
    quorum: usize,
    /// Servers that are not in the list of nodes, blank at first.
    spares: usize,
    /// The list of each client.
    lists: &'static [Nodes],
    start: Start,
    /// The largest ballot.
    max_ballot: u32,
    max_restarts: u8,
    max_moves: u8,
    /// How many addresses move to the server of another address.
    max_joins: u8,
    max_outages: u8,
    max_delays: u8,
    /// How many clients lock, for how many ticks, and at how many ticks the model ends.
    lockers: usize,
    ttl: u8,
    horizon: u8,
    mutant: Option<ModelMutant>,
}

/// A known mistake of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ModelMutant {
    /// A restarted server keeps its seat.
    SeatSurvivesRestart,
    /// A write is carried out whatever the record is.
    WritesAnyRecord,
    /// A round counts votes under any roster.
    RoundOfTwoRosters,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Read(usize, usize),
    Write(usize, usize),
    /// The write leaves the client, which hears no more of it.
    Delay(usize, usize),
    Arrive,
    Restart(usize, bool),
    /// The address moves to a new server, blank or with a copy of the data.
    Move(usize, bool),
    /// The first address moves to the server of the second.
    Join(usize, usize),
    Outage(usize),
    Return(usize),
    Redial(usize, usize),
    Tick,
    /// A locker begins a round under the roster that this server carries.
    Begin(usize, usize),
    Vote(usize, usize),
}

impl RosterModel {
    fn config(&self) -> LockClusterConfig {
        LockClusterConfig::new(
            Quorum::new(self.nodes, Some(self.quorum)).expect("a quorum"),
            Duration::from_secs(30),
        )
    }

    /// The client after it decided on its writes, and the writes.
    fn decide(&self, state: &State, client: usize) -> (Proposer, Vec<Option<RecordWrite>>) {
        let mut proposer = state.clients[client].proposer.clone();
        let (writes, _) = proposer.writes(&state.clients[client].views, &self.permissions(state, client));
        (proposer, writes)
    }

    fn is_within_bounds(&self, write: &RecordWrite) -> bool {
        !matches!(write, RecordWrite::Promise(ballot) if ballot.count > self.max_ballot)
    }
}

impl Model for RosterModel {
    type State = State;
    type Event = Event;

    fn initial_state(&self) -> State {
        let first = Arc::new(Roster {
            cluster: ClusterId::new(1),
            epoch: Epoch::default().after_recovery(),
            list: self.list(LIST).hash(),
            config: self.config(),
            probation: self.config().max_ttl(),
            fence_base: 0,
            seats: (1..=self.nodes)
                .map(|id| Seat { id: Some(SeatId(id as u64)), ..Seat::default() })
                .collect(),
        });
        let server = |index: usize| Server {
            is_up: true,
            record: (self.start != Start::Blank && index < self.nodes).then(|| Record {
                seat: SeatId(index as u64 + 1),
                was_member: true,
                roster: Some(first.clone()),
                promised: None,
                accepted: None,
            }),
            hint: None,
            time: 0,
            key: None,
        };
        let mut servers: Vec<Server> = (0..self.nodes + self.spares).map(server).collect();
        let mut lockers = vec![Locker { round: None, valid_until: 0 }; self.lockers];
        if self.start == Start::Removed {
            self.remove_last(&first, &mut servers, &mut lockers);
        }
        let views: Vec<ServerView> = servers
            .iter()
            .map(|it| ServerView {
                is_up: it.is_up,
                record: it.record.clone(),
                hint: None,
                largest_number: 0,
                is_fit: true,
            })
            .collect();
        let view_of = |list: Nodes, node: usize| {
            if self.sees(list, node) { views[node].clone() } else { ServerView::default() }
        };
        let addresses: Vec<u8> = (0..servers.len() as u8).collect();
        let shape = (self.start != Start::Blank).then(|| (first.list, first.config));
        let clients = self.lists.iter().enumerate().map(|(index, list)| Client {
            proposer: self.proposer(index as u64 + 1, *list),
            views: (0..views.len()).map(|node| view_of(*list, node)).collect(),
            connections: addresses.clone(),
            shape: (shape, 0),
        });
        State {
            clients: clients.collect(),
            addresses,
            next_seat: (self.nodes + usize::from(self.start == Start::Removed)) as u64,
            servers,
            delayed: None,
            lockers,
            now: 0,
            restarts: 0,
            moves: 0,
            joins: 0,
            outages: 0,
            delays: 0,
        }
    }

    fn enabled_events(&self, state: &State, events: &mut Vec<Event>) {
        for client in 0..state.clients.len() {
            let (_, writes) = self.decide(state, client);
            // Reduction: a client reads a node when it has nothing to write. A rejected write is a reading too.
            let is_idle = !writes.iter().flatten().any(|write| self.is_within_bounds(write));
            let seen = |(node, _): &(usize, _)| self.sees(self.lists[client], *node);
            for (node, write) in writes.iter().enumerate().filter(seen) {
                if is_idle && !Self::is_read(state, client, node) {
                    events.push(Event::Read(client, node));
                }
                if write.as_ref().is_some_and(|it| self.is_within_bounds(it)) {
                    events.push(Event::Write(client, node));
                    if state.delayed.is_none() && state.delays < self.max_delays {
                        events.push(Event::Delay(client, node));
                    }
                }
                if state.clients[client].connections[node] != state.addresses[node] {
                    events.push(Event::Redial(client, node));
                }
            }
        }
        if state.delayed.is_some() {
            events.push(Event::Arrive);
        }
        if state.now < self.horizon {
            events.push(Event::Tick);
        }
        for locker in 0..state.lockers.len() {
            for server in 0..state.servers.len() {
                let carries =
                    state.servers[server].record.as_ref().filter(|it| it.was_member && !it.is_sealed());
                let roster = carries.and_then(|it| it.roster.as_ref());
                let round = state.lockers[locker].round.as_ref();
                // A round under the same roster that has begun at this tick is the same.
                let is_new = round.is_none_or(|(its, start, _)| Some(its) != roster || *start != state.now);
                let carried_before =
                    |it: &Server| it.record.as_ref().and_then(|it| it.roster.as_ref()) == roster;
                if roster.is_some() && is_new && !state.servers[..server].iter().any(carried_before) {
                    events.push(Event::Begin(locker, server));
                }
                if self.grants(state, locker, server) {
                    events.push(Event::Vote(locker, server));
                }
            }
        }
        for (index, server) in state.servers.iter().enumerate() {
            if !server.is_up {
                events.push(Event::Return(index));
            }
            let address = state.addresses.iter().position(|it| usize::from(*it) == index);
            let is_member = server.record.as_ref().is_some_and(|it| it.roster.is_some());
            let may_forget = server.record.is_some()
                && address.is_some_and(|node| {
                    !Self::has_moved_member(state) || !is_member || Self::is_quorum_kept(state, node)
                });
            if state.restarts < self.max_restarts && may_forget {
                events.push(Event::Restart(index, false));
                if is_member {
                    events.push(Event::Restart(index, true));
                }
            }
            if let Some(node) = address {
                if server.is_up && state.outages < self.max_outages {
                    events.push(Event::Outage(index));
                }
                if state.moves < self.max_moves && is_member && Self::is_quorum_kept(state, node) {
                    events.push(Event::Move(node, false));
                    events.push(Event::Move(node, true));
                }
                if state.joins < self.max_joins && Self::is_quorum_kept(state, node) {
                    let others = (0..state.addresses.len()).filter(|it| *it != node);
                    events.extend(others.map(|other| Event::Join(node, other)));
                }
            }
        }
    }

    fn step(&self, state: &State, event: Event, coverage: &mut Coverage) -> Result<State, String> {
        let mut after = state.clone();
        match event {
            Event::Read(client, node) => Self::read(&mut after, client, node),
            Event::Redial(client, node) => {
                after.clients[client].connections[node] = after.addresses[node];
                Self::read(&mut after, client, node);
            }
            Event::Write(client, node) | Event::Delay(client, node) => {
                let (proposer, writes) = self.decide(state, client);
                let Some(write) = writes[node].clone() else { return Ok(after) };
                Self::cover(state, client, &proposer, &write, coverage);
                after.clients[client].proposer = proposer;
                let expected = state.clients[client].views[node].record.clone();
                let server = state.clients[client].connections[node];
                if matches!(event, Event::Delay(..)) {
                    after.delays += 1;
                    after.delayed = Some(Delayed { server, expected, write });
                } else {
                    self.run(&mut after, usize::from(server), expected.as_ref(), &write);
                    Self::read(&mut after, client, node);
                }
            }
            Event::Arrive => {
                if let Some(Delayed { server, expected, write }) = after.delayed.take() {
                    let is_done = self.run(&mut after, usize::from(server), expected.as_ref(), &write);
                    coverage
                        .record(if is_done { Situation::LateWrite } else { Situation::LateWriteRejected }
                            as usize);
                }
            }
            Event::Restart(server, keeps_data) => {
                after.restarts += 1;
                let host = &mut after.servers[server];
                if self.mutant == Some(ModelMutant::SeatSurvivesRestart) && keeps_data {
                    let record = host.record.as_mut().expect("a record");
                    (record.promised, record.accepted) = (None, None);
                } else {
                    host.key = None;
                    let record = host.record.take();
                    host.hint = record.and_then(|it| it.roster).filter(|_| keeps_data);
                }
            }
            Event::Move(node, keeps_data) => {
                after.moves += 1;
                let old = &state.servers[usize::from(state.addresses[node])];
                let copy = old.record.as_ref().and_then(|it| it.roster.clone()).filter(|_| keeps_data);
                let record = old
                    .record
                    .clone()
                    .filter(|_| self.mutant == Some(ModelMutant::SeatSurvivesRestart) && keeps_data);
                let time = old.time;
                after.servers.push(Server { is_up: true, record, hint: copy, time, key: None });
                after.addresses[node] = after.servers.len() as u8 - 1;
            }
            Event::Join(node, other) => {
                after.joins += 1;
                after.addresses[node] = state.addresses[other];
            }
            Event::Tick => {
                after.now += 1;
                Self::expire(&mut after);
            }
            Event::Begin(locker, server) => {
                let roster = state.servers[server].record.as_ref().and_then(|it| it.roster.clone());
                after.lockers[locker].round = roster.map(|roster| (roster, state.now, 0));
            }
            Event::Vote(locker, server) => self.grant(&mut after, locker, server, coverage)?,
            Event::Outage(server) => {
                after.outages += 1;
                after.servers[server].is_up = false;
            }
            Event::Return(server) => after.servers[server].is_up = true,
        }
        Self::check(&after, coverage)?;
        if self.start == Start::Removed {
            self.cover_removed(&after, coverage);
        }
        Self::see_shapes(&mut after);
        Ok(after)
    }

    fn fingerprint(&self, state: &State) -> u64 {
        let mut hasher = FingerprintHasher::new();
        state.hash(&mut hasher);
        // Cluster ids are skipped by the hasher, as all values of 128 bits.
        for server in &state.servers {
            let roster = server.record.as_ref().and_then(|it| it.roster.as_ref());
            hasher.write_u64(roster.map_or(0, |it| it.cluster.bits() as u64));
        }
        hasher.finish()
    }

    fn describe(&self, before: &State, event: Event, _: Option<&State>) -> String {
        match event {
            Event::Write(client, node) | Event::Delay(client, node) => {
                let (_, writes) = self.decide(before, client);
                let write = writes[node].as_ref().map(describe_write);
                format!("{event:?}: {}", write.unwrap_or_default())
            }
            _ => format!("{event:?}"),
        }
    }
}

const TICK: Duration = Duration::from_millis(10);
const TICK_MICROS: u64 = TICK.as_micros() as u64;
