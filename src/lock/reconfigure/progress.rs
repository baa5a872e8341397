//! How far a reconfiguration is, and what comes next.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::client::Redlock;
use super::obstacle::ReconfigurationObstacle;
use crate::host::clock::now;
use quorlock_proto::membership::{NextStep, ReconfigurationState};
use quorlock_proto::quorum::NodeSet;
use quorlock_proto::roster::foresight::PlannedStep;
use quorlock_proto::span::Span;

/// How far a reconfiguration is.
///
/// # Examples
///
/// ```no_run
/// # async fn example(reconfiguration: quorlock::reconfiguration::Reconfiguration) -> Result<(), quorlock::error::ReconfigureError> {
/// let before = reconfiguration.inspect().await?;
/// println!("epoch {}: {} nodes, a quorum of {}", before.epoch, before.nodes.len(), before.quorum);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ReconfigurationProgress {
    /// The number of the roster in force.
    pub epoch: Arc<str>,
    /// The nodes in force.
    pub nodes: Vec<Arc<str>>,
    /// Those that vote.
    pub voting: Vec<Arc<str>>,
    /// The nodes that are still to be added.
    pub to_add: Vec<Arc<str>>,
    /// The nodes that are still to be removed.
    pub to_remove: Vec<Arc<str>>,
    /// The nodes in force that do not reply, or have not learned of it yet. They learn it from the next client that
    /// reaches them.
    pub unreached: Vec<Arc<str>>,
    /// What stands in the way, or will be in the way of locks.
    pub obstacles: Vec<ReconfigurationObstacle>,
    /// The number of steps that are still to be made.
    pub steps: usize,
    /// Whether after one of them fewer nodes vote than a quorum, until the new node has passed its probation. Locks
    /// that are held then are lost, and none can be acquired for the max TTL.
    pub loses_locks: bool,
    /// The number of nodes that make a quorum.
    pub quorum: usize,
    /// The max TTL.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "max_ttl_ms", serialize_with = "quorlock_proto::serialize_duration::millis")
    )]
    pub max_ttl: Duration,
    /// What comes next.
    pub next: ReconfigurationStep,
}

/// What comes next in a reconfiguration.
///
/// # Examples
///
/// ```
/// use quorlock::reconfiguration::ReconfigurationStep;
///
/// fn is_to_be_fixed(next: &ReconfigurationStep) -> bool {
///     matches!(next, ReconfigurationStep::AfterNewNode(_) | ReconfigurationStep::AfterMoreVotes)
/// }
/// assert!(!is_to_be_fixed(&ReconfigurationStep::Done));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ReconfigurationStep {
    /// Nothing: the lock cluster is as it should be.
    Done,
    /// A step is being agreed on.
    UnderWay,
    /// A step, once these nodes have passed their probation.
    AfterProbation(Vec<Arc<str>>),
    /// A step, after this time: by then the locks of before the last step have ended.
    AfterLocks(
        #[cfg_attr(feature = "serde", serde(serialize_with = "quorlock_proto::serialize_duration::millis"))]
        Duration,
    ),
    /// A step, once this new node can have a seat: see [`ReconfigurationProgress::obstacles`].
    AfterNewNode(Arc<str>),
    /// A step, once more nodes vote: otherwise too few would be left after it.
    AfterMoreVotes,
}

impl ReconfigurationProgress {
    /// How far the client is on the way to the nodes `goal`.
    pub(super) fn new(
        client: &Redlock,
        obstacles: Vec<ReconfigurationObstacle>,
        steps: &[PlannedStep],
        goal: NodeSet,
        state: &ReconfigurationState,
    ) -> Self {
        let names = |nodes: NodeSet| -> Vec<Arc<str>> {
            nodes.iter().map(|node| Arc::clone(&client.shared.names[node.index()])).collect()
        };
        let roster = &state.roster;
        let next = match &state.next {
            NextStep::Done => ReconfigurationStep::Done,
            NextStep::AfterProbation(nodes) => ReconfigurationStep::AfterProbation(names(*nodes)),
            NextStep::AfterLocks(at) => ReconfigurationStep::AfterLocks(at.since(now())),
            NextStep::AfterNewNode(node) => {
                ReconfigurationStep::AfterNewNode(Arc::clone(&client.shared.names[node.index()]))
            }
            NextStep::AfterMoreVotes => ReconfigurationStep::AfterMoreVotes,
            NextStep::UnderWay | NextStep::OtherList | NextStep::InvalidQuorum => {
                ReconfigurationStep::UnderWay
            }
        };
        Self {
            epoch: roster.epoch.to_string().into(),
            nodes: names(state.nodes),
            voting: names(state.voting),
            to_add: names(goal.without(state.nodes)),
            to_remove: names(state.nodes.without(goal)),
            unreached: names(state.unreached),
            obstacles,
            steps: steps.len(),
            loses_locks: steps.iter().any(PlannedStep::loses_locks),
            quorum: roster.config.quorum().needed(),
            max_ttl: roster.config.max_ttl(),
            next,
        }
    }
}

impl fmt::Display for ReconfigurationProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, voting) = (self.nodes.len(), self.voting.len());
        let s = if all == 1 { "" } else { "s" };
        write!(f, "epoch {}: {all} node{s} ({}), {voting} vote, ", self.epoch, self.nodes.join(", "))?;
        write!(f, "a quorum of {}, a max ttl of {}: ", self.quorum, Span(self.max_ttl))?;
        self.next.fmt(f)
    }
}

impl fmt::Display for ReconfigurationStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::UnderWay => f.write_str("a step is under way"),
            Self::AfterProbation(nodes) => write!(f, "waiting until {} may vote", nodes.join(", ")),
            Self::AfterLocks(left) => {
                write!(f, "waiting {:.1} s until earlier locks have ended", left.as_secs_f64())
            }
            Self::AfterNewNode(node) => write!(f, "waiting for the new node {node}"),
            Self::AfterMoreVotes => f.write_str("waiting for a member: without it too few would vote"),
        }
    }
}
