//! The settings of a run, as the checker needs them.

use serde::{Deserialize, Serialize};

use crate::checker::Invariant;

/// The settings of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The seed of its random numbers.
    pub seed: u64,
    /// The command that repeats the run.
    pub replay: String,
    /// When and where it ran, and the version of quorlock, for readers of a report.
    #[serde(default)]
    pub description: String,
    /// The servers' name and version, such as `Redis 7.0.15`.
    pub server: String,
    /// The number of nodes.
    pub nodes: usize,
    /// The number of nodes in a quorum.
    pub quorum: usize,
    /// The longest ttl of a lock, and the length of probation.
    pub max_ttl_ms: u64,
    /// The clock drift that clients allow for, in parts per million.
    pub drift_ppm: u32,
    /// How long clients wait for a node's reply.
    pub reply_timeout_ms: u64,
    /// Whether locks are fenced: marker, probation, fencing numbers. Plain otherwise.
    pub fenced: bool,
    /// Whether a node that may have lost data is put on probation. False only in a negative control.
    pub probation: bool,
    /// The bound for granting a wanted and free key while a quorum votes: slack plus the max ttl, because
    /// the last holder may have died.
    pub recovery_ms: u64,
    /// The bound while a minority of the nodes has stale keys and a quorum of the others votes. The lock's ttl
    /// is added. Not checked if `None`.
    #[serde(default)]
    pub starvation_ms: Option<u64>,
    /// How late a signal or a reply may be on a busy machine.
    pub slack_ms: u64,
    /// Whether the run is long and busy enough that redundancy must have been checked for some lock.
    #[serde(default)]
    pub checks_redundancy: bool,
    /// The negative controls of the run, and the invariant that each should violate.
    #[serde(default)]
    pub controls: Vec<NegativeControl>,
}

/// A negative control: a deliberate fault beyond what the lock survives. If it violates nothing, the run has
/// not tested the invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegativeControl {
    /// What is done, such as `probation off`.
    pub name: String,
    /// The invariant that should be violated.
    pub breaks: Invariant,
}
