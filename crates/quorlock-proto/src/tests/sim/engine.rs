//! The turning of a history: one queue of what happens when, nodes, clients with their boards, and the ways between.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::chance::Chance;
use super::clock::Clocks;
use super::oracle::{Oracle, Violation};
use super::parts::{Conn, Peer, Site, Way};
use super::plan::{Plan, Profile};
use super::tally::{Invariant, Tally};
use crate::coordinator::OperationId;
use crate::marker::{ClusterId, Marker};
use crate::membership::MarkerWrite;
use crate::request::Key;
use crate::test_util::node::SimulatedNode;
use crate::time::DualTimestamp;

/// One history on its way.
pub(super) struct Sim<'a> {
    pub(super) profile: &'a Profile,
    pub(super) plan: Plan,
    pub(super) chance: Chance,
    /// True time.
    pub(super) nanos: u64,
    turn: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Deed)>>,
    pub(super) sites: Vec<Site>,
    pub(super) peers: Vec<Peer>,
    pub(super) conns: Vec<Conn>,
    pub(super) keys: Vec<Key>,
    pub(super) oracle: Oracle,
    pub(super) tally: Tally,
    pub(super) stage: Stage,
    pub(super) stage_until: u64,
    pub(super) calm_at: u64,
    /// What happened in words, where a log is wanted.
    pub(super) story: Option<Vec<String>>,
}

/// What happens at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deed {
    /// The next message of a connection reaches the node.
    Arrive(usize),
    /// The next answer reaches the client.
    Hear(usize),
    /// The client hears that its connection is gone.
    Break(usize),
    /// The client does not wait any longer for a connection.
    GiveUp(usize),
    Dial {
        who: usize,
        node: usize,
        life: u32,
    },
    /// A timer rings, unless it was set again since.
    Wake {
        who: usize,
        life: u32,
        set_for: u64,
    },
    /// A caller goes on with what it does.
    Step {
        who: usize,
        key: usize,
        life: u32,
        step: u32,
    },
    /// Somebody looks whether a lock is as it should be; last, just before its deadline.
    Probe {
        id: OperationId,
        deadline: u64,
        is_last: bool,
    },
    /// Something goes wrong.
    Fault,
    /// A thing that went wrong is over.
    Repair(Repair),
    /// A stopped machine goes on.
    Go {
        who: usize,
        is_shown: bool,
    },
    /// Is the stage over?
    Stage,
}

/// What is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Repair {
    NodeUp(usize),
    Master(usize),
    Errors(usize),
    Evicts(usize),
    Swap(usize),
    /// Its clock was behind.
    ClockBehind(usize),
    NodeRate(usize),
    ClientRate(usize),
    ClientUp(usize),
}

/// How far the history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Things go wrong.
    Storm,
    /// Nothing does any more, and one client tries to have every lock.
    Calm,
    /// No client wants anything any more.
    Still,
    Over,
}

/// Writes down what happened, where a log is wanted.
macro_rules! tell {
    ($sim:expr, $($words:tt)+) => {
        if $sim.story.is_some() {
            let words = format!($($words)+);
            $sim.write_down(&words);
        }
    };
}
pub(super) use tell;

impl<'a> Sim<'a> {
    pub(super) fn new(seed: u64, profile: &'a Profile, is_reported: bool) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::draw(profile, &mut chance);
        let most_haste = plan.most_node_haste();
        let sites = (0..plan.quorum.nodes()).map(|place| {
            let mut node = SimulatedNode::new(place, plan.config());
            let haste = chance.pick(&[0, most_haste, -most_haste, most_haste / 2]);
            node.set_drift(haste, 0);
            let set_off = chance.between(0, 40_000_000) as i64 - 20_000_000;
            node.jump_clock(0, set_off + plan.clock_offset(&mut chance));
            node.mutant = profile.mistake;
            Site::new(node, haste)
        });
        let sites: Vec<Site> = sites.collect();
        let most_delay = plan.most_client_delay();
        let peers = (0..plan.clients).map(|who| {
            let haste = chance.pick(&[0, -most_delay, most_delay, -most_delay / 2]);
            let boot = chance.between(1, 1_000_000) * 1_000_000;
            let off = chance.between(0, 40_000_000) as i64 - 20_000_000;
            let off = if chance.permille(profile.odd_walls) { off * 100_000 } else { off };
            let off = off + plan.clock_offset(&mut chance);
            Peer::new(&plan, who, Clocks::new(boot, haste, off - boot as i64), haste)
        });
        let peers: Vec<Peer> = peers.collect();
        Self {
            profile,
            nanos: START,
            turn: 0,
            queue: BinaryHeap::with_capacity(64),
            sites,
            peers,
            conns: Vec::with_capacity(32),
            keys: ["a", "b"][..plan.keys].iter().map(|name| Key::new(name)).collect(),
            oracle: Oracle::default(),
            tally: Tally::default(),
            stage: Stage::Storm,
            stage_until: START + plan.storm_until,
            calm_at: u64::MAX,
            story: is_reported.then(Vec::new),
            plan,
            chance,
        }
    }

    /// Runs it to its end.
    pub(super) fn run(&mut self) {
        self.tally.histories = 1;
        tell!(self, "{:?}", self.plan);
        if self.plan.is_declared && self.plan.fenced != 0 {
            let identity = Marker::identity(ClusterId::new(0xc1), self.plan.config());
            for site in &mut self.sites {
                let backdate = self.plan.max_ttl;
                let write = MarkerWrite {
                    replaces: None,
                    identity: identity.clone(),
                    backdate,
                    written_micros: 0,
                    base_micros: 0,
                };
                site.node.read_marker(Some(&write), START);
            }
        }
        self.note_founders();
        if self.plan.has_stale_keys {
            self.set_stale_keys();
        }
        for who in 0..self.peers.len() {
            self.bring_up(who);
        }
        let first = self.gap();
        self.after(first, Deed::Fault);
        self.at(self.stage_until, Deed::Stage);
        while self.stage != Stage::Over && self.oracle.violation.is_none() {
            let Some(Reverse((at, _, deed))) = self.queue.pop() else { break };
            self.nanos = self.nanos.max(at);
            self.tally.events += 1;
            if self.tally.events > MOST_EVENTS {
                self.violate(Invariant::Ends, &format!("{MOST_EVENTS} events, and no end"));
            }
            self.take(deed);
        }
    }

    fn take(&mut self, deed: Deed) {
        match deed {
            Deed::Arrive(conn) => self.arrive(conn),
            Deed::Hear(conn) => self.hear(conn),
            Deed::Break(conn) => self.hear_of_break(conn),
            Deed::GiveUp(conn) => {
                if self.conns[conn].state == Way::Dialing {
                    self.sever(conn, 0);
                    self.hear_of_break(conn);
                }
            }
            Deed::Dial { who, node, life } => self.dial(who, node, life),
            Deed::Wake { who, life, set_for } => {
                if self.peers[who].wakes_at == Some(set_for) && self.is_here(who, life, deed) {
                    self.peers[who].wakes_at = None;
                    self.wake(who);
                }
            }
            Deed::Step { who, key, life, step } => {
                if self.is_here(who, life, deed) {
                    self.step(who, key, step);
                }
            }
            Deed::Probe { id, deadline, is_last } => self.probe(id, deadline, is_last),
            Deed::Fault => self.go_wrong(),
            Deed::Repair(repair) => self.repair(repair),
            Deed::Go { who, is_shown } => self.go_on(who, is_shown),
            Deed::Stage => self.end_stage(),
        }
    }

    pub(super) fn at(&mut self, at: u64, deed: Deed) {
        self.turn += 1;
        self.queue.push(Reverse((at, self.turn, deed)));
    }

    pub(super) fn after(&mut self, nanos: u64, deed: Deed) {
        self.at(self.nanos.saturating_add(nanos), deed);
    }

    /// Whether this process lives and runs; if it only stands still, the deed comes again when it goes on.
    pub(super) fn is_here(&mut self, who: usize, life: u32, deed: Deed) -> bool {
        let peer = &self.peers[who];
        if peer.life != life || peer.is_dead {
            return false;
        }
        let thaws = peer.frozen_until;
        if thaws > self.nanos {
            // What it then sees first, answers or the time, is a matter of chance.
            let later = self.chance.below(2_000_000);
            self.at(thaws + later, deed);
            return false;
        }
        true
    }

    pub(super) fn now(&self, who: usize) -> DualTimestamp {
        self.peers[who].clocks.read(self.nanos)
    }

    pub(super) fn wake(&mut self, who: usize) {
        let now = self.now(who);
        self.peers[who].coordinator.on_wake(now);
        self.act(who);
    }

    /// A process of this client begins.
    pub(super) fn bring_up(&mut self, who: usize) {
        self.peers[who].is_dead = false;
        let life = self.peers[who].life;
        for node in 0..self.sites.len() {
            let later = self.chance.below(2_000_000);
            self.after(later, Deed::Dial { who, node, life });
        }
        for key in 0..self.keys.len() {
            let later = self.chance.below(20_000_000);
            self.after(later, Deed::Step { who, key, life, step: 0 });
        }
    }

    // Words.

    pub(super) fn write_down(&mut self, words: &str) {
        let millis = (self.nanos - START) as f64 / 1e6;
        if let Some(story) = &mut self.story {
            story.push(format!("{millis:>12.3} ms  {words}"));
        }
    }

    pub(super) fn violate(&mut self, invariant: Invariant, words: &str) {
        tell!(self, "AGAINST {invariant:?}: {words}");
        self.oracle.violation.get_or_insert_with(|| Violation { invariant, words: words.to_owned() });
    }
}

/// True time at the beginning.
pub(super) const START: u64 = 5_000_000_000;
const MOST_EVENTS: u64 = 200_000;
