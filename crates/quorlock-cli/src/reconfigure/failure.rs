//! Why a reconfiguration ended: the exit code, and what to do.

use quorlock::error::{ConnectError, InvalidInput, ReconfigureError};
use quorlock::node::ExclusionReason;

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
        ReconfigureError::InvalidQuorum { .. } => Failure::new(exit::USAGE, format!("--quorum: {message}")),
        _ => Failure::new(exit::SOFTWARE, message),
    }
}

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
