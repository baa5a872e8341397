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
//! servers that vote under it (R2). No two servers have one seat (R3).
//!
//! An address moves to another server only while a quorum of the members of the latest roster keep their memory and
//! address, and no member loses either before a later roster.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::marker::{ClusterId, LockClusterConfig};
use crate::membership::{MarkerTime, time_of};
use crate::mutant::{Mutant, with};
use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::roster::proposer::{Permissions, Proposer, ServerView};
use crate::roster::record::{Ballot, Record, RecordWrite};
use crate::roster::{Epoch, NodeList, Roster, Seat, SeatId};

use super::hashers::FingerprintHasher;
use super::search::{Coverage, Model, SearchOrder, explore};

/// Which list of nodes a client has.
const LIST: bool = false;
const OTHER_LIST: bool = true;

#[derive(Clone, Copy)]
struct RosterModel {
    nodes: usize,
    quorum: usize,
    /// The list of each client.
    lists: &'static [bool],
    is_founded: bool,
    /// The largest ballot.
    max_ballot: u32,
    max_restarts: u8,
    max_moves: u8,
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
    /// A server votes under a roster that it accepted.
    VotesForProposal,
    /// A write is carried out whatever the record is.
    WritesAnyRecord,
    /// A round counts votes under any roster.
    RoundOfTwoRosters,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    servers: Vec<Server>,
    /// The server behind each address.
    addresses: Vec<u8>,
    clients: Vec<Client>,
    delayed: Option<Delayed>,
    lockers: Vec<Locker>,
    now: u8,
    next_seat: u64,
    restarts: u8,
    moves: u8,
    outages: u8,
    delays: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Server {
    is_up: bool,
    record: Option<Record>,
    hint: Option<Arc<Roster>>,
    /// When it votes, or when its data began, in ticks.
    time: u8,
    /// The locker that has the key, and when the key expires.
    key: Option<(u8, u8)>,
}

/// A client that acquires the lock, and then renews it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Locker {
    /// The roster of the running round, its start, and the servers that granted.
    round: Option<(Arc<Roster>, u8, u8)>,
    /// Until when its lock is valid; 0 without a lock.
    valid_until: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Client {
    proposer: Proposer,
    views: Vec<ServerView>,
    /// The server of each connection.
    connections: Vec<u8>,
}

/// A write that is under way.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Delayed {
    server: u8,
    expected: Option<Record>,
    write: RecordWrite,
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
    Outage(usize),
    Return(usize),
    Redial(usize, usize),
    Tick,
    /// A locker begins a round under the roster that this server carries.
    Begin(usize, usize),
    Vote(usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    Locked,
    Renewed,
    LockedUnderTwoRosters,
    Founded,
    Changed,
    Recovered,
    Vacant,
    BallotLost,
    TakenOver,
    LateWrite,
    LateWriteRejected,
    MemberTold,
}

impl RosterModel {
    fn config(&self) -> LockClusterConfig {
        LockClusterConfig::new(
            Quorum::new(self.nodes, Some(self.quorum)).expect("a quorum"),
            Duration::from_secs(30),
        )
    }

    /// Both lists name the same nodes, but for the last.
    fn list(&self, is_other: bool) -> NodeList {
        let mut names: Vec<String> = (0..self.nodes).map(|it| format!("node {it}")).collect();
        if is_other {
            names[self.nodes - 1] = format!("node {}", self.nodes);
        }
        NodeList::new(&names)
    }

    fn permissions(&self, state: &State) -> Permissions {
        // A node counts as absent while it is down; how long does not matter, as it casts no vote meanwhile.
        let is_down = |node: &usize| !state.servers[usize::from(state.addresses[*node])].is_up;
        let absent: NodeSet = (0..self.nodes).filter(is_down).map(|node| NodeId(node as u8)).collect();
        Permissions {
            now_millis: 0,
            absent,
            to_vacate: absent,
            may_found: true,
            leaves_out_unreachable: false,
            may_begin: true,
            random: 7,
        }
    }

    /// The client after it decided on its writes, and the writes.
    fn decide(&self, state: &State, client: usize) -> (Proposer, Vec<Option<RecordWrite>>) {
        let mut proposer = state.clients[client].proposer.clone();
        let (writes, _) = proposer.writes(&state.clients[client].views, &self.permissions(state));
        (proposer, writes)
    }

    fn is_within_bounds(&self, write: &RecordWrite) -> bool {
        !matches!(write, RecordWrite::Promise(ballot) if ballot.count > self.max_ballot)
    }

    fn run(&self, state: &mut State, server: usize, expected: Option<&Record>, write: &RecordWrite) -> bool {
        let is_expected = state.servers[server].record.as_ref() == expected
            || self.mutant == Some(ModelMutant::WritesAnyRecord);
        let host = &mut state.servers[server];
        if !host.is_up || !is_expected {
            return false;
        }
        let write = match write {
            RecordWrite::DrawSeat(_) => {
                state.next_seat += 1;
                RecordWrite::DrawSeat(SeatId(state.next_seat))
            }
            write => write.clone(),
        };
        if let Some(record) = Record::after(host.record.as_ref(), host.hint.as_ref(), &write) {
            let before = (u64::from(host.time) * TICK_MICROS, 1);
            let ttl = TICK * u32::from(self.ttl);
            let (time, _) = time_of(&write, host.record.as_ref(), &record, before, (ttl, 1));
            host.time = match time {
                MarkerTime::After(span) => state.now + (span.as_micros() as u64 / TICK_MICROS) as u8,
                MarkerTime::At(micros) => (micros / TICK_MICROS) as u8,
            };
            (host.record, host.hint) = (Some(record), None);
        }
        true
    }

    /// Whether the server votes for the locker's round.
    fn grants(&self, state: &State, locker: usize, server: usize) -> bool {
        let Some((roster, _, granted)) = &state.lockers[locker].round else { return false };
        let host = &state.servers[server];
        let votes = host.record.as_ref().is_some_and(|record| {
            let is_member = record.is_member_of(roster)
                || self.mutant == Some(ModelMutant::RoundOfTwoRosters)
                    && record.roster.as_ref().is_some_and(|its| its.has(record.seat));
            is_member && !record.is_sealed()
        });
        let has_key = host.key.is_some_and(|(owner, _)| usize::from(owner) == locker);
        let is_free = if state.lockers[locker].valid_until > 0 { has_key } else { host.key.is_none() };
        host.is_up && votes && state.now >= host.time && is_free && granted & 1 << server == 0
    }

    /// The locker's round is won, or goes on.
    fn grant(
        &self,
        state: &mut State,
        locker: usize,
        server: usize,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        state.servers[server].key = Some((locker as u8, state.now + self.ttl));
        let Some((roster, start, granted)) = &mut state.lockers[locker].round else { return Ok(()) };
        *granted |= 1 << server;
        if (granted.count_ones() as usize) < self.quorum {
            return Ok(());
        }
        let (valid_until, epoch) = (*start + self.ttl, roster.epoch);
        let is_renewal = state.lockers[locker].valid_until > 0;
        coverage.record(if is_renewal { Situation::Renewed } else { Situation::Locked } as usize);
        if epoch != Epoch::default().after_recovery() {
            coverage.record(Situation::LockedUnderTwoRosters as usize);
        }
        state.lockers[locker] = Locker { round: None, valid_until };
        let is_valid = |it: &Locker| it.valid_until > state.now;
        if state.lockers.iter().filter(|it| is_valid(it)).count() > 1 {
            return Err(format!("R0: two locks are valid at tick {}", state.now));
        }
        Ok(())
    }

    /// Keys and locks whose time is up.
    fn expire(state: &mut State) {
        for host in &mut state.servers {
            host.key = host.key.filter(|(_, expires)| *expires > state.now);
        }
        for locker in &mut state.lockers {
            if locker.valid_until <= state.now && locker.valid_until > 0 {
                // It lost the lock, and with it the running renewal.
                *locker = Locker { round: None, valid_until: 0 };
            }
        }
    }

    fn read(state: &mut State, client: usize, node: usize) {
        let server = &state.servers[usize::from(state.clients[client].connections[node])];
        let view = if server.is_up {
            ServerView {
                is_up: true,
                record: server.record.clone(),
                hint: server.hint.clone(),
                largest_number: 0,
                is_fit: true,
            }
        } else {
            ServerView { is_up: false, ..state.clients[client].views[node].clone() }
        };
        state.clients[client].views[node] = view;
    }

    fn is_read(state: &State, client: usize, node: usize) -> bool {
        let server = &state.servers[usize::from(state.clients[client].connections[node])];
        let view = &state.clients[client].views[node];
        if server.is_up {
            view.is_up && view.record == server.record && view.hint == server.hint
        } else {
            !view.is_up
        }
    }

    /// The latest roster that a server carries.
    fn latest(state: &State) -> Option<&Arc<Roster>> {
        let rosters = state.servers.iter().filter_map(|it| it.record.as_ref()?.roster.as_ref());
        rosters.max_by_key(|it| it.epoch)
    }

    /// Whether a quorum of the latest roster keeps memory and address without this node.
    fn is_quorum_kept(&self, state: &State, without: usize) -> bool {
        let Some(latest) = Self::latest(state) else { return false };
        let keeps = |node: &usize| {
            let server = &state.servers[usize::from(state.addresses[*node])];
            *node != without && server.record.as_ref().is_some_and(|it| it.is_member_of(latest))
        };
        (0..self.nodes).filter(keeps).count() >= self.quorum
    }

    /// Whether a member of the latest roster, or of one that may have voters beside it, is at no address.
    fn has_moved_member(state: &State) -> bool {
        state.servers.iter().enumerate().any(|(index, server)| {
            let is_addressed = state.addresses.contains(&(index as u8));
            !is_addressed
                && server.record.as_ref().is_some_and(|record| {
                    record.was_member && Self::latest(state).is_some_and(|it| it.has(record.seat))
                })
        })
    }

    fn check(&self, state: &State, coverage: &mut Coverage) -> Result<(), String> {
        let records: Vec<&Record> = state.servers.iter().filter_map(|it| it.record.as_ref()).collect();
        let mut carried: Vec<&Arc<Roster>> = Vec::new();
        let hints = state.servers.iter().filter_map(|it| it.hint.as_ref());
        for roster in records.iter().filter_map(|it| it.roster.as_ref()).chain(hints) {
            if carried.contains(&roster) {
                continue;
            }
            if let Some(other) =
                carried.iter().find(|it| it.cluster != roster.cluster || it.epoch == roster.epoch)
            {
                return Err(format!("R1: two rosters: {} and {}", other.to_text(), roster.to_text()));
            }
            carried.push(roster);
        }
        let votes_under = |record: &&&Record, roster: &Roster| {
            record.is_member_of(roster) && !record.is_sealed()
                || self.mutant == Some(ModelMutant::VotesForProposal)
                    && record.accepted.as_ref().is_some_and(|(_, it)| **it == *roster && it.has(record.seat))
        };
        if self.mutant == Some(ModelMutant::VotesForProposal) {
            carried.extend(records.iter().filter_map(|it| it.accepted.as_ref().map(|(_, it)| it)));
            carried.dedup();
        }
        let mut in_force: Vec<&Arc<Roster>> = Vec::new();
        for roster in &carried {
            let voters = records.iter().filter(|record| votes_under(record, roster)).count();
            if voters >= self.quorum && !in_force.contains(roster) {
                in_force.push(roster);
            }
            if roster.seats.iter().any(|seat| seat.id.is_none()) {
                coverage.record(Situation::Vacant as usize);
            }
        }
        if let [one, other, ..] = in_force[..] {
            return Err(format!("R2: two rosters have a quorum: {} and {}", one.to_text(), other.to_text()));
        }
        for (index, record) in records.iter().enumerate() {
            if records[..index].iter().any(|other| other.seat == record.seat) {
                return Err(format!("R3: two servers have the seat {:?}", record.seat));
            }
        }
        Ok(())
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
            fence_base: 0,
            seats: (1..=self.nodes)
                .map(|id| Seat { id: Some(SeatId(id as u64)), ..Seat::default() })
                .collect(),
        });
        let server = |index: usize| Server {
            is_up: true,
            record: self.is_founded.then(|| Record {
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
        let servers: Vec<Server> = (0..self.nodes).map(server).collect();
        let views: Vec<ServerView> = servers
            .iter()
            .map(|it| ServerView {
                is_up: true,
                record: it.record.clone(),
                hint: None,
                largest_number: 0,
                is_fit: true,
            })
            .collect();
        let clients = self.lists.iter().enumerate().map(|(index, list)| Client {
            proposer: Proposer::new(index as u64 + 1, self.list(*list), self.config()),
            views: views.clone(),
            connections: (0..self.nodes as u8).collect(),
        });
        State {
            clients: clients.collect(),
            addresses: (0..self.nodes as u8).collect(),
            next_seat: self.nodes as u64,
            servers,
            delayed: None,
            lockers: vec![Locker { round: None, valid_until: 0 }; self.lockers],
            now: 0,
            restarts: 0,
            moves: 0,
            outages: 0,
            delays: 0,
        }
    }

    fn enabled_events(&self, state: &State, events: &mut Vec<Event>) {
        for client in 0..state.clients.len() {
            let (_, writes) = self.decide(state, client);
            // Reduction: a client reads a node when it has nothing to write. A rejected write is a reading too.
            let is_idle = !writes.iter().flatten().any(|write| self.is_within_bounds(write));
            for (node, write) in writes.iter().enumerate() {
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
                    !Self::has_moved_member(state) || !is_member || self.is_quorum_kept(state, node)
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
                if state.moves < self.max_moves && is_member && self.is_quorum_kept(state, node) {
                    events.push(Event::Move(node, false));
                    events.push(Event::Move(node, true));
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
                self.cover(state, client, &proposer, &write, coverage)?;
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
        self.check(&after, coverage)?;
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

impl RosterModel {
    fn cover(
        &self,
        state: &State,
        client: usize,
        proposer: &Proposer,
        write: &RecordWrite,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let views = &state.clients[client].views;
        let current = proposer.current(views);
        match write {
            RecordWrite::Accept(ballot, roster) => {
                let is_other = |view: &ServerView| {
                    let accepted = view.record.as_ref().and_then(|it| it.accepted.as_ref());
                    accepted.is_some_and(|(other, it)| other != ballot && it == roster)
                };
                if views.iter().any(is_other) {
                    coverage.record(Situation::TakenOver as usize);
                }
            }
            RecordWrite::Carry(roster) => {
                let situation = match current {
                    None => Situation::Founded,
                    Some(current) if current == roster => Situation::MemberTold,
                    Some(current) if current.epoch.after_change() == roster.epoch => Situation::Changed,
                    Some(_) => Situation::Recovered,
                };
                if std::env::var("ROSTER_STOP").is_ok() && situation == Situation::Recovered {
                    return Err("recovered".into());
                }
                coverage.record(situation as usize);
            }
            RecordWrite::Promise(ballot) => {
                let is_smaller = |view: &ServerView| {
                    view.record
                        .as_ref()
                        .and_then(|it| it.promised)
                        .is_some_and(|it| it < *ballot && it != Ballot::default())
                };
                if views.iter().any(is_smaller) {
                    coverage.record(Situation::BallotLost as usize);
                }
            }
            RecordWrite::DrawSeat(_) => {}
        }
        Ok(())
    }
}

fn describe_write(write: &RecordWrite) -> String {
    match write {
        RecordWrite::DrawSeat(_) => "draw a seat".to_owned(),
        RecordWrite::Promise(ballot) => format!("promise {}.{}", ballot.count, ballot.client),
        RecordWrite::Accept(ballot, roster) => {
            format!("accept {}.{} {}", ballot.count, ballot.client, describe_roster(roster))
        }
        RecordWrite::Carry(roster) => format!("carry {}", describe_roster(roster)),
    }
}

fn describe_roster(roster: &Roster) -> String {
    let seats: Vec<String> =
        roster.seats.iter().map(|it| it.id.map_or("-".to_owned(), |id| id.0.to_string())).collect();
    format!("{}: {}", roster.epoch, seats.join(" "))
}

const TICK: Duration = Duration::from_millis(10);
const TICK_MICROS: u64 = TICK.as_micros() as u64;

const THREE: RosterModel = RosterModel {
    nodes: 3,
    quorum: 2,
    lists: &[LIST, LIST],
    is_founded: true,
    max_ballot: 2,
    max_restarts: 1,
    max_moves: 0,
    max_outages: 0,
    max_delays: 0,
    lockers: 0,
    ttl: 1,
    horizon: 0,
    mutant: None,
};

#[track_caller]
fn check(name: &str, model: &RosterModel, states: u64) {
    let order =
        if std::env::var("ROSTER_BFS").is_ok() { SearchOrder::BreadthFirst } else { SearchOrder::DepthFirst };
    let exploration = explore(model, name, order);
    if let Some(violation) = exploration.violation {
        panic!("{name}: {}\n    {}", violation.message, violation.trace.join("\n    "));
    }
    println!(
        "{name}: {} states, {} steps, depth {}, {:?}",
        exploration.states, exploration.steps, exploration.depth, exploration.elapsed
    );
    let coverage: Vec<u64> = (0..12).map(|it| exploration.coverage.count(it)).collect();
    println!("coverage {coverage:?}");
    if std::env::var("ROSTER_TRY").is_ok() {
        return;
    }
    assert_eq!(
        exploration.states, states,
        "{name}: the model has changed: check it, then change this number"
    );
}

#[test]
fn model_roster_restart() {
    let one = RosterModel { lists: &[LIST], ..THREE };
    let which = std::env::var("ROSTER_TRY").unwrap_or_default();
    for (name, model) in [
        ("0", one),
        ("a", RosterModel { max_ballot: 3, ..THREE }),
        ("b", RosterModel { max_ballot: 2, max_restarts: 2, ..THREE }),
        ("c", RosterModel { lists: &[LIST, OTHER_LIST], max_ballot: 1, ..THREE }),
        ("d", RosterModel { is_founded: false, max_restarts: 0, ..THREE }),
        ("e", RosterModel { is_founded: false, max_restarts: 1, ..THREE }),
        ("f", RosterModel { lockers: 2, max_restarts: 1, ttl: 1, horizon: 2, ..one }),
        ("g", RosterModel { max_moves: 1, max_restarts: 0, ..THREE }),
        ("h", RosterModel { max_moves: 1, max_restarts: 0, max_delays: 1, ..THREE }),
        ("i", RosterModel { max_outages: 1, max_restarts: 0, ..THREE }),
        ("j", RosterModel { max_outages: 1, max_restarts: 1, ..one }),
        ("k", RosterModel { max_outages: 1, max_restarts: 1, ..THREE }),
        ("l", RosterModel { max_outages: 1, max_restarts: 2, ..one }),
        ("m", RosterModel { is_founded: false, max_restarts: 0, max_outages: 1, ..THREE }),
        ("n", RosterModel { lockers: 2, max_moves: 1, max_restarts: 0, ttl: 1, horizon: 2, ..one }),
        ("o", RosterModel { lockers: 2, max_moves: 1, max_restarts: 0, ttl: 2, horizon: 3, ..one }),
        ("p", RosterModel { lockers: 2, max_restarts: 2, ttl: 1, horizon: 2, ..one }),
        ("q", RosterModel { max_moves: 1, max_restarts: 1, ..THREE }),
    ] {
        if which.split(' ').any(|it| it == name) {
            check(name, &model, 0);
        }
    }
}
