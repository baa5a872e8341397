//! The event log of a run: all events so far, and which clients hold a lock or wait for one.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::faults::Injection;
use crate::history::{Actor, Event, EventKind, Fault, History};

/// Records events, from any thread.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    /// The process and task of each client task that holds a lock.
    holding: HashSet<(u32, u32)>,
    /// The process and task of each client task that waits for a lock.
    waiting: HashSet<(u32, u32)>,
    acquisitions: usize,
    faults: u64,
    last_fault: String,
    /// Whether clients are ending, so that dropped futures are no faults.
    is_shutting_down: bool,
}

impl EventLog {
    /// Records an event of the run, at the current time.
    pub(super) fn record(&self, kind: EventKind) {
        self.state().events.push(Event::now(Actor::Run, kind));
    }

    /// Records an unexpected error of the run.
    pub(super) fn record_error(&self, message: String) {
        self.record(EventKind::UnexpectedError { message });
    }

    /// Records a fault and returns its id.
    pub(super) fn record_fault(&self, injection: Injection, nodes: &[usize], processes: &[u32]) -> u64 {
        self.state().record_fault(Fault {
            id: 0,
            kind: injection.kind().name().to_owned(),
            nodes: nodes.to_vec(),
            side: injection.side(),
            processes: processes.to_vec(),
            effects: injection.effects(),
            detail: injection.to_string(),
        })
    }

    pub(super) fn record_fault_end(&self, fault: u64) {
        self.record(EventKind::FaultEnded { fault });
    }

    /// Records a client's event.
    pub(super) fn record_client_event(&self, event: Event) {
        let mut state = self.state();
        if let Actor::Client { process, task, .. } = event.actor {
            let client = (process, task);
            match &event.kind {
                EventKind::Waiting { .. } => _ = state.waiting.insert(client),
                EventKind::Granted { .. } => {
                    state.acquisitions += 1;
                    state.waiting.remove(&client);
                    state.holding.insert(client);
                }
                EventKind::Cancelled if !state.is_shutting_down => {
                    state.forget(client);
                    // The run made its clients drop futures, so it is recorded as a fault of the run.
                    let fault = state.record_fault(Fault {
                        id: 0,
                        kind: CANCEL.to_owned(),
                        nodes: Vec::new(),
                        side: None,
                        processes: vec![process],
                        effects: Vec::new(),
                        detail: String::new(),
                    });
                    state.events.push(Event::now(Actor::Run, EventKind::FaultEnded { fault }));
                }
                EventKind::Failed { .. }
                | EventKind::Cancelled
                | EventKind::Lost { .. }
                | EventKind::Releasing
                | EventKind::Finished => {
                    state.forget(client);
                }
                _ => {}
            }
        }
        state.events.push(event);
    }

    /// Forgets the tasks of a process that has ended.
    pub(super) fn client_ended(&self, process: u32) {
        let mut state = self.state();
        state.holding.retain(|(other, _)| *other != process);
        state.waiting.retain(|(other, _)| *other != process);
    }

    pub(super) fn begin_shutdown(&self) {
        self.state().is_shutting_down = true;
    }

    /// The processes with a task that holds a lock, ordered.
    pub(super) fn holders(&self) -> Vec<u32> {
        processes_of(&self.state().holding)
    }

    /// The processes with a task that waits for a lock, and no task that holds one, ordered.
    pub(super) fn waiters(&self) -> Vec<u32> {
        let state = self.state();
        let mut waiters = processes_of(&state.waiting);
        waiters.retain(|process| !state.holding.iter().any(|(other, _)| other == process));
        waiters
    }

    pub(super) fn acquisitions(&self) -> usize {
        self.state().acquisitions
    }

    /// The number of faults, and the kind of the last.
    pub(super) fn faults(&self) -> (usize, String) {
        let state = self.state();
        (state.faults as usize, state.last_fault.clone())
    }

    pub(super) fn history(&self) -> History {
        History::new(std::mem::take(&mut self.state().events))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds this mutex.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Records this fault with the next id.
    fn record_fault(&mut self, fault: Fault) -> u64 {
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

fn processes_of(tasks: &HashSet<(u32, u32)>) -> Vec<u32> {
    let mut processes: Vec<u32> = tasks.iter().map(|(process, _)| *process).collect();
    processes.sort_unstable();
    processes.dedup();
    processes
}

/// Too frequent to be shown as the last fault.
const CANCEL: &str = "cancel";
