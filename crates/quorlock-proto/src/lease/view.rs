//! What a lease says of itself.

use core::num::NonZeroU64;
use core::time::Duration;

use super::{Lease, State};
use crate::fence::Fence;
use crate::quorum::{NodeId, NodeSet};
use crate::request::{Key, OwnerToken};
use crate::time::{BootTime, DualTimestamp};

impl Lease {
    /// Whether any renewal was started.
    #[must_use]
    pub const fn was_renewed(&self) -> bool {
        self.rounds > 0
    }

    /// Whether no step will follow.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether the lock is held, or is lost and not yet released.
    #[must_use]
    pub fn is_unreleased(&self) -> bool {
        matches!(self.state, State::Held(_) | State::Lost)
    }

    /// Whether the lock is held, as far as the lease knows.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        matches!(self.state, State::Held(_))
    }

    /// The deadline, until which the lock may be trusted.
    #[must_use]
    pub const fn deadline(&self) -> DualTimestamp {
        self.deadline
    }

    /// The nodes that are known to have this lease's key.
    #[must_use]
    pub const fn confirmed(&self) -> NodeSet {
        self.confirmed
    }

    /// The nodes that may have this lease's key.
    #[must_use]
    pub const fn possibly_set(&self) -> NodeSet {
        self.possibly_set
    }

    /// Whether the node may lack the key, so that a renewal would help.
    #[must_use]
    pub const fn is_unconfirmed_on(&self, node: NodeId) -> bool {
        self.is_held() && !self.confirmed.contains(node)
    }

    /// No key of this lease lives longer than this.
    #[must_use]
    pub const fn keys_until(&self) -> BootTime {
        self.keys_until
    }

    /// The ttl that the current renewal requests.
    #[must_use]
    pub fn renewal_ttl(&self) -> Duration {
        self.renewal().map_or(self.params, |renewal| renewal.params).ttl()
    }

    /// The locked key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The owner token.
    #[must_use]
    pub const fn token(&self) -> OwnerToken {
        self.token
    }

    /// The fencing number; `None` in plain mode.
    #[must_use]
    pub fn fencing_number(&self) -> Option<u64> {
        self.fencing_number.map(NonZeroU64::get)
    }

    /// The fence to send with its requests.
    #[must_use]
    pub fn fence(&self) -> Option<Fence> {
        self.fencing_number().map(Fence::Number)
    }
}
