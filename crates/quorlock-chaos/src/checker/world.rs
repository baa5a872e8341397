//! The fault log, indexed for queries: what was broken, and when.

use std::collections::{BTreeMap, BTreeSet};

use super::MS;
use crate::history::{Actor, Effect, Event, EventKind, Fault, History, Settings};

/// A span of time, its end excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A fault and its duration.
pub(crate) struct FaultWindow<'a> {
    pub(crate) fault: &'a Fault,
    /// Until the fault ended, or the end of the run.
    pub(crate) span: Span,
    pub(crate) has_ended: bool,
    /// By when it was fully applied.
    began_at: u64,
    /// When its end began.
    ending_at: u64,
}

/// The run's settings and faults.
pub(crate) struct World<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) fault_windows: Vec<FaultWindow<'a>>,
    /// When the machine gave a process no CPU time, by process.
    longest_waits: BTreeMap<u32, Vec<Span>>,
}

impl Span {
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// The intersection.
    pub(crate) fn intersection(self, other: Self) -> Option<Self> {
        let both = Self { from: self.from.max(other.from), to: self.to.min(other.to) };
        (both.from < both.to).then_some(both)
    }

    /// Whether something instantaneous that happened at some moment of `other` may have happened within this span.
    fn may_overlap(self, other: Self) -> bool {
        other.from <= self.to && self.from <= other.to
    }
}

impl<'a> World<'a> {
    pub(crate) fn of(history: &'a History) -> Option<Self> {
        let settings = history.settings()?;
        let events = history.events();
        let (from, to) = (events.first()?.at, events.last()?.at);
        let mut bouts: Vec<FaultWindow<'a>> = Vec::new();
        let mut kept_waiting: BTreeMap<u32, Vec<Span>> = BTreeMap::new();
        for Event { at, actor: who, kind: what } in events {
            match what {
                // Until a later event narrows it down, the fault may be applied, and end, at any time from now on.
                EventKind::Fault(fault) => {
                    let span = Span { from: *at, to };
                    bouts.push(FaultWindow { fault, span, has_ended: false, began_at: to, ending_at: *at });
                }
                EventKind::FaultApplied { fault } => {
                    fault_window(&mut bouts, *fault, |bout| bout.began_at = *at);
                }
                EventKind::FaultEnding { fault } => {
                    fault_window(&mut bouts, *fault, |bout| bout.ending_at = *at);
                }
                EventKind::FaultEnded { fault } => fault_window(&mut bouts, *fault, |bout| {
                    bout.span.to = *at;
                    bout.began_at = bout.began_at.min(*at);
                    bout.has_ended = true;
                }),
                EventKind::RuntimeStalled { millis } => {
                    if let Actor::Client { process, .. } = who {
                        let span = Span { from: at.saturating_sub(millis * MS), to: *at };
                        kept_waiting.entry(*process).or_default().push(span);
                    }
                }
                _ => {}
            }
        }
        Some(Self { settings, from, to, fault_windows: bouts, longest_waits: kept_waiting })
    }

    /// How long probation lasts, in nanoseconds.
    pub(crate) fn max_ttl(&self) -> u64 {
        self.settings.max_ttl_ms * MS
    }

    /// How long a node casts no vote when it may have lost data, in nanoseconds.
    pub(crate) fn probation(&self) -> u64 {
        if self.settings.fenced && self.settings.probation { self.max_ttl() } else { 0 }
    }

    /// How far ahead the deadline of a fresh lock may be. DESIGN: "deadline = start + ttl·(1 − ρ) − 2 ms".
    pub(crate) fn validity(&self, ttl_ms: u64) -> u64 {
        let ttl = ttl_ms * MS;
        let drift = ttl / 1_000_000 * u64::from(self.settings.drift_ppm);
        ttl.saturating_sub(drift).saturating_sub(2 * MS)
    }

    /// The least number of nodes that any two quorums share.
    pub(crate) fn shared(&self) -> usize {
        (2 * self.settings.quorum).saturating_sub(self.settings.nodes)
    }

    /// When that process was killed, if it was.
    pub(crate) fn killed(&self, process: u32) -> Option<u64> {
        let down = self.of_process(process, |effect| matches!(effect, Effect::Down));
        down.map(|bout| bout.span.from).min()
    }

    /// When that process stood still within `span`, because it was stopped or because it got no CPU time: ordered and
    /// disjoint.
    pub(crate) fn stops(&self, process: u32, span: Span) -> Vec<Span> {
        let stopped =
            self.of_process(process, |effect| matches!(effect, Effect::Paused)).map(|bout| bout.span);
        let waited = self.longest_waits.get(&process).into_iter().flatten().copied();
        let mut stops: Vec<Span> = stopped.chain(waited).filter_map(|stop| stop.intersection(span)).collect();
        stops.sort_by_key(|stop| stop.from);
        stops.dedup_by(|next, last| {
            let meets = next.from <= last.to;
            if meets {
                last.to = last.to.max(next.to);
            }
            meets
        });
        stops
    }

    /// How long that process stood still within `span`.
    pub(crate) fn stopped_nanos(&self, process: u32, span: Span) -> u64 {
        self.stops(process, span).iter().map(Span::len).sum()
    }

    /// The nodes that may have lost what `what` selects (locks, counters) within `span`. A fault is recorded before it
    /// is applied and ends later; it may have acted at any time in between.
    pub(crate) fn nodes_with_data_loss(&self, span: Span, what: fn(bool, bool) -> bool) -> BTreeSet<usize> {
        let forgot = |bout: &&FaultWindow<'_>| {
            let said = bout.fault.effects.iter();
            span.may_overlap(bout.span)
                && said.clone().any(
                    |effect| matches!(effect, Effect::DataLoss { locks, fences } if what(*locks, *fences)),
                )
        };
        self.fault_windows.iter().filter(forgot).flat_map(|bout| bout.fault.nodes.iter().copied()).collect()
    }

    /// The nodes whose clocks may have gained more within `span` than the deadline of a lock of `ttl_ms` leaves room
    /// for. Its key may be gone there while its client believes in the lock.
    pub(crate) fn nodes_with_clock_changes(&self, span: Span, ttl_ms: u64) -> BTreeSet<usize> {
        let room = ttl_ms * MS - self.validity(ttl_ms);
        let node_gained = |node: &usize| {
            let gains = self.of_node(*node).map(|bout| bout.gain(span, ttl_ms * MS));
            gains.sum::<u64>() > room
        };
        (0..self.settings.nodes).filter(node_gained).collect()
    }

    /// The largest error of any node's clock until `at`, in microseconds.
    pub(crate) fn clock_error(&self, at: u64) -> u64 {
        let error = |node: usize, at: u64| {
            self.of_node(node).map(|bout| bout.offset_micros(at)).sum::<i64>().unsigned_abs()
        };
        let until = || {
            self.fault_windows
                .iter()
                .flat_map(|bout| [bout.span.from, bout.span.to])
                .filter(|then| *then <= at)
        };
        let errors = (0..self.settings.nodes).flat_map(|node| {
            until().chain([at]).flat_map(move |then| [error(node, then), error(node, then.saturating_sub(1))])
        });
        errors.max().unwrap_or(0)
    }

    /// The largest step back of any node's clock within `span`, in microseconds.
    pub(crate) fn clock_setback(&self, span: Span) -> u64 {
        let backs = self
            .fault_windows
            .iter()
            .flat_map(FaultWindow::steps)
            .filter(|(when, _)| span.may_overlap(*when));
        backs.map(|(_, micros)| (-micros).max(0).unsigned_abs()).max().unwrap_or(0)
    }

    /// When a quorum of nodes could be reached.
    pub(crate) fn quorum_present(&self) -> Vec<Span> {
        self.quorum_spans(|bout, settings| {
            (bout.is_unavailable(settings) || bout.has_stale_key()).then_some(bout.span)
        })
    }

    /// When a quorum of nodes was reachable and voted. A node that may have lost data, or whose clock was changed, does
    /// not vote until the max ttl has passed.
    pub(crate) fn quorum_votes(&self) -> Vec<Span> {
        let probation = self.probation();
        self.quorum_spans(|bout, settings| {
            let Span { from, to } = bout.span;
            if bout.is_on_probation(settings) {
                Some(Span { from, to: to.saturating_add(probation) })
            } else {
                (bout.is_unavailable(settings) || bout.has_stale_key()).then_some(bout.span)
            }
        })
    }

    /// When stale keys were on some node: ordered and disjoint.
    pub(crate) fn stale_key_spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> =
            self.fault_windows.iter().filter(|bout| bout.has_stale_key()).map(|bout| bout.span).collect();
        spans.sort_by_key(|span| span.from);
        spans.dedup_by(|next, last| {
            let meets = next.from <= last.to;
            if meets {
                last.to = last.to.max(next.to);
            }
            meets
        });
        spans
    }

    fn quorum_spans(&self, out: impl Fn(&FaultWindow<'_>, &Settings) -> Option<Span>) -> Vec<Span> {
        let mut edges: Vec<(u64, i64, usize)> = Vec::new();
        for bout in &self.fault_windows {
            if let Some(span) = out(bout, self.settings) {
                for node in bout.fault.nodes.iter().copied() {
                    edges.push((span.from, 1, node));
                    edges.push((span.to, -1, node));
                }
            }
        }
        // Ends before beginnings would show a quorum between two faults that touch; no client could use it.
        edges.sort_by_key(|(at, change, _)| (*at, -change));
        let mut out = vec![0_i64; self.settings.nodes];
        let mut spans = Vec::new();
        let mut since = Some(self.from);
        for (at, change, node) in edges {
            let Some(faults) = out.get_mut(node) else { continue };
            *faults += change;
            let there = out.iter().filter(|faults| **faults == 0).count() >= self.settings.quorum;
            match since {
                Some(from) if !there => {
                    spans.push(Span { from, to: at });
                    since = None;
                }
                None if there => since = Some(at),
                _ => {}
            }
        }
        spans.extend(since.map(|from| Span { from, to: self.to }));
        spans.retain(|span| span.from < span.to);
        spans
    }

    fn of_node(&self, node: usize) -> impl Iterator<Item = &FaultWindow<'a>> {
        self.fault_windows.iter().filter(move |bout| bout.fault.nodes.contains(&node))
    }

    fn of_process(&self, process: u32, has: fn(&Effect) -> bool) -> impl Iterator<Item = &FaultWindow<'a>> {
        let hit = move |bout: &&FaultWindow<'_>| bout.fault.processes.contains(&process);
        self.fault_windows.iter().filter(hit).filter(move |bout| bout.fault.effects.iter().any(has))
    }
}

impl FaultWindow<'_> {
    /// Whether the node or its network is impaired during the fault. A clock with a constant offset does not impair it:
    /// only its speed matters.
    pub(crate) fn affects_votes(&self) -> bool {
        !self.fault.effects.iter().all(|effect| matches!(effect, Effect::ClockOffset { .. }))
    }

    /// Whether the node is useless to every client during the fault.
    pub(crate) fn is_unavailable(&self, settings: &Settings) -> bool {
        self.fault.effects.iter().any(|effect| match effect {
            Effect::Down | Effect::Paused | Effect::Unreachable | Effect::RejectsWrites => true,
            // Later than clients wait, or so nearly that a busy machine adds the rest.
            Effect::Slow { ms } => *ms * 2 >= settings.reply_timeout_ms,
            Effect::DataLoss { .. }
            | Effect::StaleKey
            | Effect::ClockStep { .. }
            | Effect::ClockOffset { .. }
            | Effect::ClockRate { .. } => false,
        })
    }

    /// Whether the node is reachable but grants no lock.
    pub(crate) fn has_stale_key(&self) -> bool {
        self.fault.effects.contains(&Effect::StaleKey)
    }

    /// Whether the node does not vote for a while even after the fault has ended.
    pub(crate) fn is_on_probation(&self, settings: &Settings) -> bool {
        self.fault.effects.iter().any(|effect| match effect {
            Effect::Down | Effect::DataLoss { .. } | Effect::ClockStep { .. } => true,
            Effect::ClockRate { ppm } => ppm.unsigned_abs() > u64::from(settings.drift_ppm),
            _ => false,
        })
    }

    /// When the clock was set, as a span, and by how many microseconds. The step happens between the event that
    /// announces it and the event that confirms it, and on a busy machine that can be long.
    fn steps(&self) -> impl Iterator<Item = (Span, i64)> {
        let there = Span { from: self.span.from, to: self.began_at };
        let back = self.has_ended.then_some(Span { from: self.ending_at, to: self.span.to });
        self.fault.effects.iter().flat_map(move |effect| {
            let micros = if let Effect::ClockStep { micros } = effect { *micros } else { 0 };
            [Some((there, micros)), back.map(|when| (when, -micros))].into_iter().flatten()
        })
    }

    /// How many nanoseconds the node's clock may have gained by this within `span`, as far as it matters to a key that
    /// lives for `ttl`.
    fn gain(&self, span: Span, ttl: u64) -> u64 {
        let steps = self.steps().filter(|(when, _)| span.may_overlap(*when));
        let set = steps.map(|(_, micros)| micros.max(0).unsigned_abs() * 1_000).sum::<u64>();
        let run = self.fault.effects.iter().filter_map(|effect| match effect {
            Effect::ClockRate { ppm } => {
                let time = self.span.intersection(span)?.len().min(ttl);
                Some(time / 1_000_000 * ppm.max(&0).unsigned_abs())
            }
            _ => None,
        });
        set + run.sum::<u64>()
    }

    /// By how much this fault has the clock off at `at`. A clock that ran at another speed stays off after the fault.
    fn offset_micros(&self, at: u64) -> i64 {
        let past = Span { from: self.span.from, to: self.span.to.min(at) }.len() as i64;
        let offset = |effect: &Effect| match effect {
            Effect::ClockStep { micros }
                if self.span.from <= at && (at < self.span.to || !self.has_ended) =>
            {
                *micros
            }
            Effect::ClockOffset { micros } if self.span.from <= at => *micros,
            Effect::ClockRate { ppm } => past / 1_000 * ppm / 1_000_000,
            _ => 0,
        };
        self.fault.effects.iter().map(offset).sum()
    }
}

/// Applies a change to the window of that fault.
fn fault_window(bouts: &mut [FaultWindow<'_>], fault: u64, change: impl FnOnce(&mut FaultWindow<'_>)) {
    if let Some(bout) = bouts.iter_mut().find(|bout| bout.fault.id == fault && !bout.has_ended) {
        change(bout);
    }
}

/// Whether an event is one of the run's own.
pub(crate) fn is_of_run(event: &Event) -> bool {
    event.actor == Actor::Run
}
