//! Which order goes to which machine, which question to which node, and when to look again: the driver's pure half.

mod action;
mod post;

pub use action::{Action, Limits, News};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::attempt::{Attempt, AttemptStep};
use super::claim::{Ask, Claim, Key, Mark, Phase, Token};
use super::lane::{Lane, Link, Pending, Undo};
use super::lease::{Lease, LeaseStep, Tenure};
use super::quorum::{NodeId, Quorum};
use super::survey::{Survey, SurveyStep};
use super::terms::Terms;
use super::time::Moment;
use super::vote::{Bar, Fault, Vote};

/// The name of a machine on the board; the caller picks it, and never twice.
pub type Id = u64;

/// Every running machine, and one ordered queue per node.
///
/// Inputs are orders, answers, links that come and go, and the time. After each, [`poll`](Self::poll) until there
/// is nothing more to do, then call [`on_wake`](Self::on_wake) at [`next_wake`](Self::next_wake).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Board {
    quorum: Quorum,
    limits: Limits,
    lanes: Vec<Lane>,
    running: BTreeMap<Id, Entry>,
    alarms: BTreeSet<(u64, Id)>,
    actions: VecDeque<Action>,
    /// How far the wall clock is ahead of the boot clock; a step forward may end leases before their alarm.
    wall_lead: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    machine: Machine,
    tenure: Tenure,
    alarm: Option<u64>,
}

/// Boxed, so that many leases cost what a lease costs and not what the largest machine does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Machine {
    Attempt(Box<Attempt>),
    Lease(Box<Lease>),
    Survey(Box<Survey>),
}

impl Board {
    /// A board for nodes that are not connected yet.
    #[must_use]
    pub fn new(quorum: Quorum, limits: Limits) -> Self {
        Self {
            quorum,
            limits,
            lanes: vec![Lane::new(); quorum.nodes()],
            running: BTreeMap::new(),
            alarms: BTreeSet::new(),
            actions: VecDeque::new(),
            wall_lead: None,
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Begins an attempt; `token` must be fresh. Tells `Won` or `Refused`.
    pub fn acquire(&mut self, id: Id, claim: Claim, tenure: Tenure, token: Token, now: Moment) {
        let limits = self.limits;
        let lanes = &self.lanes;
        let attempt = Attempt::new(claim, token, self.quorum, |node| absence(lanes, limits, node, now), now);
        self.start(id, Machine::Attempt(Box::new(attempt)), tenure, now);
    }

    /// The caller of an attempt walked away, perhaps just as it won: undo it. Nobody listens to what it still tells.
    pub fn abandon(&mut self, id: Id, now: Moment) {
        match self.running.get_mut(&id).map(|entry| &mut entry.machine) {
            Some(Machine::Attempt(attempt)) => attempt.abandon(),
            Some(Machine::Lease(lease)) => lease.release(now),
            Some(Machine::Survey(_)) | None => {}
        }
        self.advance(id, now);
    }

    /// Asks for these terms for a held lock. Tells `Renewed`, `Unconfirmed` or `Lost`. False, and nothing told, if
    /// it is not held.
    pub fn extend(&mut self, id: Id, terms: Terms, now: Moment) -> bool {
        let (limits, lanes) = (self.limits, &self.lanes);
        let lease = match self.running.get_mut(&id).map(|entry| &mut entry.machine) {
            Some(Machine::Lease(lease)) if lease.is_held() => lease,
            _ => return false,
        };
        lease.extend(terms, |node| absence(lanes, limits, node, now), now);
        self.advance(id, now);
        true
    }

    /// The holder saw its deadline pass. Tells `Lost` unless that was told before.
    pub fn forfeit(&mut self, id: Id, now: Moment) {
        if let Some(Machine::Lease(lease)) = self.running.get_mut(&id).map(|entry| &mut entry.machine) {
            lease.forfeit();
            self.advance(id, now);
        }
    }

    /// Gives up a held or lost lock. Tells `Released`. False, and nothing told, if there is none.
    pub fn release(&mut self, id: Id, now: Moment) -> bool {
        let settle_by = now.plus(self.limits.node_timeout);
        match self.running.get_mut(&id).map(|entry| &mut entry.machine) {
            Some(Machine::Lease(lease)) => lease.release(settle_by),
            _ => return false,
        }
        self.advance(id, now);
        true
    }

    /// Asks every node about a key. Tells `Surveyed`.
    pub fn survey(&mut self, id: Id, phase: Phase, key: Key, now: Moment) {
        let (limits, lanes) = (self.limits, &self.lanes);
        let settle_by = now.plus(limits.node_timeout);
        let survey =
            Survey::new(phase, key, self.quorum, |node| absence(lanes, limits, node, now), settle_by);
        let tenure = Tenure { auto_renew: false, max_hold: None };
        self.start(id, Machine::Survey(Box::new(survey)), tenure, now);
    }

    /// The node is connected. What is owed to it goes out first.
    pub fn on_up(&mut self, node: NodeId, now: Moment) {
        self.lanes[node.index()].link = Link::Up;
        self.send_owed(node, now);
    }

    /// The node's connection is gone, or could not be made. Nothing is sent twice: questions without an answer are
    /// unknown, undos without one are owed.
    pub fn on_down(&mut self, node: NodeId, why: Arc<str>, now: Moment) {
        self.unlink(node, Link::Down(why), now);
    }

    /// The node may not serve us.
    pub fn on_barred(&mut self, node: NodeId, bar: Bar, now: Moment) {
        self.unlink(node, Link::Barred(bar), now);
    }

    /// What the node's next answer will be an answer to; `None` if it owes none.
    #[must_use]
    pub fn expects(&self, node: NodeId) -> Option<Phase> {
        self.lanes[node.index()].awaiting.front().map(|awaiting| match awaiting.pending {
            Pending::Vote { phase, .. } => phase,
            Pending::Undo(_) => Phase::Release,
        })
    }

    /// The node's answer to the oldest question it has not answered. Gives back what was asked, by whom.
    pub fn on_reply(&mut self, node: NodeId, vote: Vote, now: Moment) -> Option<(Id, Phase)> {
        let lane = &mut self.lanes[node.index()];
        match lane.awaiting.pop_front()?.pending {
            Pending::Vote { of, phase, round } => {
                if vote != Vote::Unknown(Fault::NoScript) || !self.ask_as_text(node, of, phase, round, now) {
                    self.deliver(of, node, phase, round, vote, now);
                }
                Some((of, phase))
            }
            Pending::Undo(undo) => {
                let of = undo.of;
                self.on_undone(node, undo, vote, now);
                Some((of, Phase::Release))
            }
        }
    }

    /// The time asked for may have come.
    pub fn on_wake(&mut self, now: Moment) {
        for node in self.quorum.all().iter() {
            let lane = &mut self.lanes[node.index()];
            // Nearly in the order they end. To look through all at every turn would cost more than the turn.
            while lane.owed.front().is_some_and(|undo| now.is_due(undo.until)) {
                lane.owed.pop_front();
            }
            if lane.link == Link::Up && lane.has_owed_for(now, self.limits.redial_after) {
                self.actions.push_back(Action::Redial(node));
                self.on_down(node, "owed an answer for too long".into(), now);
            } else if lane.retry_at.is_some_and(|retry| now.is_due(retry)) {
                self.send_owed(node, now);
            }
        }
        if self.wall_gained(now) {
            let leases: Vec<Id> = self.running.keys().copied().collect();
            for id in leases {
                self.wake(id, now);
            }
        }
        while let Some((_, id)) = self.alarms.first().copied().filter(|(due, _)| *due <= now.boot_nanos()) {
            self.wake(id, now);
        }
    }

    /// When to call [`on_wake`](Self::on_wake), if ever, by the boot clock.
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        let redial =
            |lane: &Lane| Some(lane.awaiting.front()?.sent.plus(self.limits.redial_after).boot_nanos());
        let retry = |lane: &Lane| lane.retry_at.map(Moment::boot_nanos);
        let lanes = self.lanes.iter().filter(|lane| lane.link == Link::Up);
        let alarm = self.alarms.first().map(|(due, _)| *due);
        lanes.flat_map(|lane| [redial(lane), retry(lane)]).chain([alarm]).flatten().min()
    }

    /// Whether any lock is held, and so the clock worth a look now and then.
    #[must_use]
    pub fn has_leases(&self) -> bool {
        self.running.values().any(|entry| matches!(entry.machine, Machine::Lease(_)))
    }

    /// Whether some attempt, release or survey still runs, or some lock is still held.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// The keys of locks that are still held, or lost and not yet let go.
    pub fn kept(&self) -> impl Iterator<Item = &Key> {
        self.running.values().filter_map(|entry| match &entry.machine {
            Machine::Lease(lease) if lease.is_kept() => Some(lease.key()),
            _ => None,
        })
    }

    /// Every undo not known done, node by node.
    pub fn undone(&self) -> impl Iterator<Item = (NodeId, &Key)> {
        self.quorum
            .all()
            .iter()
            .flat_map(|node| self.lanes[node.index()].undone().map(move |undo| (node, &undo.key)))
    }

    /// Whether a machine of ours works under this key with the token of this mark.
    #[must_use]
    pub fn is_ours(&self, key: &Key, mark: Mark) -> bool {
        self.running.values().any(|entry| match &entry.machine {
            Machine::Lease(lease) => lease.key() == key && lease.token().mark() == mark,
            Machine::Attempt(attempt) => attempt.claim().key == *key && attempt.token().mark() == mark,
            Machine::Survey(_) => false,
        })
    }

    fn start(&mut self, id: Id, machine: Machine, tenure: Tenure, now: Moment) {
        self.running.insert(id, Entry { machine, tenure, alarm: None });
        self.advance(id, now);
    }

    fn wake(&mut self, id: Id, now: Moment) {
        let (limits, lanes) = (self.limits, &self.lanes);
        let Some(entry) = self.running.get_mut(&id) else { return };
        if let Some(due) = entry.alarm.take() {
            self.alarms.remove(&(due, id));
        }
        match &mut entry.machine {
            Machine::Attempt(attempt) => attempt.on_wake(now),
            Machine::Lease(lease) => lease.on_wake(|node| absence(lanes, limits, node, now), now),
            Machine::Survey(survey) => survey.on_wake(now),
        }
        self.advance(id, now);
    }

    fn deliver(&mut self, id: Id, node: NodeId, phase: Phase, round: u32, vote: Vote, now: Moment) {
        let Some(entry) = self.running.get_mut(&id) else { return };
        match &mut entry.machine {
            Machine::Attempt(attempt) => attempt.on_reply(node, phase, vote, now),
            Machine::Lease(lease) => lease.on_reply(node, phase, round, vote, now),
            Machine::Survey(survey) => survey.on_reply(node, vote),
        }
        self.advance(id, now);
    }

    /// Takes the machine's steps until it has none, then sets its alarm, or ends it.
    fn advance(&mut self, id: Id, now: Moment) {
        while let Some(entry) = self.running.get_mut(&id) {
            match &mut entry.machine {
                Machine::Attempt(attempt) => match attempt.poll() {
                    Some(AttemptStep::Ask(Phase::Release, nodes)) => {
                        let until = attempt.start().plus(attempt.claim().terms.ttl()).plus(UNDO_SLACK);
                        let undo =
                            Undo { of: id, key: attempt.claim().key.clone(), token: attempt.token(), until };
                        self.undo(nodes, &undo, now);
                    }
                    Some(AttemptStep::Ask(phase, nodes)) => {
                        let claim = attempt.claim();
                        let ask = Ask {
                            phase,
                            key: claim.key.clone(),
                            token: attempt.token(),
                            ttl: claim.terms.ttl(),
                        };
                        self.send(ask, nodes, id, 0, now);
                    }
                    Some(AttemptStep::Won) => {
                        let lease = Lease::new(attempt, entry.tenure);
                        let news = News::Won { deadline: lease.deadline(), confirmed: lease.confirmed() };
                        entry.machine = Machine::Lease(Box::new(lease));
                        self.actions.push_back(Action::Tell(id, news));
                    }
                    Some(AttemptStep::Lost(refusal)) => {
                        self.actions.push_back(Action::Tell(id, News::Refused(refusal)));
                    }
                    None => break,
                },
                Machine::Lease(lease) => match lease.poll() {
                    Some(LeaseStep::Ask { phase: Phase::Release, nodes, .. }) => {
                        let until = lease.keys_until().plus(UNDO_SLACK);
                        let undo = Undo { of: id, key: lease.key().clone(), token: lease.token(), until };
                        self.undo(nodes, &undo, now);
                    }
                    Some(LeaseStep::Ask { phase, ttl, nodes, round }) => {
                        let ask = Ask { phase, key: lease.key().clone(), token: lease.token(), ttl };
                        if phase == Phase::Renew {
                            self.actions.push_back(Action::Tell(id, News::Renewing));
                        }
                        self.send(ask, nodes, id, round, now);
                    }
                    Some(LeaseStep::Confirmed(nodes)) => {
                        self.actions.push_back(Action::Tell(id, News::Confirmed(nodes)));
                    }
                    Some(LeaseStep::Renewed(deadline)) => {
                        self.actions.push_back(Action::Tell(id, News::Renewed(deadline)));
                    }
                    Some(LeaseStep::Unconfirmed(votes)) => {
                        self.actions.push_back(Action::Tell(id, News::Unconfirmed(votes)));
                    }
                    Some(LeaseStep::Lost(loss)) => {
                        self.actions.push_back(Action::Tell(id, News::Lost(loss)));
                    }
                    Some(LeaseStep::Released(votes)) => {
                        self.actions.push_back(Action::Tell(id, News::Released(votes)));
                    }
                    None => break,
                },
                Machine::Survey(survey) => match survey.poll() {
                    Some(SurveyStep::Ask(phase, nodes)) => {
                        let key = survey.key().clone();
                        let ask = Ask { phase, key, token: Token::new(0), ttl: Duration::ZERO };
                        self.send(ask, nodes, id, 0, now);
                    }
                    Some(SurveyStep::Done(votes)) => {
                        self.actions.push_back(Action::Tell(id, News::Surveyed(votes)));
                    }
                    None => break,
                },
            }
        }
        self.set_alarm(id);
    }

    fn set_alarm(&mut self, id: Id) {
        let Some(entry) = self.running.get_mut(&id) else { return };
        let (wake, is_done) = match &entry.machine {
            Machine::Attempt(attempt) => (attempt.wake_at(), attempt.is_done()),
            Machine::Lease(lease) => (lease.wake_at(), lease.is_done()),
            Machine::Survey(survey) => (survey.wake_at(), survey.is_done()),
        };
        let alarm = wake.map(Moment::boot_nanos).filter(|_| !is_done);
        if alarm != entry.alarm {
            if let Some(old) = std::mem::replace(&mut entry.alarm, alarm) {
                self.alarms.remove(&(old, id));
            }
            if let Some(new) = alarm {
                self.alarms.insert((new, id));
            }
        }
        if is_done {
            self.running.remove(&id);
        }
    }

    /// Whether the wall clock has gained on the boot clock since leases were last looked at for it: at once, or bit by
    /// bit.
    fn wall_gained(&mut self, now: Moment) -> bool {
        let lead = now.wall_nanos().saturating_sub(now.boot_nanos());
        let known = self.wall_lead.map_or(lead, |known| known.min(lead));
        let has_gained = lead > known.saturating_add(WALL_GAIN_NANOS);
        self.wall_lead = Some(if has_gained { lead } else { known });
        has_gained
    }
}

fn absence(lanes: &[Lane], limits: Limits, node: NodeId, now: Moment) -> Option<Vote> {
    lanes[node.index()].absence(now, limits.node_timeout)
}

/// An undo matters while a SET may still arrive and its key live: the ttl, and a minute for what the network kept.
const UNDO_SLACK: Duration = Duration::from_secs(60);
const WALL_GAIN_NANOS: u64 = 1_000_000;
