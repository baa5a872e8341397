//! Timers for callers, independent of their executor.
//!
//! A thread of this library fires them. Tokio's timers fire only while a runtime with timers runs. A future
//! cannot detect that: a runtime may be entered but idle, or blocked by the task that waits. The thread
//! starts with the first timer and ends one second after the last.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures::future::{Either, select};

use super::{clock, process};
use quorlock_proto::time::BootTime;

/// The timeout has elapsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Completes after this span.
pub(crate) fn sleep(span: Duration) -> Sleep {
    Sleep { due: clock::boot().plus(span), timer_key: None }
}

/// Awaits a future for at most this span.
pub(crate) async fn timeout<F: Future>(span: Duration, future: F) -> Result<F::Output, Elapsed> {
    match select(pin!(future), sleep(span)).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(_) => Err(Elapsed),
    }
}

/// A timer that this library's thread fires.
#[must_use = "a future does nothing unless it is awaited"]
pub(crate) struct Sleep {
    due: BootTime,
    /// Its key in the map of timers, set by the first poll.
    timer_key: Option<TimerKey>,
}

/// When it is due, and a unique number.
type TimerKey = (BootTime, u64);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if clock::boot() >= self.due {
            return Poll::Ready(());
        }
        let mut timers = lock();
        let timer_key = self.timer_key.unwrap_or_else(|| {
            timers.count += 1;
            (self.due, timers.count)
        });
        self.timer_key = Some(timer_key);
        let old_waker = timers.waiting.insert(timer_key, cx.waker().clone());
        if !timers.has_thread() {
            // If the thread cannot be started, the future polls the clock.
            timers.thread_process = thread::Builder::new()
                .name("quorlock-timer".to_owned())
                .spawn(fire_due)
                .ok()
                .map(|_| process::id());
            if timers.thread_process.is_none() {
                cx.waker().wake_by_ref();
            }
        } else if timer_key.0 < timers.sleeps_until {
            CHANGED.notify_one();
        }
        drop(timers);
        drop(old_waker);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // Dropping a waker may drop other timers, so release the lock first.
        let waker = self.timer_key.map(|timer_key| lock().waiting.remove(&timer_key));
        drop(waker);
    }
}

struct Timers {
    waiting: BTreeMap<TimerKey, Waker>,
    count: u64,
    /// When the thread wakes next, if no earlier timer is added.
    sleeps_until: BootTime,
    /// The process in which the thread runs. The child of a fork has no such thread.
    thread_process: Option<u32>,
}

impl Timers {
    fn has_thread(&self) -> bool {
        self.thread_process == Some(process::id())
    }
}

fn lock() -> MutexGuard<'static, Timers> {
    TIMERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fire_due() {
    let mut timers = lock();
    let mut was_idle = false;
    while !(was_idle && timers.waiting.is_empty()) {
        let now = clock::boot();
        let later = timers.waiting.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut timers.waiting, later);
        if !due.is_empty() {
            // Some executors run a woken task at once, and the task may add timers.
            drop(timers);
            due.into_values().for_each(Waker::wake);
            timers = lock();
        }
        // `wait_timeout` stops during suspend and the boot clock does not, so wait for at most `MAX_SLEEP`.
        let latest = now.plus(MAX_SLEEP);
        let next = timers.waiting.keys().next().map_or(latest, |(due_at, _)| latest.min(*due_at));
        was_idle = timers.waiting.is_empty();
        timers.sleeps_until = next;
        timers = CHANGED.wait_timeout(timers, next.since(now)).unwrap_or_else(PoisonError::into_inner).0;
    }
    timers.thread_process = None;
}

static TIMERS: Mutex<Timers> = Mutex::new(Timers {
    waiting: BTreeMap::new(),
    count: 0,
    sleeps_until: BootTime::new(0),
    thread_process: None,
});
static CHANGED: Condvar = Condvar::new();

/// The longest wait of the thread, and how long it stays without a timer.
const MAX_SLEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::executor::block_on;
    use futures::future::join_all;

    use super::*;

    #[test]
    fn timers_fire_in_order_and_not_early_without_a_runtime() {
        let start = clock::boot();
        let spans = [90_u64, 10, 50, 0, 30].map(Duration::from_millis);
        let passed = block_on(join_all(spans.map(|span| async move {
            sleep(span).await;
            clock::boot().since(start)
        })));
        for (span, passed) in spans.into_iter().zip(passed) {
            assert!(passed >= span && passed < span + Duration::from_secs(20), "{span:?}: {passed:?}");
        }
    }

    #[test]
    fn a_dropped_timer_is_removed() {
        let long = Duration::from_secs(7200);
        assert_eq!(block_on(timeout(long, ready(7))), Ok(7));
        assert_eq!(block_on(timeout(Duration::from_millis(5), timeout(long, pending::<()>()))), Err(Elapsed));
        // Tests that run at the same time set timers of one hour, and of an infinite span.
        let [from, to] = [5400, 7200].map(|seconds| clock::boot().plus(Duration::from_secs(seconds)));
        assert!(!lock().waiting.keys().any(|(due_at, _)| (from..to).contains(due_at)));
    }

    /// Because its wait stops during suspend and timers must not.
    #[test]
    fn the_thread_reads_the_clock_at_least_once_a_second() {
        let mut long = sleep(Duration::from_secs(3600));
        assert_eq!(block_on(timeout(Duration::from_millis(50), &mut long)), Err(Elapsed));
        let sleeps_until = lock().sleeps_until;
        assert!(sleeps_until <= clock::boot().plus(MAX_SLEEP), "{sleeps_until:?}");
        drop(long);
    }

    #[test]
    fn an_infinite_span_never_elapses() {
        assert_eq!(block_on(timeout(Duration::MAX, ready(7))), Ok(7));
        assert_eq!(block_on(timeout(Duration::from_millis(5), sleep(Duration::MAX))), Err(Elapsed));
    }
}
