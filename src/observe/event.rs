//! The events.

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
        /// Its address.
        node: &'a str,
        /// What it calls itself, such as `Redis 7.0.15`.
        server: &'a str,
        /// How long a question and its answer took during the handshake.
        round_trip: Duration,
    },
    /// A node is not connected; it is dialed again by itself.
    NodeDown {
        /// Its address.
        node: &'a str,
        /// Why, in words.
        reason: &'a str,
    },
    /// A node may not serve us until it is fixed.
    NodeExcluded {
        /// Its address.
        node: &'a str,
        /// Why.
        reason: &'a ExclusionReason,
    },
    /// A node votes, but something about it endangers locks.
    NodeWarning {
        /// Its address.
        node: &'a str,
        /// What, and what to do about it.
        warning: &'a str,
    },
    /// A node is up and casts no vote for a while: it may have forgotten locks, or its clock jumped.
    NodeOnProbation {
        /// Its address.
        node: &'a str,
        /// For how long from now.
        remaining: Duration,
        /// Why.
        reason: ProbationReason,
    },
    /// A node's clock jumped, or stood still: keys on it may have expired early. The node is out of the count until
    /// its clock has been steady for the longest ttl. Let time services slew and not step once a server runs
    /// (`makestep` in `chrony.conf` only for the first updates).
    ClockJumped {
        /// Its address.
        node: &'a str,
        /// By about how much, in microseconds; negative if back.
        by_micros: i64,
    },
    /// A node's clock runs faster or slower than ours by more than the drift allows. Limit what its time service may
    /// correct by (`maxslewrate` in `chrony.conf`), or raise the drift.
    ClockDriftExceeded {
        /// Its address.
        node: &'a str,
        /// By about how much, in millionths; negative if slow.
        drift_ppm: i64,
    },
    /// Something about the client's own settings deserves a look.
    Warning {
        /// What, and what to do about it.
        warning: &'a str,
    },
    /// A node replied to a request.
    ReplyReceived {
        /// Its address.
        node: &'a str,
        /// The lock's key.
        key: &'a str,
        /// The request.
        request: RequestKind,
        /// The reply.
        reply: &'a Vote,
    },
    /// A lock was taken.
    Acquired {
        /// The lock's key.
        key: &'a str,
        /// On how many nodes so far.
        nodes: usize,
        /// How long it may be trusted from now.
        remaining: Duration,
        /// Its fencing number; none in plain mode.
        number: Option<u64>,
        /// In how many rounds over the nodes: one, or two if their numbers differed.
        rounds: u8,
        /// What an [inspection](crate::Redlock::inspect) shows of its owner.
        owner: OwnerHash,
    },
    /// A lock is asked for with a fencing number above this, because its resource has seen that many.
    MinFencingNumberSet {
        /// The lock's key.
        key: &'a str,
        /// What the resource has seen.
        number: u64,
    },
    /// An attempt failed.
    AcquireFailed {
        /// The lock's key.
        key: &'a str,
        /// Why.
        reason: &'a FailureReason,
    },
    /// A lock was renewed.
    Renewed {
        /// The lock's key.
        key: &'a str,
        /// How long it may be trusted from now.
        remaining: Duration,
    },
    /// A renewal got too few replies. The lock is valid until its deadline; another renewal follows.
    RenewalFailed {
        /// The lock's key.
        key: &'a str,
        /// How long it may be trusted from now.
        remaining: Duration,
    },
    /// A lock was lost.
    Lost {
        /// The lock's key.
        key: &'a str,
        /// How.
        reason: LossReason,
    },
    /// A lock was released.
    Released {
        /// The lock's key.
        key: &'a str,
        /// How many nodes have confirmed it.
        nodes: usize,
    },
}

/// Receives every event.
///
/// Called by the task that drives the locks: be quick, never block, and never panic, which would end that task.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn on_event(&self, event: &Event<'_>);
}

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Observer for F {
    fn on_event(&self, event: &Event<'_>) {
        self(event);
    }
}
