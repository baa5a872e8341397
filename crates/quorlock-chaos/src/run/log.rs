//! The log of a run: all events as they are recorded, and the current state that they imply.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::faults::Injection;
use crate::history::{Actor, Event, EventKind, Fault, History};

/// The events so far.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    recorded: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    /// Process and task of those clients that hold a lock, and of those that wait for one.
    holding: HashSet<(u32, u32)>,
    waiting: HashSet<(u32, u32)>,
    acquisitions: usize,
    faults: u64,
    last_fault: String,
    /// Clients are ending: dropped futures are no fault of the run now.
    is_shutting_down: bool,
}

impl EventLog {
    /// Records an event of the run, now.
    pub(super) fn record(&self, what: EventKind) {
        self.state().events.push(Event::now(Actor::Run, what));
    }

    /// Records an unexpected error of the run.
    pub(super) fn record_error(&self, words: String) {
        self.record(EventKind::UnexpectedError { message: words });
    }

    /// Records a fault; returns its number.
    pub(super) fn record_fault(&self, act: Injection, nodes: &[usize], processes: &[u32]) -> u64 {
        self.state().fault(Fault {
            id: 0,
            kind: act.kind().name().to_owned(),
            nodes: nodes.to_vec(),
            side: act.side(),
            processes: processes.to_vec(),
            effects: act.effects(),
            detail: act.to_string(),
        })
    }

    pub(super) fn record_fault_end(&self, fault: u64) {
        self.record(EventKind::FaultEnded { fault });
    }

    /// Records a client's event.
    pub(super) fn record_client_event(&self, event: Event) {
        let mut recorded = self.state();
        if let Actor::Client { process, task, .. } = event.actor {
            let who = (process, task);
            match &event.kind {
                EventKind::Waiting { .. } => _ = recorded.waiting.insert(who),
                EventKind::Granted { .. } => {
                    recorded.acquisitions += 1;
                    recorded.waiting.remove(&who);
                    recorded.holding.insert(who);
                }
                EventKind::Abandoned if !recorded.is_shutting_down => {
                    recorded.forget(who);
                    // The client did it, but on the run's request, so it is recorded as the run's fault.
                    let fault = recorded.fault(Fault {
                        id: 0,
                        kind: CANCEL.to_owned(),
                        nodes: Vec::new(),
                        side: None,
                        processes: vec![process],
                        effects: Vec::new(),
                        detail: String::new(),
                    });
                    recorded.events.push(Event::now(Actor::Run, EventKind::FaultEnded { fault }));
                }
                EventKind::Failed { .. }
                | EventKind::Abandoned
                | EventKind::Lost { .. }
                | EventKind::Releasing
                | EventKind::Finished => {
                    recorded.forget(who);
                }
                _ => {}
            }
        }
        recorded.events.push(event);
    }

    /// No more events come from that process.
    pub(super) fn client_ended(&self, process: u32) {
        let mut recorded = self.state();
        recorded.holding.retain(|(other, _)| *other != process);
        recorded.waiting.retain(|(other, _)| *other != process);
    }

    pub(super) fn begin_shutdown(&self) {
        self.state().is_shutting_down = true;
    }

    /// Processes of which a task holds a lock, each once, in order.
    pub(super) fn holders(&self) -> Vec<u32> {
        processes_of(&self.state().holding)
    }

    /// Processes of which no task holds a lock, and at least one waits.
    pub(super) fn waiters(&self) -> Vec<u32> {
        let recorded = self.state();
        let mut waiters = processes_of(&recorded.waiting);
        waiters.retain(|process| !recorded.holding.iter().any(|(other, _)| other == process));
        waiters
    }

    pub(super) fn acquisitions(&self) -> usize {
        self.state().acquisitions
    }

    /// How many faults there were, and the last.
    pub(super) fn faults(&self) -> (usize, String) {
        let recorded = self.state();
        (recorded.faults as usize, recorded.last_fault.clone())
    }

    pub(super) fn history(&self) -> History {
        History::new(std::mem::take(&mut self.state().events))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way.
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Records this fault under the next number.
    fn fault(&mut self, fault: Fault) -> u64 {
        let id = self.faults;
        self.faults += 1;
        if fault.kind != CANCEL {
            self.last_fault.clone_from(&fault.kind);
        }
        self.events.push(Event::now(Actor::Run, EventKind::Fault(Fault { id, ..fault })));
        id
    }

    fn forget(&mut self, client: (u32, u32)) {
        self.holding.remove(&client);
        self.waiting.remove(&client);
    }
}

fn processes_of(who: &HashSet<(u32, u32)>) -> Vec<u32> {
    let mut processes: Vec<u32> = who.iter().map(|(process, _)| *process).collect();
    processes.sort_unstable();
    processes.dedup();
    processes
}

/// Clients do this by themselves, so it is not shown as the last fault.
const CANCEL: &str = "cancel";
