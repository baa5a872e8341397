//! The run's settings and its faults over time, for queries by the checker.

use std::collections::{BTreeMap, BTreeSet};

use super::MS;
use crate::history::{Actor, Effect, Event, EventKind, Fault, History, Settings};

/// A span of time; the end is excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A fault and the time in which it had effects.
pub(crate) struct FaultWindow<'a> {
    pub(crate) fault: &'a Fault,
    /// From its first event until it ended, or until the end of the run.
    pub(crate) span: Span,
    pub(crate) has_ended: bool,
    /// When it was fully applied, at the latest.
    applied_by: u64,
    /// When its end began, at the earliest.
    ends_from: u64,
}

/// The run's settings and faults.
pub(crate) struct RunFacts<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) fault_windows: Vec<FaultWindow<'a>>,
    /// When each process got no CPU time.
    cpu_stalls: BTreeMap<u32, Vec<Span>>,
}

impl Span {
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// The intersection, unless it is empty.
    pub(crate) fn intersection(self, other: Self) -> Option<Self> {
        let both = Self { from: self.from.max(other.from), to: self.to.min(other.to) };
        (both.from < both.to).then_some(both)
    }

    /// Whether an instantaneous change at some moment of `other` may have happened within this span.
    fn may_contain_instant_of(self, other: Self) -> bool {
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
                // Until later events narrow it down, the fault may be applied, and may end, at any time from
                // now on.
                EventKind::Fault(fault) => {
                    let span = Span { from: *at, to };
                    windows.push(FaultWindow { fault, span, has_ended: false, applied_by: to, ends_from: *at });
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

    /// When this process was stopped, or got no CPU time, within `span`: ordered and disjoint.
    pub(crate) fn stopped_spans(&self, process: u32, span: Span) -> Vec<Span> {
        let stopped =
            self.windows_of_process(process, |effect| matches!(effect, Effect::Paused)).map(|window| window.span);
        let stalled = self.cpu_stalls.get(&process).into_iter().flatten().copied();
        let mut stops: Vec<Span> =
            stopped.chain(stalled).filter_map(|stop| stop.intersection(span)).collect();
        stops.sort_by_key(|stop| stop.from);
        stops.dedup_by(|next, last| {
            let touches = next.from <= last.to;
            if touches {
                last.to = last.to.max(next.to);
            }
            touches
        });
        stops
    }

    /// How long this process was stopped, or got no CPU time, within `span`.
    pub(crate) fn stopped_time(&self, process: u32, span: Span) -> u64 {
        self.stopped_spans(process, span).iter().map(Span::len).sum()
    }

    /// The nodes that may have lost the data that `selects` chooses (locks, fences) within `span`. A fault
    /// may act at any time between its first event and its end.
    pub(crate) fn nodes_with_data_loss(
        &self,
        span: Span,
        selects: fn(bool, bool) -> bool,
    ) -> BTreeSet<usize> {
        let lost_data = |window: &&FaultWindow<'_>| {
            let effects = window.fault.effects.iter();
            span.may_contain_instant_of(window.span)
                && effects.clone().any(
                    |effect| matches!(effect, Effect::DataLoss { locks, fences } if selects(*locks, *fences)),
                )
        };
        self.fault_windows
            .iter()
            .filter(lost_data)
            .flat_map(|window| window.fault.nodes.iter().copied())
            .collect()
    }

    /// The nodes whose clocks may have gained more within `span` than the validity of a lock of `ttl_ms`
    /// allows for. The lock's key may have expired there before its deadline.
    pub(crate) fn nodes_with_clock_changes(&self, span: Span, ttl_ms: u64) -> BTreeSet<usize> {
        let allowance = ttl_ms * MS - self.validity(ttl_ms);
        let node_gained = |node: &usize| {
            let gains = self.windows_of_node(*node).map(|window| window.max_clock_gain(span, ttl_ms * MS));
            gains.sum::<u64>() > allowance
        };
        (0..self.settings.nodes).filter(node_gained).collect()
    }

    /// The largest error of any node's clock until `at`, in microseconds.
    pub(crate) fn max_clock_offset(&self, at: u64) -> u64 {
        let error = |node: usize, at: u64| {
            self.windows_of_node(node).map(|window| window.offset_micros(at)).sum::<i64>().unsigned_abs()
        };
        let change_times = || {
            self.fault_windows
                .iter()
                .flat_map(|window| [window.span.from, window.span.to])
                .filter(|time| *time <= at)
        };
        let errors = (0..self.settings.nodes).flat_map(|node| {
            let times = change_times().chain([at]);
            times.flat_map(move |time| [error(node, time), error(node, time.saturating_sub(1))])
        });
        errors.max().unwrap_or(0)
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

    /// When a quorum of nodes was reachable.
    pub(crate) fn quorum_present(&self) -> Vec<Span> {
        self.quorum_spans(|window, settings| {
            (window.is_unavailable(settings) || window.has_stale_key()).then_some(window.span)
        })
    }

    /// When a quorum of nodes was reachable and voted. A node that may have lost data, or whose clock was
    /// changed, is on probation after the fault.
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

    /// When stale keys were on some node: ordered and disjoint.
    pub(crate) fn stale_key_spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = self
            .fault_windows
            .iter()
            .filter(|window| window.has_stale_key())
            .map(|window| window.span)
            .collect();
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

    /// When a quorum of nodes is without an outage. `outage` is the time in which a fault takes its nodes
    /// out.
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
        // At equal times, beginnings sort before ends, so that two adjacent faults leave no quorum in between.
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

    fn windows_of_process(&self, process: u32, has: fn(&Effect) -> bool) -> impl Iterator<Item = &FaultWindow<'a>> {
        let hit = move |window: &&FaultWindow<'_>| window.fault.processes.contains(&process);
        self.fault_windows.iter().filter(hit).filter(move |window| window.fault.effects.iter().any(has))
    }
}

impl FaultWindow<'_> {
    /// Whether the fault may cost a node its vote. A constant clock offset does not: only the clock's rate
    /// matters.
    pub(crate) fn affects_votes(&self) -> bool {
        !self.fault.effects.iter().all(|effect| matches!(effect, Effect::ClockOffset { .. }))
    }

    /// Whether no client can use the node during the fault.
    pub(crate) fn is_unavailable(&self, settings: &Settings) -> bool {
        self.fault.effects.iter().any(|effect| match effect {
            Effect::Down | Effect::Paused | Effect::Unreachable | Effect::RejectsWrites => true,
            // Half of the reply timeout counts, because a busy machine may add the rest.
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

    /// Whether the node is on probation after the fault.
    pub(crate) fn goes_on_probation(&self, settings: &Settings) -> bool {
        self.fault.effects.iter().any(|effect| match effect {
            Effect::Down | Effect::DataLoss { .. } | Effect::ClockStep { .. } => true,
            Effect::ClockRate { ppm } => ppm.unsigned_abs() > u64::from(settings.drift_ppm),
            _ => false,
        })
    }

    /// When the clock was set, as a span, and by how many microseconds. A step happens between the event that
    /// announces it and the event that confirms it. On a busy machine that span can be long.
    fn steps(&self) -> impl Iterator<Item = (Span, i64)> {
        let applied = Span { from: self.span.from, to: self.applied_by };
        let reverted = self.has_ended.then_some(Span { from: self.ends_from, to: self.span.to });
        self.fault.effects.iter().flat_map(move |effect| {
            let micros = if let Effect::ClockStep { micros } = effect { *micros } else { 0 };
            [Some((applied, micros)), reverted.map(|when| (when, -micros))].into_iter().flatten()
        })
    }

    /// How many nanoseconds the node's clock may have gained by this fault within `span`, and within one
    /// `ttl`.
    fn max_clock_gain(&self, span: Span, ttl: u64) -> u64 {
        let steps = self.steps().filter(|(when, _)| span.may_contain_instant_of(*when));
        let stepped = steps.map(|(_, micros)| micros.max(0).unsigned_abs() * 1_000).sum::<u64>();
        let drifted = self.fault.effects.iter().filter_map(|effect| match effect {
            Effect::ClockRate { ppm } => {
                let time = self.span.intersection(span)?.len().min(ttl);
                Some(time / 1_000_000 * ppm.max(&0).unsigned_abs())
            }
            _ => None,
        });
        stepped + drifted.sum::<u64>()
    }

    /// The clock's offset by this fault at `at`. A clock that ran too fast or too slow stays off after the
    /// fault.
    fn offset_micros(&self, at: u64) -> i64 {
        let elapsed = Span { from: self.span.from, to: self.span.to.min(at) }.len() as i64;
        let offset = |effect: &Effect| match effect {
            Effect::ClockStep { micros }
                if self.span.from <= at && (at < self.span.to || !self.has_ended) =>
            {
                *micros
            }
            Effect::ClockOffset { micros } if self.span.from <= at => *micros,
            Effect::ClockRate { ppm } => elapsed / 1_000 * ppm / 1_000_000,
            _ => 0,
        };
        self.fault.effects.iter().map(offset).sum()
    }
}

/// Applies a change to the window of the fault with this id.
fn update_window(windows: &mut [FaultWindow<'_>], fault: u64, change: impl FnOnce(&mut FaultWindow<'_>)) {
    if let Some(window) = windows.iter_mut().find(|window| window.fault.id == fault && !window.has_ended) {
        change(window);
    }
}

/// Whether the run itself recorded the event.
pub(crate) fn is_run_event(event: &Event) -> bool {
    event.actor == Actor::Run
}
