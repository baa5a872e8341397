//! Builds synthetic histories for the tests of the checker. Times are milliseconds since the start of the
//! run.

#![allow(dead_code, unreachable_pub)] // Each test program uses only a part of this.

use std::collections::{BTreeMap, BTreeSet};

use quorlock_chaos::checker::{Invariant, Verdict, check_history};
use quorlock_chaos::history::{
    Actor, Effect, Event, EventKind, Fault, History, KeySample, LockKind, Settings,
};

pub const MS: u64 = 1_000_000;

/// The start of the run, on the boot clock.
pub const BOOT: u64 = 5_000_000 * MS;

pub const JUMP: [Effect; 1] = [Effect::ClockStep { micros: 5_000_000 }];
pub const WIPE: [Effect; 1] = [Effect::DataLoss { locks: true, fences: true }];

/// Asserts that exactly these invariants are violated, and exactly those are excused.
#[track_caller]
pub fn check(builder: &HistoryBuilder, violated: &[Invariant], excused: &[Invariant]) -> Verdict {
    let verdict = check_history(&builder.build());
    let mut found: Vec<Invariant> = verdict.violations.iter().map(|violation| violation.invariant).collect();
    found.dedup();
    assert_eq!(found, violated, "violations: {:#?}", verdict.violations);
    let found_excused: Vec<Invariant> = verdict.expected.iter().map(|case| case.invariant).collect();
    assert_eq!(found_excused, excused, "excused: {:#?}", verdict.expected);
    assert_eq!(verdict.passed(), violated.is_empty());
    verdict
}

/// Builds a history. The run, and each process that was not killed and is not `unfinished`, record their end.
#[derive(Clone)]
pub struct HistoryBuilder {
    pub settings: Settings,
    /// Processes that never record their end.
    pub unfinished: Vec<u32>,
    /// The spare nodes of each lock when it is granted.
    pub spare_nodes: i32,
    /// The side of the network that faults of nodes hit; both if `None`.
    pub side: Option<u32>,
    events: Vec<Event>,
    key: String,
    kind: LockKind,
    task: u32,
    killed: BTreeSet<u32>,
    next_fault: u64,
}

/// Five nodes, a quorum of three, probation of 2 s, and locks on `orders:42` with a ttl of 1 s.
pub fn builder() -> HistoryBuilder {
    HistoryBuilder {
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
        unfinished: Vec::new(),
        spare_nodes: 1,
        side: None,
        events: Vec::new(),
        key: "orders:42".to_owned(),
        kind: LockKind::Mutex,
        task: 0,
        killed: BTreeSet::new(),
        next_fault: 1_000_000,
    }
}

impl HistoryBuilder {
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

    pub fn event(&mut self, at: u64, actor: Actor, kind: EventKind) -> &mut Self {
        self.events.push(Event { at: BOOT + at * MS, actor, kind });
        self
    }

    pub fn client_event(&mut self, process: u32, attempt: u32, at: u64, kind: EventKind) -> &mut Self {
        self.event(at, Actor::Client { process, task: self.task, attempt }, kind)
    }

    pub fn waiting(&mut self, process: u32, attempt: u32, at: u64) -> &mut Self {
        let kind = EventKind::Waiting {
            keys: vec![self.key.clone()],
            kind: self.kind,
            ttl_ms: 1_000,
            wait_ms: 10_000,
        };
        self.client_event(process, attempt, at, kind)
    }

    pub fn granted(
        &mut self,
        process: u32,
        attempt: u32,
        at: u64,
        deadline: u64,
        fencing_number: Option<u64>,
    ) -> &mut Self {
        let nonce = fencing_number.map(|_| nonce(process, attempt));
        let deadline = BOOT + deadline * MS;
        self.client_event(
            process,
            attempt,
            at,
            EventKind::Granted { deadline, fencing_number, nonce, spare_nodes: self.spare_nodes },
        )
    }

    /// Requests the lock 10 ms before `at`, and is granted it at `at`.
    pub fn acquire(&mut self, process: u32, attempt: u32, at: u64, fencing_number: Option<u64>) -> &mut Self {
        self.waiting(process, attempt, at - 10).granted(process, attempt, at, at - 10 + 988, fencing_number)
    }

    pub fn hold(
        &mut self,
        process: u32,
        attempt: u32,
        from: u64,
        to: u64,
        fencing_number: Option<u64>,
    ) -> &mut Self {
        self.acquire(process, attempt, from, fencing_number).release(process, attempt, to)
    }

    /// An attempt that began at `requested_at`, was granted at `from`, and released at `to`.
    pub fn hold_after_slow_grant(
        &mut self,
        process: u32,
        attempt: u32,
        requested_at: u64,
        from: u64,
        to: u64,
        fencing_number: Option<u64>,
    ) -> &mut Self {
        self.waiting(process, attempt, requested_at).granted(
            process,
            attempt,
            from,
            requested_at + 988,
            fencing_number,
        );
        self.release(process, attempt, to)
    }

    pub fn validated(&mut self, process: u32, attempt: u32, at: u64, deadline: u64) -> &mut Self {
        let (valid, spare_nodes) = (true, self.spare_nodes);
        self.client_event(
            process,
            attempt,
            at,
            EventKind::Validated { valid, deadline: BOOT + deadline * MS, spare_nodes },
        )
    }

    pub fn found_invalid(&mut self, process: u32, attempt: u32, at: u64) -> &mut Self {
        self.client_event(
            process,
            attempt,
            at,
            EventKind::Validated { valid: false, deadline: BOOT + at * MS, spare_nodes: 0 },
        )
    }

    pub fn lost(&mut self, process: u32, attempt: u32, at: u64) -> &mut Self {
        self.client_event(
            process,
            attempt,
            at,
            EventKind::Lost { reason: "no renewal got through".to_owned() },
        )
    }

    pub fn release(&mut self, process: u32, attempt: u32, at: u64) -> &mut Self {
        self.client_event(process, attempt, at, EventKind::Releasing);
        self.client_event(process, attempt, at + 1, EventKind::Released { confirmed: true })
    }

    pub fn write(
        &mut self,
        process: u32,
        attempt: u32,
        at: u64,
        position: u64,
        fencing_number: Option<u64>,
        accepted: bool,
    ) -> &mut Self {
        let nonce = fencing_number.map(|_| nonce(process, attempt));
        let kind = EventKind::Wrote { store: "ledger".to_owned(), position, fencing_number, nonce, accepted };
        self.client_event(process, attempt, at, kind)
    }

    /// A fault that is applied at `from` and ends at `to`.
    pub fn fault(
        &mut self,
        id: u64,
        kind: &str,
        nodes: &[usize],
        from: u64,
        to: u64,
        effects: &[Effect],
    ) -> &mut Self {
        self.fault_with_spans(id, kind, nodes, (from, from), (to, to), effects)
    }

    /// A fault that is applied at some time of the first span, and ends at some time of the second.
    pub fn fault_with_spans(
        &mut self,
        id: u64,
        kind: &str,
        nodes: &[usize],
        applied: (u64, u64),
        ended: (u64, u64),
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
        self.event(applied.0, Actor::Run, EventKind::Fault(fault)).event(
            applied.1,
            Actor::Run,
            EventKind::FaultApplied { fault: id },
        );
        self.event(ended.0, Actor::Run, EventKind::FaultEnding { fault: id }).event(
            ended.1,
            Actor::Run,
            EventKind::FaultEnded { fault: id },
        )
    }

    fn client_fault(&mut self, kind: &str, process: u32, from: u64, effect: Effect) -> u64 {
        let id = self.next_fault;
        self.next_fault += 1;
        let (nodes, processes, effects) = (Vec::new(), vec![process], vec![effect]);
        let fault =
            Fault { id, kind: kind.to_owned(), nodes, side: None, processes, effects, detail: String::new() };
        self.event(from, Actor::Run, EventKind::Fault(fault));
        id
    }

    pub fn kill(&mut self, process: u32, at: u64) -> &mut Self {
        self.client_fault("kill client", process, at, Effect::Down);
        self.killed.insert(process);
        self
    }

    pub fn stop(&mut self, process: u32, from: u64, to: u64) -> &mut Self {
        let fault = self.client_fault("stop client", process, from, Effect::Paused);
        self.event(to, Actor::Run, EventKind::FaultEnded { fault })
    }

    pub fn key_left(&mut self, at: u64, ttl_ms: i64) -> &mut Self {
        let key = self.key.clone();
        self.event(at, Actor::Run, EventKind::KeyLeft { node: 0, key, ttl_ms })
    }

    /// The run samples the key's owner and fence on a node, which takes 2 ms.
    pub fn sample(&mut self, node: usize, at: u64, owner: Option<&str>, fence: Option<u64>) -> &mut Self {
        let sample = KeySample { owner: owner.map(str::to_owned), fence };
        let keys = BTreeMap::from([(self.key.clone(), sample)]);
        self.event(at, Actor::Run, EventKind::Sampled { node, requested_at: BOOT + (at - 2) * MS, keys })
    }

    pub fn build(&self) -> History {
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
            if !self.unfinished.contains(&process) && !self.killed.contains(&process) {
                let actor = Actor::Client { process, task, attempt: u32::MAX };
                events.push(Event { at: end, actor, kind: EventKind::Finished });
            }
        }
        events.push(Event { at: end, actor: Actor::Run, kind: EventKind::Finished });
        History::new(events)
    }
}

fn nonce(process: u32, attempt: u32) -> String {
    format!("{process:08x}{attempt:08x}")
}
