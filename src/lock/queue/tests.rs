//! First come, first served, also when tasks leave at any moment; and when other processes go first.

use futures::FutureExt;

use super::*;
use crate::driver::CommandReceiver;

fn queue() -> (Arc<LocalQueue>, CommandReceiver, Key) {
    let (orders, inbox) = CommandSender::channel();
    (LocalQueue::new(orders).0, inbox, Key::new("k"))
}

impl LocalQueue {
    fn notified(&self, key: &Key) -> bool {
        QueueEvents(Arc::clone(&self.queues)).on_event(QueueEvent::Notified {
            key,
            has_others: true,
            was_found_free: false,
        })
    }
}

#[tokio::test]
async fn tasks_are_served_in_the_order_they_came() {
    let (queue, _inbox, key) = queue();
    let first = queue.admit(&key).await;
    let mut second = Box::pin(queue.admit(&key));
    let mut third = Box::pin(queue.admit(&key));
    assert!((&mut second).now_or_never().is_none());
    assert!((&mut third).now_or_never().is_none());
    drop(first);
    assert!((&mut third).now_or_never().is_none());
    let second = second.now_or_never().expect("the second is admitted");
    drop(second);
    assert!(third.now_or_never().is_some());
    assert!(queue.lock().is_empty(), "a key that no task wants leaves nothing behind");
}

#[tokio::test]
async fn an_admission_for_a_dropped_waiter_goes_to_the_next() {
    let (queue, _inbox, key) = queue();
    let first = queue.admit(&key).await;
    let mut leaver = Box::pin(queue.admit(&key));
    let mut next = Box::pin(queue.admit(&key));
    assert!((&mut leaver).now_or_never().is_none());
    assert!((&mut next).now_or_never().is_none());
    drop(first);
    drop(leaver);
    assert!(next.now_or_never().is_some());
}

#[tokio::test]
async fn a_long_local_run_leaves_the_key_free_for_a_moment() {
    let (queue, _inbox, key) = queue();
    let take = |queue: &Arc<LocalQueue>| {
        Box::pin({
            let (queue, key) = (Arc::clone(queue), key.clone());
            async move { queue.admit(&key).await }
        })
    };
    let first = queue.admit(&key).await;
    let (mut second, mut third) = (take(&queue), take(&queue));
    assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
    if let Some(line) = queue.lock().get_mut(&key) {
        line.head().local_run_since = now().minus(MAX_LOCAL_RUN).boot();
    }
    drop(first);
    let second = second.now_or_never().expect("admitted");
    assert!(
        second.delay >= FOREIGN_CLIENT_GAP / 2 && second.delay <= FOREIGN_CLIENT_GAP * 3 / 2,
        "{:?}",
        second.delay
    );
    drop(second);
    assert!(third.now_or_never().expect("admitted").delay.is_zero(), "and then it goes on as before");
}

#[cfg(target_pointer_width = "64")]
#[test]
fn a_queue_without_waiters_is_small() {
    assert!(size_of::<KeyQueue>() <= 16, "{} bytes", size_of::<KeyQueue>());
}

#[test]
fn no_task_overtakes_a_waiter() {
    let (queue, _inbox, key) = queue();
    let turn = queue.try_admit(&key);
    assert!(turn.is_some() && queue.try_admit(&key).is_none());
    drop(turn);
    assert!(queue.try_admit(&key).is_some());
}

#[tokio::test]
async fn a_notification_without_a_local_waiter_is_rejected() {
    let (queue, _inbox, key) = queue();
    assert!(!queue.notified(&key));
    let turn = queue.try_admit(&key).expect("the admission");
    assert!(queue.notified(&key));
    drop(turn);
    assert!(!queue.notified(&key), "also where it is remembered that others want the key");
}

#[tokio::test]
async fn a_waiter_that_leaves_is_dequeued() {
    let (queue, mut inbox, key) = queue();
    let turn = queue.try_admit(&key).expect("the admission");
    drop(turn);
    assert!(inbox.commands.try_recv().is_err(), "this process was in no wait queue");
    for (is_called, is_refused) in [(false, false), (true, false), (true, true)] {
        let turn = queue.try_admit(&key).expect("the admission");
        turn.cohort(|share, _| share.on_enqueued());
        if is_called {
            assert!(queue.notified(&key));
        }
        if is_refused {
            assert!(
                turn.cohort(|share, _| share.on_refused()),
                "the notification was not used and goes to the next process"
            );
        }
        drop(turn);
        assert!(
            matches!(inbox.commands.try_recv(), Ok(DriverCommand::Dequeue { key: left, .. }) if left == key)
        );
        assert!(inbox.commands.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_deferred_notification_is_sent_if_the_waiting_task_leaves() {
    let (queue, mut inbox, key) = queue();
    let turn = queue.try_admit(&key).expect("the admission");
    turn.on_taken();
    assert!(!queue.hands_off_locally(&key), "no task here waits: others are notified");
    let mut next = Box::pin(queue.admit(&key));
    assert!((&mut next).now_or_never().is_none());
    assert!(queue.hands_off_locally(&key));
    drop(next);
    drop(turn);
    assert!(
        matches!(inbox.commands.try_recv(), Ok(DriverCommand::Dequeue { .. })),
        "dequeuing notifies the next"
    );
}

#[tokio::test]
async fn a_process_is_enqueued_again_before_it_notifies_others() {
    let (queue, mut inbox, key) = queue();
    let turn = queue.try_admit(&key).expect("the admission");
    let mut next = Box::pin(queue.admit(&key));
    assert!((&mut next).now_or_never().is_none());
    assert!(queue.notified(&key), "others wait, and two tasks here are served");
    turn.on_taken();
    assert!(queue.hands_off_locally(&key) && inbox.commands.try_recv().is_err());
    drop(turn);
    let turn = next.now_or_never().expect("the admission");
    let mut again = Box::pin(queue.admit(&key));
    assert!((&mut again).now_or_never().is_none());
    turn.on_taken();
    assert!(matches!(inbox.commands.try_recv(), Ok(DriverCommand::Enqueue { .. })));
    assert!(!queue.hands_off_locally(&key), "the others are notified");
    drop(turn);
    assert_eq!(again.now_or_never().expect("the admission").next(), NextAction::Wait);
}

/// Tasks come, leave at any moment, and pass the admission on. In every case the admission goes to the task that has
/// waited longest of those still there, and it never gets lost.
mod at_random {
    use std::collections::VecDeque;
    use std::future::Future;
    use std::pin::Pin;

    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    type Waiter = Pin<Box<dyn Future<Output = Admission>>>;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Come,
        /// The task at this fraction of the queue leaves.
        Leave(usize),
        /// The admitted task gives its admission up; the next task may not have polled yet.
        PassOn,
        /// The task that was given the admission polls.
        Look,
        /// The process is notified, or hears of other waiters, or loses its place.
        Hear(u8),
    }

    fn deed() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Come),
            2 => (0..8_usize).prop_map(Step::Leave),
            3 => Just(Step::PassOn),
            3 => Just(Step::Look),
            1 => (0..3_u8).prop_map(Step::Hear),
        ]
    }

    proptest! {
        #[test]
        fn no_admission_is_lost_and_no_waiter_is_skipped(deeds in proptest::collection::vec(deed(), 1..80)) {
            let (queue, _inbox, key) = queue();
            let mut waiting: VecDeque<Waiter> = VecDeque::new();
            let mut turn: Option<Admission> = None;
            for deed in deeds {
                match deed {
                    Step::Come => {
                        let (queue, key) = (queue.clone(), key.clone());
                        let mut waiter: Waiter = Box::pin(async move { queue.admit(&key).await });
                        match (&mut waiter).now_or_never() {
                            Some(got) => {
                                prop_assert!(turn.is_none() && waiting.is_empty(), "one task was admitted out of order");
                                got.on_taken();
                                turn = Some(got);
                            }
                            None => waiting.push_back(waiter),
                        }
                    }
                    Step::Leave(place) if !waiting.is_empty() => {
                        drop(waiting.remove(place % waiting.len()));
                    }
                    Step::PassOn => drop(turn.take()),
                    Step::Look if turn.is_none() => {
                        // Only the task at the head has been admitted.
                        for later in waiting.iter_mut().skip(1) {
                            prop_assert!(later.now_or_never().is_none());
                        }
                        if let Some(mut head) = waiting.pop_front() {
                            let got = (&mut head).now_or_never();
                            prop_assert!(got.is_some(), "the admission is lost, and {} wait", waiting.len() + 1);
                            turn = got;
                        }
                    }
                    Step::Hear(what) => {
                        let heard = match what {
                            0 => QueueEvent::Notified { key: &key, has_others: true, was_found_free: false },
                            1 => QueueEvent::HasOtherWaiters(&key),
                            _ => QueueEvent::QueueLost,
                        };
                        QueueEvents(Arc::clone(&queue.queues)).on_event(heard);
                    }
                    Step::Leave(_) | Step::Look => {}
                }
            }
            drop(turn);
            for mut waiter in waiting {
                prop_assert!((&mut waiter).now_or_never().is_some(), "every admission that is given up goes to the next");
            }
            prop_assert!(queue.try_admit(&key).is_some());
        }
    }
}
