//! On which terms a run ran: what the judge has to know to tell what was promised.

use serde::{Deserialize, Serialize};

use crate::checker::Invariant;

/// The terms of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What its random numbers began with.
    pub seed: u64,
    /// The command that does the same again.
    pub replay: String,
    /// When it was, where, and with which quorlock, in words: for people, who find a report a year later.
    #[serde(default)]
    pub about: String,
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
    /// How long clients wait for a node.
    pub reply_timeout_ms: u64,
    /// Whether locks are fenced: marker, probation, fencing numbers. Plain otherwise.
    pub fenced: bool,
    /// Whether a node that may have forgotten is kept from voting. Off only as a control.
    pub probation: bool,
    /// Within what time a key must be granted again that is wanted and not held, once a quorum of nodes votes: the
    /// longest ttl (its last holder may have died), and what a busy machine needs.
    pub recovery_ms: u64,
    /// The same while keys that are nobody's stand on a minority of the nodes, beside those that vote: the lock's own ttl,
    /// and this. Nothing is asked where nothing is said.
    #[serde(default)]
    pub starvation_ms: Option<u64>,
    /// How much later than its time a signal or an answer may come on a busy machine.
    pub slack_ms: u64,
    /// Whether it is long and lively enough that some lock must have been judged for redundancy.
    #[serde(default)]
    pub judges_redundancy: bool,
    /// What the run does beyond the assumptions, and what should break by that.
    #[serde(default)]
    pub controls: Vec<Control>,
}

/// A deliberate step beyond what the lock promises to survive: a run where nothing breaks by it has not tested it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// What is done, such as `probation off`.
    pub name: String,
    /// What should break.
    pub breaks: Invariant,
}
