//! Timers for callers, on whatever executor they are.
//!
//! A thread of this library fires them. Tokio's fire only where a runtime has timers and is running just then, and
//! nothing tells a future of that: a runtime can be entered and idle, or be blocked by the very task that waits. The
//! thread starts with the first timer, and ends one second after the last.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures::future::{Either, select};

use super::{clock, process};

/// The time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Completes after this span.
pub(crate) fn sleep(span: Duration) -> Sleep {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Sleep { due: clock::boot_nanos().saturating_add(nanos), timer_key: None }
}

/// Waits for this future, for this span at most.
pub(crate) async fn timeout<F: Future>(span: Duration, future: F) -> Result<F::Output, Elapsed> {
    match select(pin!(future), sleep(span)).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(_) => Err(Elapsed),
    }
}

/// A timer that this library's thread rings.
#[must_use = "a future does nothing unless it is awaited"]
pub(crate) struct Sleep {
    due: u64,
    /// Its place among the others, once it was polled.
    timer_key: Option<TimerKey>,
}

/// When it rings, by the boot clock, and a number of its own.
type TimerKey = (u64, u64);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if clock::boot_nanos() >= self.due {
            return Poll::Ready(());
        }
        let mut alarms = lock();
        let place = self.timer_key.unwrap_or_else(|| {
            alarms.count += 1;
            (self.due, alarms.count)
        });
        self.timer_key = Some(place);
        let before = alarms.waiting.insert(place, cx.waker().clone());
        if !alarms.has_thread() {
            // If the system refuses a thread, the future looks at the clock again and again.
            alarms.thread_process = thread::Builder::new()
                .name("quorlock-timer".to_owned())
                .spawn(fire_due)
                .ok()
                .map(|_| process::id());
            if alarms.thread_process.is_none() {
                cx.waker().wake_by_ref();
            }
        } else if place.0 < alarms.sleeps_until {
            CHANGED.notify_one();
        }
        drop(alarms);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // A waker may drop what it wakes, with alarms in it: not while the lock is held.
        let waker = self.timer_key.map(|place| lock().waiting.remove(&place));
        drop(waker);
    }
}

struct Timers {
    waiting: BTreeMap<TimerKey, Waker>,
    count: u64,
    /// Until when the thread sleeps, if no earlier timer is set.
    sleeps_until: u64,
    /// In which process the thread runs. A fork leaves it behind.
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
    let mut alarms = lock();
    let mut has_rested = false;
    while !(has_rested && alarms.waiting.is_empty()) {
        let now = clock::boot_nanos();
        let later = alarms.waiting.split_off(&(now + 1, 0));
        let due = std::mem::replace(&mut alarms.waiting, later);
        if !due.is_empty() {
            // Some executors run what they wake at once, and that may set alarms.
            drop(alarms);
            due.into_values().for_each(Waker::wake);
            alarms = lock();
        }
        // The pause stands still in suspend, and the clock does not: no pause is longer than a rest.
        let rest = now.saturating_add(MAX_SLEEP.as_nanos() as u64);
        let next = alarms.waiting.keys().next().map_or(rest, |(rings_at, _)| rest.min(*rings_at));
        has_rested = alarms.waiting.is_empty();
        alarms.sleeps_until = next;
        let pause = Duration::from_nanos(next.saturating_sub(now));
        alarms = CHANGED.wait_timeout(alarms, pause).unwrap_or_else(PoisonError::into_inner).0;
    }
    alarms.thread_process = None;
}

static TIMERS: Mutex<Timers> =
    Mutex::new(Timers { waiting: BTreeMap::new(), count: 0, sleeps_until: 0, thread_process: None });
static CHANGED: Condvar = Condvar::new();

/// How long the thread stays without a timer, and sleeps at most.
const MAX_SLEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::executor::block_on;
    use futures::future::join_all;

    use super::*;

    #[test]
    fn timers_fire_in_order_and_not_early_without_a_runtime() {
        let start = clock::boot_nanos();
        let spans = [90_u64, 10, 50, 0, 30].map(Duration::from_millis);
        let passed = block_on(join_all(spans.map(|span| async move {
            sleep(span).await;
            Duration::from_nanos(clock::boot_nanos() - start)
        })));
        for (span, passed) in spans.into_iter().zip(passed) {
            assert!(passed >= span && passed < span + Duration::from_secs(20), "{span:?}: {passed:?}");
        }
    }

    #[test]
    fn a_dropped_timer_is_removed() {
        let long = Duration::from_secs(3600);
        assert_eq!(block_on(timeout(long, ready(7))), Ok(7));
        assert_eq!(block_on(timeout(Duration::from_millis(5), timeout(long, pending::<()>()))), Err(Elapsed));
        let late = clock::boot_nanos() + Duration::from_secs(1800).as_nanos() as u64;
        assert!(lock().waiting.keys().all(|(rings_at, _)| *rings_at < late));
    }

    /// Its pause stands still in suspend, where alarms do not.
    #[test]
    fn the_thread_reads_the_clock_at_least_once_a_second() {
        let mut long = sleep(Duration::from_secs(3600));
        assert_eq!(block_on(timeout(Duration::from_millis(50), &mut long)), Err(Elapsed));
        let sleeps_until = lock().sleeps_until;
        assert!(sleeps_until <= clock::boot_nanos() + MAX_SLEEP.as_nanos() as u64, "{sleeps_until}");
        drop(long);
    }

    #[test]
    fn an_infinite_span_never_elapses() {
        assert_eq!(block_on(timeout(Duration::MAX, ready(7))), Ok(7));
        assert_eq!(block_on(timeout(Duration::from_millis(5), sleep(Duration::MAX))), Err(Elapsed));
    }
}
