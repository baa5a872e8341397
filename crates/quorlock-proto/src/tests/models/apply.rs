//! Applies an event to a state.

use std::rc::Rc;

use crate::attempt::Attempt;
use crate::fence::Fence;
use crate::request::{Key, LockSpec, OwnerToken, RequestKind};
use crate::vote::{ReplyFailure, Vote};

use super::bounds::{AfterDataLoss, FencingNumbers, ModelMutant};
use super::lock_model::{Event, LockModel, Situation};
use super::node::{InFlightReply, InFlightRequest, Node, ScriptContext, ScriptResult, request_kind};
use super::search::Coverage;
use super::state::{Progress, State};

impl LockModel {
    pub(crate) fn apply(
        &self,
        state: &mut State,
        event: Event,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let now = Self::timestamp(state.now);
        state.may_start &= matches!(event, Event::Start { .. } | Event::Extend { .. });
        match event {
            Event::Start { contender } => return self.start(state, contender.into(), coverage),
            Event::RequestArrives { contender, node, index, fencing_number } => {
                return self.deliver_request(
                    state,
                    (contender.into(), node.into()),
                    index.into(),
                    fencing_number,
                    coverage,
                );
            }
            Event::ReplyArrives { contender, node, index } => {
                let (contender, node) = (usize::from(contender), usize::from(node));
                let reply = state.channels[contender][node].replies.remove(index.into());
                let vote = reply.result.vote(|fencing_number| self.protocol_number(fencing_number));
                return self.handle_reply(state, contender, node, (reply.kind, reply.round), vote, coverage);
            }
            Event::Disconnect { contender, node } => {
                return self.disconnect(state, contender.into(), node.into(), coverage);
            }
            Event::TimerFires { contender } => {
                match &mut state.contenders[usize::from(contender)].progress {
                    Progress::Attempting(attempt) => {
                        let due = attempt.wake_at().filter(|_| !self.is_timed()).unwrap_or(now);
                        Rc::make_mut(attempt).on_wake(due);
                    }
                    Progress::Leased(lease) => Rc::make_mut(lease).on_wake(|_| None, now),
                    Progress::NotStarted | Progress::Ended => {}
                }
                return self.run_steps(state, contender.into(), coverage);
            }
            Event::CancelOrRelease { contender } => {
                match &mut state.contenders[usize::from(contender)].progress {
                    Progress::Attempting(attempt) => Rc::make_mut(attempt).cancel(),
                    Progress::Leased(lease) => Rc::make_mut(lease).release(now),
                    Progress::NotStarted | Progress::Ended => {}
                }
                return self.run_steps(state, contender.into(), coverage);
            }
            Event::Extend { contender, params } => {
                let extended = &mut state.contenders[usize::from(contender)];
                extended.extensions += 1;
                if let Progress::Leased(lease) = &mut extended.progress {
                    Rc::make_mut(lease).extend(self.extension_params[usize::from(params)], |_| None, now);
                }
                return self.run_steps(state, contender.into(), coverage);
            }
            Event::ReleaseArrives { node, .. } | Event::KeyExpires { node } => {
                state.nodes[usize::from(node)].clear_key();
            }
            Event::DataLoss { node } => self.lose_data(state, node.into()),
            Event::Tick => {
                state.now += 1;
                state.may_start = true;
                let now = state.now;
                state.nodes.iter_mut().filter(|node| node.expires_at <= now).for_each(Node::clear_key);
            }
        }
        Ok(())
    }

    fn start(&self, state: &mut State, contender: usize, coverage: &mut Coverage) -> Result<(), String> {
        if state.contenders.iter().any(|other| matches!(other.progress, Progress::Attempting(_))) {
            coverage.record(Situation::ConcurrentAttempts as usize);
        }
        let now = Self::timestamp(state.now);
        let issued_before =
            (0..self.bounds.contenders()).filter(|other| state.contenders[*other].is_number_issued);
        state.contenders[contender].issued_before = issued_before.fold(0, |set, other| set | 1 << other);
        state.contenders[contender].started_at = state.now;
        let fence = match self.bounds.fencing_numbers {
            FencingNumbers::None => None,
            FencingNumbers::FromClock => Some(Fence::hint(now, 0, 0)),
            FencingNumbers::Any | FencingNumbers::Next(_) => {
                Some(Fence::Hint { hint: 1, min_fencing_number: 0 })
            }
        };
        let spec = LockSpec {
            key: key(),
            params: self.params,
            want_holder_ttl: false,
            min_fencing_number: 0,
            previous_owner: None,
        };
        let token = OwnerToken::new(u128::from(self.owner(contender)));
        let attempt = Attempt::new(spec, token, fence, self.quorum, |_| None, now);
        state.contenders[contender].progress = Progress::Attempting(Rc::new(attempt));
        self.run_steps(state, contender, coverage)
    }

    fn deliver_request(
        &self,
        state: &mut State,
        (contender, node): (usize, usize),
        index: usize,
        fencing_number: u32,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let request = state.channels[contender][node].requests.remove(index);
        let kind = request_kind(request.kind);
        let is_grant = kind == RequestKind::Acquire;
        let context = ScriptContext {
            now: state.now,
            owner: self.owner(contender),
            fencing_number: if is_grant {
                fencing_number
            } else {
                Self::sent_fencing_number(state, contender, request)
            },
            may_vote: self.may_vote(state, node),
            mutant: self.bounds.mutant,
        };
        if self.bounds.is_reduced_untimed() && is_grant {
            state.nodes[node].clear_key();
        }
        let result = state.nodes[node].run(request, context);
        let is_granted = matches!(result, ScriptResult::Granted | ScriptResult::GrantedWithFence(_));
        let mut record = |situation: Situation| coverage.record(situation as usize);
        match result {
            ScriptResult::MarkerMismatch => record(Situation::MarkerMismatch),
            ScriptResult::OnProbation => record(Situation::OnProbation),
            _ if is_granted && request.expected_incarnation > 0 => record(Situation::VoteAfterDataLoss),
            _ => {}
        }
        match kind {
            RequestKind::Acquire if is_granted && state.contenders[contender].has_ended() => {
                record(Situation::LateGrant);
            }
            RequestKind::RaiseFence if is_granted && request.is_orphaned => record(Situation::RaiseReplyLost),
            RequestKind::Reacquire if is_granted && request.number_override > 0 => {
                record(Situation::ReacquiredPastLargerFence);
            }
            RequestKind::Reacquire if is_granted => record(Situation::KeyReacquired),
            _ => {}
        }
        if request.is_orphaned {
            return Ok(());
        }
        let is_reply_immediate =
            self.bounds.is_reduced && (!is_granted || self.bounds.is_reduced_untimed() && !is_grant);
        if is_reply_immediate {
            let vote = result.vote(|fencing_number| self.protocol_number(fencing_number));
            return self.handle_reply(state, contender, node, (request.kind, request.round), vote, coverage);
        }
        state.channels[contender][node].replies.insert(InFlightReply {
            kind: request.kind,
            round: request.round,
            result,
        });
        Ok(())
    }

    fn disconnect(
        &self,
        state: &mut State,
        contender: usize,
        node: usize,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        state.disconnects += 1;
        let channel = &mut state.channels[contender][node];
        let is_raised = |it: &InFlightReply| {
            request_kind(it.kind) == RequestKind::RaiseFence && it.result == ScriptResult::Granted
        };
        if channel.replies.items().iter().any(is_raised) {
            coverage.record(Situation::RaiseReplyLost as usize);
        }
        let undelivered_replies = channel.replies.items().iter().map(|it| (it.kind, it.round));
        let awaited_requests =
            channel.requests.items().iter().filter(|it| !it.is_orphaned).map(|it| (it.kind, it.round));
        let without_reply: Vec<(u8, u8)> = undelivered_replies.chain(awaited_requests).collect();
        channel.replies.retain_map(|_| None);
        channel.requests.retain_map(|it| Some(InFlightRequest { is_orphaned: true, ..it }));
        for request in without_reply {
            self.handle_reply(
                state,
                contender,
                node,
                request,
                Vote::Unknown(ReplyFailure::ConnectionLost),
                coverage,
            )?;
        }
        Ok(())
    }

    fn lose_data(&self, state: &mut State, node: usize) {
        state.data_losses += 1;
        let largest = self.numbers_in_use(state).last().copied().unwrap_or(0);
        let node = &mut state.nodes[node];
        node.clear_key();
        match self.bounds.after_data_loss {
            AfterDataLoss::FenceReset => node.fence = 0,
            AfterDataLoss::FenceAboveAll if self.bounds.mutant == Some(ModelMutant::MissingFenceIsZero) => {
                node.fence = 0;
            }
            AfterDataLoss::FenceAboveAll => node.fence = largest,
            AfterDataLoss::Probation => {
                node.fence = 0;
                node.incarnation += 1;
                node.data_since = state.now;
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
