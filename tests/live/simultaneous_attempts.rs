//! Simultaneous attempts: several clients try once at the same instant, and one of them gets the lock despite
//! split votes.

use std::sync::Arc;
use std::time::Duration;

use quorlock::Redlock;
use tokio::sync::Barrier;
use tokio::time::Instant;

use crate::support::{LockCluster, client, fenced, millis, plain, secs};

/// Runs `count` rounds. Returns in how many no client got the lock, and in how many several did.
async fn run_rounds(
    fleet: &LockCluster,
    contenders: usize,
    count: usize,
    uses_acquire: bool,
) -> (usize, usize) {
    let mut clients = Vec::new();
    for _ in 0..contenders {
        clients.push(client(fleet).await);
    }
    let (mut without_holder, mut with_several) = (0, 0);
    for round in 0..count {
        let name = format!("round:{round}");
        let barrier = Arc::new(Barrier::new(contenders));
        let attempts: Vec<_> = clients
            .iter()
            .map(|redlock| {
                let (redlock, name, barrier) = (redlock.clone(), name.clone(), Arc::clone(&barrier));
                tokio::spawn(async move {
                    barrier.wait().await;
                    try_once(&redlock, &name, uses_acquire).await
                })
            })
            .collect();
        let mut guards = Vec::new();
        for attempt in attempts {
            guards.extend(attempt.await.expect("no panic"));
        }
        without_holder += usize::from(guards.is_empty());
        with_several += usize::from(guards.len() > 1);
    }
    (without_holder, with_several)
}

async fn try_once(redlock: &Redlock, name: &str, uses_acquire: bool) -> Option<quorlock::Guard> {
    let mutex = redlock.mutex(name);
    if uses_acquire {
        mutex.wait_timeout(Duration::ZERO).acquire().await.ok()
    } else {
        mutex.try_acquire().await.expect("a quorum replies")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_simultaneous_attempts_gets_the_lock() {
    const ROUNDS: usize = 60;
    let mut results = Vec::new();
    for nodes in [3, 5] {
        for (mode, fleet) in [("fenced", fenced(nodes)), ("plain", plain(nodes))] {
            for uses_acquire in [false, true] {
                let (without_holder, with_several) = run_rounds(&fleet, nodes, ROUNDS, uses_acquire).await;
                assert_eq!(with_several, 0);
                results.push((without_holder, format!("{nodes} clients on {nodes} nodes, {mode}")));
            }
        }
    }
    println!("rounds of {ROUNDS} without a holder: {results:?}");
    assert!(
        results.iter().all(|(without_holder, _)| *without_holder <= ROUNDS / 20),
        "of {ROUNDS} rounds: {results:?}"
    );
}

/// The comparison for the test above: the duration of an attempt on a held lock.
#[tokio::test]
async fn a_single_attempt_on_a_held_lock_is_not_repeated() {
    for fleet in [fenced(3), plain(3)] {
        let (one, other) = (client(&fleet).await, client(&fleet).await);
        let guard = one.mutex("k").ttl(secs(30)).acquire().await.expect("free");
        while guard.spare_nodes() < 1 {
            tokio::time::sleep(millis(1)).await;
        }
        let mut durations = Vec::new();
        for _ in 0..50 {
            let began = Instant::now();
            assert!(other.mutex("k").try_acquire().await.expect("a quorum replies").is_none());
            durations.push(began.elapsed());
        }
        durations.sort_unstable();
        assert!(durations[25] < millis(5), "half of them take {:?} and more", durations[25]);
    }
}
