//! What the driver and a guard both know of a held lock.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::host::{clock, process};
use quorlock_proto::fence::FencingToken;
use quorlock_proto::quorum::NodeSet;
use quorlock_proto::request::Key;
use quorlock_proto::time::DualTimestamp;

/// A held lock: until when, on which nodes, and whether it is over.
///
/// The driver moves the deadline, the guard reads it, and whoever first sees it pass latches the loss. Once lost
/// or given up it stays so, whatever a late renewal says.
pub(crate) struct SharedLease {
    key: Key,
    boot_nanos: AtomicU64,
    wall_nanos: AtomicU64,
    confirmed: AtomicU16,
    state: AtomicU8,
    /// The process that has it. In the child of a fork its copy is not renewed.
    process: u32,
    /// What to hand to the protected resource; nothing in plain mode.
    token: Option<PackedToken>,
    mark_released: Mutex<OnEnd>,
}

/// What happens when a lock is over.
#[derive(Default)]
struct OnEnd {
    /// Who passes its turn on.
    admission: Option<Arc<AdmissionReturn>>,
    /// Made for the first who listens: most locks are given up before anybody does.
    lost: Option<CancellationToken>,
}

/// Where the tasks of this process take turns: what to do when the one for a key is over. Boxed, so that thousands of
/// holds have but one pointer to it each.
pub(crate) struct AdmissionReturn(Box<dyn Fn(&Key) + Send + Sync>);

impl AdmissionReturn {
    pub(crate) fn new(pass_on: impl Fn(&Key) + Send + Sync + 'static) -> Self {
        Self(Box::new(pass_on))
    }
}

/// A fencing token in half the room: a `u128` is laid out in steps of 16 bytes.
#[derive(Clone, Copy)]
struct PackedToken {
    number: NonZeroU64,
    nonce: [u8; 16],
}

impl SharedLease {
    pub(crate) fn new(
        key: Key,
        deadline: DualTimestamp,
        confirmed: NodeSet,
        token: Option<FencingToken>,
    ) -> Self {
        Self {
            key,
            process: process::id(),
            boot_nanos: AtomicU64::new(deadline.boot_nanos()),
            wall_nanos: AtomicU64::new(deadline.wall_nanos()),
            confirmed: AtomicU16::new(confirmed.bits()),
            state: AtomicU8::new(HELD),
            token: token.and_then(PackedToken::of),
            mark_released: Mutex::default(),
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Until when the lock may be trusted. Read as two numbers while the driver may write them: a mix of an old and
    /// a new deadline is no later than the new one, which stands already.
    pub(crate) fn deadline(&self) -> DualTimestamp {
        DualTimestamp::new(self.boot_nanos.load(Ordering::Acquire), self.wall_nanos.load(Ordering::Acquire))
    }

    /// Whether the lock may be trusted now. Latches the loss when the deadline has passed, and in the child of a fork.
    pub(crate) fn is_valid(&self) -> bool {
        if self.state.load(Ordering::Acquire) != HELD {
            return false;
        }
        if clock::now().is_past(self.deadline()) || process::id() != self.process {
            self.mark_lost();
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
        self.token.map(PackedToken::token)
    }

    pub(crate) fn confirm(&self, nodes: NodeSet) {
        self.confirmed.store(nodes.bits(), Ordering::Relaxed);
    }

    pub(crate) fn renew(&self, deadline: DualTimestamp) {
        self.wall_nanos.store(deadline.wall_nanos(), Ordering::Release);
        self.boot_nanos.store(deadline.boot_nanos(), Ordering::Release);
    }

    /// The lock is lost; everybody who listens is told. Nothing happens if it is over already,
    /// and that is false.
    pub(crate) fn mark_lost(&self) -> bool {
        let is_new = self.state.compare_exchange(HELD, LOST, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if is_new {
            // Whoever listens from here on sees the state.
            let lost = self.at_end().lost.clone();
            if let Some(lost) = lost {
                lost.cancel();
            }
            self.return_admission();
        }
        is_new
    }

    /// The lock is given up: from here on no guard calls it valid, and no loss is told. Whether it was held until now, or
    /// lost before; nothing if it was given up before.
    pub(crate) fn mark_released(&self) -> Option<bool> {
        match self.state.swap(RELEASED, Ordering::AcqRel) {
            RELEASED => None,
            state => Some(state == HELD),
        }
    }

    /// The lost signal, which comes at once if the lock is lost already.
    pub(crate) fn lost_signal(&self) -> CancellationToken {
        let lost = self.at_end().lost.get_or_insert_default().clone();
        // Lost while the signal was being made: whoever lost it has seen none.
        if self.is_lost() {
            lost.cancel();
        }
        lost
    }

    /// Takes the turn over, which is passed on when the lock is over.
    pub(crate) fn attach_admission(&self, turns: Arc<AdmissionReturn>) {
        self.at_end().admission = Some(turns);
        // Lost meanwhile: nobody will come for it any more.
        if self.is_lost() {
            self.return_admission();
        }
    }

    /// Passes the turn on, if it still has it.
    pub(crate) fn return_admission(&self) {
        let turns = self.at_end().admission.take();
        if let Some(turns) = turns {
            (turns.0)(&self.key);
        }
    }

    fn at_end(&self) -> MutexGuard<'_, OnEnd> {
        self.mark_released.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SharedLease {
    fn drop(&mut self) {
        self.return_admission();
    }
}

impl PackedToken {
    /// Nodes give no number 0.
    fn of(token: FencingToken) -> Option<Self> {
        let number = NonZeroU64::new(token.number)?;
        Some(Self { number, nonce: token.nonce.to_ne_bytes() })
    }

    fn token(self) -> FencingToken {
        FencingToken { number: self.number.get(), nonce: u128::from_ne_bytes(self.nonce) }
    }
}

const HELD: u8 = 0;
const LOST: u8 = 1;
const RELEASED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> SharedLease {
        SharedLease::new(Key::new("k"), clock::now().plus(Duration::from_secs(60)), NodeSet::EMPTY, None)
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_shared_lease_is_small() {
        assert!(size_of::<SharedLease>() <= 88, "{} bytes", size_of::<SharedLease>());
    }

    #[test]
    fn the_lost_signal_reaches_listeners_before_and_after_the_loss() {
        let (early, late) = (lease(), lease());
        let signal = early.lost_signal();
        assert!(!signal.is_cancelled());
        early.mark_lost();
        late.mark_lost();
        assert!(signal.is_cancelled() && late.lost_signal().is_cancelled());
    }

    #[test]
    fn a_released_lock_is_not_lost() {
        let hold = lease();
        let signal = hold.lost_signal();
        assert_eq!(hold.mark_released(), Some(true));
        assert!(!hold.mark_lost());
        assert_eq!(hold.mark_released(), None);
        assert!(!signal.is_cancelled() && !hold.lost_signal().is_cancelled() && !hold.is_valid());
    }

    #[test]
    fn ending_a_lost_lock_says_that_it_was_lost() {
        let hold = lease();
        assert!(hold.mark_lost() && !hold.mark_lost(), "a loss is told once");
        assert_eq!(hold.mark_released(), Some(false));
    }
}
