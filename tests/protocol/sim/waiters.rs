//! Who waits for a lock that others have: what `src/lock/acquire.rs` does, with one task to a process and key.

use std::time::Duration;

use super::caller::State;
use super::engine::{Sim, Stage, tell};
use super::tally::Invariant;
use crate::protocol::attempt::Why;
use crate::protocol::backoff;
use crate::protocol::board::Id;
use crate::protocol::claim::Phase;
use crate::protocol::line::{self, Next, Reaction, Share, Trust};
use crate::protocol::quorum::NodeId;
use crate::protocol::vote::Vote;

/// One wait, from the first attempt to the lock or the end of all patience.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wait {
    pub(super) is_on: bool,
    pub(super) share: Share,
    since: u64,
    until: u64,
    looks: u32,
    trust: Trust,
    failures: u32,
    retry_after: Option<Duration>,
    survey: Option<Id>,
    /// How often it tried while somebody had the lock, and all was well.
    in_vain: u32,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Stand,
    /// A node was asked for a place in line.
    Hear,
    /// It stands in line, and looks again if nobody calls it.
    Look,
    Try,
}

impl Sim<'_> {
    pub(super) fn begin_wait(&mut self, who: usize, key: usize) {
        self.tally.waits += 1;
        let longest = self.plan.longest_nanos();
        let until = self.nanos + self.chance.of_any_size(longest / 2, 6 * longest);
        let wait = &mut self.peers[who].tasks[key].wait;
        *wait = Wait { is_on: true, share: wait.share, since: self.nanos, until, ..Wait::default() };
        let next = wait.share.next();
        self.follow(who, key, next);
    }

    fn follow(&mut self, who: usize, key: usize, next: Next) {
        match next {
            Next::Try => self.then(who, key, Then::Try, Duration::ZERO),
            Next::Stand => self.then(who, key, Then::Stand, Duration::ZERO),
            Next::Wait => self.be_patient(who, key),
        }
    }

    fn then(&mut self, who: usize, key: usize, then: Then, later: Duration) {
        self.peers[who].tasks[key].state = State::Waiting(then);
        self.next_step(who, key, later.as_nanos() as u64);
    }

    fn be_patient(&mut self, who: usize, key: usize) {
        let Wait { share, looks, retry_after, .. } = self.peers[who].tasks[key].wait;
        let patience = share.patience(looks, retry_after, self.chance.draw());
        self.then(who, key, Then::Look, patience);
    }

    fn pause(&mut self, who: usize, key: usize) -> Duration {
        let Wait { failures, retry_after, .. } = self.peers[who].tasks[key].wait;
        backoff::retry(failures, retry_after, self.chance.draw())
    }

    pub(super) fn go_on_waiting(&mut self, who: usize, key: usize, then: Then) {
        let wait = &self.peers[who].tasks[key].wait;
        if self.nanos >= wait.until || self.stage != Stage::Storm {
            return self.give_up_waiting(who, key);
        }
        match then {
            Then::Try => self.try_it(who, key),
            Then::Hear => {}
            Then::Stand => self.stand(who, key),
            Then::Look => match wait.share.next_of_refused() {
                Next::Try => self.try_it(who, key),
                // Whoever had the lock may be gone without a word.
                Next::Wait | Next::Stand => self.stand(who, key),
            },
        }
    }

    fn stand(&mut self, who: usize, key: usize) {
        let (now, name) = (self.now(who), self.keys[key].clone());
        self.peers[who].tasks[key].wait.share.on_stood();
        let board = &self.peers[who].board;
        let answering = self.line_keepers(who).filter(|(node, _)| board.answers(*node, now));
        let [first, next] = line::places(name.as_str(), answering);
        let is_aside = self.peers[who].tasks[key].wait.trust.is_aside();
        let Some(node) = next.filter(|_| is_aside).or(first) else {
            return self.hear_of_place(who, key, None);
        };
        self.oracle.surveys += 1;
        let id = SURVEYS + self.oracle.surveys;
        let wait = &mut self.peers[who].tasks[key].wait;
        wait.survey = Some(id);
        let waited = Duration::from_nanos(self.nanos - wait.since);
        self.peers[who].tasks[key].state = State::Waiting(Then::Hear);
        self.peers[who].board.line_up(id, node, (Phase::Stand, name, waited), now);
        self.act(who);
    }

    pub(super) fn be_told_of_line(&mut self, who: usize, id: Id, votes: &[Vote]) {
        let asks = |key: &usize| self.peers[who].tasks[*key].wait.survey == Some(id);
        let Some(key) = (0..self.keys.len()).find(asks) else { return };
        self.peers[who].tasks[key].wait.survey = None;
        if self.peers[who].tasks[key].state == State::Waiting(Then::Hear) {
            let told = votes.iter().find(|vote| matches!(vote, Vote::Held { .. } | Vote::Missing));
            self.hear_of_place(who, key, told);
        }
    }

    fn hear_of_place(&mut self, who: usize, key: usize, told: Option<&Vote>) {
        let wait = &mut self.peers[who].tasks[key].wait;
        match told {
            Some(Vote::Held { remaining }) => {
                wait.retry_after = *remaining;
                wait.looks += 1;
                wait.trust.on_end_of_wait(false);
                // It may have been called meanwhile.
                match wait.share.next_of_refused() {
                    Next::Try => self.then(who, key, Then::Try, Duration::ZERO),
                    Next::Wait | Next::Stand => self.be_patient(who, key),
                }
            }
            Some(_) => {
                wait.share.on_free(wait.looks > 0, 0);
                let (then, pause) = match wait.trust.on_end_of_wait(true) {
                    Reaction::Believe => (Then::Try, Duration::ZERO),
                    Reaction::Hesitate => (Then::Try, self.pause(who, key)),
                    Reaction::StepAside => (Then::Stand, Duration::ZERO),
                };
                self.then(who, key, then, pause);
            }
            None => {
                wait.share.on_displaced();
                wait.trust.on_end_of_wait(false);
                let pause = self.pause(who, key);
                self.then(who, key, Then::Try, pause);
            }
        }
    }

    /// An attempt of this wait was refused.
    pub(super) fn wait_on(&mut self, who: usize, key: usize, why: &Why) {
        let wait = &mut self.peers[who].tasks[key].wait;
        wait.share.on_refused();
        (wait.failures, wait.looks) = (wait.failures + 1, 0);
        wait.retry_after = match why {
            Why::Contended { retry_after } | Why::OnProbation { retry_after } => *retry_after,
            Why::NoQuorum | Why::TooLate | Why::Barred => None,
        };
        if matches!(why, Why::Contended { .. }) {
            let next = wait.share.next_of_refused();
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
        let board = &self.peers[who].board;
        let answering = self.line_keepers(who).filter(|(node, _)| board.answers(*node, now));
        let places = node.map_or_else(|| line::places(name.as_str(), answering), |node| [Some(node), None]);
        for node in places.into_iter().flatten() {
            self.oracle.surveys += 1;
            let id = SURVEYS + self.oracle.surveys;
            self.peers[who].board.line_up(id, node, (Phase::Leave, name.clone(), Duration::ZERO), now);
        }
    }

    pub(super) fn be_called(&mut self, who: usize, node: usize, key: usize, has_others: bool) {
        let task = &mut self.peers[who].tasks[key];
        match task.state {
            State::Idle => return self.leave(who, key, Some(NodeId(node as u8))),
            _ => task.wait.share.on_called(has_others, 0),
        }
        if task.state == State::Waiting(Then::Look) {
            task.wait.trust.on_end_of_wait(false);
            self.then(who, key, Then::Try, Duration::ZERO);
        }
    }

    /// A connection is gone, and perhaps a place in line with it.
    pub(super) fn be_displaced(&mut self, who: usize) {
        for key in 0..self.keys.len() {
            let task = &mut self.peers[who].tasks[key];
            task.wait.share.on_displaced();
            if task.state == State::Waiting(Then::Look) {
                self.then(who, key, Then::Look, Duration::ZERO);
            }
        }
    }

    /// While a lock is held, renews itself and stands where all is well, those in line for it do not try time and again.
    fn check_patience(&mut self, who: usize, key: usize) {
        let is_kept = |id: &Id| {
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
/// Surveys have names of their own.
const SURVEYS: Id = 1 << 40;
