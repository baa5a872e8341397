//! The settings of a run: what the checker must know to decide which invariants hold.

use serde::{Deserialize, Serialize};

use crate::checker::Invariant;

/// The settings of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The seed of its random numbers.
    pub seed: u64,
    /// The command that repeats the run.
    pub replay: String,
    /// When and where it ran, and with which quorlock: for people who find a report a year later.
    #[serde(default)]
    pub description: String,
    /// What the servers call themselves, such as `Redis 7.0.15`.
    pub server: String,
    /// How many nodes.
    pub nodes: usize,
    /// How many of them make a quorum.
    pub quorum: usize,
    /// The longest ttl of a lock, which is also how long probation lasts.
    pub max_ttl_ms: u64,
    /// The drift that clients allow for, in millionths.
    pub drift_ppm: u32,
    /// How long clients wait for a node's reply.
    pub reply_timeout_ms: u64,
    /// Whether locks are fenced: marker, probation, fencing numbers. Plain otherwise.
    pub fenced: bool,
    /// Whether a node that may have lost data is kept from voting. Off only in a negative control.
    pub probation: bool,
    /// The time within which a key that is wanted and free must be granted, once a quorum of nodes votes: the max
    /// ttl (its last holder may have died), and slack for a busy machine.
    pub recovery_ms: u64,
    /// The same while stale keys are on a minority of the nodes, besides those that vote: the lock's own ttl plus this.
    /// Without a value it is not checked.
    #[serde(default)]
    pub starvation_ms: Option<u64>,
    /// How much later than its time a signal or a reply may come on a busy machine.
    pub slack_ms: u64,
    /// Whether the run is long and busy enough that some lock must have been checked for redundancy.
    #[serde(default)]
    pub checks_redundancy: bool,
    /// The negative controls of the run, and what each should violate.
    #[serde(default)]
    pub controls: Vec<Control>,
}

/// A negative control: a deliberate step beyond what the lock survives. A run in which it violates nothing has not
/// tested the invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// What is done, such as `probation off`.
    pub name: String,
    /// Which invariant should be violated.
    pub breaks: Invariant,
}
