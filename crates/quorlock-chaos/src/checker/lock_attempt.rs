//! Lock attempts: groups the events of a history by attempt.

use std::collections::HashMap;

use super::{RunFacts, Span};
use crate::history::{Actor, Event, EventKind, History, LockKind};

/// One attempt to acquire a lock, from the request to the end of the lease.
pub(crate) struct LockAttempt<'a> {
    pub(crate) process: u32,
    pub(crate) task: u32,
    pub(crate) keys: &'a [String],
    pub(crate) kind: LockKind,
    pub(crate) ttl_ms: u64,
    pub(crate) wait_ms: u64,
    /// When the request began.
    pub(crate) waiting_since: u64,
    pub(crate) grant: Option<Grant<'a>>,
    /// When the attempt failed or was cancelled before the grant.
    pub(crate) failed_at: Option<u64>,
    /// When the release began.
    pub(crate) releasing_at: Option<u64>,
    /// When the release was complete.
    pub(crate) released_at: Option<u64>,
    /// When the loss signal came.
    pub(crate) lost_at: Option<u64>,
    /// When the client first found the lock invalid.
    pub(crate) found_invalid_at: Option<u64>,
    /// Whether it ended by cancellation, an unexpected error or a panic.
    pub(crate) cancelled: bool,
    /// Positions of all its events in the history.
    pub(crate) event_indexes: Vec<usize>,
    pub(crate) events: Vec<&'a Event>,
    /// When its process was killed.
    pub(crate) killed_at: Option<u64>,
}

/// The grant of an attempt.
pub(crate) struct Grant<'a> {
    pub(crate) at: u64,
    /// Its position in the history.
    pub(crate) event_index: usize,
    /// A lower bound for when the first byte of the granting request was sent.
    pub(crate) earliest_request: u64,
    pub(crate) fencing_number: Option<u64>,
    pub(crate) nonce: Option<&'a str>,
    /// The known deadlines and spare nodes, each with the time from which it was known.
    pub(crate) deadlines: Vec<(u64, u64, i32)>,
}

/// All attempts of the history that begin correctly; [`record`](super::record) reports the others.
pub(crate) fn lock_attempts<'a>(history: &'a History, facts: &RunFacts<'_>) -> Vec<LockAttempt<'a>> {
    let mut attempts: Vec<LockAttempt<'a>> = Vec::new();
    let mut open: HashMap<Actor, usize> = HashMap::new();
    for (index, event) in history.events().iter().enumerate() {
        let Actor::Client { process, task, .. } = event.actor else { continue };
        if let EventKind::Waiting { keys, kind, ttl_ms, wait_ms } = &event.kind {
            open.entry(event.actor).or_insert(attempts.len());
            attempts.push(LockAttempt {
                process,
                task,
                keys,
                kind: *kind,
                ttl_ms: *ttl_ms,
                wait_ms: *wait_ms,
                waiting_since: event.at,
                grant: None,
                failed_at: None,
                releasing_at: None,
                released_at: None,
                lost_at: None,
                found_invalid_at: None,
                cancelled: false,
                event_indexes: vec![index],
                events: vec![event],
                killed_at: facts.killed_at(process),
            });
        } else if let Some(attempt) = open.get(&event.actor) {
            attempts[*attempt].add(index, event, facts);
        }
    }
    attempts
}

impl<'a> LockAttempt<'a> {
    fn add(&mut self, index: usize, event: &'a Event, facts: &RunFacts<'_>) {
        let at = event.at;
        self.event_indexes.push(index);
        self.events.push(event);
        match &event.kind {
            EventKind::Granted { deadline, fencing_number, nonce, spare_nodes } if self.grant.is_none() => {
                let began = deadline.saturating_sub(facts.validity(self.ttl_ms));
                self.grant = Some(Grant {
                    at,
                    event_index: index,
                    // A deadline that is too far ahead is a violation of its own; it does not date the
                    // request.
                    earliest_request: if began <= at {
                        began.max(self.waiting_since)
                    } else {
                        self.waiting_since
                    },
                    fencing_number: *fencing_number,
                    nonce: nonce.as_deref(),
                    deadlines: vec![(at, *deadline, *spare_nodes)],
                });
            }
            EventKind::Validated { valid: true, deadline, spare_nodes } => {
                if let Some(grant) = &mut self.grant {
                    grant.deadlines.push((at, *deadline, *spare_nodes));
                }
            }
            EventKind::Validated { valid: false, .. } => _ = self.found_invalid_at.get_or_insert(at),
            EventKind::Lost { .. } => _ = self.lost_at.get_or_insert(at),
            EventKind::Releasing => _ = self.releasing_at.get_or_insert(at),
            EventKind::Released { .. } => _ = self.released_at.get_or_insert(at),
            EventKind::Failed { .. } => _ = self.failed_at.get_or_insert(at),
            EventKind::Cancelled | EventKind::UnexpectedError { .. } | EventKind::Panicked { .. } => {
                self.cancelled = true;
                let end = if self.grant.is_some() { &mut self.releasing_at } else { &mut self.failed_at };
                end.get_or_insert(at);
            }
            _ => {}
        }
    }

    /// The last deadline.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.grant.as_ref()?.deadlines.iter().map(|(_, deadline, _)| *deadline).max()
    }

    /// The time in which the client believed that it held the lock: from the grant to the release, the loss
    /// signal, the kill or the deadline.
    pub(crate) fn held_span(&self) -> Option<Span> {
        let grant = self.grant.as_ref()?;
        let ends = [self.deadline(), self.releasing_at, self.lost_at, self.found_invalid_at, self.killed_at];
        let to = ends.into_iter().flatten().min()?;
        (grant.at < to).then_some(Span { from: grant.at, to })
    }

    /// The time from the request to the grant, the failure or the kill.
    pub(crate) fn wait_span(&self, facts: &RunFacts<'_>) -> Span {
        let granted = self.grant.as_ref().map(|grant| grant.at);
        let ends = [granted, self.failed_at, self.killed_at];
        Span { from: self.waiting_since, to: ends.into_iter().flatten().min().unwrap_or(facts.to) }
    }

    /// The client's name in messages.
    pub(crate) fn name(&self) -> String {
        format!("client {}.{}", self.process, self.task)
    }

    /// Whether the two locks exclude each other. The number of permits is checked separately.
    pub(crate) fn conflicts_with(&self, other: &Self) -> bool {
        !matches!(
            (self.kind, other.kind),
            (LockKind::Read, LockKind::Read) | (LockKind::Permit { .. }, LockKind::Permit { .. })
        )
    }
}
