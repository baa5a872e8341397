//! The lock cluster's quorum, which the driver keeps up to date for all clones of a client.

use std::sync::atomic::{AtomicU32, Ordering};

use quorlock_proto::quorum::Quorum;

/// A quorum that changes when the lock cluster is reconfigured.
#[derive(Debug)]
pub(crate) struct SharedQuorum(AtomicU32);

impl SharedQuorum {
    pub(crate) fn new(quorum: Quorum) -> Self {
        Self(AtomicU32::new(quorum.to_bits()))
    }

    pub(crate) fn get(&self) -> Quorum {
        Quorum::from_bits(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, quorum: Quorum) {
        self.0.store(quorum.to_bits(), Ordering::Relaxed);
    }
}
