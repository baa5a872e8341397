//! First come, first served within one client: one contender per key talks to the nodes.
//!
//! A turn is taken before the first attempt and kept until the lock is released or lost. It is passed on right
//! behind the release, so the next attempt's SETs ride in the same write as the release and cost no pause.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::driver::{jitter, now};
use crate::protocol::claim::Key;
use crate::protocol::time::Moment;

/// The lines of waiting tasks, one for each key that somebody here has or wants.
#[derive(Clone, Default)]
pub(super) struct Queue {
    lines: Arc<Mutex<HashMap<Key, Line>>>,
}

struct Line {
    waiting: VecDeque<oneshot::Sender<Pause>>,
    /// Since when the key has gone from task to task in this client without a gap.
    streak_since: Moment,
}

/// How long a task must hold back before it uses its turn.
type Pause = Duration;

/// The right to contend for a key. Dropping it passes it on.
pub(super) struct Turn {
    queue: Queue,
    key: Key,
    /// How long to hold back before the first attempt, to let other processes in.
    pub(super) pause: Pause,
}

/// A place in the line. Dropping it gives the place up, also in the very moment the turn comes.
struct Place {
    queue: Queue,
    key: Key,
    called: oneshot::Receiver<Pause>,
}

impl Queue {
    /// The turn, if nobody else here has it.
    pub(super) fn try_turn(&self, key: &Key) -> Option<Turn> {
        let mut lines = self.lock();
        if lines.contains_key(key) {
            return None;
        }
        lines.insert(key.clone(), Line { waiting: VecDeque::new(), streak_since: now() });
        Some(self.turn_of(key, Duration::ZERO))
    }

    /// The turn, when all who came before have had theirs.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place up, and loses no turn.
    pub(super) async fn turn(&self, key: &Key) -> Turn {
        loop {
            let mut place = match self.line_up(key) {
                Ok(turn) => return turn,
                Err(place) => place,
            };
            if let Ok(pause) = (&mut place.called).await {
                return self.turn_of(key, pause);
            }
        }
    }

    fn line_up(&self, key: &Key) -> Result<Turn, Place> {
        let mut lines = self.lock();
        if let Some(line) = lines.get_mut(key) {
            let (call, called) = oneshot::channel();
            if line.waiting.len() == line.waiting.capacity() {
                // Those who left are cleared away before the line grows: a lock held for long sees many come and go.
                line.waiting.retain(|call| !call.is_closed());
                line.waiting.reserve(line.waiting.len() + 1);
            }
            line.waiting.push_back(call);
            return Err(Place { queue: self.clone(), key: key.clone(), called });
        }
        lines.insert(key.clone(), Line { waiting: VecDeque::new(), streak_since: now() });
        Ok(self.turn_of(key, Duration::ZERO))
    }

    fn turn_of(&self, key: &Key, pause: Pause) -> Turn {
        Turn { queue: self.clone(), key: key.clone(), pause }
    }

    fn pass_on(&self, key: &Key) {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(key) else { return };
        let now = now();
        let pause = if now.since(line.streak_since) < STREAK {
            Duration::ZERO
        } else {
            // The key never looks free to other processes while it goes round in here. Now and then it is left
            // alone for a moment, so that their polls find it; a tenth of the time is the price of fairness.
            STREAK / 20 + STREAK.mul_f64(0.1 * (jitter() as f64 / u64::MAX as f64))
        };
        while let Some(call) = line.waiting.pop_front() {
            if call.send(pause).is_ok() {
                if !pause.is_zero() {
                    line.streak_since = now.plus(pause);
                }
                return;
            }
        }
        lines.remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Line>> {
        // Nothing in here can panic half-way, so the lines are sound even if some task died while it looked.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.queue.pass_on(&self.key);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.called.close();
        // Called between the last look and now: whoever is next must not wait for us.
        if self.called.try_recv().is_ok() {
            self.queue.pass_on(&self.key);
        }
    }
}

/// How long a key may go from task to task before others get their chance.
const STREAK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn tasks_are_served_in_the_order_they_came() {
        let (queue, key) = (Queue::default(), Key::new("k"));
        let first = queue.turn(&key).await;
        let mut second = Box::pin(queue.turn(&key));
        let mut third = Box::pin(queue.turn(&key));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none());
        let second = second.now_or_never().expect("the second has its turn");
        drop(second);
        assert!(third.now_or_never().is_some());
        assert!(queue.lock().is_empty(), "a key nobody wants leaves nothing behind");
    }

    #[tokio::test]
    async fn a_turn_that_comes_to_one_who_just_left_goes_to_the_next() {
        let (queue, key) = (Queue::default(), Key::new("k"));
        let first = queue.turn(&key).await;
        let mut leaver = Box::pin(queue.turn(&key));
        let mut next = Box::pin(queue.turn(&key));
        assert!((&mut leaver).now_or_never().is_none());
        assert!((&mut next).now_or_never().is_none());
        drop(first);
        drop(leaver);
        assert!(next.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_key_that_goes_round_in_here_for_long_is_left_alone_for_a_moment_now_and_then() {
        let (queue, key) = (Queue::default(), Key::new("k"));
        let take = |queue: &Queue| {
            Box::pin({
                let (queue, key) = (queue.clone(), key.clone());
                async move { queue.turn(&key).await }
            })
        };
        let first = queue.turn(&key).await;
        let (mut second, mut third) = (take(&queue), take(&queue));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        if let Some(line) = queue.lock().get_mut(&key) {
            line.streak_since = now().minus(STREAK);
        }
        drop(first);
        let second = second.now_or_never().expect("its turn");
        assert!(second.pause >= STREAK / 20 && second.pause < STREAK / 5, "{:?}", second.pause);
        drop(second);
        assert!(third.now_or_never().expect("its turn").pause.is_zero(), "and then it goes on as before");
    }

    #[test]
    fn nobody_jumps_the_line() {
        let (queue, key) = (Queue::default(), Key::new("k"));
        let turn = queue.try_turn(&key);
        assert!(turn.is_some() && queue.try_turn(&key).is_none());
        drop(turn);
        assert!(queue.try_turn(&key).is_some());
    }
}
