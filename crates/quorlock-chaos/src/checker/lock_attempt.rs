//! What became of each try for a lock.

use std::collections::HashMap;

use super::{Span, World};
use crate::history::{Actor, Event, EventKind, History, LockKind};

/// One try for a lock, from asking to the end of what it was given.
pub(crate) struct LockAttempt<'a> {
    pub(crate) process: u32,
    pub(crate) task: u32,
    pub(crate) keys: &'a [String],
    pub(crate) kind: LockKind,
    pub(crate) ttl_ms: u64,
    pub(crate) wait_ms: u64,
    /// When it began to wait.
    pub(crate) waiting: u64,
    pub(crate) grant: Option<Grant<'a>>,
    /// When it was refused, walked away before it was granted, or failed.
    pub(crate) refused: Option<u64>,
    /// When it began to give the lock up, and when that was answered.
    pub(crate) releasing: Option<u64>,
    pub(crate) released: Option<u64>,
    pub(crate) lost: Option<u64>,
    /// When it was first found invalid.
    pub(crate) invalid: Option<u64>,
    pub(crate) abandoned: bool,
    /// All of its events, as places in the history.
    pub(crate) places: Vec<usize>,
    pub(crate) events: Vec<&'a Event>,
    /// When its process was killed.
    pub(crate) killed: Option<u64>,
}

/// What it was given.
pub(crate) struct Grant<'a> {
    pub(crate) at: u64,
    /// Its place in the history.
    pub(crate) place: usize,
    /// Not after the first byte of the request that brought it.
    pub(crate) began: u64,
    pub(crate) number: Option<u64>,
    pub(crate) nonce: Option<&'a str>,
    /// The deadlines and margins that it was known to have, and since when it was known.
    pub(crate) terms: Vec<(u64, u64, i32)>,
}

/// All tries of the history that begin as they should; [`record`](super::record) tells of the others.
pub(crate) fn lock_attempts<'a>(history: &'a History, world: &World<'_>) -> Vec<LockAttempt<'a>> {
    let mut turns: Vec<LockAttempt<'a>> = Vec::new();
    let mut open: HashMap<Actor, usize> = HashMap::new();
    for (place, event) in history.events().iter().enumerate() {
        let Actor::Client { process, task, .. } = event.actor else { continue };
        if let EventKind::Waiting { keys, kind, ttl_ms, wait_ms } = &event.kind {
            open.entry(event.actor).or_insert(turns.len());
            turns.push(LockAttempt {
                process,
                task,
                keys,
                kind: *kind,
                ttl_ms: *ttl_ms,
                wait_ms: *wait_ms,
                waiting: event.at,
                grant: None,
                refused: None,
                releasing: None,
                released: None,
                lost: None,
                invalid: None,
                abandoned: false,
                places: vec![place],
                events: vec![event],
                killed: world.killed(process),
            });
        } else if let Some(turn) = open.get(&event.actor) {
            turns[*turn].add(place, event, world);
        }
    }
    turns
}

impl<'a> LockAttempt<'a> {
    fn add(&mut self, place: usize, event: &'a Event, world: &World<'_>) {
        let at = event.at;
        self.places.push(place);
        self.events.push(event);
        match &event.kind {
            EventKind::Granted { deadline, number, nonce, margin } if self.grant.is_none() => {
                let began = deadline.saturating_sub(world.validity(self.ttl_ms));
                self.grant = Some(Grant {
                    at,
                    place,
                    // A deadline that lies too far ahead (which is a finding of its own) tells nothing of the beginning.
                    began: if began <= at { began.max(self.waiting) } else { self.waiting },
                    number: *number,
                    nonce: nonce.as_deref(),
                    terms: vec![(at, *deadline, *margin)],
                });
            }
            EventKind::Looked { valid: true, deadline, margin } => {
                if let Some(grant) = &mut self.grant {
                    grant.terms.push((at, *deadline, *margin));
                }
            }
            EventKind::Looked { valid: false, .. } => _ = self.invalid.get_or_insert(at),
            EventKind::Lost { .. } => _ = self.lost.get_or_insert(at),
            EventKind::Releasing => _ = self.releasing.get_or_insert(at),
            EventKind::Released { .. } => _ = self.released.get_or_insert(at),
            EventKind::Refused { .. } => _ = self.refused.get_or_insert(at),
            EventKind::Abandoned | EventKind::Errored { .. } | EventKind::Panicked { .. } => {
                self.abandoned = true;
                let end = if self.grant.is_some() { &mut self.releasing } else { &mut self.refused };
                end.get_or_insert(at);
            }
            _ => {}
        }
    }

    /// Its last deadline.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.grant.as_ref()?.terms.iter().map(|(_, deadline, _)| *deadline).max()
    }

    /// While it believed to hold the lock: from the grant until it gave it up, was told of the loss, was killed, or the
    /// deadline came.
    pub(crate) fn believed(&self) -> Option<Span> {
        let grant = self.grant.as_ref()?;
        let ends = [self.deadline(), self.releasing, self.lost, self.invalid, self.killed];
        let to = ends.into_iter().flatten().min()?;
        (grant.at < to).then_some(Span { from: grant.at, to })
    }

    /// While it waited.
    pub(crate) fn waited(&self, world: &World<'_>) -> Span {
        let granted = self.grant.as_ref().map(|grant| grant.at);
        let ends = [granted, self.refused, self.killed];
        Span { from: self.waiting, to: ends.into_iter().flatten().min().unwrap_or(world.to) }
    }

    /// Who, for people.
    pub(crate) fn name(&self) -> String {
        format!("client {}.{}", self.process, self.task)
    }

    /// Whether it and another may not hold this at once. How many permits are out is counted elsewhere.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        !matches!(
            (self.kind, other.kind),
            (LockKind::Read, LockKind::Read) | (LockKind::Permit { .. }, LockKind::Permit { .. })
        )
    }
}
