//! The lock cluster's quorum and max TTL, which the driver keeps up to date for all clones of a client.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use quorlock_proto::quorum::Quorum;

/// A quorum and a max TTL that change when the lock cluster is reconfigured.
#[derive(Debug)]
pub(crate) struct SharedQuorum {
    quorum: AtomicU32,
    max_ttl_micros: AtomicU64,
}

impl SharedQuorum {
    pub(crate) fn new(quorum: Quorum, max_ttl: Duration) -> Self {
        let shared = Self { quorum: AtomicU32::new(0), max_ttl_micros: AtomicU64::new(0) };
        shared.set(quorum, max_ttl);
        shared
    }

    pub(crate) fn get(&self) -> Quorum {
        Quorum::from_bits(self.quorum.load(Ordering::Relaxed))
    }

    pub(crate) fn max_ttl(&self) -> Duration {
        Duration::from_micros(self.max_ttl_micros.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, quorum: Quorum, max_ttl: Duration) {
        self.quorum.store(quorum.to_bits(), Ordering::Relaxed);
        self.max_ttl_micros.store(max_ttl.as_micros() as u64, Ordering::Relaxed);
    }
}
