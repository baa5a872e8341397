//! The world as a model: what can happen in a state, and what every state must keep.

use crate::request::RequestKind;

use super::bounds::{Begins, Clock, Numbers};
use super::node::{Command, Meeting, Said, phase};
use super::search::{Model, Sights};
use super::state::{Stage, State};
use super::world::{Event, World, name};

impl Model for World {
    type State = State;
    type Event = Event;

    fn first(&self) -> State {
        match self.bounds.begins {
            Begins::Blank => State::new(),
            Begins::OutrankedOnOne => self.outranked_on_one(),
        }
    }

    fn events(&self, state: &State, events: &mut Vec<Event>) {
        for row in 0..self.bounds.rows() {
            self.events_of(state, row, events);
            for node in 0..self.bounds.nodes {
                self.events_between(state, row, node, events);
            }
        }
        for at in 0..self.bounds.nodes {
            let node = at as u8;
            if !self.is_timed() && !self.bounds.is_lean && state.nodes[at].owner != 0 {
                events.push(Event::Expire { node });
            }
            if state.forgets < self.bounds.forgets {
                events.push(Event::Forget { node });
            }
        }
        if let Clock::Ticks { horizon, .. } = self.bounds.clock
            && state.now < horizon
        {
            events.push(Event::Tick);
        }
    }

    fn step(&self, state: &State, event: Event, sights: &mut Sights) -> Result<State, String> {
        let mut after = state.clone();
        self.apply(&mut after, event, sights)?;
        self.check(&after)?;
        Ok(after)
    }

    fn fingerprint(&self, state: &State) -> u64 {
        self.print(state)
    }

    fn words(&self, before: &State, event: Event, after: Option<&State>) -> String {
        let at = if self.is_timed() { format!("t={} ", before.now) } else { String::new() };
        let what = match event {
            Event::Start { row } => format!("{} asks every node", name(row.into())),
            Event::Arrive { row, node, place, number } => {
                let (row, at) = (usize::from(row), usize::from(node));
                let command = before.wires[row][at].commands.items()[usize::from(place)];
                let late = if command.is_ghost { ", late," } else { "" };
                let said = match after.map(|after| &after.nodes[at]) {
                    Some(node) if *node == before.nodes[at] => "nothing changes there".into(),
                    Some(node) if phase(command.phase) == RequestKind::Acquire && number > 0 => {
                        format!("it is {}'s, number {}", name(row), node.fence)
                    }
                    Some(node) => format!("now {}", describe(node.owner, node.expires, node.fence)),
                    None => String::new(),
                };
                format!("{}'s {:?}{late} reaches node {node}: {said}", name(row), phase(command.phase))
            }
            Event::PendingRelease { row, node } => {
                format!("{}'s release reaches node {node}, which is free now", name(row.into()))
            }
            Event::Answer { row, node, place } => {
                let wire = &before.wires[usize::from(row)][usize::from(node)];
                let reply = wire.replies.items()[usize::from(place)];
                let (who, phase) = (name(row.into()), phase(reply.phase));
                format!("{who} hears of node {node} to its {phase:?}: {:?}", reply.said)
            }
            Event::Cut { row, node } => format!("{}'s connection to node {node} breaks", name(row.into())),
            Event::Wake { row } => format!("{}'s timer goes off", name(row.into())),
            Event::LetGo { row } => format!("{} lets go", name(row.into())),
            Event::Extend { row, params } => {
                let ttl = self.bounds.extend_to[usize::from(params)];
                format!("{} asks for {ttl} ticks from now", name(row.into()))
            }
            Event::Expire { node } => format!("the key on node {node} goes"),
            Event::Forget { node } => format!("node {node} forgets everything"),
            Event::Tick => "time goes on".into(),
        };
        let won = |row: &usize| {
            let holds = |state: &State| state.rows[*row].lease().is_some();
            after.is_some_and(|after| holds(after) && !holds(before))
        };
        let mut line = format!("{at}{what}");
        for row in (0..self.bounds.rows()).filter(won) {
            let number = after.map_or(0, |after| after.rows[row].number);
            let number = if number > 0 { format!(" and number {number}") } else { String::new() };
            line.extend(["; ", &name(row).to_string(), " has the lock", &number]);
        }
        line
    }
}

impl World {
    fn outranked_on_one(&self) -> State {
        let mut state = State::new();
        let arrive = |row: u8, node: u8| move |number: u32| Event::Arrive { row, node, place: 0, number };
        let mut happen = |event: Event| {
            self.apply(&mut state, event, &mut Sights::default()).expect("nothing is broken so early");
            state.clone()
        };
        let before = happen(Event::Start { row: 0 });
        for node in 0..2 {
            happen(arrive(0, node)(self.choices(&before, 0, node.into())[0]));
            happen(Event::Answer { row: 0, node, place: 0 });
        }
        happen(Event::Tick);
        let before = happen(Event::Start { row: 1 });
        happen(arrive(1, 2)(self.choices(&before, 1, 2)[0]));
        happen(arrive(1, 0)(0));
        happen(arrive(1, 1)(0));
        let state = happen(Event::PendingRelease { row: 1, node: 2 });
        assert!(state.rows[0].lease().is_some() && state.rows[1].is_over() && state.nodes[2].owner == 0);
        assert!(state.nodes[2].fence > state.rows[0].number);
        state
    }

    fn events_of(&self, state: &State, row: usize, events: &mut Vec<Event>) {
        let client = self.bounds.client(row);
        let is_next = row == 0 || self.bounds.client(row - 1) != client || state.rows[row - 1].is_over();
        let (at, now) = (row as u8, Self::moment(state.now));
        match &state.rows[row].stage {
            Stage::Waiting if is_next && (state.is_fresh || !self.bounds.is_lean) => {
                events.push(Event::Start { row: at });
            }
            Stage::Waiting | Stage::Over => {}
            Stage::Open(_) | Stage::Held(_) if self.bounds.is_bare() => {}
            Stage::Open(attempt) => {
                if !self.is_timed() || attempt.wake_at().is_some_and(|due| now.is_due(due)) {
                    events.push(Event::Wake { row: at });
                }
                events.push(Event::LetGo { row: at });
            }
            Stage::Held(lease) => {
                events.push(Event::LetGo { row: at });
                if self.is_timed() && lease.wake_at().is_some_and(|due| due.is_due(now)) {
                    events.push(Event::Wake { row: at });
                }
                let may_begin = state.is_fresh || !self.bounds.is_lean;
                if may_begin && state.rows[row].extensions < self.bounds.extensions {
                    let params = 0..self.bounds.extend_to.len() as u8;
                    events.extend(params.map(|params| Event::Extend { row: at, params }));
                }
            }
        }
    }

    fn events_between(&self, state: &State, row: usize, at: usize, events: &mut Vec<Event>) {
        let (wire, here) = (&state.wires[row][at], (row as u8, at as u8));
        let (row_, node) = here;
        let commands = wire.commands.items();
        for (place, command) in commands.iter().enumerate() {
            if place > 0 && commands[place - 1] == *command {
                continue;
            }
            let arrive = |number: u32| Event::Arrive { row: row_, node, place: place as u8, number };
            let is_grant = phase(command.phase) == RequestKind::Acquire;
            if is_grant && self.bounds.is_fenced() && self.would_grant(state, at, *command) {
                events.extend(self.choices(state, row, at).into_iter().map(arrive));
            } else if self.is_worth_it(state, row, at, *command) {
                events.push(arrive(0));
            }
        }
        let replies = wire.replies.items();
        for (place, reply) in replies.iter().enumerate() {
            if place == 0 || replies[place - 1] != *reply {
                events.push(Event::Answer { row: row_, node, place: place as u8 });
            }
        }
        let is_owed = !wire.replies.is_empty() || commands.iter().any(|command| !command.is_ghost);
        if state.cuts < self.bounds.cuts && is_owed {
            events.push(Event::Cut { row: row_, node });
        }
        // An undo is sent again until it is known done, so it may come at any time, and more than once.
        if state.rows[row].undone >> at & 1 == 1 && state.nodes[at].owner == self.owner(row) {
            events.push(Event::PendingRelease { row: row_, node });
        }
    }

    fn would_grant(&self, state: &State, at: usize, command: Command) -> bool {
        let node = &state.nodes[at];
        let is_free = node.owner == 0 || self.bounds.is_bare();
        is_free && node.life == command.life && self.may_vote(state, at)
    }

    /// A question that nobody waits for, and that would do nothing, may as well never arrive.
    fn is_worth_it(&self, state: &State, row: usize, at: usize, command: Command) -> bool {
        let mut node = state.nodes[at];
        let is_grant = phase(command.phase) == RequestKind::Acquire;
        let said = node.run(
            command,
            Meeting {
                now: state.now,
                owner: self.owner(row),
                number: if is_grant { 0 } else { Self::number_of(state, row, command) },
                may_vote: self.may_vote(state, at),
                slip: self.bounds.slip,
            },
        );
        match (self.bounds.is_bare(), command.is_ghost) {
            (true, false) => said == Said::Granted,
            (false, false) => true,
            (_, true) => node != state.nodes[at],
        }
    }

    /// The numbers that the node may give.
    fn choices(&self, state: &State, row: usize, at: usize) -> Vec<u32> {
        let fence = state.nodes[at].fence;
        match self.bounds.numbers {
            Numbers::None => vec![0],
            Numbers::Next(most) => (fence + 1..=fence + most).collect(),
            Numbers::Clocks => vec![self.number_by_clock(state, row, at)],
            Numbers::Any => {
                let mut choices = Vec::new();
                let mut below = fence;
                for number in self.numbers(state).into_iter().filter(|number| *number > fence) {
                    choices.extend([below.midpoint(number), number]);
                    assert!(below < below.midpoint(number), "no room between two numbers");
                    below = number;
                }
                choices.push(below + SPACE);
                choices
            }
        }
    }

    /// What every state must keep.
    pub(crate) fn check(&self, state: &State) -> Result<(), String> {
        let rows = 0..self.bounds.rows();
        let stands = |row: usize, among: u8| {
            let owner = self.owner(row);
            let count =
                (0..self.bounds.nodes).filter(|at| among >> at & 1 == 1 && state.nodes[*at].owner == owner);
            self.quorum.is_met(count.count())
        };
        if self.is_timed() {
            let now = Self::moment(state.now);
            let is_valid = |row: &usize| {
                let lease = state.rows[*row].lease();
                lease.is_some_and(|lease| lease.is_held() && !now.is_past(lease.deadline()))
            };
            let mut valid = rows.clone().filter(is_valid);
            if let Some(one) = valid.next() {
                if let Some(other) = valid.next() {
                    return Err(format!("I1: {} and {} hold the lock at once", name(one), name(other)));
                }
                if self.bounds.stands && !stands(one, u8::MAX) {
                    return Err(format!("I5: {} holds a lock that no quorum stands behind", name(one)));
                }
            }
        }
        for row in rows.clone().filter(|row| state.rows[*row].is_issued && state.rows[*row].lease().is_some())
        {
            if !stands(row, state.rows[row].counted) {
                continue;
            }
            let ours = state.rows[row].number;
            for other in rows.clone().filter(|other| state.rows[*other].is_issued) {
                let theirs = state.rows[other].number;
                if theirs > ours {
                    return Err(format!(
                        "I4: {} holds a quorum and has number {ours}, {} has the larger {theirs}",
                        name(row),
                        name(other)
                    ));
                }
            }
        }
        Ok(())
    }
}

fn describe(owner: u8, expires: u8, fence: u32) -> String {
    let fence = if fence > 0 { format!(", fence {fence}") } else { String::new() };
    match owner {
        0 => format!("it is free{fence}"),
        _ => format!("it is {}'s until {expires}{fence}", name(usize::from(owner) - 1)),
    }
}

/// Between a number and the next above all, so that others fit in between.
const SPACE: u32 = 1 << 20;
