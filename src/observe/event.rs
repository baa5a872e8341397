//! The events of a client.

use std::time::Duration;

use quorlock_proto::attempt::FailureReason;
use quorlock_proto::lease::LossReason;
use quorlock_proto::request::{OwnerHash, RequestKind};
use quorlock_proto::vote::{ExclusionReason, ProbationReason, Vote};

/// Something that happened to a node or a lock. Never holds a password or an owner token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A node is connected and votes.
    NodeUp {
        /// The node's address.
        node: &'a str,
        /// The server's name and version, such as `Redis 7.0.15`.
        server: &'a str,
        /// The round trip of a request and its reply during the handshake.
        round_trip: Duration,
    },
    /// A node is not connected; it is dialed again automatically.
    NodeDown {
        /// The node's address.
        node: &'a str,
        /// The reason, as text.
        reason: &'a str,
    },
    /// A node cannot serve this client until it is fixed.
    NodeExcluded {
        /// The node's address.
        node: &'a str,
        /// The reason.
        reason: &'a ExclusionReason,
    },
    /// A node votes, but something about it endangers locks.
    NodeWarning {
        /// The node's address.
        node: &'a str,
        /// The problem, and what to do about it.
        warning: &'a str,
    },
    /// A node is on probation: it is up, but casts no vote for a while, because it may have lost data or its clock
    /// jumped.
    NodeOnProbation {
        /// The node's address.
        node: &'a str,
        /// The rest of its probation from now.
        remaining: Duration,
        /// The reason.
        reason: ProbationReason,
    },
    /// A node's clock jumped, or stood still: keys on it may have expired early. The node casts no vote until its clock
    /// has been steady for the max TTL. Configure time services to slew and not to step while a server runs (`makestep`
    /// in `chrony.conf` only for the first updates).
    ClockJumped {
        /// The node's address.
        node: &'a str,
        /// The approximate size of the jump, in microseconds; negative if backwards.
        by_micros: i64,
    },
    /// A node's clock runs faster or slower than this client's clock by more than the allowed drift. Limit the
    /// correction rate of its time service (`maxslewrate` in `chrony.conf`), or raise the allowed drift.
    ClockDriftExceeded {
        /// The node's address.
        node: &'a str,
        /// The approximate drift, in millionths (ppm); negative if slow.
        drift_ppm: i64,
    },
    /// The client's own settings have a problem.
    Warning {
        /// The problem, and what to do about it.
        warning: &'a str,
    },
    /// A node replied to a request.
    ReplyReceived {
        /// The node's address.
        node: &'a str,
        /// The lock's key.
        key: &'a str,
        /// The request.
        request: RequestKind,
        /// The reply.
        reply: &'a Vote,
    },
    /// A lock was acquired.
    Acquired {
        /// The lock's key.
        key: &'a str,
        /// The number of nodes that have granted it so far.
        nodes: usize,
        /// How long the lock is valid from now.
        remaining: Duration,
        /// Its fencing number; none in plain mode.
        number: Option<u64>,
        /// The number of rounds over the nodes: one, or two if their numbers differed.
        rounds: u8,
        /// The owner hash, as an [inspection](crate::Redlock::inspect) shows it.
        owner: OwnerHash,
    },
    /// An attempt requires a fencing number above this one, because the protected resource has already seen it.
    MinFencingNumberSet {
        /// The lock's key.
        key: &'a str,
        /// The largest number that the resource has seen.
        number: u64,
    },
    /// An attempt failed.
    AcquireFailed {
        /// The lock's key.
        key: &'a str,
        /// The reason.
        reason: &'a FailureReason,
    },
    /// A lock was renewed.
    Renewed {
        /// The lock's key.
        key: &'a str,
        /// How long the lock is valid from now.
        remaining: Duration,
    },
    /// A renewal got too few replies. The lock is valid until its deadline; another renewal follows.
    RenewalFailed {
        /// The lock's key.
        key: &'a str,
        /// How long the lock is valid from now.
        remaining: Duration,
    },
    /// A lock was lost.
    Lost {
        /// The lock's key.
        key: &'a str,
        /// The reason.
        reason: LossReason,
    },
    /// A lock was released.
    Released {
        /// The lock's key.
        key: &'a str,
        /// The number of nodes that have confirmed it.
        nodes: usize,
    },
}

/// Receives every event.
///
/// Called by the driver task: return quickly, never block, and never panic, because a panic would end that task.
pub trait Observer: Send + Sync + 'static {
    /// Called for each event.
    fn on_event(&self, event: &Event<'_>);
}

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Observer for F {
    fn on_event(&self, event: &Event<'_>) {
        self(event);
    }
}
