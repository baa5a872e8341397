//! Who waits for a lock that others have: what `src/lock/acquire.rs` does, with one task to a process and key.

use std::time::Duration;

use super::caller::State;
use super::engine::{Sim, Stage, tell};
use super::tally::Invariant;
use crate::attempt::{AttemptFailure, FailureReason};
use crate::backoff;
use crate::coordinator::OperationId;
use crate::fairness::{self, Cohort, NextAction, Reaction, Refused, Trust};
use crate::quorum::NodeId;
use crate::request::RequestKind;
use crate::vote::Vote;

/// One wait, from the first attempt to the lock or the end of all patience.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wait {
    pub(super) is_on: bool,
    pub(super) share: Cohort,
    since: u64,
    until: u64,
    looks: u32,
    trust: Trust,
    failures: u32,
    retry_after: Option<Duration>,
    survey: Option<OperationId>,
    /// From when on it tries though it is told that the lock is taken, when it did so last, and whether it does so now.
    doubts_at: u64,
    doubted_at: u64,
    is_doubting: bool,
    /// Whether that would be because votes may have been split, which counts as an attempt like any other.
    doubts_a_split: bool,
    /// How often it tried while somebody had the lock, and all was well, and it had been told to.
    in_vain: u32,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Stand,
    /// A node was asked for a place in line.
    Hear,
    /// It stands in line, and looks again if no notification comes.
    Look,
    Try,
}

impl Sim<'_> {
    pub(super) fn begin_wait(&mut self, who: usize, key: usize) {
        self.tally.waits += 1;
        let longest = self.plan.longest_nanos();
        let until = self.nanos + self.chance.of_any_size(longest / 2, 6 * longest);
        let doubts_at = self.nanos + Trust::at_first(self.chance.draw()).as_nanos() as u64;
        let wait = &mut self.peers[who].tasks[key].wait;
        *wait =
            Wait { is_on: true, share: wait.share, since: self.nanos, until, doubts_at, ..Wait::default() };
        let next = wait.share.next();
        self.follow(who, key, next);
    }

    fn follow(&mut self, who: usize, key: usize, next: NextAction) {
        match next {
            NextAction::Acquire => self.then(who, key, Then::Try, Duration::ZERO),
            NextAction::Enqueue => self.then(who, key, Then::Stand, Duration::ZERO),
            NextAction::Wait => self.be_patient(who, key),
        }
    }

    fn then(&mut self, who: usize, key: usize, then: Then, later: Duration) {
        self.peers[who].tasks[key].state = State::Waiting(then);
        self.next_step(who, key, later.as_nanos() as u64);
    }

    fn be_patient(&mut self, who: usize, key: usize) {
        let Wait { share, looks, retry_after, doubts_at, .. } = self.peers[who].tasks[key].wait;
        let patience = share.wait_limit(looks, retry_after, self.chance.draw());
        let doubts_in = Duration::from_nanos(doubts_at.saturating_sub(self.nanos));
        self.then(who, key, Then::Look, patience.min(doubts_in));
    }

    fn pause(&mut self, who: usize, key: usize) -> Duration {
        let Wait { failures, retry_after, .. } = self.peers[who].tasks[key].wait;
        backoff::retry(failures, retry_after, self.chance.draw())
    }

    pub(super) fn go_on_waiting(&mut self, who: usize, key: usize, then: Then) {
        self.check_starvation(key);
        let wait = &self.peers[who].tasks[key].wait;
        if self.stage != Stage::Storm {
            return self.give_up_waiting(who, key);
        }
        if self.nanos >= wait.until {
            // The last attempt comes right at the end.
            return self.try_it(who, key);
        }
        match then {
            Then::Try => self.try_it(who, key),
            Then::Hear => {}
            Then::Stand => self.stand(who, key),
            Then::Look => match wait.share.next_after_refusal() {
                NextAction::Acquire => self.try_it(who, key),
                // One node may be wrong.
                NextAction::Wait if self.nanos >= wait.doubts_at => self.doubt(who, key),
                // The holder may be gone without a word.
                NextAction::Wait | NextAction::Enqueue => self.stand(who, key),
            },
        }
    }

    fn doubt(&mut self, who: usize, key: usize) {
        let wait = &mut self.peers[who].tasks[key].wait;
        wait.trust.on_end_of_wait(false);
        let is_soon = wait.doubted_at + LEAST_DOUBT > self.nanos;
        if !wait.doubts_a_split {
            wait.doubted_at = self.nanos;
            wait.is_doubting = true;
        }
        if is_soon && !wait.doubts_a_split {
            self.violate(Invariant::Patience, &format!("client {who} doubts again too soon"));
        }
        self.try_it(who, key);
    }

    fn stand(&mut self, who: usize, key: usize) {
        let (now, name) = (self.now(who), self.keys[key].clone());
        self.peers[who].tasks[key].wait.share.on_enqueued();
        let coordinator = &self.peers[who].coordinator;
        let answering = self.line_keepers(who).filter(|(node, _)| coordinator.is_responsive(*node, now));
        let [first, next] = fairness::rendezvous_nodes(name.as_str(), answering);
        let is_on_second = self.peers[who].tasks[key].wait.trust.is_on_second_node();
        let Some(node) = next.filter(|_| is_on_second).or(first) else {
            return self.hear_of_place(who, key, None);
        };
        let id = self.survey();
        let wait = &mut self.peers[who].tasks[key].wait;
        wait.survey = Some(id);
        let waited = Duration::from_nanos(self.nanos - wait.since);
        self.peers[who].tasks[key].state = State::Waiting(Then::Hear);
        self.peers[who].coordinator.enqueue(id, node, (RequestKind::Enqueue, name, waited), now);
        self.act(who);
    }

    pub(super) const fn survey(&mut self) -> OperationId {
        self.oracle.surveys += 1;
        SURVEYS + self.oracle.surveys
    }

    pub(super) fn be_told_of_line(&mut self, who: usize, id: OperationId, votes: &[Vote]) {
        let asks = |key: &usize| self.peers[who].tasks[*key].wait.survey == Some(id);
        let Some(key) = (0..self.keys.len()).find(asks) else { return };
        self.peers[who].tasks[key].wait.survey = None;
        if self.peers[who].tasks[key].state == State::Waiting(Then::Hear) {
            let told = votes.iter().find(|vote| matches!(vote, Vote::HeldByOther { .. } | Vote::NotHeld));
            self.hear_of_place(who, key, told);
        }
    }

    fn hear_of_place(&mut self, who: usize, key: usize, told: Option<&Vote>) {
        let wait = &mut self.peers[who].tasks[key].wait;
        match told {
            Some(Vote::HeldByOther { remaining }) => {
                wait.retry_after = *remaining;
                wait.looks += 1;
                wait.trust.on_end_of_wait(false);
                // It may have been called meanwhile.
                match wait.share.next_after_refusal() {
                    NextAction::Acquire => self.then(who, key, Then::Try, Duration::ZERO),
                    NextAction::Wait | NextAction::Enqueue => self.be_patient(who, key),
                }
            }
            Some(_) => {
                wait.share.on_free(wait.looks > 0, 0);
                self.react(who, key, true);
            }
            None => {
                wait.share.on_queue_lost();
                wait.trust.on_end_of_wait(false);
                let pause = self.pause(who, key);
                self.then(who, key, Then::Try, pause);
            }
        }
    }

    /// An attempt of this wait was refused.
    pub(super) fn wait_on(&mut self, who: usize, key: usize, refusal: &AttemptFailure) {
        let wait = &mut self.peers[who].tasks[key].wait;
        let refused = Refused { may_be_split: refusal.may_be_split(), was_called: wait.share.on_refused() };
        (wait.failures, wait.looks) = (wait.failures + 1, 0);
        wait.retry_after = match refusal.reason {
            FailureReason::Contended { retry_after } | FailureReason::OnProbation { retry_after } => {
                retry_after
            }
            FailureReason::NoQuorum | FailureReason::TooLate | FailureReason::NodesExcluded => None,
        };
        let random = self.chance.draw();
        let wait = &mut self.peers[who].tasks[key].wait;
        let doubts_in = wait.trust.on_refused(refused, wait.retry_after, random);
        wait.doubts_at = self.nanos + doubts_in.as_nanos() as u64;
        wait.doubts_a_split = refused != Refused::default();
        if self.nanos >= wait.until {
            return self.give_up_waiting(who, key);
        }
        if matches!(refusal.reason, FailureReason::Contended { .. }) {
            let next = wait.share.next_after_refusal();
            self.check_patience(who, key);
            self.follow(who, key, next);
        } else {
            let pause = self.pause(who, key);
            self.then(who, key, Then::Try, pause);
        }
    }

    pub(super) fn give_up_waiting(&mut self, who: usize, key: usize) {
        self.peers[who].tasks[key].state = State::Idle;
        self.leave_line(who, key);
        let later = self.chance.of_any_size(100_000, 200_000_000);
        self.next_step(who, key, later);
        self.act(who);
    }

    /// Nobody here wants the key any more.
    pub(super) fn leave_line(&mut self, who: usize, key: usize) {
        let wait = &mut self.peers[who].tasks[key].wait;
        wait.is_on = false;
        if wait.share.on_idle() {
            self.leave(who, key, None);
        }
    }

    fn leave(&mut self, who: usize, key: usize, node: Option<NodeId>) {
        let (now, name) = (self.now(who), self.keys[key].clone());
        let coordinator = &self.peers[who].coordinator;
        let answering = self.line_keepers(who).filter(|(node, _)| coordinator.is_responsive(*node, now));
        let places = node
            .map_or_else(|| fairness::rendezvous_nodes(name.as_str(), answering), |node| [Some(node), None]);
        for node in places.into_iter().flatten() {
            let id = self.survey();
            self.peers[who].coordinator.enqueue(
                id,
                node,
                (RequestKind::Dequeue, name.clone(), Duration::ZERO),
                now,
            );
        }
    }

    /// Whether others want it too, and whether it was found free, go with the call.
    pub(super) fn be_called(
        &mut self,
        who: usize,
        node: usize,
        key: usize,
        (others, is_found): (bool, bool),
    ) {
        let task = &mut self.peers[who].tasks[key];
        match task.state {
            State::Idle => return self.leave(who, key, Some(NodeId(node as u8))),
            _ => task.wait.share.on_notified(others, is_found, 0),
        }
        if task.state == State::Waiting(Then::Look) {
            self.react(who, key, is_found);
        }
    }

    /// A wait ends, because the key was found free or for another reason.
    fn react(&mut self, who: usize, key: usize, is_free: bool) {
        let (then, pause) = match self.peers[who].tasks[key].wait.trust.on_end_of_wait(is_free) {
            Reaction::Believe => (Then::Try, Duration::ZERO),
            Reaction::Hesitate => (Then::Try, self.pause(who, key)),
            Reaction::StepAside => {
                self.peers[who].tasks[key].wait.share.on_false_notification();
                (Then::Stand, Duration::ZERO)
            }
        };
        self.then(who, key, then, pause);
    }

    /// A connection is gone, and perhaps a place in line with it.
    pub(super) fn be_displaced(&mut self, who: usize) {
        for key in 0..self.keys.len() {
            let task = &mut self.peers[who].tasks[key];
            task.wait.share.on_queue_lost();
            if task.state == State::Waiting(Then::Look) {
                self.then(who, key, Then::Look, Duration::ZERO);
            }
        }
    }

    /// The lock was given up, some time ago, and no client has it.
    pub(super) fn check_starvation(&mut self, key: usize) {
        let (Some(free), Some(millis)) = (self.oracle.free_since.get(&key), self.profile.starves_after)
        else {
            return;
        };
        let starves = |who: &usize| {
            let task = &self.peers[*who].tasks[key];
            task.wait.is_on && self.nanos > (*free).max(task.wait.since) + millis * 1_000_000
        };
        if self.stage == Stage::Storm
            && let Some(who) = (0..self.peers.len()).find(starves)
        {
            let words = format!("client {who} waits for key {key}, which no client has had for {millis} ms");
            self.violate(Invariant::Starvation, &words);
        }
    }

    /// While a lock is held, renews itself and stands where all is well, those in line for it do not try time and again.
    fn check_patience(&mut self, who: usize, key: usize) {
        if std::mem::take(&mut self.peers[who].tasks[key].wait.is_doubting) {
            return;
        }
        let is_kept = |id: &OperationId| {
            let record = &self.oracle.records[*id as usize];
            record.key == key
                && self.is_valid(*id)
                && self.nodes_without_trouble(*id).len() == self.sites.len()
        };
        let since = self.peers[who].trouble_until.iter().max().copied().unwrap_or_default();
        let is_well = since + self.plan.longest_nanos() < self.nanos;
        if !self.profile.checks_patience || !is_well || !self.oracle.open.iter().any(is_kept) {
            return;
        }
        let wait = &mut self.peers[who].tasks[key].wait;
        wait.in_vain += 1;
        let tried = wait.in_vain;
        tell!(self, "client {who} tried in vain for key {key}, {tried} times while all is well");
        if tried > MOST_IN_VAIN {
            self.violate(
                Invariant::Patience,
                &format!("client {who} tried {tried} times for a lock that is held"),
            );
        }
    }
}

const MOST_IN_VAIN: u32 = 6;
/// As `protocol/backoff.rs` has it.
const LEAST_DOUBT: u64 = 800_000_000;
/// Surveys have names of their own.
const SURVEYS: OperationId = 1 << 40;
