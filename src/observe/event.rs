//! The events of a client.

use std::sync::Arc;
use std::time::Duration;

use crate::view::{NodeReply, NodeWarning, ServerVersion};
use quorlock_proto::attempt::FailureReason;
use quorlock_proto::lease::LossReason;
use quorlock_proto::request::{Key, OwnerHash};
use quorlock_proto::vote::{ExclusionReason, ProbationReason};

/// Something that happened to a node or a lock. Never holds a password or an owner token.
///
/// Events go to `tracing` and to the closure of [`on_event`](crate::RedlockBuilder::on_event). Their text is
/// shared, so a clone is cheap.
///
/// # Examples
///
/// ```no_run
/// use quorlock::{Redlock, event::Event};
///
/// # fn example() {
/// let builder = Redlock::builder().on_event(|event| {
///     if let Event::Lost { key, reason, .. } = event {
///         eprintln!("lost {key}: {reason}");
///     }
/// });
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A node is connected. In plain mode it votes; in fenced mode it may still be excluded or on probation.
    #[non_exhaustive]
    NodeUp {
        /// The node's address.
        node: Arc<str>,
        /// The server's name and version.
        server: ServerVersion,
        /// The round trip of a request and its reply during the handshake.
        round_trip: Duration,
    },
    /// A node is not connected; it is dialed again automatically.
    #[non_exhaustive]
    NodeDown {
        /// The node's address.
        node: Arc<str>,
        /// The reason, as text.
        reason: Arc<str>,
    },
    /// A node cannot serve this client until it is fixed.
    #[non_exhaustive]
    NodeExcluded {
        /// The node's address.
        node: Arc<str>,
        /// The reason.
        reason: ExclusionReason,
    },
    /// A node votes, but something about it endangers locks or slows them.
    #[non_exhaustive]
    NodeWarning {
        /// The node's address.
        node: Arc<str>,
        /// The problem.
        warning: NodeWarning,
    },
    /// A node is on probation: it is up, but casts no vote for a while, because it may have lost data or its clock
    /// jumped.
    #[non_exhaustive]
    NodeOnProbation {
        /// The node's address.
        node: Arc<str>,
        /// The rest of its probation from now.
        remaining: Duration,
        /// The reason.
        reason: ProbationReason,
    },
    /// The seat of a node has changed hands: a server without memory took it, as after a restart, or it became vacant,
    /// because no client had reached its server for long. If no server of yours was restarted or replaced, its address
    /// has moved.
    #[non_exhaustive]
    SeatChanged {
        /// The node's address.
        node: Arc<str>,
        /// The number of the roster.
        epoch: Arc<str>,
        /// Whether no server has the seat now.
        is_vacant: bool,
    },
    /// A node's clock jumped, or stood still: keys on it may have expired early. The node casts no vote until its clock
    /// has been steady for the max TTL. Configure time services to slew and not to step while a server runs (`makestep`
    /// in `chrony.conf` only for the first updates).
    #[non_exhaustive]
    ClockJumped {
        /// The node's address.
        node: Arc<str>,
        /// The approximate size of the jump, in microseconds; negative if backwards.
        by_micros: i64,
    },
    /// A node's clock runs faster or slower than this client's clock by more than the allowed drift. Limit the
    /// correction rate of its time service (`maxslewrate` in `chrony.conf`), or raise the allowed drift.
    #[non_exhaustive]
    ClockDriftExceeded {
        /// The node's address.
        node: Arc<str>,
        /// The approximate drift, in millionths (ppm); negative if slow.
        drift_ppm: i64,
    },
    /// The client's own settings have a problem.
    #[non_exhaustive]
    Warning {
        /// The problem, and what to do about it.
        warning: Arc<str>,
    },
    /// A node replied to a request.
    #[non_exhaustive]
    ReplyReceived {
        /// The node's address.
        node: Arc<str>,
        /// The lock's key; `None` if the operation has already ended.
        key: Option<Key>,
        /// The reply.
        reply: NodeReply,
    },
    /// A lock was acquired or adopted.
    #[non_exhaustive]
    Acquired {
        /// The lock's key.
        key: Key,
        /// The number of nodes that have granted it so far.
        nodes: usize,
        /// How long the lock is valid from now.
        remaining: Duration,
        /// Its fencing number; `None` in plain mode.
        fencing_number: Option<u64>,
        /// The number of rounds over the nodes: one, or two if their numbers differed.
        rounds: u8,
        /// The owner hash, as an [inspection](crate::Redlock::inspect) shows it.
        owner: OwnerHash,
    },
    /// An acquire requires a fencing number above this one, because the protected resource has already seen it.
    #[non_exhaustive]
    MinFencingNumberSet {
        /// The lock's key.
        key: Key,
        /// The largest number that the resource has seen.
        number: u64,
    },
    /// An attempt or an adoption failed.
    #[non_exhaustive]
    AcquireFailed {
        /// The lock's key.
        key: Key,
        /// The reason.
        reason: FailureReason,
    },
    /// A lock was renewed.
    #[non_exhaustive]
    Renewed {
        /// The lock's key.
        key: Key,
        /// How long the lock is valid from now.
        remaining: Duration,
    },
    /// A renewal got too few replies. The lock is valid until its deadline; another renewal follows.
    #[non_exhaustive]
    RenewalFailed {
        /// The lock's key.
        key: Key,
        /// How long the lock is valid from now.
        remaining: Duration,
    },
    /// A lock was lost.
    #[non_exhaustive]
    Lost {
        /// The lock's key.
        key: Key,
        /// The reason.
        reason: LossReason,
    },
    /// A lock was released.
    #[non_exhaustive]
    Released {
        /// The lock's key.
        key: Key,
        /// The number of nodes that have confirmed it.
        nodes: usize,
    },
}

/// Receives every event.
pub(crate) type EventHandler = Arc<dyn Fn(&Event) + Send + Sync>;
