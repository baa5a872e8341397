//! The public status of a node.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::cluster_settings::ClusterSettings;
use super::deadline::LeaseDeadline;
use super::dial_step::DialStep;
use super::fences::Fences;
use super::node_warning::NodeWarning;
#[cfg(feature = "serde")]
use super::serialize_time;
use quorlock_proto::vote::{ExclusionReason, ProbationReason, ReplyFailure};

/// The status of one node, from [`Redlock::node_status`](crate::Redlock::node_status).
///
/// # Examples
///
/// ```no_run
/// # async fn example(redlock: quorlock::Redlock) {
/// for node in redlock.node_status().await {
///     println!("{node}");
///     for warning in &node.warnings {
///         println!("  warning: {warning}");
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NodeStatus {
    /// The node's address, without user or password.
    #[cfg_attr(feature = "serde", serde(rename = "node"))]
    pub address: Arc<str>,
    /// Whether the node votes.
    pub state: NodeState,
    /// The server's name and version; `None` until it was reached once.
    pub server: Option<ServerVersion>,
    /// The run id of its process; empty until it was reached once, and if it has none. Dragonfly's is its replication
    /// id.
    pub run_id: String,
    /// The round trip of a request and its reply in the last handshake.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "round_trip_us",
            serialize_with = "quorlock_proto::serialize_duration::optional_micros"
        )
    )]
    pub round_trip: Option<Duration>,
    /// How far its clock was ahead of this client's clock in the last handshake, in microseconds; negative if
    /// behind. Exact to half a round trip.
    #[cfg_attr(feature = "serde", serde(rename = "clock_offset_us"))]
    pub clock_offset_micros: Option<i64>,
    /// Whether its data survives a restart; `None` until it was reached once, and if it does not say.
    pub persistence: Option<Persistence>,
    /// Problems that endanger locks on it, or slow them.
    pub warnings: Vec<NodeWarning>,
    /// The cost of the fencing numbers on it; `None` until it was reached once, and in plain mode.
    pub fences: Option<Fences>,
    /// The step in which the last dial failed, if there was no usable reply. `None` while the node is
    /// connected, and if the server itself reported why it does not serve.
    pub failed_step: Option<DialStep>,
    /// Why it casts no vote for a while, although it is up. Always `None` in plain mode.
    pub probation: Option<Probation>,
    /// While it waits for a seat: by when it gets one without the nodes that do not reply. `None` if more nodes must
    /// reply first.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "seat_within_ms", serialize_with = "serialize_time::optional_remaining_millis")
    )]
    pub seat_by: Option<LeaseDeadline>,
    /// By when its seat becomes vacant, if no client reaches it until then. `None` if it keeps the seat.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "vacant_within_ms", serialize_with = "serialize_time::optional_remaining_millis")
    )]
    pub vacant_by: Option<LeaseDeadline>,
    /// Its seat in the roster of its lock cluster; `None` until a roster was read, and in plain mode.
    pub seat: Option<SeatStatus>,
    /// Whether its connection has broken and the first dial since then has not ended.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) is_returning: bool,
}

/// Whether a node votes.
///
/// # Examples
///
/// ```no_run
/// use quorlock::node::NodeState;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// for node in redlock.node_status().await {
///     match &node.state {
///         NodeState::Down { reason, .. } => eprintln!("{} is down: {reason}", node.address),
///         NodeState::Excluded(reason) => eprintln!("{} needs an operator: {reason}", node.address),
///         _ => {}
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum NodeState {
    /// The first dial is running.
    Connecting,
    /// Connected, without a seat in the roster yet: it gets one when a majority of the members reply, or, if too few
    /// servers remember the roster, when all others reply or were absent for the max TTL. With a failure, it did not report
    /// its marker or did not accept one. It is queried again automatically. Never in plain mode.
    Unverified(Option<ReplyFailure>),
    /// Connected: it votes, unless it is on [probation](NodeStatus::probation).
    Up,
    /// Not connected; it is dialed again automatically.
    #[non_exhaustive]
    Down {
        /// The cause.
        reason: Arc<str>,
    },
    /// It cannot serve this client until an operator fixes it.
    Excluded(ExclusionReason),
}

/// A server's name and version. `Display` shows both, as in `Redis 7.0.15`.
///
/// # Examples
///
/// ```no_run
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// for node in redlock.node_status().await {
///     if let Some(server) = &node.server {
///         println!("{}: {} {}", node.address, server.name, server.version);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ServerVersion {
    /// The name of the product: `Redis`, `Valkey`, `KeyDB` and others.
    pub name: &'static str,
    /// Its own version number.
    pub version: String,
    /// The provider's service, if the server names it: `Amazon ElastiCache`, `Redis Enterprise` and others.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub service: Option<&'static str>,
}

/// A node's seat in the roster of its lock cluster. A server that may have lost data takes it again.
///
/// # Examples
///
/// ```no_run
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// for node in redlock.node_status().await {
///     if node.seat.is_some_and(|seat| seat.is_vacant) {
///         println!("no server has the seat of {}", node.address);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SeatStatus {
    /// The number of the roster: it grows with each change of a seat.
    pub epoch: Arc<str>,
    /// Whether no server has it. It still counts in the number of nodes.
    pub is_vacant: bool,
    /// When it last changed hands, by the clock of the client that proposed it; `None` if it never did.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize_time::unix_seconds"))]
    pub changed_at: Option<SystemTime>,
    /// Whether this client's list of nodes (host, port and database of each, or its
    /// [name](crate::RedlockBuilder::node_names)) is the roster's. A client with another
    /// list gives no node a seat, and may take one node's seat for another's.
    pub same_node_list: bool,
    /// The settings of the lock cluster.
    pub settings: ClusterSettings,
}

/// Whether a server's data survives a restart.
///
/// # Examples
///
/// ```no_run
/// use quorlock::node::Persistence;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// for node in redlock.node_status().await {
///     if node.persistence == Some(Persistence::NoAppendOnlyFile) {
///         println!("{} loses its locks when it restarts", node.address);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Persistence {
    /// It writes an append-only file.
    AppendOnlyFile,
    /// It writes none: after a restart its locks are gone, or old.
    NoAppendOnlyFile,
}

/// The time in which a node casts no vote, because it may have lost data or its clock jumped.
///
/// # Examples
///
/// ```no_run
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// for node in redlock.node_status().await {
///     if let Some(probation) = node.probation {
///         println!("{} votes again in {:?}: {}", node.address, probation.remaining(), probation.reason);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Probation {
    /// The end of the probation.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "remaining_ms", serialize_with = "serialize_time::remaining_millis")
    )]
    pub until: LeaseDeadline,
    /// The reason.
    pub reason: ProbationReason,
}

impl Probation {
    /// The rest of the probation from now; zero once it is over.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let nodes = redlock.node_status().await;
    /// let longest = nodes.iter().filter_map(|node| node.probation).map(|it| it.remaining()).max();
    /// if let Some(remaining) = longest {
    ///     println!("all nodes vote in {remaining:?}");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.until.remaining_on_boot_clock()
    }
}

impl NodeStatus {
    pub(crate) fn new(address: Arc<str>) -> Self {
        Self {
            address,
            state: NodeState::Connecting,
            server: None,
            run_id: String::new(),
            round_trip: None,
            clock_offset_micros: None,
            persistence: None,
            warnings: Vec::new(),
            fences: None,
            failed_step: None,
            probation: None,
            seat_by: None,
            vacant_by: None,
            seat: None,
            is_returning: false,
        }
    }

    /// Whether it votes right now, as far as is known.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// for node in redlock.node_status().await.iter().filter(|node| !node.is_voting()) {
    ///     eprintln!("casts no vote: {node}");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn is_voting(&self) -> bool {
        self.is_up() && self.probation.is_none_or(|probation| probation.remaining().is_zero())
    }

    /// Whether its first dial has ended, in success or failure, and it is known whether it votes.
    pub(crate) fn is_known(&self) -> bool {
        !matches!(self.state, NodeState::Connecting | NodeState::Unverified(None))
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == NodeState::Up
    }
}

/// The status of all nodes, in the order of the client's list.
pub(crate) type NodeStatusList = Arc<[NodeStatus]>;

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.address)?;
        match &self.state {
            NodeState::Connecting => f.write_str("no reply yet"),
            NodeState::Unverified(Some(failure)) => failure.fmt(f),
            NodeState::Unverified(None) => match self.seat_by.map(|until| until.remaining()) {
                Some(at_most) if !at_most.is_zero() => ReplyFailure::AwaitsAbsent { at_most }.fmt(f),
                _ => ReplyFailure::Unverified.fmt(f),
            },
            NodeState::Up => match self.probation.filter(|probation| !probation.remaining().is_zero()) {
                Some(probation) => {
                    let seconds = probation.remaining().as_secs_f64();
                    write!(f, "up, and casts no vote for {seconds:.1} s more: {}", probation.reason)
                }
                None => f.write_str("up"),
            },
            NodeState::Down { reason } => f.write_str(reason),
            NodeState::Excluded(exclusion) => exclusion.fmt(f),
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        // A proxy may hide the version.
        if self.version.is_empty() { Ok(()) } else { write!(f, " {}", self.version) }
    }
}

impl fmt::Display for Persistence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AppendOnlyFile => "append-only file",
            Self::NoAppendOnlyFile => "no append-only file",
        })
    }
}
