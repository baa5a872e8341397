//! Events: a handler can pass them on, and each is given as often as what it describes happens.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use quorlock::RedlockBuilder;
use quorlock::event::{Event, FailureReason, LossReason};

use crate::support::{builder, client, eventually, fenced, is_voting, plain, secs};

/// Sends a clone of every event through a channel.
fn recorded(builder: RedlockBuilder) -> (RedlockBuilder, Receiver<Event>) {
    let (sender, events) = mpsc::channel();
    (builder.on_event(move |event| drop(sender.send(event.clone()))), events)
}

#[tokio::test]
async fn events_can_be_sent_to_another_thread() {
    for (cluster, is_fenced) in [(fenced(3), true), (plain(3), false)] {
        let (builder, events) = recorded(builder(&cluster));
        // The channel is closed when the client's driver has ended.
        let log = thread::spawn(move || events.iter().collect::<Vec<Event>>());
        let redlock = builder.connect().await.expect("all nodes are up");
        eventually("every node votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
        let nodes = redlock.node_status().await;
        let operator = client(&cluster).await;
        let guard = redlock.mutex("k").ttl(secs(60)).acquire().await.expect("free");
        let (owner, token) = (guard.owner_hash(), guard.fencing_token());
        guard.extend(secs(60)).await.expect("renewed");
        assert!(redlock.mutex("k").try_acquire().await.expect("a quorum replies").is_none());
        guard.release().await.expect("held until then");
        let _held = operator.mutex("k").ttl(secs(60)).acquire().await.expect("free");
        assert!(redlock.mutex("k").try_acquire().await.expect("a quorum replies").is_none());
        let lost = redlock.mutex("lost").ttl(secs(60)).acquire().await.expect("free");
        redlock.shutdown(Duration::ZERO).await.expect_err("a lock is held");
        drop((redlock, lost));

        let log = tokio::task::spawn_blocking(|| log.join()).await.expect("no panic").expect("no panic");
        let count = |is: &dyn Fn(&Event) -> bool| log.iter().filter(|event| is(event)).count();
        for node in &nodes {
            let is_up =
                |event: &Event| matches!(event, Event::NodeUp { node: of, .. } if *of == node.address);
            assert!(count(&is_up) >= 1, "{node}: {log:?}");
        }
        let is_first = |event: &Event| match event {
            Event::Acquired { key, fencing_number, owner: of, nodes, remaining, .. } => {
                *key == "k"
                    && *of == owner
                    && *fencing_number == token.map(|token| token.number)
                    && (2..=3).contains(nodes)
                    && *remaining <= secs(60)
            }
            _ => false,
        };
        assert_eq!((count(&is_first), token.is_some()), (1, is_fenced), "{log:?}");
        let is_acquired = |event: &Event| matches!(event, Event::Acquired { .. });
        let is_renewed = |event: &Event| matches!(event, Event::Renewed { key, .. } if *key == "k");
        let is_released = |event: &Event| matches!(event, Event::Released { key, .. } if *key == "k");
        assert_eq!((count(&is_acquired), count(&is_renewed), count(&is_released)), (2, 1, 1), "{log:?}");
        let is_contended = |event: &Event| matches!(event, Event::AcquireFailed { key, reason: FailureReason::Contended { .. }, .. } if *key == "k");
        assert!(count(&is_contended) >= 1, "{log:?}");
        let is_lost = |event: &Event| matches!(event, Event::Lost { key, reason: LossReason::ClientClosed, .. } if *key == "lost");
        assert_eq!(count(&is_lost), 1, "{log:?}");
    }
}

#[tokio::test]
async fn a_minimum_fencing_number_is_reported_once_per_acquire_and_not_per_attempt() {
    let mut cluster = fenced(3);
    let (builder, events) = recorded(builder(&cluster));
    let redlock = builder.connect().await.expect("all nodes are up");
    cluster[0].kill();
    cluster[1].kill();
    let (mut numbers, mut failed) = (Vec::new(), 0);
    for (index, number) in [7, 8, 9].into_iter().enumerate() {
        let mutex = redlock.mutex("k").min_fencing_number(number);
        let waiting = tokio::spawn(async move { mutex.acquire().await });
        let least = failed + 3;
        eventually("several attempts have failed", || {
            for event in events.try_iter() {
                match event {
                    Event::MinFencingNumberSet { key, number, .. } if key == "k" => numbers.push(number),
                    Event::AcquireFailed { key, .. } if key == "k" => failed += 1,
                    _ => {}
                }
            }
            let is_enough = failed >= least;
            async move { is_enough }
        })
        .await;
        waiting.abort();
        drop(waiting.await);
        assert_eq!(numbers, [7, 8, 9][..=index]);
    }
    redlock.mutex("k").min_fencing_number(10).try_acquire().await.expect_err("no quorum");
    redlock.mutex("k").try_acquire().await.expect_err("no quorum");
    let set = |event: Event| match event {
        Event::MinFencingNumberSet { number, .. } => Some(number),
        _ => None,
    };
    assert_eq!(events.try_iter().filter_map(set).collect::<Vec<u64>>(), [10]);
}
