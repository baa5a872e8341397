//! Why a dial failed.

use std::sync::Arc;

use crate::view::{DialStep, ServerVersion};
use quorlock_proto::vote::ExclusionReason;

/// Why a dial failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialError {
    /// An operator must fix the node or the configuration first.
    Excluded(ExclusionReason),
    /// The server reported an error that may pass, such as loading its data.
    NotReady(Arc<str>),
    /// In this step, the connection failed or no reply came.
    NoReply(DialStep, Arc<str>),
}

/// A failed dial.
#[derive(Debug)]
pub(crate) struct DialFailure {
    pub(crate) error: DialError,
    /// The server, if it replied to `INFO`.
    pub(crate) server: Option<ServerVersion>,
}

/// The hint in an error of the TLS handshake.
pub(super) const MAYBE_NOT_TLS: &str = ": does it speak TLS? if not, use redis://";

/// The hint in an error of a provider that has not replied.
pub(super) const MAYBE_SLOW_PROVIDER: &str = ": is the dial timeout too short for them?";
