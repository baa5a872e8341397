//! Which sources woke the driver, so that a poll visits only those.
//!
//! Each node, the command channel and the timer has its own waker, which sets a bit and then wakes the
//! driver. With a single waker, each wake-up would have to poll every source: a lock over five nodes that
//! reply one by one costs about sixty polls, most of them needless.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use quorlock_proto::quorum::{NodeSet, Quorum};

/// One waker for each source: the nodes, the commands and the timer.
pub(super) struct ReadySet {
    state: Arc<ReadyState>,
    wakers: Vec<Waker>,
    /// The driver's waker, compared without taking the lock.
    driver: Waker,
    /// Sources to poll again without a wake: a source wakes only after it was found empty.
    recheck: u32,
}

/// What all wakers share.
struct ReadyState {
    ready: AtomicU32,
    driver: Mutex<Waker>,
}

struct SourceWaker {
    state: Arc<ReadyState>,
    bit: u32,
}

/// A set of sources that may be ready.
#[derive(Clone, Copy)]
pub(super) struct ReadySources(u32);

impl ReadySet {
    /// Creates the set for this number of nodes, the commands and the timer. All sources are ready at first.
    pub(super) fn new(nodes: usize) -> Self {
        let state =
            Arc::new(ReadyState { ready: AtomicU32::new(0), driver: Mutex::new(Waker::noop().clone()) });
        let wakeup =
            |source| Waker::from(Arc::new(SourceWaker { state: Arc::clone(&state), bit: 1_u32 << source }));
        let recheck = ((1 << nodes) - 1) | 1 << COMMANDS | 1 << TIMER;
        Self { wakers: (0..=TIMER).map(wakeup).collect(), state, driver: Waker::noop().clone(), recheck }
    }

    /// From now on the sources wake this task.
    pub(super) fn wake(&mut self, task: &Waker) {
        if !self.driver.will_wake(task) {
            self.driver.clone_from(task);
            self.state.driver.lock().unwrap_or_else(PoisonError::into_inner).clone_from(task);
        }
    }

    /// Sources that woke since the last call, or are to be polled again.
    pub(super) fn take_ready(&mut self) -> ReadySources {
        ReadySources(self.state.ready.swap(0, Ordering::Acquire) | std::mem::take(&mut self.recheck))
    }

    /// The context to poll this source with: its own waker.
    pub(super) fn context(&self, source: usize) -> Context<'_> {
        Context::from_waker(&self.wakers[source])
    }

    /// Polls this source next time, whether it wakes or not.
    pub(super) fn mark_ready(&mut self, source: usize) {
        self.recheck |= 1 << source;
    }
}

impl ReadySources {
    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The nodes in the set.
    pub(super) const fn nodes(self) -> NodeSet {
        NodeSet::from_bits(self.0 as u16 & ((1_u32 << Quorum::MAX_LISTED) - 1) as u16)
    }

    pub(super) const fn has(self, source: usize) -> bool {
        self.0 & 1 << source != 0
    }
}

impl Wake for SourceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Only the first source wakes the driver, which has not polled since.
        if self.state.ready.fetch_or(self.bit, Ordering::AcqRel) == 0 {
            self.state.driver.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

/// The sources: the nodes by index, and after them these two.
pub(super) const COMMANDS: usize = Quorum::MAX_LISTED;
pub(super) const TIMER: usize = COMMANDS + 1;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn ready_sources_are_known_and_wake_the_driver_once() {
        let (task, mut ready) = (Arc::new(Task::default()), ReadySet::new(5));
        ready.wake(&Waker::from(Arc::clone(&task)));
        let all = ready.take_ready();
        assert!(
            all.nodes().len() == 5 && all.has(COMMANDS) && all.has(TIMER),
            "all sources are polled at first"
        );
        assert!(ready.take_ready().is_empty());

        for source in [3, COMMANDS, 3] {
            ready.context(source).waker().wake_by_ref();
        }
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        let ready_sources = ready.take_ready();
        assert!(
            ready_sources.has(3)
                && ready_sources.has(COMMANDS)
                && !ready_sources.has(TIMER)
                && !ready_sources.has(0)
        );

        ready.context(TIMER).waker().wake_by_ref();
        ready.mark_ready(1);
        assert_eq!(task.0.load(Ordering::Relaxed), 2, "only the first source wakes the driver");
        let ready_sources = ready.take_ready();
        assert!(ready_sources.has(TIMER) && ready_sources.has(1) && !ready_sources.has(3));
        assert!(ready.take_ready().is_empty());
    }
}
