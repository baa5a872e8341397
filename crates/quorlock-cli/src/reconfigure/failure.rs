//! Why a reconfiguration ended: the exit code, and what to do.

use quorlock::error::{ConnectError, InvalidInput, ReconfigureError};
use quorlock::node::ExclusionReason;
use quorlock::reconfiguration::ReconfigurationObstacle;

use crate::args::Goal;
use crate::config::{self, Origins};
use crate::exit::{self, Failure};
use crate::nodes::{self, NOT_INITIALIZED};

pub(super) fn of(error: ReconfigureError, goal: &Goal, origins: &Origins) -> Failure {
    let message = error.to_string();
    match error {
        ReconfigureError::Connect(ConnectError::InvalidInput(invalid)) => of_input(&invalid, goal, origins),
        ReconfigureError::Connect(ConnectError::NodesExcluded { nodes, .. })
            if nodes::are_uninitialized(&nodes) =>
        {
            Failure::new(exit::NO_QUORUM, format!("{NOT_INITIALIZED}: run `quorlock init` once"))
        }
        ReconfigureError::Connect(error) => error.into(),
        ReconfigureError::OtherNodeList { .. } => Failure::new(
            exit::CONFIG,
            format!(
                "{message}\ngive as --nodes the list in force (host, port and database of each, or its --node-names), or that \
                 of before an interrupted reconfiguration together with its --to"
            ),
        ),
        ReconfigureError::NewNodeExcluded { reason, .. } => {
            let code = exit::code_of_exclusion(&reason);
            let advice = match reason {
                ExclusionReason::ClusterMismatch(_) => {
                    "\na new node must be blank; if no client uses its other lock cluster, empty it (FLUSHALL)"
                }
                _ => "",
            };
            Failure::new(code, format!("{message}{advice}"))
        }
        ReconfigureError::AlreadyMember { .. } => Failure::new(exit::CONFIG, format!("{message}{NAMES}")),
        ReconfigureError::InvalidQuorum { .. } => Failure::new(exit::USAGE, format!("--quorum: {message}")),
        _ => Failure::new(exit::SOFTWARE, message),
    }
}

/// What stands in the way, found by a dry run.
pub(super) fn of_obstacles(obstacles: &[ReconfigurationObstacle]) -> Option<Failure> {
    let code = |obstacle: &ReconfigurationObstacle| match obstacle {
        ReconfigurationObstacle::NewNodeExcluded { reason, .. } => exit::code_of_exclusion(reason),
        ReconfigurationObstacle::AlreadyMember { .. } => exit::CONFIG,
        _ => exit::NO_QUORUM,
    };
    let line = |obstacle: &ReconfigurationObstacle| match obstacle {
        ReconfigurationObstacle::AlreadyMember { .. } => format!("\n  {obstacle}{NAMES}"),
        _ => format!("\n  {obstacle}"),
    };
    let lines: String = obstacles.iter().map(line).collect();
    // Also an exclusion of the first new node ends a reconfiguration.
    let code = obstacles.iter().map(code).max()?;
    Some(Failure::new(code, format!("it cannot be changed so, because:{lines}")))
}

/// How to name a node that is a member already.
const NAMES: &str = "\nfor that, give --nodes with the new URLs, and --node-names with the names in force, which are the earlier \
                     addresses unless names were given; everywhere";

/// The failure of invalid input. Options that are goals are named by their flags, and others by their source.
pub(super) fn of_input(invalid: &InvalidInput, goal: &Goal, origins: &Origins) -> Failure {
    let flag = match invalid.option() {
        Some("to") => goal.to.is_some().then_some("--to"),
        Some("to_names") => Some("--to-names"),
        Some("quorum") => goal.quorum.is_some().then_some("--quorum"),
        Some("max_ttl") => goal.max_ttl.is_some().then_some("--max-ttl"),
        _ => None,
    };
    match flag {
        Some(flag) => Failure::new(exit::USAGE, format!("{flag}: {invalid}")),
        None => config::failure_of(invalid, origins),
    }
}
