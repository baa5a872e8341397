//! The settings of the lock cluster that a client follows.

use alloc::sync::Arc;
use core::time::Duration;

use super::Membership;
use crate::marker::LockClusterConfig;
use crate::quorum::Quorum;
use crate::roster::Roster;

impl Membership {
    /// The settings of the lock cluster: the roster's, or those of the client, which would found it with them.
    #[must_use]
    pub fn config(&self) -> LockClusterConfig {
        self.roster.as_ref().map_or(self.config, |roster| roster.config)
    }

    /// The quorum of the lock cluster, for the client's list of nodes.
    #[must_use]
    pub fn quorum(&self) -> Quorum {
        self.config().quorum().listing(self.members.len())
    }

    /// The longest ttl of a lock.
    #[must_use]
    pub fn max_ttl(&self) -> Duration {
        self.config().max_ttl()
    }

    /// The length of a probation.
    pub(super) fn probation(&self) -> Duration {
        self.roster.as_ref().map_or(self.config.max_ttl(), |roster| roster.probation)
    }

    /// The roster that the client follows.
    #[must_use]
    pub const fn roster(&self) -> Option<&Arc<Roster>> {
        self.roster.as_ref()
    }
}
