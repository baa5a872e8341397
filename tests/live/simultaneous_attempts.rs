//! Clients that try once, at the same instant: one of them has the lock.

use std::sync::Arc;

use quorlock::Redlock;
use tokio::sync::Barrier;
use tokio::time::Instant;

use crate::support::{LockCluster, client, fenced, millis, plain, secs};

/// In how many rounds of so many nobody had it, and in how many two had.
async fn rounds(fleet: &LockCluster, contenders: usize, count: usize, waits: bool) -> (usize, usize) {
    let mut clients = Vec::new();
    for _ in 0..contenders {
        clients.push(client(fleet).await);
    }
    let (mut nobody, mut several) = (0, 0);
    for round in 0..count {
        let name = format!("round:{round}");
        let barrier = Arc::new(Barrier::new(contenders));
        let tries: Vec<_> = clients
            .iter()
            .map(|redlock| {
                let (redlock, name, barrier) = (redlock.clone(), name.clone(), Arc::clone(&barrier));
                tokio::spawn(async move {
                    barrier.wait().await;
                    try_once(&redlock, &name, waits).await
                })
            })
            .collect();
        let mut guards = Vec::new();
        for tried in tries {
            guards.extend(tried.await.expect("no panic"));
        }
        nobody += usize::from(guards.is_empty());
        several += usize::from(guards.len() > 1);
    }
    (nobody, several)
}

async fn try_once(redlock: &Redlock, name: &str, waits: bool) -> Option<quorlock::Guard> {
    let mutex = redlock.mutex(name);
    if waits {
        mutex.no_wait().acquire().await.ok()
    } else {
        mutex.try_acquire().await.expect("a quorum replies")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_simultaneous_attempts_gets_the_lock() {
    const ROUNDS: usize = 60;
    let mut told = Vec::new();
    for nodes in [3, 5] {
        for (mode, fleet) in [("fenced", fenced(nodes)), ("plain", plain(nodes))] {
            for waits in [false, true] {
                let (nobody, several) = rounds(&fleet, nodes, ROUNDS, waits).await;
                assert_eq!(several, 0);
                told.push((nobody, format!("{nodes} clients on {nodes} nodes, {mode}")));
            }
        }
    }
    println!("of {ROUNDS} rounds nobody had it in {told:?}");
    assert!(told.iter().all(|(nobody, _)| *nobody <= ROUNDS / 20), "of {ROUNDS} rounds: {told:?}");
}

/// The control to the above: what it costs where the lock really is held.
#[tokio::test]
async fn a_single_attempt_on_a_held_lock_is_not_repeated() {
    for fleet in [fenced(3), plain(3)] {
        let (one, other) = (client(&fleet).await, client(&fleet).await);
        let guard = one.mutex("k").ttl(secs(30)).acquire().await.expect("free");
        while guard.spare_nodes() < 1 {
            tokio::time::sleep(millis(1)).await;
        }
        let mut spans = Vec::new();
        for _ in 0..50 {
            let from = Instant::now();
            assert!(other.mutex("k").try_acquire().await.expect("a quorum replies").is_none());
            spans.push(from.elapsed());
        }
        spans.sort_unstable();
        assert!(spans[25] < millis(5), "half of them take {:?} and more", spans[25]);
    }
}
