//! Redundancy: a node that is up and healthy for two ttls holds the key of every live lock.
//!
//! A lock that is missing on a healthy node works like any other until another node fails. Then it is lost by a failure
//! that it should have survived. Because nothing else shows that, the run samples the nodes ([`EventKind::Sampled`]).
//!
//! Why two ttls: the client that keeps a lock sends a request to all nodes at least once per ttl, and reacquires the
//! key where it is missing. One ttl passes until that request, and one for what was there before. Slack for a busy
//! machine is added.

use std::collections::BTreeMap;

use super::samples::{Sample, Samples};
use super::world::FaultWindow;
use super::{Findings, Invariant, LockAttempt, MS, Span, World, clock, millis};
use crate::history::{Actor, Event, EventKind, History, LockKind, NodeView};

pub(super) fn check(
    history: &History,
    world: &World<'_>,
    attempts: &[LockAttempt<'_>],
    findings: &mut Findings,
) {
    let samples = Samples::of_history(history, world);
    // No samples: the history was not recorded by a run of this crate.
    if samples.is_empty() {
        return;
    }
    let check = RedundancyChecker { world, samples, views: views(history) };
    for attempt in attempts.iter().filter(|attempt| matches!(attempt.kind, LockKind::Mutex | LockKind::Write))
    {
        let Some(live) = attempt.held_span().filter(|it| it.len() >= check.window(attempt)) else {
            continue;
        };
        let mut is_judged = false;
        for key in attempt.keys {
            let owner = check.samples.owner(key, live, world.settings.quorum);
            for node in 0..world.settings.nodes {
                is_judged |= check.check_node(&Lock { attempt, live, key, owner }, node, findings);
            }
        }
        findings.redundancy_checked += usize::from(is_judged);
    }
    if findings.redundancy_checked == 0 && world.settings.checks_redundancy {
        let words = format!(
            "no lock was held for two ttls while a node was healthy, in a run of {:.0} s: redundancy was not tested",
            millis(world.to - world.from) / 1e3,
        );
        findings.violation(Invariant::CompleteHistory, world.to, Vec::new(), words);
    }
}

struct RedundancyChecker<'a> {
    world: &'a World<'a>,
    samples: Samples<'a>,
    /// How each client sees each node: pairs of start time and view, ordered by time.
    views: BTreeMap<(u32, usize), Vec<(u64, NodeView)>>,
}

/// A key of a lock that was held long enough.
#[derive(Clone, Copy)]
struct Lock<'a> {
    attempt: &'a LockAttempt<'a>,
    live: Span,
    key: &'a str,
    /// The hash of its owner token, where the nodes show it. A node without any key lacks this lock's key, so it needs
    /// no hash.
    owner: Option<&'a str>,
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
        self.world.settings.slack_ms * MS
    }

    /// Checks one node at each moment that ends two ttls of this lock. Returns whether any such moment had no excuse.
    fn check_node(&self, lock: &Lock<'_>, node: usize, findings: &mut Findings) -> bool {
        let window = self.window(lock.attempt);
        let seen = Span { from: lock.live.from + window, to: lock.live.to };
        let mut is_judged = false;
        let mut excused: Option<(&Sample<'_>, &str)> = None;
        for sample in self.samples.within(node, seen) {
            let span = Span { from: sample.requested_at - window, to: sample.at };
            let excuse = self.excuse(lock, node, span);
            if lock.has(sample) {
                is_judged |= excuse.is_none();
                continue;
            }
            let Some(because) = excuse else {
                // Reported once: the key is missing at each later moment too.
                let (events, words) = self.evidence(lock, node, sample, span);
                findings.violation(Invariant::Redundancy, sample.at, events, words);
                return true;
            };
            excused.get_or_insert((sample, because));
        }
        if let Some((sample, because)) = excused {
            let (events, _) = self.evidence(lock, node, sample, seen);
            findings.expected_violation(Invariant::Redundancy, sample.at, events, because.to_owned());
        }
        is_judged
    }

    /// Why the node need not have the key at the end of `span`.
    fn excuse(&self, lock: &Lock<'_>, node: usize, span: Span) -> Option<&'static str> {
        let process = lock.attempt.process;
        let met = || {
            let of_node =
                self.world.fault_windows.iter().filter(move |bout| bout.fault.nodes.contains(&node));
            of_node.filter(|bout| bout.fault.affects(process) && bout.affects_votes())
        };
        let touches = |bout: &FaultWindow<'_>, after: u64| {
            bout.span.from <= span.to && span.from <= bout.span.to.saturating_add(after)
        };
        if met().any(|bout| touches(bout, 0)) {
            return Some("a fault hit the node, or its network, within two ttls");
        }
        if met()
            .any(|bout| bout.is_on_probation(self.world.settings) && touches(bout, self.world.probation()))
        {
            return Some(PROBATION);
        }
        // Delayed effects of a fault: probation begins when a client meets the node again. A node that the client has
        // excluded (a replica, a node that evicts) is not dialed for a long time.
        for (from, to, stand) in self.views(process, node) {
            match stand {
                NodeView::OnProbation { until }
                    if from <= span.to
                        && span.from <= until
                        && met().any(|bout| {
                            bout.is_on_probation(self.world.settings) && bout.span.from <= from
                        }) =>
                {
                    return Some(PROBATION);
                }
                NodeView::Excluded
                    if from <= span.to
                        && span.from <= to
                        && met().any(|bout| touches(bout, EXCLUSION_SPAN)) =>
                {
                    return Some("the client had excluded the node and was yet to dial it again");
                }
                _ => {}
            }
        }
        if self.world.stopped_nanos(process, span) > self.slack() / 2 {
            return Some("the client stood still");
        }
        let blind = self.samples.longest_gap(node, span) > self.slack();
        blind.then_some("the machine had no time for the node")
    }

    /// The events that show the violation, and the message.
    fn evidence(
        &self,
        lock: &Lock<'_>,
        node: usize,
        sample: &Sample<'_>,
        span: Span,
    ) -> (Vec<usize>, String) {
        let before = self.samples.within(node, Span { from: lock.attempt.waiting_since, to: sample.at });
        let last = before.iter().rev().find(|sample| lock.has(sample));
        let has_it = |other: &usize| {
            let until = Span { from: lock.attempt.waiting_since, to: sample.at };
            self.samples.within(*other, until).last().is_some_and(|sample| lock.has(sample))
        };
        let mut events: Vec<usize> = lock.attempt.grant.iter().map(|grant| grant.event_index).collect();
        events.extend(last.map(|sample| sample.event_index));
        events.push(sample.event_index);
        let words = format!(
            "{}: {} holds it since {}; node {node}, up and healthy since {}, did not have its key at {} ({}; {} of {} nodes had it; the largest fencing number there was {})",
            lock.key,
            lock.attempt.name(),
            clock(self.world, lock.live.from),
            clock(self.world, span.from),
            clock(self.world, sample.at),
            last.map_or("never seen there".to_owned(), |last| {
                format!("last seen there at {}", clock(self.world, last.at))
            }),
            (0..self.world.settings.nodes).filter(has_it).count(),
            self.world.settings.nodes,
            sample.fence(lock.key).map_or_else(|| "none".to_owned(), |fence| fence.to_string()),
        );
        (events, words)
    }

    /// The client's views of the node, each with its beginning and end.
    fn views(&self, process: u32, node: usize) -> impl Iterator<Item = (u64, u64, NodeView)> {
        let views = self.views.get(&(process, node)).map_or(&[][..], Vec::as_slice);
        views.iter().enumerate().map(|(place, (from, stand))| {
            (*from, views.get(place + 1).map_or(self.world.to, |(next, _)| *next), *stand)
        })
    }
}

fn views(history: &History) -> BTreeMap<(u32, usize), Vec<(u64, NodeView)>> {
    let mut views: BTreeMap<(u32, usize), Vec<(u64, NodeView)>> = BTreeMap::new();
    for Event { at, actor: who, kind: what } in history.events() {
        if let (Actor::Client { process, .. }, EventKind::NodeViewChanged { node, view: stand }) = (who, what)
        {
            views.entry((*process, *node)).or_default().push((*at, *stand));
        }
    }
    views
}

const PROBATION: &str = "the node was on probation within two ttls";
/// How long a client does not dial a node that it has excluded.
const EXCLUSION_SPAN: u64 = 10_000 * MS;
