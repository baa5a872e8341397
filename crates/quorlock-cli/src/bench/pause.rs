//! Short pauses, timed by a separate thread with the system's timer. It wakes a task some hundredths of a
//! millisecond late, and the actual hold time is measured. Tokio's timers count in milliseconds and round up:
//! a hold of 0.1 ms would take 1 to 2 ms. Spinning would take the processor from the measured work.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::reaper::boot_nanos;

/// A thread that wakes tasks.
pub(super) struct Timer {
    requests: Sender<TimerRequest>,
}

/// Which task to wake at which time of the boot clock.
struct TimerRequest {
    at: u64,
    wake: oneshot::Sender<()>,
}

impl Timer {
    /// Starts the thread. It ends when this value is dropped.
    pub(super) fn start() -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        thread::Builder::new().name("pauses".to_owned()).spawn(move || serve(&receiver))?;
        Ok(Self { requests: sender })
    }

    pub(super) async fn pause(&self, span: Duration) {
        let (wake, woken) = oneshot::channel();
        let at = boot_nanos() + span.as_nanos() as u64;
        if self.requests.send(TimerRequest { at, wake }).is_ok() {
            // The other end lives as long as this value.
            let _ = woken.await;
        }
    }
}

fn serve(receiver: &Receiver<TimerRequest>) {
    // Linux otherwise delays wake-ups by up to 50 µs to group them. If this fails, pauses are longer.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let mut waiting: BinaryHeap<Reverse<TimerRequest>> = BinaryHeap::new();
    loop {
        let now = boot_nanos();
        while waiting.peek().is_some_and(|Reverse(next)| next.at <= now) {
            if let Some(Reverse(request)) = waiting.pop() {
                // Fails only if the waiting task was cancelled.
                let _ = request.wake.send(());
            }
        }
        let timeout = waiting.peek().map_or(LONG, |Reverse(next)| Duration::from_nanos(next.at - now));
        match receiver.recv_timeout(timeout) {
            Ok(request) => waiting.push(Reverse(request)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Ord for TimerRequest {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for TimerRequest {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for TimerRequest {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for TimerRequest {}

const LONG: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_lasts_its_full_time_and_delays_no_other() {
        let timer = Timer::start().expect("a thread");
        let (short, endless) = (Duration::from_micros(300), Duration::from_secs(36_000));
        for _ in 0..20 {
            let began_at = boot_nanos();
            tokio::select! {
                biased;
                () = timer.pause(endless) => panic!("ten hours are not over"),
                () = timer.pause(short) => {}
            }
            let elapsed = boot_nanos() - began_at;
            assert!(u128::from(elapsed) >= short.as_nanos(), "{elapsed} ns");
        }
    }
}
