//! The settings of a lock cluster, as its nodes have them.

use std::fmt;
use std::time::Duration;

use quorlock_proto::marker::LockClusterConfig;
use quorlock_proto::span::Span;

/// The settings that all clients of a lock cluster share. They were set at its founding; a client's own count only
/// there, and [`RedlockBuilder::reconfigure`](crate::RedlockBuilder::reconfigure) changes them.
///
/// # Examples
///
/// ```no_run
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// let nodes = redlock.node_status().await;
/// if let Some(seat) = nodes.iter().find_map(|node| node.seat.as_ref()) {
///     println!("{}", seat.settings);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClusterSettings {
    /// The number of nodes.
    pub nodes: usize,
    /// The number of nodes that make a quorum.
    pub quorum: usize,
    /// The longest ttl of a lock, and the length of probation.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "max_ttl_ms", serialize_with = "quorlock_proto::serialize_duration::millis")
    )]
    pub max_ttl: Duration,
    /// How long a fence is kept after the last grant or renewal.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "fencing_retention_ms",
            serialize_with = "quorlock_proto::serialize_duration::millis"
        )
    )]
    pub fencing_retention: Duration,
}

impl From<LockClusterConfig> for ClusterSettings {
    fn from(config: LockClusterConfig) -> Self {
        Self {
            nodes: config.quorum().nodes(),
            quorum: config.quorum().needed(),
            max_ttl: config.max_ttl(),
            fencing_retention: config.retention(),
        }
    }
}

impl fmt::Display for ClusterSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.nodes == 1 { "" } else { "s" };
        let (max_ttl, retention) = (Span(self.max_ttl), Span(self.fencing_retention));
        write!(f, "{} node{s}, a quorum of {}, ", self.nodes, self.quorum)?;
        write!(f, "a max ttl of {max_ttl}, fences kept for {retention}")
    }
}
