//! The world of the models: what can happen, and what must never come of it.

use std::rc::Rc;
use std::time::Duration;

use crate::protocol::attempt::{Attempt, AttemptStep};
use crate::protocol::claim::{Claim, Key, Phase, Token};
use crate::protocol::fence::Fence;
use crate::protocol::lease::{Lease, LeaseStep, Tenure};
use crate::protocol::marker::{Charter, ClusterId, Incarnation, Marker};
use crate::protocol::quorum::{NodeId, NodeSet, Quorum};
use crate::protocol::terms::{Drift, Terms};
use crate::protocol::time::Moment;
use crate::protocol::vote::{Fault, Vote};

use super::bounds::{Bounds, Clock, Memory, Numbers, Slip};
use super::canon::{Places, swaps};
use super::node::{Command, Meeting, Node, Reply, Said, number_of, phase};
use super::search::Sights;
use super::state::{MOST_NODES, Stage, State};

pub(crate) struct World {
    pub(crate) bounds: Bounds,
    pub(crate) quorum: Quorum,
    terms: Terms,
    extend_terms: Vec<Terms>,
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
    /// An undo reaches its node.
    Undo {
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
        terms: u8,
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
    Renewed,
    Retaken,
    Lost,
    /// A question of before the node forgot came after.
    Changed,
    Doubted,
    /// A node voted again after it had forgotten.
    VotesAgain,
}

impl World {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let quorum = Quorum::new(bounds.nodes, bounds.need).expect("a quorum");
        let ttl = if let Clock::Ticks { ttl, .. } = bounds.clock { ttl } else { 100 };
        let terms = |ticks: u8| {
            let drift = Drift::new(0.0).expect("no drift");
            let patience = Some(Duration::from_millis(1));
            Terms::new(TICK * u32::from(ticks), drift, patience, TICK).expect("terms that work")
        };
        let marker = |tick: u8| Marker {
            cluster: ClusterId::new(1),
            charter: Charter::new(quorum, TICK * u32::from(ttl)),
            incarnation: Incarnation::new("run:data"),
            since_micros: wide_of(micros(tick)),
        };
        Self {
            bounds,
            quorum,
            terms: terms(ttl),
            extend_terms: bounds.extend_to.iter().map(|ticks| terms(*ticks)).collect(),
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

    /// The number that a grant installs by the script, when clocks agree.
    pub(crate) fn number_by_clock(&self, state: &State, row: usize, node: usize) -> u32 {
        let now = micros(state.now);
        let fence = state.nodes[node].fence;
        let last = if fence == 0 { now - TOLERANCE } else { fence };
        let base = u32::try_from(self.floor(state, node).saturating_sub(WALL_MICROS)).expect("a tick");
        let hint = micros(state.rows[row].start);
        if hint > last && hint > base && hint <= now + TOLERANCE { hint } else { last.max(base) + 1 }
    }

    pub(crate) fn moment(tick: u8) -> Moment {
        let span = TICK * u32::from(tick);
        Moment::new(BOOT_NANOS, WALL_MICROS * 1000 + u64::from(FIRST_MICROS) * 1000).plus(span)
    }

    pub(crate) fn apply(&self, state: &mut State, event: Event, sights: &mut Sights) -> Result<(), String> {
        let mut see = |sight: Sight| sights.see(sight as usize);
        let now = Self::moment(state.now);
        state.is_fresh &= matches!(event, Event::Start { .. } | Event::Extend { .. });
        match event {
            Event::Start { row } => {
                let row = usize::from(row);
                if state.rows.iter().any(|other| matches!(other.stage, Stage::Open(_))) {
                    see(Sight::Rivals);
                }
                let earlier = (0..self.bounds.rows()).filter(|other| state.rows[*other].is_issued);
                state.rows[row].earlier = earlier.fold(0, |set, other| set | 1 << other);
                state.rows[row].start = state.now;
                let fence = match self.bounds.numbers {
                    Numbers::None => None,
                    Numbers::Clocks => Some(Fence::hint(now, 0, 0)),
                    Numbers::Any | Numbers::Next(_) => Some(Fence::Hint { hint: 1, floor: 0 }),
                };
                let claim = Claim { key: key(), terms: self.terms, curious: false, floor: 0 };
                let token = Token::new(u128::from(self.owner(row)));
                let attempt = Attempt::new(claim, token, fence, self.quorum, |_| None, now);
                state.rows[row].stage = Stage::Open(Rc::new(attempt));
                self.advance(state, row, sights)?;
            }
            Event::Arrive { row, node, place, number } => {
                let (row, at) = (usize::from(row), usize::from(node));
                let command = state.wires[row][at].commands.take(usize::from(place));
                let is_grant = phase(command.phase) == Phase::Grant;
                let may_vote = self.may_vote(state, at);
                let meeting = Meeting {
                    now: state.now,
                    owner: self.owner(row),
                    number: if is_grant { number } else { state.rows[row].number },
                    may_vote,
                    slip: self.bounds.slip,
                };
                if self.bounds.is_bare() && is_grant {
                    state.nodes[at].lapse();
                }
                let said = state.nodes[at].run(command, meeting);
                let is_done = matches!(said, Said::Granted | Said::Fenced(_));
                match said {
                    Said::Changed => see(Sight::Changed),
                    Said::Doubtful => see(Sight::Doubted),
                    _ if is_done && command.life > 0 => see(Sight::VotesAgain),
                    _ => {}
                }
                match phase(command.phase) {
                    Phase::Grant if is_done && state.rows[row].is_over() => see(Sight::LateGrant),
                    Phase::Raise if is_done && command.is_ghost => see(Sight::RaiseUnheard),
                    Phase::Retake if is_done => see(Sight::Retaken),
                    _ => {}
                }
                let is_at_once = self.bounds.is_lean && (!is_done || self.bounds.is_bare() && !is_grant);
                if is_at_once && !command.is_ghost {
                    self.hear(
                        state,
                        row as u8,
                        node,
                        command.phase,
                        command.round,
                        said.vote(|it| self.wide(it)),
                        sights,
                    )?;
                } else if !command.is_ghost {
                    let reply = Reply { phase: command.phase, round: command.round, said };
                    state.wires[row][at].replies.put(reply);
                }
            }
            Event::Undo { node, .. } => state.nodes[usize::from(node)].lapse(),
            Event::Answer { row, node, place } => {
                let reply = state.wires[usize::from(row)][usize::from(node)].replies.take(usize::from(place));
                self.hear(
                    state,
                    row,
                    node,
                    reply.phase,
                    reply.round,
                    reply.said.vote(|it| self.wide(it)),
                    sights,
                )?;
            }
            Event::Cut { row, node } => {
                state.cuts += 1;
                let wire = &mut state.wires[usize::from(row)][usize::from(node)];
                let mut owed: Vec<(u8, u8)> = Vec::new();
                owed.extend(wire.replies.items().iter().map(|it| (it.phase, it.round)));
                let asked = wire.commands.items().iter().filter(|it| !it.is_ghost);
                owed.extend(asked.map(|it| (it.phase, it.round)));
                if wire
                    .replies
                    .items()
                    .iter()
                    .any(|it| phase(it.phase) == Phase::Raise && it.said == Said::Granted)
                {
                    see(Sight::RaiseUnheard);
                }
                wire.replies.retain_map(|_| None);
                wire.commands.retain_map(|it| Some(Command { is_ghost: true, ..it }));
                for (phase, round) in owed {
                    self.hear(state, row, node, phase, round, Vote::Unknown(Fault::Cut), sights)?;
                }
            }
            Event::Wake { row } => {
                let row = usize::from(row);
                match &mut state.rows[row].stage {
                    Stage::Open(attempt) => {
                        let due = attempt.wake_at().filter(|_| !self.is_timed()).unwrap_or(now);
                        Rc::make_mut(attempt).on_wake(due);
                    }
                    Stage::Held(lease) => Rc::make_mut(lease).on_wake(|_| None, now),
                    Stage::Waiting | Stage::Over => {}
                }
                self.advance(state, row, sights)?;
            }
            Event::LetGo { row } => {
                let row = usize::from(row);
                match &mut state.rows[row].stage {
                    Stage::Open(attempt) => Rc::make_mut(attempt).abandon(),
                    Stage::Held(lease) => Rc::make_mut(lease).release(now),
                    Stage::Waiting | Stage::Over => {}
                }
                self.advance(state, row, sights)?;
            }
            Event::Extend { row, terms } => {
                let row = usize::from(row);
                state.rows[row].extensions += 1;
                if let Stage::Held(lease) = &mut state.rows[row].stage {
                    Rc::make_mut(lease).extend(self.extend_terms[usize::from(terms)], |_| None, now);
                }
                self.advance(state, row, sights)?;
            }
            Event::Expire { node } => state.nodes[usize::from(node)].lapse(),
            Event::Forget { node } => {
                state.forgets += 1;
                let largest = self.numbers(state).last().copied().unwrap_or(0);
                let now = state.now;
                let node = &mut state.nodes[usize::from(node)];
                node.lapse();
                match self.bounds.memory {
                    Memory::Blank => node.fence = 0,
                    Memory::Reseeded if self.bounds.slip == Some(Slip::CounterRestarts) => node.fence = 0,
                    Memory::Reseeded => node.fence = largest,
                    Memory::Marked => {
                        node.fence = 0;
                        node.life += 1;
                        node.since = now;
                    }
                }
            }
            Event::Tick => {
                state.now += 1;
                state.is_fresh = true;
                let now = state.now;
                state.nodes.iter_mut().filter(|node| node.expires <= now).for_each(Node::lapse);
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "an answer has as many parts")]
    fn hear(
        &self,
        state: &mut State,
        row: u8,
        node: u8,
        asked: u8,
        round: u8,
        vote: Vote,
        sights: &mut Sights,
    ) -> Result<(), String> {
        let (now, node, row) = (Self::moment(state.now), NodeId(node), usize::from(row));
        match &mut state.rows[row].stage {
            Stage::Open(attempt) => {
                let attempt = Rc::make_mut(attempt);
                attempt.on_reply(node, phase(asked), vote, now);
                if attempt.round().votes()[node.index()] == Vote::Outranked {
                    sights.see(Sight::Straggler as usize);
                }
            }
            Stage::Held(lease) => {
                Rc::make_mut(lease).on_reply(node, phase(asked), u32::from(round), vote, now);
            }
            Stage::Waiting | Stage::Over => return Ok(()),
        }
        self.advance(state, row, sights)
    }

    /// Does what the row's machine says.
    fn advance(&self, state: &mut State, row: usize, sights: &mut Sights) -> Result<(), String> {
        loop {
            match std::mem::take(&mut state.rows[row].stage) {
                Stage::Open(mut attempt) => {
                    let step = Rc::make_mut(&mut attempt).poll();
                    state.rows[row].number = attempt.number().map_or(0, |number| self.narrow(number));
                    state.rows[row].stage = Stage::Open(attempt.clone());
                    match step {
                        Some(AttemptStep::Ask(Phase::Release, nodes)) => {
                            state.rows[row].undone |= bits(nodes)
                        }
                        Some(AttemptStep::Ask(phase, nodes)) => {
                            self.ask(state, row, phase, 0, self.terms.ttl(), nodes)
                        }
                        Some(AttemptStep::Won) => self.win(state, row, &attempt, sights)?,
                        Some(AttemptStep::Lost(_)) => {
                            sights.see(Sight::Refused as usize);
                            self.end(state, row, sights);
                        }
                        None if attempt.is_done() => self.end(state, row, sights),
                        None => return Ok(()),
                    }
                }
                Stage::Held(mut lease) => {
                    let step = Rc::make_mut(&mut lease).poll();
                    let must_end = lease.is_done() || !lease.is_kept();
                    state.rows[row].stage = Stage::Held(lease.clone());
                    match step {
                        Some(LeaseStep::Ask { phase: Phase::Release, nodes, .. }) => {
                            state.rows[row].undone |= bits(nodes);
                        }
                        Some(LeaseStep::Ask { phase, ttl, nodes, round }) => {
                            self.ask(state, row, phase, round as u8, ttl, nodes);
                        }
                        Some(LeaseStep::Renewed(_)) => {
                            sights.see(Sight::Renewed as usize);
                            if state.rows[row].was_passed {
                                return Err(format!(
                                    "I6: {} is told that it still has the lock, which somebody else had meanwhile",
                                    name(row)
                                ));
                            }
                        }
                        Some(LeaseStep::Lost(_)) => {
                            sights.see(Sight::Lost as usize);
                            stays_lost(&lease, Self::moment(state.now))?;
                            if let Stage::Held(lease) = &mut state.rows[row].stage {
                                Rc::make_mut(lease).release(Self::moment(state.now));
                            }
                        }
                        Some(
                            LeaseStep::Confirmed(_) | LeaseStep::Unconfirmed(_) | LeaseStep::Released(_),
                        ) => {}
                        None if must_end => self.end(state, row, sights),
                        None => return Ok(()),
                    }
                }
                stage @ (Stage::Waiting | Stage::Over) => {
                    state.rows[row].stage = stage;
                    return Ok(());
                }
            }
        }
    }

    fn ask(&self, state: &mut State, row: usize, phase: Phase, round: u8, ttl: Duration, nodes: NodeSet) {
        let ttl = (ttl.as_millis() / TICK.as_millis()) as u8;
        for node in nodes.iter().map(NodeId::index) {
            let command = Command {
                phase: number_of(phase),
                round,
                ttl,
                life: state.nodes[node].life,
                is_ghost: false,
            };
            state.wires[row][node].commands.put(command);
        }
    }

    fn win(
        &self,
        state: &mut State,
        row: usize,
        attempt: &Attempt,
        sights: &mut Sights,
    ) -> Result<(), String> {
        sights.see(Sight::Won as usize);
        state.is_fresh = true;
        if attempt.rounds() > 1 {
            sights.see(Sight::TwoRounds as usize);
        }
        let lease = Lease::new(attempt, Tenure { auto_renew: false, max_hold: None });
        for (other, theirs) in state.rows.iter_mut().enumerate() {
            if other != row && theirs.lease().is_some() {
                theirs.was_passed = true;
                sights.see(Sight::Stale as usize);
            }
        }
        let ours = &mut state.rows[row];
        ours.was_passed = false;
        ours.touched = bits(attempt.perhaps_done());
        ours.counted = bits(attempt.numbered());
        ours.stage = Stage::Held(Rc::new(lease));
        if !self.bounds.is_fenced() {
            return Ok(());
        }
        ours.is_issued = true;
        let (number, earlier) = (ours.number, std::mem::take(&mut ours.earlier));
        for (other, theirs) in
            state.rows.iter().enumerate().filter(|(other, it)| *other != row && it.is_issued)
        {
            if theirs.number == number {
                return Err(format!("I2: {} and {} have one number, {number}", name(other), name(row)));
            }
            if earlier & 1 << other != 0 && theirs.number > number {
                return Err(format!(
                    "I3: {} began after {} had number {}, and gets {number}",
                    name(row),
                    name(other),
                    theirs.number
                ));
            }
        }
        Ok(())
    }

    /// Nobody listens any more.
    fn end(&self, state: &mut State, row: usize, sights: &mut Sights) {
        state.is_fresh |= self.is_timed();
        let rows = &mut state.rows[row];
        rows.stage = Stage::Over;
        rows.earlier = 0;
        rows.counted = 0;
        rows.touched = 0;
        rows.start = 0;
        rows.extensions = 0;
        rows.was_passed = false;
        if !self.is_timed() {
            // A key may go at any time anyhow.
            rows.undone = 0;
        }
        for wire in &mut state.wires[row][..self.bounds.nodes] {
            let is_raised = |it: &Reply| phase(it.phase) == Phase::Raise && it.said == Said::Granted;
            if wire.replies.items().iter().any(is_raised) {
                sights.see(Sight::RaiseUnheard as usize);
            }
            wire.replies.retain_map(|_| None);
            wire.commands.retain_map(|it| Some(Command { is_ghost: true, ..it }));
        }
    }

    /// Every number that still matters, sorted.
    pub(crate) fn numbers(&self, state: &State) -> Vec<u32> {
        if !self.bounds.is_fenced() {
            return Vec::new();
        }
        let mut numbers: Vec<u32> = state.nodes.iter().map(|node| node.fence).collect();
        for (row, wires) in state.rows.iter().zip(&state.wires) {
            let in_use = |wire: &super::state::Wire| {
                wire.commands.items().iter().any(|it| phase(it.phase) != Phase::Grant)
            };
            if row.is_issued || !row.is_over() || wires.iter().any(in_use) {
                numbers.push(row.number);
            }
            if let Stage::Open(attempt) = &row.stage
                && attempt.number().is_none()
            {
                let votes = attempt.round().votes().iter();
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

fn bits(nodes: NodeSet) -> u8 {
    nodes.bits() as u8
}

pub(crate) fn name(row: usize) -> char {
    char::from(b'a' + row as u8)
}

fn key() -> Key {
    thread_local! {
        static KEY: Key = Key::new("k");
    }
    KEY.with(Key::clone)
}

/// Whatever nodes say later, what is lost is lost.
fn stays_lost(lease: &Lease, now: Moment) -> Result<(), String> {
    let mut lease = lease.clone();
    for round in 0..4 {
        for node in (0..MOST_NODES as u8).map(NodeId) {
            lease.on_reply(node, Phase::Renew, round, Vote::Granted, now);
        }
    }
    while let Some(step) = lease.poll() {
        if matches!(step, LeaseStep::Renewed(_)) {
            return Err("a lock that was lost came back".into());
        }
    }
    if lease.is_held() { Err("a lock that was lost is held".into()) } else { Ok(()) }
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
/// As in `grant.lua`.
const TOLERANCE: u32 = 250_000;
