//! The state of a held lock that the driver and the guard share.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::local_queue::LocalQueue;
use crate::host::{clock, process};
use quorlock_proto::fence::FencingToken;
use quorlock_proto::lease::LossReason;
use quorlock_proto::quorum::NodeSet;
use quorlock_proto::request::{Key, OwnerHash};
use quorlock_proto::time::DualTimestamp;

/// A held lock: its deadline and ttl, the nodes that confirmed it, and whether it has ended.
///
/// The driver moves the deadline and the guard reads it. The first of them that sees it pass latches the
/// loss. A lost or released lock stays so, whatever a late renewal reports.
pub(crate) struct SharedLease {
    key: Key,
    boot_nanos: AtomicU64,
    wall_nanos: AtomicU64,
    ttl_millis: AtomicU64,
    confirmed: AtomicU16,
    state: AtomicU8,
    /// The process that holds it. In the child of a fork its copy is not renewed.
    process: u32,
    owner: OwnerHash,
    /// The token for the protected resource; `None` in plain mode.
    fencing_token: Option<FencingToken>,
    on_end: Mutex<OnEnd>,
}

/// What to do when a lock ends.
#[derive(Default)]
struct OnEnd {
    /// The queue to which the lock's admission goes back.
    queue: Option<Arc<LocalQueue>>,
    /// Created for the first listener: most locks are released before there is one.
    lost: Option<CancellationToken>,
    /// As `lost`, and also fires when the lock is released.
    ended: Option<CancellationToken>,
}

impl SharedLease {
    pub(crate) fn new(
        key: Key,
        (deadline, ttl): (DualTimestamp, Duration),
        confirmed: NodeSet,
        owner: OwnerHash,
        fencing_token: Option<FencingToken>,
    ) -> Self {
        Self {
            key,
            owner,
            process: process::id(),
            boot_nanos: AtomicU64::new(deadline.boot_nanos()),
            wall_nanos: AtomicU64::new(deadline.wall_nanos()),
            ttl_millis: AtomicU64::new(ttl.as_millis() as u64),
            confirmed: AtomicU16::new(confirmed.bits()),
            state: AtomicU8::new(HELD),
            fencing_token,
            on_end: Mutex::default(),
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// The time until which the lock is valid. It is read as two numbers while the driver may write them. A
    /// mix of an old and a new deadline is no later than the new one, which is in force already.
    pub(crate) fn deadline(&self) -> DualTimestamp {
        DualTimestamp::new(self.boot_nanos.load(Ordering::Acquire), self.wall_nanos.load(Ordering::Acquire))
    }

    /// The ttl with which the lock renews itself, as of its last renewal. Read after the deadline, it is no longer
    /// than the ttl of the renewal that brought that deadline.
    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_millis.load(Ordering::Acquire))
    }

    /// Whether the lock is valid now. Latches the loss if the deadline has passed, and in the child of a
    /// fork.
    pub(crate) fn is_valid(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Whether the lock is valid now, and for at least this span.
    pub(crate) fn is_valid_for(&self, span: Duration) -> bool {
        let remaining = self.remaining();
        !remaining.is_zero() && remaining >= span
    }

    /// How long the lock is valid from now. Latches the loss as [`is_valid`](Self::is_valid) does.
    pub(crate) fn remaining(&self) -> Duration {
        if self.state.load(Ordering::Acquire) != HELD {
            return Duration::ZERO;
        }
        let remaining = clock::now().until(self.deadline());
        if process::id() != self.process {
            self.mark_lost(LossReason::ClientClosed);
        } else if remaining.is_zero() {
            self.mark_lost(LossReason::Expired);
        }
        if self.state.load(Ordering::Acquire) == HELD { remaining } else { Duration::ZERO }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.loss_reason().is_some()
    }

    /// Why the lock was lost, if it was.
    pub(crate) fn loss_reason(&self) -> Option<LossReason> {
        match self.state.load(Ordering::Acquire) {
            HELD | RELEASED => None,
            state => Some(LOSSES[usize::from(state - LOST) % LOSSES.len()]),
        }
    }

    pub(crate) fn owner_hash(&self) -> OwnerHash {
        self.owner
    }

    pub(crate) fn confirmed(&self) -> NodeSet {
        NodeSet::from_bits(self.confirmed.load(Ordering::Relaxed))
    }

    pub(crate) fn fencing_token(&self) -> Option<FencingToken> {
        self.fencing_token
    }

    pub(crate) fn confirm(&self, nodes: NodeSet) {
        self.confirmed.store(nodes.bits(), Ordering::Relaxed);
    }

    /// Moves the deadline. The ttl is written first: a reader with the new deadline and the earlier, longer ttl
    /// would take a renewed lock for one that is almost over.
    pub(crate) fn renew(&self, deadline: DualTimestamp, ttl: Duration) {
        self.ttl_millis.store(ttl.as_millis() as u64, Ordering::Release);
        self.wall_nanos.store(deadline.wall_nanos(), Ordering::Release);
        self.boot_nanos.store(deadline.boot_nanos(), Ordering::Release);
    }

    /// Marks the lock as lost and notifies all listeners. Returns false, and does nothing, if it has already
    /// ended.
    pub(crate) fn mark_lost(&self, reason: LossReason) -> bool {
        let place = LOSSES.iter().position(|other| *other == reason).unwrap_or_default();
        let lost = LOST + place as u8;
        let is_new = self.state.compare_exchange(HELD, lost, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if is_new {
            // A later listener sees the state.
            let (lost, ended) = {
                let on_end = self.lock_on_end();
                (on_end.lost.clone(), on_end.ended.clone())
            };
            lost.into_iter().chain(ended).for_each(|signal| signal.cancel());
            self.return_admission();
        }
        is_new
    }

    /// Marks the lock as released: no guard is valid from here on, and no loss is reported. Returns whether
    /// it was held until now (false: lost before); `None` if it was already released.
    pub(crate) fn mark_released(&self) -> Option<bool> {
        let released = |state: u8| match state {
            HELD => Some(RELEASED),
            // It keeps the reason of its loss.
            LOST..LOST_AND_RELEASED => Some(state - LOST + LOST_AND_RELEASED),
            _ => None,
        };
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, released).ok()?;
        // Cancel without the lock: some executors run a woken task at once.
        let ended = if before == HELD { self.lock_on_end().ended.clone() } else { None };
        if let Some(ended) = ended {
            ended.cancel();
        }
        Some(before == HELD)
    }

    /// The lost signal, which fires at once if the lock is already lost.
    pub(crate) fn lost_signal(&self) -> CancellationToken {
        let lost = self.lock_on_end().lost.get_or_insert_default().clone();
        // If the lock was lost while the signal was created, `mark_lost` has not seen the signal.
        if self.is_lost() {
            lost.cancel();
        }
        lost
    }

    /// The signal that the lock has ended, lost or released. It fires at once if it already has.
    pub(crate) fn end_signal(&self) -> CancellationToken {
        let ended = self.lock_on_end().ended.get_or_insert_default().clone();
        if self.state.load(Ordering::Acquire) != HELD {
            ended.cancel();
        }
        ended
    }

    /// Takes over the admission, which is passed on when the lock ends.
    pub(super) fn attach_admission(&self, queue: Arc<LocalQueue>) {
        self.lock_on_end().queue = Some(queue);
        // If the lock was lost in the meantime, no other code will pass the admission on.
        if self.is_lost() {
            self.return_admission();
        }
    }

    /// Passes the admission on, if the lock still has it.
    pub(crate) fn return_admission(&self) {
        let queue = self.lock_on_end().queue.take();
        if let Some(queue) = queue {
            queue.pass_admission_on(&self.key);
        }
    }

    fn lock_on_end(&self) -> MutexGuard<'_, OnEnd> {
        self.on_end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SharedLease {
    fn drop(&mut self) {
        self.return_admission();
    }
}

const HELD: u8 = 0;
const RELEASED: u8 = 1;
/// A lost lock: this, plus the index of the reason in `LOSSES`.
const LOST: u8 = 2;
/// The same, once its guard is released.
const LOST_AND_RELEASED: u8 = LOST + LOSSES.len() as u8;
const LOSSES: [LossReason; 4] =
    [LossReason::Expired, LossReason::TakenByOthers, LossReason::ClockJump, LossReason::ClientClosed];

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Wake, Waker};

    use super::*;

    fn lease() -> SharedLease {
        SharedLease::new(
            Key::new("k"),
            (clock::now().plus(Duration::from_secs(60)), Duration::from_secs(60)),
            NodeSet::EMPTY,
            OwnerHash::of(b"o"),
            None,
        )
    }

    #[test]
    fn the_lost_signal_reaches_listeners_before_and_after_the_loss() {
        let (early, late) = (lease(), lease());
        let signal = early.lost_signal();
        assert!(!signal.is_cancelled());
        early.mark_lost(LossReason::TakenByOthers);
        late.mark_lost(LossReason::TakenByOthers);
        assert!(signal.is_cancelled() && late.lost_signal().is_cancelled());
    }

    #[test]
    fn a_released_lock_is_not_lost() {
        let lease = lease();
        let signal = lease.lost_signal();
        assert_eq!(lease.mark_released(), Some(true));
        assert!(!lease.mark_lost(LossReason::TakenByOthers));
        assert_eq!(lease.mark_released(), None);
        assert!(!signal.is_cancelled() && !lease.lost_signal().is_cancelled() && !lease.is_valid());
    }

    #[test]
    fn a_lock_keeps_the_reason_of_its_loss() {
        for reason in LOSSES {
            let lease = lease();
            assert!(lease.mark_lost(reason) && !lease.mark_lost(LossReason::Expired));
            assert_eq!(
                (lease.mark_released(), lease.mark_released(), lease.loss_reason()),
                (Some(false), None, Some(reason))
            );
        }
    }

    #[test]
    fn the_end_signal_fires_at_a_release_and_at_a_loss() {
        let (released, lost) = (lease(), lease());
        let signals = [released.end_signal(), lost.end_signal()];
        assert!(signals.iter().all(|signal| !signal.is_cancelled()));
        released.mark_released();
        lost.mark_lost(LossReason::Expired);
        assert!(signals.iter().all(CancellationToken::is_cancelled) && released.end_signal().is_cancelled());
        assert_eq!((released.loss_reason(), lost.loss_reason()), (None, Some(LossReason::Expired)));
    }

    /// Some executors run a woken task at once, and the task may look at the lock.
    #[test]
    fn a_task_that_the_end_of_a_lock_wakes_may_use_the_lock() {
        struct UseLock(Arc<SharedLease>);
        impl Wake for UseLock {
            fn wake(self: Arc<Self>) {
                assert!(
                    self.0.end_signal().is_cancelled()
                        && self.0.lost_signal().is_cancelled() == self.0.is_lost()
                );
            }
        }
        let ends: [fn(&SharedLease); 2] = [
            |lease| assert_eq!(lease.mark_released(), Some(true)),
            |lease| assert!(lease.mark_lost(LossReason::Expired)),
        ];
        for end in ends {
            let lease = Arc::new(lease());
            let waker = Waker::from(Arc::new(UseLock(Arc::clone(&lease))));
            let signal = lease.end_signal();
            let mut waiting = pin!(signal.cancelled());
            assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            end(&lease);
        }
    }

    #[test]
    fn mark_released_reports_an_earlier_loss() {
        let lease = lease();
        assert!(
            lease.mark_lost(LossReason::TakenByOthers) && !lease.mark_lost(LossReason::TakenByOthers),
            "a loss is reported once"
        );
        assert_eq!(lease.mark_released(), Some(false));
    }
}
