//! All that is told in a run, as it is told, and what it says of the moment.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::faults::Injection;
use crate::history::{Actor, Event, EventKind, Fault, History};

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    told: Mutex<Recorded>,
}

#[derive(Debug, Default)]
struct Recorded {
    events: Vec<Event>,
    /// Process and task of those who hold a lock, and of those who wait for one.
    holding: HashSet<(u32, u32)>,
    waiting: HashSet<(u32, u32)>,
    acquisitions: usize,
    faults: u64,
    last_fault: String,
    /// Clients are ending: what they leave is no fault of ours.
    is_ending: bool,
}

impl Log {
    /// The run tells something, now.
    pub(super) fn tell(&self, what: EventKind) {
        self.told().events.push(Event::now(Actor::Run, what));
    }

    /// Something went wrong that the run had not planned for.
    pub(super) fn trouble(&self, words: String) {
        self.tell(EventKind::Errored { words });
    }

    /// The run breaks something; gives back the number of the fault.
    pub(super) fn fault(&self, act: Injection, nodes: &[usize], processes: &[u32]) -> u64 {
        self.told().fault(Fault {
            id: 0,
            kind: act.kind().name().to_owned(),
            nodes: nodes.to_vec(),
            side: act.side(),
            processes: processes.to_vec(),
            effects: act.effects(),
            detail: act.to_string(),
        })
    }

    pub(super) fn healed(&self, fault: u64) {
        self.tell(EventKind::FaultEnded { fault });
    }

    /// A client told this.
    pub(super) fn hear(&self, event: Event) {
        let mut told = self.told();
        if let Actor::Client { process, task, .. } = event.actor {
            let who = (process, task);
            match &event.kind {
                EventKind::Waiting { .. } => _ = told.waiting.insert(who),
                EventKind::Granted { .. } => {
                    told.acquisitions += 1;
                    told.waiting.remove(&who);
                    told.holding.insert(who);
                }
                EventKind::Abandoned if !told.is_ending => {
                    told.forget(who);
                    // It is the client's doing, and the run's fault: it asked for it.
                    let fault = told.fault(Fault {
                        id: 0,
                        kind: CANCEL.to_owned(),
                        nodes: Vec::new(),
                        side: None,
                        processes: vec![process],
                        effects: Vec::new(),
                        detail: String::new(),
                    });
                    told.events.push(Event::now(Actor::Run, EventKind::FaultEnded { fault }));
                }
                EventKind::Refused { .. }
                | EventKind::Abandoned
                | EventKind::Lost { .. }
                | EventKind::Releasing
                | EventKind::Finished => {
                    told.forget(who);
                }
                _ => {}
            }
        }
        told.events.push(event);
    }

    /// Nothing more is heard of that process.
    pub(super) fn gone(&self, process: u32) {
        let mut told = self.told();
        told.holding.retain(|(other, _)| *other != process);
        told.waiting.retain(|(other, _)| *other != process);
    }

    pub(super) fn end_begins(&self) {
        self.told().is_ending = true;
    }

    /// Processes of which a task holds a lock, each once, in order.
    pub(super) fn holders(&self) -> Vec<u32> {
        once(&self.told().holding)
    }

    /// Processes of which no task holds a lock, and some wait.
    pub(super) fn waiters(&self) -> Vec<u32> {
        let told = self.told();
        let mut waiters = once(&told.waiting);
        waiters.retain(|process| !told.holding.iter().any(|(other, _)| other == process));
        waiters
    }

    pub(super) fn acquisitions(&self) -> usize {
        self.told().acquisitions
    }

    /// How many, and what was the last.
    pub(super) fn faults(&self) -> (usize, String) {
        let told = self.told();
        (told.faults as usize, told.last_fault.clone())
    }

    pub(super) fn history(&self) -> History {
        History::new(std::mem::take(&mut self.told().events))
    }

    fn told(&self) -> MutexGuard<'_, Recorded> {
        // Nothing in here panics half-way.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorded {
    /// Tells of this fault under the next number.
    fn fault(&mut self, fault: Fault) -> u64 {
        let id = self.faults;
        self.faults += 1;
        if fault.kind != CANCEL {
            self.last_fault.clone_from(&fault.kind);
        }
        self.events.push(Event::now(Actor::Run, EventKind::Fault(Fault { id, ..fault })));
        id
    }

    fn forget(&mut self, who: (u32, u32)) {
        self.holding.remove(&who);
        self.waiting.remove(&who);
    }
}

fn once(who: &HashSet<(u32, u32)>) -> Vec<u32> {
    let mut processes: Vec<u32> = who.iter().map(|(process, _)| *process).collect();
    processes.sort_unstable();
    processes.dedup();
    processes
}

/// What clients do by themselves, which is nothing to show while they run.
const CANCEL: &str = "cancel";
