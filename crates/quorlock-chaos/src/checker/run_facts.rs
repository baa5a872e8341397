//! The facts of a run that the checker queries: the settings, and the faults over time.
//!
//! A client process is *paused* by a fault, and *stalled* while the machine gives it no CPU time. It is
//! *stopped* in both cases.

use std::collections::{BTreeMap, BTreeSet};

use super::MS;
use super::fault_window::FaultWindow;
use crate::history::{Actor, Effect, Event, EventKind, History, Settings};

/// A span of time in nanoseconds on the boot clock; the end is excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// The facts of a run: its settings, its time span, and its faults.
pub(crate) struct RunFacts<'a> {
    pub(crate) settings: &'a Settings,
    /// The time of the first event.
    pub(crate) from: u64,
    /// The time of the last event.
    pub(crate) to: u64,
    pub(crate) fault_windows: Vec<FaultWindow<'a>>,
    /// When each client process was stalled.
    cpu_stalls: BTreeMap<u32, Vec<Span>>,
}

/// A kind of data that a node can lose.
#[derive(Clone, Copy)]
pub(crate) enum NodeData {
    /// The keys of held locks.
    Locks,
    Fences,
}

impl Span {
    /// The time that these spans cover: ordered and disjoint.
    pub(crate) fn merged(mut spans: Vec<Self>) -> Vec<Self> {
        spans.sort_by_key(|span| span.from);
        spans.dedup_by(|next, last| {
            let touches = next.from <= last.to;
            if touches {
                last.to = last.to.max(next.to);
            }
            touches
        });
        spans
    }

    pub(crate) fn len(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// The intersection, unless it is empty.
    pub(crate) fn intersection(self, other: Self) -> Option<Self> {
        let both = Self { from: self.from.max(other.from), to: self.to.min(other.to) };
        (both.from < both.to).then_some(both)
    }

    /// Whether this span may contain an event that happened at an unknown instant of `other`. The ends of
    /// both spans count.
    pub(super) fn may_contain_instant_of(self, other: Self) -> bool {
        other.from <= self.to && self.from <= other.to
    }
}

impl<'a> RunFacts<'a> {
    pub(crate) fn of(history: &'a History) -> Option<Self> {
        let settings = history.settings()?;
        let events = history.events();
        let (from, to) = (events.first()?.at, events.last()?.at);
        let mut windows: Vec<FaultWindow<'a>> = Vec::new();
        let mut cpu_stalls: BTreeMap<u32, Vec<Span>> = BTreeMap::new();
        for Event { at, actor, kind } in events {
            match kind {
                // Until later events narrow the bounds, the fault may be applied and may end at any time
                // from this event on.
                EventKind::Fault(fault) => {
                    let span = Span { from: *at, to };
                    windows.push(FaultWindow {
                        fault,
                        span,
                        has_ended: false,
                        applied_by: to,
                        ends_from: *at,
                    });
                }
                EventKind::FaultApplied { fault } => {
                    update_window(&mut windows, *fault, |window| window.applied_by = *at);
                }
                EventKind::FaultEnding { fault } => {
                    update_window(&mut windows, *fault, |window| window.ends_from = *at);
                }
                EventKind::FaultEnded { fault } => update_window(&mut windows, *fault, |window| {
                    window.span.to = *at;
                    window.applied_by = window.applied_by.min(*at);
                    window.has_ended = true;
                }),
                EventKind::RuntimeStalled { millis } => {
                    if let Actor::Client { process, .. } = actor {
                        let span = Span { from: at.saturating_sub(millis * MS), to: *at };
                        cpu_stalls.entry(*process).or_default().push(span);
                    }
                }
                _ => {}
            }
        }
        Some(Self { settings, from, to, fault_windows: windows, cpu_stalls })
    }

    /// The longest ttl, in nanoseconds.
    pub(crate) fn max_ttl(&self) -> u64 {
        self.settings.max_ttl_ms * MS
    }

    /// The length of probation, in nanoseconds: the max ttl, or zero without probation.
    pub(crate) fn probation(&self) -> u64 {
        if self.settings.fenced && self.settings.probation { self.max_ttl() } else { 0 }
    }

    /// The validity of a new lock, in nanoseconds: ttl · (1 − drift) − 2 ms, as in Redlock.
    pub(crate) fn validity(&self, ttl_ms: u64) -> u64 {
        let ttl = ttl_ms * MS;
        let drift = ttl / 1_000_000 * u64::from(self.settings.drift_ppm);
        ttl.saturating_sub(drift).saturating_sub(2 * MS)
    }

    /// The least number of nodes that any two quorums share (quorum intersection): 2q − N.
    pub(crate) fn quorum_overlap(&self) -> usize {
        (2 * self.settings.quorum).saturating_sub(self.settings.nodes)
    }

    /// When this process was killed, if it was.
    pub(crate) fn killed_at(&self, process: u32) -> Option<u64> {
        let down = self.windows_of_process(process, |effect| matches!(effect, Effect::Down));
        down.map(|window| window.span.from).min()
    }

    /// When this process was stopped within `span`: ordered and disjoint.
    pub(crate) fn stopped_spans(&self, process: u32, span: Span) -> Vec<Span> {
        let paused = self
            .windows_of_process(process, |effect| matches!(effect, Effect::Paused))
            .map(|window| window.span);
        let stalled = self.cpu_stalls.get(&process).into_iter().flatten().copied();
        Span::merged(paused.chain(stalled).filter_map(|stop| stop.intersection(span)).collect())
    }

    /// How long this process was stopped within `span`, in nanoseconds.
    pub(crate) fn stopped_time(&self, process: u32, span: Span) -> u64 {
        self.stopped_spans(process, span).iter().map(Span::len).sum()
    }

    /// The nodes that may have lost this kind of data within `span`. A fault may act at any time between its
    /// first event and its end.
    pub(crate) fn nodes_with_data_loss(&self, span: Span, data: NodeData) -> BTreeSet<usize> {
        let loses = |effect: &Effect| match (effect, data) {
            (Effect::AddressMoved | Effect::LeavesRoster, _) => true,
            (Effect::DataLoss { locks, .. }, NodeData::Locks) => *locks,
            (Effect::DataLoss { fences, .. }, NodeData::Fences) => *fences,
            _ => false,
        };
        let lost_data = |window: &&FaultWindow<'_>| {
            span.may_contain_instant_of(window.span) && window.fault.effects.iter().any(loses)
        };
        self.fault_windows
            .iter()
            .filter(lost_data)
            .flat_map(|window| window.fault.nodes.iter().copied())
            .collect()
    }

    /// The nodes whose clocks may have gained too much time within `span` for a lock of `ttl_ms`: more than
    /// the difference between its ttl and its validity. On these nodes the lock's key may have expired before
    /// the lock's deadline.
    pub(crate) fn nodes_with_clock_changes(&self, span: Span, ttl_ms: u64) -> BTreeSet<usize> {
        let allowance = ttl_ms * MS - self.validity(ttl_ms);
        let node_gained = |node: &usize| {
            let gains = self.windows_of_node(*node).map(|window| window.max_clock_gain(span, ttl_ms * MS));
            gains.sum::<u64>() > allowance
        };
        (0..self.settings.nodes).filter(node_gained).collect()
    }

    /// The largest offset of any node's clock until `at`, in microseconds, ahead or behind.
    pub(crate) fn max_clock_offset(&self, at: u64) -> u64 {
        let offset = |node: usize, at: u64| {
            self.windows_of_node(node).map(|window| window.offset_micros(at)).sum::<i64>().unsigned_abs()
        };
        let change_times = || {
            self.fault_windows
                .iter()
                .flat_map(|window| [window.span.from, window.span.to])
                .filter(|time| *time <= at)
        };
        let offsets = (0..self.settings.nodes).flat_map(|node| {
            let times = change_times().chain([at]);
            times.flat_map(move |time| [offset(node, time), offset(node, time.saturating_sub(1))])
        });
        offsets.max().unwrap_or(0)
    }

    /// The largest step back of any node's clock within `span`, in microseconds.
    pub(crate) fn max_clock_setback(&self, span: Span) -> u64 {
        let setbacks = self
            .fault_windows
            .iter()
            .flat_map(FaultWindow::steps)
            .filter(|(when, _)| span.may_contain_instant_of(*when));
        setbacks.map(|(_, micros)| (-micros).max(0).unsigned_abs()).max().unwrap_or(0)
    }

    /// When a quorum of nodes was reachable and without stale keys. These nodes can grant locks, except while
    /// they are on probation.
    pub(crate) fn quorum_present(&self) -> Vec<Span> {
        self.quorum_spans(|window, settings| {
            (window.is_unavailable(settings) || window.has_stale_key()).then_some(window.span)
        })
    }

    /// When a quorum of nodes could grant locks: reachable, without stale keys, and not on probation.
    pub(crate) fn quorum_votes(&self) -> Vec<Span> {
        let probation = self.probation();
        self.quorum_spans(|window, settings| {
            let Span { from, to } = window.span;
            if window.goes_on_probation(settings) {
                Some(Span { from, to: to.saturating_add(probation) })
            } else {
                (window.is_unavailable(settings) || window.has_stale_key()).then_some(window.span)
            }
        })
    }

    /// When at least one node had stale keys: ordered and disjoint.
    pub(crate) fn stale_key_spans(&self) -> Vec<Span> {
        let stale = self.fault_windows.iter().filter(|window| window.has_stale_key());
        Span::merged(stale.map(|window| window.span).collect())
    }

    /// When a quorum of nodes had no outage. `outage` returns the span in which a fault's nodes are out, if
    /// the fault causes an outage.
    fn quorum_spans(&self, outage: impl Fn(&FaultWindow<'_>, &Settings) -> Option<Span>) -> Vec<Span> {
        let mut edges: Vec<(u64, i64, usize)> = Vec::new();
        for window in &self.fault_windows {
            if let Some(span) = outage(window, self.settings) {
                for node in window.fault.nodes.iter().copied() {
                    edges.push((span.from, 1, node));
                    edges.push((span.to, -1, node));
                }
            }
        }
        // At equal times, beginnings sort before ends: no quorum exists between two adjacent faults.
        edges.sort_by_key(|(at, change, _)| (*at, -change));
        let mut fault_counts = vec![0_i64; self.settings.nodes];
        let mut spans = Vec::new();
        let mut since = Some(self.from);
        for (at, change, node) in edges {
            let Some(count) = fault_counts.get_mut(node) else { continue };
            *count += change;
            let has_quorum = fault_counts.iter().filter(|count| **count == 0).count() >= self.settings.quorum;
            match since {
                Some(from) if !has_quorum => {
                    spans.push(Span { from, to: at });
                    since = None;
                }
                None if has_quorum => since = Some(at),
                _ => {}
            }
        }
        spans.extend(since.map(|from| Span { from, to: self.to }));
        spans.retain(|span| span.from < span.to);
        spans
    }

    fn windows_of_node(&self, node: usize) -> impl Iterator<Item = &FaultWindow<'a>> {
        self.fault_windows.iter().filter(move |window| window.fault.nodes.contains(&node))
    }

    fn windows_of_process(
        &self,
        process: u32,
        has: fn(&Effect) -> bool,
    ) -> impl Iterator<Item = &FaultWindow<'a>> {
        let hit = move |window: &&FaultWindow<'_>| window.fault.processes.contains(&process);
        self.fault_windows.iter().filter(hit).filter(move |window| window.fault.effects.iter().any(has))
    }
}

/// Changes the open window of the fault with this id, if there is one.
fn update_window(windows: &mut [FaultWindow<'_>], fault: u64, change: impl FnOnce(&mut FaultWindow<'_>)) {
    if let Some(window) = windows.iter_mut().find(|window| window.fault.id == fault && !window.has_ended) {
        change(window);
    }
}
