//! A model of adoptions: every order in which nodes run the requests of adopters, of another client and of the
//! previous holder.
//!
//! The ticket's lock has the number 1, and its keys are on the first two of three nodes. It is renewed no more, so each
//! of its keys may expire at any moment. Two late requests of its holder may arrive at any moment: the acquire for the
//! third node, and a reacquire for the second. Adopters and the other client run the shipped `Attempt`. The first client
//! gets its replies in any order and may cancel its attempt; the others get each reply at once.
//!
//! Invariants: at most one lock is valid (A1). A lock has a larger number than all that were acquired before (A2). If an
//! adopter gets the lock, the other client has not had it since (A3). A node lets an adopter take only a key of the
//! ticket's owner (A4).

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use crate::attempt::{Attempt, AttemptStep};
use crate::fence::Fence;
use crate::quorum::{NodeId, Quorum};
use crate::request::{Key, LockSpec, OwnerToken, PreviousOwner, RequestKind};
use crate::test_util::node::ScriptMutant;
use crate::tests::world::lease_params;
use crate::time::DualTimestamp;
use crate::vote::Vote;

use super::hashers::FingerprintHasher;
use super::search::{Coverage, Model, SearchOrder, check_complete, explore, is_long};

const NODES: usize = 3;
/// The ticket's owner. Clients are owners from 2 on.
const TICKET: u8 = 1;
const TICKET_NUMBER: u64 = 1;

/// Which clients there are, and in which mode.
struct AdoptionModel {
    /// Whether each client adopts the ticket; otherwise it acquires the lock.
    adopts: &'static [bool],
    is_fenced: bool,
    /// Whether the first client may cancel its attempt.
    may_cancel: bool,
    mutant: Option<ScriptMutant>,
}

#[derive(Clone, Hash)]
struct State {
    nodes: [Node; NODES],
    clients: Vec<Client>,
    /// Whether the late requests of the previous holder may still arrive.
    late_acquire: bool,
    late_reacquire: bool,
    /// The largest number that a client has acquired the lock with.
    largest_number: u64,
    /// Whether a client that acquires the lock has had it.
    was_acquired: bool,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Node {
    /// 0 if the key is free.
    owner: u8,
    fence: u64,
    is_ahead: bool,
}

#[derive(Clone, Hash)]
struct Client {
    attempt: Option<Rc<Attempt>>,
    /// Whether it has the lock.
    is_holder: bool,
    requests: [VecDeque<RequestKind>; NODES],
    replies: [VecDeque<(RequestKind, Vote)>; NODES],
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Start(usize),
    Request(usize, usize),
    Reply(usize, usize),
    Cancel(usize),
    Release(usize),
    TicketExpires(usize),
    LateAcquire,
    LateReacquire,
}

/// Situations that an exploration must meet.
#[derive(Clone, Copy)]
enum Situation {
    Adopted,
    AdoptedInTwoRounds,
    NotAdopted,
    AcquiredAndReleased,
    LargerFence,
}

impl Model for AdoptionModel {
    type State = State;
    type Event = Event;

    fn initial_state(&self) -> State {
        let held = Node { owner: TICKET, fence: TICKET_NUMBER, is_ahead: false };
        let client = Client {
            attempt: None,
            is_holder: false,
            requests: Default::default(),
            replies: Default::default(),
        };
        State {
            nodes: [held, Node { is_ahead: true, ..held }, Node { owner: 0, fence: 0, is_ahead: false }],
            clients: vec![client; self.adopts.len()],
            late_acquire: true,
            late_reacquire: true,
            largest_number: TICKET_NUMBER,
            was_acquired: false,
        }
    }

    fn enabled_events(&self, state: &State, events: &mut Vec<Event>) {
        for (index, client) in state.clients.iter().enumerate() {
            match &client.attempt {
                None => events.push(Event::Start(index)),
                Some(attempt) if attempt.is_undecided() => {
                    events.extend((index == 0 && self.may_cancel).then_some(Event::Cancel(index)));
                }
                Some(_) if client.is_holder => events.push(Event::Release(index)),
                Some(_) => {}
            }
            for node in 0..NODES {
                if !client.requests[node].is_empty() {
                    events.push(Event::Request(index, node));
                }
                if !client.replies[node].is_empty() {
                    events.push(Event::Reply(index, node));
                }
            }
        }
        let has_ticket = |node: &usize| state.nodes[*node].owner == TICKET;
        events.extend((0..NODES).filter(has_ticket).map(Event::TicketExpires));
        events.extend(state.late_acquire.then_some(Event::LateAcquire));
        events.extend(state.late_reacquire.then_some(Event::LateReacquire));
    }

    fn step(&self, state: &State, event: Event, coverage: &mut Coverage) -> Result<State, String> {
        let mut state = state.clone();
        match event {
            Event::Start(client) => {
                state.clients[client].attempt = Some(Rc::new(self.attempt(client)));
                self.run_steps(&mut state, client, coverage)?;
            }
            Event::Request(client, node) => {
                let Some(kind) = state.clients[client].requests[node].pop_front() else { return Ok(state) };
                let number = state.clients[client].attempt.as_ref().and_then(|it| it.fencing_number());
                let owner_before = state.nodes[node].owner;
                let vote = self.run(&mut state.nodes[node], owner(client), kind, number);
                if kind == RequestKind::Adopt
                    && state.nodes[node].owner == owner(client)
                    && owner_before != TICKET
                {
                    return Err(format!("A4: a key of owner {owner_before} was adopted"));
                }
                if matches!(vote, Vote::FencedOut { .. }) && kind == RequestKind::Adopt {
                    coverage.record(Situation::LargerFence as usize);
                }
                // The reply to a release does not matter.
                if kind != RequestKind::Release {
                    state.clients[client].replies[node].push_back((kind, vote));
                }
                // The replies to all clients but the first arrive at once.
                if client > 0 {
                    self.deliver_reply(&mut state, client, node, coverage)?;
                }
            }
            Event::Reply(client, node) => self.deliver_reply(&mut state, client, node, coverage)?,
            Event::Cancel(client) => {
                state.clients[client].attempt.iter_mut().for_each(|it| Rc::make_mut(it).cancel());
                self.run_steps(&mut state, client, coverage)?;
            }
            Event::Release(client) => {
                let client_state = &mut state.clients[client];
                client_state.is_holder = false;
                client_state.requests.iter_mut().for_each(|queue| queue.push_back(RequestKind::Release));
                if !self.adopts[client] {
                    coverage.record(Situation::AcquiredAndReleased as usize);
                }
            }
            Event::TicketExpires(node) => state.nodes[node].owner = 0,
            Event::LateAcquire => {
                state.late_acquire = false;
                self.run(&mut state.nodes[2], TICKET, RequestKind::Acquire, None);
            }
            Event::LateReacquire => {
                state.late_reacquire = false;
                self.run(&mut state.nodes[1], TICKET, RequestKind::Reacquire, Some(TICKET_NUMBER));
            }
        }
        Ok(state)
    }

    fn fingerprint(&self, state: &State) -> u64 {
        let mut hasher = FingerprintHasher::new();
        state.hash(&mut hasher);
        hasher.finish()
    }

    fn describe(&self, _: &State, event: Event, after: Option<&State>) -> String {
        format!("{event:?}: {:?}", after.map(|state| state.nodes))
    }
}

impl AdoptionModel {
    fn attempt(&self, client: usize) -> Attempt {
        let fencing_number = self.is_fenced.then_some(TICKET_NUMBER);
        let previous_owner = PreviousOwner { token: OwnerToken::new(u128::from(TICKET)), fencing_number };
        let spec = LockSpec {
            key: Key::new("k"),
            params: lease_params(Duration::from_secs(10)),
            want_holder_ttl: false,
            min_fencing_number: 0,
            previous_owner: self.adopts[client].then(|| Box::new(previous_owner)),
        };
        let fence = self.is_fenced.then(|| Fence::Hint { hint: 0, min_fencing_number: spec.numbers_above() });
        let quorum = Quorum::new(NODES, None).expect("a quorum");
        Attempt::new(spec, OwnerToken::new(u128::from(owner(client))), fence, quorum, |_| None, NOW)
    }

    /// What a node does. Each number is the next one above its fence and, at an adoption, above the ticket's; on the
    /// second node, whose clock is ahead, the one after.
    fn run(&self, node: &mut Node, owner: u8, kind: RequestKind, number: Option<u64>) -> Vote {
        let has_mutant = |mutant| self.mutant == Some(mutant);
        let grant = |node: &mut Node, above: u64| {
            node.owner = owner;
            if !self.is_fenced {
                return Vote::Granted;
            }
            node.fence = node.fence.max(above) + if node.is_ahead { 2 } else { 1 };
            Vote::Fenced(node.fence)
        };
        match kind {
            RequestKind::Acquire if node.owner == 0 => grant(node, 0),
            RequestKind::Adopt if node.owner == 0 && !has_mutant(ScriptMutant::AdoptsMissingKey) => {
                Vote::NotHeld
            }
            RequestKind::Adopt
                if ![0, TICKET].contains(&node.owner) && !has_mutant(ScriptMutant::AdoptionIgnoresOwner) =>
            {
                Vote::HeldByOther { remaining: None }
            }
            RequestKind::Adopt
                if self.is_fenced
                    && node.fence > TICKET_NUMBER
                    && !has_mutant(ScriptMutant::AdoptionIgnoresFence) =>
            {
                node.owner = owner;
                Vote::FencedOut { fence: node.fence }
            }
            RequestKind::Adopt => grant(node, TICKET_NUMBER),
            RequestKind::Reacquire if node.owner == 0 && node.fence <= number.unwrap_or(0) => {
                (node.owner, node.fence) = (owner, number.unwrap_or(0));
                Vote::Granted
            }
            RequestKind::RaiseFence if node.owner == owner => match number {
                Some(number) if node.fence <= number => {
                    node.fence = number;
                    Vote::Granted
                }
                _ => Vote::FencedOut { fence: node.fence },
            },
            RequestKind::Release if node.owner == owner => {
                node.owner = 0;
                Vote::Granted
            }
            _ if node.owner == 0 => Vote::NotHeld,
            _ => Vote::HeldByOther { remaining: None },
        }
    }

    fn deliver_reply(
        &self,
        state: &mut State,
        client: usize,
        node: usize,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let Some((kind, vote)) = state.clients[client].replies[node].pop_front() else { return Ok(()) };
        if let Some(attempt) = &mut state.clients[client].attempt {
            Rc::make_mut(attempt).on_reply(NodeId(node as u8), kind, vote, NOW);
        }
        self.run_steps(state, client, coverage)
    }

    /// Carries out the steps of the client's attempt, until it has none.
    fn run_steps(&self, state: &mut State, client: usize, coverage: &mut Coverage) -> Result<(), String> {
        while let Some(step) = state.clients[client].attempt.as_mut().and_then(|it| Rc::make_mut(it).poll()) {
            match step {
                AttemptStep::Request(kind, nodes) => {
                    nodes
                        .iter()
                        .for_each(|node| state.clients[client].requests[node.index()].push_back(kind));
                }
                AttemptStep::Failed(_) if self.adopts[client] => {
                    coverage.record(Situation::NotAdopted as usize);
                }
                AttemptStep::Failed(_) => {}
                AttemptStep::Won => self.on_won(state, client, coverage)?,
            }
        }
        let client = &mut state.clients[client];
        if client.attempt.as_ref().is_some_and(|attempt| !attempt.is_undecided()) {
            // No later reply matters to the attempt.
            client.replies.iter_mut().for_each(VecDeque::clear);
        }
        Ok(())
    }

    fn on_won(&self, state: &mut State, client: usize, coverage: &mut Coverage) -> Result<(), String> {
        if state.clients.iter().any(|other| other.is_holder) {
            return Err("A1: two locks are valid".to_owned());
        }
        state.clients[client].is_holder = true;
        let attempt = state.clients[client].attempt.as_ref().expect("it has won");
        if let Some(number) = attempt.fencing_number() {
            if number <= state.largest_number {
                return Err(format!("A2: number {number} after number {}", state.largest_number));
            }
            state.largest_number = number;
        }
        if !self.adopts[client] {
            state.was_acquired = true;
            return Ok(());
        }
        coverage.record(Situation::Adopted as usize);
        if attempt.rounds() > 1 {
            coverage.record(Situation::AdoptedInTwoRounds as usize);
        }
        if state.was_acquired && self.is_fenced {
            return Err("A3: another client has had the lock since the ticket".to_owned());
        }
        Ok(())
    }
}

const fn owner(client: usize) -> u8 {
    TICKET + 1 + client as u8
}

const NOW: DualTimestamp = DualTimestamp::new(5_000_000_000, 1_700_000_005_000_000_000);

/// An adopter beside a client that acquires the lock.
const WITH_RIVAL: AdoptionModel =
    AdoptionModel { adopts: &[true, false], is_fenced: true, may_cancel: false, mutant: None };
const TWO_ADOPTERS: AdoptionModel =
    AdoptionModel { adopts: &[true, true], is_fenced: true, may_cancel: true, mutant: None };

/// Explores a model, a long one only if that is wanted.
#[track_caller]
fn check(model: &AdoptionModel, is_long_run: bool, states: u64, situations: &[Situation]) {
    if !is_long_run || is_long() {
        let situations: Vec<usize> = situations.iter().map(|it| *it as usize).collect();
        check_complete(model, "adoption", states, &situations);
    }
}

#[test]
fn model_adoption_beside_another_client() {
    let situations = [Situation::Adopted, Situation::NotAdopted, Situation::AcquiredAndReleased];
    let fenced = [&situations[..], &[Situation::AdoptedInTwoRounds, Situation::LargerFence]].concat();
    check(&WITH_RIVAL, false, 267_461, &fenced);
    check(&AdoptionModel { may_cancel: true, ..WITH_RIVAL }, true, 1_873_824, &fenced);
    check(&AdoptionModel { is_fenced: false, may_cancel: true, ..WITH_RIVAL }, true, 952_206, &situations);
}

#[test]
fn model_adoption_by_two_clients() {
    let situations = [Situation::Adopted, Situation::NotAdopted];
    check(&TWO_ADOPTERS, false, 610_750, &situations);
    check(&AdoptionModel { is_fenced: false, ..TWO_ADOPTERS }, true, 565_579, &situations);
}

#[test]
fn mutant_model_adoption() {
    for (mutant, invariant) in [
        (ScriptMutant::AdoptsMissingKey, "A4"),
        (ScriptMutant::AdoptionIgnoresOwner, "A4"),
        (ScriptMutant::AdoptionIgnoresFence, "A3"),
    ] {
        let model = AdoptionModel { mutant: Some(mutant), ..WITH_RIVAL };
        let exploration = explore(&model, "adoption", SearchOrder::BreadthFirst);
        let violation = exploration.violation.expect("a violation because of the mistake");
        println!("{mutant:?}: {} states: {}", exploration.states, violation.message);
        assert!(violation.message.starts_with(invariant), "{}: {:#?}", violation.message, violation.trace);
    }
}
