//! Runs the shipped attempts and leases in a model, and checks invariants I2, I3 and I6.

use std::rc::Rc;
use std::time::Duration;

use crate::attempt::{Attempt, AttemptStep};
use crate::lease::{Lease, LeaseStep, RenewalPolicy};
use crate::quorum::{NodeId, NodeSet};
use crate::request::RequestKind;
use crate::time::DualTimestamp;
use crate::vote::Vote;

use super::lock_model::{LockModel, Situation, TICK, contender_name};
use super::node::{InFlightReply, InFlightRequest, ScriptResult, kind_code, request_kind};
use super::search::Coverage;
use super::state::{MAX_NODES, Progress, State};

impl LockModel {
    /// Passes a vote to the contender's attempt or lease, with the request kind and round that it replies to.
    pub(super) fn handle_reply(
        &self,
        state: &mut State,
        contender: usize,
        node: usize,
        (kind, round): (u8, u8),
        vote: Vote,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let (now, node) = (Self::timestamp(state.now), NodeId(node as u8));
        match &mut state.contenders[contender].progress {
            Progress::Attempting(attempt) => {
                let attempt = Rc::make_mut(attempt);
                attempt.on_reply(node, request_kind(kind), vote, now);
                if matches!(attempt.round().vote(node), Vote::FencedOut { .. }) {
                    coverage.record(Situation::FencedOutVote as usize);
                }
            }
            Progress::Leased(lease) => {
                Rc::make_mut(lease).on_reply(node, request_kind(kind), u32::from(round), vote, now);
            }
            Progress::NotStarted | Progress::Ended => return Ok(()),
        }
        self.run_steps(state, contender, coverage)
    }

    /// Carries out the steps of the contender's attempt or lease, until it has none.
    pub(super) fn run_steps(
        &self,
        state: &mut State,
        contender: usize,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        loop {
            match std::mem::take(&mut state.contenders[contender].progress) {
                Progress::Attempting(mut attempt) => {
                    let step = Rc::make_mut(&mut attempt).poll();
                    state.contenders[contender].fencing_number =
                        attempt.fencing_number().map_or(0, |number| self.model_number(number));
                    state.contenders[contender].progress = Progress::Attempting(attempt.clone());
                    match step {
                        Some(AttemptStep::Request(RequestKind::Release, nodes)) => {
                            state.contenders[contender].pending_releases |= node_bits(nodes);
                        }
                        Some(AttemptStep::Request(kind, nodes)) => {
                            Self::request(state, contender, kind, (0, 0), self.params.ttl(), nodes);
                        }
                        Some(AttemptStep::Won) => self.on_won(state, contender, &attempt, coverage)?,
                        Some(AttemptStep::Failed(_)) => {
                            coverage.record(Situation::AttemptFailed as usize);
                            self.on_ended(state, contender, coverage);
                        }
                        None if attempt.is_done() => self.on_ended(state, contender, coverage),
                        None => return Ok(()),
                    }
                }
                Progress::Leased(mut lease) => {
                    let step = Rc::make_mut(&mut lease).poll();
                    let has_closed = lease.is_done() || !lease.is_unreleased();
                    state.contenders[contender].progress = Progress::Leased(lease.clone());
                    match step {
                        Some(LeaseStep::Request { kind: RequestKind::Release, nodes, .. }) => {
                            state.contenders[contender].pending_releases |= node_bits(nodes);
                        }
                        Some(LeaseStep::Request { kind, ttl, nodes, round, number_override }) => {
                            let number_override =
                                number_override.map_or(0, |number| self.model_number(number));
                            Self::request(state, contender, kind, (round as u8, number_override), ttl, nodes);
                        }
                        Some(LeaseStep::Renewed(deadline)) => {
                            let start = Self::timestamp(state.contenders[contender].started_at);
                            if deadline.is_after(self.params.deadline(start)) {
                                coverage.record(Situation::DeadlineMoved as usize);
                            }
                            if state.contenders[contender].was_overtaken {
                                return Err(format!(
                                    "I6: {} extended its lock, which another client had acquired meanwhile",
                                    contender_name(contender)
                                ));
                            }
                        }
                        Some(LeaseStep::Lost(_)) => {
                            coverage.record(Situation::LockLost as usize);
                            check_lost_stays_lost(&lease, Self::timestamp(state.now))?;
                            if let Progress::Leased(lease) = &mut state.contenders[contender].progress {
                                Rc::make_mut(lease).release(Self::timestamp(state.now));
                            }
                        }
                        Some(LeaseStep::Confirmed(nodes)) => {
                            let (owner, fencing_number) =
                                (self.owner(contender), state.contenders[contender].fencing_number);
                            let has_larger_fence = |node: usize| {
                                state.nodes[node].owner == owner
                                    && state.nodes[node].fence > fencing_number
                                    && fencing_number > 0
                            };
                            if nodes.iter().any(|node| has_larger_fence(node.index())) {
                                coverage.record(Situation::LargerFenceCounted as usize);
                            }
                        }
                        Some(LeaseStep::Unconfirmed(_) | LeaseStep::Released(_)) => {}
                        None if has_closed => self.on_ended(state, contender, coverage),
                        None => return Ok(()),
                    }
                }
                idle @ (Progress::NotStarted | Progress::Ended) => {
                    state.contenders[contender].progress = idle;
                    return Ok(());
                }
            }
        }
    }

    fn request(
        state: &mut State,
        contender: usize,
        kind: RequestKind,
        (round, number_override): (u8, u32),
        ttl: Duration,
        nodes: NodeSet,
    ) {
        let ttl = (ttl.as_millis() / TICK.as_millis()) as u8;
        for node in nodes.iter().map(NodeId::index) {
            let request = InFlightRequest {
                kind: kind_code(kind),
                round,
                ttl,
                expected_incarnation: state.nodes[node].incarnation,
                is_orphaned: false,
                number_override,
            };
            state.channels[contender][node].requests.insert(request);
        }
    }

    fn on_won(
        &self,
        state: &mut State,
        contender: usize,
        attempt: &Attempt,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        coverage.record(Situation::LockWon as usize);
        state.may_start = true;
        if attempt.rounds() > 1 {
            coverage.record(Situation::SecondRound as usize);
        }
        let lease = Lease::new(attempt, RenewalPolicy { auto_renew: false, max_hold_time: None });
        for (index, other) in state.contenders.iter_mut().enumerate() {
            if index != contender && other.lease().is_some() {
                other.was_overtaken = true;
                coverage.record(Situation::WonBeforeRelease as usize);
            }
        }
        let winner = &mut state.contenders[contender];
        winner.was_overtaken = false;
        winner.possibly_set = node_bits(attempt.possibly_applied());
        winner.counted_nodes = node_bits(attempt.at_fencing_number());
        winner.progress = Progress::Leased(Rc::new(lease));
        if !self.bounds.is_fenced() {
            return Ok(());
        }
        winner.is_number_issued = true;
        let (fencing_number, issued_before) =
            (winner.fencing_number, std::mem::take(&mut winner.issued_before));
        for (index, other) in state
            .contenders
            .iter()
            .enumerate()
            .filter(|(index, it)| *index != contender && it.is_number_issued)
        {
            if other.fencing_number == fencing_number {
                return Err(format!(
                    "I2: {} and {} have the same fencing number {fencing_number}",
                    contender_name(index),
                    contender_name(contender)
                ));
            }
            if issued_before & 1 << index != 0 && other.fencing_number > fencing_number {
                return Err(format!(
                    "I3: {} started after {} had fencing number {}, but has {fencing_number}",
                    contender_name(contender),
                    contender_name(index),
                    other.fencing_number
                ));
            }
        }
        Ok(())
    }

    /// Resets an ended contender, so that equal futures have equal states, and drops its replies.
    fn on_ended(&self, state: &mut State, contender: usize, coverage: &mut Coverage) {
        state.may_start |= self.is_timed();
        let ended = &mut state.contenders[contender];
        ended.progress = Progress::Ended;
        ended.issued_before = 0;
        ended.counted_nodes = 0;
        ended.possibly_set = 0;
        ended.started_at = 0;
        ended.extensions = 0;
        ended.was_overtaken = false;
        if !self.is_timed() {
            // Without time any key may expire at any moment.
            ended.pending_releases = 0;
        }
        for channel in &mut state.channels[contender][..self.bounds.nodes] {
            let is_raised = |it: &InFlightReply| {
                request_kind(it.kind) == RequestKind::RaiseFence && it.result == ScriptResult::Granted
            };
            if channel.replies.items().iter().any(is_raised) {
                coverage.record(Situation::RaiseReplyLost as usize);
            }
            channel.replies.retain_map(|_| None);
            channel.requests.retain_map(|it| Some(InFlightRequest { is_orphaned: true, ..it }));
        }
    }
}

fn node_bits(nodes: NodeSet) -> u8 {
    nodes.bits() as u8
}

/// Checks that no later reply revives a lost lease.
fn check_lost_stays_lost(lease: &Lease, now: DualTimestamp) -> Result<(), String> {
    let mut lease = lease.clone();
    for round in 0..4 {
        for node in (0..MAX_NODES as u8).map(NodeId) {
            lease.on_reply(node, RequestKind::Renew, round, Vote::Granted, now);
        }
    }
    while let Some(step) = lease.poll() {
        if matches!(step, LeaseStep::Renewed(_)) {
            return Err("a lost lock was renewed".into());
        }
    }
    if lease.is_held() { Err("a lost lock is held".into()) } else { Ok(()) }
}
