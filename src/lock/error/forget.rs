//! Why a name was not forgotten.

use std::sync::Arc;

use super::key::lock;
use super::{InspectError, InvalidInput, NoDriver};
use crate::lock::replies::NodeReplies;
use quorlock_proto::vote::Vote;

/// Why a name was not forgotten.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// The name cannot be a lock's, or the client is plain and knows no numbers.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// A node shows a key of this name: the lock is held, or something is left of it.
    #[error("{}: not forgotten, for it is held: {replies}; {}", lock(.key), how_to_free(.replies))]
    HeldByOthers {
        /// The lock's key on the nodes.
        key: Arc<str>,
        /// What each node said.
        replies: NodeReplies,
    },
    /// Too few nodes forgot it: they did not answer, or refuse us. Those that did have forgotten it; forget it again later.
    #[error("{}: not forgotten on a quorum of nodes: {replies}{}", lock(.key), how_to_go_on(.replies))]
    NoQuorum {
        /// The lock's key on the nodes.
        key: Arc<str>,
        /// What each node said.
        replies: NodeReplies,
    },
    /// The client's driver does not run, or not in this process.
    #[error("{}: {reason}", lock(.key))]
    NoDriver {
        /// The lock's key on the nodes.
        key: Arc<str>,
        /// Why.
        reason: NoDriver,
    },
    /// The client was shut down.
    #[error("{}: the client is closed", lock(.key))]
    Closed {
        /// The lock's key on the nodes.
        key: Arc<str>,
    },
}

fn how_to_free(report: &NodeReplies) -> &'static str {
    if report.nodes().iter().any(|it| it.reply == (Vote::HeldByOther { remaining: None })) {
        "it never runs out: `quorlock force-release` (`Redlock::force_release`) frees it"
    } else {
        "release it first, or wait until it has run out"
    }
}

/// Trying again does not help where nodes refuse us.
fn how_to_go_on(report: &NodeReplies) -> &'static str {
    if report.nodes().iter().any(|it| matches!(it.reply, Vote::Excluded(_))) { "" } else { "; try again" }
}

impl From<InspectError> for ForgetError {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::InvalidInput(invalid) => Self::InvalidInput(invalid),
            InspectError::NoDriver { key, reason } => Self::NoDriver { key, reason },
            InspectError::Closed { key } => Self::Closed { key },
        }
    }
}
