//! What a reconfiguration has led to, for people and as JSON.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use quorlock::reconfiguration::{ReconfigurationObstacle, ReconfigurationProgress};
use quorlock_chaos::checker::counted;
use serde::Serialize;

use super::plan::Plan;

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Reconfigured,
    /// It was as wanted before.
    Unchanged,
    DryRun,
    Interrupted,
}

/// What is in force, as JSON.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    outcome: Outcome,
    epoch: &'a str,
    nodes: &'a [Arc<str>],
    voting: &'a [Arc<str>],
    to_add: &'a [Arc<str>],
    to_remove: &'a [Arc<str>],
    unreached: &'a [Arc<str>],
    obstacles: &'a [ReconfigurationObstacle],
    quorum: usize,
    max_ttl_ms: u64,
    /// What a dry run found.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a Plan>,
}

impl<'a> Report<'a> {
    pub(super) fn new(outcome: Outcome, progress: &'a ReconfigurationProgress) -> Self {
        Self {
            outcome,
            epoch: &progress.epoch,
            nodes: &progress.nodes,
            voting: &progress.voting,
            to_add: &progress.to_add,
            to_remove: &progress.to_remove,
            unreached: &progress.unreached,
            obstacles: &progress.obstacles,
            quorum: progress.quorum,
            max_ttl_ms: progress.max_ttl.as_millis() as u64,
            plan: None,
        }
    }

    pub(super) fn with_plan(self, plan: &'a Plan) -> Self {
        Self { plan: Some(plan), ..self }
    }
}

/// What is in force at the end, and what to do next.
pub(super) fn text(outcome: Outcome, progress: &ReconfigurationProgress) -> String {
    let head = if outcome == Outcome::Unchanged { "nothing was to be changed" } else { "reconfigured" };
    let mut text = format!("{head}: {}\n", settings(progress));
    for node in &progress.nodes {
        let _ = writeln!(text, "  {node}");
    }
    for obstacle in &progress.obstacles {
        let _ = writeln!(text, "but {obstacle}");
    }
    if !progress.unreached.is_empty() {
        let _ = writeln!(
            text,
            "not reached: {}; a node that does not know of the change yet learns it from the next client that reaches it",
            progress.unreached.join(", ")
        );
    }
    text + "give all clients this list of nodes now (--nodes, QUORLOCK_NODES, or the file), before removed servers are emptied\n"
}

/// The roster's number and settings.
pub(super) fn settings(progress: &ReconfigurationProgress) -> String {
    format!(
        "epoch {}, {}, a quorum of {}, a max ttl of {}",
        progress.epoch,
        counted(progress.nodes.len(), "node"),
        progress.quorum,
        humantime::format_duration(progress.max_ttl)
    )
}

/// The warning that held locks are lost.
pub(super) fn loses_locks(progress: &ReconfigurationProgress) -> String {
    format!(
        "held locks are lost: after one step too few nodes vote, and no lock can be acquired for the max ttl ({}), until \
         the new node votes",
        humantime::format_duration(progress.max_ttl)
    )
}

/// A duration without a fraction of a second, but for those below one.
pub(super) fn whole_seconds(span: Duration) -> impl std::fmt::Display {
    let seconds = Duration::from_secs(span.as_secs());
    humantime::format_duration(if seconds.is_zero() { span } else { seconds })
}
