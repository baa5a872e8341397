//! What the driver and a guard both know of a held lock.

use std::any::Any;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::host::clock;
use crate::protocol::fence::FencingToken;
use crate::protocol::quorum::NodeSet;
use crate::protocol::time::Moment;

/// A held lock: until when, on which nodes, and whether it is over.
///
/// The driver moves the deadline, the guard reads it, and whoever first sees it pass latches the loss. Once lost
/// or given up it stays so, whatever a late renewal says.
pub(crate) struct Hold {
    boot_nanos: AtomicU64,
    wall_nanos: AtomicU64,
    confirmed: AtomicU16,
    /// What to hand to the guarded resource; nothing in plain mode.
    token: Option<Box<FencingToken>>,
    state: AtomicU8,
    /// Made for the first who listens: most locks are given up before anybody does.
    lost: OnceLock<CancellationToken>,
    /// Something to be dropped as soon as the lock is over.
    luggage: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Hold {
    pub(crate) fn new(deadline: Moment, confirmed: NodeSet, token: Option<FencingToken>) -> Self {
        Self {
            boot_nanos: AtomicU64::new(deadline.boot_nanos()),
            wall_nanos: AtomicU64::new(deadline.wall_nanos()),
            confirmed: AtomicU16::new(confirmed.bits()),
            token: token.map(Box::new),
            state: AtomicU8::new(HELD),
            lost: OnceLock::new(),
            luggage: Mutex::new(None),
        }
    }

    /// Until when the lock may be trusted. Read as two numbers while the driver may write them: a mix of an old and
    /// a new deadline is no later than the new one, which stands already.
    pub(crate) fn deadline(&self) -> Moment {
        Moment::new(self.boot_nanos.load(Ordering::Acquire), self.wall_nanos.load(Ordering::Acquire))
    }

    /// Whether the lock may be trusted now. Latches the loss when the deadline has passed.
    pub(crate) fn is_valid(&self) -> bool {
        if clock::now().is_past(self.deadline()) {
            self.lose();
        }
        self.state.load(Ordering::Acquire) == HELD
    }

    /// How long the lock may be trusted from now.
    pub(crate) fn remaining(&self) -> Duration {
        if self.is_valid() { clock::now().until(self.deadline()) } else { Duration::ZERO }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.state.load(Ordering::Acquire) == LOST
    }

    pub(crate) fn confirmed(&self) -> NodeSet {
        NodeSet::from_bits(self.confirmed.load(Ordering::Relaxed))
    }

    pub(crate) fn token(&self) -> Option<FencingToken> {
        self.token.as_deref().copied()
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
            // Pairs with the one in `lost`: of the two, at least one sees what the other did.
            fence(Ordering::SeqCst);
            if let Some(lost) = self.lost.get() {
                lost.cancel();
            }
            self.unload();
        }
    }

    /// The lock is given up: from here on no guard calls it valid, and no loss is told. False if that was done
    /// before.
    pub(crate) fn end(&self) -> bool {
        self.state.swap(GIVEN_UP, Ordering::AcqRel) != GIVEN_UP
    }

    /// The lost signal, which comes at once if the lock is lost already.
    pub(crate) fn lost(&self) -> &CancellationToken {
        let lost = self.lost.get_or_init(CancellationToken::new);
        // Lost while the signal was being made: whoever lost it has seen none.
        fence(Ordering::SeqCst);
        if self.is_lost() {
            lost.cancel();
        }
        lost
    }

    /// Takes something along, to be dropped when the lock is over.
    pub(crate) fn carry(&self, luggage: Box<dyn Any + Send>) {
        *self.luggage.lock().unwrap_or_else(PoisonError::into_inner) = Some(luggage);
        // Lost while it was being loaded: nobody will come for it any more.
        if self.is_lost() {
            self.unload();
        }
    }

    /// Drops what was taken along.
    pub(crate) fn unload(&self) {
        let luggage = self.luggage.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(luggage);
    }
}

const HELD: u8 = 0;
const LOST: u8 = 1;
const GIVEN_UP: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn hold() -> Hold {
        Hold::new(clock::now().plus(Duration::from_secs(60)), NodeSet::EMPTY, None)
    }

    #[test]
    fn the_lost_signal_comes_to_those_who_listened_before_and_to_those_who_listen_after() {
        let (early, late) = (hold(), hold());
        let signal = early.lost().clone();
        assert!(!signal.is_cancelled());
        early.lose();
        late.lose();
        assert!(signal.is_cancelled() && late.lost().is_cancelled());
    }

    #[test]
    fn a_lock_that_was_given_up_is_not_lost_any_more() {
        let hold = hold();
        let signal = hold.lost().clone();
        assert!(hold.end());
        hold.lose();
        assert!(!signal.is_cancelled() && !hold.lost().is_cancelled() && !hold.is_valid());
    }
}
