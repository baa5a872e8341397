//! Warnings about a node.

use std::fmt;
use std::sync::Arc;

use super::fences::Fences;
use quorlock_proto::vote::{ExclusionReason, ReplyFailure};

/// A problem that endangers or slows locks on a node that votes. `Display` says what to do.
///
/// # Examples
///
/// ```no_run
/// use quorlock::node::NodeWarning;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// for node in redlock.node_status().await {
///     for warning in &node.warnings {
///         match warning {
///             NodeWarning::EvictionPolicy(policy) => eprintln!("{}: replace {policy}", node.address),
///             other => eprintln!("{}: {other}", node.address),
///         }
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum NodeWarning {
    /// It evicts keys when its memory is full, locks among them, by this policy.
    EvictionPolicy(String),
    /// It rejected a write when it was dialed, with this error.
    WriteRejected(Arc<str>),
    /// It keeps no wait queues, for this reason. Waiters poll instead.
    WaitQueueUnavailable(String),
    /// The fencing numbers take a large part of its memory limit.
    FencesTooLarge(Fences),
    /// It did not report its marker or did not accept one.
    MarkerFailed(ReplyFailure),
    /// It rejected a request for a reason that excludes a node, such as a missing permission, and still votes
    /// on others.
    RequestRejected(ExclusionReason),
    /// The login on its connection was not renewed, for this reason. The connection goes on with the login that it has,
    /// and the renewal is tried again.
    LoginNotRenewed(Arc<str>),
}

impl fmt::Display for NodeWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EvictionPolicy(policy) => write!(
                f,
                "evicts keys when memory is full (maxmemory-policy {policy}), locks among them: set noeviction"
            ),
            Self::WriteRejected(error) => write!(f, "rejects writes, or did when it was dialed: {error}"),
            Self::WaitQueueUnavailable(reason) => {
                write!(f, "cannot notify waiters, which poll instead: {reason}")
            }
            Self::FencesTooLarge(fences) => write!(
                f,
                "about {} fencing numbers take {:.0} % of its maxmemory, and all locks stop when it is full: forget \
                 names that do not come again (`quorlock forget`), keep numbers for a shorter time \
                 (--fencing-retention), or raise maxmemory",
                fences.count,
                fences.share().unwrap_or_default() * 100.0
            ),
            Self::MarkerFailed(failure) => failure.fmt(f),
            Self::RequestRejected(exclusion) => exclusion.fmt(f),
            Self::LoginNotRenewed(reason) => write!(f, "the login was not renewed: {reason}"),
        }
    }
}
