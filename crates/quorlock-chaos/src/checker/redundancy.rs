//! Redundancy: a node that is up and healthy for two ttls has the key of every held lock.
//!
//! A lock whose key is missing on a healthy node works like any other until one more node fails. Then it is
//! lost by a failure that it should have survived. Nothing else shows that, so the run samples the nodes
//! ([`EventKind::Sampled`]).
//!
//! Why two ttls: a holder sends a request to all nodes at least once per ttl, and reacquires the key where it
//! is missing. One ttl passes until that request, and one until an earlier key there expires. Slack is added.
//!
//! This assumes that a holder has two round trips between the failed attempts of others. Attempts that follow each
//! other faster raise the node's fence each time before the holder has proved the last one harmless
//! (`lease/larger_fence.rs` of the core), so they keep the key away for longer.

use std::collections::BTreeMap;

use super::fault_window::FaultWindow;
use super::samples::{Sample, Samples};
use super::{Findings, Invariant, LockAttempt, MS, RunFacts, Span, format_time, millis};
use crate::history::{Actor, Event, EventKind, History, LockKind, NodeView};

pub(super) fn check(
    history: &History,
    facts: &RunFacts<'_>,
    attempts: &[LockAttempt<'_>],
    findings: &mut Findings,
) {
    let samples = Samples::of_history(history, facts);
    // A history without samples was not recorded by a run of this crate.
    if samples.is_empty() {
        return;
    }
    let check = RedundancyChecker { facts, samples, views: views(history) };
    for attempt in attempts.iter().filter(|attempt| matches!(attempt.kind, LockKind::Mutex | LockKind::Write))
    {
        let Some(held_span) = attempt.held_span().filter(|span| span.len() >= check.window(attempt)) else {
            continue;
        };
        let mut is_checked = false;
        for key in attempt.keys {
            let owner = check.samples.owner(key, held_span, facts.settings.quorum);
            let has_rival = attempts.iter().any(|other| {
                let overlaps = other.held_span().is_some_and(|span| span.overlaps(held_span));
                !std::ptr::eq(other, attempt)
                    && overlaps
                    && other.conflicts_with(attempt)
                    && other.keys.contains(key)
            });
            let lock = Lock { attempt, held_span, key, owner, has_rival };
            for node in 0..facts.settings.nodes {
                is_checked |= check.check_node(&lock, node, findings);
            }
        }
        findings.redundancy_checked += usize::from(is_checked);
    }
    if findings.redundancy_checked == 0 && facts.settings.checks_redundancy {
        let message = format!(
            "no lock was held for two ttls while a node was healthy, in a run of {:.0} s: redundancy was not tested",
            millis(facts.to - facts.from) / 1e3,
        );
        findings.record_violation(Invariant::CompleteHistory, facts.to, Vec::new(), message);
    }
}

struct RedundancyChecker<'a> {
    facts: &'a RunFacts<'a>,
    samples: Samples<'a>,
    /// How each client sees each node: pairs of start time and view, ordered by time.
    views: BTreeMap<(u32, usize), Vec<(u64, NodeView)>>,
}

/// A key of a lock that was held long enough.
#[derive(Clone, Copy)]
struct Lock<'a> {
    attempt: &'a LockAttempt<'a>,
    held_span: Span,
    key: &'a str,
    /// The hash of its owner token, if samples show it. A node without any key needs no hash to be a
    /// violation.
    owner: Option<&'a str>,
    /// Whether a lock that it excludes was held at the same time. Then the samples do not show which of the two
    /// owners is its own, and exclusion is reported itself.
    has_rival: bool,
}

impl Lock<'_> {
    fn has(&self, sample: &Sample<'_>) -> bool {
        let owner = sample.owner(self.key);
        owner.is_some() && (self.owner.is_none() || owner == self.owner)
    }
}

impl RedundancyChecker<'_> {
    /// How long a node must have been healthy to be checked.
    fn window(&self, attempt: &LockAttempt<'_>) -> u64 {
        2 * attempt.ttl_ms * MS + self.slack()
    }

    fn slack(&self) -> u64 {
        self.facts.settings.slack_ms * MS
    }

    /// Checks one node at each sample that ends two ttls of this lock. Returns whether any such sample had no
    /// excuse.
    fn check_node(&self, lock: &Lock<'_>, node: usize, findings: &mut Findings) -> bool {
        let window = self.window(lock.attempt);
        let seen = Span { from: lock.held_span.from + window, to: lock.held_span.to };
        let mut is_checked = false;
        let mut excused: Option<(&Sample<'_>, &str)> = None;
        for sample in self.samples.within(node, seen) {
            let span = Span { from: sample.requested_at - window, to: sample.at };
            let excuse = self.excuse(lock, node, span);
            if lock.has(sample) {
                is_checked |= excuse.is_none();
                continue;
            }
            let Some(excuse) = excuse else {
                // Reported once, because the key is missing in each later sample too.
                let (events, message) = self.evidence(lock, node, sample, span);
                findings.record_violation(Invariant::Redundancy, sample.at, events, message);
                return true;
            };
            excused.get_or_insert((sample, excuse));
        }
        if let Some((sample, excuse)) = excused {
            let (events, _) = self.evidence(lock, node, sample, seen);
            findings.record_excused(Invariant::Redundancy, sample.at, events, excuse.to_owned());
        }
        is_checked
    }

    /// The excuse for a missing key on the node at the end of `span`.
    fn excuse(&self, lock: &Lock<'_>, node: usize, span: Span) -> Option<&'static str> {
        if lock.has_rival {
            return Some("another client held the lock at the same time");
        }
        let process = lock.attempt.process;
        let faults = || {
            let of_node =
                self.facts.fault_windows.iter().filter(move |window| window.fault.nodes.contains(&node));
            of_node.filter(|window| window.fault.affects(process) && window.affects_votes())
        };
        let is_near = |window: &FaultWindow<'_>, after: u64| {
            window.span.from <= span.to && span.from <= window.span.to.saturating_add(after)
        };
        if faults().any(|window| is_near(window, 0)) {
            return Some("a fault hit the node, or its network, within two ttls");
        }
        if faults().any(|window| {
            window.goes_on_probation(self.facts.settings) && is_near(window, self.facts.probation())
        }) {
            return Some(PROBATION);
        }
        // Faults have delayed effects. Probation begins when a client reconnects to the node. A node that the
        // client has excluded (a replica, a node that evicts keys) is not dialed for 10 s.
        for (from, to, view) in self.views(process, node) {
            match view {
                NodeView::OnProbation { until }
                    if from <= span.to
                        && span.from <= until
                        && faults().any(|window| {
                            window.goes_on_probation(self.facts.settings) && window.span.from <= from
                        }) =>
                {
                    return Some(PROBATION);
                }
                NodeView::Excluded
                    if from <= span.to
                        && span.from <= to
                        && faults().any(|window| is_near(window, EXCLUSION_SPAN)) =>
                {
                    return Some("the client had excluded the node and was yet to dial it again");
                }
                _ => {}
            }
        }
        if self.facts.stopped_time(process, span) > self.slack() / 2 {
            return Some("the client was paused");
        }
        let is_unsampled = self.samples.longest_gap(node, span) > self.slack();
        is_unsampled.then_some("the node was not sampled for too long")
    }

    /// The events that show the violation, and its message.
    fn evidence(
        &self,
        lock: &Lock<'_>,
        node: usize,
        sample: &Sample<'_>,
        span: Span,
    ) -> (Vec<usize>, String) {
        let before = self.samples.within(node, Span { from: lock.attempt.waiting_since, to: sample.at });
        let last = before.iter().rev().find(|sample| lock.has(sample));
        let has_key = |other: &usize| {
            let until = Span { from: lock.attempt.waiting_since, to: sample.at };
            self.samples.within(*other, until).last().is_some_and(|sample| lock.has(sample))
        };
        let mut events: Vec<usize> = lock.attempt.grant.iter().map(|grant| grant.event_index).collect();
        events.extend(last.map(|sample| sample.event_index));
        events.push(sample.event_index);
        let message = format!(
            "{}: {} holds it since {}; node {node}, up and healthy since {}, did not have its key at {} ({}; {} of {} nodes had it; the largest fencing number there was {})",
            lock.key,
            lock.attempt.name(),
            format_time(self.facts, lock.held_span.from),
            format_time(self.facts, span.from),
            format_time(self.facts, sample.at),
            last.map_or("never seen there".to_owned(), |last| {
                format!("last seen there at {}", format_time(self.facts, last.at))
            }),
            (0..self.facts.settings.nodes).filter(has_key).count(),
            self.facts.settings.nodes,
            sample.fence(lock.key).map_or_else(|| "none".to_owned(), |fence| fence.to_string()),
        );
        (events, message)
    }

    /// The client's views of the node, each with its beginning and end.
    fn views(&self, process: u32, node: usize) -> impl Iterator<Item = (u64, u64, NodeView)> {
        let views = self.views.get(&(process, node)).map_or(&[][..], Vec::as_slice);
        views.iter().enumerate().map(|(index, (from, view))| {
            (*from, views.get(index + 1).map_or(self.facts.to, |(next, _)| *next), *view)
        })
    }
}

fn views(history: &History) -> BTreeMap<(u32, usize), Vec<(u64, NodeView)>> {
    let mut views: BTreeMap<(u32, usize), Vec<(u64, NodeView)>> = BTreeMap::new();
    for Event { at, actor, kind } in history.events() {
        if let (Actor::Client { process, .. }, EventKind::NodeViewChanged { node, view }) = (actor, kind) {
            views.entry((*process, *node)).or_default().push((*at, *view));
        }
    }
    views
}

const PROBATION: &str = "the node was on probation within two ttls";
/// How long a client does not dial a node that it has excluded.
const EXCLUSION_SPAN: u64 = 10_000 * MS;
