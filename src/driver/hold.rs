//! What the driver and a guard both know of a held lock.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::protocol::quorum::NodeSet;
use crate::protocol::time::Moment;

/// A held lock: until when, on which nodes, and whether it is over.
///
/// The driver moves the deadline, the guard reads it, and whoever first sees it pass latches the loss. Once lost
/// or released it stays so, whatever a late renewal says.
pub(crate) struct Hold {
    boot_nanos: AtomicU64,
    wall_nanos: AtomicU64,
    confirmed: AtomicU16,
    state: AtomicU8,
    lost: CancellationToken,
}

impl Hold {
    pub(crate) fn new(deadline: Moment, confirmed: NodeSet) -> Self {
        Self {
            boot_nanos: AtomicU64::new(deadline.boot_nanos()),
            wall_nanos: AtomicU64::new(deadline.wall_nanos()),
            confirmed: AtomicU16::new(confirmed.bits()),
            state: AtomicU8::new(HELD),
            lost: CancellationToken::new(),
        }
    }

    /// Until when the lock may be trusted. Read as two numbers while the driver may write them: a mix of an old and
    /// a new deadline is no later than the new one, which stands already.
    pub(crate) fn deadline(&self) -> Moment {
        Moment::new(self.boot_nanos.load(Ordering::Acquire), self.wall_nanos.load(Ordering::Acquire))
    }

    /// Whether the lock may be trusted at this moment. Latches the loss when the deadline has passed.
    pub(crate) fn is_valid(&self, now: Moment) -> bool {
        if now.is_past(self.deadline()) {
            self.lose();
        }
        self.state.load(Ordering::Acquire) == HELD
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.state.load(Ordering::Acquire) == LOST
    }

    pub(crate) fn confirmed(&self) -> NodeSet {
        NodeSet::from_bits(self.confirmed.load(Ordering::Relaxed))
    }

    pub(crate) fn confirm(&self, nodes: NodeSet) {
        self.confirmed.store(nodes.bits(), Ordering::Relaxed);
    }

    pub(crate) fn renew(&self, deadline: Moment) {
        self.wall_nanos.store(deadline.wall_nanos(), Ordering::Release);
        self.boot_nanos.store(deadline.boot_nanos(), Ordering::Release);
    }

    /// The lock is lost; everybody who listens is told. Nothing happens if it is over already.
    pub(crate) fn lose(&self) {
        if self.state.compare_exchange(HELD, LOST, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.lost.cancel();
        }
    }

    /// The lock is given up: from here on no guard calls it valid, and no loss is told.
    pub(crate) fn end(&self) {
        let _ = self.state.compare_exchange(HELD, RELEASED, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.lost
    }
}

const HELD: u8 = 0;
const LOST: u8 = 1;
const RELEASED: u8 = 2;
