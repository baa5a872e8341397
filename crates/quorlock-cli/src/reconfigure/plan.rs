//! The plan of a reconfiguration, for `--dry-run`: which nodes are exchanged, added and removed, and how long it takes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use quorlock::reconfiguration::ReconfigurationProgress;
use quorlock_chaos::checker::counted;
use serde::Serialize;

use super::report::{loses_locks, settings, whole_seconds};
use crate::args::Goal;

/// What is to be done.
#[derive(Serialize)]
pub(super) struct Plan {
    /// Nodes that are exchanged in one step: the one in force, and the one after.
    exchanges: Vec<[Arc<str>; 2]>,
    adds: Vec<Arc<str>>,
    removes: Vec<Arc<str>>,
    /// The quorum at the end.
    quorum: usize,
    /// The max ttl at the end.
    max_ttl_ms: u64,
    steps: usize,
    /// Whether locks that are held are lost in one of the steps.
    loses_locks: bool,
    /// About how long it takes.
    estimated_ms: u64,
}

impl Plan {
    pub(super) fn new(now: &ReconfigurationProgress, goal: &Goal) -> Self {
        let (add, remove) = (&now.to_add, &now.to_remove);
        let exchanged = add.len().min(remove.len());
        let pairs = remove.iter().zip(add).map(|(from, to)| [Arc::clone(from), Arc::clone(to)]);
        let count = now.nodes.len() + add.len() - remove.len();
        // A quorum of its own is kept only as long as the number of nodes is.
        let kept = if add.len() == remove.len() { now.quorum } else { count / 2 + 1 };
        let quorum = goal.quorum.unwrap_or(kept);
        let max_ttl = goal.max_ttl.unwrap_or(now.max_ttl);
        let steps = now.steps;
        // Locks of an earlier roster may run, unless this is the first one.
        let first_wait = usize::from(steps > 0 && &*now.epoch != "1.0");
        let longest = max_ttl.max(now.max_ttl);
        let estimated = longest.saturating_mul(u32::try_from(steps + first_wait).unwrap_or(u32::MAX));
        Self {
            exchanges: pairs.collect(),
            adds: add[exchanged..].to_vec(),
            removes: remove[exchanged..].to_vec(),
            quorum,
            max_ttl_ms: max_ttl.as_millis() as u64,
            steps,
            loses_locks: now.loses_locks,
            estimated_ms: estimated.as_millis() as u64,
        }
    }

    /// The plan for people: what is in force, and each change.
    pub(super) fn text(&self, now: &ReconfigurationProgress) -> String {
        let mut text = format!("in force: {}\n", settings(now));
        for node in &now.nodes {
            let _ = writeln!(text, "  {node}");
        }
        if self.steps == 0 {
            return text + "nothing is to be changed\n";
        }
        for [from, to] in &self.exchanges {
            let _ = writeln!(text, "to exchange: {from} for {to}");
        }
        for (what, nodes) in [("add", &self.adds), ("remove", &self.removes)] {
            if !nodes.is_empty() {
                let _ = writeln!(text, "to {what}: {}", nodes.join(", "));
            }
        }
        if self.quorum != now.quorum {
            let _ = writeln!(text, "the quorum becomes {}", self.quorum);
        }
        let max_ttl = Duration::from_millis(self.max_ttl_ms);
        if max_ttl != now.max_ttl {
            let _ = writeln!(text, "the max ttl becomes {}", humantime::format_duration(max_ttl));
        }
        let estimated = whole_seconds(Duration::from_millis(self.estimated_ms));
        let _ = writeln!(
            text,
            "{}, about {estimated} in all: each takes the max ttl",
            counted(self.steps, "step")
        );
        if self.loses_locks {
            let _ = writeln!(text, "{}", loses_locks(now));
        }
        text + "nothing was changed, because of --dry-run\n"
    }
}
