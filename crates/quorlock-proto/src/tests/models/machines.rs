//! The shipped machines in the models' world: what they are told, and what is done about what they say.

use std::rc::Rc;
use std::time::Duration;

use crate::attempt::{Attempt, AttemptStep};
use crate::lease::{Lease, LeaseStep, RenewalPolicy};
use crate::quorum::{NodeId, NodeSet};
use crate::request::RequestKind;
use crate::time::DualTimestamp;
use crate::vote::Vote;

use super::node::{Command, Reply, Said, number_of, phase};
use super::search::Sights;
use super::state::{MOST_NODES, Stage, State};
use super::world::{Sight, TICK, World, name};

impl World {
    /// An answer comes in, to the question of this phase and round.
    pub(super) fn hear(
        &self,
        state: &mut State,
        row: usize,
        node: usize,
        (asked, round): (u8, u8),
        vote: Vote,
        sights: &mut Sights,
    ) -> Result<(), String> {
        let (now, node) = (Self::moment(state.now), NodeId(node as u8));
        match &mut state.rows[row].stage {
            Stage::Open(attempt) => {
                let attempt = Rc::make_mut(attempt);
                attempt.on_reply(node, phase(asked), vote, now);
                if matches!(attempt.round().vote(node), Vote::FencedOut { .. }) {
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
    pub(super) fn advance(&self, state: &mut State, row: usize, sights: &mut Sights) -> Result<(), String> {
        loop {
            match std::mem::take(&mut state.rows[row].stage) {
                Stage::Open(mut attempt) => {
                    let step = Rc::make_mut(&mut attempt).poll();
                    state.rows[row].number = attempt.fencing_number().map_or(0, |number| self.narrow(number));
                    state.rows[row].stage = Stage::Open(attempt.clone());
                    match step {
                        Some(AttemptStep::Request(RequestKind::Release, nodes)) => {
                            state.rows[row].undone |= bits(nodes);
                        }
                        Some(AttemptStep::Request(phase, nodes)) => {
                            Self::request(state, row, phase, (0, 0), self.params.ttl(), nodes);
                        }
                        Some(AttemptStep::Won) => self.win(state, row, &attempt, sights)?,
                        Some(AttemptStep::Failed(_)) => {
                            sights.see(Sight::Refused as usize);
                            self.end(state, row, sights);
                        }
                        None if attempt.is_done() => self.end(state, row, sights),
                        None => return Ok(()),
                    }
                }
                Stage::Held(mut lease) => {
                    let step = Rc::make_mut(&mut lease).poll();
                    let must_end = lease.is_done() || !lease.is_unreleased();
                    state.rows[row].stage = Stage::Held(lease.clone());
                    match step {
                        Some(LeaseStep::Request { kind: RequestKind::Release, nodes, .. }) => {
                            state.rows[row].undone |= bits(nodes);
                        }
                        Some(LeaseStep::Request {
                            kind: phase,
                            ttl,
                            nodes,
                            round,
                            number_override: past,
                        }) => {
                            let past = past.map_or(0, |number| self.narrow(number));
                            Self::request(state, row, phase, (round as u8, past), ttl, nodes);
                        }
                        Some(LeaseStep::Renewed(deadline)) => {
                            let start = Self::moment(state.rows[row].start);
                            if deadline.is_after(self.params.deadline(start)) {
                                sights.see(Sight::Moved as usize);
                            }
                            if state.rows[row].was_passed {
                                return Err(format!(
                                    "I6: {} is told that it still has the lock, which another client had meanwhile",
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
                        Some(LeaseStep::Confirmed(nodes)) => {
                            let (owner, number) = (self.owner(row), state.rows[row].number);
                            let is_past_ours = |at: usize| {
                                state.nodes[at].owner == owner && state.nodes[at].fence > number && number > 0
                            };
                            if nodes.iter().any(|node| is_past_ours(node.index())) {
                                sights.see(Sight::Cleared as usize);
                            }
                        }
                        Some(LeaseStep::Unconfirmed(_) | LeaseStep::Released(_)) => {}
                        None if must_end => self.end(state, row, sights),
                        None => return Ok(()),
                    }
                }
                idle @ (Stage::Waiting | Stage::Over) => {
                    state.rows[row].stage = idle;
                    return Ok(());
                }
            }
        }
    }

    fn request(
        state: &mut State,
        row: usize,
        phase: RequestKind,
        (round, past): (u8, u32),
        ttl: Duration,
        nodes: NodeSet,
    ) {
        let ttl = (ttl.as_millis() / TICK.as_millis()) as u8;
        for node in nodes.iter().map(NodeId::index) {
            let command = Command {
                phase: number_of(phase),
                round,
                ttl,
                life: state.nodes[node].life,
                is_ghost: false,
                past,
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
        let lease = Lease::new(attempt, RenewalPolicy { auto_renew: false, max_hold_time: None });
        for (other, theirs) in state.rows.iter_mut().enumerate() {
            if other != row && theirs.lease().is_some() {
                theirs.was_passed = true;
                sights.see(Sight::Stale as usize);
            }
        }
        let ours = &mut state.rows[row];
        ours.was_passed = false;
        ours.touched = bits(attempt.possibly_applied());
        ours.counted = bits(attempt.at_fencing_number());
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
            let is_raised =
                |it: &Reply| phase(it.phase) == RequestKind::RaiseFence && it.said == Said::Granted;
            if wire.replies.items().iter().any(is_raised) {
                sights.see(Sight::RaiseUnheard as usize);
            }
            wire.replies.retain_map(|_| None);
            wire.commands.retain_map(|it| Some(Command { is_ghost: true, ..it }));
        }
    }
}

fn bits(nodes: NodeSet) -> u8 {
    nodes.bits() as u8
}

/// Whatever nodes say later, what is lost is lost.
fn stays_lost(lease: &Lease, now: DualTimestamp) -> Result<(), String> {
    let mut lease = lease.clone();
    for round in 0..4 {
        for node in (0..MOST_NODES as u8).map(NodeId) {
            lease.on_reply(node, RequestKind::Renew, round, Vote::Granted, now);
        }
    }
    while let Some(step) = lease.poll() {
        if matches!(step, LeaseStep::Renewed(_)) {
            return Err("a lock that was lost came back".into());
        }
    }
    if lease.is_held() { Err("a lock that was lost is held".into()) } else { Ok(()) }
}
