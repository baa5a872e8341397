//! The data of the chart: lanes of spans, in microseconds since the start of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Serialize, Serializer};

use crate::checker::{Invariant, LockAttempt, RunFacts, Span, Verdict, lock_attempts};
use crate::history::{Actor, Effect, Event, EventKind, Fault, History, NodeView};

/// The whole chart.
#[derive(Serialize)]
pub(super) struct ChartData {
    /// The duration of the run.
    pub(super) to: u64,
    pub(super) nodes: Vec<Lane>,
    pub(super) keys: Vec<Lane>,
    pub(super) clients: Vec<Lane>,
    /// When there was no quorum.
    pub(super) outages: Vec<(u64, u64)>,
    /// When each lock was granted, and how long the client had waited for it.
    pub(super) waits: Vec<(u64, u64)>,
    /// When invariants were violated, unless that is excused.
    pub(super) violations: Vec<u64>,
    /// The labels; spans refer to them by index.
    pub(super) labels: Vec<String>,
}

/// One lane of the chart.
#[derive(Serialize)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) spans: Vec<Segment>,
}

/// A span of a lane.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) state: State,
    /// The process that it belongs to. Zero for nodes.
    pub(super) process: u32,
    /// The index of its label.
    pub(super) label: usize,
}

/// The state that a span shows, ordered by importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Waiting,
    Holding,
    /// A fault that does not prevent its votes.
    Touched,
    Probation,
    Slow,
    Clock,
    RejectsWrites,
    Unreachable,
    Paused,
    Down,
    LeftRoster,
    AddressMoved,
    DataLoss,
    Lost,
    ExpectedOverlap,
    Overlap,
}

impl ChartData {
    pub(super) fn of(history: &History, verdict: &Verdict) -> Option<Self> {
        let facts = RunFacts::of(history)?;
        let attempts = lock_attempts(history, &facts);
        let mut labels = StringTable::default();
        let micros = |at: u64| at.saturating_sub(facts.from) / 1_000;
        let granted =
            attempts.iter().filter_map(|attempt| Some((attempt.grant.as_ref()?.at, attempt.waiting_since)));
        let mut waits: Vec<_> = granted.map(|(at, since)| (micros(at), (at - since) / 1_000)).collect();
        waits.sort_unstable();
        Some(Self {
            to: micros(facts.to).max(1),
            nodes: nodes(history, &facts, &mut labels),
            keys: keys(&facts, &attempts, verdict, &mut labels),
            clients: clients(&facts, &attempts, &mut labels),
            outages: outages(&facts),
            waits,
            violations: verdict.violations.iter().map(|violation| micros(violation.at)).collect(),
            labels: labels.list,
        })
    }
}

/// A list of distinct labels.
#[derive(Default)]
struct StringTable {
    list: Vec<String>,
    indexes: BTreeMap<String, usize>,
}

impl StringTable {
    /// The index of a label, which is added if it is new.
    fn intern(&mut self, label: String) -> usize {
        if let Some(index) = self.indexes.get(&label) {
            return *index;
        }
        let index = self.list.len();
        self.list.push(label.clone());
        self.indexes.insert(label, index);
        index
    }
}

fn segment(facts: &RunFacts<'_>, span: Span, state: State, process: u32, label: usize) -> Segment {
    let micros = |at: u64| at.clamp(facts.from, facts.to) - facts.from;
    Segment { from: micros(span.from) / 1_000, to: micros(span.to).div_ceil(1_000), state, process, label }
}

fn nodes(history: &History, facts: &RunFacts<'_>, labels: &mut StringTable) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = (0..facts.settings.nodes)
        .map(|node| Lane { name: format!("node {node}"), spans: Vec::new() })
        .collect();
    for window in &facts.fault_windows {
        let label = labels.intern(label(window.fault));
        for node in &window.fault.nodes {
            let Some(lane) = lanes.get_mut(*node) else { continue };
            let effects = window.fault.effects.iter().map(|effect| state(*effect));
            let touched = window.fault.effects.is_empty().then_some(State::Touched);
            let shown = effects.chain(touched).map(|state| segment(facts, window.span, state, 0, label));
            lane.spans.extend(shown);
        }
    }
    let label = labels.intern("probation: it may have lost data, and does not vote".to_owned());
    for (node, span) in probations(history, facts) {
        if let Some(lane) = lanes.get_mut(node) {
            lane.spans.push(segment(facts, span, State::Probation, 0, label));
        }
    }
    lanes
}

fn state(effect: Effect) -> State {
    match effect {
        Effect::Down => State::Down,
        Effect::Paused => State::Paused,
        Effect::Unreachable => State::Unreachable,
        Effect::Slow { .. } => State::Slow,
        Effect::RejectsWrites => State::RejectsWrites,
        Effect::LeavesRoster => State::LeftRoster,
        Effect::AddressMoved => State::AddressMoved,
        Effect::DataLoss { .. } => State::DataLoss,
        Effect::ClockOffset { .. } | Effect::StaleKey => State::Touched,
        Effect::ClockStep { .. } | Effect::ClockRate { .. } => State::Clock,
    }
}

fn label(fault: &Fault) -> String {
    if fault.detail.is_empty() { fault.kind.clone() } else { format!("{}: {}", fault.kind, fault.detail) }
}

/// When some client saw a node on probation: each view lasts until the client's next view, or the end of
/// probation.
fn probations(history: &History, facts: &RunFacts<'_>) -> Vec<(usize, Span)> {
    let mut open: BTreeMap<(usize, u32), Span> = BTreeMap::new();
    let mut spans: BTreeMap<usize, Vec<Span>> = BTreeMap::new();
    for Event { at, actor, kind } in history.events() {
        let (Actor::Client { process, .. }, EventKind::NodeViewChanged { node, view }) = (actor, kind) else {
            continue;
        };
        if let Some(span) = open.remove(&(*node, *process)) {
            spans.entry(*node).or_default().push(Span { from: span.from, to: span.to.min(*at) });
        }
        if let NodeView::OnProbation { until } = view {
            open.insert((*node, *process), Span { from: *at, to: (*until).min(facts.to) });
        }
    }
    for ((node, _), span) in open {
        spans.entry(node).or_default().push(span);
    }
    for spans in spans.values_mut() {
        spans.retain(|span| span.from < span.to);
    }
    let merged = spans
        .into_iter()
        .flat_map(|(node, spans)| Span::merged(spans).into_iter().map(move |span| (node, span)));
    merged.collect()
}

fn keys(
    facts: &RunFacts<'_>,
    attempts: &[LockAttempt<'_>],
    verdict: &Verdict,
    labels: &mut StringTable,
) -> Vec<Lane> {
    let mut holds: BTreeMap<&str, Vec<(Span, &LockAttempt<'_>)>> = BTreeMap::new();
    for attempt in attempts {
        for key in attempt.keys {
            let holds = holds.entry(key).or_default();
            holds.extend(attempt.held_span().map(|span| (span, attempt)));
        }
    }
    let violations =
        verdict.violations.iter().filter(|violation| violation.invariant == Invariant::MutualExclusion);
    let violations: BTreeSet<u64> = violations.map(|violation| violation.at).collect();
    let lane = |(key, mut holds): (&str, Vec<(Span, &LockAttempt<'_>)>)| {
        holds.sort_by_key(|(span, _)| span.from);
        let mut lane = Lane { name: key.to_owned(), spans: Vec::new() };
        let mut current: Vec<(Span, &LockAttempt<'_>)> = Vec::new();
        for (span, attempt) in holds {
            let number = attempt.grant.as_ref().and_then(|grant| grant.fencing_number);
            let number = number.map_or(String::new(), |number| format!(", number {number}"));
            let label = labels.intern(format!("held by {}{number}", attempt.name()));
            lane.spans.push(segment(facts, span, State::Holding, attempt.process, label));
            current.retain(|(other, _)| other.to > span.from);
            for (other, other_attempt) in
                current.iter().filter(|(_, other_attempt)| other_attempt.conflicts_with(attempt))
            {
                let Some(both) = other.intersection(span) else { continue };
                let state =
                    if violations.contains(&both.from) { State::Overlap } else { State::ExpectedOverlap };
                let label = labels.intern(format!("{} and {} at once", other_attempt.name(), attempt.name()));
                lane.spans.push(segment(facts, both, state, 0, label));
            }
            current.push((span, attempt));
        }
        lane
    };
    holds.into_iter().map(lane).collect()
}

/// One lane per task. A process that replaces a killed one continues its lane. So a run with many kills has
/// only as many lanes as tasks at a time.
fn clients(facts: &RunFacts<'_>, attempts: &[LockAttempt<'_>], labels: &mut StringTable) -> Vec<Lane> {
    let mut tasks: BTreeMap<(u32, u32), Vec<&LockAttempt<'_>>> = BTreeMap::new();
    for attempt in attempts {
        tasks.entry((attempt.process, attempt.task)).or_default().push(attempt);
    }
    let mut lanes: Vec<(Lane, u64)> = Vec::new();
    for ((process, task), attempts) in tasks {
        let began_at = attempts[0].waiting_since;
        let killed = facts.killed_at(process);
        let ends_at = killed.unwrap_or(u64::MAX);
        let free = lanes.iter().position(|(_, until)| *until <= began_at);
        let index = free.unwrap_or_else(|| {
            lanes.push((Lane { name: format!("client {process}.{task}"), spans: Vec::new() }, 0));
            lanes.len() - 1
        });
        if free.is_some() {
            // The name shows only the first and the last process, because there is no room for all.
            let name = &mut lanes[index].0.name;
            name.truncate(name.find(" →").unwrap_or(name.len()));
            let _ = write!(name, " → {process}.{task}");
        }
        lanes[index].1 = ends_at;
        let spans = &mut lanes[index].0.spans;
        for attempt in &attempts {
            attempt_segments(facts, attempt, labels, spans);
        }
        let stops = facts.fault_windows.iter().filter(|window| window.fault.processes.contains(&process));
        for window in stops.filter(|window| window.span.from < ends_at || Some(window.span.from) == killed) {
            let label = labels.intern(format!("client {process}: {}", label(window.fault)));
            for effect in &window.fault.effects {
                // A killed process stays dead; its lane continues with its replacement.
                let to =
                    if *effect == Effect::Down { window.span.from + 150_000_000 } else { window.span.to };
                let span = Span { from: window.span.from, to };
                spans.push(segment(facts, span, state(*effect), process, label));
            }
        }
    }
    lanes.into_iter().map(|(lane, _)| lane).collect()
}

fn attempt_segments(
    facts: &RunFacts<'_>,
    attempt: &LockAttempt<'_>,
    labels: &mut StringTable,
    spans: &mut Vec<Segment>,
) {
    let name = attempt.name();
    let keys = attempt.keys.join(" + ");
    let waits = labels.intern(format!("{name} waits for {keys}"));
    spans.push(segment(facts, attempt.wait_span(facts), State::Waiting, attempt.process, waits));
    let Some(held) = attempt.held_span() else { return };
    let number = attempt.grant.as_ref().and_then(|grant| grant.fencing_number);
    let number = number.map_or(String::new(), |number| format!(", number {number}"));
    let holds = labels.intern(format!("{name} holds {keys}{number}"));
    spans.push(segment(facts, held, State::Holding, attempt.process, holds));
    if let Some(lost) = attempt.lost_at {
        let has_lost = labels.intern(format!("{name} has lost {keys}"));
        let to = attempt.releasing_at.unwrap_or(lost).max(lost + 1_000_000);
        let span = Span { from: lost.min(held.to), to };
        spans.push(segment(facts, span, State::Lost, attempt.process, has_lost));
    }
}

/// The times without a quorum of nodes that are reachable and without stale keys.
fn outages(facts: &RunFacts<'_>) -> Vec<(u64, u64)> {
    let mut outages = Vec::new();
    let mut from = facts.from;
    for present in facts.quorum_present() {
        outages.push(Span { from, to: present.from });
        from = present.to;
    }
    outages.push(Span { from, to: facts.to });
    outages.retain(|span| span.from < span.to);
    outages
        .iter()
        .map(|span| ((span.from - facts.from) / 1_000, (span.to - facts.from).div_ceil(1_000)))
        .collect()
}

/// Serializes as a list, to save space: start, duration, state, process, label.
impl Serialize for Segment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.from, self.to - self.from.min(self.to), self.state as u8, self.process, self.label)
            .serialize(to)
    }
}
