//! Tests of the local queue: order of service, tasks that leave at any moment, and waiting processes.

use std::pin::pin;
use std::task::{Context, Wake, Waker};

use futures::FutureExt;

use super::super::command::CommandReceiver;
use super::*;

fn queue() -> (Arc<LocalQueue>, CommandReceiver, Key) {
    let (sender, receiver) = CommandSender::channel();
    (LocalQueue::new(sender), receiver, Key::new("k"))
}

impl LocalQueue {
    fn notified(&self, key: &Key) -> bool {
        let notification = Notification { key: key.clone(), has_others: true, is_from_waiter: false };
        self.queues.on_notified(&notification)
    }
}

#[tokio::test]
async fn tasks_are_served_in_the_order_they_came() {
    let (queue, _receiver, key) = queue();
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
    assert!(queue.queues.lock().is_empty(), "a key that no task wants leaves nothing behind");
}

#[tokio::test]
async fn an_admission_for_a_dropped_waiter_goes_to_the_next() {
    let (queue, _receiver, key) = queue();
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
    let (queue, _receiver, key) = queue();
    let admit = |queue: &Arc<LocalQueue>| {
        Box::pin({
            let (queue, key) = (Arc::clone(queue), key.clone());
            async move { queue.admit(&key).await }
        })
    };
    let first = queue.admit(&key).await;
    let (mut second, mut third) = (admit(&queue), admit(&queue));
    assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
    if let Some(key_queue) = queue.queues.lock().get_mut(&key) {
        key_queue.fairness().local_run_since = now().minus(MAX_LOCAL_RUN).boot();
    }
    drop(first);
    let second = second.now_or_never().expect("admitted");
    assert!(
        second.pause >= FOREIGN_CLIENT_GAP / 2 && second.pause <= FOREIGN_CLIENT_GAP * 3 / 2,
        "{:?}",
        second.pause
    );
    drop(second);
    assert!(third.now_or_never().expect("admitted").pause.is_zero(), "only one task waits longer");
}

/// Some executors run a woken task at once, and the task uses the queues.
#[test]
fn tasks_are_woken_without_the_lock() {
    struct UseQueues(Arc<LocalQueue>);
    impl Wake for UseQueues {
        fn wake(self: Arc<Self>) {
            assert!(self.0.queues.0.try_lock().is_ok(), "the queues are locked while a task is woken");
        }
    }
    let (queue, _receiver, key) = queue();
    let waker = Waker::from(Arc::new(UseQueues(Arc::clone(&queue))));
    let mut cx = Context::from_waker(&waker);
    let admission = queue.try_admit(&key).expect("the admission");
    let wakeup = admission.wakeup();
    for wake in [
        |queue: &LocalQueue, key: &Key| assert!(queue.notified(key)),
        |queue: &LocalQueue, _: &Key| queue.queues.on_wait_queues_lost(),
        |queue: &LocalQueue, _: &Key| drop(queue.queues.end_waits()),
    ] {
        let mut notified = pin!(wakeup.notified());
        assert!(notified.as_mut().poll(&mut cx).is_pending());
        wake(&queue, &key);
        assert!(notified.as_mut().poll(&mut cx).is_ready());
    }
    let mut next = pin!(queue.admit(&key));
    assert!(next.as_mut().poll(&mut cx).is_pending());
    drop(admission);
    assert!(next.as_mut().poll(&mut cx).is_ready());
}

#[cfg(target_pointer_width = "64")]
#[test]
fn a_queue_without_waiters_is_small() {
    assert!(size_of::<KeyQueue>() <= 16, "{} bytes", size_of::<KeyQueue>());
}

#[test]
fn no_task_overtakes_a_waiter() {
    let (queue, _receiver, key) = queue();
    let admission = queue.try_admit(&key);
    assert!(admission.is_some() && queue.try_admit(&key).is_none());
    drop(admission);
    assert!(queue.try_admit(&key).is_some());
}

#[tokio::test]
async fn a_notification_without_a_local_waiter_is_rejected() {
    let (queue, _receiver, key) = queue();
    assert!(!queue.notified(&key));
    let admission = queue.try_admit(&key).expect("the admission");
    assert!(queue.notified(&key));
    drop(admission);
    assert!(!queue.notified(&key), "also if the cohort has recorded that others wait");
}

#[tokio::test]
async fn a_waiter_that_leaves_is_dequeued() {
    let (queue, mut receiver, key) = queue();
    let admission = queue.try_admit(&key).expect("the admission");
    drop(admission);
    assert!(receiver.commands.try_recv().is_err(), "this process was in no wait queue");
    for (is_notified, attempt_failed) in [(false, false), (true, false), (true, true)] {
        let admission = queue.try_admit(&key).expect("the admission");
        admission.cohort(|cohort, _| cohort.on_enqueued());
        if is_notified {
            assert!(queue.notified(&key));
        }
        if attempt_failed {
            assert!(
                admission.cohort(|cohort, _| cohort.on_attempt_failed()),
                "the notification was not used and goes to the next process"
            );
        }
        drop(admission);
        assert!(
            matches!(receiver.commands.try_recv(), Ok(DriverCommand::Dequeue { key: left, .. }) if left == key)
        );
        assert!(receiver.commands.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_deferred_notification_is_sent_if_the_waiting_task_leaves() {
    let (queue, mut receiver, key) = queue();
    let admission = queue.try_admit(&key).expect("the admission");
    admission.on_acquired();
    assert!(!queue.decide_hand_off(&key), "no task here waits: others are notified");
    let mut next = Box::pin(queue.admit(&key));
    assert!((&mut next).now_or_never().is_none());
    assert!(queue.decide_hand_off(&key));
    drop(next);
    drop(admission);
    assert!(
        matches!(receiver.commands.try_recv(), Ok(DriverCommand::Dequeue { .. })),
        "dequeuing notifies the next"
    );
}

#[tokio::test]
async fn a_process_is_enqueued_again_before_it_notifies_others() {
    let (queue, mut receiver, key) = queue();
    let admission = queue.try_admit(&key).expect("the admission");
    let mut next = Box::pin(queue.admit(&key));
    assert!((&mut next).now_or_never().is_none());
    assert!(queue.notified(&key), "others wait, and two tasks here are served");
    admission.on_acquired();
    assert!(queue.decide_hand_off(&key) && receiver.commands.try_recv().is_err());
    drop(admission);
    let admission = next.now_or_never().expect("the admission");
    let mut again = Box::pin(queue.admit(&key));
    assert!((&mut again).now_or_never().is_none());
    admission.on_acquired();
    assert!(matches!(receiver.commands.try_recv(), Ok(DriverCommand::Enqueue { .. })));
    assert!(!queue.decide_hand_off(&key), "the others are notified");
    drop(admission);
    assert_eq!(again.now_or_never().expect("the admission").next(), NextAction::Wait);
}

/// Tasks arrive, leave at any moment, and pass the admission on. In every case the admission goes to the task
/// that has waited longest of those still there, and it never gets lost.
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
        Arrive,
        /// The task at this fraction of the queue leaves.
        Leave(usize),
        /// The admitted task gives its admission up; the next task may not have polled yet.
        PassOn,
        /// The task that was given the admission polls.
        Poll,
        /// The process is notified, learns of other waiters, or loses its wait queue.
        QueueEvent(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Arrive),
            2 => (0..8_usize).prop_map(Step::Leave),
            3 => Just(Step::PassOn),
            3 => Just(Step::Poll),
            1 => (0..3_u8).prop_map(Step::QueueEvent),
        ]
    }

    proptest! {
        #[test]
        fn no_admission_is_lost_and_no_waiter_is_skipped(steps in proptest::collection::vec(step(), 1..80)) {
            let (queue, _receiver, key) = queue();
            let mut waiting: VecDeque<Waiter> = VecDeque::new();
            let mut admission: Option<Admission> = None;
            for step in steps {
                match step {
                    Step::Arrive => {
                        let (queue, key) = (queue.clone(), key.clone());
                        let mut waiter: Waiter = Box::pin(async move { queue.admit(&key).await });
                        match (&mut waiter).now_or_never() {
                            Some(admitted) => {
                                prop_assert!(admission.is_none() && waiting.is_empty(), "one task was admitted out of order");
                                admitted.on_acquired();
                                admission = Some(admitted);
                            }
                            None => waiting.push_back(waiter),
                        }
                    }
                    Step::Leave(index) if !waiting.is_empty() => {
                        drop(waiting.remove(index % waiting.len()));
                    }
                    Step::PassOn => drop(admission.take()),
                    Step::Poll if admission.is_none() => {
                        // Only the task at the head has been admitted.
                        for later in waiting.iter_mut().skip(1) {
                            prop_assert!(later.now_or_never().is_none());
                        }
                        if let Some(mut head) = waiting.pop_front() {
                            let admitted = (&mut head).now_or_never();
                            prop_assert!(admitted.is_some(), "the admission is lost, and {} wait", waiting.len() + 1);
                            admission = admitted;
                        }
                    }
                    Step::QueueEvent(kind) => {
                        match kind {
                            0 => {
                                queue.notified(&key);
                            }
                            1 => queue.queues.on_others_waiting(&key),
                            _ => queue.queues.on_wait_queues_lost(),
                        }
                    }
                    Step::Leave(_) | Step::Poll => {}
                }
            }
            drop(admission);
            for mut waiter in waiting {
                prop_assert!((&mut waiter).now_or_never().is_some(), "every admission that is given up goes to the next");
            }
            prop_assert!(queue.try_admit(&key).is_some());
        }
    }
}
