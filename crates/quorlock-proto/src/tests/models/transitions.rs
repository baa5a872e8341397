//! The transitions of the lock model: enabled events, traces for people, and invariants I1, I4 and I5.

use crate::request::RequestKind;

use super::bounds::{Clock, FencingNumbers, InitialState};
use super::lock_model::{Event, LockModel, contender_name};
use super::node::{InFlightRequest, ScriptContext, ScriptResult, request_kind};
use super::search::{Coverage, Model};
use super::state::{Progress, State};

impl Model for LockModel {
    type State = State;
    type Event = Event;

    fn initial_state(&self) -> State {
        match self.bounds.initial_state {
            InitialState::Empty => State::new(),
            InitialState::FencedOutOnOneNode => self.fenced_out_on_one_node(),
        }
    }

    fn enabled_events(&self, state: &State, events: &mut Vec<Event>) {
        for contender in 0..self.bounds.contenders() {
            self.contender_events(state, contender, events);
            for node in 0..self.bounds.nodes {
                self.channel_events(state, contender, node, events);
            }
        }
        for (node, content) in (0_u8..).zip(&state.nodes[..self.bounds.nodes]) {
            if !self.is_timed() && !self.bounds.is_reduced && content.owner != 0 {
                events.push(Event::KeyExpires { node });
            }
            if state.data_losses < self.bounds.max_data_losses {
                events.push(Event::DataLoss { node });
            }
        }
        if let Clock::Ticks { horizon, .. } = self.bounds.clock
            && state.now < horizon
        {
            events.push(Event::Tick);
        }
    }

    fn step(&self, state: &State, event: Event, coverage: &mut Coverage) -> Result<State, String> {
        let mut after = state.clone();
        self.apply(&mut after, event, coverage)?;
        self.check_invariants(&after)?;
        Ok(after)
    }

    fn fingerprint(&self, state: &State) -> u64 {
        self.canonical_fingerprint(state)
    }

    fn describe(&self, before: &State, event: Event, after: Option<&State>) -> String {
        let time = if self.is_timed() { format!("t={} ", before.now) } else { String::new() };
        let what = match event {
            Event::Start { contender } => {
                format!("{} sends a request to every node", contender_name(contender.into()))
            }
            Event::RequestArrives { contender, node, index, fencing_number } => {
                let (contender, place) = (usize::from(contender), usize::from(node));
                let request = before.channels[contender][place].requests.items()[usize::from(index)];
                let orphaned = if request.is_orphaned { " (orphaned)" } else { "" };
                let result = match after.map(|after| &after.nodes[place]) {
                    Some(node) if *node == before.nodes[place] => "no change".into(),
                    Some(node)
                        if request_kind(request.kind) == RequestKind::Acquire && fencing_number > 0 =>
                    {
                        format!("{} holds the key, fencing number {}", contender_name(contender), node.fence)
                    }
                    Some(node) => describe_key(node.owner, node.expires_at, node.fence),
                    None => String::new(),
                };
                format!(
                    "{}'s {:?}{orphaned} reaches node {node}: {result}",
                    contender_name(contender),
                    request_kind(request.kind)
                )
            }
            Event::ReleaseArrives { contender, node } => {
                format!("{}'s release reaches node {node}: key free", contender_name(contender.into()))
            }
            Event::ReplyArrives { contender, node, index } => {
                let channel = &before.channels[usize::from(contender)][usize::from(node)];
                let reply = channel.replies.items()[usize::from(index)];
                let (name, kind) = (contender_name(contender.into()), request_kind(reply.kind));
                format!("node {node}'s reply to {name}'s {kind:?} arrives: {:?}", reply.result)
            }
            Event::Disconnect { contender, node } => {
                format!("{}'s connection to node {node} breaks", contender_name(contender.into()))
            }
            Event::TimerFires { contender } => format!("{}'s timer fires", contender_name(contender.into())),
            Event::CancelOrRelease { contender } => {
                format!("{} cancels or releases", contender_name(contender.into()))
            }
            Event::Extend { contender, params } => {
                let ttl = self.bounds.extension_ttls[usize::from(params)];
                format!("{} extends to {ttl} ticks from now", contender_name(contender.into()))
            }
            Event::KeyExpires { node } => format!("the key on node {node} expires"),
            Event::DataLoss { node } => format!("node {node} loses all data"),
            Event::Tick => "tick".into(),
        };
        let won = |contender: &usize| {
            let holds = |state: &State| state.contenders[*contender].lease().is_some();
            after.is_some_and(|after| holds(after) && !holds(before))
        };
        let mut line = format!("{time}{what}");
        for contender in (0..self.bounds.contenders()).filter(won) {
            let fencing_number = after.map_or(0, |after| after.contenders[contender].fencing_number);
            let fencing_number = if fencing_number > 0 {
                format!(" with fencing number {fencing_number}")
            } else {
                String::new()
            };
            line.extend(["; ", &contender_name(contender).to_string(), " wins the lock", &fencing_number]);
        }
        line
    }
}

impl LockModel {
    /// The state that [`InitialState::FencedOutOnOneNode`] describes.
    fn fenced_out_on_one_node(&self) -> State {
        let mut state = State::new();
        let arrival = |contender: u8, node: u8| {
            move |fencing_number: u32| Event::RequestArrives { contender, node, index: 0, fencing_number }
        };
        let mut run = |event: Event| {
            self.apply(&mut state, event, &mut Coverage::default())
                .expect("no violation in the initial state");
            state.clone()
        };
        let before = run(Event::Start { contender: 0 });
        for node in 0..2 {
            run(arrival(0, node)(self.possible_fencing_numbers(&before, 0, node.into())[0]));
            run(Event::ReplyArrives { contender: 0, node, index: 0 });
        }
        run(Event::Tick);
        let before = run(Event::Start { contender: 1 });
        run(arrival(1, 2)(self.possible_fencing_numbers(&before, 1, 2)[0]));
        run(arrival(1, 0)(0));
        run(arrival(1, 1)(0));
        let state = run(Event::ReleaseArrives { contender: 1, node: 2 });
        assert!(
            state.contenders[0].lease().is_some()
                && state.contenders[1].has_ended()
                && state.nodes[2].owner == 0
        );
        assert!(state.nodes[2].fence > state.contenders[0].fencing_number);
        state
    }

    fn contender_events(&self, state: &State, contender: usize, events: &mut Vec<Event>) {
        let client = self.bounds.client(contender);
        let is_next = contender == 0
            || self.bounds.client(contender - 1) != client
            || state.contenders[contender - 1].has_ended();
        let (id, now) = (contender as u8, Self::timestamp(state.now));
        match &state.contenders[contender].progress {
            Progress::NotStarted if is_next && (state.may_start || !self.bounds.is_reduced) => {
                events.push(Event::Start { contender: id });
            }
            Progress::NotStarted | Progress::Ended => {}
            Progress::Attempting(_) | Progress::Leased(_) if self.bounds.is_reduced_untimed() => {}
            Progress::Attempting(attempt) => {
                if !self.is_timed() || attempt.wake_at().is_some_and(|due| now.is_due(due)) {
                    events.push(Event::TimerFires { contender: id });
                }
                events.push(Event::CancelOrRelease { contender: id });
            }
            Progress::Leased(lease) => {
                events.push(Event::CancelOrRelease { contender: id });
                if self.is_timed() && lease.wake_at().is_some_and(|due| due.has_passed(now)) {
                    events.push(Event::TimerFires { contender: id });
                }
                let may_extend = state.may_start || !self.bounds.is_reduced;
                if may_extend && state.contenders[contender].extensions < self.bounds.max_extensions {
                    let params = 0..self.bounds.extension_ttls.len() as u8;
                    events.extend(params.map(|params| Event::Extend { contender: id, params }));
                }
            }
        }
    }

    fn channel_events(&self, state: &State, contender: usize, node: usize, events: &mut Vec<Event>) {
        let channel = &state.channels[contender][node];
        let (contender_id, node_id) = (contender as u8, node as u8);
        let requests = channel.requests.items();
        for (index, request) in requests.iter().enumerate() {
            if index > 0 && requests[index - 1] == *request {
                continue;
            }
            let arrival = |fencing_number: u32| Event::RequestArrives {
                contender: contender_id,
                node: node_id,
                index: index as u8,
                fencing_number,
            };
            let is_grant = request_kind(request.kind) == RequestKind::Acquire;
            if is_grant && self.bounds.is_fenced() && self.would_grant(state, node, *request) {
                events.extend(self.possible_fencing_numbers(state, contender, node).into_iter().map(arrival));
            } else if self.has_effect(state, contender, node, *request) {
                events.push(arrival(0));
            }
        }
        let replies = channel.replies.items();
        for (index, reply) in replies.iter().enumerate() {
            if index == 0 || replies[index - 1] != *reply {
                events.push(Event::ReplyArrives {
                    contender: contender_id,
                    node: node_id,
                    index: index as u8,
                });
            }
        }
        let has_request_without_reply =
            !channel.replies.is_empty() || requests.iter().any(|request| !request.is_orphaned);
        if state.disconnects < self.bounds.max_disconnects && has_request_without_reply {
            events.push(Event::Disconnect { contender: contender_id, node: node_id });
        }
        // A pending release is sent until it is confirmed, so it may arrive at any time, more than once.
        if state.contenders[contender].pending_releases >> node & 1 == 1
            && state.nodes[node].owner == self.owner(contender)
        {
            events.push(Event::ReleaseArrives { contender: contender_id, node: node_id });
        }
    }

    fn would_grant(&self, state: &State, node: usize, request: InFlightRequest) -> bool {
        let content = &state.nodes[node];
        let is_free = content.owner == 0 || self.bounds.is_reduced_untimed();
        is_free && content.incarnation == request.expected_incarnation && self.may_vote(state, node)
    }

    /// Whether the request's arrival has an effect; otherwise it may just as well never arrive.
    fn has_effect(&self, state: &State, contender: usize, node: usize, request: InFlightRequest) -> bool {
        let mut after = state.nodes[node];
        let is_grant = request_kind(request.kind) == RequestKind::Acquire;
        let result = after.run(
            request,
            ScriptContext {
                now: state.now,
                owner: self.owner(contender),
                fencing_number: if is_grant {
                    0
                } else {
                    Self::sent_fencing_number(state, contender, request)
                },
                may_vote: self.may_vote(state, node),
                mutant: self.bounds.mutant,
            },
        );
        match (self.bounds.is_reduced_untimed(), request.is_orphaned) {
            (true, false) => result == ScriptResult::Granted,
            (false, false) => true,
            (_, true) => after != state.nodes[node],
        }
    }

    /// The fencing numbers that the node may give.
    fn possible_fencing_numbers(&self, state: &State, contender: usize, node: usize) -> Vec<u32> {
        let fence = state.nodes[node].fence;
        match self.bounds.fencing_numbers {
            FencingNumbers::None => vec![0],
            FencingNumbers::Next(count) => (fence + 1..=fence + count).collect(),
            FencingNumbers::FromClock => vec![self.number_from_clock(state, contender, node)],
            FencingNumbers::Any => {
                let mut possible = Vec::new();
                let mut below = fence;
                for number in self.numbers_in_use(state).into_iter().filter(|number| *number > fence) {
                    possible.extend([below.midpoint(number), number]);
                    assert!(below < below.midpoint(number), "no room between two fencing numbers");
                    below = number;
                }
                possible.push(below + FENCING_NUMBER_GAP);
                possible
            }
        }
    }

    /// Checks the invariants that hold in every state.
    pub(crate) fn check_invariants(&self, state: &State) -> Result<(), String> {
        let contenders = 0..self.bounds.contenders();
        let has_quorum = |contender: usize, nodes: u8| {
            let owner = self.owner(contender);
            let count = (0..self.bounds.nodes)
                .filter(|node| nodes >> node & 1 == 1 && state.nodes[*node].owner == owner);
            self.quorum.is_met(count.count())
        };
        if self.is_timed() {
            let now = Self::timestamp(state.now);
            let is_valid = |contender: &usize| {
                let lease = state.contenders[*contender].lease();
                lease.is_some_and(|lease| lease.is_held() && !now.is_past(lease.deadline()))
            };
            let mut valid = contenders.clone().filter(is_valid);
            if let Some(one) = valid.next() {
                if let Some(other) = valid.next() {
                    return Err(format!(
                        "I1: {} and {} hold the lock at once",
                        contender_name(one),
                        contender_name(other)
                    ));
                }
                if self.bounds.checks_holder_quorum && !has_quorum(one, u8::MAX) {
                    return Err(format!(
                        "I5: {} holds a lock without its keys on a quorum",
                        contender_name(one)
                    ));
                }
            }
        }
        for contender in contenders.clone().filter(|contender| {
            state.contenders[*contender].is_number_issued && state.contenders[*contender].lease().is_some()
        }) {
            if !has_quorum(contender, state.contenders[contender].counted_nodes) {
                continue;
            }
            let number = state.contenders[contender].fencing_number;
            for other in contenders.clone().filter(|other| state.contenders[*other].is_number_issued) {
                let larger = state.contenders[other].fencing_number;
                if larger > number {
                    return Err(format!(
                        "I4: {} holds a quorum with fencing number {number}, {} has the larger {larger}",
                        contender_name(contender),
                        contender_name(other)
                    ));
                }
            }
        }
        Ok(())
    }
}

fn describe_key(owner: u8, expires_at: u8, fence: u32) -> String {
    let fence = if fence > 0 { format!(", fence {fence}") } else { String::new() };
    match owner {
        0 => format!("key free{fence}"),
        _ => format!("key held by {} until {expires_at}{fence}", contender_name(usize::from(owner) - 1)),
    }
}

/// The gap below a [`FencingNumbers::Any`] number above all others, so that numbers fit in between.
const FENCING_NUMBER_GAP: u32 = 1 << 20;
