//! Forged histories, written down concisely. Times are milliseconds since the run began.

#![allow(dead_code, unreachable_pub)] // Each test program uses its own part of this.

use std::collections::{BTreeMap, BTreeSet};

use quorlock_chaos::checker::{Invariant, Verdict, check_history};
use quorlock_chaos::history::{
    Actor, Effect, Event, EventKind, Fault, History, KeySample, LockKind, Settings,
};

pub const MS: u64 = 1_000_000;

/// When the run begins, on the boot clock.
pub const BOOT: u64 = 5_000_000 * MS;

pub const JUMP: [Effect; 1] = [Effect::ClockStep { micros: 5_000_000 }];
pub const WIPE: [Effect; 1] = [Effect::DataLoss { locks: true, fences: true }];

/// Asserts that exactly these invariants are violated, and exactly those are excused.
#[track_caller]
pub fn check(story: &Story, broken: &[Invariant], expected: &[Invariant]) -> Verdict {
    let verdict = check_history(&story.history());
    let mut found: Vec<Invariant> = verdict.violations.iter().map(|violation| violation.invariant).collect();
    found.dedup();
    assert_eq!(found, broken, "violations: {:#?}", verdict.violations);
    let excused: Vec<Invariant> = verdict.expected.iter().map(|case| case.invariant).collect();
    assert_eq!(excused, expected, "expected: {:#?}", verdict.expected);
    assert_eq!(verdict.passed(), broken.is_empty());
    verdict
}

/// A history under construction. Each process that was not killed and is not `silent` records its end, and so does the
/// run.
#[derive(Clone)]
pub struct Story {
    pub settings: Settings,
    /// Processes that never record their end.
    pub silent: Vec<u32>,
    /// How many nodes the locks could lose when they were granted.
    pub margin: i32,
    /// The network that faults to nodes hit; all, if none is named.
    pub side: Option<u32>,
    events: Vec<Event>,
    key: String,
    kind: LockKind,
    task: u32,
    killed: BTreeSet<u32>,
    next_fault: u64,
}

/// Five nodes, a quorum of three, two seconds of probation; locks of a second for `orders:42`.
pub fn story() -> Story {
    Story {
        settings: Settings {
            seed: 42,
            replay: "quorlock chaos --servers 5 --clients 3 --duration 10s --seed 42".to_owned(),
            description: "2026-11-30 12:00:00Z on host h, quorlock 0.1.0".to_owned(),
            server: "Redis 7.0.15".to_owned(),
            nodes: 5,
            quorum: 3,
            max_ttl_ms: 2_000,
            drift_ppm: 10_000,
            reply_timeout_ms: 500,
            fenced: true,
            probation: true,
            recovery_ms: 3_000,
            starvation_ms: Some(1_000),
            slack_ms: 1_000,
            checks_redundancy: false,
            controls: Vec::new(),
        },
        silent: Vec::new(),
        margin: 1,
        side: None,
        events: Vec::new(),
        key: "orders:42".to_owned(),
        kind: LockKind::Mutex,
        task: 0,
        killed: BTreeSet::new(),
        next_fault: 1_000_000,
    }
}

impl Story {
    pub fn key(&mut self, key: &str) -> &mut Self {
        key.clone_into(&mut self.key);
        self
    }

    pub fn task(&mut self, task: u32) -> &mut Self {
        self.task = task;
        self
    }

    pub fn kind(&mut self, kind: LockKind) -> &mut Self {
        self.kind = kind;
        self
    }

    pub fn event(&mut self, at: u64, who: Actor, what: EventKind) -> &mut Self {
        self.events.push(Event { at: BOOT + at * MS, actor: who, kind: what });
        self
    }

    pub fn say(&mut self, process: u32, attempt: u32, at: u64, what: EventKind) -> &mut Self {
        self.event(at, Actor::Client { process, task: self.task, attempt }, what)
    }

    pub fn waits(&mut self, process: u32, attempt: u32, at: u64) -> &mut Self {
        let what = EventKind::Waiting {
            keys: vec![self.key.clone()],
            kind: self.kind,
            ttl_ms: 1_000,
            wait_ms: 10_000,
        };
        self.say(process, attempt, at, what)
    }

    pub fn granted(
        &mut self,
        process: u32,
        attempt: u32,
        at: u64,
        deadline: u64,
        number: Option<u64>,
    ) -> &mut Self {
        let nonce = number.map(|_| nonce(process, attempt));
        let deadline = BOOT + deadline * MS;
        self.say(
            process,
            attempt,
            at,
            EventKind::Granted { deadline, fencing_number: number, nonce, spare_nodes: self.margin },
        )
    }

    /// Waits from 10 ms before, is granted at `at`, and has sent its request 10 ms before that as well.
    pub fn take(&mut self, process: u32, attempt: u32, at: u64, number: Option<u64>) -> &mut Self {
        self.waits(process, attempt, at - 10).granted(process, attempt, at, at - 10 + 988, number)
    }

    pub fn hold(&mut self, process: u32, attempt: u32, from: u64, to: u64, number: Option<u64>) -> &mut Self {
        self.take(process, attempt, from, number).release(process, attempt, to)
    }

    /// An attempt that began at `began` and was granted only at `from`.
    pub fn slow(
        &mut self,
        process: u32,
        attempt: u32,
        began: u64,
        from: u64,
        to: u64,
        number: Option<u64>,
    ) -> &mut Self {
        self.waits(process, attempt, began).granted(process, attempt, from, began + 988, number);
        self.release(process, attempt, to)
    }

    pub fn look(&mut self, process: u32, attempt: u32, at: u64, deadline: u64) -> &mut Self {
        let (valid, margin) = (true, self.margin);
        self.say(
            process,
            attempt,
            at,
            EventKind::Validated { valid, deadline: BOOT + deadline * MS, spare_nodes: margin },
        )
    }

    pub fn invalid(&mut self, process: u32, attempt: u32, at: u64) -> &mut Self {
        self.say(
            process,
            attempt,
            at,
            EventKind::Validated { valid: false, deadline: BOOT + at * MS, spare_nodes: 0 },
        )
    }

    pub fn lost(&mut self, process: u32, attempt: u32, at: u64) -> &mut Self {
        self.say(process, attempt, at, EventKind::Lost { reason: "no renewal got through".to_owned() })
    }

    pub fn release(&mut self, process: u32, attempt: u32, at: u64) -> &mut Self {
        self.say(process, attempt, at, EventKind::Releasing);
        self.say(process, attempt, at + 1, EventKind::Released { confirmed: true })
    }

    pub fn write(
        &mut self,
        process: u32,
        attempt: u32,
        at: u64,
        place: u64,
        number: Option<u64>,
        accepted: bool,
    ) -> &mut Self {
        let nonce = number.map(|_| nonce(process, attempt));
        let what = EventKind::Wrote {
            store: "ledger".to_owned(),
            position: place,
            fencing_number: number,
            nonce,
            accepted,
        };
        self.say(process, attempt, at, what)
    }

    /// Applied when it is recorded, and ended when that is recorded.
    pub fn fault(
        &mut self,
        id: u64,
        kind: &str,
        nodes: &[usize],
        from: u64,
        to: u64,
        effects: &[Effect],
    ) -> &mut Self {
        self.fault_of_length(id, kind, nodes, (from, from), (to, to), effects)
    }

    /// Applied at some time of the first span, and ended at some time of the second.
    pub fn fault_of_length(
        &mut self,
        id: u64,
        kind: &str,
        nodes: &[usize],
        begins: (u64, u64),
        ends: (u64, u64),
        effects: &[Effect],
    ) -> &mut Self {
        let fault = Fault {
            id,
            kind: kind.to_owned(),
            nodes: nodes.to_vec(),
            side: self.side,
            processes: Vec::new(),
            effects: effects.to_vec(),
            detail: String::new(),
        };
        self.event(begins.0, Actor::Run, EventKind::Fault(fault)).event(
            begins.1,
            Actor::Run,
            EventKind::FaultApplied { fault: id },
        );
        self.event(ends.0, Actor::Run, EventKind::FaultEnding { fault: id }).event(
            ends.1,
            Actor::Run,
            EventKind::FaultEnded { fault: id },
        )
    }

    fn on_client(&mut self, kind: &str, process: u32, from: u64, effect: Effect) -> u64 {
        let id = self.next_fault;
        self.next_fault += 1;
        let (nodes, processes, effects) = (Vec::new(), vec![process], vec![effect]);
        let fault =
            Fault { id, kind: kind.to_owned(), nodes, side: None, processes, effects, detail: String::new() };
        self.event(from, Actor::Run, EventKind::Fault(fault));
        id
    }

    pub fn kill(&mut self, process: u32, at: u64) -> &mut Self {
        self.on_client("kill client", process, at, Effect::Down);
        self.killed.insert(process);
        self
    }

    pub fn stop(&mut self, process: u32, from: u64, to: u64) -> &mut Self {
        let fault = self.on_client("stop client", process, from, Effect::Paused);
        self.event(to, Actor::Run, EventKind::FaultEnded { fault })
    }

    pub fn key_left(&mut self, at: u64, ttl_ms: i64) -> &mut Self {
        let key = self.key.clone();
        self.event(at, Actor::Run, EventKind::KeyLeft { node: 0, key, ttl_ms })
    }

    /// The run samples a node, which takes 2 ms, and sees the key: its owner and its fence.
    pub fn sample(&mut self, node: usize, at: u64, owner: Option<&str>, fence: Option<u64>) -> &mut Self {
        let seen = KeySample { owner: owner.map(str::to_owned), fence };
        let keys = BTreeMap::from([(self.key.clone(), seen)]);
        self.event(at, Actor::Run, EventKind::Sampled { node, requested_at: BOOT + (at - 2) * MS, keys })
    }

    pub fn history(&self) -> History {
        let mut events =
            vec![Event { at: BOOT, actor: Actor::Run, kind: EventKind::Settings(self.settings.clone()) }];
        events.extend(self.events.iter().cloned());
        let end = events.iter().map(|event| event.at).max().unwrap_or(BOOT) + MS;
        let clients: BTreeSet<(u32, u32)> = events
            .iter()
            .filter_map(|event| match event.actor {
                Actor::Client { process, task, .. } => Some((process, task)),
                Actor::Run => None,
            })
            .collect();
        for (process, task) in clients {
            if !self.silent.contains(&process) && !self.killed.contains(&process) {
                let who = Actor::Client { process, task, attempt: u32::MAX };
                events.push(Event { at: end, actor: who, kind: EventKind::Finished });
            }
        }
        events.push(Event { at: end, actor: Actor::Run, kind: EventKind::Finished });
        History::new(events)
    }
}

fn nonce(process: u32, attempt: u32) -> String {
    format!("{process:08x}{attempt:08x}")
}
