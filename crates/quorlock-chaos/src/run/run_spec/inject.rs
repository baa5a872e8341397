//! Injects the planned faults into the nodes and clients of a run.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use super::super::timing::{BETWEEN_EXCHANGES, BLOCK_SLACK, TARGET_PAUSE, TARGET_TRIES};
use super::RunState;
use crate::faults::{Injection, InjectionError, PlannedFault};
use crate::history::EventKind;
use crate::workload::ClientCommand;

impl RunState<'_> {
    pub(super) fn inject(&self, planned: &PlannedFault) {
        let done = match planned.injection {
            Injection::ClientStop { .. } | Injection::ClientKill { .. } | Injection::BlockRuntime { .. } => {
                self.inject_into_client(planned)
            }
            _ => self.inject_into_nodes(planned),
        };
        if let Err(error) = done {
            self.log.record_error(format!("{}: {error}", planned.injection.kind()));
        }
    }

    pub(super) fn inject_into_nodes(&self, planned: &PlannedFault) -> Result<(), InjectionError> {
        let PlannedFault { injection, nodes, duration, .. } = planned;
        // A fault that would still be too much after a wait is left out.
        let Some(_reservation) = self.limits.reserve(injection.kind(), nodes, &self.stop) else {
            return Ok(());
        };
        let fault = self.log.record_fault(*injection, nodes, &[]);
        let (remaining, end_recorded) = (AtomicUsize::new(nodes.len()), Once::new());
        let outcome = on_each_node(nodes, |node| {
            let _reservation = self.nodes.reserve(node, *injection);
            let mut prepared = self.nodes.prepare(node, *injection)?;
            self.nodes.begin(node, *injection, *duration, &mut prepared)?;
            if remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.log.record(EventKind::FaultApplied { fault });
            }
            // The exchanges of a reconfiguration take most of its duration.
            let is_reconfiguration = matches!(injection, Injection::Reconfiguration { .. });
            self.stop.sleep(if is_reconfiguration { BETWEEN_EXCHANGES } else { *duration });
            // Recorded once, before the fault ends on the first node; the other threads wait for that.
            end_recorded.call_once(|| self.log.record(EventKind::FaultEnding { fault }));
            self.nodes.end(node, *injection, prepared)
        });
        self.log.record_fault_end(fault);
        outcome
    }

    pub(super) fn inject_into_client(&self, planned: &PlannedFault) -> Result<(), InjectionError> {
        // If no client holds or waits for a lock now, try again for 0.3 s; then skip the fault.
        let mut found = self.target(planned.injection);
        for _ in 0..TARGET_TRIES {
            if found.is_some() {
                break;
            }
            self.stop.sleep(TARGET_PAUSE);
            found = self.target(planned.injection);
        }
        let Some(process) = found else { return Ok(()) };
        let record = || self.log.record_fault(planned.injection, &[], &[process]);
        match planned.injection {
            Injection::ClientKill { .. } => {
                // The client is stopped before the kill is recorded, so that its events are all from before
                // the kill.
                self.clients.signal(process, Signal::STOP)?;
                record();
                self.clients.kill(process);
                self.start_client()?;
            }
            Injection::BlockRuntime { .. } => {
                let fault = record();
                self.clients
                    .send(process, &ClientCommand::Block { millis: planned.duration.as_millis() as u64 })?;
                self.stop.sleep(planned.duration + BLOCK_SLACK);
                self.log.record_fault_end(fault);
            }
            _ => {
                let fault = record();
                self.clients.signal(process, Signal::STOP)?;
                self.stop.sleep(planned.duration);
                self.clients.signal(process, Signal::CONT)?;
                self.log.record_fault_end(fault);
            }
        }
        self.clients.unreserve(process);
        Ok(())
    }

    /// Reserves a client that holds a lock, or waits for one, as the fault requires.
    pub(super) fn target(&self, injection: Injection) -> Option<u32> {
        match injection {
            Injection::ClientKill { draw, is_holder: false } => {
                self.clients.reserve(&self.log.waiters(), draw)
            }
            Injection::ClientStop { draw }
            | Injection::ClientKill { draw, .. }
            | Injection::BlockRuntime { draw } => self.clients.reserve(&self.log.holders(), draw),
            _ => None,
        }
    }
}

/// Runs an action for each of these nodes, in parallel. Returns the first error, if any.
fn on_each_node(
    nodes: &[usize],
    action: impl Fn(usize) -> Result<(), InjectionError> + Sync,
) -> Result<(), InjectionError> {
    thread::scope(|scope| {
        let threads: Vec<_> = nodes.iter().map(|node| scope.spawn(|| action(*node))).collect();
        // All of them are joined before the first error is returned.
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        outcomes.into_iter().collect()
    })
}
