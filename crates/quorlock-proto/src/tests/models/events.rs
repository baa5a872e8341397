//! What each event does to a state.

use std::rc::Rc;

use crate::attempt::Attempt;
use crate::fence::Fence;
use crate::request::{Key, LockSpec, OwnerToken, RequestKind};
use crate::vote::{ReplyFailure, Vote};

use super::bounds::{Memory, Numbers, Slip};
use super::node::{Command, Meeting, Node, Reply, Said, phase};
use super::search::Sights;
use super::state::{Stage, State};
use super::world::{Event, Sight, World};

impl World {
    pub(crate) fn apply(&self, state: &mut State, event: Event, sights: &mut Sights) -> Result<(), String> {
        let now = Self::moment(state.now);
        state.is_fresh &= matches!(event, Event::Start { .. } | Event::Extend { .. });
        match event {
            Event::Start { row } => return self.start(state, row.into(), sights),
            Event::Arrive { row, node, place, number } => {
                return self.arrive(state, (row.into(), node.into()), place.into(), number, sights);
            }
            Event::Answer { row, node, place } => {
                let (row, node) = (usize::from(row), usize::from(node));
                let reply = state.wires[row][node].replies.take(place.into());
                let vote = reply.said.vote(|number| self.wide(number));
                return self.hear(state, row, node, (reply.phase, reply.round), vote, sights);
            }
            Event::Cut { row, node } => return self.cut(state, row.into(), node.into(), sights),
            Event::Wake { row } => {
                match &mut state.rows[usize::from(row)].stage {
                    Stage::Open(attempt) => {
                        let due = attempt.wake_at().filter(|_| !self.is_timed()).unwrap_or(now);
                        Rc::make_mut(attempt).on_wake(due);
                    }
                    Stage::Held(lease) => Rc::make_mut(lease).on_wake(|_| None, now),
                    Stage::Waiting | Stage::Over => {}
                }
                return self.advance(state, row.into(), sights);
            }
            Event::LetGo { row } => {
                match &mut state.rows[usize::from(row)].stage {
                    Stage::Open(attempt) => Rc::make_mut(attempt).cancel(),
                    Stage::Held(lease) => Rc::make_mut(lease).release(now),
                    Stage::Waiting | Stage::Over => {}
                }
                return self.advance(state, row.into(), sights);
            }
            Event::Extend { row, params } => {
                let ours = &mut state.rows[usize::from(row)];
                ours.extensions += 1;
                if let Stage::Held(lease) = &mut ours.stage {
                    Rc::make_mut(lease).extend(self.extend_terms[usize::from(params)], |_| None, now);
                }
                return self.advance(state, row.into(), sights);
            }
            Event::PendingRelease { node, .. } | Event::Expire { node } => {
                state.nodes[usize::from(node)].lapse();
            }
            Event::Forget { node } => self.forget(state, node.into()),
            Event::Tick => {
                state.now += 1;
                state.is_fresh = true;
                let now = state.now;
                state.nodes.iter_mut().filter(|node| node.expires <= now).for_each(Node::lapse);
            }
        }
        Ok(())
    }

    fn start(&self, state: &mut State, row: usize, sights: &mut Sights) -> Result<(), String> {
        if state.rows.iter().any(|other| matches!(other.stage, Stage::Open(_))) {
            sights.see(Sight::Rivals as usize);
        }
        let now = Self::moment(state.now);
        let earlier = (0..self.bounds.rows()).filter(|other| state.rows[*other].is_issued);
        state.rows[row].earlier = earlier.fold(0, |set, other| set | 1 << other);
        state.rows[row].start = state.now;
        let fence = match self.bounds.numbers {
            Numbers::None => None,
            Numbers::Clocks => Some(Fence::hint(now, 0, 0)),
            Numbers::Any | Numbers::Next(_) => Some(Fence::Hint { hint: 1, min_fencing_number: 0 }),
        };
        let spec =
            LockSpec { key: key(), params: self.params, want_holder_ttl: false, min_fencing_number: 0 };
        let token = OwnerToken::new(u128::from(self.owner(row)));
        let attempt = Attempt::new(spec, token, fence, self.quorum, |_| None, now);
        state.rows[row].stage = Stage::Open(Rc::new(attempt));
        self.advance(state, row, sights)
    }

    fn arrive(
        &self,
        state: &mut State,
        (row, at): (usize, usize),
        place: usize,
        number: u32,
        sights: &mut Sights,
    ) -> Result<(), String> {
        let command = state.wires[row][at].commands.take(place);
        let asked = phase(command.phase);
        let is_grant = asked == RequestKind::Acquire;
        let meeting = Meeting {
            now: state.now,
            owner: self.owner(row),
            number: if is_grant { number } else { Self::number_of(state, row, command) },
            may_vote: self.may_vote(state, at),
            slip: self.bounds.slip,
        };
        if self.bounds.is_bare() && is_grant {
            state.nodes[at].lapse();
        }
        let said = state.nodes[at].run(command, meeting);
        let is_done = matches!(said, Said::Granted | Said::Fenced(_));
        let mut see = |sight: Sight| sights.see(sight as usize);
        match said {
            Said::Changed => see(Sight::Changed),
            Said::Doubtful => see(Sight::Doubted),
            _ if is_done && command.life > 0 => see(Sight::VotesAgain),
            _ => {}
        }
        match asked {
            RequestKind::Acquire if is_done && state.rows[row].is_over() => see(Sight::LateGrant),
            RequestKind::RaiseFence if is_done && command.is_ghost => see(Sight::RaiseUnheard),
            RequestKind::Reacquire if is_done && command.past > 0 => see(Sight::RetakenPast),
            RequestKind::Reacquire if is_done => see(Sight::Retaken),
            _ => {}
        }
        if command.is_ghost {
            return Ok(());
        }
        let is_heard_at_once = self.bounds.is_lean && (!is_done || self.bounds.is_bare() && !is_grant);
        if is_heard_at_once {
            let vote = said.vote(|number| self.wide(number));
            return self.hear(state, row, at, (command.phase, command.round), vote, sights);
        }
        state.wires[row][at].replies.put(Reply { phase: command.phase, round: command.round, said });
        Ok(())
    }

    fn cut(&self, state: &mut State, row: usize, at: usize, sights: &mut Sights) -> Result<(), String> {
        state.cuts += 1;
        let wire = &mut state.wires[row][at];
        let is_raised = |it: &Reply| phase(it.phase) == RequestKind::RaiseFence && it.said == Said::Granted;
        if wire.replies.items().iter().any(is_raised) {
            sights.see(Sight::RaiseUnheard as usize);
        }
        let answered = wire.replies.items().iter().map(|it| (it.phase, it.round));
        let asked = wire.commands.items().iter().filter(|it| !it.is_ghost).map(|it| (it.phase, it.round));
        let owed: Vec<(u8, u8)> = answered.chain(asked).collect();
        wire.replies.retain_map(|_| None);
        wire.commands.retain_map(|it| Some(Command { is_ghost: true, ..it }));
        for question in owed {
            self.hear(state, row, at, question, Vote::Unknown(ReplyFailure::ConnectionLost), sights)?;
        }
        Ok(())
    }

    fn forget(&self, state: &mut State, at: usize) {
        state.forgets += 1;
        let largest = self.numbers(state).last().copied().unwrap_or(0);
        let node = &mut state.nodes[at];
        node.lapse();
        match self.bounds.memory {
            Memory::Blank => node.fence = 0,
            Memory::Reseeded if self.bounds.slip == Some(Slip::CounterRestarts) => node.fence = 0,
            Memory::Reseeded => node.fence = largest,
            Memory::Marked => {
                node.fence = 0;
                node.life += 1;
                node.since = state.now;
            }
        }
    }
}

fn key() -> Key {
    thread_local! {
        static KEY: Key = Key::new("k");
    }
    KEY.with(Key::clone)
}
