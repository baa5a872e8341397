//! A node that is up and well for two ttls holds the key of every live lock.
//!
//! A lock that misses a node which could serve it is as good as any other, until another node fails: then it is lost by
//! a failure that it should have survived. Nothing else shows that, so the run looks at the nodes ([`EventKind::Sampled`]).
//!
//! Why two ttls: whoever keeps a lock asks all nodes at least once in a ttl, and takes the key anew where it is missing;
//! one ttl until it asks, and one for what stood there before. What a busy machine needs is added.

use std::collections::BTreeMap;

use super::samples::{Sample, Samples};
use super::world::FaultWindow;
use super::{Findings, Invariant, LockAttempt, MS, Span, World, clock, millis};
use crate::history::{Actor, Event, EventKind, History, LockKind, NodeView};

pub(super) fn check(
    history: &History,
    world: &World<'_>,
    turns: &[LockAttempt<'_>],
    findings: &mut Findings,
) {
    let samples = Samples::of(history, world);
    // Nobody looked: the history was told by others than a run of ours.
    if samples.is_empty() {
        return;
    }
    let judge = Judge { world, samples, views: views(history) };
    for turn in turns.iter().filter(|turn| matches!(turn.kind, LockKind::Mutex | LockKind::Write)) {
        let Some(live) = turn.believed().filter(|live| live.len() >= judge.window(turn)) else { continue };
        let mut is_judged = false;
        for key in turn.keys {
            let owner = judge.samples.owner(key, live, world.settings.quorum);
            for node in 0..world.settings.nodes {
                is_judged |= judge.node(&Lock { turn, live, key, owner }, node, findings);
            }
        }
        findings.redundancy_judged += usize::from(is_judged);
    }
    if findings.redundancy_judged == 0 && world.settings.judges_redundancy {
        let words = format!(
            "no lock was held for two ttls beside a node that was well, in a run of {:.0} s: redundancy was not tested",
            millis(world.to - world.from) / 1e3,
        );
        findings.broken(Invariant::CompleteHistory, world.to, Vec::new(), words);
    }
}

struct Judge<'a> {
    world: &'a World<'a>,
    samples: Samples<'a>,
    /// How each client sees each node: from when on, in the order of time.
    views: BTreeMap<(u32, usize), Vec<(u64, NodeView)>>,
}

/// A key of a lock that was held long enough.
#[derive(Clone, Copy)]
struct Lock<'a> {
    turn: &'a LockAttempt<'a>,
    live: Span,
    key: &'a str,
    /// The hash of its token, where the nodes show it. A node without any key has not the lock's key, whosever it is.
    owner: Option<&'a str>,
}

impl Lock<'_> {
    fn has(&self, sample: &Sample<'_>) -> bool {
        let owner = sample.owner(self.key);
        owner.is_some() && (self.owner.is_none() || owner == self.owner)
    }
}

impl Judge<'_> {
    /// How long a node must have been well to be judged.
    fn window(&self, turn: &LockAttempt<'_>) -> u64 {
        2 * turn.ttl_ms * MS + self.slack()
    }

    fn slack(&self) -> u64 {
        self.world.settings.slack_ms * MS
    }

    /// One node, at each moment that ends two ttls of this lock. Gives back whether there was any without an excuse.
    fn node(&self, lock: &Lock<'_>, node: usize, findings: &mut Findings) -> bool {
        let window = self.window(lock.turn);
        let seen = Span { from: lock.live.from + window, to: lock.live.to };
        let mut is_judged = false;
        let mut excused: Option<(&Sample<'_>, &str)> = None;
        for sample in self.samples.within(node, seen) {
            let span = Span { from: sample.asked - window, to: sample.at };
            let excuse = self.excuse(lock, node, span);
            if lock.has(sample) {
                is_judged |= excuse.is_none();
                continue;
            }
            let Some(because) = excuse else {
                // Told once: it is missed at each moment from now on.
                let (events, words) = self.told(lock, node, sample, span);
                findings.broken(Invariant::Redundancy, sample.at, events, words);
                return true;
            };
            excused.get_or_insert((sample, because));
        }
        if let Some((sample, because)) = excused {
            let (events, _) = self.told(lock, node, sample, seen);
            findings.excused(Invariant::Redundancy, sample.at, events, because.to_owned());
        }
        is_judged
    }

    /// Why the node need not have the key at the end of `span`.
    fn excuse(&self, lock: &Lock<'_>, node: usize, span: Span) -> Option<&'static str> {
        let process = lock.turn.process;
        let met = || {
            let of_node = self.world.bouts.iter().filter(move |bout| bout.fault.nodes.contains(&node));
            of_node.filter(|bout| bout.fault.is_met_by(process) && bout.spoils())
        };
        let touches = |bout: &FaultWindow<'_>, after: u64| {
            bout.span.from <= span.to && span.from <= bout.span.to.saturating_add(after)
        };
        if met().any(|bout| touches(bout, 0)) {
            return Some("a fault hit the node, or the way to it, within two ttls");
        }
        if met().any(|bout| bout.is_doubtful(self.world.settings) && touches(bout, self.world.probation())) {
            return Some(PROBATION);
        }
        // What comes of a fault at its own time: probation begins when somebody meets the node again, and whom it has
        // refused (a replica, a node that evicts) it is long not asked again.
        for (from, to, stand) in self.views(process, node) {
            match stand {
                NodeView::OnProbation { until }
                    if from <= span.to
                        && span.from <= until
                        && met()
                            .any(|bout| bout.is_doubtful(self.world.settings) && bout.span.from <= from) =>
                {
                    return Some(PROBATION);
                }
                NodeView::Excluded
                    if from <= span.to && span.from <= to && met().any(|bout| touches(bout, BARRED)) =>
                {
                    return Some("the node had refused the client, which was yet to dial it again");
                }
                _ => {}
            }
        }
        if self.world.stood_still(process, span) > self.slack() / 2 {
            return Some("the client stood still");
        }
        let blind = self.samples.blind(node, span) > self.slack();
        blind.then_some("the machine had no time for the node")
    }

    /// The events that show it, and words.
    fn told(&self, lock: &Lock<'_>, node: usize, sample: &Sample<'_>, span: Span) -> (Vec<usize>, String) {
        let before = self.samples.within(node, Span { from: lock.turn.waiting, to: sample.at });
        let last = before.iter().rev().find(|sample| lock.has(sample));
        let has_it = |other: &usize| {
            let until = Span { from: lock.turn.waiting, to: sample.at };
            self.samples.within(*other, until).last().is_some_and(|sample| lock.has(sample))
        };
        let mut events: Vec<usize> = lock.turn.grant.iter().map(|grant| grant.place).collect();
        events.extend(last.map(|sample| sample.place));
        events.push(sample.place);
        let words = format!(
            "{}: {} holds it since {}; node {node}, up and well from {} on, did not have its key at {} ({}; {} of {} nodes had it; the largest number there was {})",
            lock.key,
            lock.turn.name(),
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

    /// From when to when the client saw the node like that.
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
/// How long a node that refused a client is not dialed again.
const BARRED: u64 = 10_000 * MS;
